"""sock_recv and its siblings: data, cancellation, wrong sockets, errors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys

import pytest


@pytest.fixture
def pair():
    """Two connected, non-blocking sockets."""
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        yield a, b


@pytest.fixture
def listener():
    """A non-blocking TCP socket that listens on 127.0.0.1."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


def udp():
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def reset(sock):
    """Closes with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# -- receiving


def test_recv_of_data_that_is_there(loop, run, pair):
    a, b = pair
    b.send(b"data")
    assert run(loop.sock_recv(a, 100)) == b"data"


def test_recv_of_data_that_comes(loop, run, pair):
    a, b = pair
    loop.call_later(0.001, b.send, b"later")
    assert run(loop.sock_recv(a, 100)) == b"later"


def test_recv_takes_what_it_asks_for(loop, run, pair):
    a, b = pair
    b.send(b"abcdef")
    assert run(loop.sock_recv(a, 2)) == b"ab"
    assert run(loop.sock_recv(a, 0)) == b""
    assert run(loop.sock_recv(a, 100)) == b"cdef"


def test_recv_of_the_end(loop, run, pair):
    a, b = pair
    b.close()
    assert run(loop.sock_recv(a, 100)) == b""


def test_recv_of_an_end_that_comes(loop, run, pair):
    a, b = pair
    loop.call_later(0.001, b.close)
    assert run(loop.sock_recv(a, 100)) == b""


def test_recv_of_a_reset(loop, run, listener):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())
            peer, _ = await loop.sock_accept(listener)
            loop.call_later(0.001, reset, peer)
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(client, 100)

    run(main())


def test_recv_into(loop, run, pair):
    a, b = pair
    buffer = bytearray(10)
    b.send(b"data")
    assert run(loop.sock_recv_into(a, buffer)) == 4
    assert buffer == b"data\0\0\0\0\0\0"
    view = memoryview(buffer)[4:6]
    loop.call_later(0.001, b.send, b"12345")
    assert run(loop.sock_recv_into(a, view)) == 2
    assert buffer == b"data12\0\0\0\0"


def test_recvfrom(loop, run):
    with udp() as a, udp() as b:
        b.sendto(b"data", a.getsockname())
        assert run(loop.sock_recvfrom(a, 100)) == (b"data", b.getsockname())
        loop.call_later(0.001, b.sendto, b"later", a.getsockname())
        assert run(loop.sock_recvfrom(a, 100)) == (b"later", b.getsockname())
        b.sendto(b"", a.getsockname())
        assert run(loop.sock_recvfrom(a, 100)) == (b"", b.getsockname())


def test_recvfrom_into(loop, run):
    with udp() as a, udp() as b:
        buffer = bytearray(10)
        b.sendto(b"data", a.getsockname())
        assert run(loop.sock_recvfrom_into(a, buffer)) == (4, b.getsockname())
        assert buffer[:4] == b"data"
        loop.call_later(0.001, b.sendto, b"123456", a.getsockname())
        assert run(loop.sock_recvfrom_into(a, buffer, 3)) == (3, b.getsockname())
        assert buffer[:4] == b"123a"


# -- sending


def test_sendall(loop, run, pair):
    a, b = pair
    assert run(loop.sock_sendall(a, b"data")) is None
    assert b.recv(100) == b"data"
    run(loop.sock_sendall(a, b""))
    run(loop.sock_sendall(a, bytearray(b"array")))
    run(loop.sock_sendall(a, memoryview(b"view")))
    assert b.recv(100) == b"arrayview"


def test_sendall_of_more_than_the_kernel_takes(loop, run, pair):
    a, b = pair
    data = os.urandom(1 << 20) * 8

    async def main():
        async def receive():
            pieces = []
            while sum(map(len, pieces)) < len(data):
                pieces.append(await loop.sock_recv(b, 1 << 20))
            return b"".join(pieces)

        _, received = await asyncio.gather(loop.sock_sendall(a, data), receive())
        return received

    assert run(main()) == data


def test_sendall_to_a_closed_peer(loop, run, pair):
    a, b = pair
    b.close()
    with pytest.raises(BrokenPipeError):
        run(loop.sock_sendall(a, b"data"))


def test_sendall_whose_peer_closes_meanwhile(loop, run, pair):
    a, b = pair
    loop.call_later(0.001, b.close)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        run(loop.sock_sendall(a, bytes(1 << 24)))


def test_sendto(loop, run):
    with udp() as a, udp() as b:
        assert run(loop.sock_sendto(a, b"data", b.getsockname())) == 4
        assert b.recvfrom(100) == (b"data", a.getsockname())
        assert run(loop.sock_sendto(a, b"", b.getsockname())) == 0
        assert b.recvfrom(100) == (b"", a.getsockname())


# -- connecting


def test_connect_and_accept(loop, run, listener):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            accepting = asyncio.ensure_future(loop.sock_accept(listener))
            assert await loop.sock_connect(client, listener.getsockname()) is None
            peer, address = await accepting
            with peer:
                assert address == client.getsockname()
                assert peer.gettimeout() == 0
                await loop.sock_sendall(client, b"data")
                assert await loop.sock_recv(peer, 10) == b"data"

    run(main())


def test_connect_by_name(loop, run, listener):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
            peer, _ = await loop.sock_accept(listener)
            peer.close()
        await loop.shutdown_default_executor()

    run(main())


def test_connect_refused(loop, run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()

    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(client, address)

    run(main())


def test_connect_to_a_unix_socket(loop, run, tmp_path):
    path = str(tmp_path / "socket")
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        server.bind(path)
        server.listen()
        server.setblocking(False)
        client.setblocking(False)
        run(loop.sock_connect(client, path))
        peer, _ = run(loop.sock_accept(server))
        peer.close()
        with socket.socket(socket.AF_UNIX) as other:
            other.setblocking(False)
            with pytest.raises(FileNotFoundError):
                run(loop.sock_connect(other, path + "-not"))


def test_connect_twice(loop, run, listener):
    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())
            # the kernel answers the first further call with the result of the first
            with pytest.raises(OSError, match="already connected"):
                for _ in range(2):
                    await loop.sock_connect(client, listener.getsockname())

    run(main())


def test_connect_of_a_datagram_socket(loop, run):
    with udp() as a, udp() as b:
        run(loop.sock_connect(a, b.getsockname()))
        run(loop.sock_sendall(a, b"data"))
        assert run(loop.sock_recv(b, 10)) == b"data"


def test_accept_waits(loop, run, listener):
    client = socket.socket()
    with client:
        client.setblocking(False)

        async def main():
            loop.call_later(0.001, client.connect_ex, listener.getsockname())
            peer, _ = await loop.sock_accept(listener)
            peer.close()

        run(main())


def test_accept_of_a_socket_that_does_not_listen(loop, run):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OSError, match="Invalid argument"):
            run(loop.sock_accept(sock))


# -- several at once


def test_reader_and_writer_of_one_socket(loop, run, pair):
    a, b = pair
    data = bytes(1 << 22)

    async def main():
        async def drain():
            size = 0
            while size < len(data):
                size += len(await loop.sock_recv(b, 1 << 20))
            await loop.sock_sendall(b, b"got it")

        sending = asyncio.ensure_future(loop.sock_sendall(a, data))
        receiving = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.gather(drain(), sending)
        return await receiving

    assert run(main()) == b"got it"


def test_ping_pong(loop, run, pair):
    a, b = pair

    async def main():
        async def echo():
            while data := await loop.sock_recv(b, 100):
                await loop.sock_sendall(b, data)

        task = asyncio.ensure_future(echo())
        for n in range(200):
            text = str(n).encode()
            await loop.sock_sendall(a, text)
            assert await loop.sock_recv(a, 100) == text
        a.close()
        await task

    run(main())


def test_many_sockets(loop, run):
    pairs = [socket.socketpair() for _ in range(50)]
    for sock in (sock for pair in pairs for sock in pair):
        sock.setblocking(False)

    async def main():
        receivers = [asyncio.ensure_future(loop.sock_recv(a, 10)) for a, _ in pairs]
        await asyncio.sleep(0)
        for n, (_, b) in enumerate(pairs):
            await loop.sock_sendall(b, str(n).encode())
        return await asyncio.gather(*receivers)

    assert run(main()) == [str(n).encode() for n in range(50)]
    for sock in (sock for pair in pairs for sock in pair):
        sock.close()


# -- cancellation


def test_cancelled_recv_loses_nothing(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        b.send(b"data")
        assert await loop.sock_recv(a, 100) == b"data"
        assert loop.remove_reader(a) is False

    run(main())


def test_cancelled_recv_watches_no_more(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        b.send(b"data")
        await asyncio.sleep(0.001)
        assert a.recv(100) == b"data"

    run(main())


def test_cancelled_in_the_turn_of_the_data(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        b.send(b"data")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recv(a, 100) == b"data"

    run(main())


@pytest.fixture
def deaf_address():
    """A listening address whose queue is full, so that a connection takes long."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()


