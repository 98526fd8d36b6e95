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


# ------------------------------------------------- the lock of the handle, from 3.14 --

with_lock = pytest.mark.skipif(
    not hasattr(asyncio.events, "_ThreadSafeHandle"), reason="a class of 3.14"
)
both_modes = pytest.mark.parametrize("debug", [False, True])
ASKS = {
    "cancel": lambda handle: handle.cancel(),
    "cancelled": lambda handle: handle.cancelled(),
    "lock": lambda handle: handle._lock.acquire() and handle._lock.release(),
    "run": lambda handle: handle._run(),
}
each_way = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)


class Asker:
    """Uses a handle in another thread."""

    def __init__(self, ask):
        self.done = threading.Event()
        self.ask = ask
        self.began = threading.Event()

    def start(self, handle):
        self.thread = threading.Thread(target=self.run, args=(handle,))
        self.thread.start()
        assert self.began.wait(10)

    def run(self, handle):
        self.began.set()
        self.ask(handle)
        self.done.set()

    def waits(self):
        return not self.done.wait(0.05)

    def end(self):
        self.thread.join(10)
        return self.done.is_set()


@with_lock
@both_modes
@each_way
def test_other_threads_wait_for_the_end_of_the_callback(loop, trace, debug, ask):
    loop.set_debug(debug)
    loop.slow_callback_duration = 60
    asker = Asker(ask)

    def callback():
        trace.append("run")
        if len(trace) == 1:
            asker.start(handle)
            trace.append(asker.waits())

    handle = loop.call_soon_threadsafe(callback)
    turn(loop)
    assert asker.end()
    assert trace[:2] == ["run", True]


@with_lock
@both_modes
@each_way
def test_other_threads_wait_for_who_holds_the_lock(loop, debug, ask):
    loop.set_debug(debug)
    handle = loop.call_soon_threadsafe(int)
    asker = Asker(ask)
    with handle._lock:
        asker.start(handle)
        assert asker.waits()
    assert asker.end()


@with_lock
@both_modes
def test_the_loop_waits_for_the_lock(loop, trace, debug):
    # and looks again whether the handle is cancelled, when it has it
    loop.set_debug(debug)
    loop.slow_callback_duration = 60
    handle = loop.call_soon_threadsafe(trace.append, 1)
    held, freed = threading.Event(), threading.Event()

    def hold():
        with handle._lock:
            held.set()
            freed.wait(0.05)  # nothing can set it while the loop waits
            trace.append("cancel")
            handle.cancel()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    loop.call_soon(freed.set)
    loop.call_soon(trace.append, 2)
    turn(loop)
    thread.join()
    assert trace == ["cancel", 2]
    assert handle.cancelled()


@with_lock
def test_the_loop_does_not_wait_to_pass_over_a_cancelled_handle(loop, trace):
    handle = loop.call_soon_threadsafe(trace.append, 1)
    handle.cancel()
    held, ran = threading.Event(), threading.Event()

    def hold():
        with handle._lock:
            held.set()
            ran.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    loop.call_soon(ran.set)
    turn(loop)
    assert ran.is_set()
    thread.join()
    assert trace == []


@with_lock
def test_lock_is_held_by_the_one_who_runs(loop, trace):
    def callback():
        lock = handle._lock
        trace.append(lock._is_owned())
        in_thread(lambda: trace.append(lock.acquire(blocking=False)))
        with lock:  # it is recursive
            trace.append(handle.cancelled())
        trace.append(handle._lock is lock)
        trace.append(lock._is_owned())

    handle = loop.call_soon_threadsafe(callback)
    turn(loop)
    assert trace == [True, False, False, True, True]
    assert not handle._lock._is_owned()
    assert handle._lock.acquire(blocking=False)
    handle._lock.release()


@with_lock
def test_lock_is_held_while_an_exception_is_reported(loop, trace):
    def report(loop, context):
        trace.append(context["handle"]._lock._is_owned())

    loop.set_exception_handler(report)
    handle = loop.call_soon_threadsafe(lambda: 1 / 0)
    turn(loop)
    assert trace == [True]
    assert not handle._lock._is_owned()


@with_lock
def test_lock_is_held_while_the_callback_is_forgotten(loop, trace):
    class Callback:
        def __call__(self):
            pass

        def __del__(self):
            trace.append(handle._lock._is_owned())

    handle = loop.call_soon_threadsafe(Callback())
    handle.cancel()
    gc.collect()
    assert trace == [True]
    assert not handle._lock._is_owned()


@with_lock
def test_lock_is_an_rlock_of_the_handle(loop):
    handles = [loop.call_soon_threadsafe(int) for _ in range(3)]
    locks = [handle._lock for handle in handles]
    assert all(type(lock) is type(threading.RLock()) for lock in locks)
    assert [handle._lock for handle in handles] == locks
    assert len(set(locks)) == 3


@with_lock
def test_lock_that_stays_held_is_not_the_next_handles(loop, trace):
    # handles may come from a freelist
    for n in range(5):
        handle = loop.call_soon_threadsafe(trace.append, n)
        handle._lock.acquire()
        turn(loop)
        del handle
        handle = loop.call_soon_threadsafe(trace.append, "never")
        in_thread(handle.cancel)
        del handle
        turn(loop)
    assert trace == [0, 1, 2, 3, 4]


