"""The cork: writes of one callback leave together, and nobody can tell otherwise."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from support import (
    WIRES,
    BufferedRecorder,
    Peer,
    Recorder,
    Wire,
    certificates,
    link,
    looped,
    only_asynccore,
    settle,
    wire,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO as Linux has it")


def segments(peer: Peer) -> int:
    """How many TCP segments with data the peer's kernel has received."""
    info = peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("I", info, 152)[0])  # tcpi_data_segs_in


async def segments_of(held: Wire, size: int, write: Callable[[], Any]) -> int:
    """Runs `write` in one callback; returns how many segments carried its bytes."""
    before = segments(held.peer)
    asyncio.get_running_loop().call_soon(write)
    assert len(await held.peer.recv(size)) == size
    return segments(held.peer) - before


def small_writes(transport: Any, count: int = 16) -> None:
    for _ in range(count):
        transport.write(b"x" * 64)


# --- it is there ---


@linux
@only_asynccore  # the standard loop makes a system call of each write
@looped
async def test_writes_of_one_callback_are_one_segment() -> None:
    async with wire(Recorder()) as held:
        transport = held.transport
        for _ in range(5):
            count = await segments_of(held, 1024, lambda: small_writes(transport))
            assert count == 1


@linux
@looped
async def test_segments_are_counted() -> None:
    """The control: a segment for each callback, whatever the loop."""
    async with wire(Recorder()) as held:
        before = segments(held.peer)
        for _ in range(5):
            held.transport.write(b"x" * 64)
            assert len(await held.peer.recv(64)) == 64
        assert segments(held.peer) - before == 5


@linux
@only_asynccore
@pytest.mark.parametrize("where", ["data_received", "task", "call_soon", "timer"])
@looped
async def test_every_kind_of_callback_is_corked(where: str) -> None:
    loop = asyncio.get_running_loop()
    react = lambda p, data: small_writes(p.transport)  # noqa: E731
    async with wire(Recorder(data_received=react)) as held:
        before = segments(held.peer)

        async def task() -> None:
            small_writes(held.transport)

        if where == "data_received":
            held.peer.send_now(b"go")
        elif where == "task":
            await loop.create_task(task())
        elif where == "call_soon":
            loop.call_soon(small_writes, held.transport)
        else:
            loop.call_later(0.001, small_writes, held.transport)
        assert len(await held.peer.recv(1024)) == 1024
        assert segments(held.peer) - before == 1


@linux
@only_asynccore
@looped
async def test_the_cork_can_be_switched_off() -> None:
    loop: Any = asyncio.get_running_loop()
    assert loop.cork is True
    async with wire(Recorder()) as held:
        transport = held.transport
        loop.cork = False
        count = await segments_of(held, 1024, lambda: small_writes(transport))
        assert count == 16
        transport.write(b"now")
        assert held.peer.recv_now() == b"now"
        loop.cork = True
        assert await segments_of(held, 1024, lambda: small_writes(transport)) == 1


@linux
@only_asynccore
@looped
async def test_pipelined_answers_leave_together() -> None:
    def answer(protocol: Recorder, data: bytes) -> None:
        for _ in range(data.count(b"\n")):
            protocol.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async with wire(Recorder(data_received=answer)) as held:
        before = segments(held.peer)
        held.peer.send_now(b"GET /\n" * 16)
        assert len(await held.peer.recv(19 * 16)) == 19 * 16
        assert segments(held.peer) - before == 1


@linux
@only_asynccore
@looped
async def test_tls_records_of_one_callback_leave_together() -> None:
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        sock = pair.far.get_extra_info("socket")

        def count() -> int:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            return int(struct.unpack_from("I", info, 152)[0])

        pair.near.write(b"x")
        await far.got(1)
        await settle()
        before = count()
        asyncio.get_running_loop().call_soon(small_writes, pair.near)
        await far.got(1025)
        assert count() - before == 1


# --- nobody can tell ---


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_bytes_are_on_the_wire_when_the_callback_has_returned(kind: str) -> None:
    loop = asyncio.get_running_loop()
    async with wire(Recorder(), kind) as held:
        seen: list[bytes] = []

        def write() -> None:
            for number in range(5):
                held.transport.write(b"%d" % number)

        loop.call_soon(write)
        loop.call_soon(lambda: seen.append(held.peer.recv_now()))
        while not seen:
            await asyncio.sleep(0)
        assert seen == [b"01234"]


