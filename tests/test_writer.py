"""StreamWriter of an accepted connection, and of its client."""

from __future__ import annotations

import asyncio
import gc
import inspect
import types
import warnings
import weakref
from typing import Any

import pytest

from conftest import Script
from support import HANDLERS_ARE_REPORTED, certificates, looped, only_asynccore, settle
from support.streams import streams

KINDS = ("tcp", "unix", "tls")
SIDES = ("writer", "peer_writer")
both_sides = pytest.mark.parametrize("side", SIDES)


# --- what it is ---


@both_sides
@looped
async def test_attributes(side: str) -> None:
    loop = asyncio.get_running_loop()
    async with streams() as s:
        writer = getattr(s, side)
        assert writer.transport is writer._transport
        assert writer._protocol is writer.transport.get_protocol()
        assert writer._reader in (s.reader, s.peer_reader)
        assert writer._loop is loop
        assert writer._complete_fut.done()
        assert writer._complete_fut.result() is None
        assert writer._complete_fut is writer._complete_fut
        writer.note = 1
        assert vars(writer)["note"] == 1
        assert repr(writer).startswith("<StreamWriter transport=<")
        assert "reader=<StreamReader " in repr(writer)
        assert weakref.ref(writer)() is writer
        peer = s.peer_writer if side == "writer" else s.writer
        assert writer.get_extra_info("peername") == peer.get_extra_info("sockname")
        assert writer.get_extra_info("nothing", 5) == 5
        assert writer.get_extra_info("nothing", default=6) == 6
        assert writer.get_extra_info("nothing") is None


@only_asynccore
@looped
async def test_future_of_a_writer_without_a_loop() -> None:
    async with streams() as s:
        del s.writer._loop
        with pytest.raises(AttributeError):
            s.writer._complete_fut  # noqa: B018
        s.writer._loop = asyncio.get_running_loop()
        assert s.writer._complete_fut.done()


@looped
async def test_function_of_the_server_is_put_back() -> None:
    async with streams() as s:
        assert callable(s.writer._protocol._client_connected_cb)
        assert s.writer._protocol._client_connected_cb.__name__ == "accept"
        assert s.peer_writer._protocol._client_connected_cb is None


@pytest.mark.parametrize("name", ["drain", "wait_closed"])
@looped
async def test_coroutines(name: str) -> None:
    async with streams() as s:
        standard = getattr(asyncio.StreamWriter, name)
        coro = getattr(s.writer, name)()
        assert asyncio.iscoroutine(coro)
        assert coro.__qualname__ == standard.__qualname__
        assert coro.cr_code is standard.__code__
        coro.close()
        with pytest.warns(RuntimeWarning, match=f"StreamWriter.{name}' was never"):
            getattr(s.writer, name)()
            gc.collect()


@pytest.mark.parametrize("name", ["write", "writelines", "get_extra_info", "drain"])
@looped
async def test_signatures(name: str) -> None:
    async with streams() as s:
        ours = inspect.signature(getattr(s.writer, name))
        assert ours == inspect.signature(getattr(s.peer_writer, name))


# --- writing ---


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_write(kind: str) -> None:
    async with streams(kind) as s:
        assert s.writer.write(b"a") is None
        s.writer.write(bytearray(b"b"))
        s.writer.write(memoryview(b"c"))
        s.writer.write(data=b"d")
        assert s.writer.writelines([b"e", b"f"]) is None
        s.writer.writelines(data=iter([b"g"]) if kind == "tls" else [b"g"])
        assert await s.writer.drain() is None
        assert await s.peer_reader.readexactly(7) == b"abcdefg"
        for wrong in (None, "text", 5):
            with pytest.raises(TypeError):
                s.writer.write(wrong)
        with pytest.raises(TypeError):
            s.writer.write()
        with pytest.raises(TypeError):
            s.writer.write(b"a", b"b")


@looped
async def test_write_eof() -> None:
    async with streams() as s:
        assert s.writer.can_write_eof()
        s.writer.write(b"last")
        s.writer.write_eof()
        assert await s.peer_reader.read() == b"last"
        with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after"):
            s.writer.write(b"more")
        s.peer_writer.write(b"answer\n")
        assert await s.reader.readline() == b"answer\n"