@with_lock
@pytest.mark.parametrize("fails", [False, True])
def test_lock_that_the_callback_releases_ends_the_run(loop, fails):
    def callback():
        handle._lock.release()
        if fails:
            raise KeyboardInterrupt

    handle = loop.call_soon_threadsafe(callback)
    with pytest.raises(RuntimeError, match="un-acquired lock") as caught:
        turn(loop)
    context = caught.value.__context__
    assert isinstance(context, KeyboardInterrupt) if fails else context is None
    turn(loop)


@with_lock
def test_waiting_is_interrupted_by_a_signal(loop):
    came = []

    def on_signal(signum, frame):
        came.append(signum)
        if len(came) == 1:
            raise LookupError("signal")

    handle = loop.call_soon_threadsafe(int)
    held, waits, over = threading.Event(), threading.Event(), threading.Event()

    def hold():
        with handle._lock:
            held.set()
            waits.wait(10)
            while not over.wait(0.01):  # one may come just before cancel() waits
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    old = signal.signal(signal.SIGUSR1, on_signal)
    thread = threading.Thread(target=hold)
    try:
        thread.start()
        assert held.wait(10)
        with pytest.raises(LookupError, match="signal"):
            waits.set()
            handle.cancel()
    finally:
        waits.set()
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, old)
    assert handle.cancelled() is False
    turn(loop)


@with_lock
@pytest.mark.parametrize("name", ["__init__", "_run", "cancel", "cancelled"])
@pytest.mark.parametrize("of", ["Handle", "_ThreadSafeHandle"])
def test_patched_class(loop, trace, monkeypatch, of, name):
    kind = getattr(asyncio.events, of)
    original = getattr(kind, name)

    def patched(self, *args):
        if isinstance(self, asyncio.events._ThreadSafeHandle):  # not the self-pipe's
            trace.append(name)
        return original(self, *args)

    def use():
        handle = loop.call_soon_threadsafe(trace.append, "run")
        turn(loop)
        handle.cancelled()
        handle.cancel()

    use()
    monkeypatch.setattr(kind, name, patched)
    use()
    monkeypatch.undo()
    use()
    changed = [name, "run"] if name in ("__init__", "_run") else ["run", name]
    assert trace == ["run", *changed, "run"]


@with_lock
def test_run_patched_between_the_call_and_the_run(loop, trace, monkeypatch):
    kind = asyncio.events._ThreadSafeHandle
    original = kind._run

    def _run(self):
        trace.append("patched")
        return original(self)

    loop.call_soon_threadsafe(trace.append, 1)
    loop.call_soon(monkeypatch.setattr, kind, "_run", _run)
    loop.call_soon_threadsafe(trace.append, 2)
    loop.call_soon(monkeypatch.undo)
    loop.call_soon_threadsafe(trace.append, 3)
    turn(loop)
    assert trace == [1, "patched", 2, 3]


@with_lock
@both_modes
def test_replaced_class(loop, trace, monkeypatch, debug):
    class Replaced(asyncio.events._ThreadSafeHandle):
        __slots__ = ()

        def __init__(self, *args):
            trace.append(args[1:])
            super().__init__(*args)

        def cancel(self):
            trace.append("cancel")
            super().cancel()

    loop.set_debug(debug)
    context = contextvars.copy_context()
    monkeypatch.setattr(asyncio.events, "_ThreadSafeHandle", Replaced)
    handle = loop.call_soon_threadsafe(trace.append, 1, context=context)
    assert type(handle) is Replaced
    handle.cancel()
    loop.call_soon_threadsafe(trace.append, 2)
    turn(loop)
    assert trace == [((1,), loop, context), "cancel", ((2,), loop, None), 2]
    monkeypatch.delattr(asyncio.events, "_ThreadSafeHandle")
    with pytest.raises(AttributeError, match="_ThreadSafeHandle"):
        loop.call_soon_threadsafe(trace.append, 3)
    turn(loop)


@with_lock
def test_name_of_the_class(loop):
    loop.set_debug(False)  # else the repr tells the source
    handle = loop.call_soon_threadsafe(print)
    assert type(handle).__name__ == "_ThreadSafeHandle"
    assert repr(handle) == "<_ThreadSafeHandle print()>"
    turn(loop)


@with_lock
@only_asynccore  # C code would read what is assigned
def test_lock_cannot_be_taken_from_the_handle(loop):
    handle = loop.call_soon_threadsafe(print)
    lock = handle._lock
    with pytest.raises(AttributeError):
        handle._lock = threading.RLock()
    with pytest.raises(AttributeError):
        del handle._lock
    assert handle._lock is lock
    handle.cancel()


@with_lock
@only_asynccore
def test_lock_of_a_patched_threading_module(loop, monkeypatch):
    monkeypatch.setattr(threading, "RLock", threading._PyRLock)
    handle = loop.call_soon_threadsafe(print)
    assert not isinstance(handle._lock, threading._PyRLock)
    handle.cancel()