@looped
async def test_bytes_are_on_the_wire_when_a_task_step_has_ended() -> None:
    loop = asyncio.get_running_loop()
    async with wire(Recorder(), "pair") as held:
        seen: list[bytes] = []
        held.transport.write(b"step")
        loop.call_soon(lambda: seen.append(held.peer.recv_now()))
        await asyncio.sleep(0)
        assert seen == [b"step"]
        # nobody will do anything any more, and the bytes still leave
        held.transport.write(b"last")
        assert await held.peer.recv(4) == b"last"


@looped
async def test_callback_that_raises_after_write() -> None:
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
    async with wire(Recorder(), "pair") as held:

        def write() -> None:
            held.transport.write(b"written")
            raise ValueError

        loop.call_soon(write)
        assert await held.peer.recv(7) == b"written"
        assert len(reports) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_callback_that_ends_the_run_after_write(
    loop: asyncio.AbstractEventLoop, error: type[BaseException]
) -> None:
    here, there = socket.socketpair()
    with there:
        there.setblocking(False)
        protocol = Recorder()
        made = loop.create_connection(lambda: protocol, sock=here)
        transport, _ = loop.run_until_complete(made)

        def write() -> None:
            transport.write(b"written")
            raise error

        loop.call_soon(write)
        with pytest.raises(error):
            loop.run_forever()
        assert there.recv(10) == b"written"
        transport.close()
        loop.run_until_complete(protocol.lost())


def test_stop_after_write(loop: asyncio.AbstractEventLoop) -> None:
    here, there = socket.socketpair()
    with there:
        there.setblocking(False)
        protocol = Recorder()
        made = loop.create_connection(lambda: protocol, sock=here)
        transport, _ = loop.run_until_complete(made)
        loop.call_soon(lambda: (transport.write(b"written"), loop.stop()))
        loop.run_forever()
        assert there.recv(10) == b"written"
        transport.close()
        loop.run_until_complete(protocol.lost())


AFTER: dict[str, tuple[Callable[[Any], Any], bytes]] = {
    "close": (lambda t: t.close(), b"onetwo"),
    "abort": (lambda t: t.abort(), b"onetwo"),
    "write_eof": (lambda t: t.write_eof(), b"onetwo"),
    "close and abort": (lambda t: (t.close(), t.abort()), b"onetwo"),
    "write_eof and close": (lambda t: (t.write_eof(), t.close()), b"onetwo"),
}


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_flushed_before(kind: str, name: str) -> None:
    act, expected = AFTER[name]
    async with wire(Recorder(), kind) as held:
        held.transport.write(b"one")
        held.transport.write(b"two")
        act(held.transport)
        assert await held.peer.recv_all() == expected


def write_and_fail(protocol: Any, *_: Any) -> None:
    protocol.transport.write(b"one")
    protocol.transport.write(b"two")
    raise ValueError("after it has written")


@pytest.mark.parametrize(
    "callback", ["data_received", "buffer_updated", "eof_received", "get_buffer"]
)
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_flushed_before_a_failed_callback_ends_the_connection(
    kind: str, callback: str
) -> None:
    reports: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
    make: Any = Recorder
    if callback in ("buffer_updated", "get_buffer"):
        make = BufferedRecorder
    protocol = make(**{callback: write_and_fail})
    async with wire(protocol, kind) as held:
        if callback == "eof_received":
            held.peer.shutdown()
        else:
            held.peer.send_now(b"go")
            await protocol.lost()
        # unread bytes would reset the connection
        if callback != "get_buffer":
            assert await held.peer.recv_all() == b"onetwo"
        else:
            assert await held.peer.recv(6) == b"onetwo"
        assert isinstance(await protocol.lost(), ValueError)
    assert reports == [f"Fatal error: protocol.{callback}() call failed."]


