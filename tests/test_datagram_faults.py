"""Datagrams: wrong arguments, errors of the kernel, full queues, closed sockets."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import resource
import socket
import sys
from typing import Any

import pytest

from support import DatagramRecorder, compare, looped, outcome, settle

LOCAL = ("127.0.0.1", 0)


async def open_endpoint(**kwargs: Any) -> DatagramRecorder:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_datagram_endpoint(DatagramRecorder, **kwargs)
    return protocol


async def close(*protocols: DatagramRecorder) -> None:
    for protocol in protocols:
        protocol.transport.abort()
    for protocol in protocols:
        await protocol.lost()


def plain(text: Any) -> Any:
    return text.replace("_SelectorDatagramTransport", "DatagramTransport")


# --- arguments ---


class Text(str):
    """Not the exact type."""


class Number(int):
    """Not the exact type."""


class Unlike:
    """Fails when it is compared or asked."""

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise ZeroDivisionError


released = memoryview(b"abcd")
released.release()

PEER = object()  # stands for the address of the peer
ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "none": ((), {}),
    "text": (("text",), {}),
    "int": ((1,), {}),
    "array": ((array.array("b", b"x"),), {}),
    "list": (([b"x"],), {}),
    "too many": ((b"x", None, None), {}),
    "far too many": ((b"x", *[None] * 9), {}),
    "unknown keyword": ((b"x",), {"address": None}),
    "twice": ((b"x",), {"data": b"x"}),
    "all keywords": ((), {"data": b"x", "addr": PEER}),
    "data by keyword": ((), {"data": b"x"}),
    "not contiguous": ((memoryview(b"abcdef")[::2], PEER), {}),
    "released": ((released, PEER), {}),
    "no address": ((b"x",), {}),
    "address None": ((b"x", None), {}),
    "address text": ((b"x", "127.0.0.1"), {}),
    "address list": ((b"x", ["127.0.0.1", 9]), {}),
    "one element": ((b"x", ("127.0.0.1",)), {}),
    "three elements": ((b"x", ("127.0.0.1", 9, 0)), {}),
    "no elements": ((b"x", ()), {}),
    "negative port": ((b"x", ("127.0.0.1", -1)), {}),
    "large port": ((b"x", ("127.0.0.1", 65536)), {}),
    "huge port": ((b"x", ("127.0.0.1", 1 << 70)), {}),
    "port None": ((b"x", ("127.0.0.1", None)), {}),
    "port text": ((b"x", ("127.0.0.1", "9")), {}),
    "port float": ((b"x", ("127.0.0.1", 9.0)), {}),
    "port bool": ((b"x", ("127.0.0.1", True)), {}),
    "port subclass": ((b"x", ("127.0.0.1", Number(9))), {}),
    "port 0": ((b"x", ("127.0.0.1", 0)), {}),
    "host None": ((b"x", (None, 9)), {}),
    "host bytes": ((b"x", (b"127.0.0.1", 9)), {}),
    "host subclass": ((b"x", (Text("127.0.0.1"), 9)), {}),
    "host empty": ((b"x", ("", 9)), {}),
    "host with a null": ((b"x", ("127.0.0.1\0", 9)), {}),
    "host surrogate": ((b"x", ("\udcff", 9)), {}),
    "host not ASCII": ((b"x", ("\u0661\u0662\u0667.0.0.1", 9)), {}),
    "host short form": ((b"x", ("127.1", 9)), {}),
    "host of 6": ((b"x", ("::1", 9)), {}),
    "host of 6 and flow": ((b"x", ("::1", 9, 1, 2)), {}),
    "broadcast": ((b"x", ("255.255.255.255", 9)), {}),
    "broadcast by name": ((b"x", ("<broadcast>", 9)), {}),
    "group": ((b"x", ("0.0.0.0", 9)), {}),
    "unlike": ((b"x", Unlike()), {}),
    "bytes subclass": ((type("Sub", (bytes,), {})(b"abc"), PEER), {}),
    "empty and wrong": ((b"", ("127.0.0.1", -1)), {}),
}
KINDS = ("open", "connected", "fixed", "unix", "closing", "closed", "connected closed")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_any_argument(
    both_factories: Any, faults: Any, tmp_path: Any, kind: str, name: str
) -> None:
    """The same outcome, and the same calls of the protocol."""

    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        contexts: list[Any] = []
        loop.set_exception_handler(
            lambda _, c: contexts.append((c["message"], repr(c.get("exception"))))
        )
        peer = await open_endpoint(local_addr=LOCAL)
        there = peer.transport.get_extra_info("sockname")
        kwargs: dict[str, Any] = {"local_addr": LOCAL}
        if kind == "unix":
            there = str(tmp_path / "nobody")
            kwargs = {"family": socket.AF_UNIX}
        elif "connected" in kind or kind == "fixed":
            kwargs = {"remote_addr": there, "allow_broadcast": kind == "fixed" or None}
        protocol = await open_endpoint(**kwargs)
        transport = protocol.transport
        if "clos" in kind:
            transport.close()
        if "closed" in kind:
            await protocol.lost()
        args, keywords = ARGUMENTS[name]
        args = tuple(there if each is PEER else each for each in args)
        keywords = {k: there if v is PEER else v for k, v in keywords.items()}
        seen = [outcome(transport.sendto, *args, **keywords) for _ in range(2)]
        await settle()
        calls = [
            (call[0], repr(call[1]) if call[0] == "error_received" else None)
            for call in protocol.calls
        ]
        state = (transport.is_closing(), transport._conn_lost, peer.data())
        transport.abort()
        await protocol.lost()
        await close(peer)
        port = there if kind == "unix" else str(there[1])
        return plain(repr((seen, calls, contexts, state))).replace(port, "PORT")

    compare(both_factories, scenario)
    faults.take_log()


@looped
async def test_wrong_endpoints() -> None:
    loop = asyncio.get_running_loop()
    stream = socket.socket()
    with stream, pytest.raises(ValueError, match=r"[Ss]ocket was expected"):
        await loop.create_datagram_endpoint(DatagramRecorder, sock=stream)
    with pytest.raises(ValueError, match="unexpected address family"):
        await loop.create_datagram_endpoint(DatagramRecorder)
    with pytest.raises(OSError) as raised:
        await loop.create_datagram_endpoint(
            DatagramRecorder, local_addr=("203.0.113.1", 9)
        )
    assert raised.value.errno == errno.EADDRNOTAVAIL
    closed = socket.socket(type=socket.SOCK_DGRAM)
    closed.close()
    with pytest.raises(OSError):
        await loop.create_datagram_endpoint(DatagramRecorder, sock=closed)


@looped
async def test_a_socket_that_is_in_use() -> None:
    loop = asyncio.get_running_loop()
    protocol = await open_endpoint(local_addr=LOCAL)
    sock = protocol.transport._sock
    if sys.version_info >= (3, 13):  # others let two transports have it
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
    sock.getsockname()
    await close(protocol)


@looped
async def test_factory_that_raises() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ZeroDivisionError):
            await loop.create_datagram_endpoint(lambda: 1 // 0, sock=sock)  # type: ignore[arg-type,return-value]
        assert sock.fileno() >= 0


def test_no_descriptor_left(loop: Any, run: Any) -> None:
    run(settle())  # the loop has what it needs itself
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(OSError) as raised:
            loop.run_until_complete(
                loop.create_datagram_endpoint(DatagramRecorder, LOCAL)
            )
        assert raised.value.errno == errno.EMFILE
        os.close(taken.pop())
        os.close(taken.pop())
        os.close(taken.pop())
        transport, protocol = loop.run_until_complete(
            loop.create_datagram_endpoint(DatagramRecorder, LOCAL)
        )
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        assert run(protocol.datagrams(1)) == [b"x"]
        transport.close()
        run(protocol.lost())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)


# --- errors of the kernel ---


def test_connection_refused(both_factories: Any) -> None:
    """By the read event, and by the next send when that comes first."""

    async def scenario() -> Any:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(LOCAL)
            nobody = sock.getsockname()
        protocol = await open_endpoint(remote_addr=nobody)
        protocol.transport.sendto(b"x")
        await protocol.until(lambda: protocol.count("error_received"))
        protocol.transport.sendto(b"x")
        protocol.transport.sendto(b"x")
        seen = [repr(call[1]) for call in protocol.calls[1:]]
        await close(protocol)
        return seen

    seen = compare(both_factories, scenario)
    assert seen and all("ConnectionRefusedError" in each for each in seen)


def test_handled_exception(both_factories: Any) -> None:
    """Inside error_received the error is being handled, as in an except clause."""

    async def scenario() -> Any:
        seen: list[Any] = []

        def failed(protocol: Any, exc: Exception) -> None:
            seen.append((repr(exc), exc is sys.exc_info()[1]))
            raise ZeroDivisionError

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, c: seen.append(
                (
                    repr(c["exception"]),
                    repr(c["exception"].__context__),
                    plain(c["message"]),
                )
            )
        )
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(LOCAL)
            nobody = sock.getsockname()
        protocol = DatagramRecorder(error_received=failed)
        transport, _ = await loop.create_datagram_endpoint(
            lambda: protocol, remote_addr=nobody
        )
        transport.sendto(b"x")
        await protocol.until(lambda: protocol.count("error_received"))
        await settle()
        kind, text = outcome(transport.sendto, bytes(70_000))
        seen.append((kind, text, sys.exc_info()))
        await close(protocol)
        return seen

    assert len(compare(both_factories, scenario)) == 4


def test_exceptions_of_the_protocol(both_factories: Any) -> None:
    """They go to the exception handler, and the transport lives on."""

    async def scenario() -> Any:
        seen: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, c: seen.append((plain(c["message"]), repr(c["exception"])))
        )

        def received(protocol: Any, data: bytes, addr: Any) -> None:
            raise ValueError(data)

        protocol = DatagramRecorder(datagram_received=received)
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, LOCAL)
        for number in range(3):
            transport.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        await protocol.datagrams(3)
        await settle()
        seen.append(transport.is_closing())
        await close(protocol)
        return seen

    assert len(compare(both_factories, scenario)) == 4


@looped
async def test_protocol_without_methods() -> None:
    """As any attribute that is missing: AttributeError to the exception handler."""
    loop = asyncio.get_running_loop()
    seen: list[Any] = []
    loop.set_exception_handler(lambda _, c: seen.append(type(c["exception"])))
    done = loop.create_future()

    class Bare:
        def connection_made(self, transport: Any) -> None:
            pass

        def connection_lost(self, exc: Any) -> None:
            done.set_result(exc)

    transport, _ = await loop.create_datagram_endpoint(Bare, LOCAL)  # type: ignore[type-var]
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    await settle()
    assert seen == [AttributeError]
    transport.close()
    assert await done is None


# --- a full queue ---


async def named_pair(folder: Any) -> tuple[DatagramRecorder, socket.socket]:
    """An endpoint with a narrow buffer, connected to a socket with a name."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.bind(str(folder / "peer"))
    peer.setblocking(False)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    sock.connect(peer.getsockname())
    return await open_endpoint(sock=sock), peer


