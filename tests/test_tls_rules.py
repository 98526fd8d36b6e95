"""The end of a connection in every order, alerts, and peers that flood."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asynccore import _tls
from support import BufferedRecorder, Recorder, certificates, compare, looped, settle
from support.records import ALERT, APPLICATION_DATA, Forge
from support.tls import RawPeer, raw_peer

TLS_WAYS = True  # conftest: on the loops, and with records by ssl.MemoryBIO

READ = 256 * 1024  # what is read in one turn at the most


@pytest.fixture(params=_tls.MODES[:2])
def way(request: pytest.FixtureRequest) -> Any:
    former = _tls.mode()
    _tls.use(request.param)
    yield
    _tls.use(former)


def summary(protocol: Any) -> Any:
    """What the protocol was told; the traceback of its end goes."""
    [exc] = [call[1] for call in protocol.calls if call[0] == "connection_lost"]
    names = protocol.names()
    protocol.calls.clear()
    protocol.note("connection_lost", None)
    if exc is not None:
        exc.__traceback__ = None
    told = type(exc).__name__, getattr(exc, "reason", None) or str(exc)
    return names, bytes(protocol.received), told if exc is not None else None


async def drain(peer: RawPeer) -> bytes:
    """All that comes until the end; a reset is one as well."""
    data = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := await peer.recv(1):
            data += piece
            if peer.tls.pending():
                data += peer.tls.read(peer.tls.pending())
    return data


# --- ends ---


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize(
    "what", ["nothing", "data", "much", "close_notify", "data and close_notify"]
)
def test_peer_that_answers_close_with(
    both_factories: Any, way: None, what: str, kind: Any
) -> None:
    """What comes after our close_notify is not read for ever, nor passed on."""

    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        near = kind()
        async with raw_peer(near) as peer:
            near.transport.write(b"last words")
            near.transport.close()
            got = await peer.recv(100)
            if "data" in what:
                await peer.send(b"too late")
            if what == "much":
                with contextlib.suppress(ConnectionError):
                    for _ in range(200):
                        await peer.send(bytes(1 << 16))
            if "close_notify" in what:
                assert peer.tls.unwrap() is None
                await peer.flush()
            if what == "nothing":
                peer.sock.shutdown(socket.SHUT_WR)
            await near.until(lambda: near.count("connection_lost"))
            return got, summary(near)

    got, (_, received, _) = compare(both_factories, scenario)
    assert got == b"last words"
    assert received == b""


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("late", [False, True])
def test_peer_that_only_listens(
    both_factories: Any, way: None, kind: Any, late: bool
) -> None:
    """It has closed its direction: what was written by then still leaves."""

    async def scenario() -> Any:
        def answer(protocol: Any) -> None:
            protocol.transport.write(b"from eof_received")

        near = kind(eof_received=answer)
        async with raw_peer(near) as peer:
            near.transport.write(b"x" * 300_000)
            await peer.send(b"the end")
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.tls.unwrap()
            more = b"\x17\3\3\0\x20" + bytes(32) if late else b""
            await peer.loop.sock_sendall(peer.sock, peer.outgoing.read() + more)
            got = await drain(peer)
            await near.until(lambda: near.count("connection_lost"))
            return got, summary(near)

    got, (_, received, _) = compare(both_factories, scenario)
    assert received == b"the end"
    assert got.startswith(b"x" * 300_000)


@pytest.mark.parametrize("size", [1_000, 100_000, 1_000_000])
@pytest.mark.parametrize("polite", [False, True])
def test_peer_that_answers_and_closes_before_all_is_written(
    both_factories: Any, way: None, size: int, polite: bool
) -> None:
    """As a server that refuses a large request: its answer is read, although it resets
    what is still sent."""

    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            here = socket.create_connection(listener.getsockname())
            there, _ = listener.accept()
        near = Recorder()
        peer = RawPeer(there, certificates().server_context(), True)
        context = certificates().client_context()
        connecting = loop.create_connection(
            lambda: near, sock=here, ssl=context, server_hostname="localhost"
        )
        await asyncio.gather(connecting, peer.handshake())
        await settle()
        last = peer.encrypt(b"too large")
        if polite:
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.tls.unwrap()
            last += peer.outgoing.read()
        assert there.send(last) == len(last)
        there.close()
        near.transport.write(bytes(size))
        await near.until(lambda: near.count("connection_lost"))
        names, received, told = summary(near)
        # how a larger one ends depends on the kernel's buffer
        return received if size > 100_000 else (names, received, told)

    found = compare(both_factories, scenario)
    assert b"too large" in (found, found[1])


@pytest.mark.parametrize("paused", [False, True])
def test_end_of_the_stream(both_factories: Any, way: None, paused: bool) -> None:
    """EOF below without close_notify, also while reading is paused."""

    async def scenario() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        near = Recorder()
        async with raw_peer(near) as peer:
            if paused:
                near.transport.pause_reading()
            await peer.send(b"some")
            peer.sock.shutdown(socket.SHUT_WR)
            await settle()
            before = near.names(), bytes(near.received)
            if paused:
                near.transport.resume_reading()
            await near.until(lambda: near.count("connection_lost"))
            return before, summary(near)

    before, (names, received, _) = compare(both_factories, scenario)
    assert received == b"some"
    if paused:
        assert before == (["connection_made"], b"")
    assert names[-1] == "connection_lost"


def test_shutdown_that_takes_too_long(both_factories: Any, way: None) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        near = Recorder()
        here, there = socket.socketpair()
        with here, there:
            peer = RawPeer(there, certificates().client_context(), False)
            await asyncio.gather(
                loop.connect_accepted_socket(
                    lambda: near,
                    here,
                    ssl=certificates().server_context(),
                    ssl_shutdown_timeout=0.01,
                ),
                peer.handshake(),
            )
            near.transport.close()
            await near.until(lambda: near.count("connection_lost"))
            return summary(near)

    names, _, told = compare(both_factories, scenario)
    assert names == ["connection_made", "connection_lost"]
    assert told == ("TimeoutError", "SSL shutdown timed out")


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_read_again_after_a_failure(both_factories: Any, way: None, kind: Any) -> None:
    """It fails again, and nothing is told in between."""

    async def scenario() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        near = kind()
        async with raw_peer(near) as peer:
            near.transport.set_write_buffer_limits(high=0)
            near.transport.pause_reading()
            broken = b"\x17\3\3\0\x20" + bytes(32)  # which is taken whole
            await peer.loop.sock_sendall(peer.sock, broken)
            await asyncio.sleep(0)
            near.transport.resume_reading()  # in the turn of the event
            await near.until(lambda: near.count("connection_lost"))
            return summary(near)

    names, _, told = compare(both_factories, scenario)
    assert names == ["connection_made", "pause_writing", "connection_lost"]
    assert told is not None


@pytest.mark.parametrize("how", ["close", "abort"])
def test_closed_in_get_buffer_as_the_peer_closes(
    both_factories: Any, way: None, how: str
) -> None:
    """A read behind both close_notify is an error."""

    async def scenario() -> Any:
        near = BufferedRecorder()
        async with raw_peer(near) as peer:

            def get_buffer(protocol: Any, hint: int) -> Any:
                getattr(protocol.transport, how)()
                return memoryview(protocol.buffer)

            near.hooks["get_buffer"] = get_buffer
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.tls.unwrap()
            await peer.flush()
            exc = await near.lost()
            near.calls[-1] = ("connection_lost", None)
            told = None if exc is None else (type(exc).__name__, str(exc))
            return near.names(), told

    _, told = compare(both_factories, scenario)
    assert (told is None) == (how == "abort")


@looped
async def test_no_half_close() -> None:
    near = Recorder()
    async with raw_peer(near):
        assert not near.transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            near.transport.write_eof()


@looped
async def test_nothing_is_kept_after_the_end() -> None:
    near = Recorder()
    async with raw_peer(near) as peer:
        near.transport.pause_reading()
        await peer.send(bytes(100_000))
        for _ in range(3):
            near.transport.write(bytes(1 << 20))
        await settle()
        protocol = near.transport._ssl_protocol
        assert protocol._get_read_buffer_size() > 50_000
        near.transport.abort()
        assert await near.lost() is None
        if isinstance(protocol, _tls.SSLProtocol):
            assert protocol._get_read_buffer_size() == 0
            assert protocol._get_write_buffer_size() == 0
        assert protocol._transport is None


# --- what a client of TLS 1.3 may send ---


@contextlib.asynccontextmanager
async def forge(
    protocol: Any, keylog: pathlib.Path
) -> AsyncIterator[tuple[RawPeer, Forge]]:
    """`protocol` serves; the client's records are made by hand."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    keylog.unlink(missing_ok=True)
    context = certificates().client_context()
    context.keylog_filename = str(keylog)
    with here, there:
        peer = RawPeer(there, context, False)
        await asyncio.gather(
            loop.connect_accepted_socket(
                lambda: protocol, here, ssl=certificates().server_context()
            ),
            peer.handshake(),
        )
        cipher = peer.tls.cipher()
        assert cipher is not None
        try:
            yield peer, Forge(keylog, cipher[0])
        finally:
            if not protocol.count("connection_lost"):
                protocol.transport.abort()
            await protocol.until(lambda: protocol.count("connection_lost"))


