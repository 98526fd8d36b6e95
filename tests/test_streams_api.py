"""Programs on asyncio.start_server and asyncio.open_connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from support import (
    HANDLERS_ARE_REPORTED,
    LOST_TLS_ABORTS,
    certificates,
    compare,
    looped,
    settle,
)

KINDS = ("tcp", "unix", "tls")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(
    handler: Handler, kind: str = "tcp", **kwargs: Any
) -> AsyncIterator[Any]:
    """Yields a function that opens a connection to `handler`."""
    opened: list[asyncio.StreamWriter] = []
    accepted: list[asyncio.StreamWriter] = []
    others = asyncio.all_tasks()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        accepted.append(writer)
        return handler(reader, writer)

    with tempfile.TemporaryDirectory() as folder:
        context = certificates().server_context() if kind == "tls" else None
        if kind == "unix":
            path = os.path.join(folder, "server")
            server = await asyncio.start_unix_server(accept, path, **kwargs)
        else:
            server = await asyncio.start_server(
                accept, "127.0.0.1", 0, ssl=context, **kwargs
            )

        async def connect(**options: Any) -> Any:
            if kind == "unix":
                pair = await asyncio.open_unix_connection(path, **options)
            else:
                if kind == "tls":
                    options["ssl"] = certificates().client_context()
                host, port = server.sockets[0].getsockname()
                pair = await asyncio.open_connection(host, port, **options)
            opened.append(pair[1])
            return pair

        try:
            yield connect
        finally:
            for writer in opened:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            await settle()
            if handling := asyncio.all_tasks() - others - {asyncio.current_task()}:
                await asyncio.wait(handling)
            for writer in accepted:
                if not writer.transport.is_closing() or LOST_TLS_ABORTS:
                    writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            server.close()
            await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        writer.write(line.upper())
    writer.close()


# --- reading ---


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_echo(kind: str) -> None:
    async with serving(echo, kind) as connect:
        reader, writer = await connect()
        for size in (1, 100, 65535, 65536, 200_000):
            data = os.urandom(size)
            writer.write(data)
            await writer.drain()
            assert await reader.readexactly(size) == data


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_lines(kind: str) -> None:
    async with serving(shout, kind) as connect:
        reader, writer = await connect()
        writer.writelines([b"one\n", b"two\n", b"thr"])
        assert await reader.readline() == b"ONE\n"
        assert await reader.readline() == b"TWO\n"
        writer.write(b"ee\n\nfour")
        assert await reader.readline() == b"THREE\n"
        assert await reader.readline() == b"\n"
        if kind != "tls":
            writer.write_eof()
            assert await reader.readline() == b"FOUR"
            assert await reader.readline() == b""
            assert reader.at_eof()


@looped
async def test_readuntil() -> None:
    async with serving(echo) as connect:
        reader, writer = await connect()
        writer.write(b"head\r\n\r\nbody;rest")
        assert await reader.readuntil(b"\r\n\r\n") == b"head\r\n\r\n"
        assert await reader.readuntil(b";") == b"body;"
        assert await reader.readexactly(4) == b"rest"
        with pytest.raises(
            ValueError, match=r"Separator should (be|contain) at least one"
        ):
            await reader.readuntil(b"")


@looped
async def test_read_until_eof() -> None:
    data = os.urandom(500_000)

    async def send(reader: Any, writer: Any) -> None:
        writer.write(data)
        writer.close()
        await writer.wait_closed()

    async with serving(send) as connect:
        reader, _ = await connect()
        assert await reader.read() == data
        assert await reader.read() == b""
        assert await reader.read(10) == b""
        assert reader.at_eof()


@looped
async def test_incomplete_read() -> None:
    async def send(reader: Any, writer: Any) -> None:
        writer.write(b"short")
        writer.close()

    async with serving(send) as connect:
        reader, _ = await connect()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(10)
        assert caught.value.partial == b"short"
        assert caught.value.expected == 10


@looped
async def test_limit() -> None:
    async with serving(echo) as connect:
        reader, writer = await connect(limit=100)
        writer.write(b"x" * 300 + b"\nrest\n")
        with pytest.raises(ValueError, match=r"Separator is (not )?found"):
            await reader.readline()
        while (line := await reader.readline()) != b"rest\n":
            assert line in (b"\n", b"x" * 300 + b"\n")[:1] or set(line) <= set(b"x\n")
        writer.write(b"x" * 300 + b"\n")
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(b"\n")
        assert await reader.readexactly(caught.value.consumed)


@looped
async def test_reader_pauses_the_transport() -> None:
    """What is not read stays in the kernel, and the peer's writer feels it."""
    blocked = asyncio.Event()

    async def flood(reader: Any, writer: Any) -> None:
        with contextlib.suppress(OSError):
            for _ in range(1000):
                writer.write(bytes(1 << 16))
                if writer.transport.get_write_buffer_size() > 1 << 18:
                    blocked.set()
                await writer.drain()
        writer.close()

    async with serving(flood) as connect:
        reader, writer = await connect(limit=1000)
        await settle()
        assert not writer.transport.is_reading()
        for _ in range(20):
            assert len(await reader.readexactly(1000)) == 1000
        assert len(reader._buffer) <= 2000 + (1 << 18)
        writer.transport.abort()


