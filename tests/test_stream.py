"""Stream transports: what they are, what they carry, how they end up unreferenced."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import re
import resource
import socket
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import asynccore
from support import (
    LINKS,
    PLAIN_LINKS,
    SIDES,
    WIRES,
    BufferedRecorder,
    Peer,
    Recorder,
    compare,
    link,
    looped,
    only_asynccore,
    outcome,
    settle,
    wire,
)
from support.interpreter import FREE_THREADED

# --- what a transport is ---


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_classes(kind: str) -> None:
    async with link(kind, Recorder(), Recorder()) as pair:
        for transport in (pair.near, pair.far):
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.BaseTransport)
            named_ssl = "ssl" in type(transport).__name__.lower()
            assert named_ssl == (kind not in PLAIN_LINKS)
            assert transport._start_tls_compatible is True


@pytest.mark.parametrize("kind", PLAIN_LINKS)
@looped
async def test_attributes_can_be_assigned(kind: str) -> None:
    async with link(kind, Recorder(), Recorder()) as pair:
        written: list[bytes] = []
        pair.near.write = written.append
        pair.near.anything = 1
        pair.near.write(b"kept")
        assert written == [b"kept"]
        assert pair.near.__dict__["anything"] == 1
        del pair.near.write
        pair.near.write(b"sent")
        assert await pair.far_protocol.got(4) == b"sent"
        assert weakref.ref(pair.near)() is pair.near


@looped
async def test_subclass_hooks_of_asyncio_transport(monkeypatch: Any) -> None:
    # tools patch the abstract class; the concrete methods still win
    monkeypatch.setattr(asyncio.Transport, "mark", "patched", raising=False)
    async with wire(Recorder()) as held:
        assert held.transport.mark == "patched"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_repr_in_each_state(kind: str, side: str) -> None:
    def shape(transport: Any) -> str:
        text = re.sub(r"fd=\d+", "fd=N", repr(transport))
        text = re.sub(r"bufsize=[1-9]\d*", "bufsize=some", text)
        return re.sub(r"^<\S+ ", "<", text)

    fresh = Recorder(connection_made=lambda p, t: shapes.append(shape(t)))
    shapes: list[str] = []
    async with wire(fresh, kind, side) as held:
        transport = held.transport
        fd = transport.get_extra_info("socket").fileno()
        assert f"fd={fd} " in repr(transport)
        assert shapes == ["<fd=N read=idle write=<idle, bufsize=0>>"]
        await settle(1)
        assert shape(transport) == "<fd=N read=polling write=<idle, bufsize=0>>"
        transport.pause_reading()
        assert shape(transport) == "<fd=N read=idle write=<idle, bufsize=0>>"
        transport.resume_reading()
        held.fill()
        assert shape(transport) == "<fd=N read=polling write=<polling, bufsize=some>>"
        transport.close()
        text = "<closing fd=N read=idle write=<polling, bufsize=some>>"
        assert shape(transport) == text
        transport.abort()
        assert shape(transport) == "<closing fd=N read=idle write=<idle, bufsize=0>>"
        await held.protocol.lost()
        await settle(1)
        assert shape(transport) == "<closed fd=N>"


@looped
async def test_one_made_first_then_reading_then_the_caller() -> None:
    loop = asyncio.get_running_loop()
    order: list[str] = []

    def made(protocol: Recorder, transport: Any) -> None:
        order.append("made")
        loop.call_soon(order.append, "turn after made")

    here, there = socket.socketpair()
    with there:
        there.send(b"early")
        protocol = Recorder(
            connection_made=made, data_received=lambda p, d: order.append("data")
        )
        transport, returned = await loop.create_connection(lambda: protocol, sock=here)
        order.append("caller")
        assert returned is protocol
        assert protocol.transport is transport
        await protocol.got(5)
        transport.close()
        await protocol.lost()
    assert order[:2] == ["made", "turn after made"]
    assert sorted(order[2:]) == ["caller", "data"]


def test_order_of_a_new_connection_equals_the_standard_one(both_factories: Any) -> None:
    async def scenario() -> list[str]:
        loop = asyncio.get_running_loop()
        order: list[str] = []

        def tick(count: int) -> None:
            order.append(f"tick {count}")
            if count:
                loop.call_soon(tick, count - 1)

        here, there = socket.socketpair()
        with there:
            there.send(b"early")
            there.shutdown(socket.SHUT_WR)
            protocol = Recorder(
                connection_made=lambda p, t: order.append("made"),
                data_received=lambda p, d: order.append("data"),
                eof_received=lambda p: order.append("eof"),
                connection_lost=lambda p, e: order.append("lost"),
            )
            loop.call_soon(tick, 12)
            await loop.create_connection(lambda: protocol, sock=here)
            order.append("caller")
            await protocol.lost()
            order.append("caller saw it")
            await settle(1)
        while "tick 0" not in order:
            await asyncio.sleep(0)
        return [name for name in order if not name.startswith("tick")]

    assert compare(both_factories, scenario)[0] == "made"


# --- what it carries ---


def pieces(seed: int, total: int) -> list[bytes]:
    """Random bytes in pieces of very different sizes."""
    rng = random.Random(seed)
    left = total
    made = []
    while left:
        size = min(left, int(2 ** rng.uniform(0, 18)))
        made.append(rng.randbytes(size))
        left -= size
    return made


async def pump(transport: Any, protocol: Any, data: list[bytes], seed: int) -> None:
    """Writes the pieces in random ways, and waits while writing is paused."""
    rng = random.Random(seed)
    rest = list(reversed(data))
    while rest:
        while protocol.count("pause_writing") > protocol.count("resume_writing"):
            seen = protocol.count("resume_writing")
            await protocol.until(
                lambda seen=seen: protocol.count("resume_writing") > seen
            )
        way = rng.randrange(5)
        if way == 0:
            transport.writelines([rest.pop() for _ in range(min(len(rest), 5))])
        elif way == 1:
            transport.write(bytearray(rest.pop()))
        elif way == 2:
            transport.write(memoryview(rest.pop()))
        elif way == 3:
            transport.write(rest.pop())
            await asyncio.sleep(0)
        else:
            transport.write(rest.pop())


async def stutter(transport: Any, stop: asyncio.Event, seed: int) -> None:
    """Pauses and resumes reading at random turns."""
    rng = random.Random(seed)
    while not stop.is_set():
        transport.pause_reading()
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)
        transport.resume_reading()
        for _ in range(rng.randrange(1, 8)):
            await asyncio.sleep(0)


@pytest.mark.parametrize("buffered", [False, True], ids=["protocol", "buffered"])
@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_large_data_both_ways_is_byte_exact(kind: str, buffered: bool) -> None:
    there = pieces(1, 1_500_000)
    back = pieces(2, 1_000_000)
    near: Any = BufferedRecorder(10_007) if buffered else Recorder()
    far: Any = BufferedRecorder(70_001) if buffered else Recorder()
    async with link(kind, near, far) as pair:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(stutter(pair.far, stop, 3))
            writers = [
                group.create_task(pump(pair.near, near, there, 4)),
                group.create_task(pump(pair.far, far, back, 5)),
            ]
            await asyncio.gather(*writers)
            assert await far.got(1_500_000) == b"".join(there)
            assert await near.got(1_000_000) == b"".join(back)
            stop.set()
        for protocol in (near, far):
            paused = protocol.count("pause_writing")
            assert protocol.count("resume_writing") == paused


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_echo_from_within_data_received(kind: str) -> None:
    far = Recorder(data_received=lambda p, data: p.transport.write(data))
    near = Recorder()
    async with link(kind, near, far) as pair:
        for number in range(50):
            pair.near.write(b"%06d" % number)
            await near.got(6 * (number + 1))
        assert bytes(near.received) == b"".join(b"%06d" % n for n in range(50))


@looped
async def test_many_connections_at_once() -> None:
    loop = asyncio.get_running_loop()
    far = lambda: Recorder(  # noqa: E731
        data_received=lambda p, data: p.transport.write(data.upper()),
        eof_received=lambda p: None,
    )
    server = await loop.create_server(far, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    near = [Recorder() for _ in range(100)]

    async def talk(number: int) -> None:
        protocol = near[number]
        await loop.create_connection(lambda: protocol, host, port)
        for turn in range(5):
            protocol.transport.write(b"<%03d.%d>a" % (number, turn))
            await protocol.got(8 * (turn + 1))
        protocol.transport.write_eof()
        assert await protocol.lost() is None

    await asyncio.gather(*map(talk, range(100)))
    for number, protocol in enumerate(near):
        expected = b"".join(b"<%03d.%d>A" % (number, turn) for turn in range(5))
        assert bytes(protocol.received) == expected
    server.close()
    await server.wait_closed()


# --- collected, closed with the loop, used outside of its run ---


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_idle_unreferenced_transport_is_collected(kind: str, side: str) -> None:
    protocol = Recorder()
    # a transport that reads is held by the loop, on the standard loop as well
    async with wire(protocol, kind, side, hold=False) as held:
        await settle(1)
        transport = held.transport
        held.drop()
        transport.pause_reading()
        gone = weakref.ref(transport)
        fd = transport.get_extra_info("socket").fileno()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport
            gc.collect()
        # the standard transport is in a cycle with its socket, which may warn as well
        [text] = [str(w.message) for w in caught if "transport" in str(w.message)]
        assert all(w.category is ResourceWarning for w in caught)
        assert re.fullmatch(
            rf"unclosed transport <\S+ fd={fd} read=idle write=<idle, bufsize=0>>", text
        )
        del caught  # a warning refers to its source
        gc.collect()
        assert gone() is None
        assert await held.peer.recv_all() == b""
        assert protocol.count("connection_lost") == 0


def close_it(transport: Any) -> None:
    transport.close()


def write_it(transport: Any) -> None:
    transport.write(b"lost")
    transport.get_write_buffer_size()  # the cork


def abort_it(transport: Any) -> None:
    transport.abort()


@pytest.mark.parametrize("end", [close_it, abort_it, write_it])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", WIRES)
def test_transport_goes_on_after_its_finalizer(
    both_factories: Any, kind: str, side: str, end: Callable[[Any], None]
) -> None:
    """What is in one cycle with it may still use it: it is not closing yet."""

    async def scenario() -> Any:
        trace: list[Any] = []
        protocol = Recorder()
        async with wire(protocol, kind, side, hold=False) as held:
            transport = held.transport
            transport.pause_reading()
            await settle()
            for _ in range(2):
                with pytest.warns(ResourceWarning, match="unclosed transport"):
                    transport.__del__()
                assert await held.peer.recv_all() == b""
            trace.append(repr(transport).partition(" fd=")[2].partition(" ")[2])
            trace.append((transport.is_closing(), transport.is_reading()))
            trace.append(transport.get_protocol() is protocol)
            trace.append(transport.get_extra_info("socket").fileno())
            trace.append(outcome(transport.resume_reading))
            trace.append(outcome(transport.write_eof) if end is not write_it else None)
            end(transport)
            trace.append(transport.is_closing())
            trace.append(repr(await protocol.lost()))
            trace.append(protocol.names())
            await settle()
            transport.__del__()
            trace.append(outcome(transport.close))
        return trace

    compare(both_factories, scenario)


@pytest.mark.skipif(
    not hasattr(asyncio.StreamWriter, "__del__"), reason="no warning in 3.11.2"
)
@pytest.mark.skipif(FREE_THREADED, reason="its collector has an order of its own")
@looped
async def test_writer_is_finalized_after_its_transport() -> None:
    """The writer's finalizer finds a transport that is open, and closes it."""
    asyncio.get_running_loop().set_debug(False)  # in debug mode the writer comes first
    handled = asyncio.Event()

    async def handler(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        # younger than the transport, and in its cycle
        writer.transport.get_protocol().writer = writer  # type: ignore[attr-defined]
        handled.set()

    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await handled.wait()
    await settle()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    texts = [str(w.message) for w in caught if "socket.socket" not in str(w.message)]
    assert all(w.category is ResourceWarning for w in caught)
    assert [text.partition(" ")[2].split(" ")[0] for text in texts] == [
        "transport",
        "<StreamWriter",
    ]
    assert " closing " in texts[1]
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await settle()
    del caught
    gc.collect()


@looped
async def test_reading_transport_is_held_by_the_loop() -> None:
    protocol = Recorder()
    async with wire(protocol, hold=False) as held:
        await settle(1)
        held.drop()
        gc.collect()
        held.peer.send_now(b"still here")
        assert await protocol.got(10) == b"still here"
        held.peer.close()
        assert await protocol.lost() is None


@looped
async def test_writing_transport_is_held_by_the_loop() -> None:
    protocol = Recorder()
    async with wire(protocol, hold=True) as held:
        written = held.fill()
        held.transport.pause_reading()
        gone = weakref.ref(held.transport)
        held.drop()
        gc.collect()
        held.transport = gone()
        assert held.transport is not None
        assert len(await held.peer.recv(written)) == written
        held.transport.resume_reading()


@pytest.mark.parametrize("kind", WIRES)
def test_loop_closed_with_an_open_transport(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], kind: str
) -> None:
    loop = loop_factory()
    protocol = Recorder()

    async def open_one() -> tuple[Any, Any]:
        manager = wire(protocol, kind)
        return await manager.__aenter__(), manager

    held, manager = loop.run_until_complete(open_one())
    held.peer.send_now(b"unread")
    loop.close()
    transport = held.transport
    assert re.fullmatch(r"<\S+ fd=\d+>", repr(transport))
    assert not transport.is_closing()
    transport.write(b"after close")
    assert held.peer.recv_now() == b"after close"
    assert transport.get_write_buffer_size() == 0
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    assert transport.is_closing()
    assert protocol.names() == ["connection_made"]
    held.drop()
    transport_gone = weakref.ref(transport)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    [text] = [str(w.message) for w in caught if "transport" in str(w.message)]
    assert re.fullmatch(r"unclosed transport <\S+ closing fd=\d+>", text)
    del caught  # a warning refers to its source
    gc.collect()
    assert transport_gone() is None
    held.peer.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((AttributeError, RuntimeError)):
            manager.__aexit__(None, None, None).send(None)


