"""StreamReader of a connection: what programs and hostile programs do with it."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import os
import random
import socket
import subprocess
import sys
import textwrap
import tracemalloc
import types
import warnings
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import looped, only_asynccore, settle
from support.streams import streams

KINDS = ("tcp", "unix", "tls")
WAITING = (
    "{}() called while another coroutine is already waiting for incoming data".format
)
READS = {
    "read": lambda reader: reader.read(10),
    "readline": lambda reader: reader.readline(),
    "readuntil": lambda reader: reader.readuntil(b"ab"),
    "readexactly": lambda reader: reader.readexactly(5),
    "__anext__": lambda reader: reader.__anext__(),
}
each_read = pytest.mark.parametrize("name", READS)


async def arrives(reader: Any, size: int) -> None:
    """Returns when so much is in the buffer."""
    async with asyncio.timeout(5):
        while len(reader._buffer) < size:
            await asyncio.sleep(0)


# --- what it is ---


@pytest.mark.parametrize("kind", KINDS)
@only_asynccore
@looped
async def test_classes(kind: str) -> None:
    from asynccore import _core

    async with streams(kind) as s:
        for reader in (s.reader, s.peer_reader):
            assert type(reader) is _core.StreamReader
            assert isinstance(reader, asyncio.StreamReader)
        assert type(s.writer) is _core.StreamWriter
        assert isinstance(s.writer, asyncio.StreamWriter)
        assert type(s.peer_writer) is asyncio.StreamWriter


@only_asynccore
@looped
async def test_switched_off() -> None:
    loop: Any = asyncio.get_running_loop()
    loop.c_streams = False
    async with streams() as s:
        assert type(s.reader) is type(s.peer_reader) is asyncio.StreamReader
        assert type(s.writer) is asyncio.StreamWriter
        s.peer_writer.write(b"line\n")
        assert await s.reader.readline() == b"line\n"


@contextlib.asynccontextmanager
async def over_pipe(protocol: Any) -> AsyncIterator[int]:
    """Yields the writing end of a pipe that the protocol reads."""
    reading, writing = os.pipe()
    loop = asyncio.get_running_loop()
    file = os.fdopen(reading, "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, file)
    try:
        yield writing
    finally:
        transport.close()
        os.close(writing)
        await settle()


class StreamProtocol(asyncio.StreamReaderProtocol):
    pass


@pytest.mark.parametrize("kind", ["plain", "subclass", "switched off"])
@only_asynccore
@looped
async def test_class_over_a_pipe(kind: str) -> None:
    from asynccore import _core

    loop: Any = asyncio.get_running_loop()
    loop.c_streams = kind != "switched off"
    reader = asyncio.StreamReader()
    make = StreamProtocol if kind == "subclass" else asyncio.StreamReaderProtocol
    async with over_pipe(make(reader)) as writing:
        assert type(reader) is (
            _core.StreamReader if kind == "plain" else asyncio.StreamReader
        )
        os.write(writing, b"line\nrest")
        assert await reader.readline() == b"line\n"
        assert await reader.readexactly(4) == b"rest"


@pytest.mark.parametrize("switched_on", [True, False])
@only_asynccore
@looped
async def test_class_of_a_child(switched_on: bool) -> None:
    from asynccore import _core

    loop: Any = asyncio.get_running_loop()
    loop.c_streams = switched_on
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    ours = _core.StreamReader if switched_on else asyncio.StreamReader
    assert type(process.stdout) is ours
    assert process.stderr is None
    assert await process.communicate(b"line\n") == (b"line\n", None)


@looped
async def test_pipe_is_paused_and_resumed() -> None:
    reader: Any = asyncio.StreamReader(limit=4)
    async with over_pipe(asyncio.StreamReaderProtocol(reader)) as writing:
        os.write(writing, b"123456789")
        await arrives(reader, 9)
        assert reader._paused
        assert not reader._transport.is_reading()
        os.write(writing, b"\n")
        await settle()
        assert await reader.read(5) == b"12345"
        assert reader._transport.is_reading()
        assert await reader.readline() == b"6789\n"


VERSIONS = """
    import asyncio, asynccore, socket, _testcapi
    from asynccore import _core
    async def main():
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        theirs.send(b"line\\n")
        await reader.readline()
        writer.close()
        theirs.close()
    asynccore.run(main())
    print(_testcapi.type_get_version(_core.StreamWriter))
