"""The end of a stream: close, abort, half-close, connection_lost exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import weakref
from typing import Any, ClassVar

import pytest

import asynccore
from support import (
    LINKS,
    PAUSES_EARLY,
    PLAIN_LINKS,
    SIDES,
    WIRES,
    BufferedRecorder,
    Recorder,
    compare,
    link,
    looped,
    only_asynccore,
    outcome,
    settle,
    wire,
)

# --- close ---


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_close(kind: str, side: str) -> None:
    async with wire(Recorder(), kind, side) as held:
        transport, protocol = held.transport, held.protocol
        sock = transport.get_extra_info("socket")
        assert not transport.is_closing()
        assert transport.close() is None
        assert transport.is_closing()
        assert protocol.count("connection_lost") == 0  # never within close()
        assert await protocol.lost() is None
        assert await held.peer.recv_all() == b""
        assert sock.fileno() == -1
        transport.close()
        transport.abort()
        await settle()
        assert protocol.names() == ["connection_made", "connection_lost"]


@only_asynccore  # the standard transport raises AttributeError
def test_calls_after_a_queue_has_drained(loop: Any, faults: Any) -> None:
    async def main() -> None:
        async with wire(Recorder(), "tcp") as held:
            transport = held.transport
            transport.write(b"x" * (32 << 20))
            transport.close()
            assert len(await held.peer.recv_all()) == 32 << 20
            assert await held.protocol.lost() is None
            for _ in range(5):
                transport.write(b"too late")
            transport.abort()
            await settle()
            assert held.protocol.count("connection_lost") == 1

    loop.run_until_complete(main())
    assert set(faults.take_log()) == {"socket.send() raised exception."}


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_close_flushes_what_was_written(kind: str) -> None:
    near, far = Recorder(), Recorder()
    async with link(kind, near, far) as pair:
        pair.far.pause_reading()
        data = b"0123456789abcdef" * 100_000
        pair.near.write(data)
        pair.near.close()
        assert pair.near.is_closing()
        await settle()
        pair.far.resume_reading()
        assert await near.lost() is None
        assert await far.lost() is None
        assert far.received == data


@looped
async def test_close_flushes_and_reads_nothing_more() -> None:
    async with wire(Recorder()) as held:
        head = held.fill()
        held.transport.write(b"last")
        held.transport.close()
        held.peer.send_now(b"not read any more")
        await settle()
        assert held.protocol.count("connection_lost") == 0
        data = await held.peer.recv(head + 4)
        assert data[head:] == b"last"
        assert await held.protocol.lost() is None
        assert held.protocol.count("data_received") == 0


def test_write_after_close_while_flushing_equals_the_standard_loop(
    both_factories: Any,
) -> None:
    async def scenario() -> Any:
        async with wire(Recorder()) as held:
            head = held.fill()
            held.transport.close()
            result = outcome(held.transport.write, b"after close")
            held.transport.write_eof()
            data = await held.peer.recv_all()
            return result, data[head:], await held.protocol.lost()

    compare(both_factories, scenario)


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_peer_resets_while_close_flushes(kind: str) -> None:
    async with wire(Recorder(), kind) as held:
        held.fill()
        held.transport.close()
        held.peer.close()
        exc = await held.protocol.lost()
        assert type(exc) in (ConnectionResetError, BrokenPipeError)


@pytest.mark.parametrize("kind", ["pair", "tcp"])
@looped
async def test_somebody_else_reads_while_close_flushes(kind: str) -> None:
    """A number that is closing is free for add_reader(), and the queue drains."""
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    async with wire(protocol, kind) as held:
        number = held.transport.get_extra_info("socket").fileno()
        written = held.fill()
        held.transport.close()
        got: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            got.set_result(os.read(number, 10))
            assert loop.remove_reader(number)

        loop.add_reader(number, read)
        held.peer.send_now(b"more")
        assert await got == b"more"
        assert len(await held.peer.recv_all()) == written
        assert await protocol.lost() is None


@only_asynccore  # before 3.14 the standard transport loses its writer in close()
@looped
async def test_written_again_while_somebody_else_reads() -> None:
    more = b"m" * (1 << 20)
    pieces = [more]

    def write(protocol: Recorder) -> None:
        if pieces:
            protocol.transport.write(pieces.pop())

    protocol = Recorder(resume_writing=write)
    async with wire(protocol, "pair") as held:
        number = held.transport.get_extra_info("socket").fileno()
        held.transport.set_write_buffer_limits(0)
        written = held.fill()
        held.transport.close()
        got: list[bytes] = []
        asyncio.get_running_loop().add_reader(
            number, lambda: got.append(os.read(number, 10))
        )
        assert len(await held.peer.recv(written)) == written
        held.peer.send_now(b"x")
        assert await held.peer.recv_all() == more
        assert await protocol.lost() is None
        assert got == [b"x"]


@looped
async def test_close_twice_in_one_turn_with_a_queue() -> None:
    async with wire(Recorder()) as held:
        written = held.fill()
        held.transport.close()
        held.transport.close()
        assert len(await held.peer.recv_all()) == written
        assert await held.protocol.lost() is None
        await settle()
        assert held.protocol.count("connection_lost") == 1


@only_asynccore  # resume_reading() of the standard's raises OSError
@pytest.mark.parametrize("side", SIDES)
@looped
async def test_number_closed_behind_a_paused_transport(side: str) -> None:
    """The end is told at once: nothing else happens that would wake the loop."""
    asyncio.get_running_loop().set_debug(False)  # else accepting is the standard's
    async with wire(Recorder(), "tcp", side) as held:
        transport, protocol = held.transport, held.protocol
        transport.pause_reading()
        await settle()
        number = transport.get_extra_info("socket")._sock.detach()
        duplicate = os.dup(number)  # the peer sees no end
        os.close(number)
        transport.resume_reading()
        error = await protocol.lost()
        os.close(duplicate)
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF


# --- abort ---


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_abort_drops_the_queue(kind: str) -> None:
    async with wire(Recorder(), kind) as held:
        written = held.fill()
        held.transport.write(b"never sent")
        assert held.transport.get_write_buffer_size() > 0
        assert held.transport.abort() is None
        assert held.transport.get_write_buffer_size() == 0
        assert held.transport.is_closing()
        assert held.protocol.count("connection_lost") == 0
        assert await held.protocol.lost() is None
        data = await held.peer.recv_all()
        assert len(data) < written
        assert b"never sent" not in data


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_what_was_written_before_abort_arrives(kind: str) -> None:
    async with wire(Recorder(), kind) as held:
        held.transport.write(b"sent")
        held.transport.abort()
        assert await held.peer.recv_all() == b"sent"
        assert await held.protocol.lost() is None


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_abort_of_each_kind(kind: str) -> None:
    near, far = Recorder(), Recorder()
    async with link(kind, near, far) as pair:
        pair.near.abort()
        assert await near.lost() is None
        assert await far.lost() is None or kind not in PLAIN_LINKS
        pair.near.abort()
        pair.near.close()
        await settle()
        assert near.count("connection_lost") == 1


@looped
async def test_abort_after_close_with_a_queue() -> None:
    async with wire(Recorder()) as held:
        written = held.fill()
        held.transport.close()
        await settle()
        assert held.protocol.count("connection_lost") == 0
        held.transport.abort()
        assert await held.protocol.lost() is None
        assert len(await held.peer.recv_all()) < written


# --- half-close ---


@pytest.mark.parametrize("kind", PLAIN_LINKS)
@looped
async def test_write_eof_both_directions(kind: str) -> None:
    near = Recorder(eof_received=lambda p: True)
    far = Recorder(eof_received=lambda p: True)
    async with link(kind, near, far) as pair:
        assert pair.near.can_write_eof() is True
        pair.near.write(b"question")
        assert pair.near.write_eof() is None
        await far.eof()
        assert far.received == b"question"
        pair.far.write(b"answer")
        pair.far.write_eof()
        await near.eof()
        assert near.received == b"answer"
        assert not pair.near.is_closing()
        assert not pair.far.is_closing()
        pair.near.close()
        pair.far.close()
        assert await near.lost() is None
        assert await far.lost() is None


@pytest.mark.parametrize("kind", ["tls", "tls_unix", "start_tls"])
@looped
async def test_tls_has_no_half_close(kind: str) -> None:
    async with link(kind, Recorder(), Recorder()) as pair:
        assert pair.near.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            pair.near.write_eof()


@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_write_eof_comes_after_the_queue(kind: str) -> None:
    async with wire(Recorder(), kind) as held:
        head = held.fill()
        held.transport.write(b"last")
        held.transport.write_eof()
        assert held.transport.get_write_buffer_size() > 0
        data = await held.peer.recv_all()
        assert data[head:] == b"last"
        held.peer.send_now(b"the other way is open")
        assert await held.protocol.got(21) == b"the other way is open"
        assert not held.transport.is_closing()


@looped
async def test_write_after_write_eof() -> None:
    async with wire(Recorder()) as held:
        held.transport.write_eof()
        held.transport.write_eof()
        text = r"^Cannot call write\(\) after write_eof\(\)$"
        for data in (b"data", b""):
            with pytest.raises(RuntimeError, match=text):
                held.transport.write(data)
        assert await held.peer.recv_all() == b""
        held.peer.send_now(b"data")
        assert await held.protocol.got(4) == b"data"


def test_writelines_after_write_eof_equals_the_standard_loop(
    both_factories: Any,
) -> None:
    async def scenario() -> Any:
        async with wire(Recorder()) as held:
            held.transport.write_eof()
            lines = [[b"data"], [], [b""], iter([b"x"])]
            return [outcome(held.transport.writelines, line) for line in lines]

    compare(both_factories, scenario)


@looped
async def test_write_eof_after_close_does_nothing() -> None:
    async with wire(Recorder()) as held:
        held.transport.close()
        assert held.transport.write_eof() is None
        await held.protocol.lost()
        assert held.transport.write_eof() is None
        assert held.transport.can_write_eof() is True


def test_write_eof_to_a_reset_peer_equals_the_standard_loop(
    both_factories: Any,
) -> None:
    async def scenario() -> Any:
        async with wire(Recorder()) as held:
            held.transport.pause_reading()
            held.peer.reset()
            await settle()
            kind, _ = outcome(held.transport.write_eof)
            return kind, held.transport.is_closing()

    compare(both_factories, scenario)


@looped
async def test_write_eof_then_close_with_a_queue() -> None:
    async with wire(Recorder()) as held:
        written = held.fill()
        held.transport.write_eof()
        held.transport.close()
        assert len(await held.peer.recv_all()) == written
        assert await held.protocol.lost() is None


@looped
async def test_both_ends_half_close_with_large_data() -> None:
    near = Recorder(eof_received=lambda p: True)
    far = Recorder(eof_received=lambda p: True)
    async with link("tcp", near, far) as pair:
        pair.near.write(b"n" * 3_000_000)
        pair.near.write_eof()
        pair.far.write(b"f" * 3_000_000)
        pair.far.write_eof()
        await near.eof()
        await far.eof()
        assert near.received == b"f" * 3_000_000
        assert far.received == b"n" * 3_000_000


# --- exactly once, from every callback ---


def drop_last_reference(transport: Any) -> None:
    """Nothing but the caller's frame and the loop refers to the transport."""
    transport.get_protocol().transport = None
    transport.get_protocol().calls.clear()


