"""Sockets without a transport, for add_reader and sock_*; each a context manager."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def socketpair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected, non-blocking sockets."""
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        yield a, b


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected, non-blocking sockets."""
    with socketpair() as sockets:
        yield sockets


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A non-blocking TCP socket that listens on 127.0.0.1."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


def udp() -> socket.socket:
    """A non-blocking datagram socket with a port on 127.0.0.1."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock
