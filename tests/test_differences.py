"""Differences from the standard loop that are meant: docs/compatibility.md.

Each test states what both loops do. Those that need more than a few lines stand in the
file of their subject, and the page names them there.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import gc
import inspect
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import threading
import warnings
from typing import Any

import pytest

import asynccore
from support import (
    Recorder,
    certificates,
    looped,
    only_asynccore,
    outcome,
    wire,
)
from support.streams import streams


@pytest.fixture
def both(both_factories: Any) -> Any:
    """Calls a function with a new loop of each kind; the standard's result first."""

    def both(scenario: Any) -> tuple[Any, Any]:
        results = []
        for factory in both_factories:
            loop = factory()
            try:
                results.append(scenario(loop))
            finally:
                loop.close()
        return results[0], results[1]

    return both


def peer_sees(loop: asyncio.AbstractEventLoop, cork: bool | None = None) -> bytes:
    """What a blocking peer finds right after write(), before the callback returns."""
    if cork is not None and isinstance(loop, asynccore.Loop):
        loop.cork = cork
    ours, peer = socket.socketpair()

    async def main() -> bytes:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.write(b"x")
        try:
            return peer.recv(10)
        except BlockingIOError:
            return b""
        finally:
            transport.abort()
            await asyncio.sleep(0)

    with peer:
        peer.setblocking(False)
        return loop.run_until_complete(main())


def test_peer_read_within_the_callback_that_wrote(both: Any) -> None:
    assert both(peer_sees) == (b"x", b"")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("cork", [True, False])
def test_process_that_ends_within_the_callback_that_wrote(
    both_factories: Any, cork: bool
) -> None:
    def child(factory: Any, sock: socket.socket) -> None:
        loop = factory()
        loop.cork = cork

        async def main() -> None:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
            transport.write(b"x")
            os._exit(0)

        loop.run_until_complete(main())

    seen = []
    for factory in both_factories:
        here, peer = socket.socketpair()
        with here, peer:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # threads
                pid = os.fork()
            if pid == 0:
                try:
                    child(factory, here)
                finally:
                    os._exit(1)
            here.close()
            peer.settimeout(20)
            seen.append(peer.recv(10))
            assert os.waitpid(pid, 0)[1] == 0
    assert seen == [b"x", b"" if cork else b"x"]


@pytest.mark.parametrize("again", [True, False])
def test_socket_shut_down_in_the_callback_that_wrote(both: Any, again: bool) -> None:
    def scenario(loop: Any) -> bytes:
        async def main() -> bytes:
            protocol = Recorder()
            async with wire(protocol) as held:
                sock = held.transport.get_extra_info("socket")
                held.transport.write(b"x")
                if again:
                    sock = held.transport.get_extra_info("socket")
                sock.shutdown(socket.SHUT_WR)
                return await held.peer.recv_all()

        return bytes(loop.run_until_complete(main()))

    assert both(scenario) == (b"x", b"x" if again else b"")


def test_cork_switched_off(both: Any) -> None:
    assert both(lambda loop: peer_sees(loop, cork=False)) == (b"x", b"x")
    assert both(lambda loop: peer_sees(loop, cork=True)) == (b"x", b"")


def test_call_at_refuses_at_once(both: Any) -> None:
    def scenario(loop: Any) -> str:
        try:
            loop.call_at("soon", print)
        except TypeError:
            return "call_at"
        loop.call_soon(loop.stop)
        with pytest.raises(TypeError):
            loop.run_forever()
        return "run_forever"

    assert both(scenario) == ("run_forever", "call_at")


def test_event_that_an_exception_has_left_over(both: Any) -> None:
    def scenario(loop: Any) -> list[int]:
        counts: list[int] = []

        def leave() -> None:
            raise KeyboardInterrupt

        here, there = socket.socketpair()
        there.close()  # so the other one is ready to be read
        with here:
            loop.add_reader(here, counts.append, 1)
            loop.call_soon(leave)
            with pytest.raises(KeyboardInterrupt):
                loop.run_forever()
            assert counts == []
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.remove_reader(here)
        return counts

    assert both(scenario) == ([1, 1], [1])


