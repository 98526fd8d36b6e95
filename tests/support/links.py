"""Pairs of connected transports, both on the loop under test."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.certs import certificates
from support.protocols import Log, Recorder

PLAIN_LINKS = ("tcp", "tcp6", "unix", "pair")
LINKS = (*PLAIN_LINKS, "tls", "tls_unix", "start_tls")


@functools.cache
def has_ipv6() -> bool:
    """Whether ::1 can be bound."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def needs_ipv6() -> None:
    if not has_ipv6():
        pytest.skip("no IPv6 on this machine")


class Link:
    """Two transports; `near` was connected, `far` was accepted."""

    def __init__(
        self, near: Any, near_protocol: Any, far: Any, far_protocol: Any
    ) -> None:
        self.near = near
        self.near_protocol = near_protocol
        self.far = far
        self.far_protocol = far_protocol


async def _connect(
    kind: str, near: Log, far: Log, folder: str, stack: contextlib.ExitStack
) -> None:
    loop = asyncio.get_running_loop()
    if kind == "pair":
        one, two = socket.socketpair()
        await loop.create_connection(lambda: near, sock=one)
        await loop.connect_accepted_socket(lambda: far, two)
        return
    tls: dict[str, Any] = {}
    if kind.startswith("tls"):
        tls["ssl"] = certificates().server_context()
    if kind.endswith("unix"):
        path = os.path.join(folder, "server")
        server = await loop.create_unix_server(lambda: far, path, **tls)
        stack.callback(server.close)
        if tls:
            tls["ssl"] = certificates().client_context()
            tls["server_hostname"] = "localhost"
        await loop.create_unix_connection(lambda: near, path, **tls)
    else:
        if kind == "tcp6":
            needs_ipv6()
        host = "::1" if kind == "tcp6" else "127.0.0.1"
        server = await loop.create_server(lambda: far, host, 0, **tls)
        stack.callback(server.close)
        if tls:
            tls["ssl"] = certificates().client_context()
        port = server.sockets[0].getsockname()[1]
        await loop.create_connection(lambda: near, host, port, **tls)


async def _upgrade(
    near: Log, far: Log, folder: str, stack: contextlib.ExitStack
) -> None:
    loop = asyncio.get_running_loop()
    plain_near, plain_far = Recorder(), Recorder()
    await _connect("tcp", plain_near, plain_far, folder, stack)
    await plain_far.made()
    server = certificates().server_context()
    client = certificates().client_context()
    upgraded = await asyncio.gather(
        loop.start_tls(plain_far.transport, far, server, server_side=True),
        loop.start_tls(plain_near.transport, near, client, server_hostname="localhost"),
    )
    far.connection_made(upgraded[0])
    near.connection_made(upgraded[1])


@contextlib.asynccontextmanager
async def link(kind: str, near: Log, far: Log) -> AsyncIterator[Link]:
    """Connects the two protocols; at the end aborts what is still open."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if kind == "start_tls":
            await _upgrade(near, far, folder, stack)
        else:
            await _connect(kind, near, far, folder, stack)
        made = Link(await near.made(), near, await far.made(), far)
        try:
            yield made
        finally:
            for protocol, transport in ((near, made.near), (far, made.far)):
                # after a close() that had to flush, the standard abort() raises
                if not protocol.count("connection_lost"):
                    transport.abort()
            for protocol in (near, far):
                await protocol.until(
                    functools.partial(protocol.count, "connection_lost")
                )