def test_write_while_the_loop_does_not_run(loop: asyncio.AbstractEventLoop) -> None:
    protocol = Recorder()
    here, there = socket.socketpair()
    with there:
        there.setblocking(False)
        made = loop.create_connection(lambda: protocol, sock=here)
        transport, _ = loop.run_until_complete(made)
        transport.write(b"sent at once")
        assert there.recv(100) == b"sent at once"
        transport.writelines([b"and ", b"this"])
        assert there.recv(100) == b"and this"
        transport.write_eof()
        assert there.recv(100) == b""
        there.send(b"answer")
        loop.run_until_complete(protocol.got(6))
        transport.close()
        loop.run_until_complete(protocol.lost())


@looped
async def test_write_from_a_finalizer() -> None:
    class Last:
        def __init__(self, transport: Any) -> None:
            self.transport = transport

        def __del__(self) -> None:
            self.transport.write(b"last words")
            self.transport.close()

    async with wire(Recorder()) as held:
        last = Last(held.transport)
        last.cycle = last  # type: ignore[attr-defined]
        del last
        gc.collect()
        assert await held.peer.recv_all() == b"last words"
        assert await held.protocol.lost() is None


@looped
async def test_write_from_another_thread() -> None:
    # no guarantee of asyncio's, but programs do it: it works, and nothing breaks
    async with wire(Recorder()) as held:

        def talk() -> None:
            for number in range(200):
                held.transport.write(b"%04d" % number)

        thread = threading.Thread(target=talk)
        thread.start()
        data = await held.peer.recv(800)
        thread.join()
    assert data == b"".join(b"%04d" % n for n in range(200))


