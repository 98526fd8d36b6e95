"""add_signal_handler and remove_signal_handler, the wake-up fd, KeyboardInterrupt."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref

import pytest

from conftest import open_fds
from support import looped
from support.interpreter import FREE_THREADED
from support.turns import Trace, turn

SIGNAL = signal.SIGUSR1


@pytest.fixture
def trace():
    return Trace()


@pytest.fixture(autouse=True)
def restored_signals():
    """Every test leaves the handlers and the wake-up fd as they were."""
    before = {number: signal.getsignal(number) for number in (SIGNAL, signal.SIGUSR2)}
    yield
    assert wakeup_fd() == -1
    for number, handler in before.items():
        assert signal.getsignal(number) == handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def wakeup_fd():
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


def test_handler_runs(loop, trace):
    loop.add_signal_handler(SIGNAL, trace.note("signal", loop.stop))
    signal.raise_signal(SIGNAL)
    loop.run_forever()
    assert trace == ["signal"]
    assert loop.remove_signal_handler(SIGNAL) is True


def test_arguments(loop, trace):
    loop.add_signal_handler(
        SIGNAL, lambda *args: (trace.append(args), loop.stop()), 1, 2
    )
    loop.call_soon(signal.raise_signal, SIGNAL)
    loop.run_forever()
    assert trace == [(1, 2)]
    loop.remove_signal_handler(SIGNAL)


def test_return_values(loop):
    assert loop.remove_signal_handler(SIGNAL) is False
    assert loop.add_signal_handler(SIGNAL, print) is None
    assert loop.remove_signal_handler(SIGNAL) is True
    assert loop.remove_signal_handler(SIGNAL) is False


def test_handler_is_not_run_inside_the_signal(loop, trace):
    def callback():
        signal.raise_signal(SIGNAL)
        trace.append("callback")

    loop.add_signal_handler(SIGNAL, trace.note("signal", loop.stop))
    loop.call_soon(callback)
    loop.run_forever()
    assert trace == ["callback", "signal"]
    loop.remove_signal_handler(SIGNAL)


def test_signal_of_another_process_wakes_an_idle_loop(loop, trace):
    loop.add_signal_handler(SIGNAL, trace.note("signal", loop.stop))
    code = "import os, sys; sys.stdin.read(1); os.kill(os.getppid(), int(sys.argv[1]))"
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", code, str(int(SIGNAL))], stdin=subprocess.PIPE
    )
    loop.call_soon(child.stdin.close)  # the loop waits when the signal comes
    loop.run_forever()
    assert child.wait() == 0
    assert trace == ["signal"]
    loop.remove_signal_handler(SIGNAL)


def test_replacement(loop, trace):
    loop.add_signal_handler(SIGNAL, trace.append, "first")
    loop.add_signal_handler(SIGNAL, trace.note("second", loop.stop))
    signal.raise_signal(SIGNAL)
    loop.run_forever()
    assert trace == ["second"]
    assert loop.remove_signal_handler(SIGNAL) is True
    assert loop.remove_signal_handler(SIGNAL) is False


def test_several_signals(loop, trace):
    loop.add_signal_handler(SIGNAL, trace.append, 1)
    loop.add_signal_handler(signal.SIGUSR2, trace.note(2, loop.stop))
    signal.raise_signal(SIGNAL)
    signal.raise_signal(signal.SIGUSR2)
    loop.run_forever()
    assert trace == [1, 2]
    loop.remove_signal_handler(SIGNAL)
    signal.raise_signal(signal.SIGUSR2)
    turn(loop, 2)
    assert trace == [1, 2, 2]
    loop.remove_signal_handler(signal.SIGUSR2)


@looped
async def test_handler_runs_in_the_turn_of_the_standard_loop():
    loop = asyncio.get_running_loop()
    trace = Trace()
    loop.add_signal_handler(signal.SIGUSR1, trace.append, "signal")
    for _ in range(20):
        signal.raise_signal(signal.SIGUSR1)
        for _ in range(3):
            assert trace == []
            await asyncio.sleep(0)
        assert trace == ["signal"]
        trace.clear()
    loop.remove_signal_handler(signal.SIGUSR1)


def test_burst(loop, trace):
    loop.add_signal_handler(SIGNAL, trace.append, 1)
    for _ in range(10):
        signal.raise_signal(SIGNAL)
    turn(loop, 3)
    assert len(trace) == 10
    loop.remove_signal_handler(SIGNAL)


def test_removed_before_it_runs(loop, trace):
    loop.add_signal_handler(SIGNAL, trace.append, "never")
    signal.raise_signal(SIGNAL)
    loop.remove_signal_handler(SIGNAL)
    turn(loop, 2)
    assert trace == []


def test_removed_by_itself(loop, trace):
    loop.add_signal_handler(
        SIGNAL, trace.note(1, lambda: loop.remove_signal_handler(SIGNAL), loop.stop)
    )
    signal.raise_signal(SIGNAL)
    loop.run_forever()
    assert trace == [1]
    assert loop.remove_signal_handler(SIGNAL) is False


def test_signal_while_the_loop_does_not_run(loop, trace):
    loop.add_signal_handler(SIGNAL, trace.append, 1)
    signal.raise_signal(SIGNAL)
    assert trace == []
    turn(loop, 2)
    assert trace == [1]
    loop.remove_signal_handler(SIGNAL)


def test_exception_is_reported(loop):
    caught = []

    def handler(loop, context):
        caught.append(context)
        loop.stop()

    loop.set_exception_handler(handler)
    loop.add_signal_handler(SIGNAL, lambda: 1 / 0)
    signal.raise_signal(SIGNAL)
    loop.run_forever()
    assert isinstance(caught[0]["exception"], ZeroDivisionError)
    loop.remove_signal_handler(SIGNAL)


def test_disposition_is_restored(loop):
    old = signal.signal(SIGNAL, signal.SIG_IGN)
    loop.add_signal_handler(SIGNAL, print)
    assert signal.getsignal(SIGNAL) is not signal.SIG_IGN
    loop.remove_signal_handler(SIGNAL)
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL
    signal.signal(SIGNAL, old)


def test_sigint_gets_its_python_handler_back(loop):
    loop.add_signal_handler(signal.SIGINT, print)
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_wake_up_fd_from_the_first_to_the_last_handler(loop):
    assert wakeup_fd() == -1
    loop.add_signal_handler(SIGNAL, print)
    assert wakeup_fd() != -1
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.remove_signal_handler(SIGNAL)
    assert wakeup_fd() != -1
    turn(loop)
    assert wakeup_fd() != -1
    loop.remove_signal_handler(signal.SIGUSR2)
    assert wakeup_fd() == -1


def test_close_removes_the_handlers(loop_factory):
    loop = loop_factory()
    loop.add_signal_handler(SIGNAL, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert wakeup_fd() == -1
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_close_that_fails_in_another_thread_leaves_no_descriptor(loop_factory):
    before = open_fds()
    loop = loop_factory()
    loop.add_signal_handler(SIGNAL, print)
    turn(loop)
    failures = []

    def close():
        try:
            loop.close()
        except ValueError as exc:
            failures.append(str(exc))

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    signal.set_wakeup_fd(-1)
    signal.signal(SIGNAL, signal.SIG_DFL)
    assert len(failures) == 1
    assert loop.is_closed()
    assert open_fds() == before


def test_foreign_wake_up_fd_is_back_after_a_run(loop):
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        signal.set_wakeup_fd(a.fileno(), warn_on_full_buffer=False)
        try:
            turn(loop)
            assert wakeup_fd() == a.fileno()
        finally:
            signal.set_wakeup_fd(-1)


def test_abandoned_loop_gives_the_wake_up_fd_back(loop_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = loop_factory()
        loop.add_signal_handler(SIGNAL, int)
        ref = weakref.ref(loop)
        del loop
        gc.collect()
        assert ref() is None
    assert wakeup_fd() == -1


@pytest.mark.parametrize("wrong", [None, "SIGINT", 1.5, object()], ids=repr)
def test_wrong_types(both_factories, wrong):
    def found(factory):
        loop = factory()
        results = []
        for call in (
            lambda: loop.add_signal_handler(wrong, print),
            lambda: loop.remove_signal_handler(wrong),
        ):
            with pytest.raises(TypeError) as caught:
                call()
            results.append(str(caught.value))
        loop.close()
        return results

    standard, ours = map(found, both_factories)
    assert ours == standard


@pytest.mark.parametrize("wrong", [-1, 0, signal.NSIG, signal.NSIG + 100, 2**40])
def test_wrong_numbers(both_factories, wrong):
    def found(factory):
        loop = factory()
        with pytest.raises((ValueError, RuntimeError)) as caught:
            loop.add_signal_handler(wrong, print)
        loop.close()
        return type(caught.value), str(caught.value)

    standard, ours = map(found, both_factories)
    assert ours == standard


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_signals_that_nobody_catches(loop, number):
    with pytest.raises(RuntimeError, match=f"^sig {int(number)} cannot be caught$"):
        loop.add_signal_handler(number, print)
    assert wakeup_fd() == -1
    assert loop.remove_signal_handler(number) is False


def test_coroutine_is_refused(loop):
    async def coroutine_function():
        pass

    coro = coroutine_function()
    for wrong in (coro, coroutine_function):
        with pytest.raises(
            TypeError, match=r"^coroutines cannot be used with add_signal_handler\(\)$"
        ):
            loop.add_signal_handler(SIGNAL, wrong)
    coro.close()


def test_only_in_the_main_thread(loop_factory, trace):
    def other_thread():
        loop = loop_factory()
        try:
            loop.add_signal_handler(SIGNAL, print)
        except RuntimeError as exc:
            trace.append(str(exc))
        turn(loop)
        loop.close()

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    assert len(trace) == 1
    assert "main thread" in trace[0]


def test_loop_in_a_thread_leaves_the_wake_up_fd_alone(loop_factory, trace):
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        signal.set_wakeup_fd(a.fileno(), warn_on_full_buffer=False)

        def other_thread():
            loop = loop_factory()
            turn(loop)
            loop.close()

        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
        assert wakeup_fd() == a.fileno()
        signal.set_wakeup_fd(-1)


def test_python_handler_runs_while_the_loop_waits(loop, trace):
    # signal.signal, not add_signal_handler: the handler runs at once, also when idle
    def on_signal(signum, frame):
        trace.append("handler")
        loop.stop()
        loop.call_soon_threadsafe(int)

    old = signal.signal(SIGNAL, on_signal)
    try:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), SIGNAL))
        loop.call_soon(timer.start)
        guard = loop.call_later(30, loop.stop)
        start = loop.time()
        loop.run_forever()
        assert loop.time() - start < 20
        guard.cancel()
        timer.join()
    finally:
        signal.signal(SIGNAL, old)
    assert trace == ["handler"]


def test_python_handler_that_raises_ends_the_run(loop):
    class Leave(Exception):
        pass

    def on_signal(signum, frame):
        raise Leave

    old = signal.signal(SIGNAL, on_signal)
    try:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), SIGNAL))
        loop.call_soon(timer.start)
        guard = loop.call_later(30, loop.stop)
        with pytest.raises(Leave):
            loop.run_forever()
        guard.cancel()
        timer.join()
    finally:
        signal.signal(SIGNAL, old)
    assert not loop.is_running()
    turn(loop)


@pytest.mark.skipif(FREE_THREADED, reason="a thread has to keep the loop from running")
def test_python_handler_that_raises_behind_the_poll(loop, trace):
    # the loop has seen that the timer is due, but not the signal yet
    class Leave(Exception):
        pass

    def on_signal(signum, frame):
        raise Leave

    def other_thread():
        waits.wait()  # gets the GIL when the loop waits, and keeps it
        while time.monotonic() < end:
            pass
        os.kill(os.getpid(), SIGNAL)

    waits = threading.Event()
    end = time.monotonic() + 0.2
    thread = threading.Thread(target=other_thread)
    old = signal.signal(SIGNAL, on_signal)
    interval = sys.getswitchinterval()
    thread.start()
    try:
        sys.setswitchinterval(10)
        loop.call_soon(waits.set)
        loop.call_later(0.05, trace.note("timer", loop.stop))
        guard = loop.call_later(30, loop.stop)
        with pytest.raises(Leave):
            loop.run_forever()
        assert trace == []
        loop.run_forever()
        guard.cancel()
    finally:
        sys.setswitchinterval(interval)
        signal.signal(SIGNAL, old)
        thread.join()
    assert trace == ["timer"]


def test_keyboard_interrupt_of_an_idle_loop(loop):
    # of all things that a loop does in C, waiting must let Ctrl-C through
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    loop.call_soon(timer.start)
    guard = loop.call_later(30, loop.stop)
    start = loop.time()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert loop.time() - start < 20
    guard.cancel()
    timer.join()
    assert not loop.is_running()


def test_keyboard_interrupt_of_a_busy_loop(loop):
    def spin():
        loop.call_soon(spin)

    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    loop.call_soon(spin)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    timer.join()


def test_keyboard_interrupt_in_run_until_complete(loop):
    async def main():
        await asyncio.sleep(30)

    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    task = loop.create_task(main())
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    timer.join()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_keyboard_interrupt_in_asyncio_runner(loop_factory, trace):
    # the runner turns the first Ctrl-C into a cancellation of the main task
    async def main():
        timer.start()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            trace.append("cancelled")
            raise

    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    with (
        asyncio.Runner(loop_factory=loop_factory) as runner,
        pytest.raises(KeyboardInterrupt),
    ):
        runner.run(main())
    timer.join()
    assert trace == ["cancelled"]


def test_loop_handler_with_a_python_handler_of_another_signal(loop, trace):
    old = signal.signal(signal.SIGUSR2, lambda *args: trace.append("python"))
    try:
        loop.add_signal_handler(SIGNAL, trace.append, "loop")
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(SIGNAL)
        turn(loop, 2)
        assert trace == ["python", "loop"]
        loop.remove_signal_handler(SIGNAL)
    finally:
        signal.signal(signal.SIGUSR2, old)


def test_system_calls_are_restarted(loop):
    # SA_RESTART: a handler of the loop does not interrupt blocking calls elsewhere
    loop.add_signal_handler(SIGNAL, int)
    r, w = os.pipe()
    timer = threading.Timer(
        0.05, lambda: (os.kill(os.getpid(), SIGNAL), os.write(w, b"x"))
    )
    timer.start()
    assert os.read(r, 1) == b"x"
    timer.join()
    os.close(r)
    os.close(w)
    turn(loop)
    loop.remove_signal_handler(SIGNAL)


def test_child_signal_stays_free(loop):
    # the loop itself takes no SIGCHLD
    before = signal.getsignal(signal.SIGCHLD)
    turn(loop)
    assert signal.getsignal(signal.SIGCHLD) is before


def test_second_loop_takes_over(loop_factory, trace):
    first, second = loop_factory(), loop_factory()
    first.add_signal_handler(SIGNAL, trace.append, "first")
    second.add_signal_handler(SIGNAL, trace.append, "second")
    signal.raise_signal(SIGNAL)
    turn(second, 2)
    assert trace == ["second"]
    second.close()
    first.close()
    signal.set_wakeup_fd(-1)


@pytest.mark.parametrize("first_closed", [0, 1])
@pytest.mark.parametrize("runs", [(0,), (1,), (1, 0), (0, 1), (1, 0, 1), (0, 1, 0, 1)])
def test_loops_that_take_turns_leave_nothing_behind(loop_factory, runs, first_closed):
    # in a process of pytest: a loop of the session, and one of each test
    loops = [loop_factory(), loop_factory()]
    for loop in loops:
        loop.add_signal_handler(SIGNAL, int)
    for index in runs:
        loops[index].run_until_complete(asyncio.sleep(0.001))
    for loop in (loops[first_closed], loops[1 - first_closed]):
        loop.close()
        fd = wakeup_fd()
        assert fd == -1 or os.fstat(fd)
    # the fixture: none is set any more


def test_turn_by_hand_leaves_the_wake_up_fd_alone(loop):
    loop.call_later(0.001, int)
    loop._run_once()
    assert wakeup_fd() == -1


def test_loop_closed_in_the_run_of_another(loop, loop_factory):
    # the wake-up fd of the closed one is not put back at the end
    other = loop_factory()
    other.call_later(0.001, int)
    other._run_once()
    loop.call_later(0.001, other.close)
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert wakeup_fd() == -1


def test_wake_up_fd_taken_away_during_a_run(loop, loop_factory, trace):
    # removing the last handler of any loop sets -1
    if loop_factory is not asyncio.SelectorEventLoop and sys.version_info < (3, 13):
        pytest.skip("too slow to be looked at before each wait")

    def on_signal(signum, frame):
        trace.append("handler")
        loop.call_soon_threadsafe(loop.stop)

    old = signal.signal(SIGNAL, on_signal)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), SIGNAL))
    other = loop_factory()
    other.add_signal_handler(signal.SIGUSR2, int)
    try:
        loop.call_later(0.001, other.close)
        loop.call_later(0.002, timer.start)
        guard = loop.call_later(30, loop.stop)
        start = loop.time()
        loop.run_forever()
        assert loop.time() - start < 20
        guard.cancel()
        timer.join()
    finally:
        signal.signal(SIGNAL, old)
    assert trace == ["handler"]


@pytest.mark.parametrize("waited", [False, True], ids=["", "waited"])
def test_keyboard_interrupt_without_a_free_descriptor(loop, waited):
    if waited:
        loop.run_until_complete(asyncio.sleep(0.001))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    guard = loop.call_later(30, loop.stop)
    start = loop.time()
    timer.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert loop.time() - start < 20
    guard.cancel()
    timer.join()


def keep_busy(loop, seconds=30.0):
    """A callback a turn, and a descriptor to watch: the loop polls and never waits."""
    left, right = socket.socketpair()
    loop.add_reader(left, int)
    end = loop.time() + seconds

    def turn_by_turn():
        if loop.time() > end:
            loop.stop()
        else:
            loop.call_soon(turn_by_turn)

    loop.call_soon(turn_by_turn)

    def end_it():
        loop.remove_reader(left)
        left.close()
        right.close()

    return end_it


def test_handler_of_a_loop_that_never_waits(loop, trace):
    end = keep_busy(loop)
    loop.add_signal_handler(SIGNAL, trace.note("signal", loop.stop))
    loop.call_later(0.01, os.kill, os.getpid(), SIGNAL)
    loop.run_forever()
    assert trace == ["signal"]
    loop.remove_signal_handler(SIGNAL)
    end()


def test_foreign_wake_up_fd_of_a_loop_that_never_waits(loop, trace):
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    former = signal.signal(SIGNAL, lambda *_: trace.append("python"))
    loop.call_later(0.001, loop.stop)
    loop.run_forever()  # a loop that has waited once has a descriptor of its own
    end = keep_busy(loop)

    def look():
        with contextlib.suppress(BlockingIOError):
            trace.append(os.read(readable, 1))
            loop.stop()
            return
        loop.call_later(0.001, look)

    loop.call_later(0.01, os.kill, os.getpid(), SIGNAL)
    loop.call_later(0.02, look)
    loop.call_soon(loop.call_later, 0.005, int)
    loop.run_forever()
    assert trace == ["python", bytes([SIGNAL])]
    end()
    signal.set_wakeup_fd(-1)
    signal.signal(SIGNAL, former)
    os.close(readable)
    os.close(writable)


def test_handle_of_a_signal_that_is_cancelled_by_itself(loop, trace):
    handles = []
    loop.set_debug(False)  # else a handle tells where it was made
    loop.set_exception_handler(
        lambda loop, context: trace.append((context["message"], *context))
    )

    def callback(*args):
        for handle in handles:
            handle.cancel()
        raise LookupError("expected")

    # what add_signal_handler() makes
    for args in ((), (1, 2)):
        handles.append(asyncio.Handle(callback, args, loop))
        loop._add_callback(handles[-1])
        turn(loop)
    keys = ("message", "exception", "handle")
    assert trace == [("Exception in callback None()", *keys)] * 2
    loop._add_callback(handles[0])
    turn(loop)
    assert len(trace) == 2


def test_handles_of_the_standard_class(loop, trace):
    # whatever its members are, it is run as by Handle._run
    class Sub(asyncio.Handle):
        def _run(self):
            trace.append("own _run")

    context = contextvars.copy_context()
    variable = contextvars.ContextVar("variable")
    context.run(variable.set, "inside")
    handles = [
        asyncio.Handle(trace.append, (1,), loop),
        asyncio.Handle(lambda: trace.append(variable.get()), (), loop, context),
        asyncio.Handle(trace.append, [2], loop),
        Sub(trace.append, (3,), loop),
        asyncio.Handle(trace.append, "4", loop),
    ]
    for handle in handles:
        loop._add_callback(handle)
    turn(loop)
    assert trace == [1, "inside", 2, "own _run", "4"]


def test_handle_of_the_standard_class_reports_to_its_own_loop(loop, trace):
    class Other:
        def get_debug(self):
            return False

        def call_exception_handler(self, context):
            trace.append(type(context["exception"]))

    loop._add_callback(asyncio.Handle(int, ("x",), Other()))
    turn(loop)
    assert trace == [ValueError]