def stop_the_loop(transport: Any) -> None:
    asyncio.get_running_loop().stop()


def replace_protocol(transport: Any) -> None:
    old = transport.get_protocol()
    new = Recorder()
    new.transport = transport
    new.calls = old.calls
    new._waiters = old._waiters
    new.received = old.received
    transport.set_protocol(new)


ACTIONS: dict[str, Any] = {
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "close and abort": lambda transport: (transport.close(), transport.abort()),
    "write": lambda transport: transport.write(b"!" * 100),
    "write a lot": lambda transport: transport.write(bytes(1 << 20)),
    "write and close": lambda transport: (transport.write(b"!"), transport.close()),
    "write_eof": lambda transport: transport.write_eof(),
    "pause": lambda transport: transport.pause_reading(),
    "pause and resume": lambda transport: (
        transport.pause_reading(),
        transport.resume_reading(),
    ),
    "replace the protocol": replace_protocol,
    "stop the loop": stop_the_loop,
    "collect": lambda transport: gc.collect(),
    "no limits": lambda transport: transport.set_write_buffer_limits(high=0),
}

CALLBACKS = (
    "connection_made",
    "data_received",
    "buffer_updated",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
)


def life(
    loop: asyncio.AbstractEventLoop, callback: str, action: Any, eof: Any = None
) -> Any:
    """A whole connection in which one callback does something unusual.

    Returns the trace, what the peer received, and the argument of connection_lost.
    """

    done: list[str] = []

    def act(protocol: Any, *args: Any) -> Any:
        transport = protocol.transport
        if not done:
            done.append(callback)
            action(transport)
        return eof if callback == "eof_received" else None

    make = BufferedRecorder if callback == "buffer_updated" else Recorder
    protocol = make(**{callback: act})
    received = bytearray()

    async def main() -> None:
        async with wire(protocol, "pair") as held:
            transport = held.transport
            with contextlib.suppress(BrokenPipeError):
                held.peer.send_now(b"question")
            await settle()
            received.extend(held.peer.recv_now())
            if not transport.is_closing() and callback.endswith("_writing"):
                transport.set_write_buffer_limits(high=0)
                size = held.fill()
                size += transport.get_write_buffer_size()
            for _ in range(40):
                received.extend(held.peer.recv_now())
                await settle(1)
            with contextlib.suppress(OSError):
                held.peer.shutdown()
            for _ in range(10):
                received.extend(held.peer.recv_now())
                await settle(1)
            if transport.get_protocol() is not None and not transport.is_closing():
                transport.abort()
            await settle()
            await protocol.until(lambda: protocol.count("connection_lost"))

    task = loop.create_task(main())
    task.add_done_callback(lambda _: loop.stop())
    for _ in range(3):  # a callback may stop the loop
        if not task.done():
            loop.run_forever()
    task.result()
    assert protocol.count("connection_lost") == 1
    names = [name for name, *_ in protocol.calls]
    assert names[-1] == "connection_lost"
    exc = protocol.calls[-1][1]
    compact = protocol.names()
    assert done == [callback] or callback in ("eof_received", "buffer_updated")
    filled = callback.endswith("_writing")
    return compact, None if filled else bytes(received), type(exc).__name__


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("callback", CALLBACKS)
def test_action_inside_callback(
    both_factories: Any, faults: Any, callback: str, action: str
) -> None:
    if (callback, action) == ("connection_made", "pause") and not PAUSES_EARLY:
        pytest.skip("the standard transport of this Python reads on")
    outcomes = []
    for factory in both_factories:
        loop = factory()
        try:
            outcomes.append(life(loop, callback, ACTIONS[action]))
        finally:
            loop.close()
    assert outcomes[1] == outcomes[0]
    faults.take_log()