"""


@only_asynccore
def test_classes_are_compared_once(script: Any) -> None:
    testcapi = pytest.importorskip("_testcapi")
    if not hasattr(testcapi, "type_get_version"):
        pytest.skip("no _testcapi.type_get_version before 3.12")
    # 0: each call of a reader would compare them, where nobody uses the writer
    assert int(script(VERSIONS).stdout) > 0


@pytest.mark.parametrize("mode, kind", [("c", "_core"), ("stdlib", "streams")])
def test_switched_by_environment(mode: str, kind: str) -> None:
    code = """
        import asyncio, asynccore
        async def main():
            async def serve(reader, writer):
                print(type(reader).__module__, type(writer).__module__)
                writer.close()
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(
                *server.sockets[0].getsockname())
            await reader.read()
            writer.close()
            server.close()
        with asyncio.Runner(loop_factory=asynccore.new_event_loop) as runner:
            runner.run(main())
        print(asynccore.show_config("dict")["streams"])
    """
    environment = {**os.environ, "ASYNCCORE_STREAMS": mode}
    printed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split("\n")
    assert printed[0].split()[0].endswith(kind)
    assert printed[0].split()[1].endswith(kind)
    assert printed[1] == {"c": "in C", "stdlib": "asyncio's"}[mode]


def test_wrong_environment() -> None:
    from asynccore import _mode

    former = _mode.streams()
    with pytest.raises(ValueError, match="ASYNCCORE_STREAMS must be one of"):
        _mode.streams.use("fast")
    assert _mode.streams() == former


@looped
async def test_another_of_its_class_is_plain() -> None:
    async with streams() as s:
        other = type(s.reader)(limit=7)
        assert type(other) is asyncio.StreamReader
        assert other._limit == 7


@each_read
@looped
async def test_coroutines(name: str) -> None:
    async with streams() as s:
        coro: Any = READS[name](s.reader)
        assert asyncio.iscoroutine(coro)
        assert isinstance(coro, collections.abc.Coroutine)
        assert coro.__qualname__ == f"StreamReader.{name}"
        assert coro.cr_code.co_name == name
        assert not coro.cr_running
        assert coro.cr_await is None
        assert weakref.ref(coro)() is coro
        coro.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
            await coro


@types.coroutine
def old_style(coro: Any) -> Any:
    value = yield from coro
    return [value]


@pytest.mark.parametrize("waits", [False, True])
@looped
async def test_yield_from(waits: bool) -> None:
    async with streams() as s:
        if not waits:
            s.peer_writer.write(b"line\n")
            await arrives(s.reader, 5)
        task = asyncio.ensure_future(old_style(s.reader.readline()))
        await asyncio.sleep(0)
        if waits:
            s.peer_writer.write(b"line\n")
        assert await task == [b"line\n"]
        assert await old_style(s.writer.drain()) == [None]


def stop_of(drive: Any, coro: Any) -> StopIteration:
    with pytest.raises(StopIteration) as caught:
        drive(coro)
    return caught.value


CHANGES: list[Any] = [
    lambda stop: stop.add_note("note"),
    lambda stop: setattr(stop, "__context__", ValueError()),
    lambda stop: setattr(stop, "__cause__", ValueError()),
    lambda stop: setattr(stop, "__suppress_context__", True),
    lambda stop: setattr(stop, "args", ()),
    lambda stop: setattr(stop, "args", (object(),)),
    lambda stop: setattr(stop, "value", object()),
    lambda stop: setattr(stop, "value", None),
    lambda stop: setattr(stop, "extra", 1),
    lambda stop: hash(stop.args),
]


@looped
async def test_exceptions_of_an_await() -> None:
    """Whatever those who see them do, each says what its own read has given."""
    seen: list[Any] = []
    kept: list[Any] = []

    def trace(frame: Any, event: str, arg: Any) -> Any:
        if event == "exception" and isinstance(arg[1], StopIteration):
            seen.append((arg[1].value, arg[1].args))
            CHANGES[len(seen) % len(CHANGES)](arg[1])
            if len(seen) % 3 == 0:
                kept.append((arg[1], arg[1].value))
        return trace

    async def read(word: bytes) -> None:
        s.reader.feed_data(word)
        assert await s.reader.read(10) == word

    async with streams() as s:
        words = [b"%d" % i for i in range(6 * len(CHANGES))]
        former = sys.gettrace()
        sys.settrace(trace)
        try:
            for word in words:
                with contextlib.suppress(AssertionError):  # the value was changed
                    await read(word)
        finally:
            sys.settrace(former)
        for word in words[:3]:
            await read(word)
    assert seen == [(value[0], value) for _, value in seen]
    assert all(stop.value is value for stop, value in kept)


@pytest.mark.parametrize(
    "drive", [lambda c: c.send(None), lambda c: next(c.__await__())]
)
@looped
async def test_exceptions_of_a_driver(drive: Any) -> None:
    async with streams() as s:
        stops = []
        for word in (b"one", b"two"):
            s.reader.feed_data(word)
            stops.append(stop_of(drive, s.reader.read(10)))
        assert [(stop.value, stop.args) for stop in stops] == [
            (b"one", (b"one",)),
            (b"two", (b"two",)),
        ]
        dead = weakref.ref(holder := Keeps())
        s.reader.feed_data(b"three")
        assert stop_of(lambda coro, _=holder: drive(coro), s.reader.read(10))
        del holder, stops
        gc.collect()
        assert dead() is None


@looped
async def test_coroutines_are_not_iterable() -> None:
    async with streams() as s:
        for coro in (s.reader.readline(), s.writer.drain()):
            assert not isinstance(coro, collections.abc.Iterable)
            with pytest.raises(TypeError, match="object is not iterable"):
                list(coro)
            coro.close()


@each_read
@looped
async def test_signatures(name: str) -> None:
    async with streams() as s:
        standard = inspect.signature(getattr(asyncio.StreamReader(), name))
        assert inspect.signature(getattr(s.reader, name)) == standard


@each_read
@looped
async def test_never_awaited(name: str) -> None:
    async with streams() as s:
        with pytest.warns(RuntimeWarning, match=f"StreamReader.{name}' was never"):
            READS[name](s.reader)
            gc.collect()


@looped
async def test_in_tasks() -> None:
    async with streams() as s:
        s.peer_writer.write(b"one\ntwo\nthree\nfour\n")
        assert await asyncio.create_task(s.reader.readline()) == b"one\n"
        assert await asyncio.wait_for(s.reader.readline(), 5) == b"two\n"
        assert await asyncio.gather(s.reader.readline()) == [b"three\n"]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(s.reader.readexactly(5))
        assert task.result() == b"four\n"


# --- reading ---


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_all_reads(kind: str) -> None:
    async with streams(kind) as s:
        s.peer_writer.write(b"line\nuntil--exactly")
        assert await s.reader.readline() == b"line\n"
        assert await s.reader.readuntil(separator=b"--") == b"until--"
        assert await s.reader.readexactly(n=7) == b"exactly"
        s.peer_writer.write(b"rest of it")
        assert await s.reader.read(n=4) == b"rest"
        assert await s.reader.read(0) == b""
        assert await s.reader.readexactly(0) == b""
        s.peer_writer.close()
        assert await s.reader.read() == b" of it"
        assert await s.reader.read(5) == b""
        assert await s.reader.readline() == b""
        assert s.reader.at_eof()
        assert [line async for line in s.reader] == []
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await s.reader.readexactly(3)
        assert (caught.value.partial, caught.value.expected) == (b"", 3)


@looped
async def test_separators_in_a_tuple() -> None:
    async with streams() as s:
        s.peer_writer.write(b"xxABCyyBzzC")
        if sys.version_info < (3, 13):
            with pytest.raises(TypeError):
                await s.reader.readuntil((b"ABC", b"B"))
            return
        assert await s.reader.readuntil((b"ABC", b"B")) == b"xxAB"
        assert await s.reader.readuntil((b"yyB", b"B", b"Q")) == b"CyyB"
        assert await s.reader.readuntil((b"QQ", b"C")) == b"zzC"
        with pytest.raises(ValueError, match="at least one element"):
            await s.reader.readuntil(())
        with pytest.raises(ValueError, match="at least one-byte"):
            await s.reader.readuntil((b"a", b""))


@looped
async def test_odd_arguments() -> None:
    async with streams() as s:
        s.peer_writer.write(b"0123456789")
        assert await s.reader.read(True) == b"0"
        assert await s.reader.readuntil(bytearray(b"3")) == b"123"
        assert await s.reader.readexactly(1) == b"4"
        with pytest.raises(ValueError, match="can not be less than zero"):
            await s.reader.readexactly(-1)
        with pytest.raises(ValueError, match="at least one-byte string"):
            await s.reader.readuntil(b"")
        for wrong in (lambda: s.reader.read(1, 2), lambda: s.reader.read(m=1)):
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises(TypeError):
            s.reader.readexactly()
        with pytest.raises(TypeError):
            await s.reader.read("5")
        assert await s.reader.read(1 << 100) == b"56789"


@looped
async def test_limits() -> None:
    async with streams(limit=8) as s:
        s.peer_writer.write(b"0123456789\nnext")
        await arrives(s.reader, 15)
        with pytest.raises(asyncio.LimitOverrunError) as found:
            await s.reader.readuntil()
        assert str(found.value) == (
            "Separator is found, but chunk is longer than limit"
        )
        assert found.value.consumed == 10
        assert bytes(s.reader._buffer) == b"0123456789\nnext"
        with pytest.raises(ValueError, match="is found, but chunk") as wrapped:
            await s.reader.readline()
        assert isinstance(wrapped.value.__context__, asyncio.LimitOverrunError)
        assert await s.reader.readexactly(4) == b"next"
        s.peer_writer.write(b"no newline")
        await arrives(s.reader, 10)
        with pytest.raises(asyncio.LimitOverrunError) as missing:
            await s.reader.readuntil(b"XY")
        assert str(missing.value) == (
            "Separator is not found, and chunk exceed the limit"
        )
        assert missing.value.consumed == 9
        with pytest.raises(ValueError, match="is not found, and chunk exceed"):
            await s.reader.readline()
        assert not s.reader._buffer


@looped
async def test_transport_is_paused_and_resumed() -> None:
    async with streams(limit=4) as s:
        s.peer_writer.write(b"123456789")
        await arrives(s.reader, 9)
        assert s.reader._paused
        assert not s.writer.transport.is_reading()
        assert "paused" in repr(s.reader)
        assert await s.reader.read(4) == b"1234"
        assert s.reader._paused
        assert await s.reader.read(1) == b"5"
        assert not s.reader._paused
        assert s.writer.transport.is_reading()
        s.peer_writer.write(b"0123456789" * 10)
        assert len(await s.reader.readexactly(104)) == 104


class Unpausable:
    """A transport that knows no flow control, and counts."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls = 0

    def pause_reading(self) -> None:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize("size", [0, 2])