async def drain(peer: socket.socket, count: int) -> list[bytes]:
    loop = asyncio.get_running_loop()
    return [await loop.sock_recv(peer, 1 << 16) for _ in range(count)]


@looped
async def test_queued_datagrams_are_copied_and_in_order(tmp_path: Any) -> None:
    protocol, peer = await named_pair(tmp_path)
    with peer:
        buffer = bytearray(1000)
        for number in range(100):
            buffer[:4] = b"%04d" % number
            protocol.transport.sendto(buffer)
        assert protocol.transport.get_write_buffer_size() > 0
        buffer[:] = b"!" * 1000
        buffer += b"may grow"
        got = await drain(peer, 100)
        assert [each[:4] for each in got] == [b"%04d" % n for n in range(100)]
        assert {each[4:] for each in got} == {bytes(996)}
        assert protocol.count("error_received") == 0
        await close(protocol)


def test_flow_control(both_factories: Any, tmp_path: Any) -> None:
    async def scenario() -> Any:
        protocol, peer = await named_pair(tmp_path)
        transport = protocol.transport
        seen: list[Any] = []
        with peer:
            transport.set_write_buffer_limits(high=5000, low=1000)
            while not protocol.count("pause_writing"):
                transport.sendto(bytes(700))
                seen.append(transport.get_write_buffer_size())
            seen.append(len(await drain(peer, len(seen))))
            await settle()
            seen.append(transport.get_write_buffer_size())
            seen.append(protocol.names())
            await close(protocol)
        (tmp_path / "peer").unlink()
        return seen

    compare(both_factories, scenario)


