"""Both ends of a pipe: one a transport of the loop under test, the other plain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import socket
import tempfile
import tty
from collections.abc import Iterator
from typing import IO, Any

from support.protocols import Log

KINDS = ("pipe", "fifo", "socket", "pty")


class Ends:
    """A transport's file object and the descriptor of the other end."""

    def __init__(self, file: Any, other: int) -> None:
        self.file = file
        self.other = other

    def close_other(self) -> None:
        if self.other >= 0:
            os.close(self.other)
            self.other = -1

    def read_now(self) -> bytes:
        """What has arrived at the other end, without waiting."""
        os.set_blocking(self.other, False)
        data = bytearray()
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.other, 1 << 18):
                data += piece
        return bytes(data)

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or what there is before the end."""
        os.set_blocking(self.other, False)
        data = bytearray()
        while len(data) < size:
            await readable(self.other)
            try:
                piece = os.read(self.other, size - len(data))
            except BlockingIOError:
                continue
            if not piece:
                break
            data += piece
        return bytes(data)


async def readable(fd: int) -> None:
    """Returns when a descriptor is readable."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, lambda: ready.done() or ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _fifo(reading: bool) -> tuple[int, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        write = os.open(path, os.O_WRONLY)
    return (read, write) if reading else (write, read)


def _open(kind: str, reading: bool) -> tuple[int, int]:
    if kind == "pipe":
        read, write = os.pipe()
        return (read, write) if reading else (write, read)
    if kind == "fifo":
        return _fifo(reading)
    if kind == "socket":
        one, two = socket.socketpair()
        return one.detach(), two.detach()
    master, slave = pty.openpty()
    tty.setraw(slave)
    return (slave, master) if reading else (master, slave)


@contextlib.contextmanager
def ends(kind: str, mode: str) -> Iterator[Ends]:
    """The ends of a `kind`; `mode` ("rb" or "wb") is what the transport does."""
    own, other = _open(kind, mode == "rb")
    file: IO[bytes] = os.fdopen(own, mode, 0)
    held = Ends(file, other)
    try:
        yield held
    finally:
        file.close()
        held.close_other()


async def connect_read(held: Ends, protocol: Log) -> Any:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, held.file)
    return transport


async def connect_write(held: Ends, protocol: Log) -> Any:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_write_pipe(lambda: protocol, held.file)
    return transport


@contextlib.contextmanager
def may_be_closed_first() -> Iterator[None]:
    """Around a connect whose connection_made() closes: debug mode's log wants the
    number of the file."""
    if asyncio.get_running_loop().get_debug():
        with contextlib.suppress(ValueError):
            yield
    else:
        yield


def fill(transport: Any, protocol: Log, times: int = 1) -> int:
    """Writes until the kernel refuses and pause_writing() was called, in all `times`
    times; how much."""
    written = 0
    while protocol.count("pause_writing") < times:
        transport.write(b"x" * 65536)
        written += 65536
    return written
