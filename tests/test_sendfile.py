"""loop.sendfile() and sock_sendfile(), over every kind of transport."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import pytest

from support import (
    LINKS,
    PLAIN_LINKS,
    Recorder,
    compare,
    link,
    looped,
    only_asynccore,
    outcome,
    settle,
    wire,
)
from support.pipes import connect_write, ends

DATA = bytes(range(256)) * 4096  # 1 MiB
SIZE = len(DATA)


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.flush()
        yield file


LARGE = 64 << 20  # more than the kernel takes from a sender whose peer does not read


@pytest.fixture
def large() -> Iterator[IO[bytes]]:
    """A file of zeroes, without blocks of its own."""
    with tempfile.TemporaryFile() as file:
        file.truncate(LARGE)
        yield file


def send(transport: Any, file: Any, *args: Any, **kwargs: Any) -> Any:
    if getattr(file, "closed", True) is False:
        file.seek(0)  # where the fallback begins without an offset
    loop = asyncio.get_running_loop()
    return loop.sendfile(transport, file, *args, **kwargs)


# --- what is sent ---


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_a_whole_file(kind: str, file: Any) -> None:
    far = Recorder()
    async with link(kind, Recorder(), far) as pair:
        assert await send(pair.near, file) == SIZE
        assert file.tell() == SIZE
        assert await far.got(SIZE) == DATA


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (100, None, DATA[100:]),
        (0, 1000, DATA[:1000]),
        (1000, 70_000, DATA[1000:71_000]),
        (SIZE - 10, 100, DATA[-10:]),
        (0, SIZE, DATA),
        (0, SIZE + 1, DATA),
    ],
)
@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
@looped
async def test_offset_and_count(
    kind: str, file: Any, offset: int, count: int | None, expected: bytes
) -> None:
    far = Recorder()
    async with link(kind, Recorder(), far) as pair:
        assert await send(pair.near, file, offset, count) == len(expected)
        assert file.tell() == offset + len(expected)
        pair.near.write(b"END")
        assert await far.got(len(expected) + 3) == expected + b"END"


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@looped
async def test_nothing_to_send(kind: str, file: Any) -> None:
    far = Recorder()
    async with link(kind, Recorder(), far) as pair:
        assert await send(pair.near, file, SIZE) == 0
        assert await send(pair.near, file, SIZE + 5) == 0
        with tempfile.TemporaryFile() as empty:
            assert await send(pair.near, empty) == 0
        pair.near.write(b"END")
        assert await far.got(3) == b"END"


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_order_with_writes(kind: str, file: Any) -> None:
    """Corked bytes, and those that the kernel refused, leave first."""
    far = Recorder()
    async with link(kind, Recorder(), far) as pair:
        pair.near.write(b"small")
        await send(pair.near, file, 0, 1000)
        pair.near.write(DATA)
        await send(pair.near, file)
        pair.near.write(b"END")
        data = await far.got(5 + 1000 + 2 * SIZE + 3)
        assert data == b"small" + DATA[:1000] + DATA + DATA + b"END"


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
@looped
async def test_reading_goes_on(kind: str, file: Any) -> None:
    """What comes in meanwhile is read afterwards, or at once; a pause stays."""
    near, far = Recorder(), Recorder()
    async with link(kind, near, far) as pair:
        pair.far.write(b"before")
        await send(pair.near, file)
        assert await near.got(6) == b"before"
        pair.near.pause_reading()
        await send(pair.near, file)
        assert not pair.near.is_reading()
        pair.near.resume_reading()
        pair.far.write(b"after")
        assert await near.got(11) == b"beforeafter"
        assert len(await far.got(2 * SIZE)) == 2 * SIZE


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("kind", PLAIN_LINKS)
@looped
async def test_reading_is_resumed_meanwhile(
    kind: str, queued: bool, large: Any
) -> None:
    near, far = Recorder(), Recorder()
    async with link(kind, near, far) as pair:
        pair.far.pause_reading()
        before = 16 << 20 if queued else 0
        pair.near.write(bytes(before))
        task = asyncio.ensure_future(send(pair.near, large))
        await settle()
        assert not pair.near.is_reading()
        pair.near.resume_reading()
        pair.far.write(b"one")
        assert await near.got(3) == b"one"
        pair.far.resume_reading()
        await far.got(before + 1)
        pair.far.pause_reading()
        await settle()
        assert not task.done()
        assert "read=polling" in repr(pair.near)
        pair.far.write(b"two")
        assert await near.got(6) == b"onetwo"
        pair.near.pause_reading()
        pair.far.write(b"three")
        await settle()
        assert near.received == b"onetwo"
        pair.near.resume_reading()
        assert await near.got(11) == b"onetwothree"
        pair.far.resume_reading()
        assert await task == LARGE
        pair.far.write(b"after")
        assert await near.got(16) == b"onetwothreeafter"
        pair.near.write(b"end")
        assert len(await far.got(before + LARGE + 3)) == before + LARGE + 3


@looped
async def test_write_is_refused_meanwhile(large: Any) -> None:
    async with wire(Recorder(), "tcp") as held:
        task = asyncio.ensure_future(send(held.transport, large))
        await settle()
        assert not task.done()
        with pytest.raises(RuntimeError, match="unable to write; sendfile is in prog"):
            held.transport.write(b"x")
        assert len(await held.peer.recv(LARGE)) == LARGE
        assert await task == LARGE
        held.transport.write(b"x")
        assert await held.peer.recv(1) == b"x"


@looped
async def test_two_at_once(large: Any) -> None:
    async with wire(Recorder(), "tcp") as held:
        first = asyncio.ensure_future(send(held.transport, large))
        await settle()
        with pytest.raises((RuntimeError, KeyError)):
            await send(held.transport, large)
        assert len(await held.peer.recv(LARGE)) == LARGE
        assert await first == LARGE


@looped
async def test_somebody_else_waits_for_the_number(file: Any) -> None:
    """What sendfile() waits for is sent, and the transport reads again."""
    loop = asyncio.get_running_loop()
    async with wire(Recorder(), "pair") as held:
        sock = held.transport.get_extra_info("socket")._sock
        written = held.fill()
        task = asyncio.ensure_future(send(held.transport, file))
        await settle()
        received = asyncio.ensure_future(loop.sock_recv(sock, 1))
        await settle()
        held.peer.send_now(b"x")
        assert await received == b"x"
        assert len(await held.peer.recv(written + SIZE)) == written + SIZE
        assert await task == SIZE
        held.peer.send_now(b"y")
        assert await held.protocol.got(1) == b"y"


# --- files ---


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@looped
async def test_a_file_in_memory_falls_back(kind: str) -> None:
    far = Recorder()
    async with link(kind, Recorder(), far) as pair:
        memory = io.BytesIO(DATA)
        assert await send(pair.near, memory, 10, 100_000) == 100_000
        assert memory.tell() == 100_010
        assert await far.got(100_000) == DATA[10:100_010]


@looped
async def test_no_fallback_wanted(file: Any) -> None:
    far = Recorder()
    async with link("tcp", Recorder(), far) as pair:
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await send(pair.near, io.BytesIO(DATA), fallback=False)
        assert await send(pair.near, file, fallback=False) == SIZE
        assert await far.got(SIZE) == DATA
    async with link("tls", Recorder(), Recorder()) as pair:
        with pytest.raises(RuntimeError, match="fallback is disabled"):
            await send(pair.near, file, fallback=False)


@looped
async def test_a_file_that_grows_and_one_that_shrinks(large: Any) -> None:
    async with wire(Recorder(), "tcp") as held:
        task = asyncio.ensure_future(send(held.transport, large))
        await settle()
        assert not task.done()
        large.seek(0, os.SEEK_END)
        large.write(b"more")
        large.flush()
        data = await held.peer.recv(LARGE + 4)
        assert (len(data), data[-4:]) == (LARGE + 4, b"more")
        assert await task == LARGE + 4
        task = asyncio.ensure_future(send(held.transport, large))
        await settle()
        assert not task.done()
        large.truncate(0)
        got = asyncio.ensure_future(held.peer.recv_all())
        sent = await task
        assert sent < LARGE
        held.transport.close()
        assert len(await got) == sent


def test_bad_input(both_factories: Any, file: Any) -> None:
    async def scenario() -> Any:
        results = []
        async with link("pair", Recorder(), Recorder()) as pair:
            closed = tempfile.TemporaryFile()  # noqa: SIM115
            closed.close()
            text = open(os.devnull)  # noqa: SIM115
            read, write = os.pipe()
            for args in (
                (pair.near, file, -1),
                (pair.near, file, 0, -1),
                (pair.near, file, 0, 0),
                (pair.near, file, 1.5),
                (pair.near, file, "1"),
                (pair.near, file, None),
                (pair.near, file, 0, "1"),
                (pair.near, closed),
                (pair.near, text),
                (pair.near, object()),
                (pair.near, None),
                (pair.near, 5),
                (None, file),
                (object(), file),
            ):
                try:
                    results.append(await send(*args))
                except Exception as exc:
                    results.append((type(exc).__name__, plain(exc)))
            text.close()
            os.close(read)
            os.close(write)
        return results

    def plain(exc: Exception) -> str:
        return str(exc).partition(" at 0x")[0]

    compare(both_factories, scenario)


@looped
async def test_transports_that_cannot(file: Any) -> None:
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        with pytest.raises(RuntimeError, match="sendfile is not supported for transp"):
            await send(transport, file)
        transport.close()
        await protocol.lost()


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("kind", ["tcp", "tls"])
@looped
async def test_a_closing_transport(kind: str, method: str, file: Any) -> None:
    async with link(kind, Recorder(), Recorder()) as pair:
        getattr(pair.near, method)()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await send(pair.near, file)


# --- in the middle ---


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@looped
async def test_a_peer_that_resets(kind: str, large: Any) -> None:
    protocol = Recorder()
    async with wire(protocol, kind) as held:
        task = asyncio.ensure_future(send(held.transport, large))
        await settle()
        assert not task.done()
        await held.peer.recv(1000)
        reset(held.peer.sock)
        with pytest.raises(ConnectionError):
            await task
        assert 0 < large.tell() < LARGE  # as far as the kernel has taken it
        await protocol.lost()


@looped
async def test_a_peer_that_resets_over_tls(large: Any) -> None:
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        pair.far.pause_reading()
        task = asyncio.ensure_future(send(pair.near, large))
        _, high = pair.near.get_write_buffer_limits()
        while pair.near.get_write_buffer_size() <= high:  # then it waits
            await settle()
        assert not task.done()
        pair.far.abort()
        with pytest.raises(ConnectionError):
            await task
        await near.lost()


@looped
async def test_a_reset_before_the_first_byte(file: Any) -> None:
    protocol = Recorder()
    async with wire(protocol, "tcp") as held:
        held.transport.pause_reading()
        reset(held.peer.sock)
        with contextlib.suppress(ConnectionError):
            await send(held.transport, file)
        held.transport.abort()
        await protocol.lost()


@pytest.mark.parametrize("method", ["close", "abort"])
@looped
async def test_the_transport_is_closed_meanwhile(
    method: str, large: Any, faults: Any
) -> None:
    protocol = Recorder()
    async with wire(protocol, "tcp") as held:
        task = asyncio.ensure_future(send(held.transport, large))
        await settle()
        assert not task.done()
        getattr(held.transport, method)()
        with contextlib.suppress(OSError, RuntimeError, asyncio.CancelledError):
            rest = asyncio.ensure_future(held.peer.recv_all())
            await asyncio.wait([task, rest], return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            await rest
        await asyncio.wait([task])
        with contextlib.suppress(asyncio.CancelledError):
            task.exception()
        await protocol.lost()
    for text in faults.take_log():  # it fails a waiter that is done
        assert "_SelectorSocketTransport._call_connection_lost(" in text


@looped
async def test_cancelled(large: Any) -> None:
    """The position tells how much was sent; the transport goes on."""
    protocol = Recorder()
    async with wire(protocol, "tcp") as held:
        task = asyncio.ensure_future(send(held.transport, large))
        await settle()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        held.transport.write(b"END")
        held.transport.close()
        data = await held.peer.recv_all()
        assert data.endswith(b"END")
        assert not any(data[:-3])
        assert len(data) - 3 < LARGE
        await protocol.lost()


@only_asynccore  # the standard transport reports an InvalidStateError
def test_cancelled_and_aborted(loop: Any, large: Any) -> None:
    async def main() -> None:
        async with wire(Recorder(), "tcp") as held:
            task = asyncio.ensure_future(send(held.transport, large))
            await settle()
            task.cancel()
            held.transport.abort()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await held.protocol.lost() is None

    loop.run_until_complete(main())


# --- over sockets ---


@looped
async def test_sock_sendfile(file: Any) -> None:
    loop = asyncio.get_running_loop()
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        two.setblocking(False)
        task = asyncio.ensure_future(loop.sock_sendfile(one, file, 10, 300_000))
        data = bytearray()
        while len(data) < 300_000:
            data += await loop.sock_recv(two, 1 << 16)
        assert await task == 300_000
        assert data == DATA[10:300_010]
        assert file.tell() == 300_010
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sock_sendfile(one, io.BytesIO(b"x"), fallback=False)
        assert await loop.sock_sendfile(one, io.BytesIO(b"xyz"), 1) == 2
        assert await loop.sock_recv(two, 10) == b"yz"


def test_sock_sendfile_bad_input(both_factories: Any, file: Any) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        one, two = socket.socketpair()
        datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        results: list[Any] = []
        with one, two, datagram:
            one.setblocking(False)
            datagram.setblocking(False)
            text = open(os.devnull)  # noqa: SIM115
            for args in (
                (one, file, -1),
                (one, file, 0, -1),
                (one, file, 0, 0),
                (one, file, "0"),
                (one, file, 0, 1.5),
                (one, text),
                (datagram, file),
                (None, file),
                (one, None),
            ):
                try:
                    results.append(await loop.sock_sendfile(*args))
                except Exception as exc:
                    results.append((type(exc).__name__, str(exc)))
            text.close()
            loop.set_debug(True)
            one.setblocking(True)
            results.append(outcome(lambda: loop.sock_sendfile(one, file).send(None)))
        return results

    results = compare(both_factories, scenario)
    assert results[-1] == ("ValueError", "the socket must be non-blocking")


@pytest.mark.parametrize("kind", PLAIN_LINKS)
@looped
async def test_many_small_files(kind: str) -> None:
    far = Recorder()
    async with link(kind, Recorder(), far) as pair:
        with tempfile.TemporaryFile() as small:
            small.write(b"0123456789")
            small.flush()
            for _ in range(50):
                assert await send(pair.near, small) == 10
                pair.near.write(b"-")
        assert await far.got(550) == b"0123456789-" * 50
