"""Reading: pause and resume, EOF, errors, how much arrives at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from typing import Any

import pytest

from support import (
    LINKS,
    PAUSES_EARLY,
    SIDES,
    WIRES,
    BufferedRecorder,
    Recorder,
    compare,
    link,
    looped,
    settle,
    wire,
)

# --- pause and resume ---


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_paused_transport_gets_nothing(kind: str, side: str) -> None:
    async with wire(Recorder(), kind, side) as held:
        transport, protocol = held.transport, held.protocol
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        held.peer.send_now(b"one")
        await settle()
        assert protocol.received == b""
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.got(3) == b"one"
        transport.pause_reading()
        held.peer.send_now(b"two")
        await settle()
        assert protocol.received == b"one"
        transport.resume_reading()
        assert await protocol.got(6) == b"onetwo"


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_paused_transport_costs_no_turns(kind: str) -> None:
    async with wire(Recorder(), kind) as held:
        held.transport.pause_reading()
        held.peer.send_now(b"data")
        await settle()
        started = time.process_time()
        await asyncio.sleep(0.2)
        assert time.process_time() - started < 0.1


@looped
async def test_pause_and_resume_can_be_repeated() -> None:
    async with wire(Recorder()) as held:
        for _ in range(3):
            assert held.transport.pause_reading() is None
        assert not held.transport.is_reading()
        for _ in range(3):
            assert held.transport.resume_reading() is None
        assert held.transport.is_reading()
        held.peer.send_now(b"data")
        assert await held.protocol.got(4) == b"data"


@looped
async def test_pause_in_connection_made(loop_name: str) -> None:
    if loop_name == "asyncio" and not PAUSES_EARLY:
        pytest.skip("the standard transport of this Python reads on")
    made = lambda protocol, transport: transport.pause_reading()  # noqa: E731
    async with wire(Recorder(connection_made=made)) as held:
        assert not held.transport.is_reading()
        held.peer.send_now(b"data")
        await settle()
        assert held.protocol.received == b""
        held.transport.resume_reading()
        assert await held.protocol.got(4) == b"data"


@looped
async def test_pause_and_resume_in_connection_made() -> None:
    def made(protocol: Recorder, transport: Any) -> None:
        transport.pause_reading()
        transport.resume_reading()

    async with wire(Recorder(connection_made=made)) as held:
        assert held.transport.is_reading()
        held.peer.send_now(b"data")
        assert await held.protocol.got(4) == b"data"


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_pause_inside_data_received(kind: str) -> None:
    paused = lambda protocol, data: protocol.transport.pause_reading()  # noqa: E731
    far = Recorder(data_received=paused)
    async with link(kind, Recorder(), far) as pair:
        pair.near.write(b"first")
        await far.got(5)
        pair.near.write(b"second")
        await settle()
        assert bytes(far.received) == b"first"
        pair.far.resume_reading()
        assert await far.got(11) == b"firstsecond"


@looped
async def test_resume_inside_data_received() -> None:
    def flip(protocol: Recorder, data: bytes) -> None:
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()

    async with wire(Recorder(data_received=flip)) as held:
        for number in range(20):
            held.peer.send_now(b"%02d" % number)
            await held.protocol.got(2 * number + 2)
        assert held.protocol.received == b"".join(b"%02d" % n for n in range(20))


@pytest.mark.parametrize("end", ["close", "abort"])
@looped
async def test_pause_and_resume_while_closing_and_after(end: str) -> None:
    async with wire(Recorder()) as held:
        transport = held.transport
        getattr(transport, end)()
        assert not transport.is_reading()
        assert transport.pause_reading() is None
        assert transport.resume_reading() is None
        assert not transport.is_reading()
        assert await held.protocol.lost() is None
        await settle(1)
        assert transport.pause_reading() is None
        assert transport.resume_reading() is None
        assert not transport.is_reading()
        assert transport.is_closing()


@looped
async def test_closing_a_paused_transport() -> None:
    async with wire(Recorder()) as held:
        held.transport.pause_reading()
        held.peer.send_now(b"never read")
        held.transport.close()
        held.transport.resume_reading()
        assert await held.protocol.lost() is None
        assert held.protocol.names() == ["connection_made", "connection_lost"]


# --- how much arrives, and when ---


@looped
async def test_close_after_pause_drops_what_was_not_read() -> None:
    async with wire(Recorder(), "unix") as held:
        held.peer.send_now(b"unread")
        await settle(1)
        assert held.protocol.received == b"unread"
        held.transport.pause_reading()
        held.peer.send_now(b"dropped")
        held.transport.close()
        await held.protocol.lost()
        assert held.protocol.received == b"unread"


def test_one_data_received_carries_at_most_256_kib(run: Any) -> None:
    async def main() -> None:
        async with wire(Recorder(), "pair") as held:
            held.transport.pause_reading()
            held.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
            total = 0
            with contextlib.suppress(BlockingIOError):
                while total < 1 << 20:
                    total += held.peer.sock.send(bytes(1 << 16))
            held.transport.resume_reading()
            await held.protocol.got(total)
            pieces = [c[1] for c in held.protocol.calls if c[0] == "data_received"]
            sizes = list(map(len, pieces))
            assert max(sizes) <= 256 << 10
            assert sum(sizes) == total
            assert all(type(piece) is bytes for piece in pieces)

    run(main())


def test_pieces_equal_the_standard_ones(both_factories: Any) -> None:
    async def scenario() -> Any:
        sizes = []
        async with wire(Recorder(), "pair") as held:
            for size in (1, 100, 65535, 65536, 65537, 100_000):
                held.transport.pause_reading()
                await held.peer.send(bytes(size))
                held.transport.resume_reading()
                before = len(held.protocol.calls)
                await held.protocol.got(sum(map(sum, sizes)) + size)
                sizes.append([len(call[1]) for call in held.protocol.calls[before:]])
        return sizes

    compare(both_factories, scenario)


@looped
async def test_received_bytes_are_the_protocol_s_own() -> None:
    async with wire(Recorder()) as held:
        kept = []
        for number in range(10):
            held.peer.send_now(b"%d" % number * 1000)
            await held.protocol.got(1000 * (number + 1))
            kept.append(held.protocol.calls[-1][1])
        assert kept == [b"%d" % number * 1000 for number in range(10)]


# --- EOF ---


@pytest.mark.parametrize("keep", [None, False, 0, "", True, 1, "yes"])
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_eof_received_decides(kind: str, keep: Any) -> None:
    async with wire(Recorder(eof_received=lambda p: keep), kind) as held:
        held.peer.send_now(b"last")
        held.peer.shutdown()
        await held.protocol.eof()
        assert held.protocol.received == b"last"
        if not keep:
            assert await held.protocol.lost() is None
            assert await held.peer.recv_all() == b""
        else:
            await settle()
            assert not held.transport.is_closing()
            held.transport.write(b"answer")
            assert await held.peer.recv(6) == b"answer"
            held.transport.close()
            assert await held.protocol.lost() is None
        assert held.protocol.count("eof_received") == 1


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_eof_of_each_kind(kind: str) -> None:
    # TLS ends both ways at once: eof_received cannot keep it open
    tls = kind.startswith(("tls", "start"))
    far = Recorder(eof_received=lambda p: None if tls else True)
    near = Recorder()
    async with link(kind, near, far) as pair:
        pair.near.write(b"question")
        if tls:
            pair.near.close()
        else:
            pair.near.write_eof()
        await far.eof()
        assert far.received == b"question"
        if not tls:
            pair.far.write(b"answer")
            pair.far.close()
        assert await near.lost() is None
        assert await far.lost() is None
        assert near.received == (b"" if tls else b"answer")


@looped
async def test_eof_kept_open_is_not_reported_again_nor_spins() -> None:
    async with wire(Recorder(eof_received=lambda p: True)) as held:
        held.peer.shutdown()
        await held.protocol.eof()
        await settle()
        assert await busy_share() < 0.5
        assert held.protocol.names() == ["connection_made", "eof_received"]
        assert held.transport.is_reading()  # as the standard transport says
        held.transport.write(b"still writable")
        assert await held.peer.recv(14) == b"still writable"


async def busy_share() -> float:
    """The share of CPU time that the loop takes while there is nothing to do."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(0.05, done.set_result, None)
    wall, cpu = time.monotonic(), time.thread_time()
    await done
    return (time.thread_time() - cpu) / (time.monotonic() - wall)