@pytest.mark.parametrize("action", ["close", "write_eof", "write and close", "pause"])
def test_action_inside_eof_received_that_returns_true(
    both_factories: Any, action: str
) -> None:
    outcomes = []
    for factory in both_factories:
        loop = factory()
        try:
            outcomes.append(life(loop, "eof_received", ACTIONS[action], True))
        finally:
            loop.close()
    assert outcomes[1] == outcomes[0]


@pytest.mark.parametrize("callback", ["data_received", "eof_received"])
@looped
async def test_last_reference_dropped_inside_callback(callback: str) -> None:
    gone: list[Any] = []

    def drop(protocol: Recorder, *args: Any) -> None:
        gone.append(weakref.ref(protocol.transport))
        held.drop()
        gc.collect()

    protocol = Recorder(**{callback: drop})
    async with wire(protocol, hold=False) as held:
        held.peer.send_now(b"x")
        if callback == "eof_received":
            held.peer.shutdown()
        await protocol.until(lambda: gone)
        if callback == "data_received":
            assert gone[0]() is not None  # it reads: the loop holds it
            held.peer.shutdown()
        assert await protocol.lost() is None
        await settle(1)
        gc.collect()
        assert gone[0]() is None


@looped
async def test_transport_forgets_its_protocol() -> None:
    loop = asyncio.get_running_loop()
    protocol = Recorder()
    async with wire(protocol) as held:
        transport = held.transport
        assert transport.get_protocol() is protocol
        transport.close()
        assert transport.get_protocol() is protocol
        await protocol.lost()
        await settle(1)
        assert transport.get_protocol() is None
        assert loop is not None


