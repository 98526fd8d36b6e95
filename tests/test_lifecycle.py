"""Birth, overrides, end: async generators, executors, warnings, collection, close."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import inspect
import socket
import sys
import threading
import time
import warnings
import weakref

import pytest

from support import only_asynccore, settle
from support.turns import Trace, turn


@pytest.fixture
def trace():
    return Trace()


@pytest.fixture
def kind(loop_factory):
    """The class of the loop."""
    loop = loop_factory()
    loop.close()
    return type(loop)


async def value(result=None):
    return result


# -- async generators


async def ticker(trace, name="generator"):
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        trace.append(f"{name} closed")


def test_shutdown_asyncgens_closes_what_is_open(loop, trace):
    async def main():
        generators = [ticker(trace, str(n)) for n in range(3)]
        for generator in generators:
            assert await anext(generator) == 1
        await loop.shutdown_asyncgens()
        return generators

    loop.run_until_complete(main())
    assert sorted(trace) == ["0 closed", "1 closed", "2 closed"]


def test_shutdown_asyncgens_reports_failures(loop):
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))

    async def failing():
        try:
            yield 1
        finally:
            raise LookupError("expected")

    async def main():
        generator = failing()
        await anext(generator)
        await loop.shutdown_asyncgens()
        return generator

    generator = loop.run_until_complete(main())
    (context,) = caught
    assert context["asyncgen"] is generator
    assert str(context["exception"]) == "expected"
    assert context["message"].startswith(
        "an error occurred during closing of asynchronous generator"
    )


def test_forgotten_asyncgen_is_closed_by_the_loop(loop, trace):
    async def main():
        generator = ticker(trace)
        await anext(generator)
        del generator
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert trace == ["generator closed"]

    loop.run_until_complete(main())


def test_asyncgen_forgotten_in_another_thread(loop, trace):
    async def main():
        box = [ticker(trace)]
        await anext(box[0])
        thread = threading.Thread(target=lambda: (box.clear(), gc.collect()))
        thread.start()
        while "generator closed" not in trace:
            await asyncio.sleep(0.001)
        thread.join()

    loop.run_until_complete(asyncio.wait_for(main(), 10))
    assert trace == ["generator closed"]


def test_asyncgen_after_shutdown_warns(loop, trace):
    async def main():
        await loop.shutdown_asyncgens()
        generator = ticker(trace)
        with pytest.warns(ResourceWarning, match="was scheduled after loop.shutdown"):
            await anext(generator)
        await generator.aclose()

    loop.run_until_complete(main())


def test_asyncgen_hooks_are_those_of_the_loop_only_while_it_runs(loop, trace):
    def firstiter(generator):
        trace.append("foreign")

    def note():
        hooks = sys.get_asyncgen_hooks()
        trace.append(hooks.firstiter is firstiter)

    old = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=firstiter)
    try:
        loop.call_soon(note)
        turn(loop)
        assert sys.get_asyncgen_hooks().firstiter is firstiter

        def leave():
            raise KeyboardInterrupt

        loop.call_soon(leave)
        with pytest.raises(KeyboardInterrupt):
            turn(loop)
        assert sys.get_asyncgen_hooks().firstiter is firstiter
    finally:
        sys.set_asyncgen_hooks(*old)
    assert trace == [False]


def test_override_of_the_asyncgen_hooks(kind, trace):
    class Sub(kind):
        def _asyncgen_firstiter_hook(self, agen):
            trace.append("first")
            super()._asyncgen_firstiter_hook(agen)

    async def main():
        generator = ticker(trace)
        await anext(generator)
        await generator.aclose()

    with contextlib.closing(Sub()) as loop:
        loop.run_until_complete(main())
    assert trace == ["first", "generator closed"]


# -- executors


def test_run_in_executor(loop):
    async def main():
        here = threading.get_ident()
        there = await loop.run_in_executor(None, threading.get_ident)
        assert here != there
        assert await loop.run_in_executor(None, pow, 2, 5) == 32
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_run_in_a_given_executor(loop):
    with concurrent.futures.ThreadPoolExecutor(1, "given") as pool:
        thread = loop.run_until_complete(
            loop.run_in_executor(pool, threading.current_thread)
        )
    assert thread.name.startswith("given")


def test_default_executor_can_be_set(loop):
    with concurrent.futures.ThreadPoolExecutor(1, "mine") as pool:
        loop.set_default_executor(pool)
        thread = loop.run_until_complete(
            loop.run_in_executor(None, threading.current_thread)
        )
        assert thread.name.startswith("mine")
        loop.run_until_complete(loop.shutdown_default_executor())


@pytest.mark.parametrize("wrong", [None, 1, object()], ids=["None", "int", "object"])
def test_default_executor_of_a_wrong_type(loop, wrong):
    with pytest.raises(
        TypeError, match=r"^executor must be ThreadPoolExecutor instance$"
    ):
        loop.set_default_executor(wrong)


def test_executor_after_shutdown(loop):
    loop.run_until_complete(loop.run_in_executor(None, int))
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(RuntimeError, match=r"^Executor shutdown has been called$"):
        loop.run_in_executor(None, int)


def test_executor_after_close(loop_factory):
    loop = loop_factory()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.run_in_executor(None, int)


@pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="the time-out came in 3.12, whose first releases wait for the threads first",
)
def test_executor_time_out(loop):
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait, 30)
        with pytest.warns(RuntimeWarning, match=r"did not finish.*within 0.01 seconds"):
            await loop.shutdown_default_executor(0.01)
        release.set()
        await future

    start = time.monotonic()
    loop.run_until_complete(main())
    assert time.monotonic() - start < 20


def test_result_of_an_executor_after_close(loop_factory):
    # the thread ends after its loop was closed: nothing to tell, nothing to crash
    loop = loop_factory()
    release, ended = threading.Event(), threading.Event()

    def work():
        release.wait(10)
        ended.set()

    loop.run_in_executor(None, work)
    turn(loop)
    executor = loop._default_executor
    loop.close()
    release.set()
    assert ended.wait(10)
    executor.shutdown(wait=True)


# -- warnings, collection


def test_unclosed_loop_warns(loop_factory):
    loop = loop_factory()
    shown = repr(loop)
    with pytest.warns(ResourceWarning) as caught:
        del loop
        gc.collect()
    assert [str(warning.message) for warning in caught] == [
        f"unclosed event loop {shown}"
    ]


def test_closed_loop_does_not_warn(loop_factory):
    loop = loop_factory()
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    assert caught == []


def test_repr(loop_factory, kind):
    loop = loop_factory()
    loop.set_debug(False)
    assert repr(loop) == f"<{kind.__name__} running=False closed=False debug=False>"
    shown = []
    loop.call_soon(lambda: shown.append(repr(loop)))
    turn(loop)
    assert shown == [f"<{kind.__name__} running=True closed=False debug=False>"]
    loop.set_debug(True)
    loop.close()
    assert repr(loop) == f"<{kind.__name__} running=False closed=True debug=True>"


def abandon(loop_factory, fill):
    """A weak reference to a loop that `fill` prepared and nobody closed."""
    loop = loop_factory()
    keep = fill(loop)
    ref = weakref.ref(loop)
    return ref, keep


FILLS = {
    "nothing": lambda loop: None,
    "ready": lambda loop: loop.call_soon(loop.stop) and None,
    "timer": lambda loop: loop.call_later(1000, loop.stop) and None,
    "threadsafe": lambda loop: loop.call_soon_threadsafe(loop.stop) and None,
    "cycle": lambda loop: setattr(loop, "me", loop),
    "handle kept": lambda loop: loop.call_later(1000, print),
    "future": lambda loop: loop.create_future() and None,
    "handler": lambda loop: loop.set_exception_handler(lambda *args: loop),
    "override": lambda loop: setattr(loop, "call_soon", loop.call_soon),
    "has run": lambda loop: turn(loop, 3),
}


@pytest.mark.parametrize("fill", FILLS)
def test_abandoned_loop_is_collected(loop_factory, fill):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ref, keep = abandon(loop_factory, FILLS[fill])
        gc.collect()
        if fill == "handle kept":  # a handle knows its loop
            assert ref() is not None
            del keep
            gc.collect()
        assert ref() is None


def test_abandoned_loop_with_a_reader(loop_factory):
    a, b = socket.socketpair()

    def fill(loop):
        loop.add_reader(a, loop.stop)
        loop.add_writer(b, print, loop)

    with a, b, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ref, _ = abandon(loop_factory, fill)
        gc.collect()
        assert ref() is None


def test_abandoned_loop_with_a_task(loop_factory, faults):
    async def forever(loop):
        await loop.create_future()

    def fill(loop):
        loop.create_task(forever(loop))
        turn(loop)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ref, _ = abandon(loop_factory, fill)
        gc.collect()
        assert ref() is None
    assert all("was destroyed but it is pending" in text for text in faults.take_log())


def test_abandoned_loop_with_a_transport(loop_factory):
    *box, b = socket.socketpair()

    def fill(loop):
        loop.run_until_complete(
            loop.create_connection(asyncio.Protocol, sock=box.pop())
        )

    with b, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ref, _ = abandon(loop_factory, fill)
        gc.collect()
        assert ref() is None


def test_future_that_a_collection_makes_while_one_is_made(script):
    # on 3.11 a new dict may run one, and with it any finalizer
    script(
        """
        import gc, weakref

        class Maker:
            def __del__(self):
                loop.create_future()

        def callback():
            gc.collect()
            gc.disable()
            cycle = Maker()
            cycle.cycle = cycle
            del cycle
            kept = [[] for _ in range(10)]
            gc.set_threshold(1)
            gc.enable()
            loop.create_future()
            gc.set_threshold(700)
            loop.stop()

        loop = new_event_loop()
        loop.call_soon(callback)
        loop.run_forever()
        loop.close()
        found = weakref.ref(loop)
        del loop
        gc.collect()
        assert found() is None
        """
    )


def test_loop_with_a_finalizer_is_collected_once(kind, trace):
    class Sub(kind):
        def __del__(self):
            trace.append("finalized")
            super().__del__()

    loop = Sub()
    loop.me = loop
    loop.close()
    del loop
    gc.collect()
    assert trace == ["finalized"]


# the collector finalizes the standard loop's own sockets together with the loop
@only_asynccore
def test_loop_resurrected_by_its_finalizer(kind):
    kept = []

    class Sub(kind):
        def __del__(self):
            kept.append(self)

    loop = Sub()
    loop.me = loop
    del loop
    gc.collect()
    (loop,) = kept
    assert loop.run_until_complete(value(3)) == 3
    loop.close()
    del loop.me
    kept.clear()


def test_weak_reference_and_attributes(loop_factory):
    loop = loop_factory()
    ref = weakref.ref(loop)
    loop.anything = 1
    assert loop.__dict__["anything"] == 1
    loop.close()
    del loop
    gc.collect()
    assert ref() is None


# -- uninitialised


METHODS_WITHOUT_INIT = {
    "call_soon": (print,),
    "call_soon_threadsafe": (print,),
    "call_later": (1, print),
    "call_at": (1, print),
    "run_forever": (),
    "close": (),
    "add_reader": (0, print),
    "remove_reader": (0,),
    "add_writer": (0, print),
    "remove_writer": (0,),
    "get_debug": (),
    "set_debug": (True,),
    "is_running": (),
    "is_closed": (),
    "stop": (),
    "time": (),
    "create_future": (),
    "call_exception_handler": ({},),
    "__repr__": (),
    "_run_once": (),
}


def test_loop_without_init_survives_every_method(script):
    # in a process of its own: a crash would end all tests
    done = script(
        """
        import gc, warnings
        warnings.simplefilter("ignore")
        import logging
        logging.disable()
        import sys
        sys.unraisablehook = lambda args: None
        made = new_event_loop()
        kind = type(made)
        made.close()
        methods = eval(sys.argv[1])
        for name, args in methods.items():
            args = [print if arg == "print" else arg for arg in args]
            loop = kind.__new__(kind)
            try:
                getattr(loop, name)(*args)
            except (AttributeError, RuntimeError, TypeError):
                pass
            del loop
            gc.collect()
        print("alive")
        """,
        repr(
            {
                name: ["print" if arg is print else arg for arg in args]
                for name, args in METHODS_WITHOUT_INIT.items()
            }
        ),
    )
    assert done.stdout.splitlines()[-1] == "alive"


@only_asynccore
def test_loop_without_init_is_closed(kind):
    loop = kind.__new__(kind)
    assert loop.is_closed()
    assert not loop.is_running()
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_soon_threadsafe(print),
        loop.run_forever,
    ):
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            call()
    loop.stop()


def test_init_twice(kind):
    loop = kind()
    turn(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with contextlib.suppress(RuntimeError):
            loop.__init__()
        gc.collect()
    loop.close()


def test_subclass_that_forgets_init(kind, faults):
    class Sub(kind):
        def __init__(self):
            pass

    loop = Sub()
    coro = value()
    with pytest.raises((AttributeError, RuntimeError)):
        loop.run_until_complete(coro)
    coro.close()
    with contextlib.suppress(AttributeError, RuntimeError):
        loop.close()
    del loop
    # the finalizer of the standard loop fails on what __init__ would have set
    texts = faults.take_unraisable()
    assert all(text.startswith("AttributeError: ") for text in texts)


def test_subclass_init_that_fails(kind):
    class Sub(kind):
        def __init__(self):
            super().__init__()
            self.close()
            raise LookupError("expected")

    with pytest.raises(LookupError, match="expected"):
        Sub()


# -- after close


def test_close_twice_and_state(loop_factory):
    loop = loop_factory()
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.run_forever(),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_writer(0, print),
        lambda loop: loop.add_signal_handler(10, print),
    ],
    ids=[
        "soon",
        "later",
        "at",
        "threadsafe",
        "executor",
        "run",
        "reader",
        "writer",
        "signal",
    ],
)
def test_after_close_raises(loop_factory, call):
    loop = loop_factory()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        call(loop)


def test_after_close_still_works(loop_factory):
    loop = loop_factory()
    loop.close()
    assert loop.create_future().get_loop() is loop
    assert loop.time() > 0
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(0) is False
    assert loop.remove_signal_handler(10) is False
    loop.stop()
    loop.set_exception_handler(None)
    loop.set_task_factory(None)
    assert isinstance(repr(loop), str)


def test_timer_cancelled_after_close(loop_factory):
    loop = loop_factory()
    timers = [loop.call_later(delay, print) for delay in (-1, 0, 1, 1000)]
    loop.close()
    for timer in timers:
        timer.cancel()
        assert timer.cancelled()


# -- overrides


def test_types(loop, kind):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert issubclass(kind, asyncio.AbstractEventLoop)


def test_every_method_of_the_standard_loop_is_there(kind):
    for name in dir(asyncio.SelectorEventLoop):
        if not name.startswith("_"):
            assert callable(getattr(kind, name)) or name == "slow_callback_duration"


def test_signatures_are_the_standard_loops(kind):
    def parameters(owner, name):
        found = list(inspect.signature(getattr(owner, name)).parameters.values())
        return [(p.name, p.kind, p.default) for p in found if p.name != "self"]

    for name in dir(asyncio.SelectorEventLoop):
        if name.startswith("_") or not callable(getattr(kind, name)):
            continue
        standard = parameters(asyncio.SelectorEventLoop, name)
        ours = parameters(kind, name)
        assert ours == standard, name


def print_nothing(future):
    """A done callback."""


def test_override_of_call_soon_on_the_instance(loop, trace):
    original = loop.call_soon

    def call_soon(callback, *args, context=None):
        trace.append(getattr(callback, "__name__", "step"))
        return original(callback, *args, context=context)

    loop.call_soon = call_soon
    future = loop.create_future()
    future.add_done_callback(print_nothing)
    future.set_result(None)
    assert trace == ["print_nothing"]
    loop.run_until_complete(asyncio.sleep(0))
    assert len(trace) > 2
    count = len(trace)
    del loop.call_soon
    loop.run_until_complete(asyncio.sleep(0))
    assert len(trace) == count
    gc.collect()


def test_override_of_call_soon_in_a_subclass(kind, trace):
    class Sub(kind):
        def call_soon(self, callback, *args, context=None):
            trace.append("soon")
            return super().call_soon(callback, *args, context=context)

    with contextlib.closing(Sub()) as loop:
        loop.run_until_complete(asyncio.sleep(0))
        a, b = socket.socketpair()
        with b:
            before = len(trace)
            loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=a))
            # connection_made, start of reading and the waiter
            assert len(trace) - before >= 3
            b.close()
            loop.run_until_complete(settle())
    assert a.fileno() == -1


def test_override_of_call_at(loop, trace):
    original = loop.call_at

    def call_at(when, callback, *args, context=None):
        trace.append("at")
        return original(when, callback, *args, context=context)

    loop.call_at = call_at
    loop.call_later(-1, trace.append, "ran")
    del loop.call_at
    turn(loop)
    assert trace == ["at", "ran"]


def test_override_of_time_in_call_later(loop):
    loop.time = lambda: 500.0
    timer = loop.call_later(10, print)
    assert timer.when() == 510.0
    del loop.time
    timer.cancel()


def test_override_set_on_the_class_later(kind, trace):
    class Sub(kind):
        pass

    with contextlib.closing(Sub()) as loop:
        turn(loop)
        timer = loop.call_later(10, print)
        assert timer.when() < 1e9
        Sub.time = lambda self: 2e9
        turn(loop)
        assert loop.call_later(10, print).when() == 2e9 + 10
        del Sub.time
        turn(loop)
        assert loop.call_later(10, print).when() < 1e9


def test_override_of_getaddrinfo(loop, run, trace):
    async def getaddrinfo(host, port, **kwargs):
        trace.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", server.getsockname())]

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        loop.getaddrinfo = getaddrinfo

        async def main():
            transport, _ = await loop.create_connection(
                asyncio.Protocol, "no-such-host.invalid", 1
            )
            transport.abort()
            await asyncio.sleep(0)

        run(main())
    assert trace == ["no-such-host.invalid"]


def test_override_of_run_in_executor(loop, trace):
    def run_in_executor(executor, func, *args):
        trace.append(func)
        future = loop.create_future()
        future.set_result("name")
        return future

    loop.set_debug(False)
    loop.run_in_executor = run_in_executor
    found = loop.run_until_complete(loop.getaddrinfo("no-such-host.invalid", 1))
    assert found == "name"
    assert trace == [socket.getaddrinfo]


def test_override_of_stop_and_run_forever(kind, trace):
    class Sub(kind):
        def run_forever(self):
            trace.append("run")
            super().run_forever()

        def stop(self):
            trace.append("stop")
            super().stop()

    with contextlib.closing(Sub()) as loop:
        assert loop.run_until_complete(value(1)) == 1
    assert trace == ["run", "stop"]


def test_override_of_the_turn_in_a_subclass(kind, trace):
    class Sub(kind):  # with a clock that jumps to the next timer
        now = 1.0

        def time(self):
            return self.now

        def _run_once(self):
            trace.append("turn")
            if not self._ready and self._scheduled:
                self.now = min(timer.when() for timer in self._scheduled)
            super()._run_once()

    with contextlib.closing(Sub()) as loop:
        loop.run_until_complete(asyncio.sleep(3600))
        assert loop.now == 3601.0
        assert trace == ["turn"] * 4  # starts, wakes, ends, stops
        trace.clear()
        del Sub._run_once
        loop.now += 1
        turn(loop)
    assert trace == []


def test_override_of_the_turn_on_the_instance(loop, trace):
    original = loop._run_once

    def run_once():
        trace.append("turn")
        original()
        if len(trace) == 3:
            raise LookupError("expected")

    def begin():
        loop._run_once = run_once

    loop.call_soon(begin)
    with pytest.raises(LookupError):
        loop.run_until_complete(asyncio.sleep(0.0, loop.call_soon(trace.append, "run")))
    del loop._run_once
    assert not loop.is_running()
    turn(loop)


def test_override_of_close(kind, trace):
    class Sub(kind):
        def close(self):
            trace.append("close")
            super().close()

    Sub().close()
    assert trace == ["close"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        Sub()
        gc.collect()
    assert trace == ["close", "close"]


def test_override_of_internal_hooks_of_the_standard_loop(kind, trace):
    # libraries hook into these; the standard loop calls them
    class Sub(kind):
        def _timer_handle_cancelled(self, handle):
            trace.append("cancelled")
            super()._timer_handle_cancelled(handle)

    with contextlib.closing(Sub()) as loop:
        loop.call_later(1000, print).cancel()
        turn(loop)
    assert trace in (["cancelled"], [])


def test_multiple_inheritance(kind, trace):
    class Mixin:
        def call_soon(self, *args, **kwargs):
            trace.append("mixin")
            return super().call_soon(*args, **kwargs)

    class Sub(Mixin, kind):
        pass

    with contextlib.closing(Sub()) as loop:
        assert loop.run_until_complete(value(1)) == 1
    assert trace


def test_slots_and_properties_in_a_subclass(kind):
    class Sub(kind):
        __slots__ = ("own",)

        @property
        def doubled(self):
            return self.own * 2

    with contextlib.closing(Sub()) as loop:
        loop.own = 4
        assert loop.doubled == 8
        assert loop.run_until_complete(value(1)) == 1


def test_set_event_loop_and_get_event_loop(loop):
    asyncio.set_event_loop(loop)
    try:
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)


def test_loop_at_interpreter_exit(script):
    # left open, referenced from a module, with a timer: no crash, no hang
    script("""
        import warnings
        warnings.simplefilter("ignore")
        loop = new_event_loop()
        loop.call_later(1000, print)
        loop.call_soon(loop.stop)
        loop.run_forever()
        import builtins
        builtins.kept = loop
    """)


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
def test_current_loop_at_interpreter_exit(script, debug):
    # what set_event_loop() keeps goes away when asyncio's modules have been emptied
    done = script(f"""
        import asyncio, signal, warnings
        warnings.simplefilter("ignore")
        loop = new_event_loop()
        loop.set_debug({debug})
        asyncio.set_event_loop(loop)
        loop.add_signal_handler(signal.SIGUSR1, print)
        loop.run_until_complete(asyncio.sleep(0))
        loop.remove_signal_handler(signal.SIGUSR1)
    """)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "keep",
    [
        "codecs.register(lambda name, loops=[used() for _ in range(20)]: None)",
        "codecs.register(lambda name: None); kept = used()",
    ],
    ids=["of a hook", "of the module of a hook"],
)
def test_loops_that_outlive_their_module(script, monkeypatch, keep):
    # what hooks keep is collected last, in any order, when all modules are gone
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    code = """
        import asyncio, codecs, socket, warnings
        warnings.simplefilter("ignore")

        class Loop(type(new_event_loop())):
            def __del__(self):
                pass

        async def answer(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def talk(loop):
            one, other = socket.socketpair()
            with one, other:
                one.setblocking(False)
                other.setblocking(False)
                await loop.sock_sendall(one, b"data")
                await loop.sock_recv(other, 10)
            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"line\\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

        def used():
            loop = Loop()
            for _ in range(5):
                loop.call_later(0, int)
                loop.call_soon(int)
            loop.run_until_complete(talk(loop))
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
            loop.itself = loop
            return loop

        KEEP
    """
    script(code.replace("KEEP", keep))


def test_exit_while_a_daemon_thread_runs_a_loop(script):
    done = script("""
        import threading
        loop = new_event_loop()
        started = threading.Event()
        loop.call_soon(started.set)
        threading.Thread(target=loop.run_forever, daemon=True).start()
        started.wait()
        print("end")
    """)
    assert done.stdout == "end\n"


def test_exit_while_a_daemon_thread_spins_a_loop(script):
    done = script("""
        import threading
        loop = new_event_loop()
        started = threading.Event()
        def spin():
            started.set()
            loop.call_soon(spin)
        loop.call_soon(spin)
        threading.Thread(target=loop.run_forever, daemon=True).start()
        started.wait()
        print("end")
    """)
    assert done.stdout == "end\n"


def test_sys_exit_in_a_callback_ends_the_process(script):
    done = script(
        """
        import sys
        loop = new_event_loop()
        loop.call_soon(sys.exit, 7)
        try:
            loop.run_forever()
        finally:
            loop.close()
        """,
        check=False,
    )
    assert done.returncode == 7
    assert done.stderr == ""


def test_loop_driven_by_hand_is_collected(loop_factory):
    # as BaseEventLoop._run_forever_setup and _cleanup do for other drivers
    loop = loop_factory()
    loop._thread_id = threading.get_ident()
    loop.call_soon(loop.stop)
    loop.call_later(1000, loop.stop)
    loop._thread_id = None
    gone = weakref.ref(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        del loop
        gc.collect()
    assert gone() is None
