"""start_tls: upgrading a connection in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import socket
import ssl
from typing import Any

import pytest

from support import (
    PLAIN_LINKS,
    BufferedRecorder,
    Recorder,
    certificates,
    compare,
    link,
    looped,
    outcome,
    settle,
    wire,
)
from support.tls import RawPeer

TLS_WAYS = True  # conftest: on the loops, and with records by ssl.MemoryBIO


async def upgrade(pair: Any, near: Any, far: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Both ends at once; the recorders get their new transports."""
    loop = asyncio.get_running_loop()
    server, client = certificates().server_context(), certificates().client_context()
    up_far, up_near = await asyncio.gather(
        loop.start_tls(pair.far, far, server, server_side=True, **kwargs),
        loop.start_tls(pair.near, near, client, server_hostname="localhost", **kwargs),
    )
    return up_near, up_far


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("kind", PLAIN_LINKS)
@looped
async def test_upgrade(kind: str, buffered: bool) -> None:
    make: Any = BufferedRecorder if buffered else Recorder
    near, far = make(), make()
    async with link(kind, near, far) as pair:
        pair.near.write(b"plain")
        assert await far.got(5) == b"plain"
        up_near, up_far = await upgrade(pair, near, far)
        assert up_near is not pair.near
        assert near.count("connection_made") == 1  # not called again
        assert up_near.get_protocol() is near
        assert isinstance(up_near, asyncio.Transport)
        up_near.write(b"secret")
        assert await far.got(11) == b"plainsecret"
        up_far.write(b"answer" * 10_000)
        assert await near.got(60_000) == b"answer" * 10_000
        found = up_near.get_extra_info("ssl_object")
        assert found.version().startswith("TLS")
        names = ("sockname", "peername")
        for name in names:
            assert up_near.get_extra_info(name) == pair.near.get_extra_info(name)
        up_near.close()
        assert await near.lost() is None
        assert await far.lost() is None
        assert pair.near.is_closing()


@looped
async def test_upgrade_to_another_protocol() -> None:
    near, far = Recorder(), Recorder()
    new_near, new_far = Recorder(), Recorder()
    async with link("tcp", near, far) as pair:
        up_near, up_far = await upgrade(pair, new_near, new_far)
        up_near.write(b"one")
        assert await new_far.got(3) == b"one"
        up_far.write(b"two")
        assert await new_near.got(3) == b"two"
        assert near.names() == far.names() == ["connection_made"]
        up_near.close()
        assert await new_near.lost() is None
        assert await new_far.lost() is None
        for old in (near, far):  # so that the helper can end
            old.connection_lost(None)


@looped
async def test_tls_in_tls() -> None:
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        assert pair.near._start_tls_compatible
        up_near, up_far = await upgrade(pair, near, far)
        data = bytes(range(256)) * 1000
        up_near.write(data)
        assert await far.got(len(data)) == data
        up_far.write(data)
        assert await near.got(len(data)) == data
        up_near.close()
        assert await near.lost() is None
        assert await far.lost() is None


class Between(asyncio.Transport):
    """A program's transport: it answers within write()."""

    _start_tls_compatible = True

    def __init__(self, below: Any) -> None:
        super().__init__()
        self.below = below
        self.writes: list[bytes] = []
        self.answer = b""

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))
        self.below.write(data)
        answer, self.answer = self.answer, b""
        if answer:
            self.upper.write(answer)

    def __getattribute__(self, name: str) -> Any:
        own = ("below", "writes", "answer", "upper", "write", "_start_tls_compatible")
        here = name.startswith("__") or name in own
        return object.__getattribute__(self if here else self.below, name)


@looped
async def test_over_a_transport_of_the_program() -> None:
    """A large write is one write below, and nothing comes in between."""
    near, far = Recorder(), Recorder()
    async with link("tcp", near, far) as pair:
        between = Between(pair.near)
        pair.near = between
        between.upper, _ = await upgrade(pair, near, far)
        between.writes.clear()
        data = random.Random(1).randbytes(1 << 20)
        between.answer = b"answer"
        between.upper.write(data)
        assert [len(data) >> 20 for data in between.writes] == [1, 0]
        assert await far.got(len(data) + 6) == data + b"answer"