def test_writelines_after_the_end(both: Any) -> None:
    def scenario(loop: Any) -> tuple[str, Any]:
        async def main() -> tuple[str, Any]:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            transport.abort()
            await asyncio.sleep(0)
            return outcome(transport.writelines, [b"x"])

        ours, peer = socket.socketpair()
        with peer:
            found: tuple[str, Any] = loop.run_until_complete(main())
            return found

    standard, ours = both(scenario)
    assert ours == ("returned", None)
    assert standard == ours or standard[0] == "AttributeError"


def test_many_equal_times(both: Any) -> None:
    def scenario(loop: Any) -> list[int]:
        order: list[int] = []
        when = loop.time()
        for n in range(50):
            loop.call_at(when, order.append, n)
        loop.run_until_complete(asyncio.sleep(0.001))
        return order

    standard, ours = both(scenario)
    assert sorted(standard) == ours == list(range(50))


@pytest.mark.parametrize("tls", [False, True])
def test_accepted_connection_has_no_task(both: Any, tls: bool) -> None:
    context = certificates().server_context() if tls else None

    def scenario(loop: Any) -> tuple[bool, bool]:
        names: list[str] = []
        found: list[bool] = []

        def task_factory(loop: Any, coro: Any, **keywords: Any) -> Any:
            names.append(coro.__name__)
            return asyncio.Task(coro, loop=loop, **keywords)

        def protocol_factory() -> asyncio.Protocol:
            found.append(asyncio.current_task() is not None)
            return asyncio.Protocol()

        async def main() -> None:
            server = await loop.create_server(
                protocol_factory, "127.0.0.1", 0, ssl=context
            )
            async with server:
                with socket.create_connection(server.sockets[0].getsockname()):
                    while not found:
                        await asyncio.sleep(0)
                    await asyncio.sleep(0)
                await asyncio.sleep(0.01)

        loop.set_debug(False)
        loop.set_task_factory(task_factory)
        loop.run_until_complete(main())
        return found[0], "_accept_connection2" in names

    assert both(scenario) == ((True, True), (False, False))


def test_socket_of_a_transport_is_refused(both: Any) -> None:
    def scenario(loop: Any) -> str:
        async def main() -> str:
            first, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            second = first
            try:
                second, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
                return "taken over"
            except RuntimeError:
                return "refused"
            finally:
                second.abort()
                await asyncio.sleep(0)
                first.abort()
                await asyncio.sleep(0)

        ours, peer = socket.socketpair()
        with peer, warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of the standard one
            return str(loop.run_until_complete(main()))

    standard, ours = both(scenario)
    assert standard == ("refused" if sys.version_info >= (3, 12) else "taken over")
    assert ours == "refused"


def test_writelines_with_pieces_that_are_no_bytes(both: Any) -> None:
    def scenario(loop: Any) -> list[Any]:
        async def main() -> list[Any]:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            seen: list[Any] = [outcome(transport.writelines, [None])[0]]
            seen.append(outcome(transport.writelines, [b"a", "text"])[0])
            seen.append(transport.get_write_buffer_size())
            transport.abort()
            await asyncio.sleep(0)
            return seen

        ours, peer = socket.socketpair()
        with peer:
            return list(loop.run_until_complete(main()))

    standard, ours = both(scenario)
    assert standard[0] in ("TypeError", "returned")  # by patch release
    assert standard[1:] in (["TypeError", 0], ["TypeError", 1])
    assert ours == ["TypeError", "TypeError", 0]


