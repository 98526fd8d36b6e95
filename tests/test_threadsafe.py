"""call_soon_threadsafe: order, waking, bursts, races with close."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import signal
import threading
import time
import weakref

import pytest

from support import only_asynccore
from support.turns import Trace, turn


@pytest.fixture
def trace():
    return Trace()


def in_thread(target, *args):
    """Runs `target` in a thread to its end."""
    thread = threading.Thread(target=target, args=args)
    thread.start()
    thread.join()


def test_wakes_an_idle_loop(loop, trace):
    def later():
        idle.wait(10)
        loop.call_soon_threadsafe(trace.note("woken", loop.stop))

    idle = threading.Event()
    thread = threading.Thread(target=later)
    thread.start()
    loop.call_soon(idle.set)
    loop.run_forever()
    thread.join()
    assert trace == ["woken"]


def test_wakes_again_and_again(loop):
    # each call is made when the loop waits: no wake-up may be lost
    count = 300
    seen = threading.Semaphore(0)
    runs = []

    def callback(n):
        runs.append(n)
        if n == count - 1:
            loop.stop()
        seen.release()

    def feed():
        for n in range(count):
            loop.call_soon_threadsafe(callback, n)
            assert seen.acquire(timeout=10)

    thread = threading.Thread(target=feed)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert runs == list(range(count))


def test_order_within_a_thread(loop, trace):
    def feed():
        for n in range(10000):
            loop.call_soon_threadsafe(trace.append, n)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=feed)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert trace == list(range(10000))


def test_order_with_call_soon_in_the_same_thread(loop, trace):
    loop.call_soon(trace.append, 1)
    loop.call_soon_threadsafe(trace.append, 2)
    loop.call_soon(trace.append, 3)
    loop.call_soon_threadsafe(trace.append, 4)
    loop.call_later(0, trace.append, 5)
    turn(loop)
    assert trace == [1, 2, 3, 4, 5]


def test_order_with_call_soon_inside_a_callback(loop, trace):
    def callback():
        loop.call_soon(trace.append, 1)
        loop.call_soon_threadsafe(trace.append, 2)
        loop.call_soon(trace.append, 3)

    loop.call_soon(callback)
    turn(loop, 2)
    assert trace == [1, 2, 3]


def test_called_before_the_run(loop, trace):
    in_thread(loop.call_soon_threadsafe, trace.append, 1)
    loop.call_soon(trace.append, 2)
    turn(loop)
    assert trace == [1, 2]


def test_called_between_runs(loop, trace):
    turn(loop)
    in_thread(loop.call_soon_threadsafe, trace.note(1, loop.stop))
    loop.run_forever()
    assert trace == [1]


def test_callback_that_calls_again_does_not_keep_the_turn(loop, trace):
    def again():
        trace.append(1)
        loop.call_soon_threadsafe(again)

    loop.call_soon_threadsafe(again)
    turn(loop, 3)
    assert trace == [1, 1, 1]


def test_flood_of_several_threads(loop):
    count, threads = 3000, 4
    seen = {n: [] for n in range(threads)}
    finished = []

    def done():
        finished.append(True)
        if len(finished) == threads:
            loop.stop()

    def feed(n):
        for value in range(count):
            loop.call_soon_threadsafe(seen[n].append, value)
        loop.call_soon_threadsafe(done)

    started = [threading.Thread(target=feed, args=(n,)) for n in range(threads)]
    for thread in started:
        loop.call_soon(thread.start)
    loop.run_forever()
    for thread in started:
        thread.join()
    assert all(values == list(range(count)) for values in seen.values())


def test_flood_does_not_starve_timers_and_io(loop, trace):
    stopping = threading.Event()

    def feed():
        while not stopping.is_set():
            loop.call_soon_threadsafe(int)
            time.sleep(0)  # lets the loop's thread have the interpreter

    def stop():
        stopping.set()
        loop.stop()

    thread = threading.Thread(target=feed)
    loop.call_soon(thread.start)
    loop.call_later(0.02, trace.note("timer", stop))
    loop.run_forever()
    thread.join()
    assert trace == ["timer"]


def test_arguments_and_context(loop, trace):
    var = contextvars.ContextVar("var", default="default")

    def callback(*args):
        trace.append((var.get(), args))

    def schedule():
        var.set("thread")
        loop.call_soon_threadsafe(callback, 1, 2)
        loop.call_soon_threadsafe(callback, context=other)

    other = contextvars.copy_context()
    in_thread(schedule)
    turn(loop)
    assert trace == [("thread", (1, 2)), ("default", ())]


def test_handle_is_cancellable(loop, trace):
    handles = []
    in_thread(
        lambda: handles.extend(
            loop.call_soon_threadsafe(trace.append, n) for n in range(3)
        )
    )
    handles[1].cancel()
    turn(loop)
    assert trace == [0, 2]
    assert [handle.cancelled() for handle in handles] == [False, True, False]


def test_cancel_in_another_thread(loop, trace):
    handle = loop.call_soon_threadsafe(trace.append, 1)
    in_thread(handle.cancel)
    turn(loop)
    assert trace == []


def test_cancel_inside_the_callback(loop, trace):
    handles = []
    handles.append(
        loop.call_soon_threadsafe(trace.note(1, lambda: handles[0].cancel()))
    )
    turn(loop)
    assert trace == [1]
    assert handles[0].cancelled()


def test_exception_is_reported(loop):
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))
    handles = [loop.call_soon_threadsafe(lambda: 1 / 0)]
    turn(loop)
    (context,) = caught
    assert context["handle"] is handles[0]
    assert isinstance(context["exception"], ZeroDivisionError)


def test_closed(loop_factory):
    loop = loop_factory()
    loop.close()
    caught = []

    def call():
        try:
            loop.call_soon_threadsafe(print, "never")
        except RuntimeError as exc:
            caught.append(str(exc))

    call()
    in_thread(call)
    assert caught == ["Event loop is closed"] * 2


def test_race_with_close(loop_factory):
    # either accepted or refused with the standard text; never a crash or a hang
    for _ in range(30):
        loop = loop_factory()
        texts = set()
        started = threading.Event()

        def feed(loop=loop, texts=texts, started=started):
            try:
                while True:
                    loop.call_soon_threadsafe(int)
                    started.set()
            except RuntimeError as exc:
                texts.add(str(exc))

        thread = threading.Thread(target=feed)
        thread.start()
        assert started.wait(10)
        turn(loop)
        loop.close()
        thread.join(10)
        assert not thread.is_alive()
        assert texts == {"Event loop is closed"}


def test_pending_callbacks_are_dropped_by_close(loop_factory, trace):
    class Thing:
        pass

    loop = loop_factory()
    thing = Thing()
    gone = weakref.ref(thing)
    in_thread(loop.call_soon_threadsafe, print, thing)
    del thing
    loop.close()
    gc.collect()
    assert gone() is None


def test_called_by_a_destructor_in_a_collection(loop, trace):
    # a collection may start at any allocation, also inside call_soon_threadsafe
    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            loop.call_soon_threadsafe(trace.append, "collected")

    old = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        for _ in range(200):
            Cycle()
            loop.call_soon_threadsafe(int)
        gc.collect()
    finally:
        gc.set_threshold(*old)
    turn(loop)
    assert trace == ["collected"] * 200


def test_called_in_a_signal_handler(loop, trace):
    def on_signal(signum, frame):
        loop.call_soon_threadsafe(trace.note("signal", loop.stop))

    old = signal.signal(signal.SIGUSR1, on_signal)
    try:
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.run_forever()
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert trace == ["signal"]


def test_future_of_another_thread(loop, run):
    async def main():
        future = loop.create_future()
        thread = threading.Thread(
            target=loop.call_soon_threadsafe, args=(future.set_result, 42)
        )
        thread.start()
        result = await future
        thread.join()
        return result

    assert run(main()) == 42


def test_run_coroutine_threadsafe(loop):
    async def work():
        await asyncio.sleep(0)
        return threading.get_ident()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    found = asyncio.run_coroutine_threadsafe(work(), loop).result(10)
    assert found == thread.ident
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_stop_from_another_thread_by_threadsafe(loop):
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    while not loop.is_running():
        time.sleep(0)  # lets the thread start
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert not thread.is_alive()
    assert not loop.is_running()


def test_debug_mode_lets_other_threads_call(loop, trace):
    loop.set_debug(True)
    loop.call_soon(in_thread, loop.call_soon_threadsafe, trace.append, 1)
    turn(loop, 2)
    assert trace == [1]


def test_debug_mode_checks_the_callback(loop):
    async def coro():
        pass

    loop.set_debug(True)
    with pytest.raises(
        TypeError, match=r"^coroutines cannot be used with call_soon_threadsafe\(\)$"
    ):
        loop.call_soon_threadsafe(coro)
    with pytest.raises(
        TypeError,
        match=r"^a callable object was expected by call_soon_threadsafe\(\), got 1$",
    ):
        loop.call_soon_threadsafe(1)


def test_wrong_calls(loop):
    with pytest.raises(TypeError):
        loop.call_soon_threadsafe()
    with pytest.raises(TypeError):
        loop.call_soon_threadsafe(print, unknown=1)
    turn(loop)


# the standard loop is called unsafely here; ours keeps its promise not to crash
@only_asynccore
def test_call_soon_of_another_thread_survives(loop):
    count = 2000
    seen = []

    def feed():
        for n in range(count):
            loop.call_soon(seen.append, n)
            loop.call_later(0, seen.append, n)
        loop.call_soon_threadsafe(check)

    def check():
        if len(seen) < 2 * count:
            loop.call_soon(check)
        else:
            loop.stop()

    thread = threading.Thread(target=feed)
    loop.set_debug(False)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert sorted(seen) == sorted([*range(count)] * 2)


def test_slow_reader_of_the_wake_up_survives_a_full_pipe(loop, trace):
    # far more wake-ups than a socket buffer holds, and nobody reads them meanwhile
    def flood():
        for _ in range(100_000):
            loop.call_soon_threadsafe(int)

    in_thread(flood)
    loop.call_soon_threadsafe(trace.append, "end")
    turn(loop)
    assert trace == ["end"]
