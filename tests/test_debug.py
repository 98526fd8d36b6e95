"""Debug mode: slow callbacks, wrong threads, wrong callbacks, origin of coroutines."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import re
import socket
import sys
import threading
import types
import warnings

import pytest

from support.protocols import Recorder
from support.turns import Trace, turn


@pytest.fixture
def trace():
    return Trace()


@pytest.fixture
def debug_loop(loop):
    """A loop in debug mode to which every callback is slow."""
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    return loop


def work(*args):
    """Does nothing, slowly enough for a limit of 0."""


def test_get_and_set(loop_factory):
    loop = loop_factory()
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False
    loop.close()
    loop.set_debug(True)
    assert loop.get_debug() is True


@pytest.mark.parametrize(("value", "debug"), [("1", True), ("", False)])
def test_environment_sets_debug(script, monkeypatch, value, debug):
    monkeypatch.setenv("PYTHONASYNCIODEBUG", value)
    done = script("""
        loop = new_event_loop()
        print(loop.get_debug())
        loop.close()
    """)
    assert done.stdout == f"{debug}\n"


def test_slow_callback_duration(loop):
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 5
    assert loop.slow_callback_duration == 5
    loop.slow_callback_duration = 0.25
    assert loop.slow_callback_duration == 0.25


KINDS = {
    "ready": lambda loop, sock: loop.call_soon(work, 1),
    "timer": lambda loop, sock: loop.call_at(5, work, 1),
    "threadsafe": lambda loop, sock: loop.call_soon_threadsafe(work, 1),
    "reader": lambda loop, sock: loop.add_reader(sock, work, 1),
    "writer": lambda loop, sock: loop.add_writer(sock, work, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_slow_callback_is_logged(debug_loop, faults, kind):
    a, b = socket.socketpair()
    with a, b:
        b.send(b"x")
        KINDS[kind](debug_loop, a)
        turn(debug_loop)
        debug_loop.remove_reader(a)
        debug_loop.remove_writer(a)
    texts = [text for text in faults.take_log() if "work(1)" in text]
    assert len(texts) == 1
    assert re.fullmatch(
        r"Executing <(TimerHandle when=5|Handle|_ThreadSafeHandle) work\(1\) at .*"
        r" created at .*> took \d\.\d\d\d seconds",
        texts[0],
    )


@pytest.mark.parametrize("given", [True, False])
def test_slow_callback_of_a_protocol_is_logged(debug_loop, faults, given):
    """With a socket of the program's, and with one that the loop has connected."""

    async def main():
        received = asyncio.Event()
        protocol = Recorder(data_received=lambda *_: received.set())
        with socket.create_server(("127.0.0.1", 0)) as server:
            where = {"host": "127.0.0.1", "port": server.getsockname()[1]}
            if given:
                where = {"sock": socket.create_connection(server.getsockname())}
            transport, _ = await debug_loop.create_connection(lambda: protocol, **where)
            peer, _ = server.accept()
            with peer:
                faults.take_log()
                peer.send(b"x")
                await received.wait()
        transport.abort()

    debug_loop.run_until_complete(main())
    texts = [text for text in faults.take_log() if "._read_ready()" in text]
    assert len(texts) == 1
    assert re.match(r"Executing <Handle \w+Transport\._read_ready\(\)", texts[0])


def test_slow_callback_text_is_the_standard_loops(both_factories, faults):
    async def main():
        pass

    def found(factory):
        loop = factory()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0
        asyncio.Task(main(), loop=loop, name="main")
        loop.call_soon(work, 1)
        turn(loop)
        loop.close()
        return [re.sub(r"took [\d.]+", "took", text) for text in faults.take_log()]

    standard, ours = map(found, both_factories)
    assert any("Task" in text and "main" in text for text in standard)
    assert ours == standard


def test_slow_callback_names_the_task(debug_loop, faults):
    async def main():
        await asyncio.sleep(0)

    task = debug_loop.create_task(main(), name="the-slow-one")
    debug_loop.run_until_complete(task)
    texts = [text for text in faults.take_log() if "name='the-slow-one'" in text]
    assert texts
    assert all(text.startswith("Executing <Task ") for text in texts)


