"""connect_read_pipe(): pipes, FIFOs, sockets, terminals; what is no pipe."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import gc
import os
import socket
import tempfile
import weakref
from typing import Any

import pytest

from support import Recorder, compare, looped, only_asynccore, outcome, settle
from support.interpreter import PIPES_PAUSE_EARLY, is_reading
from support.pipes import KINDS, connect_read, ends, may_be_closed_first

DATA = bytes(range(256)) * 1024


async def feed(fd: int, data: bytes) -> None:
    """Writes all of it, in a thread: a pipe holds less."""

    def write() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    await asyncio.get_running_loop().run_in_executor(None, write)


async def connect_idle(held: Any) -> tuple[Any, Recorder, str]:
    """A paused transport, its protocol, its repr; nothing of it is under way."""
    protocol = Recorder()
    transport = await connect_read(held, protocol)
    transport.pause_reading()
    shown = repr(transport)
    await settle()
    return transport, protocol, shown


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_data_then_the_end(kind: str) -> None:
    with ends(kind, "rb") as held:
        protocol = Recorder()
        transport = await connect_read(held, protocol)
        assert protocol.calls == [("connection_made", transport)]
        await feed(held.other, DATA)
        assert await protocol.got(len(DATA)) == DATA
        if kind == "pty":  # EIO, not an end: another test
            transport.close()
        else:
            held.close_other()
            await protocol.eof()
        assert await protocol.lost() is None
        await settle()
        names = ["connection_made", "data_received", "eof_received", "connection_lost"]
        if kind == "pty":
            names.remove("eof_received")
        assert protocol.names() == names
        assert held.file.closed
        assert transport.is_closing()


@looped
async def test_what_a_transport_tells() -> None:
    with ends("pipe", "rb") as held:
        protocol = Recorder()
        fd = held.file.fileno()
        transport = await connect_read(held, protocol)
        name = type(transport).__name__
        assert isinstance(transport, asyncio.ReadTransport)
        assert not isinstance(transport, asyncio.WriteTransport)
        assert transport.get_extra_info("pipe") is held.file
        assert transport.get_extra_info("peername", 7) == 7
        assert transport.get_protocol() is protocol
        assert not os.get_blocking(fd)
        assert is_reading(transport)
        assert not transport.is_closing()
        assert transport.max_size == 256 * 1024
        assert repr(transport) == f"<{name} fd={fd} polling>"
        transport.pause_reading()
        assert repr(transport) == f"<{name} fd={fd} idle>"
        transport.close()
        assert transport.is_closing()
        assert not is_reading(transport)
        assert repr(transport) == f"<{name} closing fd={fd} idle>"
        assert await protocol.lost() is None
        await settle()
        assert repr(transport) == f"<{name} closed fd={fd} closed>"
        assert transport.get_extra_info("pipe") is held.file
        assert transport.get_protocol() is None


@looped
async def test_order_of_the_first_callbacks() -> None:
    loop = asyncio.get_running_loop()
    with ends("pipe", "rb") as held:
        order: list[str] = []
        protocol = Recorder(
            connection_made=lambda p, t: order.append("made"),
            data_received=lambda p, data: order.append("data"),
        )
        os.write(held.other, b"early")
        loop.call_soon(order.append, "before")
        transport = await connect_read(held, protocol)
        order.append("waiter")
        await protocol.got(5)
        assert order == ["before", "made", "waiter", "data"]
        transport.close()
        await protocol.lost()


@looped
async def test_the_end_is_seen_in_a_few_turns() -> None:
    """A child's output and its end, while callbacks are always ready."""
    with ends("pipe", "rb") as held:
        os.write(held.other, b"last words")
        held.close_other()
        protocol = Recorder()
        await connect_read(held, protocol)
        for _ in range(6):
            await asyncio.sleep(0)
        assert protocol.names() == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_pause_and_resume(kind: str) -> None:
    with ends(kind, "rb") as held:
        protocol = Recorder()
        transport = await connect_read(held, protocol)
        transport.pause_reading()
        transport.pause_reading()
        assert not is_reading(transport)
        os.write(held.other, b"later")
        await settle()
        assert protocol.received == b""
        transport.resume_reading()
        transport.resume_reading()
        assert is_reading(transport)
        assert await protocol.got(5) == b"later"
        transport.close()
        transport.resume_reading()
        transport.pause_reading()
        await protocol.lost()


@looped
async def test_pause_within_connection_made(loop_name: str) -> None:
    if loop_name == "asyncio" and not PIPES_PAUSE_EARLY:
        pytest.skip("the standard transport of this Python reads on")
    with ends("pipe", "rb") as held:
        protocol = Recorder(connection_made=lambda p, t: t.pause_reading())
        os.write(held.other, b"later")
        transport = await connect_read(held, protocol)
        await settle()
        assert protocol.received == b""
        transport.resume_reading()
        assert await protocol.got(5) == b"later"
        transport.close()
        await protocol.lost()