@looped
async def test_flushed_before_a_failed_callback_ends_tls() -> None:
    """The last bytes of the handshake leave as well."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    near, far = Recorder(connection_made=write_and_fail), Recorder()
    server = await loop.create_server(
        lambda: far, "127.0.0.1", 0, ssl=certificates().server_context()
    )
    with pytest.raises(ValueError, match="after it has written"):
        await loop.create_connection(
            lambda: near,
            *server.sockets[0].getsockname(),
            ssl=certificates().client_context(),
            server_hostname="localhost",
        )
    assert await far.got(6) == b"onetwo"
    await far.lost()
    server.close()
    await settle()


SEEN: dict[str, Callable[[Any], Any]] = {
    "get_write_buffer_size": lambda t: t.get_write_buffer_size(),
    "set_write_buffer_limits": lambda t: t.set_write_buffer_limits(high=0),
    "set_protocol": lambda t: t.set_protocol(t.get_protocol()),
    "get_extra_info": lambda t: t.get_extra_info("socket"),
    "repr": repr,
}


@pytest.mark.parametrize("name", SEEN)
@looped
async def test_flushed_when_somebody_looks(name: str) -> None:
    async with wire(Recorder(), "pair") as held:
        held.transport.write(b"one")
        held.transport.write(b"two")
        SEEN[name](held.transport)
        if name != "repr":
            assert held.peer.recv_now() == b"onetwo"
        assert "bufsize=0" in repr(held.transport)
        assert held.transport.get_write_buffer_size() == 0
        assert held.protocol.count("pause_writing") == 0


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_flushed_before_the_socket_is_shut_down(kind: str) -> None:
    async with wire(Recorder(), kind) as held:
        for number in range(2):
            held.transport.write(b"%d" % number)
            sock = held.transport.get_extra_info("socket")
        sock.shutdown(socket.SHUT_WR)
        assert await held.peer.recv_all() == b"01"


@looped
async def test_size_never_shows_corked_bytes() -> None:
    async with wire(Recorder()) as held:
        for _ in range(10):
            held.transport.write(b"x" * 1000)
            assert held.transport.get_write_buffer_size() == 0
        assert len(await held.peer.recv(10_000)) == 10_000


@looped
async def test_pause_writing_is_called_only_when_the_kernel_refuses() -> None:
    async with wire(Recorder()) as held:
        held.transport.set_write_buffer_limits(high=100)
        for _ in range(20):
            held.transport.write(b"x" * 50)
        await held.peer.recv(1000)
        assert held.protocol.count("pause_writing") == 0
        assert held.protocol.count("resume_writing") == 0


@looped
async def test_pause_writing_is_called_inside_write() -> None:
    inside = False
    seen: list[bool] = []
    paused = lambda p: seen.append(inside)  # noqa: E731
    async with wire(Recorder(pause_writing=paused)) as held:
        for _ in range(2000):
            inside = True
            held.transport.write(bytes(10_000))
            inside = False
            if seen:
                break
        assert seen == [True]
        assert held.transport.get_write_buffer_size() > 64 << 10


@looped
async def test_large_amounts_do_not_wait_for_the_end_of_the_callback() -> None:
    async with wire(Recorder(), "pair") as held:
        received = 0
        for _ in range(10):
            held.transport.write(bytes(1000))
        for _ in range(100):
            held.transport.write(bytes(1000))
        received = len(held.peer.recv_now())
        assert received >= 110_000 - (64 << 10)
        assert len(await held.peer.recv(110_000 - received)) == 110_000 - received


@looped
async def test_small_pieces_around_large_ones_keep_their_order() -> None:
    async with wire(Recorder()) as held:
        expected = b""
        for number in range(20):
            for data in (b"<%d" % number, bytes([number]) * 40_000, b">", b""):
                held.transport.write(data)
                expected += data
        assert await held.peer.recv(len(expected)) == expected


@looped
async def test_writes_of_several_transports_keep_their_order() -> None:
    """Each transport's first write decides when it is flushed."""
    loop = asyncio.get_running_loop()
    one, there = socket.socketpair()
    with there:
        protocols = [Recorder() for _ in range(3)]
        for protocol, sock in zip(protocols, (one, one.dup(), one.dup()), strict=True):
            await loop.create_connection(lambda p=protocol: p, sock=sock)
        for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
            for index in order:
                protocols[index].transport.write(b"%d" % index)
            await asyncio.sleep(0)
            assert there.recv(10) == b"".join(b"%d" % index for index in order)
        for protocol in protocols:
            protocol.transport.abort()
            await protocol.lost()


