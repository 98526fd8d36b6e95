"""Out of descriptors while accepting: back off, say so, lose no client."""

from __future__ import annotations

from typing import Any

SETUP = """
    import asyncio, errno, os, resource, socket, sys

    reports = []
    loop = new_event_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))

    class Echo(asyncio.Protocol):
        alive = 0

        def connection_made(self, transport):
            self.transport = transport
            Echo.alive += 1

        def data_received(self, data):
            self.transport.write(data)

        def connection_lost(self, exc):
            Echo.alive -= 1

    def exhaust():
        # the next descriptor is the first that is refused
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, HARD))

    def recover():
        resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))

    SOFT, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def turns(count):
        for _ in range(count):
            await asyncio.sleep(0.001)
"""


def test_server_backs_off_and_recovers(script: Any) -> None:
    done = script(
        SETUP
        + """
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        early = socket.create_connection(address)
        early.setblocking(False)
        await loop.sock_sendall(early, b"early")
        assert await loop.sock_recv(early, 10) == b"early"
        waiting = [socket.socket() for _ in range(5)]
        before = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else None
        exhaust()
        for sock in waiting:
            sock.connect(address)
            sock.setblocking(False)
        while not reports:
            await asyncio.sleep(0)
        count = len(reports)
        await turns(20)
        # no more until it tries again, a second later: it does not spin
        assert len(reports) == count
        assert count <= 101  # one for each slot of the backlog
        report = reports[0]
        assert report["message"] == "socket.accept() out of system resource"
        assert report["exception"].errno == errno.EMFILE
        assert type(report["exception"]) is OSError
        assert type(report["socket"]).__name__ == "TransportSocket"
        assert report["socket"].fileno() == server.sockets[0].fileno()
        assert set(report) == {"message", "exception", "socket"}
        # those that are connected are served meanwhile
        await loop.sock_sendall(early, b"still")
        assert await loop.sock_recv(early, 10) == b"still"
        assert Echo.alive == 1
        recover()
        # nobody in the backlog was hung up on
        for number, sock in enumerate(waiting):
            await loop.sock_sendall(sock, b"%d" % number)
        for number, sock in enumerate(waiting):
            assert await loop.sock_recv(sock, 10) == b"%d" % number
        assert Echo.alive == 6
        assert len(reports) == count
        # and new ones come through at once
        late = socket.create_connection(address)
        late.setblocking(False)
        await loop.sock_sendall(late, b"late")
        assert await loop.sock_recv(late, 10) == b"late"
        for sock in (early, late, *waiting):
            sock.close()
        while Echo.alive:
            await asyncio.sleep(0)
        server.close()
        await server.wait_closed()

    loop.run_until_complete(asyncio.wait_for(main(), 30))
    loop.close()
    print("fine")
    """
    )
    assert done.stdout == "fine\n"


def test_server_closed_while_it_backs_off(script: Any) -> None:
    done = script(
        SETUP
        + """
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        sock = socket.socket()
        exhaust()
        sock.connect(address)
        while not reports:
            await asyncio.sleep(0)
        server.close()
        recover()
        # the retry, a second later, finds the server gone; nobody else's number
        # is listened to
        one, two = socket.socketpair()
        one.setblocking(False)
        reports.clear()
        await asyncio.sleep(1.1)
        two.send(b"mine")
        assert await loop.sock_recv(one, 10) == b"mine"
        for used in (one, two, sock):
            used.close()

    loop.run_until_complete(asyncio.wait_for(main(), 30))
    loop.close()
    # the standard loop's retry stumbles over the closed socket, and says so
    for report in reports:
        assert "_start_serving" in report["message"], report
    print("fine")
    """
    )
    assert done.stdout == "fine\n"


def test_loop_closed_while_a_server_backs_off(script: Any) -> None:
    done = script(
        SETUP
        + """
    server = loop.run_until_complete(loop.create_server(Echo, "127.0.0.1", 0))
    sock = socket.socket()
    exhaust()
    sock.connect(server.sockets[0].getsockname())

    async def main():
        while not reports:
            await asyncio.sleep(0)
        server.close()

    loop.run_until_complete(main())
    recover()
    loop.close()
    sock.close()
    reports.clear()
    print("fine")
    """
    )
    assert done.stdout == "fine\n"


def test_transport_is_not_lost_when_the_socket_object_cannot_be_made(
    script: Any,
) -> None:
    """get_extra_info('socket') needs no descriptor of its own."""
    done = script(
        SETUP
        + """
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        sock = socket.socket()
        sock.connect(server.sockets[0].getsockname())
        sock.setblocking(False)
        transport, protocol = None, None
        made = loop.create_future()
        original = Echo.connection_made

        def connection_made(self, transport):
            original(self, transport)
            made.set_result(transport)

        Echo.connection_made = connection_made
        transport = await made
        exhaust()
        assert transport.get_extra_info("socket").fileno() > 2
        assert transport.get_extra_info("peername") == sock.getsockname()
        await loop.sock_sendall(sock, b"works")
        assert await loop.sock_recv(sock, 10) == b"works"
        transport.abort()
        while Echo.alive:
            await asyncio.sleep(0)
        recover()
        sock.close()
        server.close()

    loop.run_until_complete(asyncio.wait_for(main(), 30))
    loop.close()
    assert not reports
    print("fine")
    """
    )
    assert done.stdout == "fine\n"
