"""One transport of the loop under test, and a plain socket as its peer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from support.links import needs_ipv6
from support.protocols import Log

SIDES = ("connected", "accepted")
WIRES = ("tcp", "tcp6", "unix", "pair")


class Peer:
    """The plain, non-blocking socket at the other end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    def recv_now(self, limit: int = 1 << 24) -> bytes:
        """What has arrived, without waiting."""
        data = bytearray()
        while len(data) < limit:
            try:
                piece = self.sock.recv(min(1 << 18, limit - len(data)))
            except BlockingIOError:
                break
            if not piece:
                break
            data += piece
        return bytes(data)

    async def recv(self, size: int) -> bytes:
        """Exactly `size` bytes, or what there is before EOF."""
        data = bytearray()
        while len(data) < size:
            piece = await self._loop().sock_recv(
                self.sock, min(1 << 18, size - len(data))
            )
            if not piece:
                break
            data += piece
        return bytes(data)

    async def recv_all(self) -> bytes:
        """Everything until EOF."""
        return await self.recv(1 << 62)

    async def send(self, data: bytes) -> None:
        await self._loop().sock_sendall(self.sock, data)

    def send_now(self, data: bytes) -> None:
        """Sends a small message whole, without waiting."""
        assert self.sock.send(data) == len(data)

    def shutdown(self) -> None:
        """Sends EOF."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes so that the other end gets ECONNRESET (TCP only)."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    @staticmethod
    def _loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


class Wire:
    """A transport, its protocol and its peer."""

    def __init__(self, transport: Any, protocol: Any, peer: Peer) -> None:
        self.transport = transport
        self.protocol = protocol
        self.peer = peer

    def drop(self) -> None:
        """Gives up every reference to the transport but the loop's and the caller's."""
        self.transport = self.protocol.transport = None
        self.protocol.calls.clear()

    def fill(self, piece: int = 1 << 16) -> int:
        """Writes until the kernel refuses bytes and the transport keeps some.

        Returns how many bytes were written. The peer must not read meanwhile.
        """
        written = 0
        transport = self.transport
        while not transport.get_write_buffer_size() and not transport.is_closing():
            transport.write(bytes(piece))
            written += piece
        return written


def listener(kind: str, folder: str) -> socket.socket:
    """A blocking listening socket of this kind."""
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(os.path.join(folder, "listener"))
    elif kind == "tcp6":
        needs_ipv6()
        sock = socket.socket(socket.AF_INET6)
        sock.bind(("::1", 0))
    else:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.settimeout(10)
    return sock


@contextlib.asynccontextmanager
async def wire(
    protocol: Log, kind: str = "tcp", side: str = "connected", *, hold: bool = True
) -> AsyncIterator[Wire]:
    """Connects `protocol` to a plain socket; at the end aborts what is still open.

    `side` tells how the transport came to be; the kind `pair` passes it a socket.
    Without `hold` the caller ends the transport, or drops it (see Wire.drop).
    """
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server: asyncio.Server | None = None
        if kind == "pair":
            here, there = socket.socketpair()
            peer = Peer(there)
            stack.callback(peer.close)
            if side == "connected":
                await loop.create_connection(lambda: protocol, sock=here)
            else:
                await loop.connect_accepted_socket(lambda: protocol, here)
        elif side == "connected":
            listening = stack.enter_context(listener(kind, folder))
            address = listening.getsockname()
            if kind == "unix":
                await loop.create_unix_connection(lambda: protocol, address)
            else:
                await loop.create_connection(lambda: protocol, *address[:2])
            peer = Peer(listening.accept()[0])
            stack.callback(peer.close)
        else:
            if kind == "unix":
                path = os.path.join(folder, "server")
                server = await loop.create_unix_server(lambda: protocol, path)
            else:
                if kind == "tcp6":
                    needs_ipv6()
                host = "::1" if kind == "tcp6" else "127.0.0.1"
                server = await loop.create_server(lambda: protocol, host, 0)
            stack.callback(server.close)
            bound = server.sockets[0]
            plain = socket.socket(bound.family)
            plain.connect(bound.getsockname())
            peer = Peer(plain)
            stack.callback(peer.close)
        transport = await protocol.made()
        held = Wire(transport, protocol, peer)
        del transport
        try:
            yield held
        finally:
            if hold:
                # after a close() that had to flush, the standard abort() raises
                if not protocol.count("connection_lost"):
                    held.transport.abort()
                await protocol.until(lambda: protocol.count("connection_lost"))
