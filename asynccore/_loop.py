"""`Loop`: the standard selector loop, with its engine exchanged for `_core`.

What runs once per connection, server, process or loop is the interpreter's own code,
inherited from `asyncio.SelectorEventLoop`: so each Python, down to the patch release,
keeps its checks, messages and keywords. What runs per callback, event or byte comes
from `_core.Loop`, which stands first in the method resolution order. The methods below
are the seams between the two.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from asyncio import constants
from asyncio.trsock import TransportSocket
from functools import lru_cache, partial, wraps
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from weakref import ref

from . import _core, _datagram, _mode, _tls

TYPE_CHECKING = False  # typing would be half of what our import costs (3.14)
if TYPE_CHECKING:
    from asyncio.base_events import Server
    from collections.abc import Callable
    from contextvars import Context
    from ssl import SSLContext
    from typing import Any, TypeVarTuple

    _Ts = TypeVarTuple("_Ts")


# Keyword arguments that change nothing where they are given.
_CONNECTION_DEFAULTS, _UNIX_CONNECTION_DEFAULTS = (
    (method.__kwdefaults__ or {}).items()
    for method in (
        asyncio.SelectorEventLoop.create_connection,
        asyncio.SelectorEventLoop.create_unix_connection,
    )
)


class _LibuvSelector:
    """What stands in the place of the standard loop's selector: it only tells.

    The standard's constructor logs the name of this class as the loop's selector; the
    standard's pipe and datagram transports ask it what is watched for their repr.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = ref(loop)

    def get_key(self, fileobj: int) -> SelectorKey:
        """As `selectors.BaseSelector.get_key`; KeyError for what is not watched."""
        loop = self._loop()
        watched = None if loop is None else loop._watched(fileobj)
        if watched is None:
            raise KeyError(f"{fileobj!r} is not registered")
        events = (EVENT_READ if watched[0] else 0) | (EVENT_WRITE if watched[1] else 0)
        return SelectorKey(fileobj, fileobj, events, watched)

    def close(self) -> None:
        """Do nothing: `Loop.close` gives the engine's resources back."""