@looped
async def test_drain_waits_for_the_peer() -> None:
    done = asyncio.Event()

    async def lazy(reader: Any, writer: Any) -> None:
        await done.wait()
        total = 0
        while data := await reader.read(1 << 20):
            total += len(data)
        writer.write(b"%d" % total)
        writer.close()

    async with serving(lazy) as connect:
        reader, writer = await connect()
        total = 0
        while writer.transport.get_write_buffer_size() <= 64 << 10:
            writer.write(bytes(1 << 16))
            total += 1 << 16
        draining = asyncio.ensure_future(writer.drain())
        await settle()
        assert not draining.done()
        done.set()
        await draining
        writer.write_eof()
        assert await reader.read() == b"%d" % total


@looped
async def test_several_drains_at_once() -> None:
    go = asyncio.Event()

    async def lazy(reader: Any, writer: Any) -> None:
        await go.wait()
        while await reader.read(1 << 20):
            pass
        writer.close()

    async with serving(lazy) as connect:
        _, writer = await connect()
        while writer.transport.get_write_buffer_size() <= 64 << 10:
            writer.write(bytes(1 << 16))
        draining = [asyncio.ensure_future(writer.drain()) for _ in range(5)]
        await settle()
        assert not any(task.done() for task in draining)
        go.set()
        assert await asyncio.gather(*draining) == [None] * 5


@looped
async def test_drain_after_a_reset() -> None:
    async def reset(reader: Any, writer: Any) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async with serving(reset) as connect:
        reader, writer = await connect()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


# --- two tasks, cancelling ---


@looped
async def test_one_reader_at_a_time() -> None:
    async with serving(echo) as connect:
        reader, writer = await connect()
        first = asyncio.ensure_future(reader.read(10))
        await asyncio.sleep(0)
        text = r"read\(\) called while another coroutine is already waiting"
        with pytest.raises(RuntimeError, match=text):
            await reader.read(10)
        writer.write(b"x")
        assert await first == b"x"