@looped
async def test_close_within_a_callback(loop_name: str) -> None:
    names = ["data_received", "eof_received"]
    if loop_name == "asynccore" or PIPES_PAUSE_EARLY:  # else it reads on
        names.append("connection_made")
    for name in names:
        with ends("pipe", "rb") as held:
            hook: dict[str, Any] = {name: lambda p, *args: p.transport.close()}
            protocol = Recorder(**hook)
            os.write(held.other, b"data")
            with may_be_closed_first():
                await connect_read(held, protocol)
            await settle()
            held.close_other()
            assert await protocol.lost() is None
            await settle()
            assert protocol.count("connection_lost") == 1
            assert held.file.closed


@looped
async def test_close_drops_what_was_not_read() -> None:
    with ends("pipe", "rb") as held:
        protocol = Recorder()
        transport = await connect_read(held, protocol)
        os.write(held.other, b"unread")
        transport.close()
        assert transport.close() is None
        assert protocol.count("connection_lost") == 0  # never within close()
        assert await protocol.lost() is None
        await settle()
        assert protocol.names() == ["connection_made", "connection_lost"]
        with pytest.raises(BrokenPipeError):
            os.write(held.other, b"x")


@looped
async def test_the_result_of_eof_received_changes_nothing() -> None:
    with ends("socket", "rb") as held:
        protocol = Recorder(eof_received=lambda p: True)
        await connect_read(held, protocol)
        held.close_other()
        assert await protocol.lost() is None


@looped
async def test_two_callbacks_at_the_end() -> None:
    """eof_received() and connection_lost() are two callbacks of one turn."""
    loop = asyncio.get_running_loop()
    order: list[str] = []
    with ends("pipe", "rb") as held:
        protocol = Recorder(
            eof_received=lambda p: (
                order.append("eof"),
                loop.call_soon(order.append, "x"),
            ),
            connection_lost=lambda p, exc: order.append("lost"),
        )
        await connect_read(held, protocol)
        held.close_other()
        await protocol.lost()
        await settle()
    assert order == ["eof", "lost", "x"]


@looped
async def test_set_protocol() -> None:
    with ends("pipe", "rb") as held:
        first, second = Recorder(), Recorder()
        transport = await connect_read(held, first)
        os.write(held.other, b"one")
        await first.got(3)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        os.write(held.other, b"two")
        assert await second.got(3) == b"two"
        transport.close()
        assert await second.lost() is None
        assert first.names() == ["connection_made", "data_received"]


@looped
async def test_exception_of_data_received_leaves_the_pipe_open() -> None:
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    def fail(protocol: Any, data: bytes) -> None:
        if data == b"bad":
            raise ZeroDivisionError

    with ends("pipe", "rb") as held:
        protocol = Recorder(data_received=fail)
        transport = await connect_read(held, protocol)
        os.write(held.other, b"bad")
        await protocol.got(3)
        os.write(held.other, b"good")
        assert await protocol.got(7) == b"badgood"
        assert [type(r["exception"]) for r in reports] == [ZeroDivisionError]
        assert "_read_ready" in reports[0]["message"]
        assert not transport.is_closing()
        transport.close()
        await protocol.lost()


@looped
async def test_exception_of_connection_lost_is_reported() -> None:
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    def fail(protocol: Any, exc: Any) -> None:
        raise ZeroDivisionError

    with ends("pipe", "rb") as held:
        protocol = Recorder(connection_lost=fail)
        transport = await connect_read(held, protocol)
        transport.close()
        await protocol.lost()
        await settle()
        assert [type(r["exception"]) for r in reports] == [ZeroDivisionError]
        assert held.file.closed


@looped
async def test_a_terminal_whose_other_side_is_closed() -> None:
    """EIO ends it and is no error to report."""
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    with ends("pty", "rb") as held:
        master = os.fdopen(os.dup(held.other), "rb", 0)
        held.close_other()
        protocol = Recorder()
        await loop.connect_read_pipe(lambda: protocol, master)
        os.write(held.file.fileno(), b"bye")
        assert await protocol.got(3) == b"bye"
        held.file.close()
        exc = await protocol.lost()
        assert (type(exc), exc.errno) == (OSError, errno.EIO)
        assert reports == []
        await settle()


