"""The loop's sock_* methods: echo."""

from __future__ import annotations

import asyncio
import socket

from benchmarks.harness import Load, Serve, keep, listen


async def answer(loop: asyncio.AbstractEventLoop, peer: socket.socket) -> None:
    with peer:
        while data := await loop.sock_recv(peer, 64 * 1024):
            await loop.sock_sendall(peer, data)


async def accept(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
    while True:
        peer, _ = await loop.sock_accept(listener)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep(loop.create_task(answer(loop, peer)))


async def echo(_: str) -> int:
    loop = asyncio.get_running_loop()
    listener = listen()
    keep(loop.create_task(accept(loop, listener)))
    port: int = listener.getsockname()[1]
    return port


WORKLOADS = [
    Serve("sock-1k", "sock_recv + sock_sendall 1 KiB, 100", "sock_*", echo, Load(100)),
    Serve(
        "sock-64k",
        "sock_recv + sock_sendall 64 KiB, 10",
        "sock_*",
        echo,
        Load(10, 64 * 1024),
    ),
]