def alerts(made: Forge) -> bytes:
    return b"".join(made.record(ALERT, b"\1\x5a") for _ in range(1000))


def empty(made: Forge) -> bytes:
    return b"".join(made.record(APPLICATION_DATA, b"") for _ in range(10_000))


def fatal(made: Forge) -> bytes:
    return made.record(APPLICATION_DATA, b"before") + made.record(ALERT, b"\2\x28")


def unknown(made: Forge) -> bytes:
    return made.record(24, b"heartbeat")


def cut(made: Forge) -> bytes:
    return made.record(22, b"\x18\0\0\1")


def handshake_again(made: Forge) -> bytes:
    return made.record(22, b"\1\0\0\x26\3\3" + bytes(36))


def key_updates(made: Forge) -> bytes:
    return b"".join(made.key_update(answer=True) for _ in range(2000))


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize(
    "what",
    [alerts, empty, fatal, unknown, cut, handshake_again, key_updates],
    ids=lambda what: what.__name__,
)
def test_forged(
    both_factories: Any, way: None, tmp_path: pathlib.Path, what: Any, kind: Any
) -> None:
    """Floods and wrong messages end as on the standard loop, or are passed over."""

    async def scenario() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        near = kind()
        async with forge(near, tmp_path / "keys") as (peer, made):
            with contextlib.suppress(ConnectionError):
                await peer.loop.sock_sendall(peer.sock, what(made))
                await settle()
                last = made.record(APPLICATION_DATA, b"after")
                await peer.loop.sock_sendall(peer.sock, last)
                peer.sock.shutdown(socket.SHUT_WR)
            await near.until(lambda: near.count("connection_lost"))
            return summary(near)

    _, received, told = compare(both_factories, scenario)
    if what in (key_updates, cut):
        assert received == (b"after" if what is key_updates else b"")
    else:
        assert told[0] == "SSLError"
        assert b"after" not in received