@looped
async def test_a_conversation_before_the_upgrade() -> None:
    """As SMTP does it: the client asks, the server says go ahead, both upgrade."""
    loop = asyncio.get_running_loop()
    near, far = Recorder(), Recorder()
    async with link("tcp", near, far) as pair:
        pair.near.write(b"STARTTLS\r\n")
        await far.got(10)
        pair.far.write(b"220 go\r\n")
        serving = loop.create_task(
            loop.start_tls(
                pair.far, far, certificates().server_context(), server_side=True
            )
        )
        await near.got(8)
        up_near = await loop.start_tls(
            pair.near,
            near,
            certificates().client_context(),
            server_hostname="localhost",
        )
        up_far = await serving
        up_near.write(b"EHLO\r\n")
        assert await far.got(16) == b"STARTTLS\r\nEHLO\r\n"
        up_far.close()
        await near.lost()
        await far.lost()


@looped
async def test_bytes_queued_before_the_upgrade_go_first() -> None:
    near, far = Recorder(), Recorder()
    async with link("tcp", near, far) as pair:
        pair.near.write(b"queued in the same callback")
        loop = asyncio.get_running_loop()
        upgrading = loop.create_task(
            loop.start_tls(
                pair.near,
                near,
                certificates().client_context(),
                server_hostname="localhost",
            )
        )
        await far.until(lambda: far.received)
        # the rest of what the far end got is the client's hello
        assert far.received.startswith(b"queued in the same callback")
        await far.until(lambda: len(far.received) > 100)
        assert far.received[27:29] == b"\x16\x03"
        pair.far.abort()
        with pytest.raises(ConnectionResetError):
            await upgrading


@looped
async def test_upgrade_of_a_paused_transport() -> None:
    near, far = Recorder(), Recorder()
    async with link("tcp", near, far) as pair:
        pair.near.pause_reading()
        pair.far.pause_reading()
        up_near, _ = await upgrade(pair, near, far)
        up_near.write(b"x")
        assert await far.got(1) == b"x"


WRONG: dict[str, Any] = {
    "None": None,
    "bool": True,
    "text": "context",
    "class": ssl.SSLContext,
}


@pytest.mark.parametrize("name", WRONG)
@looped
async def test_wrong_context(name: str) -> None:
    loop = asyncio.get_running_loop()
    text = "sslcontext is expected to be an instance of ssl.SSLContext, got"
    async with wire(Recorder()) as held:
        with pytest.raises(TypeError, match=text):
            await loop.start_tls(held.transport, held.protocol, WRONG[name])
        assert not held.transport.is_closing()


@pytest.mark.parametrize("thing", [None, object(), asyncio.Transport()])
@looped
async def test_wrong_transport(thing: Any) -> None:
    loop = asyncio.get_running_loop()
    context = certificates().client_context()
    with pytest.raises(TypeError, match=r"is not supported by start_tls\(\)$"):
        await loop.start_tls(thing, Recorder(), context, server_hostname="x")


@looped
async def test_certificate_error() -> None:
    loop = asyncio.get_running_loop()
    near, far = Recorder(), Recorder()
    new_near, new_far = Recorder(), Recorder()
    async with link("tcp", near, far) as pair:
        results = await asyncio.gather(
            loop.start_tls(
                pair.far, new_far, certificates().server_context(), server_side=True
            ),
            loop.start_tls(
                pair.near,
                new_near,
                certificates().client_context(trust=False),
                server_hostname="localhost",
            ),
            return_exceptions=True,
        )
        assert isinstance(results[0], ssl.SSLError | ConnectionError)
        assert type(results[1]) is ssl.SSLCertVerificationError
        await settle(3)
        assert pair.near.is_closing()
        assert pair.far.is_closing()
        for old in (near, far):
            old.connection_lost(None)
        for result in results:
            result.__traceback__ = None