def test_abort_from_another_thread_in_debug_mode_raises(
    loop: asyncio.AbstractEventLoop,
) -> None:
    here, there = socket.socketpair()
    with there:
        protocol = Recorder()
        made = loop.create_connection(lambda: protocol, sock=here)
        held = [loop.run_until_complete(made)[0]]
        protocol.transport = None
        protocol.calls.clear()
        loop.set_debug(True)
        text = "Non-thread-safe operation invoked on an event loop other than the"

        async def main() -> None:
            with pytest.raises(RuntimeError, match=text):
                await loop.run_in_executor(None, held[0].abort)

        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        if FREE_THREADED and isinstance(loop, asynccore.Loop):
            assert not held[0].is_closing()  # nothing has begun
            held[0].abort()
            loop.run_until_complete(asyncio.sleep(0))
            return

        def drop() -> None:
            held.clear()
            gc.collect()

        # the standard transport believes from here on that its end is scheduled
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            drop()
        assert there.recv(1) == b""


# --- wrong calls ---

METHODS = (
    "abort",
    "can_write_eof",
    "close",
    "get_extra_info",
    "get_protocol",
    "get_write_buffer_limits",
    "get_write_buffer_size",
    "is_closing",
    "is_reading",
    "pause_reading",
    "resume_reading",
    "set_protocol",
    "set_write_buffer_limits",
    "write",
    "write_eof",
    "writelines",
)


