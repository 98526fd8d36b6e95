"""sock_recv and its siblings: what they transfer."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
import sys

import pytest

from support import compare, needs_ipv6
from support.sockets import listener, pair, udp

__all__ = ["listener", "pair"]  # fixtures


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
            assert client.getpeername() == listener.getsockname()
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


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["4", "6"])
@pytest.mark.parametrize("rest", [(), (0,), (0, 0)], ids=len)
def test_words_of_a_failed_connection(both_factories, family, rest):
    if family == socket.AF_INET6:
        needs_ipv6()
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.socket(family) as unused:
        unused.bind((host, 0))
        address = (host, unused.getsockname()[1], *rest)

    async def main():
        loop = asyncio.get_running_loop()
        with socket.socket(family) as client:
            client.setblocking(False)
            try:
                await loop.sock_connect(client, address)
            except OSError as exc:
                return type(exc), exc.args, str(exc)

    kind, (_, words), _ = compare(both_factories, main)
    if family == socket.AF_INET6 or not rest:
        assert kind is ConnectionRefusedError
        assert words.startswith("Connect call failed ")


def test_turns_of_a_connection(both_factories, listener):
    """It takes the turns of the standard loop."""

    async def main():
        loop = asyncio.get_running_loop()
        turns = 0

        def turn():
            nonlocal turns, handle
            turns += 1
            handle = loop.call_soon(turn)

        handle = loop.call_soon(turn)
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())
        handle.cancel()
        return turns

    assert compare(both_factories, main) > 0


def test_connect_that_is_replaced_in_the_class(loop, run, listener, monkeypatch):
    seen = []
    original = socket.socket.connect

    def connect(self, address):
        seen.append(address)
        return original(self, address)

    async def main():
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())
            assert client.getpeername() == listener.getsockname()

    monkeypatch.setattr(socket.socket, "connect", connect, raising=False)
    run(main())
    assert seen == [listener.getsockname()]


def test_audit_hooks_see_a_connection(script):
    script(
        """
        import asyncio, socket, sys

        seen = []
        refuses = False

        def hook(event, args):
            if event == "socket.connect":
                seen.append(args)
                if refuses:
                    raise PermissionError("not there")

        sys.addaudithook(hook)

        async def main():
            global refuses
            loop = asyncio.get_running_loop()
            with socket.create_server(("127.0.0.1", 0)) as server:
                address = server.getsockname()
                for refuses in (False, True):
                    with socket.socket() as client:
                        client.setblocking(False)
                        try:
                            await loop.sock_connect(client, address)
                        except PermissionError as exc:
                            assert refuses and str(exc) == "not there"
                        else:
                            assert not refuses
                        assert seen.pop() == (client, address)
            assert not seen

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )


@pytest.mark.parametrize("blocking", [False, True])
def test_audit_hooks_see_the_address_that_is_connected_to(script, blocking):
    """One of IPv6 has four members, also where the program names two."""
    needs_ipv6()
    script(
        f"""
        import asyncio, socket, sys

        seen = []

        def hook(event, args):
            if event == "socket.connect":
                seen.append(args[1])

        sys.addaudithook(hook)

        async def main():
            loop = asyncio.get_running_loop()
            with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
                address = server.getsockname()
                for count in (2, 3, 4):
                    with socket.socket(socket.AF_INET6) as client:
                        client.setblocking({blocking})
                        await loop.sock_connect(client, address[:count])
                    assert seen.pop() == address
            assert not seen

        loop = new_event_loop()
        loop.set_debug(False)  # where a blocking socket is refused
        loop.run_until_complete(main())
        loop.close()
        """
    )


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
            peer, address = await loop.sock_accept(listener)
            assert address == client.getsockname()
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
    for sock in itertools.chain(*pairs):
        sock.setblocking(False)

    async def main():
        receivers = [asyncio.ensure_future(loop.sock_recv(a, 10)) for a, _ in pairs]
        await asyncio.sleep(0)
        for n, (_, b) in enumerate(pairs):
            await loop.sock_sendall(b, str(n).encode())
        return await asyncio.gather(*receivers)

    assert run(main()) == [str(n).encode() for n in range(50)]
    for sock in itertools.chain(*pairs):
        sock.close()


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
        assert client.getpeername() == name.encode()
        peer, _ = run(loop.sock_accept(server))
        peer.close()