@both_sides
@looped
async def test_drain_waits(side: str) -> None:
    async with streams() as s:
        writer = getattr(s, side)
        reader = s.peer_reader if side == "writer" else s.reader
        reader._transport.pause_reading()
        sent = 0
        while not writer._protocol._paused:
            writer.write(bytes(1 << 16))
            sent += 1 << 16
            await asyncio.sleep(0)
        tasks = [asyncio.create_task(writer.drain()) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(writer._protocol._drain_waiters) == 3
        tasks[0].cancel()
        await asyncio.sleep(0)
        assert len(writer._protocol._drain_waiters) == 2
        reader._transport.resume_reading()
        await reader.readexactly(sent)
        await asyncio.gather(*tasks[1:])
        assert tasks[0].cancelled()


@both_sides
@looped
async def test_drain_of_a_lost_connection(side: str) -> None:
    async with streams() as s:
        writer = getattr(s, side)
        reader = s.reader if side == "writer" else s.peer_reader
        writer.close()
        assert writer.is_closing()
        task = asyncio.create_task(writer.drain())
        await asyncio.sleep(0)
        assert not task.done()
        with pytest.raises(ConnectionResetError, match=r"^Connection lost$"):
            await task
        reader.set_exception(OSError("reader's"))
        with pytest.raises(OSError, match="reader's"):
            await writer.drain()


@both_sides
@looped
async def test_drain_helper_of_a_program(side: str) -> None:
    calls: list[str] = []

    @types.coroutine
    def old_style() -> Any:
        calls.append("begin")
        yield
        calls.append("end")

    async def await_number() -> None:
        await 5  # type: ignore[misc]

    async with streams() as s:
        writer = getattr(s, side)
        writer._protocol._drain_helper = old_style
        await writer.drain()
        assert calls == ["begin", "end"]
        writer._protocol._drain_helper = lambda: 5
        with pytest.raises(TypeError) as expected:
            await await_number()
        with pytest.raises(TypeError) as caught:
            await writer.drain()
        assert str(caught.value) == str(expected.value)


@looped
async def test_drain_without_a_reader() -> None:
    async with streams() as s:
        s.writer._reader = None
        await s.writer.drain()
        assert repr(s.writer).count("reader=") == 0


@pytest.mark.parametrize("kind", KINDS)
@both_sides
@looped
async def test_wait_closed(kind: str, side: str) -> None:
    async with streams(kind) as s:
        writer = getattr(s, side)
        tasks = [asyncio.create_task(writer.wait_closed()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        writer.close()
        assert await asyncio.gather(*tasks) == [None, None]
        await writer.wait_closed()


@both_sides
@looped
async def test_wait_closed_after_an_error(side: str) -> None:
    async with streams() as s:
        writer = getattr(s, side)
        writer.transport._force_close(ConnectionResetError("by test"))
        with pytest.raises(ConnectionResetError, match="by test"):
            await writer.wait_closed()


@looped
async def test_start_tls_in_the_middle() -> None:
    async with streams() as s:
        s.peer_writer.write(b"plain\n")
        assert await s.reader.readline() == b"plain\n"
        await asyncio.gather(
            s.writer.start_tls(certificates().server_context()),
            s.peer_writer.start_tls(
                certificates().client_context(), server_hostname="localhost"
            ),
        )
        for one, other in ((s.writer, s.peer_reader), (s.peer_writer, s.reader)):
            assert one.get_extra_info("sslcontext") is not None
            one.write(b"secret\n")
            await one.drain()
            assert await other.readline() == b"secret\n"
        s.peer_writer.write(bytes(300_000))
        assert await s.reader.readexactly(300_000) == bytes(300_000)
        s.writer.close()
        assert await s.peer_reader.read() == b""


# --- the function of the server ---


@pytest.mark.skipif(not HANDLERS_ARE_REPORTED, reason="it stays in the task")
@looped
async def test_task_that_fails() -> None:
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context))

    async def serve(reader: Any, writer: Any) -> None:
        raise ZeroDivisionError

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pair = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await pair[0].read() == b""
    pair[1].close()
    await pair[1].wait_closed()
    server.close()
    await server.wait_closed()
    assert [context["message"] for context in reported] == [
        "Unhandled exception in client_connected_cb"
    ]


@looped
async def test_patched_stream_writer() -> None:
    class Writer(asyncio.StreamWriter):
        def write(self, data: bytes) -> None:  # type: ignore[override]
            super().write(data.upper())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.streams, "StreamWriter", Writer)
        async with streams() as s:
            assert type(s.writer) is type(s.peer_writer) is Writer
            s.writer.write(b"line\n")
            assert await s.peer_reader.readline() == b"LINE\n"