@pytest.mark.parametrize("method", METHODS)
def test_wrong_arguments_raise_what_the_standard_ones_raise(
    both_factories: Any, method: str
) -> None:
    values = (None, -1, 1 << 80, float("nan"), "text", b"", [], {}, object())

    async def scenario() -> Any:
        found = []
        for args in ((), *((value,) for value in values), (b"a", 2), (1, 2, 3)):
            for kwargs in ({}, {"unknown": 1}):
                async with wire(Recorder(), "pair") as held:
                    call = getattr(held.transport, method)
                    kind, value = outcome(call, *args, **kwargs)
                    if kind != "returned" or isinstance(value, bool | int | tuple):
                        found.append((kind, value if kind == "returned" else ""))
                    else:
                        found.append((kind, type(value).__name__))
                    if held.transport.get_protocol() is not held.protocol:
                        held.transport.set_protocol(held.protocol)
        return found

    found = compare(both_factories, scenario)
    assert "TypeError" in dict(found)


@only_asynccore  # the standard transport has no state in C to be left unset
@looped
async def test_transport_that_was_never_initialised() -> None:
    async with wire(Recorder()) as held:
        kind = type(held.transport)
    try:
        empty = kind.__new__(kind)
    except TypeError:
        return  # refused: nothing can be called on it
    for method in METHODS:
        for args in ((), (b"x",), ([b"x"],), (None,)):
            assert len(outcome(getattr(empty, method), *args)) == 2
    assert isinstance(repr(empty), str)
    del empty
    gc.collect()