@looped
async def test_close_sends_what_is_queued(tmp_path: Any) -> None:
    protocol, peer = await named_pair(tmp_path)
    with peer:
        for number in range(50):
            protocol.transport.sendto(b"%d" % number * 500)
        assert protocol.transport.get_write_buffer_size() > 0
        protocol.transport.close()
        assert not protocol.count("connection_lost")
        got = await drain(peer, 50)
        assert [each[:1] for each in got] == [(b"%d" % n)[:1] for n in range(50)]
        assert await protocol.lost() is None


@looped
async def test_abort_drops_what_is_queued(tmp_path: Any) -> None:
    protocol, peer = await named_pair(tmp_path)
    with peer:
        for _ in range(50):
            protocol.transport.sendto(bytes(1000))
        protocol.transport.abort()
        assert protocol.transport.get_write_buffer_size() >= 0
        assert await protocol.lost() is None
        taken = 0
        with contextlib.suppress(BlockingIOError):
            while peer.recv(2000):
                taken += 1
        assert 0 < taken < 50


@looped
async def test_peer_that_goes_away_with_a_queue(tmp_path: Any) -> None:
    """The error is told, and nothing is lost silently or sent elsewhere."""
    protocol, peer = await named_pair(tmp_path)
    for _ in range(50):
        protocol.transport.sendto(bytes(1000))
    peer.close()
    await protocol.until(lambda: protocol.count("error_received"))
    assert isinstance(protocol.calls[-1][1], ConnectionError)
    await close(protocol)