PATCHED = ("write", "writelines", "close", "is_closing", "get_extra_info")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", PATCHED)
@looped
async def test_patched_class(name: str, when: str) -> None:
    calls: list[Any] = []
    standard = getattr(asyncio.StreamWriter, name)

    def patched(self: Any, *args: Any) -> Any:
        calls.append(self)
        return standard(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        if when == "before":
            patch.setattr(asyncio.StreamWriter, name, patched)
        async with streams() as s:
            patch.setattr(asyncio.StreamWriter, name, patched)
            s.writer.write(b"a")
            s.writer.writelines([b"b"])
            await s.writer.drain()
            assert await s.peer_reader.readexactly(2) == b"ab"
            assert not s.writer.is_closing()
            assert s.writer.get_extra_info("socket") is not None
            s.writer.close()
            assert s.writer in calls


@pytest.mark.parametrize("name", ["drain", "wait_closed"])
@looped
async def test_patched_coroutine(name: str) -> None:
    calls: list[str] = []

    async def patched(self: Any) -> str:
        calls.append(name)
        return name

    async with streams() as s:
        before = getattr(s.writer, name)()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.StreamWriter, name, patched)
            assert await getattr(s.writer, name)() == name
        assert calls == [name]
        if name == "wait_closed":
            s.writer.close()
        await before


@looped
async def test_overridden_in_the_instance() -> None:
    async with streams() as s:
        sent: list[bytes] = []
        s.writer.write = sent.append
        s.writer.write(b"kept")
        assert sent == [b"kept"]
        del s.writer.write
        s.writer.transport.write = sent.append
        s.writer.write(b"kept too")
        assert sent == [b"kept", b"kept too"]
        helped: list[int] = []

        async def helper() -> None:
            helped.append(1)

        s.writer._protocol._drain_helper = helper
        await s.writer.drain()
        assert helped == [1]


@looped
async def test_another_of_its_class_is_plain() -> None:
    async with streams() as s:
        w = s.writer
        other = type(w)(w._transport, w._protocol, w._reader, w._loop)
        assert type(other) is asyncio.StreamWriter
        w.close()  # before `other` is dropped, which would warn


# --- ends ---


@only_asynccore
@looped
async def test_the_replaced_writer_closes_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with streams() as s:
            gc.collect()
            assert not s.writer.is_closing()
            s.peer_writer.write(b"x")
            assert await s.reader.read(1) == b"x"


@pytest.mark.skipif(
    not hasattr(asyncio.StreamWriter, "__del__"), reason="no warning in 3.11.2"
)
@looped
async def test_dropped_writer_warns_and_closes() -> None:
    async with streams() as s:
        transport = s.writer.transport
        kept, s.writer = s.writer, s.peer_writer
        kept._protocol._stream_writer = None  # 3.11 and 3.12 keep it there
        with pytest.warns(ResourceWarning, match="unclosed <StreamWriter"):
            del kept
            gc.collect()
        assert transport.is_closing()
        assert await s.peer_reader.read() == b""
        await settle()


def test_of_a_function_that_fails_outlives_the_report(script: Script) -> None:
    """Dropped earlier it would warn, and close a connection that is closed then."""
    script(
        """
        import asyncio, gc, socket, warnings

        made = asyncio.StreamReaderProtocol.connection_made.__code__.co_consts
        closes = "Unhandled exception in client_connected_cb" in made  # newest patches
        events = []
        warnings.simplefilter("always")
        warnings.showwarning = lambda text, *_: events.append(str(text)[:21])

        def fail(reader):  # not called, so it keeps nothing
            raise AssertionError

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda *_: events.append("reported"))
            server = await asyncio.start_server(fail, "127.0.0.1", 0)
            with socket.create_connection(server.sockets[0].getsockname()) as peer:
                while not events:
                    await asyncio.sleep(0)
                peer.setblocking(False)
                if closes:
                    assert await loop.sock_recv(peer, 1) == b""
            for _ in range(5):
                await asyncio.sleep(0)
                gc.collect()
            server.close()

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
        assert events[0] == "reported", events
        assert not closes or events == ["reported"], events
        """
    )


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_collected_after_its_connection(kind: str) -> None:
    async with streams(kind) as s:
        ref = weakref.ref(s.writer)
        s.writer.close()
        await s.writer.wait_closed()
        s.writer = s.peer_writer
        await settle()
        gc.collect()
        assert ref() is None


def test_writers_are_small() -> None:
    from asynccore import _core

    assert _core.StreamWriter.__basicsize__ <= 80