@pytest.mark.parametrize("closed", ["0", "0,1,2"])
def test_program_started_with_standard_descriptors_closed(
    script: Any, closed: str
) -> None:
    """Connections get the numbers 0 to 2, which are numbers like others."""
    done = script(
        """
        import asyncio, os, sys

        report = os.dup(1)
        if report < 10:
            import fcntl
            report = fcntl.fcntl(1, fcntl.F_DUPFD, 20)
        for number in sys.argv[1].split(","):
            os.close(int(number))

        async def echo(reader, writer):
            writer.write(await reader.readexactly(5))
            writer.close()
            await writer.wait_closed()

        async def main():
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            for _ in range(3):
                pairs = [await asyncio.open_connection(host, port) for _ in range(5)]
                for reader, writer in pairs:
                    writer.write(b"hello")
                    assert await reader.read() == b"hello"
                    writer.close()
                    await writer.wait_closed()
            server.close()
            await server.wait_closed()

        loop = new_event_loop()
        loop.run_until_complete(asyncio.wait_for(main(), 20))
        loop.close()
        os.write(report, b"fine")
        os._exit(0)
        """,
        closed,
    )
    assert done.stdout == "fine"


# --- the number of a transport's descriptor ---


USED = r"File descriptor \S+ is used by transport <.*fd=\d+ .*>"


@pytest.mark.parametrize("kind", PLAIN_LINKS)
@looped
async def test_descriptor_is_reserved_while_open(kind: str) -> None:
    loop = asyncio.get_running_loop()
    async with link(kind, Recorder(), Recorder()) as pair:
        fd = pair.near.get_extra_info("socket").fileno()
        calls: list[Callable[[], Any]] = [
            lambda: loop.add_reader(fd, print),
            lambda: loop.add_writer(fd, print),
            lambda: loop.remove_reader(fd),
            lambda: loop.remove_writer(fd),
        ]
        for call in calls:
            with pytest.raises(RuntimeError, match=USED):
                call()
        pair.near.write(b"works")
        assert await pair.far_protocol.got(5) == b"works"
        pair.near.close()
        # closing: the number is free for its owner again, as on the standard loop
        assert loop.remove_reader(fd) is False
        assert loop.remove_writer(fd) is False