# --- a socket that is closed behind the transport ---


@pytest.mark.parametrize("connected", [False, True])
@looped
async def test_number_of_somebody_else_is_not_touched(connected: bool) -> None:
    """Whoever gets the number next is neither read nor written."""
    peer = await open_endpoint(local_addr=LOCAL)
    there = peer.transport.get_extra_info("sockname")
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(LOCAL)
    if connected:
        sock.connect(there)
    protocol = await open_endpoint(sock=sock)
    number = sock.fileno()
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        sock.close()
        os.dup2(other.fileno(), number)
        try:
            here = os.fstat(number)
            protocol.transport.sendto(b"x", there)
            assert protocol.calls[-1][0] == "error_received"
            assert protocol.calls[-1][1].errno == errno.EBADF
            await close(protocol)
            assert os.fstat(number) == here  # it is still open
        finally:
            os.close(number)
    assert peer.data() == []
    await close(peer)


# --- audit ---


def test_audit_events(script: Any) -> None:
    """sendto to an address raises the event of socket.sendto; a hook may refuse."""
    script(
        """
        import asyncio, sys

        events = []

        def hook(name, args):
            if name == "socket.sendto":
                events.append(args[1])
                if args[1][1] == 9:
                    raise PermissionError("no")

        class Protocol(asyncio.DatagramProtocol):
            def connection_lost(self, exc):
                lost.set_result(exc)

        async def main():
            global lost
            loop = asyncio.get_running_loop()
            lost = loop.create_future()
            transport, _ = await loop.create_datagram_endpoint(
                Protocol, ("127.0.0.1", 0))
            there = transport.get_extra_info("sockname")
            sys.addaudithook(hook)
            transport.sendto(b"x", there)
            transport.sendto(b"x", there)
            seen = []
            transport.get_protocol().error_received = seen.append
            transport.sendto(b"x", ("127.0.0.1", 9))
            assert events == [there, there, ("127.0.0.1", 9)], events
            assert [type(exc) for exc in seen] == [PermissionError], seen
            transport.close()
            assert await lost is None

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
        """
    )
