"""Steps of memory.py: the readers and writers of asyncio's streams."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import sys
from collections.abc import Iterator
from typing import Any

from .steps import Call, one_turn, step, turns

HELD = 300  # more coroutines than are kept for reuse
TUPLE = (b"long", b"e\n") if sys.version_info >= (3, 13) else b"e\n"


class Streams:
    """A reader, its writer, and the plain socket at the other end."""

    def __init__(self, loop: Any, limit: int) -> None:
        self.loop = loop
        self.here, self.there = socket.socketpair()
        for sock in (self.here, self.there):
            sock.setblocking(False)
        self.reader: Any = asyncio.StreamReader(limit=limit, loop=loop)
        self.writers: list[Any] = []
        self.protocol: Any = asyncio.StreamReaderProtocol(
            self.reader, lambda _, writer: self.writers.append(writer), loop=loop
        )
        self.fed = b""

    def connect(self) -> Any:
        self.transport = self.loop._make_socket_transport(self.here, self.protocol)
        return self.transport

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.reader.feed_data(piece)
            self.fed += piece

    def check(self) -> None:
        """Nothing that was not taken is lost, and it goes on."""
        assert self.reader._waiter is None
        assert self.fed.endswith(bytes(self.reader._buffer)), self.reader._buffer
        if self.reader._eof or self.reader._paused or self.transport.is_closing():
            return
        self.there.send(b"more")
        turns(self.loop)
        assert self.reader._buffer.endswith(b"more") or self.transport.is_closing()


@contextlib.contextmanager
def streams(loop: Any, limit: int = 1 << 16) -> Iterator[Any]:
    s = Streams(loop, limit)
    with s.there:
        s.connect()
        turns(loop)
        yield s
        s.check()
        s.transport.abort()
        turns(loop)


def drive(*coros: Any) -> Call:
    """A call that drives them until they wait, return or find the line too long."""

    def call() -> None:
        for coro in coros:
            with contextlib.suppress(ValueError, asyncio.IncompleteReadError):
                next(coro.__await__(), None)

    return call


@step
def reader_coroutine(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        held = [s.reader.read(1) for _ in range(HELD)]
        yield functools.partial(s.reader.readuntil, TUPLE)
        for coro in held:
            coro.close()


@step
def writer_coroutine(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        held = [s.writers[0].drain() for _ in range(HELD)]
        yield s.writers[0].drain
        for coro in held:
            coro.close()


def reads(s: Any) -> list[Any]:
    reader = s.reader
    return [
        reader.readline(),
        reader.read(2),
        reader.readexactly(3),
        reader.readuntil(b"e\n"),
        reader.readuntil(TUPLE),
        reader.__anext__(),
        reader.read(),
    ]


@step
def reader_takes(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        s.feed(b"one\n", b"two and three", b"e\nfoure\nfive\nthe rest")
        coros = reads(s)
        yield drive(*coros)
        for coro in coros:
            coro.close()


@step
def reader_waits(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        coro = s.reader.readline()
        yield drive(coro)
        coro.close()


@step
def reader_overruns(loop: Any) -> Iterator[Call]:
    with streams(loop, limit=4) as s:
        s.feed(b"a long line")
        coro = s.reader.readline()
        yield drive(coro)
        coro.close()


@step
def reader_ends_early(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        s.feed(b"end")
        s.reader.feed_eof()
        coro = s.reader.readexactly(4)
        yield drive(coro)
        coro.close()


@step
def reader_is_fed(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        s.feed(b"one")
        piece = b"two" * 1000
        yield functools.partial(s.reader.feed_data, piece)
        s.fed += piece if len(s.reader._buffer) > 3 else b""


@step
def reader_shows_its_buffer(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        s.feed(b"one")
        yield functools.partial(getattr, s.reader, "_buffer", None)
        assert s.reader._buffer == b"one"


@step
def reader_takes_its_buffer_back(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        s.feed(b"one")
        assert s.reader._buffer == b"one"
        yield s.reader.at_eof
        assert s.reader._buffer == b"one"


@step
def reader_turn(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        coro = s.reader.readexactly(9)
        coro.send(None)
        s.there.send(b"one")
        yield one_turn(loop)
        turns(loop)
        s.fed = bytes(s.reader._buffer)
        assert s.fed == b"one" or s.transport.is_closing()
        coro.close()


@step
def reader_turn_of_a_patched_protocol(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        stock = s.protocol.data_received
        s.protocol.data_received = lambda data: stock(data)
        s.there.send(b"one")
        yield one_turn(loop)
        turns(loop)
        s.fed = bytes(s.reader._buffer)
        assert s.fed == b"one" or s.transport.is_closing()


@step
def reader_is_taken_up(loop: Any) -> Iterator[Call]:
    s = Streams(loop, 1 << 16)
    s.reader.own = 1
    with s.here, s.there:
        s.feed(b"before")
        yield s.connect
        turns(loop)
        assert s.reader._buffer == b"before"
        assert s.reader.own == 1
        if hasattr(s, "transport"):
            s.transport.abort()
        turns(loop)


@step
def writer_drains(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        s.protocol.pause_writing()
        coro = s.writers[0].drain()
        yield drive(coro)
        coro.close()
        s.protocol.resume_writing()
        assert not s.protocol._drain_waiters


@step
def writer_future(loop: Any) -> Iterator[Call]:
    with streams(loop) as s:
        yield functools.partial(getattr, s.writers[0], "_complete_fut", None)
        assert s.writers[0]._complete_fut.done()