@pytest.mark.parametrize("size", [1, 16384])
@looped
async def test_key_update_before_each_record(tmp_path: pathlib.Path, size: int) -> None:
    near = Recorder(data_received=lambda p, data: p.transport.write(data))
    async with forge(near, tmp_path / "keys") as (peer, made):
        for number in range(20):
            data = bytes([number]) * size
            sent = made.key_update(answer=number % 2 == 0)
            sent += made.record(APPLICATION_DATA, data)
            await peer.loop.sock_sendall(peer.sock, sent)
            assert await peer.recv(size) == data  # the answer is under our new keys


@pytest.mark.parametrize("what", ["tiny", "key updates"])
@looped
async def test_flood_leaves_turns_to_others(tmp_path: pathlib.Path, what: str) -> None:
    """However small the records are, a turn takes no more than one read."""
    loop = asyncio.get_running_loop()
    turns = 0
    taken: dict[int, int] = {}  # in each turn

    def turn() -> None:
        nonlocal turns
        turns += 1
        ticking[0] = loop.call_soon(turn)

    def note(protocol: Any, data: bytes) -> None:
        taken[turns] = taken.get(turns, 0) + len(data)

    near = Recorder(data_received=note)
    async with forge(near, tmp_path / "keys") as (peer, made):
        count, pieces = 0, []
        for _ in range(20_000 if what == "tiny" else 4000):
            if what == "key updates":
                pieces.append(made.key_update())
            pieces.append(made.record(APPLICATION_DATA, b"x"))
            count += 1
        flood = b"".join(pieces)
        each = len(flood) // count
        ticking = [loop.call_soon(turn)]
        await peer.loop.sock_sendall(peer.sock, flood)
        await near.got(count)
        ticking[0].cancel()
    assert max(taken.values()) <= READ // each + 1
    assert turns >= len(flood) // READ
