"""TCP with Protocol and BufferedProtocol: echo, connections, bulk, small writes."""

from __future__ import annotations

import asyncio

from benchmarks.harness import BACKLOG, IdleMemory, Load, Serve, keep, port_of

CHUNK = bytes(64 * 1024)
BULK = 1 << 30
SMALL = bytes(64)


class Echo(asyncio.Protocol):
    """Writes back what it reads."""

    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """Writes back what it reads, into a buffer of its own."""

    __slots__ = ("buffer", "transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.buffer = memoryview(bytearray(64 * 1024))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


class Bulk(asyncio.Protocol):
    """Answers each byte with BULK bytes, as fast as flow control lets it."""

    __slots__ = ("left", "paused", "transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.left = 0
        self.paused = False

    def data_received(self, data: bytes) -> None:
        self.left += BULK * len(data)
        self.send()

    def send(self) -> None:
        while self.left and not self.paused:
            self.left -= len(CHUNK)
            self.transport.write(CHUNK)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()


class ManyWrites(Echo):
    """Answers each request with 16 writes in one callback."""

    def data_received(self, data: bytes) -> None:
        write = self.transport.write
        for _ in range(16):
            write(SMALL)


class Pipelined(Echo):
    """Answers each request of 64 bytes that a read brings with a write of its own.

    The requests are counted, not parsed: the application's work is not the subject.
    """

    def data_received(self, data: bytes) -> None:
        write = self.transport.write
        for _ in range(len(data) // 64):
            write(SMALL)


async def serve(protocol: type[asyncio.BaseProtocol]) -> int:
    """Serve a protocol on any free port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=BACKLOG)
    keep(server)
    return port_of(server)


async def echo(_: str) -> int:
    return await serve(Echo)


async def buffered(_: str) -> int:
    return await serve(BufferedEcho)


async def bulk(_: str) -> int:
    return await serve(Bulk)


async def many_writes(_: str) -> int:
    return await serve(ManyWrites)


async def pipelined(_: str) -> int:
    return await serve(Pipelined)


WORKLOADS = [
    *(
        Serve(f"tcp-1k-{n}", f"Protocol echo 1 KiB, TCP, {n}", "network", echo, Load(n))
        for n in (10, 100, 1000)
    ),
    Serve(
        "tcp-buffered",
        "BufferedProtocol echo 1 KiB, TCP, 100",
        "network",
        buffered,
        Load(100),
    ),
    Serve(
        "tcp-64k", "Protocol echo 64 KiB, TCP, 10", "network", echo, Load(10, 64 * 1024)
    ),
    Serve(
        "tcp-connect",
        "connect + echo 1 KiB + close, TCP, 10",
        "network",
        echo,
        Load(10, options=("reconnect",)),
    ),
    Serve(
        "tcp-bulk",
        "1 GiB through write with flow control",
        "network",
        bulk,
        Load(1, 1, BULK, options=("warm-up=0.01",), requests=(2, 1)),
    ),
    Serve(
        "writes-16",
        "16 writes of 64 bytes in one callback, 10",
        "small writes",
        many_writes,
        Load(10, 64, 1024),
    ),
    Serve(
        "pipelined-16",
        "16 pipelined requests, a write each, 10",
        "small writes",
        pipelined,
        Load(10, 64, depth=16),
    ),
    IdleMemory(
        "memory-connection",
        "idle connection, Protocol",
        "memory and start",
        echo,
        Load(4000, 1),
    ),
]