@pytest.mark.parametrize("method", ["read", "readline", "readexactly", "readuntil"])
@looped
async def test_cancelled_read_loses_nothing(method: str) -> None:
    async with serving(echo) as connect:
        reader, writer = await connect()
        args = (10,) if method in ("read", "readexactly") else ()
        for _ in range(3):
            waiting = asyncio.ensure_future(getattr(reader, method)(*args))
            await settle(1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        writer.write(b"0123456789\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await reader.readuntil(b"never")
        assert await reader.readexactly(11) == b"0123456789\n"


@looped
async def test_time_out_while_reading() -> None:
    async with serving(echo) as connect:
        reader, writer = await connect()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.01)
        writer.write(b"late\n")
        assert await reader.readline() == b"late\n"


@looped
async def test_gather_of_many_connections() -> None:
    async with serving(echo, backlog=200) as connect:

        async def talk(number: int) -> None:
            reader, writer = await connect()
            for turn in range(5):
                message = b"%d/%d\n" % (number, turn)
                writer.write(message)
                await writer.drain()
                assert await reader.readline() == message

        async with asyncio.TaskGroup() as group:
            for number in range(80):
                group.create_task(talk(number))


# --- the writer ---


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_writer(kind: str) -> None:
    async with serving(echo, kind) as connect:
        reader, writer = await connect()
        assert isinstance(writer.transport, asyncio.Transport)
        assert writer.can_write_eof() == (kind != "tls")
        assert not writer.is_closing()
        assert writer.get_extra_info("socket") is not None
        assert "StreamWriter transport=<" in repr(writer)
        assert "<StreamReader" in repr(reader)
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        await writer.wait_closed()


@looped
async def test_write_eof() -> None:
    async def count(reader: Any, writer: Any) -> None:
        data = await reader.read()
        writer.write(b"%d" % len(data))
        writer.close()

    async with serving(count) as connect:
        reader, writer = await connect()
        writer.write(bytes(1_000_000))
        writer.write_eof()
        assert await reader.read() == b"1000000"


@looped
async def test_writes_of_each_type() -> None:
    async with serving(echo) as connect:
        reader, writer = await connect()
        writer.write(bytearray(b"bytearray "))
        writer.write(memoryview(b"memoryview "))
        writer.writelines([b"list ", bytearray(b"of "), memoryview(b"all")])
        expected = b"bytearray memoryview list of all"
        assert await reader.readexactly(len(expected)) == expected
        with pytest.raises(TypeError):
            writer.write("text")


@looped
async def test_pipelined_requests() -> None:
    async with serving(shout) as connect:
        reader, writer = await connect()
        for number in range(500):
            writer.write(b"request %d\n" % number)
        for number in range(500):
            assert await reader.readline() == b"REQUEST %d\n" % number


@looped
async def test_start_tls_of_a_stream() -> None:
    async def upgrade(reader: Any, writer: Any) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(certificates().server_context())
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    async with serving(upgrade) as connect:
        reader, writer = await connect()
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(
            certificates().client_context(), server_hostname="localhost"
        )
        for line in (b"one\n", b"two\n"):
            writer.write(line)
            await writer.drain()
            assert await reader.readline() == line.upper()
        assert writer.get_extra_info("ssl_object") is not None


# --- handlers ---


@pytest.mark.skipif(not HANDLERS_ARE_REPORTED, reason="this Python leaves it alone")
@looped
async def test_handler_that_raises_is_reported() -> None:
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    async def fail(reader: Any, writer: Any) -> None:
        raise ValueError("hostile")

    async with serving(fail) as connect:
        reader, _ = await connect()
        if sys.version_info >= (3, 12):
            assert await reader.read() == b""
        while not reports:
            await settle(1)
            gc.collect()
    assert [str(report["exception"]) for report in reports] == ["hostile"]
    reports.clear()


@looped
async def test_handler_may_be_a_plain_function() -> None:
    kept: list[Any] = []

    def handler(reader: Any, writer: Any) -> None:
        kept.append(writer)
        writer.write(b"hello")
        writer.close()

    async with serving(handler) as connect:  # type: ignore[arg-type]
        reader, _ = await connect()
        assert await reader.read() == b"hello"
    assert kept[0].is_closing()


@looped
async def test_handler_tasks_see_their_own_context() -> None:
    import contextvars

    number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)
    seen = []

    async def handler(reader: Any, writer: Any) -> None:
        seen.append(number.get())
        number.set(number.get() + 1)
        writer.close()

    number.set(5)
    async with serving(handler) as connect:
        for _ in range(3):
            reader, _ = await connect()
            assert await reader.read() == b""
    assert seen == [5, 5, 5]


@looped
async def test_open_connection_fails() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*sock.getsockname())


@looped
async def test_open_connection_on_a_socket() -> None:
    one, two = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=one)
    other_reader, other_writer = await asyncio.open_connection(sock=two)
    writer.write(b"there\n")
    assert await other_reader.readline() == b"there\n"
    other_writer.write(b"back\n")
    assert await reader.readline() == b"back\n"
    for used in (writer, other_writer):
        used.close()
        await used.wait_closed()
    await settle(1)
    assert one.fileno() == two.fileno() == -1


def test_order_of_a_conversation_equals_the_standard_one(both_factories: Any) -> None:
    async def scenario() -> Any:
        trace: list[str] = []

        async def handler(reader: Any, writer: Any) -> None:
            trace.append("handler")
            async for line in reader:
                trace.append(f"got {line.decode().strip()}")
                writer.write(line)
                await writer.drain()
                trace.append("drained")
            trace.append("eof")
            writer.close()
            await writer.wait_closed()
            trace.append("closed")

        async with serving(handler, "unix") as connect:
            reader, writer = await connect()
            trace.append("connected")
            for number in range(3):
                writer.write(b"%d\n" % number)
                trace.append("sent")
                await reader.readline()
                trace.append("answered")
            writer.write(b"a\nb\nc\n")
            await reader.readexactly(6)
            writer.write_eof()
            await reader.read()
            trace.append("client eof")
        return trace

    compare(both_factories, scenario)


@pytest.mark.parametrize("debug", [False, True])
def test_asyncio_run_of_a_whole_program(script: Any, debug: bool) -> None:
    done = script(
        """
        import asyncio, sys

        async def handler(reader, writer):
            data = await reader.readexactly(5)
            writer.write(data[::-1])
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main():
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            async with server:
                for _ in range(10):
                    reader, writer = await asyncio.open_connection(host, port)
                    writer.write(b"hello")
                    print((await reader.read()).decode())
                    writer.close()
                    await writer.wait_closed()

        with asyncio.Runner(
            loop_factory=new_event_loop, debug=sys.argv[1] == "True"
        ) as runner:
            runner.run(main())
        """,
        str(debug),
    )
    assert done.stdout == "olleh\n" * 10