@looped
async def test_resume_after_eof_reports_it_again_as_the_standard_loop() -> None:
    async with wire(Recorder(eof_received=lambda p: True)) as held:
        held.peer.shutdown()
        await held.protocol.eof()
        held.transport.pause_reading()
        await settle()
        assert held.protocol.count("eof_received") == 1
        held.transport.resume_reading()
        await held.protocol.until(lambda: held.protocol.count("eof_received") == 2)


@looped
async def test_eof_while_paused_is_seen_after_resume() -> None:
    async with wire(Recorder()) as held:
        held.transport.pause_reading()
        held.peer.send_now(b"last")
        held.peer.close()
        await settle()
        assert held.protocol.names() == ["connection_made"]
        held.transport.resume_reading()
        assert await held.protocol.lost() is None
        assert held.protocol.received == b"last"
        assert held.protocol.names() == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]


# --- resets ---


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["tcp", "tcp6"])
@pytest.mark.parametrize("buffered", [False, True])
@looped
async def test_reset(kind: str, side: str, buffered: bool) -> None:
    protocol = BufferedRecorder() if buffered else Recorder()
    async with wire(protocol, kind, side) as held:
        held.peer.reset()
        exc = await protocol.lost()
        assert type(exc) is ConnectionResetError
        assert exc.errno is not None
        assert protocol.names() == ["connection_made", "connection_lost"]
        assert held.transport.is_closing()


