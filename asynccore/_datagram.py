"""`DatagramTransport`: the standard one, but for what is done per datagram."""

from __future__ import annotations

import socket
from asyncio.selector_events import BaseSelectorEventLoop, _SelectorDatagramTransport  # type: ignore[attr-defined]

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from ._loop import Loop


class DatagramTransport(_core.DatagramTransport, _SelectorDatagramTransport):  # type: ignore[misc]
    """A transport of datagrams; `loop.create_datagram_endpoint` makes them.

    Counterpart of asyncio's, which it is a subclass of.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def __init__(
            self,
            loop: Loop,
            sock: socket.socket,
            protocol: asyncio.DatagramProtocol,
            address: Any = None,
            waiter: asyncio.Future[None] | None = None,
            extra: dict[str, Any] | None = None,
        ) -> None: ...


_socket = socket.socket
_METHODS = ("recvfrom", "send", "sendto", "fileno", "getsockname", "getpeername")
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_CHECKS_NUMBER = (
    "_ensure_fd_no_transport"
    in BaseSelectorEventLoop._make_datagram_transport.__code__.co_names  # type: ignore[attr-defined]
)


def make_datagram_transport(
    loop: Loop,
    sock: socket.socket,
    protocol: asyncio.DatagramProtocol,
    address: Any,
    waiter: asyncio.Future[None] | None,
    extra: dict[str, Any] | None,
) -> asyncio.DatagramTransport | None:
    """Returns None for a socket that the standard class must see to.

    That is one with methods of its own, or of a family whose addresses `_core` does not
    know.
    """
    kind = type(sock)
    if kind is not _socket and not (
        issubclass(kind, _socket)
        and all(getattr(kind, name) is getattr(_socket, name) for name in _METHODS)
    ):
        return None
    if sock.family not in _FAMILIES:
        return None
    if _CHECKS_NUMBER:
        loop._ensure_fd_no_transport(sock)
    return DatagramTransport(loop, sock, protocol, address, waiter, extra)
