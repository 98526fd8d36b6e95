"""The calls into a protocol: which, how they are looked up, what they may do."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import socket
from typing import Any

import pytest

from support import (
    LINKS,
    PLAIN_LINKS,
    SIDES,
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


def reports_of(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    """What the loop's exception handler gets from now on."""
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return reports


# --- BufferedProtocol ---


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_buffered_protocol(kind: str, size: int) -> None:
    far = BufferedRecorder(size)
    data = b"0123456789" * 50
    async with link(kind, Recorder(), far) as pair:
        pair.near.write(data)
        assert await far.got(len(data)) == data
        counts = [call[1] for call in far.calls if call[0] == "buffer_updated"]
        assert sum(counts) == len(data)
        assert max(counts) <= size
        if kind in PLAIN_LINKS and size < len(data):
            assert len(counts) >= len(data) // size


@looped
async def test_get_buffer_gets_the_standard_hint() -> None:
    buffer = bytearray(100)
    protocol = BufferedRecorder(get_buffer=lambda p, hint: buffer)
    async with wire(protocol) as held:
        held.peer.send_now(b"data")
        await protocol.until(lambda: protocol.count("buffer_updated"))
        hints = [call[1] for call in protocol.calls if call[0] == "get_buffer"]
        assert hints == [-1]
        assert buffer[:4] == b"data"


