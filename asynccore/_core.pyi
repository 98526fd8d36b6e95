"""What the C module gives; private names are those that `asynccore` itself uses."""

import asyncio
import socket
from asyncio.base_events import Server
from asyncio.transports import _FlowControlMixin
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, TypeVarTuple, final

from _typeshed import FileDescriptorLike
from typing_extensions import disjoint_base

_Ts = TypeVarTuple("_Ts")

libuv_version_compiled: str
libuv_version_running: str

@final
class Handle(asyncio.Handle):
    def cancel(self) -> None: ...
    def cancelled(self) -> bool: ...

@final
class TimerHandle(asyncio.TimerHandle):
    def cancel(self) -> None: ...

@disjoint_base
class Loop:
    slow_callback_duration: float
    @property
    def cork(self) -> bool: ...
    @cork.setter
    def cork(self, value: bool, /) -> None: ...
    def add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[*_Ts], Any],
        *args: *_Ts,
    ) -> None: ...
    def add_writer(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[*_Ts], Any],
        *args: *_Ts,
    ) -> None: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle: ...
    def get_debug(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def is_running(self) -> bool: ...
    def remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def remove_writer(self, fd: FileDescriptorLike) -> bool: ...
    def run_forever(self) -> None: ...
    def stop(self) -> None: ...
    def time(self) -> float: ...
    _debug: bool
    _internal_fds: int  # the standard loop's
    def _add_callback(self, handle: asyncio.Handle, /) -> None: ...
    def _remove_reader(self, fd: FileDescriptorLike, /) -> bool: ...
    def _shut(self) -> None: ...
    def _signal_fd(self) -> int: ...
    def _signals_changed(self) -> None: ...
    def _watched(
        self, fd: int, /
    ) -> tuple[asyncio.Handle | None, asyncio.Handle | None] | None: ...
    def _write_to_self(self) -> None: ...

@disjoint_base
class StreamTransport(_FlowControlMixin):
    _empty_waiter: asyncio.Future[None] | None
    max_size: int
    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        server: Server | None = None,
        context: Context | None = None,
        *,
        own: bool = False,
    ) -> None: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def writelines(
        self, list_of_data: Iterable[bytes | bytearray | memoryview]
    ) -> None: ...

@disjoint_base
class ReadPipeTransport(asyncio.ReadTransport):
    max_size: int
    def __init__(
        self,
        loop: Loop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

@disjoint_base
class WritePipeTransport(_FlowControlMixin):
    def __init__(
        self,
        loop: Loop,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
    def write(self, data: bytes | bytearray | memoryview) -> None: ...

@final
class Accepted:
    def __call__(self, *args: object, **kwargs: object) -> None: ...

def accept_ready(
    loop: Loop,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    sock: socket.socket,
    server: Server | None,
    backlog: int,
    context: Context | None = None,
    /,
) -> int | None: ...
def transport_of(loop: Loop, fd: int, /) -> StreamTransport | None: ...