class _WakeupFd:
    """What `add_signal_handler` passes to `signal.set_wakeup_fd`."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def fileno(self) -> int:
        return self._loop._signal_fd()


class Loop(_core.Loop, asyncio.SelectorEventLoop):
    """An asyncio event loop on libuv; use it wherever asyncio takes a loop.

    Counterpart of `asyncio.SelectorEventLoop`. Made by `asynccore.new_event_loop()`;
    may be subclassed.
    """

    # What the standard constructors set. With these in slots a loop has no dict until
    # somebody sets another attribute, and only then does the interpreter specialize
    # `loop.call_soon(...)`: 290 of 2,670 instructions a turn (3.13, benchmarks/count).
    # A name that is missing here costs that, nothing else.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_current_handle",
        "_default_executor",
        "_exception_handler",
        "_executor_shutdown_called",
        "_internal_fds",
        "_old_agen_hooks",
        "_own_sockets",
        "_selector",
        "_signal_handlers",
        "_ssock",
        "_task_factory",
        "_timer_cancelled_count",
        "_unix_server_sockets",
        "_watcher",
    )

    def __init__(self) -> None:
        streams, cork = _mode.streams(), _mode.cork()
        _core.Loop.__init__(self)
        self.c_streams = streams == "c"
        self.cork, self.cork_turn = cork != "off", cork == "turn"
        try:
            self._own_sockets: set[ref[socket.socket]] = set()
            super(_core.Loop, self).__init__(_LibuvSelector(self))  # type: ignore[arg-type]
        except BaseException:
            self._shut()
            raise

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # A loop that `set_event_loop` keeps dies when the interpreter has emptied the
        # modules: the standard's `close` would fail, and be reported. (The standard
        # loop, which is part of a cycle, is never finalized then.)
        inherited: Any = super().__del__
        if _is_finalizing() and inherited.__func__.__globals__["logger"] is None:
            self._shut()
        else:
            inherited()

    def close(self) -> None:
        """Close the loop; open transports are left to their owners."""
        try:
            super().close()
        finally:
            if self.is_closed():  # by now, whatever has failed behind that
                self._shut()

    # -- wake-up: libuv's async handle and, for signals, a pipe in `_core`

    def _make_self_pipe(self) -> None:
        self._ssock = None
        self._internal_fds += 1

    def _close_self_pipe(self) -> None:
        self._internal_fds -= 1

    @property
    def _csock(self) -> _WakeupFd | None:
        return None if self.is_closed() else _WakeupFd(self)

    def add_signal_handler(
        self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts
    ) -> None:
        """Call callback(*args) in the loop when the signal arrives."""
        try:
            super().add_signal_handler(sig, callback, *args)
        finally:
            self._signals_changed()

    def remove_signal_handler(self, sig: int) -> bool:
        """Return True if there was a handler to remove."""
        try:
            return super().remove_signal_handler(sig)
        finally:
            self._signals_changed()

    # -- names

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, ...]]:
        """As the standard's, but a numeric host costs no thread."""
        if (
            not self._debug
            and not self.is_closed()
            and socket.getaddrinfo is _getaddrinfo
            and isinstance(host, str)
            and (port is None or isinstance(port, int))
            and isinstance(flags, int)
            and not flags & _FLAGS_OF_NETWORK
        ):
            found = _numeric_addresses(host, port, family, type, proto, flags)
            if found is not None:
                return list(found)
        return await super().getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )

    # -- stream transports

    if not TYPE_CHECKING:  # their types are those of the standard loop's

        @wraps(asyncio.SelectorEventLoop.create_connection)
        async def create_connection(
            self, protocol_factory, host=None, port=None, **options
        ):
            connecting = None
            if options.items() <= _CONNECTION_DEFAULTS:
                connecting = _core.connect(self, protocol_factory, host, port)
            if connecting is None:
                connecting = super().create_connection(
                    protocol_factory, host, port, **options
                )
            return await connecting

        @wraps(asyncio.SelectorEventLoop.create_unix_connection)
        async def create_unix_connection(self, protocol_factory, path=None, **options):
            connecting = None
            if options.items() <= _UNIX_CONNECTION_DEFAULTS:
                connecting = _core.connect_unix(self, protocol_factory, path)
            if connecting is None:
                connecting = super().create_unix_connection(
                    protocol_factory, path, **options
                )
            return await connecting

    async def _connect_sock(self, *args: Any, **kwargs: Any) -> socket.socket:
        connecting = super()._connect_sock(*args, **kwargs)  # type: ignore[misc]
        # in them is the list of exceptions, and in each of those is our frame
        del args, kwargs
        sock: socket.socket = await connecting
        # nobody else has seen its number, so libuv may watch it directly
        self._own_sockets.add(ref(sock, self._own_sockets.discard))
        return sock

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Server | None = None,
        context: Context | None = None,
    ) -> asyncio.Transport:
        if not _is_plain(sock, _STREAM_METHODS):
            # its own send and recv are to be called, as the standard's transport does
            rest: dict[str, Any] = {} if context is None else {"context": context}
            standard: asyncio.Transport = super()._make_socket_transport(  # type: ignore[misc]
                sock, protocol, waiter, extra=extra, server=server, **rest
            )
            return standard
        self._ensure_number_free(sock)
        own = type(sock) is _socket and ref(sock) in self._own_sockets
        return _core.StreamTransport(
            self, sock, protocol, waiter, extra, server, context, own=own
        )

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: SSLContext,
        waiter: asyncio.Future[None] | None = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: dict[str, Any] | None = None,
        server: Server | None = None,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: Context | None = None,
    ) -> asyncio.Transport:
        ssl_protocol = _tls.protocol_class()(
            self,
            protocol,
            sslcontext,
            waiter,  # type: ignore[arg-type]
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,  # type: ignore[arg-type]
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._make_socket_transport(
            rawsock, ssl_protocol, extra=extra, server=server, context=context
        )
        return ssl_protocol._app_transport

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.DatagramTransport:
        if (
            not _is_plain(sock, _datagram.SOCKET_METHODS)
            or sock.family not in _datagram.FAMILIES
        ):
            standard: asyncio.DatagramTransport = super()._make_datagram_transport(  # type: ignore[misc]
                sock, protocol, address, waiter, extra
            )
            return standard
        if _datagram.CHECKS_NUMBER:
            self._ensure_number_free(sock)
        return _datagram.DatagramTransport(self, sock, protocol, address, waiter, extra)

    async def start_tls(
        self,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        sslcontext: SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport | None:
        """Upgrade a transport to TLS; the protocol gets the one that is returned."""
        upgraded: asyncio.Transport | None = await _tls.start_tls(
            self,
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        return upgraded

    def _accept_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        sslcontext: SSLContext | None = None,
        server: Server | None = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = constants.SSL_HANDSHAKE_TIMEOUT,
        ssl_shutdown_timeout: float | None = constants.SSL_SHUTDOWN_TIMEOUT,
        context: Context | None = None,
    ) -> None:
        rest: tuple[Any, ...] = () if context is None else (context,)
        error: int | None = None
        if not self._debug and (not sslcontext or _tls.is_ours()):
            factory: Any = protocol_factory
            if sslcontext:
                factory = partial(
                    _tls.accepted,
                    self,
                    protocol_factory,
                    sslcontext,
                    ssl_handshake_timeout,
                    ssl_shutdown_timeout,
                )
            error = _core.accept_ready(self, factory, sock, server, backlog, context)
        if error in _OUT_OF_RESOURCES:
            # once, where the standard's loop asks again for each place of the backlog
            self.call_exception_handler(
                {
                    "message": "socket.accept() out of system resource",
                    "exception": OSError(error, os.strerror(error)),
                    "socket": TransportSocket(sock),
                }
            )
            self._remove_reader(sock.fileno())
            self.call_later(
                constants.ACCEPT_RETRY_DELAY,
                self._start_serving_again,
                protocol_factory,
                sock,
                sslcontext,
                server,
                backlog,
                ssl_handshake_timeout,
                ssl_shutdown_timeout,
                *rest,
            )
        elif error != 0:
            # debug mode, the standard's TLS, or an error, which the standard's code
            # meets again; before 3.15 it accepts as many as the backlog's number, and
            # spins without any
            super()._accept_connection(  # type: ignore[misc]
                protocol_factory,
                sock,
                sslcontext,
                server,
                max(backlog, 1),
                ssl_handshake_timeout,
                ssl_shutdown_timeout,
                *rest,
            )

    def _start_serving_again(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        sock: socket.socket,
        *args: Any,
    ) -> None:
        if sock.fileno() >= 0:  # the server was not closed meanwhile
            self._start_serving(protocol_factory, sock, *args)  # type: ignore[attr-defined]

    # -- pipes

    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.ReadTransport:
        _core.adopt_reader(self, protocol)
        return _core.ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.WriteTransport:
        return _core.WritePipeTransport(self, pipe, protocol, waiter, extra)

    async def _make_subprocess_transport(
        self, protocol: asyncio.SubprocessProtocol, *args: Any, **kwargs: Any
    ) -> asyncio.SubprocessTransport:
        from . import _process  # what no child is started with costs no import

        make = super()._make_subprocess_transport  # type: ignore[misc]
        if _process.may_watch(self):
            make = partial(_process.make_transport, self)
        transport: asyncio.SubprocessTransport = await make(protocol, *args, **kwargs)
        if type(protocol) is asyncio.subprocess.SubprocessStreamProtocol:
            _core.adopt_reader(self, protocol.stdout)
            _core.adopt_reader(self, protocol.stderr)
        return transport

    # -- sendfile

    async def _sendfile_native(
        self, transp: asyncio.Transport, file: Any, offset: int, count: int | None
    ) -> int:
        # the standard's code takes the transport out of its table and puts it back
        fd: int = transp._sock_fd  # type: ignore[attr-defined]
        table: dict[int, asyncio.Transport] = self._transports  # type: ignore[attr-defined]
        table[fd] = transp
        try:
            sent: int = await super()._sendfile_native(  # type: ignore[misc]
                transp, file, offset, count
            )
            return sent
        finally:
            table.pop(fd, None)

    def _ensure_fd_no_transport(self, fd: Any) -> None:
        super()._ensure_fd_no_transport(fd)  # type: ignore[misc]
        number = fd if isinstance(fd, int) else int(fd.fileno())
        transport = _core.transport_of(self, number)
        if transport is None or transport._empty_waiter is not None:
            return  # the waiter is there while sendfile() uses the socket
        if not transport.is_closing():
            raise RuntimeError(
                f"File descriptor {fd!r} is used by transport {transport!r}"
            )


_core._set_loop_class(Loop)

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_socket = socket.socket

_STREAM_METHODS = ("recv", "recv_into", "send", "sendmsg", "shutdown", "fileno")


def _is_plain(sock: object, methods: tuple[str, ...]) -> bool:
    """Whether the methods that carry bytes are those of `_socket.socket`."""
    kind = type(sock)
    if kind is _socket:
        return _core.sockets_are_plain()
    return issubclass(kind, _socket) and all(
        getattr(kind, name) is getattr(_socket.__base__, name) for name in methods
    )


_getaddrinfo = socket.getaddrinfo

# With these, the answer for a number depends on the interfaces that are up. An int:
# with the operators of the enum a look-up would take twice as long.
_FLAGS_OF_NETWORK = ~int(
    socket.AI_PASSIVE
    | socket.AI_CANONNAME
    | socket.AI_NUMERICHOST
    | socket.AI_NUMERICSERV
)


def _resolve_number(
    host: str, port: int | None, family: int, type: int, proto: int, flags: int
) -> tuple[tuple[Any, ...], ...] | None:
    """What getaddrinfo says of a numeric host, None for another one.

    It needs no network and is always the same, but for scopes, which are interfaces.
    """
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except (OSError, ValueError):
        return None
    return tuple(_getaddrinfo(host, port, family, type, proto, flags))


# typed: the port True is refused, which equals the port 1
_numeric_addresses = lru_cache(maxsize=512, typed=True)(_resolve_number)


__all__ = ["Loop"]
