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


# The methods of a socket that `_core` does without, and the families whose addresses
# it knows: other sockets get the standard class.
SOCKET_METHODS = ("recvfrom", "send", "sendto", "fileno")
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

# Whether the standard loop refuses a number that another transport has (3.13).
CHECKS_NUMBER = (
    "_ensure_fd_no_transport"
    in BaseSelectorEventLoop._make_datagram_transport.__code__.co_names  # type: ignore[attr-defined]
)
