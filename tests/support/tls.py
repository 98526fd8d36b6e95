"""A TLS peer of plain parts: a socket, two MemoryBIO and an SSLObject.

What it sends can be changed on its way, and what it receives can be looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

from support.certs import certificates
from support.protocols import Log

APPLICATION_DATA = 23  # the type of a record


def records(data: bytes) -> Iterator[tuple[int, int]]:
    """(type, length of what is encrypted) of each record."""
    while data:
        size = int.from_bytes(data[3:5], "big")
        yield data[0], size
        data = data[5 + size :]


class RawPeer:
    """The other end of a TLS connection."""

    def __init__(self, sock: socket.socket, context: Any, server_side: bool) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, name)
        self.loop = asyncio.get_running_loop()

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                data = await self.loop.sock_recv(self.sock, 1 << 16)
                if not data:
                    raise ConnectionResetError("EOF in the handshake") from None
                self.incoming.write(data)
            else:
                await self.flush()
                return

    async def flush(self) -> None:
        await self.loop.sock_sendall(self.sock, self.outgoing.read())

    def encrypt(self, data: bytes, size: int = 1 << 14) -> bytes:
        """Cipher text of `data` in records of at most `size`."""
        for start in range(0, len(data), size):
            self.tls.write(data[start : start + size])
        return self.outgoing.read()

    async def send(self, data: bytes, size: int = 1 << 14) -> None:
        await self.loop.sock_sendall(self.sock, self.encrypt(data, size))

    async def recv(self, size: int) -> bytes:
        """`size` bytes, or what there is before the end."""
        data = bytearray()
        while len(data) < size:
            try:
                piece = self.tls.read(size - len(data))
            except ssl.SSLWantReadError:
                piece = await self.loop.sock_recv(self.sock, 1 << 16)
                if not piece:
                    break
                self.incoming.write(piece)
                continue
            if not piece:
                break
            data += piece
        return bytes(data)


@contextlib.asynccontextmanager
async def raw_peer(
    protocol: Log, *, server_side: bool = False, context: ssl.SSLContext | None = None
) -> AsyncIterator[RawPeer]:
    """Connects `protocol`, on the loop under test, to a RawPeer.

    `server_side` and `context` are those of the transport.
    """
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        ours: Any = context
        if server_side:
            ours = context or certificates().server_context()
            peer = RawPeer(there, certificates().client_context(), False)
            connecting = loop.connect_accepted_socket(lambda: protocol, here, ssl=ours)
        else:
            ours = context or certificates().client_context()
            peer = RawPeer(there, certificates().server_context(), True)
            connecting = loop.create_connection(
                lambda: protocol, sock=here, ssl=ours, server_hostname="localhost"
            )
        await asyncio.gather(connecting, peer.handshake())
        try:
            yield peer
        finally:
            if not protocol.count("connection_lost"):
                protocol.transport.abort()
            await protocol.until(lambda: protocol.count("connection_lost"))