def test_slow_callback_that_cannot_be_shown(debug_loop, monkeypatch):
    class Shy:
        def __call__(self):
            pass

        def __repr__(self):
            raise ZeroDivisionError

    # a class that no look-up was cached for
    other = type("module", (types.ModuleType,), {})
    monkeypatch.setattr(asyncio.base_events, "__class__", other)
    debug_loop.slow_callback_duration = 0
    debug_loop.call_soon(Shy())
    with pytest.raises(ZeroDivisionError):
        turn(debug_loop)
    debug_loop.slow_callback_duration = 10


def test_fast_callback_is_not_logged(loop, faults):
    loop.set_debug(True)
    loop.slow_callback_duration = 1000.0
    loop.call_soon(work)
    turn(loop)
    assert faults.take_log() == []


def test_slow_callback_is_not_logged_without_debug(loop, faults):
    loop.set_debug(False)
    loop.slow_callback_duration = 0.0
    loop.call_soon(work)
    turn(loop)
    assert faults.take_log() == []


def test_duration_is_measured_by_loop_time(loop, faults):
    now = 1000.0

    def slow():
        nonlocal now
        now += 5.125

    loop.set_debug(True)
    loop.time = lambda: now
    loop.call_soon(slow)
    loop.call_soon(work)
    turn(loop)
    (text,) = faults.take_log()
    assert "slow()" in text
    assert text.endswith(" took 5.125 seconds")


def test_debug_switched_inside_a_batch(loop, faults):
    loop.slow_callback_duration = 0.0
    loop.set_debug(False)
    loop.call_soon(work, "before")
    loop.call_soon(loop.set_debug, True)
    loop.call_soon(work, "after")
    turn(loop, 2)
    texts = faults.take_log()
    assert not any("before" in text for text in texts)
    assert any("after" in text or "work()" in text for text in texts)


def test_wrong_thread(loop, trace):
    def other_thread():
        for call in (
            lambda: loop.call_soon(work),
            lambda: loop.call_later(1, work),
            lambda: loop.call_at(1, work),
        ):
            try:
                call()
            except RuntimeError as exc:
                trace.append(str(exc))

    def callback():
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()

    loop.set_debug(True)
    loop.call_soon(callback)
    turn(loop)
    text = "Non-thread-safe operation invoked on an event loop other than the "
    assert trace == [text + "current one"] * 3


def test_wrong_thread_is_no_error_while_the_loop_does_not_run(loop, trace):
    loop.set_debug(True)
    thread = threading.Thread(target=loop.call_soon, args=(trace.append, 1))
    thread.start()
    thread.join()
    turn(loop)
    assert trace == [1]


async def coroutine_function():
    pass


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_wrong_callbacks(loop, method):
    loop.set_debug(True)
    call = getattr(loop, method)
    first = () if method == "call_soon" else (1,)
    # call_later is checked by the call_at that it makes
    name = "call_at" if method == "call_later" else method
    coro = coroutine_function()
    for wrong in (coro, coroutine_function):
        with pytest.raises(TypeError) as caught:
            call(*first, wrong)
        assert str(caught.value) == f"coroutines cannot be used with {name}()"
    coro.close()
    with pytest.raises(TypeError) as caught:
        call(*first, "text")
    assert (
        str(caught.value) == f"a callable object was expected by {name}(), got 'text'"
    )


def test_wrong_callback_of_run_in_executor(loop):
    loop.set_debug(True)
    with pytest.raises(
        TypeError, match=r"^coroutines cannot be used with run_in_executor\(\)$"
    ):
        loop.run_in_executor(None, coroutine_function)


def test_override_of_the_checks(loop_factory, trace):
    base = loop_factory()
    base.close()

    class Sub(type(base)):
        def _check_callback(self, callback, method):
            trace.append(method)

    loop = Sub()
    loop.set_debug(True)
    loop.call_soon(work)
    loop.close()
    assert trace == ["call_soon"]