@looped
async def test_another_error_is_reported() -> None:
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    listener = socket.create_server(("127.0.0.1", 0))  # which cannot be read
    protocol = Recorder()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, listener)
    with socket.create_connection(listener.getsockname()):
        exc = await protocol.lost()
    await settle()
    assert isinstance(exc, OSError)
    assert [r["message"] for r in reports] == ["Fatal read error on pipe transport"]
    assert reports[0]["exception"] is exc
    assert reports[0]["transport"] is transport
    assert reports[0]["protocol"] is protocol
    assert listener.fileno() == -1


@looped
async def test_fatal_error_has_a_message_of_its_own() -> None:
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    with ends("pipe", "rb") as held:
        protocol = Recorder()
        transport = await connect_read(held, protocol)
        problem = ValueError("mine")
        transport._fatal_error(problem)
        assert await protocol.lost() is problem
        assert [r["message"] for r in reports] == ["Fatal error on pipe transport"]


def refused(path: Any) -> Any:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        protocol = Recorder()
        file = path() if callable(path) else path
        try:
            await loop.connect_read_pipe(lambda: protocol, file)
        except Exception as exc:
            return type(exc).__name__, str(exc), protocol.names(), file_state(file)
        finally:
            if hasattr(file, "close"):
                file.close()
        raise AssertionError("it was taken")

    return scenario


def file_state(file: Any) -> Any:
    return getattr(file, "closed", None)


def closed_file() -> Any:
    read, write = os.pipe()
    os.close(write)
    file = os.fdopen(read, "rb", 0)
    file.close()
    return file


class Number:
    def __init__(self, number: Any) -> None:
        self.number = number

    def fileno(self) -> Any:
        return self.number


@pytest.mark.parametrize(
    "thing",
    [tempfile.TemporaryFile, closed_file, object, Number(-1), Number(99_999)],
    ids=["regular file", "closed file", "no fileno", "negative", "not open"],
)
def test_what_is_no_pipe(both_factories: Any, thing: Any, faults: Any) -> None:
    result = compare(both_factories, refused(thing))
    for text in faults.take_unraisable():  # its __del__ before its __init__ is done
        assert "_UnixReadPipeTransport" in text
    if thing is tempfile.TemporaryFile:
        assert result[:2] == (
            "ValueError",
            "Pipe transport is for pipes/sockets only.",
        )


