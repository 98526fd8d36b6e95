"""create_future, create_task, task factories, eager tasks, coroutines of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import sys
import types
import warnings
import weakref

import pytest

from support.turns import Trace, turn

var = contextvars.ContextVar("var", default="outside")


@pytest.fixture
def trace():
    return Trace()


async def value(result=None):
    return result


def test_create_future(loop):
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1


def state_of(future):
    """All that can be asked of a future, but for whose it is."""
    names = ("_state", "_result", "_exception", "_log_traceback", "_source_traceback")
    names += ("_asyncio_future_blocking", "_cancel_message", "_callbacks")
    found = {name: getattr(future, name) for name in names}
    return found | {
        "type": type(future),
        "repr": repr(future),
        "tracked": gc.is_tracked(future),
        "size": sys.getsizeof(future),
        "waiters": getattr(future, "_asyncio_awaited_by", None),
    }


def test_new_futures_are_as_those_of_the_class(loop):
    loop.set_debug(False)
    for _ in range(3):
        future = loop.create_future()
        assert state_of(future) == state_of(asyncio.Future(loop=loop))
    assert weakref.ref(future)() is future
    future.set_exception(ValueError("seen"))
    with pytest.raises(ValueError, match="seen"):
        loop.run_until_complete(future)


def test_futures_hold_their_loop_once(loop):
    loop.set_debug(False)
    loop.create_future()
    before = sys.getrefcount(loop)
    futures = [loop.create_future() for _ in range(10)]
    assert sys.getrefcount(loop) == before + 10
    del futures
    assert sys.getrefcount(loop) == before


def test_exception_of_a_future_that_nobody_asked(loop):
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(context["message"]))
    loop.create_future().set_exception(ValueError())
    gc.collect()
    assert told == ["Future exception was never retrieved"]


def test_debug_mode_is_asked_for_each_future(loop):
    loop.set_debug(False)
    assert loop.create_future()._source_traceback is None
    loop.set_debug(True)
    assert loop.create_future()._source_traceback is not None
    loop.set_debug(False)
    assert loop.create_future()._source_traceback is None


def test_override_of_get_debug(loop, trace):
    def get_debug():
        trace.append("asked")
        return True

    loop.create_future()
    loop.get_debug = get_debug
    assert loop.create_future()._source_traceback is not None
    assert trace == ["asked"]
    del loop.get_debug
    loop.set_debug(False)
    assert loop.create_future()._source_traceback is None
    loop.get_debug = lambda: 1 // 0
    with pytest.raises(ZeroDivisionError):
        loop.create_future()
    del loop.get_debug


def test_callbacks_of_a_future_run_in_the_next_turn(loop, trace):
    future = loop.create_future()
    future.add_done_callback(lambda future: trace.append(future.result()))
    loop.call_soon(trace.note("set", lambda: future.set_result("done")))
    turn(loop)
    assert trace == ["set"]
    turn(loop)
    assert trace == ["set", "done"]


def test_task_starts_in_the_next_turn(loop, trace):
    async def main():
        trace.append("main")

    task = loop.create_task(main())
    assert isinstance(task, asyncio.Task)
    assert trace == []
    turn(loop)
    assert trace == ["main"]
    assert task.done()


def test_order_of_steps(loop, trace):
    async def steps(name):
        for n in range(3):
            trace.append((name, n))
            await asyncio.sleep(0)

    loop.create_task(steps("a"))
    loop.call_soon(trace.append, "soon")
    loop.create_task(steps("b"))
    turn(loop, 4)
    assert trace == [
        ("a", 0), "soon", ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2),
    ]  # fmt: skip


def test_name_and_context(loop):
    context = contextvars.copy_context()

    async def main():
        var.set("inside")
        return asyncio.current_task().get_name()

    task = loop.create_task(main(), name="the name", context=context)
    assert loop.run_until_complete(task) == "the name"
    assert context[var] == "inside"
    assert var.get() == "outside"
    numbered = loop.create_task(value(), name=5)
    assert numbered.get_name() == "5"
    default = loop.create_task(value(), name=None)
    assert default.get_name().startswith("Task-")
    turn(loop)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"name": "n"},
        {"context": None},
        {"eager_start": True},
        {"eager_start": False},
        {"eager_start": None},
        {"unknown": 1},
        {"name": "n", "context": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("running", [False, True])
def test_keywords_are_the_standard_loops(both_factories, kwargs, running):
    def found(factory):
        loop = factory()
        trace = []

        async def body():
            trace.append("body")

        def create():
            try:
                task = loop.create_task(body(), **kwargs)
                trace.append((task.get_name() == "n", task.done()))
            except Exception as exc:
                trace.append((type(exc), str(exc)))
            finally:
                trace.append("created")

        if running:
            loop.call_soon(create)
        else:
            create()
        turn(loop, 3)
        loop.close()
        return trace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a refused coroutine
        standard, ours = map(found, both_factories)
        gc.collect()
    assert ours == standard


@pytest.mark.parametrize("wrong", [None, 1, "x", print, value], ids=repr)
def test_wrong_coroutines(both_factories, wrong):
    def found(factory):
        loop = factory()
        with pytest.raises(TypeError) as caught:
            loop.create_task(wrong)
        loop.close()
        return str(caught.value)

    standard, ours = map(found, both_factories)
    assert ours == standard


def test_generator_based_coroutine(loop):
    @types.coroutine
    def old_style():
        yield
        return "old style"

    assert loop.run_until_complete(old_style()) == "old style"


def test_create_task_after_close(loop_factory):
    loop = loop_factory()
    loop.close()
    coro = value()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.create_task(coro)
    coro.close()


def test_factory_can_be_set_and_read(loop):
    assert loop.get_task_factory() is None

    def factory(loop, coro, **kwargs):
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    assert loop.run_until_complete(value(3)) == 3
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


@pytest.mark.parametrize("wrong", [1, "x", object()], ids=["int", "str", "object"])
def test_factory_must_be_callable(loop, wrong):
    with pytest.raises(TypeError, match=r"^task factory must be a callable or None$"):
        loop.set_task_factory(wrong)
    assert loop.get_task_factory() is None


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"name": "n"}, {"name": "n", "context": contextvars.Context()},
     {"context": None}, {"unknown": 1}],
    ids=lambda kwargs: ",".join(kwargs) or "none",
)  # fmt: skip
def test_what_a_factory_is_given(both_factories, kwargs):
    def found(factory):
        loop = factory()
        calls = []

        def task_factory(got_loop, coro, **given):
            calls.append((got_loop is loop, inspect.iscoroutine(coro), given))
            given.pop("unknown", None)
            return asyncio.Task(coro, loop=got_loop, **given)

        loop.set_task_factory(task_factory)
        coro = value()
        try:
            task = loop.create_task(coro, **kwargs)
            calls.append(task.get_name() == "n")
        except TypeError as exc:
            calls.append(str(exc))
            coro.close()
        turn(loop)
        loop.close()
        return calls

    standard, ours = map(found, both_factories)
    assert ours == standard


def test_factory_of_the_old_signature(both_factories):
    def found(factory):
        loop = factory()
        loop.set_task_factory(lambda loop, coro: asyncio.Task(coro, loop=loop))
        results = []
        for kwargs in ({}, {"name": "n"}):
            coro = value(1)
            try:
                results.append(loop.create_task(coro, **kwargs).get_name() == "n")
            except TypeError as exc:
                results.append(str(exc).split(".")[-1])
                coro.close()
        turn(loop)
        loop.close()
        return results

    standard, ours = map(found, both_factories)
    assert ours == standard


def test_factory_that_raises(loop):
    def factory(loop, coro, **kwargs):
        coro.close()
        raise LookupError("expected")

    loop.set_task_factory(factory)
    with pytest.raises(LookupError, match="expected"):
        loop.create_task(value())
    with pytest.raises(LookupError, match="expected"):
        loop.run_until_complete(value())


def test_override_of_create_task(loop, trace):
    original = loop.create_task

    def create_task(coro, **kwargs):
        trace.append(coro.__name__)
        return original(coro, **kwargs)

    async def main():
        await asyncio.create_task(value(), name="n")

    loop.create_task = create_task
    loop.run_until_complete(main())
    del loop.create_task
    assert trace == ["main", "value"]


def test_override_of_create_task_in_a_subclass(loop_factory, trace):
    with contextlib.closing(loop_factory()) as loop:
        kind = type(loop)

    class Loop(kind):
        def create_task(self, coro, **kwargs):
            trace.append(coro.__name__)
            return super().create_task(coro, **kwargs)

    loop = Loop()
    loop.run_until_complete(value())
    loop.close()
    assert trace == ["value"]


@pytest.mark.parametrize("base", ["BaseEventLoop", "SelectorEventLoop"])
def test_patch_of_create_task_in_a_base(loop, trace, monkeypatch, base):
    base = getattr(asyncio, base)
    original = base.create_task

    def create_task(self, coro, **kwargs):
        trace.append(coro.__name__)
        return original(self, coro, **kwargs)

    async def main():
        await asyncio.create_task(value(), name="n")
        with monkeypatch.context() as patch:
            patch.setattr(base, "create_task", create_task)
            await asyncio.create_task(value(), name="n")
        await asyncio.create_task(asyncio.sleep(0))

    loop.run_until_complete(main())
    assert trace == ["value"]


def test_override_of_create_future(loop, trace):
    original = loop.create_future

    def create_future():
        trace.append("future")
        return original()

    loop.create_future = create_future
    loop.run_until_complete(asyncio.sleep(0.0001))
    del loop.create_future
    assert trace == ["future"]


def test_task_class_is_looked_up_when_used(loop, monkeypatch):
    class Task(asyncio.tasks._PyTask):
        pass

    loop.run_until_complete(loop.create_task(value()))
    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    task = loop.create_task(value(4))
    assert type(task) is Task
    assert loop.run_until_complete(task) == 4
    monkeypatch.undo()
    usual = loop.create_task(value(5))
    assert type(usual) is asyncio.Task
    assert loop.run_until_complete(usual) == 5


def test_tasks_module_is_looked_up_when_used(loop, monkeypatch):
    class Task(asyncio.tasks._PyTask):
        pass

    loop.run_until_complete(loop.create_task(value()))
    other = types.SimpleNamespace(**vars(asyncio.tasks))
    other.Task = Task
    monkeypatch.setattr(asyncio.base_events, "tasks", other)
    task = loop.create_task(value(4), name="n")
    assert type(task) is Task
    assert loop.run_until_complete(task) == 4


def test_task_of_debug_mode_knows_who_made_it(loop):
    loop.set_debug(True)
    task = loop.create_task(value())
    assert task._source_traceback[-1].name == inspect.currentframe().f_code.co_name
    loop.run_until_complete(task)


def test_future_class_is_looked_up_when_used(loop, monkeypatch):
    class Future(asyncio.futures._PyFuture):
        pass

    usual = loop.create_future()
    monkeypatch.setattr(asyncio.futures, "Future", Future)
    future = loop.create_future()
    assert type(future) is Future
    loop.call_soon(future.set_result, 4)
    monkeypatch.undo()
    assert loop.run_until_complete(future) == 4
    assert type(loop.create_future()) is type(usual) is asyncio.Future


def test_future_class_that_is_gone(loop, monkeypatch):
    loop.create_future()
    monkeypatch.delattr(asyncio.futures, "Future")
    with pytest.raises(AttributeError, match="Future"):
        loop.create_future()


eager = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="eager tasks came in Python 3.12"
)


@eager
def test_eager_factory(loop, trace):
    async def body():
        trace.append("body")
        return 5

    async def main():
        task = asyncio.create_task(body())
        trace.append("created")
        assert task.done()
        return await task

    loop.set_task_factory(asyncio.eager_task_factory)
    assert loop.run_until_complete(main()) == 5
    assert trace == ["body", "created"]


@eager
def test_eager_task_that_blocks(loop, trace):
    async def body():
        trace.append("first")
        await asyncio.sleep(0)
        trace.append("second")

    async def main():
        task = asyncio.create_task(body(), name="n")
        trace.append(task.get_name())
        assert not task.done()
        await task

    loop.set_task_factory(asyncio.eager_task_factory)
    loop.run_until_complete(main())
    assert trace == ["first", "n", "second"]


@eager
def test_eager_factory_without_a_running_loop(both_factories):
    def found(factory):
        loop = factory()
        trace = []

        async def body():
            trace.append("body")

        loop.set_task_factory(asyncio.eager_task_factory)
        try:
            loop.create_task(body())
        except RuntimeError as exc:
            trace.append(str(exc))
        trace.append("created")
        turn(loop)
        loop.close()
        return trace

    standard, ours = map(found, both_factories)
    assert ours == standard


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the keyword came in 3.14")
def test_eager_start_by_keyword(loop, trace):
    async def body():
        trace.append("body")

    async def main():
        task = asyncio.create_task(body(), eager_start=True)
        trace.append("created")
        await task

    loop.run_until_complete(main())
    assert trace == ["body", "created"]


def test_all_tasks_and_current_task(loop):
    async def main():
        other = asyncio.create_task(asyncio.sleep(0))
        assert asyncio.all_tasks() == {asyncio.current_task(), other}
        await other

    loop.run_until_complete(main())
    assert asyncio.all_tasks(loop) == set()


def test_pending_task_that_is_forgotten(loop, faults):
    async def forever():
        await loop.create_future()

    task = loop.create_task(forever())
    turn(loop)
    gone = weakref.ref(task)
    del task
    gc.collect()
    assert gone() is None
    (text,) = faults.take_log()
    assert text.startswith("Task was destroyed but it is pending!")


def test_run_until_complete_that_is_interrupted_logs_nothing(loop, faults):
    async def forever():
        loop.call_soon(loop.stop)
        await loop.create_future()

    with pytest.raises(RuntimeError, match="Event loop stopped before"):
        loop.run_until_complete(forever())
    gc.collect()
    assert faults.take_log() == []


def test_root_task_for_anyio(loop):
    # anyio climbs from a task to the one that run_until_complete made
    async def main():
        root = asyncio.current_task()
        assert any(
            callback is asyncio.base_events._run_until_complete_cb
            for callback, _ in root._callbacks
        )
        child = asyncio.create_task(asyncio.sleep(0))
        assert not any(
            callback is asyncio.base_events._run_until_complete_cb
            for callback, _ in child._callbacks or ()
        )
        await child

    loop.run_until_complete(main())


def test_gather_wait_and_task_group(loop):
    async def main():
        assert await asyncio.gather(value(1), value(2)) == [1, 2]
        tasks = [asyncio.create_task(value(n)) for n in range(5)]
        done, pending = await asyncio.wait(tasks)
        assert {task.result() for task in done} == set(range(5))
        assert not pending
        async with asyncio.TaskGroup() as group:
            task = group.create_task(value("group"))
        assert task.result() == "group"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(100)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(100), 0.001)
        queue = asyncio.Queue(1)
        putter = asyncio.create_task(queue.put(1))
        assert await queue.get() == 1
        await putter
        assert await asyncio.to_thread(int, "5") == 5
        await asyncio.get_running_loop().shutdown_default_executor()

    loop.run_until_complete(main())


def test_deeply_nested_tasks(loop):
    async def nest(n):
        return 1 + await asyncio.create_task(nest(n - 1)) if n else 0

    assert loop.run_until_complete(nest(200)) == 200


def test_cancellation_order(both_factories):
    def found(factory):
        loop = factory()
        trace = []

        async def worker(n):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                trace.append(("cancelled", n))
                await asyncio.sleep(0)
                trace.append(("cleaned", n))
                raise

        async def main():
            tasks = [asyncio.create_task(worker(n)) for n in range(4)]
            await asyncio.sleep(0)
            for task in reversed(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        loop.run_until_complete(main())
        loop.close()
        return trace

    standard, ours = map(found, both_factories)
    assert len(standard) == 8
    assert ours == standard


@pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs came in 3.14")
def test_call_graph(loop):
    async def inner():
        return asyncio.format_call_graph()

    assert "inner" in loop.run_until_complete(inner())