@looped
async def test_empty_read_until_eof_resumes(size: int) -> None:
    async with streams(limit=2) as s:
        s.reader.feed_data(b"0123456")
        assert s.reader._paused
        del s.reader._buffer[size:]
        s.reader.feed_eof()
        assert await s.reader.read() == b"01"[:size]
        assert not s.reader._paused


@looped
async def test_waiter_that_looks_at_the_buffer() -> None:
    async with streams(limit=2) as s:

        class Waiter(asyncio.Future[None]):
            def set_result(self, result: None) -> None:
                assert s.reader._buffer == b"0123456"
                super().set_result(result)

        s.reader._waiter = Waiter()
        s.reader.feed_data(b"0123456")
        assert s.reader._paused


@looped
async def test_failure_to_resume_after_a_line_that_is_too_long() -> None:
    class Stuck(Fake):
        def resume_reading(self) -> None:
            raise OSError("stuck")

    async with streams(limit=2) as s:
        former, s.reader._transport = s.reader._transport, Stuck()
        s.reader.feed_data(b"0123456")
        with pytest.raises(OSError, match="stuck") as caught:
            await s.reader.readline()
        assert type(caught.value.__context__) is asyncio.LimitOverrunError
        s.reader._transport = former


@looped
async def test_memory_of_a_burst_is_given_back() -> None:
    size = 1 << 24
    async with streams() as s:
        tracemalloc.start()
        try:
            s.reader.feed_data(b"begin")
            s.reader.feed_data(bytes(size))
            del s.reader
            assert len(await s.writer._reader.readexactly(size)) == size
            s.writer._reader.feed_data(b"end\n")
            assert tracemalloc.get_traced_memory()[0] < size / 4
            assert await s.writer._reader.readline() == b"\0" * 5 + b"end\n"
        finally:
            tracemalloc.stop()


