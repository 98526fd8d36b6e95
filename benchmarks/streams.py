"""start_server and its StreamReader and StreamWriter: echo."""

from __future__ import annotations

import asyncio

from benchmarks.harness import BACKLOG, IdleMemory, Load, Serve, keep, port_of

FRAME = 1 << 20


async def echo_bytes(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
    writer.close()


async def echo_lines(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def echo_frames(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while True:
        try:
            data = await reader.readexactly(FRAME)
        except asyncio.IncompleteReadError:
            break
        writer.write(data)
        await writer.drain()
    writer.close()


async def echo(_: str) -> int:
    server = await asyncio.start_server(echo_bytes, "127.0.0.1", 0, backlog=BACKLOG)
    keep(server)
    return port_of(server)


async def lines(_: str) -> int:
    server = await asyncio.start_server(echo_lines, "127.0.0.1", 0, backlog=BACKLOG)
    keep(server)
    return port_of(server)


async def frames(_: str) -> int:
    server = await asyncio.start_server(echo_frames, "127.0.0.1", 0, backlog=BACKLOG)
    keep(server)
    return port_of(server)


async def unix(path: str) -> str:
    keep(await asyncio.start_unix_server(echo_bytes, path, backlog=BACKLOG))
    return path


WORKLOADS = [
    *(
        Serve(
            f"streams-1k-{n}", f"streams echo 1 KiB, TCP, {n}", "streams", echo, Load(n)
        )
        for n in (10, 100, 1000)
    ),
    Serve(
        "streams-lines",
        "streams readline 64 bytes, TCP, 100",
        "streams",
        lines,
        Load(100, 64),
    ),
    Serve(
        "streams-frames",
        "streams readexactly 1 MiB, TCP, 4",
        "streams",
        frames,
        Load(4, FRAME),
    ),
    Serve(
        "streams-connect",
        "connect + streams echo 1 KiB + close, TCP, 10",
        "streams",
        echo,
        Load(10, options=("reconnect",)),
    ),
    Serve("streams-unix", "streams echo 1 KiB, unix, 100", "streams", unix, Load(100)),
    IdleMemory(
        "memory-streams",
        "idle connection, streams",
        "memory and start",
        echo,
        Load(4000, 1),
    ),
]