def test_origin_of_coroutines_is_tracked_during_the_run(loop):
    depths = []
    loop.set_debug(True)
    before = sys.get_coroutine_origin_tracking_depth()
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    turn(loop)
    assert depths == [asyncio.constants.DEBUG_STACK_DEPTH]
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_origin_tracking_depth_is_restored(loop):
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        loop.set_debug(True)
        turn(loop)
        assert sys.get_coroutine_origin_tracking_depth() == 3
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


def test_origin_tracking_follows_set_debug_in_a_run(loop):
    depths = []

    def note():
        depths.append(sys.get_coroutine_origin_tracking_depth())

    async def main():
        loop.set_debug(True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        note()
        loop.set_debug(False)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        note()

    loop.set_debug(False)
    loop.run_until_complete(main())
    assert depths == [asyncio.constants.DEBUG_STACK_DEPTH, 0]


def test_never_awaited_coroutine_tells_its_origin(loop):
    async def main():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            coroutine_function()
            gc.collect()
        return [str(warning.message) for warning in caught]

    loop.set_debug(True)
    (text,) = loop.run_until_complete(main())
    assert "Coroutine created at (most recent call last)" in text
    assert "coroutine_function" in text


def test_task_has_a_source_traceback(loop):
    loop.set_debug(True)

    def make():
        return loop.create_task(coroutine_function())

    task = make()
    assert [frame.name for frame in task._source_traceback][-1] == "make"
    loop.run_until_complete(task)


def test_future_has_a_source_traceback(loop):
    loop.set_debug(True)

    def make():
        return loop.create_future()

    names = [frame.name for frame in make()._source_traceback]
    assert "make" in names


def test_current_handle(loop, trace):
    loop.set_debug(True)
    handle = loop.call_soon(lambda: trace.append(loop._current_handle))
    turn(loop)
    assert trace == [handle]
    assert loop._current_handle is None


def test_current_handle_is_reset_by_an_exception(loop):
    def leave():
        raise KeyboardInterrupt

    loop.set_debug(True)
    loop.call_soon(leave)
    with pytest.raises(KeyboardInterrupt):
        turn(loop)
    assert loop._current_handle is None


def test_everything_works_in_debug_mode(loop):
    async def main():
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.setblocking(False)
            await loop.sock_sendall(a, b"data")
            assert await loop.sock_recv(b, 10) == b"data"
        assert await loop.run_in_executor(None, int, "5") == 5
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(10)))
        await loop.shutdown_default_executor()

    loop.set_debug(True)
    loop.run_until_complete(main())


@pytest.mark.parametrize("name", ["getaddrinfo", "getnameinfo"])
def test_slow_name_look_up_is_logged(loop, monkeypatch, caplog, name):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [args])
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    caplog.set_level(logging.INFO, "asyncio")

    async def main():
        found = await loop.getaddrinfo("example.invalid", 80, family=2, type=1)
        await loop.shutdown_default_executor()
        return found

    if name == "getaddrinfo":
        assert loop.run_until_complete(main()) == [("example.invalid", 80, 2, 1, 0, 0)]
        texts = [record.getMessage() for record in caplog.records]
        assert any(
            text.startswith(
                "Getting address info example.invalid:80, family=2, type=1 took "
            )
            for text in texts
        )
    else:
        found = loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80), 1 | 2))
        assert found == ("127.0.0.1", "80")
        loop.run_until_complete(loop.shutdown_default_executor())


def test_creation_is_logged_once(loop_factory, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")
    loop = loop_factory()
    loop.close()
    texts = [record.getMessage() for record in caplog.records]
    assert len([text for text in texts if text.startswith("Using ")]) == 1


def test_close_is_logged(loop_factory, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")
    loop = loop_factory()
    loop.set_debug(True)
    loop.close()
    texts = [record.getMessage() for record in caplog.records]
    assert len([text for text in texts if text.startswith("Close <")]) == 1


def test_executor_call_in_debug_mode(loop):
    loop.set_debug(True)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert loop.run_until_complete(loop.run_in_executor(pool, int, "7")) == 7


def test_cancelled_callback_is_not_slow(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    loop.call_soon(int).cancel()
    loop._run_once()
    assert [text for text in caplog.messages if "took" in text] == []