@looped
async def test_transport_that_can_not_pause() -> None:
    async with streams(limit=2) as s:
        transport = s.reader._transport
        s.reader._transport = fake = Unpausable(NotImplementedError())
        s.reader.feed_data(b"12345")
        s.reader.feed_data(b"6789")
        assert fake.calls == 1
        assert s.reader._transport is None
        assert not s.reader._paused
        s.reader._transport = Unpausable(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            s.reader.feed_data(b"0")
        s.reader._transport = transport
        assert await s.reader.readexactly(10) == b"1234567890"


# --- waiting ---


@each_read
@looped
async def test_cancelled_read_loses_nothing(name: str) -> None:
    async with streams() as s:
        task = asyncio.create_task(READS[name](s.reader))
        await asyncio.sleep(0)
        assert s.reader._waiter is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert s.reader._waiter is None
        s.peer_writer.write(b"later\n")
        assert await s.reader.readline() == b"later\n"


@pytest.mark.parametrize("seed", range(20))
@looped
async def test_exactly_in_pieces(seed: int) -> None:
    """The bytes for a waiting readexactly() come in pieces, and more behind them."""
    choose = random.Random(seed)
    async with streams() as s:
        for size in (1, 255, 256, 257, 5_000, 300_000):
            data = choose.randbytes(size + choose.choice([0, 1, size, 10 * size]))
            rest = data
            task = asyncio.create_task(s.reader.readexactly(size))
            await asyncio.sleep(0)
            while rest:
                n = choose.choice([1, max(1, size // 9), max(1, size // 2), size])
                s.reader.feed_data(rest[:n])
                rest = rest[n:]
                what = choose.choice(["wait", "look", "cancel", "nothing"])
                if what == "wait":
                    await settle()
                elif what == "look" and not task.done():
                    seen = bytes(s.reader._buffer)
                    assert data.startswith(seen)
                elif what == "cancel" and not task.done():
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    task = asyncio.create_task(s.reader.readexactly(size))
                    await asyncio.sleep(0)
            assert await task == data[:size]
            assert await s.reader.readexactly(len(data) - size) == data[size:]
            assert not s.reader._buffer


@looped
async def test_exactly_more_than_ever_comes() -> None:
    async with streams() as s:
        task = asyncio.create_task(s.reader.readexactly(sys.maxsize))
        await asyncio.sleep(0)
        s.reader.feed_data(b"begin")
        await settle()
        s.reader.feed_data(b"end")
        s.reader.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await task
        assert caught.value.partial == b"beginend"
        assert caught.value.expected == sys.maxsize


@looped
async def test_cancelled_in_the_turn_of_the_data() -> None:
    async with streams() as s:
        task = asyncio.create_task(s.reader.readexactly(5))
        await asyncio.sleep(0)
        s.reader.feed_data(b"12345")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await s.reader.readexactly(5) == b"12345"


@each_read
@looped
async def test_second_reader(name: str) -> None:
    async with streams() as s:
        task = asyncio.create_task(s.reader.read(1))
        await asyncio.sleep(0)
        waits = {"readline": "readuntil", "__anext__": "readuntil"}.get(name, name)
        with pytest.raises(RuntimeError) as caught:
            await READS[name](s.reader)
        assert str(caught.value) == WAITING(waits)
        s.peer_writer.write(b"x")
        assert await task == b"x"


@looped
async def test_data_taken_before_the_reader_wakes() -> None:
    async with streams() as s:
        first = asyncio.create_task(s.reader.read(10))
        everything = asyncio.create_task(s.peer_reader.read())
        await asyncio.sleep(0)
        s.reader.feed_data(b"12345")
        s.peer_reader.feed_data(b"12345")
        assert await s.reader.readexactly(5) == b"12345"
        assert await s.peer_reader.readexactly(5) == b"12345"
        assert await first == b""
        assert await everything == b""


@each_read
@looped
async def test_turns_until_a_reader_wakes(name: str) -> None:
    async with streams() as s:
        turns: list[int] = []
        task = asyncio.create_task(READS[name](s.reader))
        await asyncio.sleep(0)
        task.add_done_callback(lambda _: turns.append(len(turns)))
        s.reader.feed_data(b"xabcdefg\n")
        counted = 0
        while not turns:
            counted += 1
            await asyncio.sleep(0)
        assert counted == 2


@looped
async def test_waiter_of_another_class() -> None:
    loop = asyncio.get_running_loop()
    async with streams() as s:
        made: list[Any] = []

        class Waiter(asyncio.Future):  # type: ignore[type-arg]
            pass

        def create_future() -> Any:
            made.append(Waiter(loop=loop))
            return made[-1]

        loop.create_future = create_future  # type: ignore[method-assign]
        try:
            task = asyncio.create_task(s.reader.read(1))
            await asyncio.sleep(0)
            assert s.reader._waiter is made[0]
            s.reader.feed_data(b"x")
            assert await task == b"x"
        finally:
            del loop.create_future


# --- ends ---


@each_read
@looped
async def test_set_exception(name: str) -> None:
    async with streams() as s:
        task = asyncio.create_task(READS[name](s.reader))
        await asyncio.sleep(0)
        s.reader.set_exception(exc := OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await task
        assert s.reader.exception() is exc
        assert "exception=OSError('gone')" in repr(s.reader)
        s.reader.feed_data(b"12345\nab")
        with pytest.raises(OSError, match="gone"):
            await READS[name](s.reader)
        with pytest.raises(OSError, match="gone"):
            await s.writer.drain()


@looped
async def test_eof_while_reading() -> None:
    async with streams() as s:
        task = asyncio.create_task(s.reader.readexactly(10))
        await asyncio.sleep(0)
        s.peer_writer.write(b"123")
        s.peer_writer.write_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await task
        assert (caught.value.partial, caught.value.expected) == (b"123", 10)
        with pytest.raises(asyncio.IncompleteReadError) as nothing:
            await s.reader.readuntil(b"x")
        assert (nothing.value.partial, nothing.value.expected) == (b"", None)
        assert "eof" in repr(s.reader)
        with pytest.raises(AssertionError, match="feed_data after feed_eof"):
            s.reader.feed_data(b"x")
        with pytest.raises(AssertionError, match="Transport already set"):
            s.reader.set_transport(None)


@looped
async def test_reader_outlives_its_connection() -> None:
    async with streams() as s:
        s.peer_writer.write(b"one\ntwo\nthree")
        s.peer_writer.close()
        await settle()
        reader = s.reader
        s.writer.close()
        await s.writer.wait_closed()
    assert await reader.readline() == b"one\n"
    assert [line async for line in reader] == [b"two\n", b"three"]


@looped
async def test_closed_in_the_middle_of_a_read() -> None:
    async with streams() as s:
        task = asyncio.create_task(s.reader.read(10))
        await asyncio.sleep(0)
        s.writer.close()
        assert await task == b""
    async with streams() as s:
        abort = asyncio.create_task(s.peer_reader.readline())
        await asyncio.sleep(0)
        s.peer_writer.transport._force_close(ConnectionResetError("by test"))
        with pytest.raises(ConnectionResetError, match="by test"):
            await abort


@looped
async def test_collected() -> None:
    async with streams() as s:
        s.reader.itself = s.reader
        s.writer.itself = s.writer
        s.reader.feed_data(b"left behind")
        refs = [weakref.ref(s.reader), weakref.ref(s.writer)]
        pending = s.peer_reader.read(5)
        pending.send(None)
        pending.close()
        for writer in (s.writer, s.peer_writer):
            writer.close()
            await writer.wait_closed()
        s.reader = None
        writer, s.writer = s.writer, s.peer_writer
        del writer
        await asyncio.sleep(0)
        gc.collect()
        assert [ref() for ref in refs] == [None, None]


# --- attributes ---


@looped
async def test_buffer_is_changed_in_place() -> None:
    async with streams() as s:
        s.peer_writer.write(b"0123456789")
        await arrives(s.reader, 10)
        assert type(s.reader._buffer) is bytearray
        del s.reader._buffer[:3]
        s.reader._buffer.extend(b"ab\n")
        assert await s.reader.readline() == b"3456789ab\n"
        s.reader._buffer = bytearray(b"mine\n")
        assert await s.reader.readline() == b"mine\n"


@looped
async def test_buffer_is_held() -> None:
    async with streams() as s:
        held = s.reader._buffer
        task = asyncio.create_task(s.reader.readexactly(6))
        s.peer_writer.write(b"01234")
        await arrives(s.reader, 5)
        assert held is s.reader._buffer
        assert held == b"01234"
        held.extend(b"!")
        s.reader._wakeup_waiter()
        assert await task == b"01234!"
        with memoryview(held), contextlib.suppress(BufferError):
            s.reader.feed_data(b"x")
        del held
        s.peer_writer.write(b"y\n")
        assert (await s.reader.readline()).endswith(b"y\n")


@looped
async def test_attributes() -> None:
    async with streams() as s:
        s.reader._limit = 3
        s.reader._marked = 1
        assert "limit=3" in repr(s.reader)
        s.peer_writer.write(b"0123456789\n")
        await arrives(s.reader, 11)
        with pytest.raises(ValueError, match="longer than limit"):
            await s.reader.readline()
        s.reader._limit = 10.5
        s.peer_writer.write(b"0123456789\n")
        assert await s.reader.readline() == b"0123456789\n"
        s.reader._eof = 1
        assert s.reader.at_eof() in (True, 1)
        s.reader._eof = False
        assert s.reader._transport is s.writer.transport
        assert s.reader._loop is asyncio.get_running_loop()
        assert vars(s.reader)["_marked"] == 1


@looped
async def test_debug_mode_tells_where_it_was_made() -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    async with streams() as s:
        for reader in (s.reader, s.peer_reader):
            assert reader._source_traceback
        s.peer_writer.write(b"x")
        assert await s.reader.read(1) == b"x"
    loop.set_debug(False)


# --- patched ---


PATCHED = ("feed_data", "feed_eof", "readuntil", "_wakeup_waiter", "at_eof", "read")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", PATCHED)
@looped
async def test_patched_class(name: str, when: str) -> None:
    calls: list[str] = []
    standard = getattr(asyncio.StreamReader, name)

    def patched(self: Any, *args: Any) -> Any:
        calls.append(name)
        return standard(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        if when == "before":
            patch.setattr(asyncio.StreamReader, name, patched)
        async with streams() as s:
            task = asyncio.create_task(s.reader.readline())
            await asyncio.sleep(0)
            patch.setattr(asyncio.StreamReader, name, patched)
            s.peer_writer.write(b"line\n1234567890")
            assert await task == b"line\n"
            s.peer_writer.write_eof()
            assert await s.reader.readexactly(4) == b"1234"
            assert await s.reader.read(3) == b"567"
            assert await s.reader.readline() == b"890"
            assert s.reader.at_eof()
            assert name in calls
    assert calls


PATCHED_BEFORE_IMPORT = """
    import asyncio, socket, sys

    class Descriptor:
        def __get__(self, object, type=None):
            calls.append(name)
            return lambda *args: standard(object, *args)

    calls, writers = [], []
    name = sys.argv[2]
    owner = getattr(asyncio, sys.argv[1])
    standard = getattr(owner, name)
    setattr(owner, name, Descriptor())
    import asynccore
    calls.clear()

    async def main():
        ours, theirs = socket.socketpair()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(
            reader, lambda _, writer: writers.append(writer)
        )
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: protocol, sock=ours)
        theirs.send(b"line\\n")
        assert await reader.readline() == b"line\\n"
        await writers[0].drain()
        writers[0].close()
        theirs.close()
        assert calls

    asynccore.run(main())
"""


@pytest.mark.parametrize(
    "owner, name",
    [
        ("StreamReader", "readline"),
        ("StreamReader", "feed_data"),
        ("StreamWriter", "drain"),
        ("StreamReaderProtocol", "data_received"),
    ],
)
def test_patched_before_the_import(owner: str, name: str) -> None:
    """By what is no function."""
    code = textwrap.dedent(PATCHED_BEFORE_IMPORT)
    subprocess.run([sys.executable, "-c", code, owner, name], check=True, timeout=60)


@pytest.mark.parametrize("name", PATCHED)
@looped
async def test_patched_class_of_the_reader(name: str) -> None:
    calls: list[str] = []
    async with streams() as s:
        standard = getattr(type(s.reader), name)

        def patched(self: Any, *args: Any) -> Any:
            calls.append(name)
            return standard(self, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(s.reader), name, patched)
            s.peer_writer.write(b"line\n1234")
            assert await s.reader.readline() == b"line\n"
            s.peer_writer.write_eof()
            assert await s.reader.read() == b"1234"
            assert s.reader.at_eof()
        assert calls
        del calls[:]
        assert await s.reader.readline() == b""
        assert not calls


@looped
async def test_patched_protocol() -> None:
    seen: list[bytes] = []
    standard = asyncio.StreamReaderProtocol.data_received

    def patched(self: Any, data: bytes) -> None:
        seen.append(data)
        standard(self, data)

    async with streams() as s:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.StreamReaderProtocol, "data_received", patched)
            s.peer_writer.write(b"one")
            assert await s.reader.readexactly(3) == b"one"
        s.peer_writer.write(b"two")
        assert await s.reader.readexactly(3) == b"two"
    assert seen == [b"one"]


@looped
async def test_overridden_in_the_instance() -> None:
    async with streams() as s:
        seen: list[bytes] = []
        standard = s.reader.feed_data
        s.reader.feed_data = lambda data: (seen.append(data), standard(data))
        s.peer_writer.write(b"one\n")
        assert await s.reader.readline() == b"one\n"
        protocol = s.peer_writer.transport.get_protocol()
        received = protocol.data_received
        protocol.data_received = lambda data: (seen.append(data), received(data))
        s.writer.write(b"two\n")
        assert await s.peer_reader.readline() == b"two\n"
        s.reader.readuntil = lambda *args: asyncio.sleep(0, b"three\n")
        assert await s.reader.readline() == b"three\n"
        del s.reader.readuntil
        s.peer_writer.write(b"four\n")
        assert await s.reader.readline() == b"four\n"
    assert seen == [b"one\n", b"two\n", b"four\n"]


class Shouting(asyncio.StreamReader):
    def feed_data(self, data: bytes) -> None:
        super().feed_data(data.upper())


@looped
async def test_subclass_is_left_alone() -> None:
    loop = asyncio.get_running_loop()
    async with streams() as s:
        reader = Shouting(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        s.writer.transport.set_protocol(protocol)
        s.peer_writer.write(b"line\n")
        assert await reader.readline() == b"LINE\n"
        assert type(reader) is Shouting
        s.writer.transport.set_protocol(s.writer._protocol)


class Kept:
    """Something that can be referred to weakly."""


@pytest.mark.parametrize("how", ["set_protocol()", "_protocol"])
@looped
async def test_former_protocol_is_let_go(how: str) -> None:
    """What has been found out about it keeps nothing of it."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    reader = asyncio.StreamReader(loop=loop)
    transport: Any
    transport, protocol = await loop.create_connection(
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop), sock=here
    )
    vars(protocol)["kept"] = Kept()
    kept = weakref.ref(vars(protocol)["kept"])
    for _ in range(2):
        there.send(b"line\n")
        assert await reader.readline() == b"line\n"
    if how == "_protocol":
        transport._protocol = asyncio.Protocol()
    else:
        transport.set_protocol(asyncio.Protocol())
    del protocol
    gc.collect()
    assert kept() is None
    transport.abort()
    await settle()
    there.close()


@looped
async def test_gets_another_class() -> None:
    async with streams() as s:
        s.reader.feed_data(b"begin ")
        task = asyncio.create_task(s.reader.readline())
        await asyncio.sleep(0)
        s.reader.__class__ = Shouting
        s.peer_writer.write(b"end\n")
        assert await task == b"begin END\n"
        assert await asyncio.gather(s.reader.readline(), shout(s)) == [b"MORE\n", None]


async def shout(s: Any) -> None:
    s.peer_writer.write(b"more\n")


@looped
async def test_bound_methods_outlive_the_class() -> None:
    async with streams() as s:
        reader = s.reader
        calls: list[bytes] = []
        read, feed, assign = reader.read, reader.feed_data, reader.__setattr__
        iterate, following = reader.__aiter__, reader.__anext__
        reader.__class__ = Shouting
        reader.feed_data = lambda data: (calls.append(data), feed(data))
        for _ in range(2):
            reader.feed_data(b"line\n")
        assert calls == [b"line\n"] * 2
        assert await read(2) == b"li"
        assert await following() == b"ne\n"
        assert iterate() is reader
        with contextlib.suppress(TypeError):  # "can't apply this", before 3.12
            assign("_limit", 30)
        assert await reader.readline() == b"line\n"


@only_asynccore
@looped
async def test_bound_methods_outlive_the_state() -> None:
    async with streams() as s:
        reader = s.reader
        read = reader.read
        methods = [reader.at_eof, reader.__aiter__, reader.__anext__]
        methods += [lambda assign=reader.__setattr__: assign("_limit", 1)]
        reader.__class__ = Shouting
        reader.__dict__ = dict(vars(reader))
        for method in methods:
            with pytest.raises(TypeError):
                method()
        reader.feed_data(b"line\n")
        assert await read(2) == b"LI"
        assert await reader.readline() == b"NE\n"


@looped
async def test_own_attributes() -> None:
    async with streams() as s:
        s.reader.mine = 1
        attributes = vars(s.reader)
        assert isinstance(attributes, dict)
        assert attributes["mine"] == 1
        attributes["other"] = 2
        assert s.reader.other == 2
        del s.reader.mine
        assert "mine" not in attributes
        assert s.reader._limit == 2**16
        s.peer_writer.write(b"line\n")
        assert await s.reader.readline() == b"line\n"
        dead = weakref.ref(s.reader)
        s.reader.itself = s.reader
    del attributes
    s.reader = s.writer = s.peer_reader = s.peer_writer = None
    await settle()
    gc.collect()
    assert dead() is None


class Undoes:
    """Garbage whose finalizer takes from a reader and a writer what they have."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self.reader = reader
        self.writer = writer
        self.itself = self

    def __del__(self) -> None:
        self.reader.__dict__ = {}
        self.writer._loop = None


TUPLE = (b"a", b"b") if sys.version_info >= (3, 13) else b"a"
MAKES: dict[str, Any] = {
    **{name: lambda reader, _, read=read: read(reader) for name, read in READS.items()},
    "a tuple": lambda reader, _: reader.readuntil(TUPLE),
    "drain": lambda _, writer: writer.drain(),
}


@pytest.mark.parametrize("name", MAKES)
@only_asynccore
@looped
async def test_collection_while_a_coroutine_is_made(name: str) -> None:
    """Before 3.12 any allocation may run finalizers."""
    from asynccore import _core

    loop: Any = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    _core.adopt_reader(loop, reader)
    async with streams() as s:
        thresholds = gc.get_threshold()
        gc.disable()
        Undoes(reader, s.writer)
        gc.set_threshold(1, 1, 1)
        gc.enable()
        coro = MAKES[name](reader, s.writer)
        gc.set_threshold(*thresholds)
        gc.collect()
        assert s.writer._loop is None
        s.writer._loop = loop
        coro.close()


class Odd:
    """A name that runs code when it is looked up."""

    def __init__(self, names: dict[Any, Any]) -> None:
        self.names = names
        names[self] = 1
        self.ready = True

    ready = False

    def __hash__(self) -> int:
        if self.ready:
            self.names.clear()
        return 5


@looped
async def test_odd_names_among_the_attributes() -> None:
    loop = asyncio.get_running_loop()
    async with streams() as s:
        reader: Any = asyncio.StreamReader(loop=loop)
        vars(reader)[5] = 1
        Odd(vars(reader))
        s.writer.transport.set_protocol(asyncio.StreamReaderProtocol(reader, loop=loop))
        s.peer_writer.write(b"line\n")
        assert await reader.readline() == b"line\n"
        assert vars(reader)[5] == 1
        s.writer.transport.set_protocol(s.writer._protocol)


@looped
async def test_taken_up_again() -> None:
    async with streams() as s:
        s.reader.__class__ = asyncio.StreamReader
        s.reader.feed_data(b"begin ")
        waiting = asyncio.create_task(s.reader.readline())
        await asyncio.sleep(0)
        s.writer.transport.set_protocol(s.writer._protocol)
        s.peer_writer.write(b"end\n")
        assert await waiting == b"begin end\n"
        s.peer_writer.write_eof()
        assert await s.reader.read() == b""
        assert s.reader.at_eof()


@looped
async def test_another_reader_in_the_protocol() -> None:
    loop = asyncio.get_running_loop()
    async with streams() as s:
        protocol = s.writer.transport.get_protocol()
        other = asyncio.StreamReader(loop=loop)
        protocol._stream_reader_wr = weakref.ref(other)
        s.peer_writer.write(b"line\n")
        assert await other.readline() == b"line\n"
        del other
        s.peer_writer.write(b"nobody\n")
        await settle()
        protocol._stream_reader_wr = weakref.ref(s.reader)
        s.peer_writer.write(b"back\n")
        assert await s.reader.readline() == b"back\n"


# What a program may do to the attributes of a protocol, `set_` by one of these ways.
WAYS: dict[str, Any] = {
    "attribute": setattr,
    "item": lambda protocol, name, value: vars(protocol).__setitem__(name, value),
    "update": lambda protocol, name, value: vars(protocol).update({name: value}),
    "another dict": lambda protocol, name, value: setattr(
        protocol, "__dict__", vars(protocol) | {name: value}
    ),
}


async def echo(s: Any) -> None:
    """Bytes and a drain, as often as it takes to find all as it was before."""
    for _ in range(3):
        s.peer_writer.write(b"ping")
        assert await s.reader.readexactly(4) == b"ping"
        s.writer.write(b"pong")
        await s.writer.drain()
        assert await s.peer_reader.readexactly(4) == b"pong"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["tcp", "tls"])
@looped
async def test_protocol_changes_between_pieces(kind: str, way: str) -> None:
    set_ = WAYS[way]
    loop = asyncio.get_running_loop()
    async with streams(kind) as s:
        protocol = s.writer._protocol
        calls: list[Any] = []
        await echo(s)
        standard = protocol.data_received
        set_(protocol, "data_received", lambda d: (calls.append(d), standard(d)))
        s.peer_writer.write(b"one")
        assert await s.reader.readexactly(3) == b"one"
        assert calls == [b"one"]
        del protocol.data_received
        await echo(s)

        async def helper() -> None:
            calls.append("helper")

        set_(protocol, "_drain_helper", helper)
        await s.writer.drain()
        assert calls == [b"one", "helper"]
        vars(protocol).pop("_drain_helper")
        await echo(s)

        set_(protocol, "_paused", True)
        task = asyncio.create_task(s.writer.drain())
        await settle()
        assert not task.done()
        protocol.resume_writing()
        await task
        await echo(s)

        set_(protocol, "_connection_lost", True)
        with pytest.raises(ConnectionResetError):
            await s.writer.drain()
        set_(protocol, "_connection_lost", False)
        await echo(s)

        other = asyncio.StreamReader(loop=loop)
        former = protocol._stream_reader_wr
        set_(protocol, "_stream_reader_wr", weakref.ref(other))
        s.peer_writer.write(b"other")
        assert await other.readexactly(5) == b"other"
        set_(protocol, "_stream_reader_wr", former)
        await echo(s)


class Loud(asyncio.StreamReaderProtocol):
    def data_received(self, data: bytes) -> None:
        super().data_received(data.upper())


@looped
async def test_protocol_gets_another_class_between_pieces() -> None:
    async with streams() as s:
        await echo(s)
        s.writer._protocol.__class__ = Loud
        s.peer_writer.write(b"one")
        assert await s.reader.readexactly(3) == b"ONE"
        s.writer._protocol.__class__ = asyncio.StreamReaderProtocol
        await echo(s)


@looped
async def test_protocol_of_two_connections() -> None:
    """The end of the one is seen by the other."""
    async with streams() as s, streams() as t:
        protocol = s.writer._protocol
        own = t.writer.transport.get_protocol()
        t.writer.transport.set_protocol(protocol)
        await echo(s)
        t.peer_writer.write(b"from t")
        assert await s.reader.readexactly(6) == b"from t"
        await echo(s)
        s.writer.transport.abort()
        assert await s.reader.read() == b""
        t.peer_writer.write(b"to nobody")
        await settle()
        assert s.reader._buffer == b""
        t.writer.transport.set_protocol(own)
        await echo(t)


@looped
async def test_reader_ends_between_pieces() -> None:
    """Its protocol is left, with a weak reference to nothing."""
    loop = asyncio.get_running_loop()
    async with streams() as s:
        reader: Any = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        s.writer.transport.set_protocol(protocol)
        for _ in range(3):
            s.peer_writer.write(b"data")
            assert await reader.readexactly(4) == b"data"
        dead = weakref.ref(reader)
        del reader
        gc.collect()
        assert dead() is None
        s.peer_writer.write(b"to nobody")
        await settle()
        s.writer.transport.set_protocol(s.writer._protocol)
        await echo(s)


class Keeps(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@looped
async def test_set_protocol(kind: str) -> None:
    async with streams(kind) as s:
        transport = s.writer.transport
        former = transport.get_protocol()
        transport.set_protocol(keeps := Keeps())
        s.peer_writer.write(b"elsewhere")
        async with asyncio.timeout(5):
            while keeps.data != b"elsewhere":
                await asyncio.sleep(0)
        transport.set_protocol(former)
        s.peer_writer.write(b"here\n")
        assert await s.reader.readline() == b"here\n"


# --- compared ---


async def same(call: Any, plain: Any, ours: Any) -> Any:
    """What a call does to a plain reader; the same, if it does that to ours."""
    outcomes = []
    for reader in (plain, ours):
        try:
            result = call(reader)
            if asyncio.iscoroutine(result):
                result = await asyncio.wait_for(result, 0.001)
            outcomes.append(("returned", result))
        except Exception as exc:
            outcomes.append((type(exc).__name__, str(exc), vars(exc)))
    assert outcomes[0] == outcomes[1]
    assert bytes(plain._buffer) == bytes(ours._buffer)
    assert plain._paused == ours._paused
    return outcomes[0]


class Fake:
    """A transport that takes note."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


@pytest.mark.parametrize("seed", range(40))
@only_asynccore
@looped
async def test_like_a_plain_reader(seed: int) -> None:
    choose = random.Random(seed)
    limit = choose.choice([1, 3, 16, 1000])
    tuples = sys.version_info >= (3, 13)

    def some(n: int) -> bytes:
        return bytes(choose.choices(b"ab\nX", k=n))

    def feed() -> Any:
        data = some(choose.choice([0, 1, 3, 10, 300]))
        return lambda reader: reader.feed_data(data)

    def call(name: str, *args: Any) -> Any:
        return lambda reader: getattr(reader, name)(*args)

    def until() -> Any:
        separators = [some(choose.randint(1, 3)) for _ in range(choose.randint(1, 3))]
        wanted = (
            tuple(separators) if tuples and choose.random() < 0.5 else separators[0]
        )
        return call("readuntil", wanted)

    def touch() -> Any:
        return lambda reader: bytes(reader._buffer[:2])

    makers = [
        feed,
        feed,
        until,
        touch,
        lambda: call("read", choose.choice([0, 1, 5, 1000])),
        lambda: call("readexactly", choose.choice([0, 1, 5, 20])),
        lambda: call("readline"),
        lambda: call("at_eof"),
    ]
    async with streams(limit=limit) as s:
        plain, ours = asyncio.StreamReader(limit=limit), s.reader
        fakes = Fake(), Fake()
        plain._transport, former, ours._transport = fakes[0], ours._transport, fakes[1]
        for _ in range(60):
            await same(choose.choice(makers)(), plain, ours)
        assert fakes[0].calls == fakes[1].calls
        await same(call("feed_eof"), plain, ours)
        await same(feed(), plain, ours)
        for _ in range(10):
            await same(choose.choice(makers[2:])(), plain, ours)
        await same(call("read"), plain, ours)
        ours._transport = former


CPYTHON = """
import asyncio, sys, unittest
import asynccore
from asynccore import _core, _tls
from test.test_asyncio import test_streams

plain = asyncio.StreamReader
asyncio.new_event_loop = asyncio.events.new_event_loop = asynccore.new_event_loop
kept = []

class Made(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, plain)

    def __call__(cls, *args, **kwargs):
        reader = plain(*args, **kwargs)
        if isinstance(reader._loop, _core.Loop):
            # as a TLS connection takes up its program's protocol
            protocol = asyncio.StreamReaderProtocol(reader, loop=reader._loop)
            tls = _tls.SSLProtocol.__new__(_tls.SSLProtocol)
            tls._app_protocol = protocol
            kept.append(reader)
            assert type(reader) is _core.StreamReader
        return reader

class StreamReader(metaclass=Made):
    pass

asyncio.StreamReader = StreamReader
done = unittest.main(module=test_streams, argv=["test_streams"], exit=False)
assert len(kept) > 30
sys.exit(not done.result.wasSuccessful())
"""


def test_cpythons_own_tests() -> None:
    pytest.importorskip("test.test_asyncio.test_streams")
    done = subprocess.run(
        [sys.executable, "-c", CPYTHON],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@only_asynccore
@looped
async def test_nothing_is_left_to_warn_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with streams() as s:
            s.peer_writer.write(b"x")
            assert await s.reader.read(1) == b"x"
        gc.collect()