@looped
async def test_sock_methods_refuse_a_transport_s_socket() -> None:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with there:
        protocol = Recorder()
        transport, _ = await loop.create_connection(lambda: protocol, sock=here)
        buffer = bytearray(10)
        for awaitable in (
            loop.sock_recv(here, 10),
            loop.sock_recv_into(here, buffer),
            loop.sock_recvfrom(here, 10),
            loop.sock_recvfrom_into(here, buffer),
        ):
            with pytest.raises(RuntimeError, match="is used by transport"):
                await awaitable
        if sys.version_info >= (3, 12):  # 3.11 does not look
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.create_connection(Recorder, sock=here)
        transport.close()
        await protocol.lost()
    assert here.fileno() == -1


@looped
async def test_second_transport_while_the_first_sends_its_rest() -> None:
    loop = asyncio.get_running_loop()
    size = 1 << 20
    here, there = socket.socketpair()
    with there:
        there.setblocking(False)
        first, second = Recorder(), Recorder()
        transport, _ = await loop.create_connection(lambda: first, sock=here)
        transport.write(b"x" * size)
        transport.close()
        other, _ = await loop.create_connection(lambda: second, sock=here)
        there.send(b"for the second")
        assert await second.got(14) == b"for the second"
        received = 0
        while received < size:
            received += len(await loop.sock_recv(there, size))
        assert await first.lost() is None
        assert here.fileno() == -1
        assert first.received == b""
        other.abort()
        assert await second.lost() is None


@looped
async def test_numbers_are_reused_over_and_over() -> None:
    loop = asyncio.get_running_loop()
    numbers = set()
    for turn in range(50):
        async with link("tcp", Recorder(), Recorder()) as pair:
            numbers.add(pair.near.get_extra_info("socket").fileno())
            pair.near.write(b"%d" % turn)
            await pair.far_protocol.got(1)
            pair.near.close()
            await pair.near_protocol.lost()
            await settle(1)
            # the number is at once somebody else's
            one, two = socket.socketpair()
            with one, two:
                one.setblocking(False)
                two.send(b"new owner")
                assert await loop.sock_recv(one, 100) == b"new owner"
    assert len(numbers) < 50


@looped
async def test_user_closes_the_socket_that_was_passed() -> None:
    """The user closes sock= under the transport, and the number is reused."""
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    here, there = socket.socketpair()
    transport, _ = await loop.create_connection(lambda: protocol, sock=here)
    transport.pause_reading()
    here.close()
    one, two = socket.socketpair()
    one.setblocking(False)
    with one, two, there:
        transport.abort()
        assert await protocol.lost() is None
        await settle(1)
        two.send(b"untouched")
        assert await loop.sock_recv(one, 100) == b"untouched"
        one.send(b"both ways")
        assert two.recv(100) == b"both ways"


@looped
async def test_user_detaches_the_socket_that_was_passed() -> None:
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    here, there = socket.socketpair()
    transport, _ = await loop.create_connection(lambda: protocol, sock=here)
    transport.pause_reading()
    taken = socket.socket(fileno=here.detach())
    with there, taken:
        transport.abort()
        assert await protocol.lost() is None
        await settle(1)
        taken.send(b"mine now")
        assert there.recv(100) == b"mine now"


@only_asynccore  # the standard loop polls the new owner for the old transport
@looped
async def test_socket_closed_under_a_reading_transport() -> None:
    """Its number goes to a socket that is watched, then to another transport."""
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    here, there = socket.socketpair()
    number = here.fileno()
    transport, _ = await loop.create_connection(lambda: protocol, sock=here)
    await settle()
    here.close()
    one, two = socket.socketpair()
    assert number in (one.fileno(), two.fileno())
    if two.fileno() == number:
        one, two = two, one
    with there, two:
        new = Recorder()
        await loop.create_connection(lambda: new, sock=one)
        two.send(b"for the new one")
        assert await new.got(15) == b"for the new one"
        transport.write(b"lost")
        transport.abort()
        assert await protocol.lost() is None or protocol.count("connection_lost") == 1
        await settle()
        two.send(b"still")
        assert await new.got(20) == b"for the new onestill"
        new.transport.write(b"both ways")
        await settle(1)
        assert two.recv(100) == b"both ways"
        assert protocol.received == b""
        new.transport.close()
        assert await new.lost() is None


