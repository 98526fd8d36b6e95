"""Children, their pipes, signals, files sent by the kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
import threading
from asyncio.subprocess import PIPE
from typing import Any

from benchmarks.harness import Timed, clock, cpu

PIECE = 65536
FILE = 64 << 20


async def spawn(n: int) -> int:
    start = clock()
    for _ in range(n):
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
    return clock() - start


async def _cat() -> tuple[Any, Any, Any]:
    process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    return process, process.stdin, process.stdout


async def cat(n: int) -> int:
    """Pieces in as fast as they go, whatever comes out read beside it."""
    process, stdin, stdout = await _cat()
    piece = bytes(PIECE)

    async def feed() -> None:
        for _ in range(n):
            stdin.write(piece)
            await stdin.drain()
        stdin.close()

    async def read() -> None:
        left = n * PIECE
        while left:
            left -= len(await stdout.read(PIECE))

    start = cpu()
    await asyncio.gather(feed(), read())
    elapsed = cpu() - start
    await process.wait()
    return elapsed


async def cat_in_turns(n: int) -> int:
    """A piece in, the same piece out."""
    process, stdin, stdout = await _cat()
    piece = bytes(PIECE)
    start = cpu()
    for _ in range(n):
        stdin.write(piece)
        await stdin.drain()
        await stdout.readexactly(PIECE)
    elapsed = cpu() - start
    stdin.close()
    await process.wait()
    return elapsed


async def cat_lines(n: int) -> int:
    """A conversation: a short line in, the same line out."""
    process, stdin, stdout = await _cat()
    start = cpu()
    for _ in range(n):
        stdin.write(b"a line of some words\n")
        await stdout.readline()
    elapsed = cpu() - start
    stdin.close()
    await process.wait()
    return elapsed


async def sendfile(n: int) -> int:
    """A file of 64 MiB to a peer that drops it, so many times."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    here = socket.create_connection(listener.getsockname())
    there, _ = listener.accept()

    def drop() -> None:
        buffer = bytearray(1 << 20)
        while there.recv_into(buffer):
            pass

    peer = threading.Thread(target=drop)
    peer.start()
    with tempfile.TemporaryFile() as file, listener, there:
        file.write(bytes(FILE))
        file.flush()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
        start = clock()
        for _ in range(n):
            await loop.sendfile(transport, file)
        elapsed = clock() - start
        transport.close()
        await loop.run_in_executor(None, peer.join)
    return elapsed


async def signals(n: int) -> int:
    """From os.kill() to the callback of add_signal_handler()."""
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, came.set)
    pid = os.getpid()
    start = clock()
    for _ in range(n):
        os.kill(pid, signal.SIGUSR1)
        await came.wait()
        came.clear()
    elapsed = clock() - start
    loop.remove_signal_handler(signal.SIGUSR1)
    return elapsed


GROUP = "processes"
WORKLOADS = [
    Timed("spawn", "start and wait for `true`", GROUP, spawn, 200, repeat=(5, 3)),
    Timed("cat-64k", "through `cat`, 64 KiB pieces", GROUP, cat, 3_000),
    Timed("cat-64k-turns", "the same, one at a time", GROUP, cat_in_turns, 3_000),
    Timed(
        "cat-64k-fresh",
        "64 KiB pieces, in a fresh process",
        GROUP,
        cat,
        3_000,
        fresh=True,
    ),
    Timed("cat-lines", "short lines through `cat`", GROUP, cat_lines, 3_000),
    Timed("sendfile", "loop.sendfile, 64 MiB", GROUP, sendfile, 16, repeat=(5, 3)),
    Timed("signal", "delivery of a signal", GROUP, signals, 10_000),
]