@looped
async def test_transport_closed_by_another_callback_of_the_same_turn() -> None:
    loop = asyncio.get_running_loop()
    async with wire(Recorder()) as held:
        loop.call_soon(held.transport.write, b"one")
        loop.call_soon(held.transport.write, b"two")
        loop.call_soon(held.transport.close)
        loop.call_soon(held.transport.write, b"ignored")
        assert await held.peer.recv_all() == b"onetwo"


@looped
async def test_peer_gone_is_noticed_after_the_callback() -> None:
    async with wire(Recorder(), "pair") as held:
        held.transport.pause_reading()
        held.peer.close()
        held.transport.write(b"one")
        held.transport.write(b"two")
        assert type(await held.protocol.lost()) is BrokenPipeError


@looped
async def test_mutation_before_the_callback_returns() -> None:
    async with wire(Recorder()) as held:
        data = bytearray(b"kept")
        held.transport.write(data)
        data[:] = b"lost"
        held.transport.write(memoryview(data))
        data[:] = b"gone"
        del data[:]
        assert await held.peer.recv(8) == b"keptlost"


@looped
async def test_peer_read_between_turns_of_one_task() -> None:
    async with wire(Recorder(), "pair") as held:
        for number in range(100):
            held.transport.write(b"%02d" % number)
            await asyncio.sleep(0)
            assert held.peer.recv_now() == b"%02d" % number


@looped
async def test_loop_sock_methods_see_corked_bytes_in_order() -> None:
    """A second owner of the socket writes after the transport."""
    loop = asyncio.get_running_loop()
    one, there = socket.socketpair()
    with there:
        other = one.dup()
        other.setblocking(False)
        protocol = Recorder()
        await loop.create_connection(lambda: protocol, sock=one)
        protocol.transport.write(b"transport ")
        await asyncio.sleep(0)
        with other:
            await loop.sock_sendall(other, b"socket")
        assert there.recv(100) == b"transport socket"
        protocol.transport.abort()
        await protocol.lost()


# --- the cork of a turn, which a program may choose ---


def turn_of(*callbacks: Callable[[], Any]) -> asyncio.Future[None]:
    """Schedules them in one turn; done when that has ended."""
    loop = asyncio.get_running_loop()
    end = loop.create_future()
    for callback in callbacks:
        loop.call_soon(callback)
    loop.call_soon(loop.call_soon, end.set_result, None)
    return end


@pytest.mark.parametrize("kind", WIRES)
@only_asynccore
@looped
async def test_cork_of_a_turn(kind: str) -> None:
    loop: Any = asyncio.get_running_loop()
    assert loop.cork_turn is False
    loop.cork_turn = True
    async with wire(Recorder(), kind) as held, wire(Recorder(), kind) as other:
        seen: list[bytes] = []
        await turn_of(
            lambda: held.transport.write(b"one"),
            lambda: other.transport.write(b"other"),
            lambda: seen.append(held.peer.recv_now()),
            lambda: held.transport.write(b" two"),
            lambda: seen.append(held.peer.recv_now()),
        )
        assert seen == [b"", b""]
        assert held.peer.recv_now() == b"one two"
        assert other.peer.recv_now() == b"other"
        # nobody will do anything any more, and the bytes still leave
        held.transport.write(b"last")
        assert await held.peer.recv(4) == b"last"


@only_asynccore
@looped
async def test_cork_of_a_turn_is_early_where_it_would_show() -> None:
    loop: Any = asyncio.get_running_loop()
    loop.cork_turn = True
    async with wire(Recorder(), "pair") as held:
        seen: list[bytes] = []
        await turn_of(
            lambda: held.transport.write(b"1"),
            held.transport.get_write_buffer_size,
            lambda: seen.append(held.peer.recv_now()),
            lambda: held.transport.write(bytes(1 << 16)),
            lambda: seen.append(held.peer.recv_now()),
            lambda: held.transport.write(b"2"),
            held.transport.close,
            lambda: seen.append(held.peer.recv_now()),
        )
        assert seen == [b"1", bytes(1 << 16), b"2"]


@only_asynccore
@looped
async def test_cork_of_a_turn_of_events() -> None:
    loop: Any = asyncio.get_running_loop()
    loop.cork_turn = True
    seen: list[bytes] = []

    def answer(protocol: Recorder, data: bytes) -> None:
        protocol.transport.write(data)
        seen.extend(peer.recv_now() for peer in peers)

    async with (
        wire(Recorder(data_received=answer), "pair") as one,
        wire(Recorder(data_received=answer), "pair") as two,
    ):
        peers = (one.peer, two.peer)
        for peer in peers:
            peer.send_now(b"x")
        assert [await peer.recv(1) for peer in peers] == [b"x", b"x"]
        assert seen == [b""] * 4