@looped
async def test_closed_transport_is_freed_without_the_collector() -> None:
    protocol = Recorder()
    gc.collect()
    gc.disable()
    try:
        async with wire(protocol, hold=False) as held:
            gone = weakref.ref(held.transport)
            held.transport.close()
            await protocol.lost()
            await settle(1)
            held.drop()
            # the standard transport of 3.12 and later may be in a cycle of its own
            gc.collect()
            assert gone() is None
    finally:
        gc.enable()


@looped
async def test_methods_after_the_end() -> None:
    async with wire(Recorder()) as held:
        transport = held.transport
        transport.close()
        await held.protocol.lost()
        await settle(1)
        assert transport.is_closing()
        assert not transport.is_reading()
        assert transport.get_write_buffer_size() == 0
        assert transport.get_write_buffer_limits() == (16 << 10, 64 << 10)
        assert transport.can_write_eof()
        transport.set_write_buffer_limits(high=10)
        assert transport.get_write_buffer_limits() == (2, 10)
        assert transport.get_extra_info("socket").fileno() == -1
        assert transport.get_extra_info("peername") is not None
        transport.close()
        transport.abort()
        transport.write_eof()
        await settle()
        assert held.protocol.count("connection_lost") == 1


@looped
async def test_connection_lost_runs_in_a_later_turn_and_in_order() -> None:
    loop = asyncio.get_running_loop()
    order: list[str] = []
    lost = lambda p, exc: order.append("lost")  # noqa: E731
    async with wire(Recorder(connection_lost=lost)) as held:
        loop.call_soon(order.append, "before")
        held.transport.close()
        loop.call_soon(order.append, "after")
        await held.protocol.lost()
        await asyncio.sleep(0)
        assert order == ["before", "lost", "after"]