@only_asynccore  # likewise
@looped
async def test_number_of_a_closed_socket_is_watched_by_its_new_owner() -> None:
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    here, there = socket.socketpair()
    number = here.fileno()
    transport, _ = await loop.create_connection(lambda: protocol, sock=here)
    await settle()
    here.close()
    transport.abort()
    one, two = socket.socketpair()
    if two.fileno() == number:
        one, two = two, one
    assert one.fileno() == number
    with there, one, two:
        seen = asyncio.Event()
        loop.add_reader(one, seen.set)
        assert await protocol.lost() is None
        two.send(b"x")
        await seen.wait()
        assert loop.remove_reader(one)
        assert protocol.received == b""


@only_asynccore  # the standard loop raises from pause_reading() and from abort()
@looped
async def test_paused_when_a_duplicate_outlives_its_number() -> None:
    """The kernel goes on reporting a number that no change can be made to."""
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    here, there = socket.socketpair()
    number = here.fileno()
    with there:
        transport, _ = await loop.create_connection(lambda: protocol, sock=here)
        await settle()
        transport.write(bytes(10_000_000))  # so that writability is waited for as well
        duplicate = os.dup(number)
        os.close(number)
        transport.pause_reading()
        os.dup2(duplicate, number)  # for the socket object to close
        os.close(duplicate)
        there.send(b"not for a paused one")
        await settle()
        assert protocol.received == b""
        transport.abort()
        assert await protocol.lost() is None


