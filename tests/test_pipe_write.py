"""connect_write_pipe(): sending, flow control, the end, a reader that leaves."""

from __future__ import annotations

import array
import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any

import pytest

from support import Recorder, compare, looped, only_asynccore, outcome, settle
from support.pipes import KINDS, connect_write, ends, fill, may_be_closed_first

DATA = bytes(range(256)) * 1024


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_data_then_close(kind: str) -> None:
    with ends(kind, "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        assert protocol.calls == [("connection_made", transport)]
        transport.write(DATA)
        assert await held.read(len(DATA)) == DATA
        transport.close()
        assert transport.is_closing()
        assert protocol.count("connection_lost") == 0  # never within close()
        assert await protocol.lost() is None
        await settle()
        assert held.file.closed


@looped
async def test_what_a_transport_tells() -> None:
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        fd = held.file.fileno()
        transport = await connect_write(held, protocol)
        name = type(transport).__name__
        assert isinstance(transport, asyncio.WriteTransport)
        assert transport.get_extra_info("pipe") is held.file
        assert transport.get_extra_info("nothing", 7) == 7
        assert transport.get_protocol() is protocol
        assert not os.get_blocking(fd)
        assert transport.can_write_eof()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        assert transport.get_write_buffer_size() == 0
        assert repr(transport) == f"<{name} fd={fd} idle bufsize=0>"
        with pytest.raises(NotImplementedError):
            transport.pause_reading()
        written = fill(transport, protocol)
        waits = transport.get_write_buffer_size()
        assert 65536 < waits < written
        assert repr(transport) == f"<{name} fd={fd} polling bufsize={waits}>"
        transport.close()
        assert repr(transport) == f"<{name} closing fd={fd} polling bufsize={waits}>"
        transport.abort()
        assert repr(transport) == f"<{name} closing fd={fd} idle bufsize=0>"
        assert await protocol.lost() is None
        await settle()
        assert repr(transport) == f"<{name} closed fd={fd} closed>"


@looped
async def test_a_write_leaves_at_once() -> None:
    """Each by itself: what other processes write does not come between."""
    with ends("pipe", "wb") as held:
        transport = await connect_write(held, Recorder())
        transport.write(b"one")
        assert held.read_now() == b"one"
        transport.writelines([b"two", bytearray(b"three"), memoryview(b"four")])
        assert held.read_now() == b"twothreefour"
        transport.abort()
        await settle()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytearray(),
        memoryview(b""),
        bytearray(b"0123"),
        memoryview(b"0123"),
        type("Sub", (bytes,), {})(b"0123"),
    ],
    ids=["empty", "empty array", "empty view", "bytearray", "view", "subclass"],
)
@looped
async def test_kinds_of_data(data: Any) -> None:
    with ends("pipe", "wb") as held:
        transport = await connect_write(held, Recorder())
        transport.write(data)
        assert held.read_now() == bytes(data)
        transport.abort()
        await settle()


def test_unfit_data(both_factories: Any) -> None:
    async def scenario() -> Any:
        with ends("pipe", "wb") as held:
            protocol = Recorder()
            transport = await connect_write(held, protocol)
            results = [
                outcome(transport.write, data)
                for data in ("text", None, 3, [b"list"], array.array("i", [1]))
            ]
            results.append(outcome(transport.writelines, ["text"]))
            transport.write(b"after")
            results.append(held.read_now())
            transport.close()
            await protocol.lost()
            await settle()
            return results

    results = compare(both_factories, scenario)
    assert results[0] == ("AssertionError", "'text'")
    assert results[-1] == b"after"