@pytest.mark.parametrize("operation", ["sendall", "accept", "connect", "recv_into"])
def test_cancelled_operations(loop, run, pair, listener, deaf_address, operation):
    a, _ = pair

    async def main():
        client = socket.socket()
        client.setblocking(False)
        with client:
            coro = {
                "sendall": lambda: loop.sock_sendall(a, bytes(1 << 24)),
                "accept": lambda: loop.sock_accept(listener),
                "connect": lambda: loop.sock_connect(client, deaf_address),
                "recv_into": lambda: loop.sock_recv_into(a, bytearray(10)),
            }[operation]()
            task = asyncio.ensure_future(coro)
            await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for sock in (a, listener, client):
                assert loop.remove_reader(sock) is False
                assert loop.remove_writer(sock) is False

    run(main())


def test_time_out(loop, run, pair):
    a, b = pair

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(a, 100), 0.001)
        b.send(b"data")
        assert await loop.sock_recv(a, 100) == b"data"

    run(main())


def test_socket_closed_while_waiting(loop, run, pair):
    a, b = pair
    number = a.fileno()

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        loop.remove_reader(number)
        a.close()
        await asyncio.sleep(0.001)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        b.close()

    run(main())


# -- wrong sockets and arguments


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


@pytest.mark.parametrize(
    "make",
    [
        lambda loop, sock: loop.sock_recv(sock, -1),
        lambda loop, sock: loop.sock_recv(sock, "x"),
        lambda loop, sock: loop.sock_recv(sock, None),
        lambda loop, sock: loop.sock_recv(sock, 2**80),
        lambda loop, sock: loop.sock_recv_into(sock, b"read only"),
        lambda loop, sock: loop.sock_recv_into(sock, None),
        lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), 5),
        lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), -1),
        lambda loop, sock: loop.sock_sendall(sock, "text"),
        lambda loop, sock: loop.sock_sendall(sock, None),
        lambda loop, sock: loop.sock_sendall(sock, 1),
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


def test_socket_of_a_transport(loop, run, pair):
    a, _ = pair

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(a, print)
        with pytest.raises(BlockingIOError):
            a.recv(1)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(a, 1)
        transport.close()
        await asyncio.sleep(0)

    run(main())


def test_replaces_no_reader_of_the_user(loop, run, pair):
    # as on the standard loop, the last who watches wins
    a, b = pair
    seen = []

    async def main():
        loop.add_reader(a, seen.append, "user")
        task = asyncio.ensure_future(loop.sock_recv(a, 10))
        await asyncio.sleep(0)
        b.send(b"data")
        assert await task == b"data"
        b.send(b"x")
        await asyncio.sleep(0.001)

    run(main())
    assert seen == []
    assert loop.remove_reader(a) is False


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_abstract_name(loop, run):
    name = f"\0asynccore-test-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        server.bind(name)
        server.listen()
        server.setblocking(False)
        client.setblocking(False)
        run(loop.sock_connect(client, name))
        peer, _ = run(loop.sock_accept(server))
        peer.close()