@looped
async def test_dropped_transports_give_their_numbers_back() -> None:
    """Numbers of one connection after the other, none of them closed by hand."""
    loop = asyncio.get_running_loop()
    for _ in range(6):  # each collects twice, which is slow behind many tests
        protocol = Recorder()
        here, there = socket.socketpair()
        transport, _ = await loop.create_connection(lambda p=protocol: p, sock=here)
        transport.pause_reading()
        protocol.transport = None
        protocol.calls.clear()
        held = [transport]
        del transport, here
        await settle(1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            held.clear()
            gc.collect()
        # the standard transport's socket may warn as well
        assert [w for w in caught if "unclosed transport" in str(w.message)]
        del caught
        gc.collect()
        there.settimeout(5)
        assert there.recv(1) == b""
        there.close()


@only_asynccore  # on the standard loop its selector's table fails the second connection
@looped
async def test_number_closed_behind_a_transport_and_used_by_the_next() -> None:
    """The next connection gets the number that the first is still watched under."""
    loop = asyncio.get_running_loop()
    loop.set_debug(False)  # else accepting is the standard's
    made: asyncio.Queue[Recorder] = asyncio.Queue()
    server = await loop.create_server(
        lambda: Recorder(connection_made=lambda self, _: made.put_nowait(self)),
        "127.0.0.1",
        0,
    )
    first, second = socket.socket(), socket.socket()
    with first, second:
        first.connect(server.sockets[0].getsockname())
        stale = await made.get()
        await settle()
        number = stale.transport.get_extra_info("socket")._sock.detach()
        second.connect(server.sockets[0].getsockname())
        os.close(number)
        protocol = await made.get()
        transport = protocol.transport
        assert transport.get_extra_info("socket").fileno() == number
        second.sendall(b"to the second")
        assert await protocol.got(13) == b"to the second"
        stale.transport.abort()
        await settle()
        second.sendall(b", still")
        assert await protocol.got(20) == b"to the second, still"
        assert stale.received == b""
        transport.close()
        assert await protocol.lost() is None
    server.close()
    await server.wait_closed()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for a server and its clients, beyond the usual limit of 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"the hard limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@looped
async def test_more_connections_than_one_poll_reports(many_descriptors: None) -> None:
    """libuv takes 1,024 events at a time: those beyond are watched in another set."""
    loop = asyncio.get_running_loop()
    protocols: dict[Any, Recorder] = {}
    made = asyncio.Semaphore(0)

    def connected(protocol: Recorder, transport: Any) -> None:
        protocols[transport.get_extra_info("peername")] = protocol
        made.release()

    server = await loop.create_server(
        lambda: Recorder(connection_made=connected), "127.0.0.1", 0, backlog=1500
    )
    address = server.sockets[0].getsockname()
    peers = [Peer(socket.create_connection(address)) for _ in range(1200)]
    for _ in peers:
        await made.acquire()
    served = [protocols[peer.sock.getsockname()] for peer in peers]
    for number, peer in enumerate(peers):
        peer.send_now(b"%4d" % number)
    for number, protocol in enumerate(served):
        assert await protocol.got(4) == b"%4d" % number
        protocol.transport.write(b"%4d" % number)
    for number, peer in enumerate(peers):
        assert await peer.recv(4) == b"%4d" % number

    last, protocol = peers[-1], served[-1]
    protocol.transport.pause_reading()
    last.send_now(b", paused")
    await settle()
    assert protocol.received == b"1199"
    protocol.transport.resume_reading()
    assert await protocol.got(12) == b"1199, paused"
    with tempfile.TemporaryFile() as file:
        file.write(b"from a file")
        file.flush()
        assert await loop.sendfile(protocol.transport, file) == 11
    assert await last.recv(11) == b"from a file"
    last.send_now(b", again")
    assert await protocol.got(19) == b"1199, paused, again"

    for peer in peers[::2]:
        peer.close()
    for protocol in served[1::2]:
        protocol.transport.abort()
    for protocol in served:
        assert await protocol.lost() is None
    for peer in peers[1::2]:
        assert await peer.recv_all() == b""
        peer.close()
    server.close()
    await server.wait_closed()


@only_asynccore  # resume_reading() of the standard transport raises PermissionError
@looped
async def test_number_exposed_before_its_set_changed(many_descriptors: None) -> None:
    """libuv ends the process when a number that it watches is a regular file's."""
    loop = asyncio.get_running_loop()
    loop.set_debug(False)
    made: asyncio.Queue[Recorder] = asyncio.Queue()
    server = await loop.create_server(
        lambda: Recorder(connection_made=lambda self, _: made.put_nowait(self)),
        "127.0.0.1",
        0,
        backlog=1500,
    )
    address = server.sockets[0].getsockname()
    peers = [Peer(socket.create_connection(address)) for _ in range(1020)]
    served = [await made.get() for _ in peers]
    transport = served[-1].transport
    peername = transport.get_extra_info("peername")
    (peer,) = [peer for peer in peers if peer.sock.getsockname() == peername]
    await settle()
    for protocol in served[:20]:
        protocol.transport.abort()
        await protocol.lost()
    data = bytes(8 << 20)
    transport.write(data)
    with tempfile.TemporaryFile() as file:
        file.write(b"from a file")
        file.flush()
        receiving = asyncio.ensure_future(peer.recv(len(data) + 11))
        assert await loop.sendfile(transport, file) == 11
        assert (await receiving).endswith(b"from a file")
        await settle()
        transport.pause_reading()
        await settle()
        number = transport.get_extra_info("socket")._sock.detach()
        os.dup2(file.fileno(), number)
        transport.resume_reading()
        error = await served[-1].lost()
        assert isinstance(error, OSError) and error.errno == errno.EBADF
        os.close(number)
    for protocol in served[20:-1]:
        protocol.transport.abort()
        await protocol.lost()
    for peer in peers:
        peer.sock.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("name", ["send", "recv"])
@pytest.mark.parametrize("side", ["given", "accepted", "made"])
def test_method_that_is_replaced_in_the_class(
    loop: Any, monkeypatch: pytest.MonkeyPatch, side: str, name: str
) -> None:
    """It is called, by transports that are made from then on."""
    calls: list[bytes] = []
    original = getattr(socket.socket, name)

    def changed(self: socket.socket, *args: Any) -> Any:
        calls.append(name.encode())
        return original(self, *args)

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def main() -> None:
        echo = Echo()
        monkeypatch.setattr(socket.socket, name, changed)
        listening = socket.create_server(("127.0.0.1", 0))
        if side == "made":
            await loop.create_connection(lambda: echo, *listening.getsockname())
            peer, _ = listening.accept()
        else:
            peer = socket.create_connection(listening.getsockname())
            if side == "given":
                here, _ = listening.accept()
                await loop.create_connection(lambda: echo, sock=here)
            else:
                server = await loop.create_server(lambda: echo, sock=listening)
        peer.setblocking(False)
        await loop.sock_sendall(peer, b"x")
        calls.clear()
        while not calls:
            await asyncio.sleep(0)
        monkeypatch.undo()
        assert await loop.sock_recv(peer, 10) == b"x"
        peer.close()
        if side == "accepted":
            server.close()
        listening.close()
        echo.transport.abort()
        await settle()

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert calls[0] == name.encode()