def test_max_size_is_not_read(both: Any) -> None:
    def scenario(loop: Any) -> list[int]:
        sizes: list[int] = []

        class Small(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                transport.max_size = 4

            def data_received(self, data: bytes) -> None:
                sizes.append(len(data))

        async def main() -> None:
            transport, _ = await loop.create_connection(Small, sock=ours)
            while sum(sizes) < 8:
                await asyncio.sleep(0)
            transport.abort()
            await asyncio.sleep(0)

        ours, peer = socket.socketpair()
        with peer:
            peer.sendall(b"12345678")
            loop.run_until_complete(main())
        return sizes

    assert both(scenario) == ([4, 4], [8])


def test_buffer_updated_without_get_buffer(both: Any) -> None:
    def scenario(loop: Any) -> str | None:
        ours, peer = socket.socketpair()

        async def main() -> str | None:
            waiter = loop.create_future()
            context = ssl.create_default_context()
            transport = loop._make_ssl_transport(
                ours, asyncio.Protocol(), context, waiter, server_hostname="localhost"
            )
            await loop.run_in_executor(None, peer.recv, 1)  # the handshake has begun
            try:
                transport._ssl_protocol.buffer_updated(1)
            except ValueError as exc:
                return str(exc)
            finally:
                transport.abort()
                with contextlib.suppress(OSError):
                    await waiter
            return None

        with peer:
            return loop.run_until_complete(main())  # type: ignore[no-any-return]

    assert both(scenario) == (None, "more than get_buffer() gave")


def test_private_names(both: Any) -> None:
    def scenario(loop: Any) -> tuple[type, type, bool, bool]:
        ours, peer = socket.socketpair()

        async def main() -> tuple[bool, bool]:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            try:
                has_buffer = hasattr(transport, "_buffer")
                return has_buffer, transport._sock_fd in loop._transports
            finally:
                transport.abort()
                await asyncio.sleep(0)

        with peer:
            found = loop.run_until_complete(main())
        return type(loop._ready), type(loop._scheduled), *found

    standard, ours = both(scenario)
    assert standard == (collections.deque, list, True, True)
    assert ours == (list, list, False, False)


def test_no_selector(both: Any) -> None:
    standard, ours = both(lambda loop: hasattr(loop._selector, "select"))
    assert (standard, ours) == (True, False)
    with pytest.raises(TypeError):
        asynccore.Loop(None)  # type: ignore[call-arg]


def test_loop_that_is_dropped(both_factories: Any) -> None:
    def warned(factory: Any) -> tuple[int, int]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop = factory()
            del loop
            at_once = len(caught)
            gc.collect()
        return at_once, len(caught)

    gc.collect()  # what other tests have left
    gc.disable()
    try:
        assert [warned(factory) for factory in both_factories] == [(0, 1), (1, 1)]
    finally:
        gc.enable()


def test_name_in_the_log(both: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "asyncio"):
        both(lambda loop: None)
    first, second = [
        text for text in caplog.messages if text.startswith("Using selector")
    ]
    assert first != second == "Using selector: _LibuvSelector"


def test_wake_up_fd_of_signals_during_a_run(both: Any) -> None:
    def scenario(loop: Any) -> tuple[bool, bool]:
        def current() -> bool:
            fd = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(fd)
            return fd != -1

        async def main() -> bool:
            await asyncio.sleep(0.001)  # the loop has waited
            return current()

        return loop.run_until_complete(main()), current()

    assert both(scenario) == ((False, False), (True, False))


def test_descriptors_of_a_loop(both: Any) -> None:
    def scenario(loop: Any) -> int:
        before = len(os.listdir("/dev/fd"))
        other = type(loop)()
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            other.add_reader(sock, print)
            other.run_until_complete(asyncio.sleep(0.001))
            other.remove_reader(sock)
        count = len(os.listdir("/dev/fd")) - before
        other.close()
        return count

    standard, ours = both(scenario)
    assert standard <= 3 < ours <= 10


@only_asynccore  # the standard constructor fails, and leaves a half of a loop
def test_descriptors_are_taken_late(loop: Any) -> None:
    """By the first that is watched or waited for; waiting goes on without."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def without(call: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            return call()
        except OSError as exc:
            return exc.errno
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert without(lambda: loop.run_until_complete(asyncio.sleep(0, 1))) == 1
    ends = os.pipe()
    assert without(lambda: loop.add_reader(ends[0], int)) == errno.EMFILE
    thread = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
    thread.start()
    without(loop.run_forever)
    thread.join()
    assert without(lambda: loop.run_until_complete(asyncio.sleep(0.001, 1))) == 1
    loop.add_reader(ends[0], int)
    assert loop.remove_reader(ends[0])
    for fd in ends:
        os.close(fd)


@looped
async def test_coroutines_are_objects_of_c():
    loop = asyncio.get_running_loop()
    standard = not isinstance(loop, asynccore.Loop)
    async with streams() as s:
        with socket.socket() as sock:
            made = [
                s.reader.read(),
                s.reader.readline(),
                s.writer.drain(),
                loop.sock_recv(sock, 1),
            ]
            for coro in made:
                assert asyncio.iscoroutine(coro)
                assert inspect.iscoroutine(coro) is standard
                coro.close()


@looped
async def test_attributes_of_a_reader():
    standard = not isinstance(asyncio.get_running_loop(), asynccore.Loop)
    async with streams() as s:
        assert s.reader._buffer == bytearray()
        assert ("_buffer" in vars(s.reader)) is standard
        assert (type(s.reader) is asyncio.StreamReader) is standard
        waiters = s.writer._protocol._drain_waiters
        assert isinstance(waiters, collections.deque) is standard
        assert list(waiters) == []


@pytest.mark.parametrize("name", ["create_connection", "create_unix_connection"])
def test_unknown_keyword_of_a_connection(loop, loop_name, run, name):
    method = getattr(loop, name)
    with pytest.raises(TypeError, match="unexpected keyword argument 'unknown'"):
        coro = method(asyncio.Protocol, unknown=1)
        assert loop_name == "asynccore"
        run(coro)


@pytest.mark.parametrize("name", ["__name__", "__qualname__"])
def test_names_of_a_sock_coroutine(both: Any, name: str) -> None:
    def scenario(loop: Any) -> str:
        with socket.socket() as sock:
            coro = loop.sock_recv(sock, 1)
            before = getattr(coro, name)
            try:
                setattr(coro, name, "other")
            except AttributeError:
                assert getattr(coro, name) == before
            coro.close()
            found: str = getattr(coro, name)
            return found

    standard, ours = both(scenario)
    assert (standard, ours.rpartition(".")[2]) == ("other", "sock_recv")


def test_kind_of_a_sock_coroutine(both: Any) -> None:
    # who reads a process from outside follows the interpreter's own coroutines only
    def scenario(loop: Any) -> bool:
        ours, peer = socket.socketpair()
        with ours, peer:
            coroutine = loop.sock_recv(ours, 1)
            coroutine.close()
            return inspect.iscoroutine(coroutine)

    assert both(scenario) == (True, False)


def test_frame_of_a_sock_coroutine(both: Any) -> None:
    def scenario(loop: Any) -> tuple[bool, set[str]]:
        first, second = socket.socketpair()
        with first, second:
            first.setblocking(False)
            coro = loop.sock_recv(first, 1)
            coro.send(None)
            frame = coro.cr_frame
            found = coro.cr_frame is frame, {"self", "sock", "n"} & {*frame.f_locals}
            assert frame.f_code.co_name == "sock_recv"
            coro.close()
            return found

    standard, ours = both(scenario)
    assert standard == (True, {"self", "sock", "n"})
    assert ours == (False, set())


def test_traceback_of_a_sock_coroutine(both: Any) -> None:
    def scenario(loop: Any) -> list[str]:
        with socket.socket() as sock:  # not connected
            sock.setblocking(False)

            async def main() -> None:
                await loop.sock_recv(sock, 1)

            with pytest.raises(OSError) as caught:
                loop.run_until_complete(main())
        return [entry.name for entry in caught.traceback][-2:]

    standard, ours = both(scenario)
    assert standard == ["main", "sock_recv"]
    assert ours[-1] == "main"