@looped
async def test_written_by_a_finalizer_of_a_callback() -> None:
    class Writes:
        def __call__(self) -> None:
            pass

        def __del__(self) -> None:
            held.transport.write(b"last words")

    async with wire(Recorder(), "pair") as held:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        loop.call_soon(Writes())
        loop.call_soon(loop.call_soon, ended.set_result, None)
        await ended
        assert held.peer.recv_now() == b"last words"


@pytest.mark.parametrize("ending", ["leaves", "returns"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_in_the_callback_that_wrote(loop: Any, ending: str) -> None:
    ends = socket.socketpair()
    parent = os.getpid()
    pids = []

    async def connect() -> Any:
        return (await loop.create_connection(asyncio.Protocol, sock=ends[0]))[0]

    transport = loop.run_until_complete(connect())

    def fork() -> None:
        transport.write(b"once")
        pids.append(os.fork())
        loop.stop()
        if pids == [0] and ending == "leaves":
            raise SystemExit

    loop.call_soon(fork)
    try:
        loop.run_forever()
    finally:
        if os.getpid() != parent:
            os._exit(0)
    os.waitpid(pids[0], 0)
    with ends[1]:
        assert ends[1].recv(100) == b"once"
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))


@only_asynccore
@looped
async def test_cork_of_a_turn_that_ends_meanwhile() -> None:
    loop: Any = asyncio.get_running_loop()
    loop.cork_turn = True
    async with wire(Recorder(), "pair") as held:
        held.transport.write(b"held")
        loop.cork_turn = False
        assert held.peer.recv_now() == b""
        await asyncio.sleep(0)
        assert held.peer.recv_now() == b"held"


@pytest.mark.parametrize("end", [SystemExit, None])
@pytest.mark.parametrize("by", ["callback", "event", "timer"])
@only_asynccore
def test_cork_of_a_turn_that_the_loop_leaves(
    loop: Any, end: type[BaseException] | None, by: str
) -> None:
    async def open_both() -> tuple[Any, Any, Any]:
        ends = socket.socketpair()
        ends[1].setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ends[0])
        pair = socket.socketpair()
        return transport, ends[1], pair

    transport, peer, pair = loop.run_until_complete(open_both())
    loop.cork_turn = True

    def leave() -> None:
        transport.write(b" two")
        loop.remove_reader(pair[0])
        loop.stop()
        if end is not None:
            raise end

    with peer, pair[0], pair[1]:
        loop.call_soon(transport.write, b"one")
        if by == "callback":
            loop.call_soon(leave)
        elif by == "event":
            pair[1].send(b"x")
            loop.add_reader(pair[0], leave)
        else:
            loop.call_later(0, leave)
        if end is None:
            loop.run_forever()
        else:
            with pytest.raises(end):
                loop.run_forever()
        assert peer.recv(100) == b"one two"
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize(
    "name, expected",
    [("", (True, False)), ("turn", (True, True)), ("off", (False, False))],
)
def test_cork_by_the_environment(name: str, expected: tuple[bool, bool]) -> None:
    code = (
        "import asynccore; loop = asynccore.new_event_loop(); "
        "print(loop.cork, loop.cork_turn, asynccore.show_config('dict')['cork']); "
        "loop.close()"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ASYNCCORE_CORK": name},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert printed.split() == [*map(str, expected), name or "callback"]


def test_cork_of_an_unknown_name() -> None:
    from asynccore import _mode

    former = _mode.cork()
    with pytest.raises(ValueError, match="ASYNCCORE_CORK must be one of"):
        _mode.cork.use("always")
    assert _mode.cork() == former


@pytest.mark.parametrize("variable", ["ASYNCCORE_CORK", "ASYNCCORE_STREAMS"])
def test_unknown_name_in_the_environment(variable: str) -> None:
    """No loop is made, so none is left."""
    code = "import asynccore; asynccore.new_event_loop()"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        env={**os.environ, variable: "always"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"ValueError: {variable} must be one of" in done.stderr
    assert "ignored" not in done.stderr and "Warning" not in done.stderr