@looped
async def test_a_device_that_cannot_be_waited_for() -> None:
    """The kernel's refusal is reported; the transport is there, and can be closed."""
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))
    protocol = Recorder()
    file = os.fdopen(os.open("/dev/null", os.O_RDONLY), "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
    assert [type(r["exception"]) for r in reports] == [PermissionError]
    transport.close()
    assert await protocol.lost() is None
    await settle()
    assert file.closed


@looped
async def test_one_terminal_read_and_written_through_one_number() -> None:
    loop = asyncio.get_running_loop()
    with ends("pty", "rb") as held:
        reading, writing = Recorder(), Recorder()
        reader = await connect_read(held, reading)
        duplicate = os.fdopen(held.file.fileno(), "wb", 0, closefd=False)
        writer, _ = await loop.connect_write_pipe(lambda: writing, duplicate)
        writer.write(b"out")
        assert await held.read(3) == b"out"
        os.write(held.other, b"in")
        assert await reading.got(2) == b"in"
        writer.close()
        assert await writing.lost() is None
        reader.close()
        assert await reading.lost() is None


@only_asynccore  # there, the writer's close also ends what the reader waits for
def test_the_reader_of_a_number_outlives_the_writer(loop: Any) -> None:
    async def main() -> None:
        with ends("pty", "rb") as held:
            reading, writing = Recorder(), Recorder()
            reader = await connect_read(held, reading)
            duplicate = os.fdopen(held.file.fileno(), "wb", 0, closefd=False)
            writer, _ = await loop.connect_write_pipe(lambda: writing, duplicate)
            writer.close()
            assert await writing.lost() is None
            os.write(held.other, b"more")
            assert await reading.got(4) == b"more"
            reader.close()
            assert await reading.lost() is None

    loop.run_until_complete(asyncio.wait_for(main(), 10))


@looped
async def test_an_unreferenced_transport_that_reads_stays() -> None:
    with ends("pipe", "rb") as held:
        protocol = Recorder()
        gone = weakref.ref(await connect_read(held, protocol))
        protocol.calls.clear()
        protocol.transport = None
        await settle()
        gc.collect()
        assert gone() is not None
        os.write(held.other, b"data")
        assert await protocol.got(4) == b"data"
        held.close_other()
        await protocol.lost()


@looped
async def test_an_idle_unreferenced_transport_warns_and_closes() -> None:
    with ends("pipe", "rb") as held:
        transport, protocol, shown = await connect_idle(held)
        protocol.calls.clear()
        protocol.transport = None
        with pytest.warns(ResourceWarning) as caught:
            del transport
            gc.collect()
        assert [str(w.message) for w in caught] == [f"unclosed transport {shown}"]
        assert held.file.closed
        assert protocol.calls == []


@looped
async def test_it_goes_on_after_its_finalizer() -> None:
    with ends("pipe", "rb") as held:
        transport, protocol, shown = await connect_idle(held)
        for _ in range(2):
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                transport.__del__()
            assert held.file.closed
        assert repr(transport) == shown
        assert not transport.is_closing()
        with pytest.raises(OSError, match="Bad file descriptor"):
            transport.resume_reading()
        transport.close()
        assert transport.is_closing()
        assert await protocol.lost() is None
        transport.__del__()


def test_after_the_loop_was_closed(loop: Any) -> None:
    with ends("pipe", "rb") as held:
        protocol = Recorder()
        transport = loop.run_until_complete(connect_read(held, protocol))
        loop.close()
        fd = held.file.fileno()
        name = type(transport).__name__
        assert repr(transport) == f"<{name} fd={fd} open>"
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.close()
        held.file.close()
        transport._pipe = None
        protocol.transport = None
        protocol.calls.clear()


def test_a_closed_loop_takes_no_pipe(loop: Any, faults: Any) -> None:
    loop.close()
    with ends("pipe", "rb") as held:
        coroutine = loop.connect_read_pipe(Recorder, held.file)
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            coroutine.send(None)
        [text] = faults.take_unraisable()
        assert text.startswith("ResourceWarning: unclosed transport <")


@looped
async def test_debug_mode_logs(debug_log: list[str]) -> None:
    asyncio.get_running_loop().set_debug(True)
    with ends("pipe", "rb") as held:
        protocol = Recorder()
        transport = await connect_read(held, protocol)
        fd = held.file.fileno()
        name = type(transport).__name__
        transport.pause_reading()
        transport.resume_reading()
        held.close_other()
        await protocol.lost()
        pipe = f"<{name} fd={fd}"
        assert [text for text in debug_log if "connected" not in text] == [
            f"{pipe} idle> pauses reading",
            f"{pipe} polling> resumes reading",
            f"{pipe} polling> was closed by peer",
        ]


def test_context_of_the_callbacks(both_factories: Any) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("v", default="none")

    async def scenario() -> Any:
        seen: list[Any] = []

        def note(name: str) -> Any:
            return lambda *args: seen.append((name, variable.get()))

        protocol = Recorder(
            connection_made=note("made"),
            data_received=note("data"),
            eof_received=note("eof"),
            connection_lost=note("lost"),
        )
        with ends("pipe", "rb") as held:
            variable.set("connect")
            transport = await connect_read(held, protocol)
            os.write(held.other, b"1")
            await protocol.got(1)
            transport.pause_reading()
            variable.set("resume")
            transport.resume_reading()
            variable.set("later")
            os.write(held.other, b"2")
            await protocol.got(2)
            held.close_other()
            await protocol.lost()
        return seen

    assert compare(both_factories, scenario) == [
        ("made", "connect"),
        ("data", "connect"),
        ("data", "resume"),
        ("eof", "resume"),
        ("lost", "resume"),
    ]


@pytest.mark.parametrize("arguments", [(), (None,), (1, 2, 3)])
def test_unfit_arguments_of_the_type(arguments: Any) -> None:
    from asynccore import _core

    for kind in (_core.ReadPipeTransport, _core.WritePipeTransport):
        with pytest.raises(TypeError):
            kind(*arguments)


def test_a_transport_that_was_not_initialised() -> None:
    from asynccore import _core

    for kind in (_core.ReadPipeTransport, _core.WritePipeTransport):
        transport: Any = kind.__new__(kind)
        assert transport.is_closing()
        transport.close()
        assert transport.get_protocol() is None
        assert "closed" in repr(transport)
        outcome(transport.get_extra_info, "pipe")
        del transport
    gc.collect()


@only_asynccore
def test_a_subclass_and_a_second_init(loop: Any) -> None:
    from asynccore import _core

    class Mine(_core.ReadPipeTransport):
        ready = 0

        def _read_ready(self) -> None:
            self.ready += 1
            super()._read_ready()

    async def main() -> None:
        with ends("pipe", "rb") as held:
            protocol = Recorder()
            transport = Mine(loop, held.file, protocol)
            with pytest.raises(RuntimeError):
                transport.__init__(loop, held.file, protocol)  # type: ignore[misc]
            os.write(held.other, b"data")
            await protocol.got(4)
            assert transport.ready == 1
            transport.close()
            await protocol.lost()
            await settle()

    loop.run_until_complete(main())