NO_LOOP = "'NoneType' object has no attribute 'call_soon'"


@looped
async def test_ended_while_it_is_made() -> None:
    """By a call_soon() of the program that calls at once."""
    loop = asyncio.get_running_loop()
    original = loop.call_soon

    def call_soon(callback: Any, *args: Any, context: Any = None) -> Any:
        if getattr(callback, "__name__", "") == "connection_made":
            callback(*args)
            args[0]._call_connection_lost(None)
        return original(callback, *args, context=context)

    loop.call_soon = call_soon  # type: ignore[method-assign]
    protocol = Recorder()
    here, there = socket.socketpair()
    with there:
        try:
            with pytest.raises(AttributeError, match=NO_LOOP):
                await loop.create_connection(lambda: protocol, sock=here)
        finally:
            del loop.call_soon
        assert there.recv(1) == b""
    assert protocol.names() == ["connection_made", "connection_lost"]


def test_ended_by_the_look_up_of_eof_received(loop: Any) -> None:
    reported: list[str] = []
    loop.set_exception_handler(lambda _, told: reported.append(str(told["exception"])))

    class Protocol(Recorder):
        @property
        def eof_received(self) -> Any:  # type: ignore[override]
            self.transport._call_connection_lost(None)
            return list

    async def main() -> None:
        reading, writing = os.pipe()
        pipe = open(reading, "rb", 0)  # noqa: SIM115
        _, protocol = await loop.connect_read_pipe(Protocol, pipe)
        os.close(writing)
        await settle()
        assert protocol.names() == ["connection_made", "connection_lost"]

    loop.run_until_complete(main())
    assert reported == [NO_LOOP]


def test_ended_while_it_gives_its_number_away() -> None:
    """By a method of the loop that is a program's own."""

    class Loop(asynccore.Loop):
        ended: ClassVar[list[Any]] = []

        def _add_writer(self, fd: Any, callback: Any, *args: Any) -> Any:
            handle = super()._add_writer(fd, callback, *args)
            while self.ended:
                self.ended.pop()._call_connection_lost(None)
            return handle

    async def main() -> None:
        here, there = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=here)
        while not transport.get_write_buffer_size():
            transport.write(bytes(1 << 16))
        waiter = transport._make_empty_waiter()  # its number may be watched by others
        Loop.ended.append(transport)
        with there, pytest.raises(OSError, match="Bad file descriptor"):
            loop.add_reader(here.fileno(), list)
        with pytest.raises(ConnectionError):
            await waiter
        assert protocol.names()[0] == "connection_made"
        assert protocol.count("connection_lost") == 1

    loop = Loop()
    loop.run_until_complete(main())
    loop.close()


@pytest.mark.parametrize("end", ["close", "abort"])
def test_ended_by_resume_writing(
    run: Any, loop_name: str, faults: Any, end: str
) -> None:
    async def main() -> None:
        resumed = lambda protocol: getattr(protocol.transport, end)()  # noqa: E731
        async with wire(Recorder(resume_writing=resumed)) as held:
            held.transport.set_write_buffer_limits(high=0)
            await held.peer.recv(held.fill())
            assert await held.protocol.lost() is None
            await settle()
            assert held.protocol.count("connection_lost") == 1

    run(main())
    if loop_name == "asyncio":
        # of the second end, but in the newest patch releases
        none = "'NoneType' object has no attribute"
        assert all(none in report for report in faults.take_log())
