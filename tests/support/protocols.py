"""Protocols that write down every call and let a test wait for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

Hook = Callable[..., Any]


class Log:
    """The calls of one protocol.

    A keyword argument is a hook: it runs inside the callback of that name, gets the
    protocol and the callback's arguments, and its result is the callback's.
    """

    def __init__(self, **hooks: Hook) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.received = bytearray()
        self.transport: Any = None
        self.hooks = hooks
        self._waiters: list[asyncio.Future[None]] = []

    def note(self, name: str, *args: Any) -> Any:
        self.calls.append((name, *args))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        hook = self.hooks.get(name)
        return None if hook is None else hook(self, *args)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made", transport)

    def eof_received(self) -> Any:
        return self.note("eof_received")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("connection_lost", exc)

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def names(self) -> list[str]:
        """The names of the calls in order; a run of one name counts once."""
        names: list[str] = []
        for name, *_ in self.calls:
            if names[-1:] != [name]:
                names.append(name)
        return names

    def count(self, name: str) -> int:
        return sum(call[0] == name for call in self.calls)

    async def until(self, ready: Callable[[], Any]) -> None:
        """Returns when `ready()` is true; asked again after every call."""
        while not ready():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    async def made(self) -> Any:
        await self.until(lambda: self.count("connection_made"))
        return self.transport

    async def lost(self) -> Any:
        """The argument of connection_lost; there must have been one call only."""
        await self.until(lambda: self.count("connection_lost"))
        [(_, exc)] = [call for call in self.calls if call[0] == "connection_lost"]
        return exc

    async def got(self, size: int) -> bytes:
        """All bytes received, at least `size` of them."""
        await self.until(lambda: len(self.received) >= size)
        return bytes(self.received)

    async def eof(self) -> None:
        await self.until(lambda: self.count("eof_received"))


class Recorder(Log, asyncio.Protocol):
    """A Protocol that keeps what it received."""

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.note("data_received", data)


class BufferedRecorder(Log, asyncio.BufferedProtocol):
    """A BufferedProtocol that keeps what it received; reads in pieces of `size`."""

    def __init__(self, size: int = 65536, **hooks: Hook) -> None:
        super().__init__(**hooks)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> Any:
        if "get_buffer" in self.hooks:
            return self.note("get_buffer", sizehint)
        return memoryview(self.buffer)  # the standard TLS layer slices it

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]
        self.note("buffer_updated", nbytes)


class DatagramRecorder(Log, asyncio.DatagramProtocol):
    """A DatagramProtocol that keeps what it received."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.note("datagram_received", data, addr)

    def error_received(self, exc: Exception) -> None:
        self.note("error_received", exc)

    def data(self) -> list[bytes]:
        """The datagrams so far."""
        return [call[1] for call in self.calls if call[0] == "datagram_received"]

    async def datagrams(self, count: int) -> list[bytes]:
        """All datagrams, at least `count` of them."""
        await self.until(lambda: self.count("datagram_received") >= count)
        return self.data()
