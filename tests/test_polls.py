"""In which turn the loop finds what it has brought about itself.

The standard loop polls in every turn, and programs that run both ends of a connection
(tests, mostly) count turns with `sleep(0)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import looped

ROUNDS = 20  # a turn without a poll may come at any of them


class Log(asyncio.Protocol):
    def __init__(self, log: list[object]) -> None:
        self.log = log

    def data_received(self, data: bytes) -> None:
        self.log.append("event")

    def eof_received(self) -> bool:
        self.log.append("event")
        return False


async def turns_until_event(log: list[object]) -> int:
    del log[:]
    for turn in range(1, 10):
        await asyncio.sleep(0)
        if log:
            return turn
    return 0


@contextlib.asynccontextmanager
async def transports() -> AsyncIterator[tuple[Any, Any, list[object]]]:
    loop = asyncio.get_running_loop()
    log: list[object] = []
    here, there = socket.socketpair()
    ours, _ = await loop.create_connection(asyncio.Protocol, sock=here)
    theirs, _ = await loop.create_connection(lambda: Log(log), sock=there)
    await asyncio.sleep(0.001)  # the reading has begun
    try:
        yield ours, theirs, log
    finally:
        ours.abort()
        theirs.abort()
        await asyncio.sleep(0)


@looped
async def test_write() -> None:
    async with transports() as (transport, _, log):
        for _ in range(ROUNDS):
            transport.write(b"x")
            assert await turns_until_event(log) == 2


@looped
async def test_large_write() -> None:
    async with transports() as (transport, _, log):
        for _ in range(ROUNDS):
            transport.write(bytearray(100_000))
            assert await turns_until_event(log) == 2
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("end", ["write_eof", "close", "abort"])
@looped
async def test_end(end: str) -> None:
    for _ in range(ROUNDS):
        async with transports() as (transport, _, log):
            getattr(transport, end)()
            # the socket is closed by connection_lost, a turn later
            assert await turns_until_event(log) == (2 if end == "write_eof" else 3)


@looped
async def test_end_behind_data() -> None:
    for _ in range(ROUNDS):
        async with transports() as (transport, _, log):
            transport.write(b"x")
            transport.write_eof()
            assert await turns_until_event(log) == 2
            assert await turns_until_event(log) == 1


@looped
async def test_end_behind_data_of_somebody_else() -> None:
    """Nothing that the loop has done tells it to look again."""
    loop = asyncio.get_running_loop()
    for _ in range(ROUNDS):
        log: list[object] = []
        here, there = socket.socketpair()
        with there:
            there.send(b"x")
            there.shutdown(socket.SHUT_WR)
            transport, _ = await loop.create_connection(
                lambda log=log: Log(log), sock=here
            )
            while not log:
                await asyncio.sleep(0)
            assert await turns_until_event(log) == 1
            transport.abort()
            await asyncio.sleep(0)


@looped
async def test_resume_reading() -> None:
    async with transports() as (transport, theirs, log):
        for _ in range(ROUNDS):
            theirs.pause_reading()
            transport.write(b"x")
            assert await turns_until_event(log) == 0
            theirs.resume_reading()
            assert await turns_until_event(log) == 2


@looped
async def test_sockets() -> None:
    loop = asyncio.get_running_loop()
    log: list[object] = []
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)

        def read() -> None:
            log.append(there.recv(10))

        loop.add_reader(there, read)
        for _ in range(ROUNDS):
            await loop.sock_sendall(here, b"x")
            assert await turns_until_event(log) == 2
        loop.remove_reader(there)


@looped
async def test_reader_of_what_is_ready() -> None:
    loop = asyncio.get_running_loop()
    log: list[object] = []
    here, there = socket.socketpair()
    with here, there:
        there.send(b"x")
        for _ in range(ROUNDS):
            loop.add_reader(here, log.append, "event")
            assert await turns_until_event(log) == 2
            loop.remove_reader(here)
            await asyncio.sleep(0)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, log: list[object]) -> None:
        self.log = log

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.log.append("event")


@looped
async def test_datagrams() -> None:
    loop = asyncio.get_running_loop()
    log: list[object] = []
    local = ("127.0.0.1", 0)
    theirs, _ = await loop.create_datagram_endpoint(
        lambda: Datagrams(log), local_addr=local
    )
    address = theirs.get_extra_info("sockname")
    ours, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=local
    )
    await asyncio.sleep(0.001)
    for _ in range(ROUNDS):
        ours.sendto(b"x", address)
        assert await turns_until_event(log) == 2
    ours.close()
    theirs.close()
    await asyncio.sleep(0)


@looped
async def test_pipes() -> None:
    loop = asyncio.get_running_loop()
    log: list[object] = []
    read_end, write_end = os.pipe()
    theirs, _ = await loop.connect_read_pipe(
        lambda: Log(log), os.fdopen(read_end, "rb", 0)
    )
    ours, _ = await loop.connect_write_pipe(
        asyncio.BaseProtocol, os.fdopen(write_end, "wb", 0)
    )
    await asyncio.sleep(0.001)
    for _ in range(ROUNDS):
        ours.write(b"x")
        assert await turns_until_event(log) == 2
    ours.abort()
    theirs.close()
    await asyncio.sleep(0)


async def wake_ups() -> None:
    """Each way in which a wait ends; a lost one is a time-out."""
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, lambda: None)
    await asyncio.sleep(0.001)
    came = asyncio.Event()
    here, there = socket.socketpair()
    with here, there:
        loop.add_reader(here, came.set)
        writer = threading.Timer(0.002, there.send, (b".",))
        writer.start()
        await came.wait()
        loop.remove_reader(here)
        writer.join()
    came.clear()
    loop.add_signal_handler(signal.SIGUSR1, came.set)
    killer = threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGUSR1))
    killer.start()
    await came.wait()
    loop.remove_signal_handler(signal.SIGUSR1)
    killer.join()


@looped
async def test_wake_ups_with_and_without_a_connection() -> None:
    async with asyncio.timeout(30):
        accepted: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(
            lambda _, writer: accepted.append(writer), "127.0.0.1", 0
        )
        for _ in range(3):
            await wake_ups()
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await wake_ups()
            for end in (writer, accepted.pop()):
                end.close()
                await end.wait_closed()
        server.close()