async def begun(held: Any) -> asyncio.Task[Any]:
    """An upgrade whose first record has come to the peer."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(
        loop.start_tls(
            held.transport,
            Recorder(),
            certificates().client_context(),
            server_hostname="localhost",
        )
    )
    assert await held.peer.recv(1) == b"\x16"
    return task


@looped
async def test_time_out() -> None:
    loop = asyncio.get_running_loop()
    text = "SSL handshake is taking longer than 0.01 seconds: aborting the connection"
    async with wire(Recorder()) as held:
        with pytest.raises(ConnectionAbortedError, match=text):
            await loop.start_tls(
                held.transport,
                Recorder(),
                certificates().client_context(),
                server_hostname="localhost",
                ssl_handshake_timeout=0.01,
            )
        assert held.transport.is_closing()
        await settle()
        held.protocol.connection_lost(None)


@looped
async def test_cancelled() -> None:
    async with wire(Recorder()) as held:
        task = await begun(held)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert held.transport.is_closing()
        await settle()
        held.protocol.connection_lost(None)


@looped
async def test_peer_leaves_during_the_handshake() -> None:
    async with wire(Recorder()) as held:
        task = await begun(held)
        held.peer.close()
        with pytest.raises(ConnectionResetError):
            await task
        await settle()
        held.protocol.connection_lost(None)


@looped
async def test_connection_that_ends_before_the_handshake_begins() -> None:
    """Nothing is left waiting for a handshake that never comes."""
    loop = asyncio.get_running_loop()
    near = Recorder()
    async with link("tcp", near, Recorder()) as pair:
        own = asyncio.all_tasks()
        pair.near.abort()
        context = certificates().client_context()
        with contextlib.suppress(ConnectionError):
            await loop.start_tls(pair.near, near, context, server_hostname="localhost")
        await settle()
        assert asyncio.all_tasks() == own


@looped
async def test_upgrade_against_a_blocking_peer() -> None:
    loop = asyncio.get_running_loop()
    async with wire(Recorder()) as held:
        peer = held.peer.sock.dup()

        def serve() -> bytes:
            peer.settimeout(10)
            context = certificates().server_context()
            with context.wrap_socket(peer, server_side=True) as sock:
                data = sock.recv(100)
                sock.sendall(data.upper())
                assert sock.recv(1) == b""
                sock.unwrap()
                return data

        serving = loop.run_in_executor(None, serve)
        transport = await loop.start_tls(
            held.transport,
            held.protocol,
            certificates().client_context(),
            server_hostname="localhost",
        )
        transport.write(b"hello")
        assert await held.protocol.got(5) == b"HELLO"
        transport.close()
        assert await serving == b"hello"
        await held.protocol.lost()


@looped
async def test_upgrade_of_a_given_socket_closes_it() -> None:
    loop = asyncio.get_running_loop()
    one, two = socket.socketpair()
    near, far = Recorder(), Recorder()
    await loop.create_connection(lambda: near, sock=one)
    await loop.create_connection(lambda: far, sock=two)

    class Pair:
        pass

    pair: Any = Pair()
    pair.near, pair.far = near.transport, far.transport
    up_near, _ = await upgrade(pair, near, far)
    up_near.close()
    assert await near.lost() is None
    assert await far.lost() is None
    await settle(1)
    assert one.fileno() == two.fileno() == -1


def test_argument_errors_equal_the_standard_ones(both_factories: Any) -> None:
    async def scenario() -> Any:
        loop: Any = asyncio.get_running_loop()
        found = []
        context = certificates().client_context()
        async with wire(Recorder()) as held:
            transport, protocol = held.transport, held.protocol
            for args, kwargs in (
                ((), {}),
                ((transport,), {}),
                ((transport, protocol, context, True), {}),
                ((transport, protocol, context), {"unknown": 1}),
                ((transport, protocol, context), {"ssl_handshake_timeout": 0}),
                ((transport, protocol, context), {"ssl_handshake_timeout": -1}),
                ((transport, protocol, context), {"ssl_shutdown_timeout": -1}),
            ):
                result = outcome(loop.start_tls, *args, **kwargs)
                if result[0] == "returned":
                    try:
                        await result[1]
                    except Exception as exc:
                        result = (type(exc).__name__, str(exc))
                else:
                    result = (result[0], "")
                found.append(result)
            closing = held.transport.is_closing()
        return found, closing

    compare(both_factories, scenario)


def hello_first(peer: RawPeer) -> bytes:
    """The client's first flight."""
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    return peer.outgoing.read()