@looped
async def test_a_changed_buffer_does_not_change_what_waits() -> None:
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        data = bytearray(b"a") * 300_000
        transport.write(data)
        assert transport.get_write_buffer_size() > 0
        data[:] = b"b" * len(data)
        data.clear()
        assert await held.read(300_000) == b"a" * 300_000
        transport.close()
        await protocol.lost()


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_flow_control(kind: str) -> None:
    with ends(kind, "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        written = fill(transport, protocol)
        transport.write(b"y" * 100_000)
        written += 100_000
        assert protocol.count("pause_writing") == 1
        reading = asyncio.ensure_future(held.read(written))
        await protocol.until(lambda: protocol.count("resume_writing"))
        assert transport.get_write_buffer_size() == 0  # not before it is empty
        data = await reading
        assert data == b"x" * (written - 100_000) + b"y" * 100_000
        assert protocol.count("resume_writing") == 1
        transport.close()
        assert await protocol.lost() is None


@looped
async def test_writes_of_the_flow_callbacks_keep_their_order() -> None:
    with ends("pipe", "wb") as held:
        protocol = Recorder(
            pause_writing=lambda p: p.transport.write(b"P"),
            resume_writing=lambda p: p.transport.write(b"R"),
        )
        transport = await connect_write(held, protocol)
        written = fill(transport, protocol)
        data = await held.read(written + 2)
        assert data == b"x" * written + b"PR"
        transport.close()
        await protocol.lost()


@looped
async def test_limits() -> None:
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        transport.set_write_buffer_limits(high=0)
        assert transport.get_write_buffer_limits() == (0, 0)
        transport.write(b"x" * 65536)
        assert protocol.count("pause_writing") == 0
        transport.write(b"x")
        assert protocol.count("pause_writing") == 1
        with pytest.raises(ValueError, match="high"):
            transport.set_write_buffer_limits(high=1, low=2)
        assert len(await held.read(65537)) == 65537
        transport.close()
        await protocol.lost()


@pytest.mark.parametrize("method", ["close", "write_eof"])
@looped
async def test_the_end_waits_for_what_was_written(method: str) -> None:
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        written = fill(transport, protocol)
        getattr(transport, method)()
        getattr(transport, method)()
        assert transport.is_closing()
        transport.write(b"too late")
        await settle()
        assert protocol.count("connection_lost") == 0
        assert await held.read(written + 1) == b"x" * written
        assert await protocol.lost() is None
        await settle()
        assert held.file.closed


@looped
async def test_abort_drops_what_was_written() -> None:
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        written = fill(transport, protocol)
        waits = transport.get_write_buffer_size()
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert await protocol.lost() is None
        assert len(await held.read(written)) == written - waits
        await settle()
        assert protocol.count("connection_lost") == 1


@looped
async def test_resumed_when_it_waits_no_more() -> None:
    shown: list[str] = []

    def resumed(protocol: Any) -> None:
        shown.append(repr(protocol.transport).partition(" ")[2])
        if len(shown) == 1:
            fill(protocol.transport, protocol, 2)
            shown.append(repr(protocol.transport).partition(" ")[2])

    with ends("pipe", "wb") as held:
        protocol = Recorder(resume_writing=resumed)
        fd = held.file.fileno()
        transport = await connect_write(held, protocol)
        written = fill(transport, protocol)
        await held.read(written)
        await protocol.until(lambda: protocol.count("resume_writing"))
        assert shown[0] == f"fd={fd} idle bufsize=0>"
        assert shown[1].startswith(f"fd={fd} polling ")
        reading = asyncio.ensure_future(held.read(1 << 30))
        await protocol.until(lambda: protocol.count("resume_writing") == 2)
        assert shown[2] == f"fd={fd} idle bufsize=0>"
        transport.close()
        await reading
        assert await protocol.lost() is None


@pytest.mark.parametrize("kind", KINDS)
@only_asynccore  # the standard transport raises AttributeError
def test_abort_after_the_end(loop: Any, kind: str) -> None:
    async def main() -> None:
        with ends(kind, "wb") as held:
            protocol = Recorder()
            transport = await connect_write(held, protocol)
            transport.close()
            assert await protocol.lost() is None
            transport.abort()
            await settle()
            assert protocol.count("connection_lost") == 1

    loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("name", ["connection_made", "pause_writing", "resume_writing"])
@only_asynccore  # the standard transport then ends twice, or never
def test_close_within_a_callback(loop: Any, name: str, method: str) -> None:
    async def main() -> None:
        with ends("pipe", "wb") as held:
            hook: Any = {name: lambda p, *args: getattr(p.transport, method)()}
            protocol = Recorder(**hook)
            with may_be_closed_first():
                await connect_write(held, protocol)
            transport = protocol.transport
            for _ in range(4):
                transport.write(b"x" * 65536)
            reading = asyncio.ensure_future(held.read(4 * 65536))
            assert await protocol.lost() is None
            await reading
            await settle()
            assert protocol.count("connection_lost") == 1
            assert held.file.closed

    loop.run_until_complete(asyncio.wait_for(main(), 10))


@looped
async def test_methods_called_by_the_close_of_the_pipe_object() -> None:
    class Pipe:
        transport: Any = None

        def __init__(self, file: Any) -> None:
            self.fileno = file.fileno
            self.file = file
            self.results: list[Any] = []

        def close(self) -> None:
            transport = self.transport
            self.results += [
                transport.is_closing(),
                transport.write(b"lost"),
                transport.write_eof(),
                transport.close(),
                transport.get_write_buffer_size(),
                transport.get_protocol() is not None,
            ]
            self.file.close()

    with ends("pipe", "wb") as held:
        pipe = Pipe(held.file)
        protocol = Recorder()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_write_pipe(lambda: protocol, pipe)
        pipe.transport = transport
        transport.close()
        assert await protocol.lost() is None
        await settle()
        assert pipe.results == [True, None, None, None, 0, True]
        pipe.transport = None


@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
@looped
async def test_a_reader_that_leaves_is_noticed(kind: str) -> None:
    with ends(kind, "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        held.close_other()
        assert await protocol.lost() is None
        assert transport.is_closing()
        await settle()
        assert held.file.closed


@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
@pytest.mark.parametrize("kind", ["pipe", "fifo", "socket"])
@looped
async def test_a_reader_that_leaves_before_all_was_sent(
    kind: str, closing: bool
) -> None:
    with ends(kind, "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        fill(transport, protocol)
        if closing:
            transport.close()
        held.close_other()
        exc = await protocol.lost()
        assert isinstance(exc, ConnectionError)
        assert transport.get_write_buffer_size() == 0
        await settle()
        assert protocol.count("connection_lost") == 1


@looped
async def test_bytes_from_the_other_side_of_a_socket_end_it() -> None:
    """The standard transport takes any reading event for the end."""
    with ends("socket", "wb") as held:
        protocol = Recorder()
        await connect_write(held, protocol)
        os.write(held.other, b"x")
        assert await protocol.lost() is None


@looped
async def test_a_write_that_finds_the_reader_gone() -> None:
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        held.close_other()
        transport.write(b"x")
        assert transport.is_closing()
        exc = await protocol.lost()
        assert type(exc) is BrokenPipeError
        await settle()
        assert protocol.count("connection_lost") == 1


@pytest.mark.parametrize("how", ["closed", "broken", "closing"])
@looped
async def test_late_writes_warn(how: str, faults: Any) -> None:
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        written = 0
        if how == "closing":
            written = fill(transport, protocol)
        if how == "broken":
            held.close_other()
            transport.write(b"x")
        else:
            transport.close()
        before = 4 if how == "broken" else 5
        for _ in range(before):
            transport.write(b"x")
        assert faults.take_log() == []
        transport.write(b"x")
        transport.write(b"")
        transport.write(bytearray(b"x"))
        assert (
            faults.take_log()
            == ["pipe closed by peer or os.write(pipe, data) raised exception."] * 2
        )
        reading = asyncio.ensure_future(held.read(written)) if written else None
        await protocol.lost()
        if reading:
            await reading
        await settle()


@looped
async def test_errors_are_logged_in_debug_mode_only(debug_log: list[str]) -> None:
    asyncio.get_running_loop().set_debug(True)
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        held.close_other()
        transport.write(b"x")
        await protocol.lost()
        texts = [text for text in debug_log if "connected" not in text]
        assert [text.partition(">: ")[2] for text in texts] == [
            "Fatal write error on pipe transport"
        ]


@looped
async def test_debug_mode_logs_a_reader_that_left(debug_log: list[str]) -> None:
    asyncio.get_running_loop().set_debug(True)
    with ends("pipe", "wb") as held:
        protocol = Recorder()
        await connect_write(held, protocol)
        held.close_other()
        await protocol.lost()
        assert [text.partition("> ")[2] for text in debug_log][
            -1
        ] == "was closed by peer"


@looped
async def test_set_protocol() -> None:
    with ends("pipe", "wb") as held:
        first, second = Recorder(), Recorder()
        transport = await connect_write(held, first)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        written = fill(transport, second)
        assert len(await held.read(written)) == written
        transport.close()
        assert await second.lost() is None
        assert first.names() == ["connection_made"]


@looped
async def test_exceptions_of_the_flow_callbacks_are_reported() -> None:
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reports.append(context))

    def fail(protocol: Any) -> None:
        raise ZeroDivisionError

    with ends("pipe", "wb") as held:
        protocol = Recorder(pause_writing=fail, resume_writing=fail)
        transport = await connect_write(held, protocol)
        written = fill(transport, protocol)
        assert len(await held.read(written)) == written
        transport.close()
        await protocol.lost()
    assert [r["message"] for r in reports] == [
        "protocol.pause_writing() failed",
        "protocol.resume_writing() failed",
    ]
    assert reports[0]["transport"] is transport


@looped
async def test_a_device_that_swallows_all() -> None:
    file = os.fdopen(os.open("/dev/null", os.O_WRONLY), "wb", 0)
    protocol = Recorder()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_write_pipe(lambda: protocol, file)
    transport.write(DATA)
    assert transport.get_write_buffer_size() == 0
    transport.close()
    assert await protocol.lost() is None
    await settle()
    assert file.closed


def test_a_regular_file_is_refused(both_factories: Any, faults: Any) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        protocol = Recorder()
        with tempfile.TemporaryFile() as file:
            try:
                await loop.connect_write_pipe(lambda: protocol, file)
            except Exception as exc:
                # nobody has closed it, nor made it non-blocking
                return (
                    type(exc).__name__,
                    str(exc),
                    protocol.names(),
                    os.get_blocking(file.fileno()),
                )

    assert compare(both_factories, scenario) == (
        "ValueError",
        "Pipe transport is only for pipes, sockets and character devices",
        [],
        True,
    )


@looped
async def test_an_unreferenced_transport_warns_and_closes() -> None:
    with ends("pty", "wb") as held:  # for others, the loop waits for the reader
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        shown = repr(transport)
        protocol.calls.clear()
        protocol.transport = None
        await settle()
        with pytest.warns(ResourceWarning) as caught:
            del transport
            gc.collect()
        assert [str(w.message) for w in caught] == [f"unclosed transport {shown}"]
        assert held.file.closed


@looped
async def test_a_stream_writer_over_a_pipe() -> None:
    loop = asyncio.get_running_loop()
    with ends("pipe", "wb") as held:
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, held.file
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)
        writer.write(DATA)
        reading = asyncio.ensure_future(held.read(len(DATA)))
        await writer.drain()
        assert await reading == DATA
        held.close_other()
        with pytest.raises(ConnectionResetError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0)


@looped
async def test_a_child_killed_while_it_reads() -> None:
    with ends("pipe", "wb") as held:
        child = subprocess.Popen(
            [sys.executable, "-c", "import os, time; os.read(0, 1); time.sleep(99)"],
            stdin=held.other,
        )
        held.close_other()
        protocol = Recorder()
        transport = await connect_write(held, protocol)
        fill(transport, protocol)
        child.send_signal(signal.SIGKILL)
        assert isinstance(await protocol.lost(), BrokenPipeError)
        assert child.wait(10) == -signal.SIGKILL


def test_typed_view(run: Any, loop_name: str, faults: Any) -> None:
    async def main() -> None:
        with ends("pipe", "wb") as held:
            protocol = Recorder()
            transport = await connect_write(held, protocol)
            transport.write(memoryview(array.array("H", [1, 2])))
            assert len(await held.read(4)) == 4
            await settle()
            transport.abort()
            await protocol.lost()

    run(main())
    if loop_name == "asyncio":  # in each turn, until it is closed
        assert all("Data should not be empty" in text for text in faults.take_log())