BUFFERS: dict[str, Any] = {
    "empty bytearray": bytearray,
    "empty memoryview": lambda: memoryview(bytearray()),
    "bytes": lambda: b"read only",
    "read-only view": lambda: memoryview(b"read only"),
    "None": lambda: None,
    "str": lambda: "text",
    "int": lambda: 5,
    "list": lambda: [0, 0],
    "strided view": lambda: memoryview(bytearray(8))[::2],
    "no dimension": lambda: memoryview(bytearray(1)).cast("B", ()),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_wrong_buffers_equal_the_standard_loop(both_factories: Any, name: str) -> None:
    async def scenario() -> Any:
        reports = reports_of(asyncio.get_running_loop())
        buffer = BUFFERS[name]()
        protocol = BufferedRecorder(get_buffer=lambda p, hint: buffer)
        async with wire(protocol) as held:
            held.peer.send_now(b"data")
            await settle()
            held.peer.close()
            exc = await protocol.lost()
            assert held.transport.is_closing()
            found = [
                (report["message"], report["exception"] is exc) for report in reports
            ]
            return found, type(exc).__name__, protocol.names()

    compare(both_factories, scenario)


@pytest.mark.parametrize("code", ["B", "b", "H", "I", "d"])
@looped
async def test_typed_buffers(code: str) -> None:
    raw = bytearray(64)
    view = memoryview(raw).cast(code)
    protocol = BufferedRecorder(get_buffer=lambda p, hint: view)
    async with wire(protocol) as held:
        held.peer.send_now(b"0123456789")
        await protocol.until(lambda: protocol.count("buffer_updated"))
        assert protocol.calls[-1] == ("buffer_updated", 10)
        assert raw[:10] == b"0123456789"


@looped
async def test_buffer_is_released_after_each_read() -> None:
    class Growing(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(4)
            self.data = b""

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]
            self.buffer.extend(b"\0" * 4)  # an exported bytearray cannot be resized

    protocol = Growing()
    recorder = Recorder()
    async with wire(recorder) as held:
        held.transport.set_protocol(protocol)
        await held.peer.send(b"0123456789" * 10)
        while len(protocol.data) < 100:
            await settle(1)
        assert protocol.data == b"0123456789" * 10
        held.transport.set_protocol(recorder)


ENDS = {
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "pause": lambda transport: transport.pause_reading(),
}


@pytest.mark.parametrize("end", ENDS)
def test_get_buffer_that_ends_the_transport(both_factories: Any, end: str) -> None:
    async def scenario() -> Any:
        buffer = bytearray(100)

        def get_buffer(protocol: Any, hint: int) -> bytearray:
            ENDS[end](protocol.transport)
            return buffer

        protocol = BufferedRecorder(get_buffer=get_buffer)
        async with wire(protocol, "pair") as held:
            held.peer.send_now(b"data")
            await settle()
            with contextlib.suppress(BrokenPipeError):
                held.peer.send_now(b"more")
            await settle()
            return protocol.names(), bytes(buffer[:10])

    compare(both_factories, scenario)


# --- hostile: a callback raises ---


FATAL = {
    "data_received": "Fatal error: protocol.data_received() call failed.",
    "buffer_updated": "Fatal error: protocol.buffer_updated() call failed.",
    "get_buffer": "Fatal error: protocol.get_buffer() call failed.",
    "eof_received": "Fatal error: protocol.eof_received() call failed.",
}


class Odd(BaseException):
    """Neither Exception nor one of the two that stop the loop."""


@pytest.mark.parametrize("error", [ValueError, OSError, Odd, asyncio.CancelledError])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", FATAL)
@looped
async def test_reading_callback_that_raises(
    name: str, side: str, error: type[BaseException]
) -> None:
    reports = reports_of(asyncio.get_running_loop())
    raised = error("hostile")

    def fail(protocol: Any, *args: Any) -> None:
        raise raised

    buffered = name in ("get_buffer", "buffer_updated")
    protocol = (BufferedRecorder if buffered else Recorder)(**{name: fail})
    async with wire(protocol, "tcp", side) as held:
        if name == "eof_received":
            held.peer.shutdown()
        else:
            held.peer.send_now(b"data")
        assert await protocol.lost() is raised
        assert held.transport.is_closing()
        if name != "get_buffer":  # what was not read makes it a reset
            assert await held.peer.recv_all() == b""
        if error is OSError:  # taken for an error of the connection
            assert reports == []
        else:
            [report] = reports
            assert report == {
                "message": FATAL[name],
                "exception": raised,
                "transport": held.transport,
                "protocol": protocol,
            }
        assert protocol.names()[-2:] == [name, "connection_lost"]
        reports.clear()
    raised.__traceback__ = None


@looped
async def test_connection_made_that_raises() -> None:
    reports = reports_of(asyncio.get_running_loop())
    raised = ValueError("hostile")

    def fail(protocol: Any, transport: Any) -> None:
        raise raised

    async with wire(Recorder(connection_made=fail)) as held:
        [report] = reports
        assert report["exception"] is raised
        assert report["message"].startswith("Exception in callback ")
        assert isinstance(report["handle"], asyncio.Handle)
        # the connection lives on, as on the standard loop
        held.peer.send_now(b"data")
        assert await held.protocol.got(4) == b"data"
        held.transport.write(b"answer")
        assert await held.peer.recv(6) == b"answer"
        reports.clear()
    raised.__traceback__ = None


@pytest.mark.parametrize("flush", [False, True])
@looped
async def test_connection_lost_that_raises(flush: bool) -> None:
    reports = reports_of(asyncio.get_running_loop())
    raised = ValueError("hostile")

    def fail(protocol: Any, exc: Any) -> None:
        raise raised

    async with wire(Recorder(connection_lost=fail)) as held:
        sock = held.transport.get_extra_info("socket")
        if flush:
            held.fill()
        held.transport.close()
        await held.peer.recv_all()
        await held.protocol.lost()
        await settle(1)
        assert sock.fileno() == -1
        [report] = reports
        assert report["exception"] is raised
        assert report["message"].startswith("Exception in callback ")
        reports.clear()
    raised.__traceback__ = None


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_factory_that_raises_for_one_client(run: Any, faults: Any, kind: str) -> None:
    """Later clients are served; the one that failed is hung up on."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(False)  # there the collector has to close the socket
        served: list[Recorder] = []
        calls = 0

        def factory() -> Recorder:
            nonlocal calls
            calls += 1
            if calls % 2:
                raise ValueError("hostile")
            served.append(Recorder(data_received=lambda p, d: p.transport.write(d)))
            return served[-1]

        if kind == "unix":
            name = f"\0asynccore-test-{os.getpid()}"
            server: Any = await loop.create_unix_server(factory, name)
        else:
            server = await loop.create_server(factory, "127.0.0.1", 0)
        bound = server.sockets[0]
        for number in range(6):
            with socket.socket(bound.family) as client:
                client.connect(bound.getsockname())
                client.setblocking(False)
                if number % 2 == 0:
                    assert await loop.sock_recv(client, 10) == b""
                else:
                    await loop.sock_sendall(client, b"echo")
                    assert await loop.sock_recv(client, 10) == b"echo"
        assert calls == 6
        for protocol in served:
            await protocol.lost()
        server.close()
        await server.wait_closed()

    run(main())
    # the standard loop leaves the socket to the collector, which warns
    for text in faults.take_unraisable():
        assert "unclosed <socket.socket" in text


def test_factory_that_raises_is_reported_in_debug_mode(
    run: Any, loop: Any, faults: Any
) -> None:
    async def main() -> None:
        reports = reports_of(loop)
        loop.set_debug(True)
        loop.slow_callback_duration = 100
        raised = ValueError("hostile")

        def factory() -> Any:
            raise raised

        server = await loop.create_server(factory, "127.0.0.1", 0)
        with socket.socket() as client:
            client.connect(server.sockets[0].getsockname())
            client.setblocking(False)
            while not reports:
                await settle(1)
        loop.set_debug(False)
        report = reports[0]
        text = "Error on transport creation for incoming connection"
        assert report == {"message": text, "exception": raised}
        reports.clear()
        raised.__traceback__ = None
        server.close()

    run(main())
    faults.take_unraisable()


@pytest.mark.parametrize("always", [True, False])
def test_a_factory_that_raises_is_reported_as_by_the_interpreter(
    script: Any, always: bool
) -> None:
    """Without debug mode it is not, until gh-155934."""
    script(
        """
        import asyncio, inspect, socket, sys, textwrap
        from asyncio import selector_events

        always = sys.argv[1] == "True"
        method = selector_events.BaseSelectorEventLoop._accept_connection2
        code = textwrap.dedent(inspect.getsource(method))
        if not always and "_debug" not in code:
            sys.exit()  # the interpreter is as new
        if always:
            code = code.replace("if self._debug:", "if True:")
        names = vars(selector_events)
        exec(code, names)
        selector_events.BaseSelectorEventLoop._accept_connection2 = names.pop(
            "_accept_connection2"
        )
        make = new_event_loop
        if "asynccore" in sys.modules:  # which has looked at the method already
            for name in [name for name in sys.modules if "asynccore" in name]:
                del sys.modules[name]
            from asynccore import new_event_loop as make

        reports = []

        def factory():
            raise ValueError("hostile")

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_debug(False)
            loop.set_exception_handler(lambda _, context: reports.append(context))
            server = await loop.create_server(factory, "127.0.0.1", 0)
            with socket.socket() as client:
                client.connect(server.sockets[0].getsockname())
                client.setblocking(False)
                try:
                    await asyncio.wait_for(loop.sock_recv(client, 1), 0.5)
                except TimeoutError:  # closed by the collector
                    pass
            server.close()

        loop = make()
        loop.run_until_complete(main())
        loop.close()
        assert len(reports) == always, reports
        if always:
            assert str(reports[0]["exception"]) == "hostile"
            text = "Error on transport creation for incoming connection"
            assert reports[0]["message"] == text
        """,
        str(always),
    )


def test_connect_with_a_factory_that_raises_equals_the_standard_loop(
    both_factories: Any,
) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()

        def factory() -> Any:
            raise ValueError("hostile")

        with here, there:
            with pytest.raises(ValueError, match="hostile"):
                await loop.create_connection(factory, sock=here)
            return here.fileno() == -1  # closed since 3.14

    compare(both_factories, scenario)


# --- hostile: no protocol at all ---


@pytest.mark.parametrize("thing", [None, 5, object(), [], Recorder])
def test_odd_protocols_equal_the_standard_loop(
    both_factories: Any, faults: Any, thing: Any
) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        reports = reports_of(loop)
        here, there = socket.socketpair()
        with there:
            there.setblocking(False)
            try:
                transport, protocol = await loop.create_connection(
                    lambda: thing, sock=here
                )
            except Exception as exc:
                here.close()
                return type(exc).__name__, str(exc)
            assert protocol is thing
            there.send(b"data")
            await settle()
            kinds = [(r["message"], type(r["exception"]).__name__) for r in reports]
            transport.abort()
            await settle()
            reports.clear()
            kinds = [(m.partition(" ")[0], k) for m, k in kinds]
            return kinds, outcome(there.recv, 10)

    compare(both_factories, scenario)
    # the standard loop leaves a half-made transport to the collector
    for text in faults.take_unraisable():
        assert text.startswith("ResourceWarning: unclosed transport")


@pytest.mark.parametrize("thing", [None, 5, object()])
def test_setting_odd_protocols_equals_the_standard_loop(
    both_factories: Any, thing: Any
) -> None:
    async def scenario() -> Any:
        reports = reports_of(asyncio.get_running_loop())
        recorder = Recorder()
        async with wire(recorder) as held:
            result = outcome(held.transport.set_protocol, thing)
            same = held.transport.get_protocol() is thing
            held.peer.send_now(b"data")
            await settle()
            messages = [report["message"] for report in reports]
            kinds = [type(report["exception"]).__name__ for report in reports]
            closing = held.transport.is_closing()
            reports.clear()
            recorder.connection_lost(None)  # what is lost is not the recorder's
            held.transport.abort()
            await settle()
            texts = [message.partition(" ")[0] for message in messages]
            return result, same, texts, kinds, closing

    compare(both_factories, scenario)


@looped
async def test_duck_typed_protocol() -> None:
    class Duck:
        """No base class; what is not called does not have to exist."""

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data.upper())

        def eof_received(self) -> None:
            pass

        def connection_lost(self, exc: Any) -> None:
            done.set_result(exc)

    loop = asyncio.get_running_loop()
    done = loop.create_future()
    here, there = socket.socketpair()
    with there:
        there.setblocking(False)
        await loop.create_connection(Duck, sock=here)
        there.send(b"duck")
        assert await loop.sock_recv(there, 10) == b"DUCK"
        there.shutdown(socket.SHUT_WR)
        assert await done is None


# --- lookup ---


@looped
async def test_methods_are_looked_up_for_each_call() -> None:
    class Changing(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            seen.append(("class", data))

    seen: list[Any] = []
    recorder = Recorder()
    async with wire(recorder) as held:
        protocol = Changing()
        held.transport.set_protocol(protocol)

        async def send(data: bytes) -> Any:
            held.peer.send_now(data)
            count = len(seen)
            while len(seen) == count:
                await settle(1)
            return seen[-1]

        assert await send(b"1") == ("class", b"1")
        protocol.data_received = lambda data: seen.append(("instance", data))  # type: ignore[method-assign]
        assert await send(b"2") == ("instance", b"2")
        del protocol.data_received
        Changing.data_received = lambda self, data: seen.append(("new", data))  # type: ignore[method-assign]
        assert await send(b"3") == ("new", b"3")

        class Other(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                seen.append(("other", data))

        protocol.__class__ = Other  # type: ignore[assignment]
        assert await send(b"4") == ("other", b"4")
        held.transport.set_protocol(recorder)


@looped
async def test_connection_lost_assigned_on_the_instance() -> None:
    async with wire(Recorder()) as held:
        seen: list[Any] = []
        original = held.protocol.connection_lost

        def lost(exc: Any) -> None:
            seen.append(exc)
            original(exc)

        held.protocol.connection_lost = lost
        held.transport.close()
        await held.protocol.lost()
        assert seen == [None]
        del held.protocol.connection_lost


@looped
async def test_connection_made_is_looked_up_when_the_transport_is_made() -> None:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with there:
        protocol = Recorder()
        seen: list[str] = []

        def factory() -> Recorder:
            protocol.connection_made = lambda transport: (  # type: ignore[method-assign]
                seen.append("assigned"),
                Recorder.connection_made(protocol, transport),
            )
            return protocol

        transport, _ = await loop.create_connection(factory, sock=here)
        assert seen == ["assigned"]
        transport.abort()
        await protocol.lost()
        del protocol.connection_made


# --- switching ---


@pytest.mark.parametrize("kind", LINKS)
@looped
async def test_set_protocol_between_reads(kind: str) -> None:
    near, far = Recorder(), Recorder()
    async with link(kind, near, far) as pair:
        pair.near.write(b"first")
        await far.got(5)
        second = Recorder()
        assert pair.far.set_protocol(second) is None
        assert pair.far.get_protocol() is second
        pair.near.write(b"second")
        assert await second.got(6) == b"second"
        assert far.received == b"first"
        third = BufferedRecorder()
        pair.far.set_protocol(third)
        pair.near.write(b"third")
        assert await third.got(5) == b"third"
        pair.far.set_protocol(far)
        assert second.names() == ["data_received"]
        assert third.names() == ["buffer_updated"]


@pytest.mark.parametrize("kind", PLAIN_LINKS)
@looped
async def test_switching_inside_the_reading_callback(kind: str) -> None:
    """Protocol -> BufferedProtocol -> Protocol -> ... at every read."""
    log = bytearray()
    protocols: list[Any] = []

    def switch(protocol: Any, data: Any) -> None:
        if isinstance(protocol, Recorder):
            log.extend(data)
            new: Any = BufferedRecorder(7, buffer_updated=switch)
        else:
            log.extend(protocol.buffer[:data])
            new = Recorder(data_received=switch)
        protocols.append(new)
        far.transport.set_protocol(new)
        far.note("switched")

    near, far = Recorder(), Recorder(data_received=switch)
    async with link(kind, near, far) as pair:
        data = bytes(range(256)) * 3
        for start in range(0, len(data), 16):
            pair.near.write(data[start : start + 16])
            await far.until(lambda start=start: len(log) >= start + 16)
        assert log == data
        assert len(protocols) >= 48
        pair.far.set_protocol(far)


@looped
async def test_set_protocol_in_connection_made() -> None:
    second = Recorder()

    def made(protocol: Recorder, transport: Any) -> None:
        second.transport = transport
        transport.set_protocol(second)

    async with wire(Recorder(connection_made=made)) as held:
        held.peer.send_now(b"data")
        assert await second.got(4) == b"data"
        held.transport.close()
        assert await second.lost() is None
        held.transport.set_protocol(held.protocol)
        assert held.protocol.names() == ["connection_made"]
        held.protocol.connection_lost(None)


@looped
async def test_set_protocol_before_connection_lost() -> None:
    second = Recorder()
    async with wire(Recorder()) as held:
        held.transport.close()
        held.transport.set_protocol(second)
        assert await second.lost() is None
        assert held.protocol.names() == ["connection_made"]
        held.protocol.connection_lost(None)  # so that the helper can end


@looped
async def test_switched_protocol_gets_the_flow_control_calls() -> None:
    async with wire(Recorder()) as held:
        held.transport.set_write_buffer_limits(high=0)
        second = Recorder()
        held.transport.set_protocol(second)
        size = held.fill()
        assert second.count("pause_writing") == 1
        third = Recorder()
        held.transport.set_protocol(third)
        await held.peer.recv(size)
        await third.until(lambda: third.count("resume_writing"))
        assert held.protocol.names() == ["connection_made"]
        held.transport.set_protocol(held.protocol)


@only_asynccore  # the standard transport forgets that its protocol waits
@looped
async def test_protocols_are_not_kept_after_a_switch() -> None:
    import gc
    import weakref

    async with wire(Recorder()) as held:
        second = Recorder()
        gone = weakref.ref(second)
        held.transport.set_protocol(second)
        held.transport.set_protocol(held.protocol)
        del second
        gc.collect()
        assert gone() is None


# --- contexts ---

where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


def test_contexts_equal_the_standard_ones(both_factories: Any) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        seen: list[tuple[str, str]] = []

        def spy(name: str) -> dict[str, Any]:
            def hook(call: str) -> Any:
                def run(protocol: Any, *args: Any) -> None:
                    seen.append((f"{name} {call}", where.get()))
                    where.set(f"{name} {call}")

                return run

            calls = ("connection_made", "data_received", "eof_received")
            return {call: hook(call) for call in (*calls, "connection_lost")}

        where.set("main")
        far = Recorder(**spy("far"))

        def factory() -> Recorder:
            seen.append(("factory", where.get()))
            where.set("factory")
            return far

        async def serve() -> Any:
            where.set("server")
            return await loop.create_server(factory, "127.0.0.1", 0)

        async def client() -> Any:
            where.set("client")
            near = Recorder(**spy("near"))
            await loop.create_connection(
                lambda: near, *server.sockets[0].getsockname()[:2]
            )
            return near

        server = await loop.create_task(serve())
        near = await loop.create_task(client())
        near.transport.write(b"one")
        await far.got(3)
        far.transport.write(b"answer")
        await near.got(6)
        near.transport.write(b"two")
        await far.got(6)
        near.transport.write_eof()
        await far.lost()
        await near.lost()
        server.close()
        return sorted(seen)

    compare(both_factories, scenario)


# --- KeyboardInterrupt and SystemExit leave the loop ---

STOPPING = (
    "connection_made",
    "data_received",
    "buffer_updated",
    "get_buffer",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", STOPPING)
def test_stopping_exceptions_leave_run_forever(
    both_factories: Any, faults: Any, name: str, error: type[BaseException]
) -> None:
    results = []
    for factory in both_factories:
        loop = factory()
        try:
            results.append(interrupted(loop, name, error))
        finally:
            loop.close()
        if len(results) == 1 and name == "resume_writing":
            # the standard transport keeps on writing an empty buffer
            faults.take_log()
    assert results[1] == results[0]


def interrupted(
    loop: asyncio.AbstractEventLoop, name: str, error: type[BaseException]
) -> Any:
    """One callback raises `error`; five other connections have work at that time.

    Returns how the victim goes on. No byte of the others is lost, which is asserted.
    """
    raised: list[BaseException] = []

    def fail(protocol: Any, *args: Any) -> Any:
        if not raised:
            raised.append(error("stop"))
            raise raised[0]
        return memoryview(protocol.buffer) if name == "get_buffer" else None

    buffered = name in ("get_buffer", "buffer_updated")
    victim = (BufferedRecorder if buffered else Recorder)(**{name: fail})
    others = [Recorder() for _ in range(5)]
    pairs = [socket.socketpair() for _ in range(6)]
    peers = [there for _, there in pairs]
    for index, (here, there) in enumerate(pairs):
        there.setblocking(False)
        protocol = victim if index == 3 else others[index - (index > 3)]
        if index == 3 and name == "connection_made":
            continue
        made = loop.create_connection(lambda p=protocol: p, sock=here)
        loop.run_until_complete(made)
    trace: list[Any] = []

    def provoke() -> None:
        for index, there in enumerate(peers):
            if index != 3:
                there.send(b"data")
        if name in ("data_received", "get_buffer", "buffer_updated"):
            peers[3].send(b"data")
        elif name == "eof_received":
            peers[3].shutdown(socket.SHUT_WR)
        elif name == "connection_lost":
            victim.transport.close()

    async def write() -> None:
        victim.transport.set_write_buffer_limits(high=0)
        while victim.transport.get_write_buffer_size() == 0:
            victim.transport.write(bytes(1 << 16))

    async def forever() -> None:
        await loop.create_future()

    waiting = loop.create_task(forever())
    with pytest.raises(error) as caught:
        if name == "connection_made":
            provoke()
            loop.run_until_complete(
                loop.create_connection(lambda: victim, sock=pairs[3][0])
            )
        elif name == "pause_writing":
            provoke()
            loop.run_until_complete(write())
        elif name == "resume_writing":
            loop.run_until_complete(write())
            provoke()
            while True:
                try:
                    peers[3].recv(1 << 20)
                except BlockingIOError:
                    break
            loop.run_forever()
        else:
            loop.call_soon(provoke)
            loop.run_forever()
    assert caught.value is raised[0]
    assert not loop.is_running()

    async def go_on() -> None:
        await settle()
        for other in others:
            assert await other.got(4) == b"data"
        if victim.transport is not None:
            trace.append(victim.transport.is_closing())
            victim.transport.set_write_buffer_limits(high=1 << 20)
            peers[3].setblocking(False)
            if not victim.transport.is_closing():
                for _ in range(3):
                    try:
                        peers[3].send(b"later")
                    except BrokenPipeError:
                        trace.append("shut")
                    await settle()
                    trace.append(bytes(victim.received))
        trace.append(victim.names())
        waiting.cancel()
        for protocol in (victim, *others):
            if protocol.transport is not None:
                if not protocol.count("connection_lost"):
                    protocol.transport.abort()
                await protocol.lost()
        await asyncio.gather(waiting, return_exceptions=True)
        await settle()

    loop.run_until_complete(go_on())
    for here, there in pairs:
        here.close()
        there.close()
    caught.value.__traceback__ = None
    return trace
