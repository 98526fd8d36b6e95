"""sock_recv and its siblings with what they cannot use: as the standard loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

OPERATIONS = {
    "recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 9)),
    "connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 9)),
    "accept": lambda loop, sock: loop.sock_accept(sock),
}


def outcomes(factory, make):
    loop = factory()

    async def main():
        try:
            return "returned", await make(loop)
        except Exception as exc:
            return type(exc), str(exc)

    try:
        return loop.run_until_complete(asyncio.wait_for(main(), 5))
    finally:
        loop.close()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("debug", [False, True])
def test_blocking_socket(both_factories, operation, debug):
    def found(factory):
        def debugged():
            loop = factory()
            loop.set_debug(debug)
            return loop

        a, b = socket.socketpair()
        with a, b:
            b.send(b"x")
            if debug or operation not in ("connect", "accept"):
                return outcomes(debugged, lambda loop: OPERATIONS[operation](loop, a))
            return None

    standard, ours = map(found, both_factories)
    assert ours == standard


@pytest.mark.parametrize("operation", OPERATIONS)
def test_closed_socket(both_factories, operation):
    def found(factory):
        with socket.socket() as sock:
            sock.setblocking(False)
        return outcomes(factory, lambda loop: OPERATIONS[operation](loop, sock))

    standard, ours = map(found, both_factories)
    assert ours == standard


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("wrong", [None, 1, "x", object], ids=repr)
def test_no_socket(both_factories, operation, wrong):
    def found(factory):
        return outcomes(factory, lambda loop: OPERATIONS[operation](loop, wrong))

    standard, ours = map(found, both_factories)
    assert ours == standard


def released():
    view = memoryview(b"data")
    view.release()
    return view


@pytest.mark.parametrize(
    "make",
    [
        lambda loop, sock: loop.sock_recv(sock, -1),
        lambda loop, sock: loop.sock_recv(sock, "x"),
        lambda loop, sock: loop.sock_recv(sock, None),
        lambda loop, sock: loop.sock_recv(sock, 2**80),
        lambda loop, sock: loop.sock_recv(sock, 2**62),
        lambda loop, sock: loop.sock_recv(sock, 1.0),
        lambda loop, sock: loop.sock_recv_into(sock, b"read only"),
        lambda loop, sock: loop.sock_recv_into(sock, None),
        lambda loop, sock: loop.sock_recv_into(sock, memoryview(bytearray(9))[::2]),
        lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), 5),
        lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), -1),
        lambda loop, sock: loop.sock_sendall(sock, "text"),
        lambda loop, sock: loop.sock_sendall(sock, None),
        lambda loop, sock: loop.sock_sendall(sock, 1),
        lambda loop, sock: loop.sock_sendall(sock, memoryview(b"xyz")[::2]),
        lambda loop, sock: loop.sock_sendall(sock, released()),
        lambda loop, sock: loop.sock_sendto(sock, "text", ("127.0.0.1", 9)),
    ],
)
def test_wrong_arguments(both_factories, make):
    def found(factory):
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            b.send(b"x")
            return outcomes(factory, lambda loop: make(loop, a))

    standard, ours = map(found, both_factories)
    assert issubclass(standard[0], Exception)
    assert ours == standard


@pytest.mark.parametrize(
    "address",
    [None, 1, "x", (), ("127.0.0.1",), ("127.0.0.1", "x"), ("127.0.0.1", -1),
     ("127.0.0.1", 70000), (None, 80), ("1.2.3.4", 80, 1, 2, 3, 4), ("\0", 80)],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("operation", ["connect", "sendto"])
def test_wrong_addresses(both_factories, operation, address):
    def found(factory):
        kind = socket.SOCK_STREAM if operation == "connect" else socket.SOCK_DGRAM
        with socket.socket(type=kind) as sock:
            sock.setblocking(False)

            async def make(loop):
                try:
                    if operation == "connect":
                        return await loop.sock_connect(sock, address)
                    return await loop.sock_sendto(sock, b"x", address)
                finally:
                    await loop.shutdown_default_executor()

            return outcomes(factory, make)

    standard, ours = map(found, both_factories)
    assert ours == standard


@pytest.mark.parametrize("operation", sorted(OPERATIONS.keys() - {"accept", "sendto"}))
def test_socket_that_listens(both_factories, operation):
    def found(factory):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            sock.setblocking(False)
            return outcomes(factory, lambda loop: OPERATIONS[operation](loop, sock))

    standard, ours = map(found, both_factories)
    assert issubclass(standard[0], OSError)
    assert ours == standard


@pytest.mark.parametrize("operation", OPERATIONS)
def test_tls_socket(both_factories, operation):
    def found(factory):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        with (
            socket.socket() as sock,
            context.wrap_socket(sock, do_handshake_on_connect=False) as wrapped,
        ):
            return outcomes(factory, lambda loop: OPERATIONS[operation](loop, wrapped))

    standard, ours = map(found, both_factories)
    assert standard == (TypeError, "Socket cannot be of type SSLSocket")
    assert ours == standard


@pytest.mark.parametrize("operation", ["recv", "recv_into", "recvfrom"])
def test_socket_with_a_time_out(both_factories, operation, monkeypatch):
    monkeypatch.delenv("PYTHONASYNCIODEBUG", raising=False)  # where it is refused

    def found(factory):
        a, b = socket.socketpair()
        with a, b:
            a.settimeout(0.001)
            return outcomes(factory, lambda loop: OPERATIONS[operation](loop, a))

    standard, ours = map(found, both_factories)
    assert standard == (TimeoutError, "timed out")
    assert ours == standard


def test_sending_on_a_blocking_socket(both_factories, monkeypatch):
    monkeypatch.delenv("PYTHONASYNCIODEBUG", raising=False)  # where it is refused

    def found(factory):
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    a.send(bytes(1 << 16))
            a.settimeout(0.001)
            return outcomes(factory, lambda loop: loop.sock_sendall(a, bytes(1 << 16)))

    standard, ours = map(found, both_factories)
    assert standard == (TimeoutError, "timed out")
    assert ours == standard