def over_tls(protocol: Any, transport: Any) -> None:
    """What StreamWriter.start_tls() does to its protocol, for a server's connection."""
    protocol._transport = transport
    protocol._over_ssl = True


@pytest.mark.skipif(
    "_incoming" not in inspect.getsource(asyncio.base_events.BaseEventLoop.start_tls),
    reason="the hello that is in the StreamReader is lost before gh-142352",
)
@pytest.mark.parametrize("size", [1, 100, None])
@looped
async def test_stream_whose_client_does_not_wait(size: int | None) -> None:
    """The hello, or a part of it, comes with the line that asks for TLS."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    peer = RawPeer(there, certificates().client_context(), False)
    hello = hello_first(peer)
    await loop.sock_sendall(there, b"STARTTLS\r\n" + hello[:size])
    reader, writer = await asyncio.open_connection(sock=here)
    assert await reader.readline() == b"STARTTLS\r\n"
    writer._protocol._over_ssl = False  # type: ignore[attr-defined]
    upgrading = asyncio.ensure_future(
        loop.start_tls(
            writer.transport,
            writer.transport.get_protocol(),
            certificates().server_context(),
            server_side=True,
        )
    )
    await settle()
    await loop.sock_sendall(there, hello[len(hello[:size]) :])
    await peer.handshake()
    transport = await upgrading
    assert transport is not None
    await peer.send(b"line\n")
    over_tls(writer._protocol, transport)  # type: ignore[attr-defined]
    assert await reader.readline() == b"line\n"
    transport.write(b"answer")
    assert await peer.recv(6) == b"answer"
    transport.abort()
    there.close()
    await settle()


@pytest.mark.parametrize("buffered", [False, True])
@looped
async def test_protocol_that_pauses_before_the_hello(buffered: bool) -> None:
    """A program that stops reading at the line that asks for TLS loses nothing."""
    loop = asyncio.get_running_loop()
    make: Any = BufferedRecorder if buffered else Recorder
    here, there = socket.socketpair()
    near = make()
    await loop.create_connection(lambda: near, sock=here)
    near.transport.pause_reading()
    peer = RawPeer(there, certificates().client_context(), False)
    await loop.sock_sendall(there, hello_first(peer))
    await settle()
    assert near.received == b""
    upgrading = asyncio.ensure_future(
        loop.start_tls(
            near.transport, near, certificates().server_context(), server_side=True
        )
    )
    await peer.handshake()
    near.transport = await upgrading
    await peer.send(b"hello" * 5000)
    assert await near.got(25_000) == b"hello" * 5000
    near.transport.abort()
    await near.lost()
    there.close()


@looped
async def test_stream_writer() -> None:
    """StreamWriter.start_tls() of both ends, and again over that TLS."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    near = await asyncio.open_connection(sock=here)
    far = await asyncio.open_connection(sock=there)
    serving, context = certificates().server_context(), certificates().client_context()
    for depth in range(2):
        near[1].write(b"plain %d\n" % depth)
        assert await far[0].readline() == b"plain %d\n" % depth
        # a client's writer upgrades as a client: the other side by the loop's method
        protocol: Any = far[1].transport.get_protocol()
        upgrading = loop.create_task(
            loop.start_tls(far[1].transport, protocol, serving, server_side=True)
        )
        await near[1].start_tls(context, server_hostname="localhost")
        over_tls(protocol, await upgrading)
        far[1]._transport = protocol._transport  # type: ignore[attr-defined]
        near[1].write(b"secret" * 50_000 + b"\n")
        assert await far[0].readexactly(300_001) == b"secret" * 50_000 + b"\n"
        far[1].write(b"answer\n")
        assert await near[0].readline() == b"answer\n"
    near[1].close()
    assert await far[0].read() == b""
    far[1].close()
    await settle()


@looped
async def test_peer_that_has_closed() -> None:
    """What the write of the first message raises; its context is the step's."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    near = Recorder()
    transport, _ = await loop.create_connection(lambda: near, sock=here)
    there.close()
    context = certificates().client_context()
    with pytest.raises(BrokenPipeError) as raised:
        await loop.start_tls(transport, near, context, server_hostname="localhost")
    assert isinstance(raised.value.__context__, ssl.SSLWantReadError)
    assert raised.value.__cause__ is None
    await settle(2)
