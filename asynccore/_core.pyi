"""What the C module gives; private names are those that `asynccore` itself uses."""

import asyncio
import socket
import sys
from asyncio.base_events import Server
from asyncio.transports import _FlowControlMixin
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextvars import Context
from types import CodeType, FrameType
from typing import Any, Self, TypeVar, TypeVarTuple, final

from _typeshed import FileDescriptorLike, ReadableBuffer, WriteableBuffer
from typing_extensions import disjoint_base

_T = TypeVar("_T")
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

if sys.version_info >= (3, 14):
    @final
    class _ThreadSafeHandle(asyncio.Handle):  # of asyncio.events' class of this name
        def cancel(self) -> None: ...
        def cancelled(self) -> bool: ...

@disjoint_base
class Loop:
    slow_callback_duration: float
    @property
    def cork(self) -> bool: ...
    @cork.setter
    def cork(self, value: bool, /) -> None: ...
    @property
    def c_streams(self) -> bool: ...
    @c_streams.setter
    def c_streams(self, value: bool, /) -> None: ...
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
    def create_future(self) -> asyncio.Future[Any]: ...
    if sys.version_info >= (3, 13):
        def create_task(
            self,
            coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
            *,
            name: object = None,
            context: Context | None = None,
            **kwargs: Any,
        ) -> asyncio.Task[_T]: ...
    else:
        def create_task(
            self,
            coro: Coroutine[Any, Any, _T] | Generator[Any, None, _T],
            *,
            name: object = None,
            context: Context | None = None,
        ) -> asyncio.Task[_T]: ...
    def get_debug(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def is_running(self) -> bool: ...
    def remove_reader(self, fd: FileDescriptorLike) -> bool: ...
    def remove_writer(self, fd: FileDescriptorLike) -> bool: ...
    def run_forever(self) -> None: ...
    def sock_accept(
        self, sock: socket.socket
    ) -> Coroutine[Any, Any, tuple[socket.socket, Any]]: ...
    def sock_recv(self, sock: socket.socket, n: int) -> Coroutine[Any, Any, bytes]: ...
    def sock_recv_into(
        self, sock: socket.socket, buf: WriteableBuffer
    ) -> Coroutine[Any, Any, int]: ...
    def sock_recvfrom(
        self, sock: socket.socket, bufsize: int
    ) -> Coroutine[Any, Any, tuple[bytes, Any]]: ...
    def sock_recvfrom_into(
        self, sock: socket.socket, buf: WriteableBuffer, nbytes: int = 0
    ) -> Coroutine[Any, Any, tuple[int, Any]]: ...
    def sock_sendall(
        self, sock: socket.socket, data: ReadableBuffer
    ) -> Coroutine[Any, Any, None]: ...
    def sock_sendto(
        self, sock: socket.socket, data: ReadableBuffer, address: Any
    ) -> Coroutine[Any, Any, int]: ...
    def stop(self) -> None: ...
    def time(self) -> float: ...
    _debug: bool
    _internal_fds: int  # the standard loop's
    def _add_callback(self, handle: asyncio.Handle, /) -> None: ...
    def _add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.Handle: ...
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

@disjoint_base
class DatagramTransport(_FlowControlMixin):
    def __new__(
        cls,
        extra: dict[str, Any] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Self: ...
    def sendto(
        self,
        data: bytes | bytearray | memoryview,
        addr: tuple[Any, ...] | str | bytes | None = None,
    ) -> None: ...

@final
class CoroutineAwaiter(Generator[Any, Any, Any]):
    def close(self) -> None: ...
    def send(self, arg: Any, /) -> Any: ...
    def throw(self, *args: Any) -> Any: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

@final
class SockCoroutine(Coroutine[Any, Any, Any]):
    __name__: str
    __qualname__: str
    cr_await: Any
    cr_code: CodeType
    cr_frame: FrameType | None
    cr_origin: tuple[tuple[str, int, str], ...] | None
    cr_running: bool
    cr_state: str
    cr_suspended: bool
    def close(self) -> None: ...
    def send(self, arg: Any, /) -> Any: ...
    def throw(self, *args: Any) -> Any: ...
    def __await__(self) -> Any: ...
    def __next__(self) -> Any: ...

@final
class ReaderCoroutine(Coroutine[Any, Any, Any]):
    __name__: str
    __qualname__: str
    cr_await: Any
    cr_code: CodeType
    cr_frame: FrameType | None
    cr_origin: tuple[tuple[str, int, str], ...] | None
    cr_running: bool
    cr_state: str
    cr_suspended: bool
    def close(self) -> None: ...
    def send(self, arg: Any, /) -> Any: ...
    def throw(self, *args: Any) -> Any: ...
    def __await__(self) -> Any: ...
    def __next__(self) -> Any: ...

@final
class WriterCoroutine(Coroutine[Any, Any, Any]):
    __name__: str
    __qualname__: str
    cr_await: Any
    cr_code: CodeType
    cr_frame: FrameType | None
    cr_origin: tuple[tuple[str, int, str], ...] | None
    cr_running: bool
    cr_state: str
    cr_suspended: bool
    def close(self) -> None: ...
    def send(self, arg: Any, /) -> Any: ...
    def throw(self, *args: Any) -> Any: ...
    def __await__(self) -> Any: ...
    def __next__(self) -> Any: ...

@final
class ReaderState: ...

@final
class Connected:
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def is_closing(self) -> bool: ...

class StreamReader(asyncio.StreamReader): ...

@disjoint_base
class StreamWriter(asyncio.StreamWriter): ...

def streams_are_stock() -> bool: ...

@disjoint_base
class TLSProtocol:
    max_size: int
    def get_buffer(self, n: int, /) -> memoryview: ...
    def buffer_updated(self, nbytes: int, /) -> None: ...
    def _do_read(self) -> None: ...
    def _do_write(self) -> None: ...
    def _drop(self) -> None: ...
    def _get_read_buffer_size(self) -> int: ...
    def _get_write_buffer_size(self) -> int: ...
    def _is_direct(self) -> bool: ...
    def _pour(self) -> bool: ...
    def _process_outgoing(self) -> None: ...
    def _write_appdata(
        self, list_of_data: Iterable[bytes | bytearray | memoryview], /
    ) -> None: ...

@disjoint_base
class TLSTransport(_FlowControlMixin):
    def __new__(
        cls,
        extra: dict[str, Any] | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Self: ...
    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def writelines(
        self, list_of_data: Iterable[bytes | bytearray | memoryview]
    ) -> None: ...

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
def tls_versions() -> int: ...
def tls_use(direct: bool, /) -> str | None: ...
def transport_of(loop: Loop, fd: int, /) -> StreamTransport | None: ...
