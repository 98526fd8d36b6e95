"""Readers, look-ups, import."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

from benchmarks.harness import Timed, clock
from benchmarks.loops import LoopSpec
from benchmarks.ready import nothing


async def reader_churn(n: int) -> int:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        start = clock()
        for _ in range(n):
            loop.add_reader(left, nothing)
            loop.remove_reader(left)
        return clock() - start


async def reader_turns(n: int) -> int:
    """A turn of the loop between each, so that the kernel hears of it."""
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        start = clock()
        for _ in range(n):
            loop.add_reader(left, nothing)
            await asyncio.sleep(0)
            loop.remove_reader(left)
            await asyncio.sleep(0)
        return clock() - start


async def numeric_host(n: int) -> int:
    loop = asyncio.get_running_loop()
    start = clock()
    for _ in range(n):
        await loop.getaddrinfo("127.0.0.1", 80)
    return clock() - start


async def numeric_host_typed(n: int) -> int:
    """uvloop answers this one without a thread."""
    loop = asyncio.get_running_loop()
    start = clock()
    for _ in range(n):
        await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    return clock() - start


IMPORT = """\
from time import perf_counter_ns as clock
start = clock()
import {module}
print(clock() - start)
"""


def import_time(spec: LoopSpec, n: int) -> int:
    """In new processes; the import of asyncio that every loop needs is counted."""
    return sum(
        int(subprocess.check_output([sys.executable, "-c", IMPORT.format(module=m)]))
        for m in [spec.module] * n
    )


GROUP = "no network: the rest"
WORKLOADS = [
    Timed("reader-churn", "add_reader + remove_reader", GROUP, reader_churn, 10_000),
    Timed("reader-turns", "the same, a turn between", GROUP, reader_turns, 10_000),
    Timed("getaddrinfo", "getaddrinfo, numeric host", GROUP, numeric_host, 1_000),
    Timed("getaddrinfo-typed", "the same, type=", GROUP, numeric_host_typed, 1_000),
    Timed(
        "import",
        "import",
        "memory and start",
        import_time,
        1,
        whole=True,
        repeat=(7, 3),
    ),
]
