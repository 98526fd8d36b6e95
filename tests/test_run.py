"""run_forever, run_until_complete, stop and close: states, and ways out of a run."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
import time
import weakref

import pytest

from support import only_asynccore
from support.turns import Trace, turn


class Odd(BaseException):
    """Neither Exception nor one of the two that end a run."""


@pytest.fixture
def trace():
    return Trace()


@pytest.fixture
def pairs():
    """Three connected pairs of sockets."""
    made = [socket.socketpair() for _ in range(3)]
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


async def value(result):
    return result


async def failure(exc):
    raise exc


def test_result_and_exception(loop):
    assert loop.run_until_complete(value(5)) == 5
    with pytest.raises(LookupError, match="expected"):
        loop.run_until_complete(failure(LookupError("expected")))


@pytest.mark.parametrize("kind", ["done", "pending", "task", "awaitable"])
def test_what_run_until_complete_takes(loop, kind):
    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    future = loop.create_future()
    if kind == "done":
        future.set_result("awaited")
    elif kind == "pending":
        loop.call_later(0.001, future.set_result, "awaited")
    elif kind == "task":
        future = loop.create_task(value("awaited"))
    else:
        future = Awaitable()
    assert loop.run_until_complete(future) == "awaited"


@pytest.mark.parametrize("wrong", [None, 1, "x", [], print, value], ids=repr)
def test_what_run_until_complete_refuses(both_factories, wrong):
    def found(factory):
        loop = factory()
        with pytest.raises(TypeError) as caught:
            loop.run_until_complete(wrong)
        turn(loop)
        loop.close()
        return str(caught.value)

    standard, ours = map(found, both_factories)
    assert ours == standard


def test_future_of_another_loop(loop, loop_factory):
    other = loop_factory()
    future = other.create_future()
    with pytest.raises(ValueError, match="different loop"):
        loop.run_until_complete(future)
    other.close()


def test_stopped_before_complete(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(
        RuntimeError, match=r"^Event loop stopped before Future completed\.$"
    ):
        loop.run_until_complete(future)
    loop.call_soon(future.set_result, 1)
    assert loop.run_until_complete(future) == 1


def test_cancelled_task(loop):
    async def forever():
        await loop.create_future()

    task = loop.create_task(forever())
    loop.call_soon(task.cancel, "message")
    with pytest.raises(asyncio.CancelledError, match="message"):
        loop.run_until_complete(task)


def test_run_until_complete_leaves_no_callback_behind(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    loop.call_soon(future.set_result, None)
    loop.call_later(0.001, loop.stop)
    start = loop.time()
    loop.run_forever()
    # the future, done in the first turn, did not stop this run
    assert loop.time() - start >= 0.0009


def test_number_of_turns_of_a_run_until_complete(loop):
    # a callback that counts turns: as many as on the standard loop, no extra ones
    turns = 0

    def count():
        nonlocal turns
        turns += 1
        loop.call_soon(count)

    loop.call_soon(count)
    loop.run_until_complete(value(1))
    assert turns == 2


def test_stop_before_the_run_polls_exactly_once(loop, trace, pairs):
    (a, peer), *_ = pairs
    loop.add_reader(a, lambda: trace.append(a.recv(1)))
    peer.send(b"12")
    turn(loop)
    assert trace == [b"1"]
    turn(loop)
    assert trace == [b"1", b"2"]
    turn(loop)
    assert trace == [b"1", b"2"]
    loop.remove_reader(a)


def test_stop_is_forgotten_after_the_run(loop, trace):
    loop.stop()
    loop.stop()
    loop.run_forever()
    loop.call_soon(loop.call_soon, trace.note("second turn", loop.stop))
    loop.run_forever()
    assert trace == ["second turn"]


def test_stop_in_the_middle_of_a_batch(loop, trace):
    loop.call_soon(trace.note(1, loop.stop))
    loop.call_soon(trace.note(2, lambda: loop.call_soon(trace.append, "next run")))
    loop.run_forever()
    assert trace == [1, 2]
    turn(loop)
    assert trace == [1, 2, "next run"]


def test_stop_from_a_reader_lets_the_other_readers_run(loop, trace, pairs):
    for n, (a, peer) in enumerate(pairs):
        peer.send(b"x")
        loop.add_reader(
            a, trace.note(n, loop.stop, lambda a=a: (a.recv(1), loop.remove_reader(a)))
        )
    loop.run_forever()
    assert sorted(trace) == [0, 1, 2]


def test_stop_from_a_timer(loop, trace):
    loop.call_later(-2, trace.note(1, loop.stop))
    loop.call_later(-1, trace.append, 2)
    loop.run_forever()
    assert trace == [1, 2]


@pytest.mark.parametrize("ending", ["reader", "both"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exit_in_a_reader_whose_writer_is_due(loop, trace, kind, ending):
    def event(name):
        trace.append(name)
        if trace.count(name) == 1:
            loop.call_soon(trace.append, f"after {name}")
            if ending in ("both", name):
                raise kind

    here, there = socket.socketpair()
    with here, there:
        there.send(b"x")
        loop.add_reader(here, event, "reader")
        loop.add_writer(here, event, "writer")
        loop.call_later(-1, trace.append, "timer")
        for _ in range(3 if ending == "both" else 2):
            try:
                turn(loop)
            except kind:
                trace.append("exit")
        loop.remove_reader(here)
        loop.remove_writer(here)
    expected = ["reader", "exit", "writer", "timer", "after reader", "reader", "writer"]
    if ending == "both":
        expected[3:] = ["exit", "timer", "after reader"]
    assert trace[: len(expected)] == expected


def test_exits_in_readers_that_an_exit_has_left(loop, trace):
    def event(name):
        trace.append(name)
        loop.call_soon(trace.append, f"after {name}")
        if len(trace) < 4:
            raise KeyboardInterrupt

    pairs = [socket.socketpair() for _ in range(3)]
    for name, (here, there) in enumerate(pairs):
        there.send(b"x")
        loop.add_reader(here, event, name)
    for _ in range(3):
        try:
            turn(loop)
        except KeyboardInterrupt:
            trace.append("exit")
    assert trace[:4] == [0, "exit", 1, "exit"]
    assert trace[4:6] == [2, "after 0"]
    for here, there in pairs:
        loop.remove_reader(here)
        here.close()
        there.close()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["ready", "timer", "reader", "threadsafe"])
def test_way_out_of_a_batch_and_what_is_left(loop, trace, pairs, kind, where):
    (a, peer), *_ = pairs

    def leave():
        trace.append("leave")
        if where == "reader":
            loop.remove_reader(a)
        raise kind("expected")

    loop.call_soon(trace.append, 1)
    if where == "ready":
        loop.call_soon(leave)
    elif where == "threadsafe":
        loop.call_soon_threadsafe(leave)
    elif where == "timer":
        loop.call_later(-2, leave)
    else:
        loop.add_reader(a, leave)
        peer.send(b"x")
    if where in ("ready", "threadsafe"):
        loop.call_soon(trace.append, 2)
    loop.call_later(-1, trace.append, 3)
    with pytest.raises(kind, match="expected"):
        loop.run_forever()
    assert trace == [1, "leave"]
    assert not loop.is_running()
    loop.call_soon(trace.append, 4)
    turn(loop)
    rest = [2, 3, 4] if where in ("ready", "threadsafe") else [3, 4]
    assert trace == [1, "leave", *rest]


def test_readers_left_by_an_exception_run_next_time_once(loop, trace, pairs):
    def readable(n, a):
        trace.append(n)
        loop.remove_reader(a)
        if len(trace) == 1:
            raise KeyboardInterrupt

    for n, (a, peer) in enumerate(pairs):
        peer.send(b"x")
        loop.add_reader(a, readable, n, a)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert len(trace) == 1
    turn(loop, 2)
    assert sorted(trace) == [0, 1, 2]


def test_handle_that_raised_is_not_run_again(loop, trace):
    def leave():
        trace.append("leave")
        raise SystemExit(3)

    loop.call_soon(leave)
    with pytest.raises(SystemExit):
        loop.run_forever()
    turn(loop, 2)
    assert trace == ["leave"]


def test_stop_then_exception_in_one_batch(loop, trace):
    def leave():
        raise KeyboardInterrupt

    loop.call_soon(loop.stop)
    loop.call_soon(leave)
    loop.call_soon(trace.append, 1)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    # the stop belonged to the run that ended
    loop.call_soon(loop.call_soon, trace.note(2, loop.stop))
    loop.run_forever()
    assert trace == [1, 2]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_task(loop, kind):
    async def main():
        raise kind("expected")

    with pytest.raises(kind, match="expected"):
        loop.run_until_complete(main())
    assert not loop.is_running()
    assert loop.run_until_complete(value(1)) == 1


def test_other_base_exceptions_are_reported(loop, trace):
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))

    def leave(exc):
        raise exc

    for exc in (Odd("odd"), GeneratorExit(), asyncio.CancelledError()):
        loop.call_soon(leave, exc)
    loop.call_soon(trace.append, 1)
    turn(loop)
    assert trace == [1]
    kinds = [type(context["exception"]) for context in caught]
    assert kinds == [Odd, GeneratorExit, asyncio.CancelledError]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exception_handler_that_ends_the_run(loop, trace, kind):
    def handler(loop, context):
        raise kind("expected")

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(trace.append, 1)
    with pytest.raises(kind, match="expected"):
        loop.run_forever()
    turn(loop)
    assert trace == [1]


def test_running_state(loop, trace):
    assert not loop.is_running()
    assert not loop.is_closed()
    loop.call_soon(lambda: trace.append((loop.is_running(), loop.is_closed())))
    turn(loop)
    assert trace == [(True, False)]
    assert not loop.is_running()


def test_running_loop_is_reset_after_every_end(loop):
    def leave():
        raise KeyboardInterrupt

    turn(loop)
    assert asyncio._get_running_loop() is None
    loop.call_soon(leave)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert asyncio._get_running_loop() is None


def nested(loop, call):
    """What `call` raises inside a callback of `loop`."""
    caught = []

    def callback():
        try:
            call()
        except RuntimeError as exc:
            caught.append(str(exc))
        loop.stop()  # the failed nested run of 3.13.0 forgets the stop of the outer one

    loop.call_soon(callback)
    turn(loop)
    return caught


def test_nested_run_of_the_same_loop(loop):
    future = loop.create_future()
    assert nested(loop, loop.run_forever) == ["This event loop is already running"]
    assert nested(loop, lambda: loop.run_until_complete(future)) == [
        "This event loop is already running"
    ]
    turn(loop)


def test_nested_run_of_another_loop(loop, loop_factory):
    other = loop_factory()
    future = other.create_future()
    text = "Cannot run the event loop while another loop is running"
    assert nested(loop, other.run_forever) == [text]
    assert nested(loop, lambda: other.run_until_complete(future)) == [text]
    assert not other.is_running()
    turn(other)
    other.close()


def test_nested_run_inside_the_other_kind_of_loop(both_factories):
    for outer_factory, inner_factory in (both_factories, both_factories[::-1]):
        outer, inner = outer_factory(), inner_factory()
        text = "Cannot run the event loop while another loop is running"
        assert nested(outer, inner.run_forever) == [text]
        inner.close()
        outer.close()


def test_nested_run_where_the_check_was_replaced(loop, trace):
    class Nesting(type(loop)):
        def _check_running(self):
            pass

    def callback():
        future = nesting.create_future()
        nesting.call_soon(future.set_result, "inner")
        trace.append(nesting.run_until_complete(future))
        nesting.stop()

    nesting = Nesting()
    nesting.call_soon(callback)
    nesting.run_forever()
    assert trace == ["inner"]
    assert not nesting.is_running()
    nesting.close()


@pytest.mark.parametrize("kind", [None, KeyboardInterrupt])
def test_exception_of_the_end_of_a_run(loop, trace, kind):
    class Failing(type(loop)):
        def _set_coroutine_origin_tracking(self, enabled):
            if trace:
                raise LookupError("expected")
            super()._set_coroutine_origin_tracking(enabled)

    def callback():
        trace.append("run")
        failing.stop()
        if kind is not None:
            raise kind

    failing = Failing()
    hooks = sys.get_asyncgen_hooks()
    depth = sys.get_coroutine_origin_tracking_depth()
    failing.call_soon(callback)
    try:
        with pytest.raises(LookupError, match="expected") as caught:
            failing.run_forever()
    finally:
        sys.set_asyncgen_hooks(*hooks)
        sys.set_coroutine_origin_tracking_depth(depth)
    assert type(caught.value.__context__) is (kind or type(None))
    assert not failing.is_running()
    failing.close()


def test_loop_inside_the_running_loop_slot_of_somebody_else(loop, trace):
    # nest_asyncio-like tools clear the running loop to run another one inside
    def callback():
        asyncio._set_running_loop(None)
        try:
            inner = type(loop)()
            inner.call_soon(trace.append, "inner")
            turn(inner)
            inner.close()
        finally:
            asyncio._set_running_loop(loop)
        trace.append(asyncio.get_running_loop() is loop)

    loop.call_soon(callback)
    turn(loop)
    assert trace == ["inner", True]


def test_close_states(loop_factory):
    loop = loop_factory()
    assert nested(loop, loop.close) == ["Cannot close a running event loop"]
    assert not loop.is_closed()
    loop.close()
    assert loop.is_closed()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()


def test_run_after_close(loop_factory):
    loop = loop_factory()
    loop.close()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.run_forever()
    coro = value(1)
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        loop.run_until_complete(coro)
    coro.close()
    assert asyncio._get_running_loop() is None
    loop.stop()


def test_close_drops_what_was_scheduled(loop_factory, trace):
    loop = loop_factory()
    loop.call_soon(trace.append, 1)
    loop.call_later(-1, trace.append, 2)
    loop.call_soon_threadsafe(trace.append, 3)
    loop.close()
    assert trace == []


def test_close_after_an_exception_with_a_rest(loop_factory, trace):
    loop = loop_factory()

    def leave():
        raise KeyboardInterrupt

    loop.call_soon(leave)
    loop.call_soon(trace.append, 1)
    loop.call_later(-1, trace.append, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.close()
    assert trace == []


def test_close_inside_the_destructor_of_a_pending_argument(loop_factory, trace):
    loop = loop_factory()

    class Last:
        def __del__(self):
            trace.append(loop.is_closed())
            loop.close()
            with contextlib.suppress(RuntimeError):
                loop.call_soon(print, "never")

    loop.call_soon(print, Last())
    loop.close()
    gc.collect()
    assert trace == [True]


def test_many_runs_in_a_row(loop):
    for n in range(300):
        assert loop.run_until_complete(value(n)) == n


def test_many_loops_in_a_row(loop_factory):
    for n in range(50):
        loop = loop_factory()
        assert loop.run_until_complete(value(n)) == n
        loop.close()


def test_run_forever_returns_none(loop):
    loop.stop()
    assert loop.run_forever() is None
    assert loop.stop() is None
    turn(loop)


def test_run_in_a_thread_after_a_run_in_this_one(loop, trace):
    turn(loop)
    thread = threading.Thread(
        target=lambda: trace.append(loop.run_until_complete(value(1)))
    )
    thread.start()
    thread.join()
    assert trace == [1]
    assert loop.run_until_complete(value(2)) == 2


def test_root_task_has_the_standard_callback(loop):
    # how anyio finds the task that run_until_complete waits for
    found = []

    async def main():
        task = asyncio.current_task()
        found.extend(callback for callback, _ in task._callbacks)

    loop.run_until_complete(main())
    assert found == [asyncio.base_events._run_until_complete_cb]


def test_exception_of_a_failed_run_does_not_keep_the_loop(loop_factory):
    loop = loop_factory()
    gone = weakref.ref(loop)
    with pytest.raises(LookupError):
        loop.run_until_complete(failure(LookupError()))
    loop.close()
    del loop
    gc.collect()
    assert gone() is None


def test_trampoline_of_loops(loop_factory, trace):
    # one loop after the other from within done callbacks of a finished run
    loops = [loop_factory() for _ in range(3)]
    for n, each in enumerate(loops):
        each.call_soon(trace.append, n)
        turn(each)
        each.close()
    assert trace == [0, 1, 2]


def test_asyncio_run_idioms(loop_factory):
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(value(1)) == 1
        assert runner.run(value(2)) == 2
        with pytest.raises(LookupError):
            runner.run(failure(LookupError()))
        loop = runner.get_loop()
    assert loop.is_closed()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loop_factory came in 3.12")
def test_asyncio_run_with_loop_factory(loop_factory):
    async def main():
        background = asyncio.ensure_future(asyncio.sleep(1000))
        await asyncio.sleep(0)
        return background

    task = asyncio.run(main(), loop_factory=loop_factory)
    assert task.cancelled()


def test_runner_raises_what_left_the_loop(loop_factory):
    cancelled = []

    async def background():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main():
        task = asyncio.ensure_future(background())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(sys.exit, 7)
        await task

    with pytest.raises(SystemExit), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert cancelled == [True]


def test_run_once_by_hand(loop, trace):
    # the standard loop's single turn, which debuggers and REPLs call
    loop.call_soon(trace.append, 1)
    loop.call_later(-1, trace.append, 2)
    loop._run_once()
    assert trace == [1, 2]
    assert not loop.is_running()


def test_waiting_loop_uses_no_cpu(loop):
    loop.call_later(0.2, loop.stop)
    before = time.thread_time()
    loop.run_forever()
    assert time.thread_time() - before < 0.1


def test_current_handle_is_none_between_runs(loop):
    loop.set_debug(True)
    turn(loop)
    assert loop._current_handle is None


def test_turn_by_hand_inside_the_last_of_many_timers(loop, trace):
    def last():
        loop.call_later(0.001, trace.append, "inner")
        loop._run_once()
        trace.append("last")
        loop.stop()

    now = loop.time()
    for _ in range(2000):
        loop.call_at(now, int)
    loop.call_at(now + 1e-6, last)
    loop.run_forever()
    assert trace == ["inner", "last"]


def test_closed_in_a_turn_by_hand(loop_factory, trace):
    loop = loop_factory()
    loop.call_soon(loop.close)
    with contextlib.suppress(AttributeError, IndexError):  # the standard loop
        loop._run_once()
    assert loop.is_closed()


@only_asynccore  # the standard loop has lost its selector: AttributeError
def test_run_that_goes_on_after_close_ends(loop_factory, trace):
    loop = loop_factory()

    def close_by_force():
        loop._thread_id = None
        loop.close()
        for _ in range(1000):
            loop._add_callback(handle)

    handle = loop.call_soon(trace.append, 1)
    loop.call_soon(close_by_force)
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()
    assert loop.is_closed()


@only_asynccore  # two threads in one selector see each other's events
def test_two_threads_make_turns_of_one_loop(loop, trace):
    reached = threading.Event()

    def make_turns():  # not in the main thread, where a wait begins with set_wakeup_fd
        loop.call_soon(reached.set)
        while "end" not in trace:
            loop._run_once()

    thread = threading.Thread(target=make_turns)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        thread.start()
        reached.wait()  # goes on when the other waits: there is no other switch
        for method in (loop._run_once, loop._shut):
            with pytest.raises(RuntimeError, match="running"):
                method()
        loop.call_soon_threadsafe(trace.append, "end")
        thread.join()
    finally:
        sys.setswitchinterval(interval)
