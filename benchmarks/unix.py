"""Unix sockets with Protocol: echo."""

from __future__ import annotations

import asyncio

from benchmarks.harness import BACKLOG, Load, Serve, keep
from benchmarks.tcp import Echo


async def echo(path: str) -> str:
    loop = asyncio.get_running_loop()
    keep(await loop.create_unix_server(Echo, path, backlog=BACKLOG))
    return path


WORKLOADS = [
    Serve("unix-1k", "Protocol echo 1 KiB, unix, 100", "network", echo, Load(100)),
]