@looped
async def test_reset_while_paused() -> None:
    async with wire(Recorder()) as held:
        held.transport.pause_reading()
        held.peer.reset()
        await settle()
        assert held.protocol.names() == ["connection_made"]
        assert await busy_share() < 0.5
        held.transport.resume_reading()
        assert type(await held.protocol.lost()) is ConnectionResetError


@looped
async def test_reset_while_paused_and_writing() -> None:
    async with wire(Recorder()) as held:
        held.transport.pause_reading()
        held.fill()
        held.peer.reset()
        exc = await held.protocol.lost()
        assert type(exc) in (ConnectionResetError, BrokenPipeError)


@looped
async def test_peer_closed_with_unread_data() -> None:
    # a unix socket that is closed before all is read resets the other end
    async with wire(Recorder(), "unix") as held:
        held.transport.write(b"never read")
        await asyncio.sleep(0)
        held.peer.close()
        assert type(await held.protocol.lost()) is ConnectionResetError


def test_data_then_reset_equals_the_standard_loop(both_factories: Any) -> None:
    async def scenario() -> Any:
        async with wire(Recorder()) as held:
            held.transport.pause_reading()
            held.peer.send_now(b"data")
            await settle(1)
            held.peer.reset()
            await settle(1)
            held.transport.resume_reading()
            exc = await held.protocol.lost()
            return bytes(held.protocol.received), type(exc).__name__

    compare(both_factories, scenario)


@looped
async def test_os_errors_are_not_reported_to_the_exception_handler() -> None:
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    async with wire(Recorder()) as held:
        held.peer.reset()
        await held.protocol.lost()
        await settle(1)
    assert reports == []


def test_debug_messages(run: Any, loop: Any, faults: Any) -> None:
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    logger = logging.getLogger("asyncio")
    keep = Keep()
    level = logger.level
    logger.addHandler(keep)
    logger.setLevel(logging.DEBUG)

    async def main() -> None:
        async with wire(Recorder(eof_received=lambda p: True)) as held:
            records.clear()
            held.transport.pause_reading()
            assert records[-1].endswith(" pauses reading")
            held.transport.resume_reading()
            assert records[-1].endswith(" resumes reading")
            held.peer.shutdown()
            await held.protocol.eof()
            assert [r for r in records if r.endswith(" received EOF")]
            held.transport.pause_reading()
            held.transport.resume_reading()
            held.peer.reset()
            held.transport.write(b"x")
            await held.protocol.lost()

    try:
        loop.set_debug(True)
        loop.slow_callback_duration = 100
        run(main())
    finally:
        logger.setLevel(level)
        logger.removeHandler(keep)
        loop.set_debug(False)
