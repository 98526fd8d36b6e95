"""TLS: the interpreter's own `SSLProtocol`, with its records exchanged for `_core`.

Time-outs and errors are inherited from `asyncio.sslproto`, so that each Python keeps
its rules and messages. What runs for each record, and for each connection as long as
all goes well, comes from `_core.TLSProtocol` and `_core.TLSTransport`, which stand
first in the method resolution order. They call the libssl of the interpreter's own
module `ssl`, if the layout of its objects is proven, and its methods otherwise.

ASYNCCORE_TLS chooses: "direct" (the default), "memorybio" (never call libssl), "stdlib"
(the standard classes, untouched).
"""

from __future__ import annotations

import operator
import os
import threading
import types
from asyncio import base_events, sslproto

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable
    from typing import Any, Final

MODES: Final = ("direct", "memorybio", "stdlib")


class _SSLProtocolTransport(_core.TLSTransport, sslproto._SSLProtocolTransport):
    """The transport that a protocol over TLS gets."""

    __slots__ = ()


class SSLProtocol(_core.TLSProtocol, sslproto.SSLProtocol):
    """The protocol between a transport and the program's protocol over TLS."""

    # An attribute of the standard constructor that `_core.TLSProtocol` does not have
    # costs the connection a dict, nothing else.
    __slots__ = ()
    _waiter: asyncio.Future[None] | None  # type: ignore[assignment]

    def _get_app_transport(self) -> Any:
        if self._app_transport_created:
            if self._app_transport is None:
                raise RuntimeError("Creating _SSLProtocolTransport twice")
        else:
            made = _SSLProtocolTransport(self._loop, self)
            self._app_transport = made
            self._app_transport_created = True
        return self._app_transport

    def connection_made(self, transport: Any) -> None:
        # accepted, see accepted(); start_tls() may have lost both by now
        if self._waiter is None and self._app_transport is not None:
            self._waiter = waiter = self._loop.create_future()
            self._loop.create_task(_await_handshake(waiter, self._app_transport))
        self._transport = transport
        self._start_handshake()


async def _await_handshake(waiter: asyncio.Future[None], transport: Any) -> None:
    """What the standard's task of an accepted connection waits for.

    asyncio.run() cancels it at its end, which closes the connection.
    """
    try:
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        # it has nowhere to go, but in debug mode, in which the standard's code runs
        del waiter  # the exception is in it, and in that this frame


# What is replaced here and in `_core`, with what is called by that alone.
_REPLACED = (
    "__init__",
    "_control_app_writing",
    "_control_ssl_reading",
    "_do_flush",
    "_do_handshake",
    "_do_read",
    "_do_read__buffered",
    "_do_read__copied",
    "_do_shutdown",
    "_do_write",
    "_get_app_transport",
    "_get_read_buffer_size",
    "_get_write_buffer_size",
    "_is_transport_closing",
    "_on_handshake_complete",
    "_process_outgoing",
    "_set_app_protocol",
    "_set_read_buffer_limits",
    "_set_state",
    "_set_write_buffer_limits",
    "_start_handshake",
    "_start_shutdown",
    "_wakeup_waiter",
    "_write_appdata",
    "buffer_updated",
    "connection_lost",
    "connection_made",
    "eof_received",
    "get_buffer",
    "max_size",
)
_REPLACED_OF_TRANSPORT = ("__del__", "__init__", "is_closing", "write", "writelines")
_stock_protocol = sslproto.SSLProtocol
_stock_transport = sslproto._SSLProtocolTransport


def _members() -> list[Any]:
    """These members as they are now; None is one that this Python does not have."""
    return [
        *(getattr(_stock_protocol, name, None) for name in _REPLACED),
        *(getattr(_stock_transport, name, None) for name in _REPLACED_OF_TRANSPORT),
    ]


_stock_members = _members()  # as they are at import
_seen = 0  # _core.tls_versions() when the methods were looked at
_unchanged = False  # what came out


def _is_stock() -> bool:
    """Whether nobody has replaced what is replaced here."""
    global _seen, _unchanged
    versions = _core.tls_versions()
    if versions == 0 or versions != _seen:
        _unchanged = all(map(operator.is_, _members(), _stock_members))
        _seen = versions
    return (
        _unchanged
        and sslproto.SSLProtocol is _stock_protocol
        and sslproto._SSLProtocolTransport is _stock_transport
    )


_mode: str | None = None
_choosing = threading.RLock()


def use(name: str) -> str | None:
    """Choose for new connections; returns why "direct" is not possible, or None."""
    global _mode
    if name not in MODES:
        raise ValueError(f"ASYNCCORE_TLS must be one of {MODES}, not {name!r}")
    with _choosing:
        why_not = _core.tls_use(name == "direct")
        _mode = name
    return why_not


def mode() -> str:
    """What was chosen: with the first connection by ASYNCCORE_TLS."""
    if _mode is None:
        with _choosing:  # one thread looks for libssl
            if _mode is None:
                use(os.environ.get("ASYNCCORE_TLS") or MODES[0])
    assert _mode is not None
    return _mode


def is_ours() -> bool:
    """Whether a new connection gets our class."""
    return mode() != "stdlib" and _is_stock()


def protocol_class() -> type[sslproto.SSLProtocol]:
    """The class for a new connection."""
    return SSLProtocol if is_ours() else sslproto.SSLProtocol


def accepted(
    loop: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    sslcontext: ssl.SSLContext,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
) -> SSLProtocol:
    """The protocol of an accepted connection, with the program's above it.

    It is given no waiter: once it is connected, it makes one for itself.
    """
    return SSLProtocol(
        loop,
        protocol_factory(),
        sslcontext,
        None,
        True,
        None,
        True,
        ssl_handshake_timeout,
        ssl_shutdown_timeout,
    )


def describe() -> str:
    """How TLS runs, for show_config()."""
    name = mode()
    if name == "stdlib" or not _is_stock():
        return "asyncio's SSLProtocol"
    if name == "memorybio":
        return "in C, records by ssl.MemoryBIO"
    why_not = use(name)
    if why_not is None:
        return "in C, records by libssl"
    return f"in C, records by ssl.MemoryBIO ({why_not})"


def start_tls(loop: asyncio.AbstractEventLoop, *args: Any, **kwargs: Any) -> Any:
    """The interpreter's own `loop.start_tls()`, which makes our class.

    It looks up `sslproto.SSLProtocol` among the names of its module: it runs with
    these names, but for that one.
    """
    standard = base_events.BaseEventLoop.start_tls
    made = protocol_class()
    if made is not sslproto.SSLProtocol and isinstance(standard, types.FunctionType):
        names = dict(standard.__globals__)
        names["sslproto"] = types.SimpleNamespace(SSLProtocol=made)
        ours = types.FunctionType(
            standard.__code__,
            names,
            standard.__name__,
            standard.__defaults__,
            standard.__closure__,
        )
        ours.__kwdefaults__ = standard.__kwdefaults__
        return ours(loop, *args, **kwargs)
    return standard(loop, *args, **kwargs)  # type: ignore[arg-type]
