"""Servers: create_server, create_unix_server and the Server object."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pathlib
import re
import socket
import stat
import sys
import tempfile
import weakref
from asyncio import trsock
from collections.abc import Iterator
from typing import Any

import pytest

from asynccore import _core
from support import (
    Recorder,
    certificates,
    compare,
    has_ipv6,
    looped,
    needs_ipv6,
    only_asynccore,
    outcome,
    settle,
)

py312 = pytest.mark.skipif(sys.version_info < (3, 12), reason="3.12: it waits")
py313 = pytest.mark.skipif(sys.version_info < (3, 13), reason="new in 3.13")


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A short path: a unix address has room for some 100 characters."""
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name)


class Echo(Recorder):
    """Answers what it gets; every instance is kept in `served`."""

    def __init__(self, served: list[Any]) -> None:
        super().__init__(data_received=lambda p, data: p.transport.write(data))
        served.append(self)


async def client(server: Any, index: int = 0) -> socket.socket:
    """A plain non-blocking socket, connected to the server."""
    bound = server.sockets[index]
    sock = socket.socket(bound.family)
    sock.settimeout(10)
    sock.connect(bound.getsockname())
    sock.setblocking(False)
    return sock


async def echoed(sock: socket.socket, data: bytes = b"echo") -> bool:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, data)
    return await loop.sock_recv(sock, 100) == data


# --- the object ---


@looped
async def test_server_object() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    assert isinstance(server, asyncio.AbstractServer)
    assert isinstance(server, asyncio.Server)
    assert server.get_loop() is loop
    assert server.is_serving()
    [sock] = server.sockets
    assert isinstance(sock, trsock.TransportSocket)
    assert sock.family == socket.AF_INET
    assert sock.getsockname()[1] != 0
    assert sock.gettimeout() == 0
    assert re.fullmatch(
        r"<Server sockets=\(<asyncio\.TransportSocket fd=\d+, .*>,\)>", repr(server)
    )
    assert server._ssl_context is None
    server.close()
    assert server.sockets == ()
    assert not server.is_serving()
    assert repr(server) == "<Server sockets=()>"
    assert sock.fileno() == -1
    server.close()
    await server.wait_closed()
    assert server.get_loop() is loop


@looped
async def test_many_clients_at_once() -> None:
    served: list[Any] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(served), "127.0.0.1", 0, backlog=200)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(await client(server)) for _ in range(150)]
        results = await asyncio.gather(
            *(echoed(sock, b"%03d" % n) for n, sock in enumerate(clients))
        )
        assert all(results)
        assert len(served) == 150
    for protocol in served:
        assert await protocol.lost() is None
    server.close()
    await server.wait_closed()


@looped
async def test_start_serving_false() -> None:
    loop = asyncio.get_running_loop()
    served: list[Any] = []
    server = await loop.create_server(
        lambda: Echo(served), "127.0.0.1", 0, start_serving=False
    )
    assert not server.is_serving()
    address = server.sockets[0].getsockname()
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(address)  # bound, but it does not listen
    await server.start_serving()
    assert server.is_serving()
    await server.start_serving()
    with await client(server) as sock:
        assert await echoed(sock)
    await served[0].lost()
    server.close()
    await server.wait_closed()


@looped
async def test_start_serving_after_close() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, "127.0.0.1", 0, start_serving=False)
    server.close()
    with pytest.raises(TypeError):
        await server.start_serving()


@looped
async def test_serve_forever_is_cancelled() -> None:
    loop = asyncio.get_running_loop()
    served: list[Any] = []
    server = await loop.create_server(
        lambda: Echo(served), "127.0.0.1", 0, start_serving=False
    )
    task = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    assert server.is_serving()
    with pytest.raises(RuntimeError, match="is already being awaited on serve_forever"):
        await server.serve_forever()
    with await client(server) as sock:
        assert await echoed(sock)
    await served[0].lost()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.sockets == ()
    assert not server.is_serving()
    with pytest.raises(RuntimeError, match="is closed"):
        await server.serve_forever()


@looped
async def test_serve_forever_ends_when_the_server_is_closed() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    task = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await task


@looped
async def test_async_with() -> None:
    loop = asyncio.get_running_loop()
    async with await loop.create_server(Recorder, "127.0.0.1", 0) as server:
        assert server.is_serving()
        address = server.sockets[0].getsockname()
    assert server.sockets == ()
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(address)


# --- close and wait_closed ---


@looped
async def test_close_leaves_connections_alone() -> None:
    served: list[Any] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(served), "127.0.0.1", 0)
    with await client(server) as sock:
        assert await echoed(sock)
        server.close()
        assert await echoed(sock)
        assert not served[0].transport.is_closing()
    await served[0].lost()


@py312
@looped
async def test_wait_closed_waits_for_the_connections() -> None:
    served: list[Any] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(served), "127.0.0.1", 0)
    with await client(server) as one, await client(server) as two:
        assert await echoed(one)
        assert await echoed(two)
        waiting = [loop.create_task(server.wait_closed()) for _ in range(2)]
        await settle()
        assert not any(task.done() for task in waiting)
        server.close()
        waiting.append(loop.create_task(server.wait_closed()))
        await settle()
        assert not any(task.done() for task in waiting)
        one.close()
        await served[0].lost()
        await settle()
        assert not any(task.done() for task in waiting)
        served[1].transport.abort()
        await asyncio.gather(*waiting)
    await server.wait_closed()


@py312
@looped
async def test_wait_closed_counts_a_collected_transport() -> None:
    served: list[Any] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(served), "127.0.0.1", 0)
    with await client(server) as sock:
        assert await echoed(sock)
        served[0].transport.pause_reading()
        served[0].transport.close()
        server.close()
        await server.wait_closed()
        assert served[0].count("connection_lost") == 1


def test_wait_closed_equals_the_standard_loop(both_factories: Any) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        served: list[Any] = []
        trace: list[Any] = []
        server = await loop.create_server(lambda: Echo(served), "127.0.0.1", 0)
        with await client(server) as sock:
            await echoed(sock)

            async def wait(name: str) -> None:
                await server.wait_closed()
                trace.append(name)

            tasks = [loop.create_task(wait("before close"))]
            await settle()
            trace.append("close")
            server.close()
            tasks.append(loop.create_task(wait("after close")))
            await settle()
            trace.append("client gone")
            sock.close()
            await served[0].lost()
            await asyncio.gather(*tasks)
            return trace

    compare(both_factories, scenario)


@py313
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
@looped
async def test_ending_the_clients(how: str) -> None:
    served: list[Any] = []
    loop = asyncio.get_running_loop()
    server: Any = await loop.create_server(lambda: Echo(served), "127.0.0.1", 0)
    getattr(server, how)()
    with await client(server) as one, await client(server) as two:
        assert await echoed(one)
        assert await echoed(two)
        for protocol in served:
            protocol.transport.pause_reading()
            while protocol.transport.get_write_buffer_size() == 0:
                protocol.transport.write(bytes(1 << 16))
        server.close()
        getattr(server, how)()
        assert all(protocol.transport.is_closing() for protocol in served)
        if how == "close_clients":  # it flushes
            await settle()
            assert not any(p.count("connection_lost") for p in served)
            for sock in (one, two):
                while await loop.sock_recv(sock, 1 << 20):
                    pass
        for protocol in served:
            assert await protocol.lost() is None
        await server.wait_closed()


@py313
@looped
async def test_clients_are_listed() -> None:
    served: list[Any] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Echo(served), "127.0.0.1", 0
    )
    clients: Any = server._clients  # type: ignore[attr-defined]
    socks = [await client(server) for _ in range(3)]
    for sock in socks:
        assert await echoed(sock)
    transports = [protocol.transport for protocol in served]
    assert len(clients) == 3
    assert set(clients) == set(transports)
    # while somebody iterates, WeakSet (before 3.14) keeps what dies on a list
    iterator = iter(clients)
    assert next(iterator) in transports
    transports[0].close()
    await served[0].lost()
    assert transports[0] not in clients
    iterator.close()
    assert len(clients) == 2
    sock = await client(server)
    assert await echoed(sock)
    assert len(clients) == 3
    server.close()
    for left in (*socks, sock):
        left.close()
    await asyncio.wait_for(server.wait_closed(), 10)
    assert len(clients) == 0


@py313
@pytest.mark.parametrize("where", ["class", "instance", "set class", "set"])
@looped
async def test_patched_clients(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Clients(weakref.WeakSet[Any]):
        def add(self, item: Any) -> None:
            calls.append("add")
            super().add(item)

        def discard(self, item: Any) -> None:
            calls.append("discard")
            super().discard(item)

    def noted(function: Any, name: str) -> Any:
        def call(*args: Any) -> Any:
            if not isinstance(args[0], weakref.WeakSet) or args[0] is clients:
                calls.append(name)
            return function(*args)

        return call

    served: list[Any] = []
    server: Any = await asyncio.get_running_loop().create_server(
        lambda: Echo(served), "127.0.0.1", 0
    )
    (await client(server)).close()  # all is as usual until here
    while not served:
        await asyncio.sleep(0)
    await served[0].lost()
    clients = server._clients
    if where == "set":
        server._clients = Clients()
    patched: Any = {
        "class": type(server),
        "instance": server,
        "set class": weakref.WeakSet,
    }.get(where)
    if patched is not None:
        names = ("add", "discard") if where == "set class" else ("_attach", "_detach")
        for name, told in zip(names, ("add", "discard"), strict=True):
            monkeypatch.setattr(patched, name, noted(getattr(patched, name), told))
    sock = await client(server)
    assert await echoed(sock)
    assert calls == ["add"]
    assert len(server._clients) == 1
    sock.close()
    await served[1].lost()
    await settle()
    assert calls == ["add", "discard"]
    assert len(server._clients) == 0
    monkeypatch.undo()
    server.close()


@looped
async def test_clients_in_the_backlog_when_the_server_closes() -> None:
    """They are reset, no factory is called, nothing is left behind."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    with await client(server) as sock:
        server.close()
        await settle()
        with contextlib.suppress(ConnectionResetError):
            assert await loop.sock_recv(sock, 10) == b""
    await server.wait_closed()


def test_close_inside_the_factory(run: Any, loop_name: str, faults: Any) -> None:
    """Since 3.12 a closed server takes no connection; nothing hangs or is left."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(False)  # where the standard code runs
        served: list[Any] = []

        def factory() -> Any:
            server.close()
            return Echo(served)

        server = await loop.create_server(factory, "127.0.0.1", 0)
        with await client(server):
            while not served:
                await settle(1)
            await settle()
            gc.collect()
        assert len(served) == 1
        if served[0].transport is not None:
            await served[0].lost()

    run(main())
    if loop_name == "asyncio":  # a half-made transport is left to the collector
        faults.take_unraisable()


@looped
async def test_close_inside_connection_made() -> None:
    loop = asyncio.get_running_loop()
    served: list[Any] = []

    def made(protocol: Any, transport: Any) -> None:
        server.close()
        transport.write(b"hello")
        transport.close()

    def factory() -> Any:
        served.append(Recorder(connection_made=made))
        return served[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    with await client(server) as sock:
        assert await loop.sock_recv(sock, 10) == b"hello"
        assert await loop.sock_recv(sock, 10) == b""
    await served[0].lost()
    await server.wait_closed()


def test_loop_closed_with_an_open_server(loop_factory: Any, faults: Any) -> None:
    loop = loop_factory()
    server = loop.run_until_complete(loop.create_server(Recorder, "127.0.0.1", 0))
    sock = server.sockets[0]
    loop.close()
    assert sock.fileno() != -1
    for found in server._sockets:
        found.close()
    del server, sock, found
    faults.take_unraisable()


# --- hosts and ports ---


@looped
async def test_port_zero_and_several_hosts() -> None:
    loop = asyncio.get_running_loop()
    served: list[Any] = []
    hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    if sys.platform == "darwin":
        hosts = ["127.0.0.1", "127.0.0.1"]
    server = await loop.create_server(lambda: Echo(served), hosts, 0)
    names = sorted(sock.getsockname()[0] for sock in server.sockets)
    assert names == sorted(set(hosts))  # a host that comes twice is bound once
    assert all(sock.getsockname()[1] for sock in server.sockets)
    for index in range(len(names)):
        with await client(server, index) as sock:
            assert await echoed(sock)
    for protocol in served:
        await protocol.lost()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("host", [None, "", "localhost", ("localhost",)])
def test_hosts_equal_the_standard_ones(both_factories: Any, host: Any) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, host, 0)
        found = sorted(
            (sock.family.name, sock.getsockname()[0]) for sock in server.sockets
        )
        server.close()
        await server.wait_closed()
        return found

    assert compare(both_factories, scenario)


@looped
async def test_ipv6_and_ipv4_on_the_same_port() -> None:
    needs_ipv6()
    loop = asyncio.get_running_loop()
    for attempt in range(10):
        first = await loop.create_server(Recorder, "::", 0)
        port = first.sockets[0].getsockname()[1]
        assert first.sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        try:
            second = await loop.create_server(Recorder, "0.0.0.0", port)
        except OSError:  # another process has it over IPv4
            assert attempt < 9
        else:
            second.close()
            break
        finally:
            first.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@looped
async def test_family(family: socket.AddressFamily) -> None:
    if family == socket.AF_INET6 and not has_ipv6():
        needs_ipv6()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, None, 0, family=family)
    assert {sock.family for sock in server.sockets} == {family}
    server.close()


@looped
async def test_socket_options() -> None:
    loop = asyncio.get_running_loop()

    def option(server: Any, name: int) -> bool:
        return bool(server.sockets[0].getsockopt(socket.SOL_SOCKET, name))

    default = await loop.create_server(Recorder, "127.0.0.1", 0)
    assert option(default, socket.SO_REUSEADDR)
    assert not option(default, socket.SO_REUSEPORT)
    assert not option(default, socket.SO_KEEPALIVE)
    default.close()
    without = await loop.create_server(Recorder, "127.0.0.1", 0, reuse_address=False)
    assert not option(without, socket.SO_REUSEADDR)
    without.close()
    first = await loop.create_server(Recorder, "127.0.0.1", 0, reuse_port=True)
    assert option(first, socket.SO_REUSEPORT)
    port = first.sockets[0].getsockname()[1]
    second = await loop.create_server(Recorder, "127.0.0.1", port, reuse_port=True)
    assert second.sockets[0].getsockname()[1] == port
    first.close()
    second.close()


@py313
@looped
async def test_keep_alive() -> None:
    loop = asyncio.get_running_loop()
    served: list[Any] = []
    server: Any = await loop.create_server(  # type: ignore[call-arg]
        lambda: Echo(served), "127.0.0.1", 0, keep_alive=True
    )
    alive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert server.sockets[0].getsockopt(*alive)
    with await client(server) as sock:
        assert await echoed(sock)
        assert served[0].transport.get_extra_info("socket").getsockopt(*alive)
    await served[0].lost()
    server.close()


@looped
async def test_no_delay_is_on() -> None:
    loop = asyncio.get_running_loop()
    served: list[Any] = []
    server = await loop.create_server(lambda: Echo(served), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    near = Recorder()
    await loop.create_connection(lambda: near, *address)
    near.transport.write(b"x")
    await near.got(1)
    for protocol in (near, served[0]):
        sock = protocol.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        protocol.transport.abort()
        await protocol.lost()
    server.close()


@looped
async def test_backlog() -> None:
    """What one turn accepts is bounded by the backlog; nobody is lost."""
    loop = asyncio.get_running_loop()
    served: list[Any] = []
    server = await loop.create_server(lambda: Echo(served), "127.0.0.1", 0, backlog=1)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(await client(server)) for _ in range(2)]
        for sock in clients:
            assert await echoed(sock)
    for protocol in served:
        await protocol.lost()
    assert len(served) == 2
    server.close()


@pytest.mark.parametrize("backlog", [1, 1 << 31, True])
def test_odd_backlogs_equal_the_standard_ones(
    both_factories: Any, faults: Any, backlog: int
) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        served: list[Any] = []
        try:
            server = await loop.create_server(
                lambda: Echo(served), "127.0.0.1", 0, backlog=backlog
            )
        except OverflowError as exc:
            return str(exc)
        with socket.socket() as sock:
            sock.connect(server.sockets[0].getsockname())
            sock.setblocking(False)
            await loop.sock_sendall(sock, b"echo")
            reading = loop.create_task(loop.sock_recv(sock, 10))
            await settle(5)
            found = reading.result() if reading.done() else "not accepted"
            reading.cancel()
        server.close()
        for protocol in served:
            await protocol.lost()
        await settle(1)
        return found

    compare(both_factories, scenario)
    faults.take_unraisable()


@only_asynccore  # before 3.15 the standard loop accepts nobody, and spins
@looped
async def test_backlog_zero() -> None:
    loop = asyncio.get_running_loop()
    served: list[Any] = []
    server = await loop.create_server(lambda: Echo(served), "127.0.0.1", 0, backlog=0)
    for _ in range(3):
        with await client(server) as sock:
            assert await echoed(sock)
    for protocol in served:
        assert await protocol.lost() is None
    server.close()


# --- sock= ---


@pytest.mark.parametrize("bound", [True, False])
@looped
async def test_sock(bound: bool) -> None:
    loop = asyncio.get_running_loop()
    served: list[Any] = []
    sock = socket.socket()
    if bound:
        sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(lambda: Echo(served), sock=sock)
    assert sock.getblocking() is False
    assert server.sockets[0].fileno() == sock.fileno()
    with await client(server) as peer:
        assert await echoed(peer)
    await served[0].lost()
    server.close()
    assert sock.fileno() == -1
    await server.wait_closed()


@only_asynccore  # the standard loop never polls the next owner of the number
@looped
async def test_user_closes_the_listening_socket() -> None:
    """The user closes sock= under the server, and its number is reused."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(Recorder, sock=sock)
    taken = socket.socket(fileno=sock.detach())
    with contextlib.suppress(OSError, ValueError):
        server.close()
    taken.close()
    await settle()
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        two.send(b"works")
        assert await loop.sock_recv(one, 10) == b"works"


ARGUMENTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "ssl is a bool": {"host": "127.0.0.1", "port": 0, "ssl": True},
    "handshake without ssl": {"port": 0, "ssl_handshake_timeout": 1},
    "shutdown without ssl": {"port": 0, "ssl_shutdown_timeout": 1},
    "host of a wrong type": {"host": 1, "port": 0},
    "port of a wrong type": {"host": "127.0.0.1", "port": "no such service"},
    "negative port": {"host": "127.0.0.1", "port": -1},
    "port too large": {"host": "127.0.0.1", "port": 70000},
    "unknown keyword": {"host": "127.0.0.1", "port": 0, "unknown": 1},
    "huge backlog": {"host": "127.0.0.1", "port": 0, "backlog": 1 << 40},
    "fractional backlog": {"host": "127.0.0.1", "port": 0, "backlog": 1.5},
    "wrong backlog": {"host": "127.0.0.1", "port": 0, "backlog": "many"},
    "empty list": {"host": [], "port": 0},
    "address of nobody": {"host": "203.0.113.1", "port": 0},
    "wrong family": {"host": "127.0.0.1", "port": 0, "family": socket.AF_INET6},
    "path as host": {"host": b"127.0.0.1", "port": 0},
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_arguments_equal_the_standard_ones(
    both_factories: Any, faults: Any, name: str
) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(Recorder, **ARGUMENTS[name])
        except (Exception, ExceptionGroup) as exc:
            text = str(exc) if name != "unknown keyword" else ""
            return type(exc).__name__, text
        server.close()
        return "server", len(server.sockets)

    compare(both_factories, scenario)
    for text in faults.take_unraisable():  # the standard code leaves sockets
        assert "unclosed <socket.socket" in text


SOCKETS: dict[str, Any] = {
    "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "closed": lambda: (lambda s: (s.close(), s)[1])(socket.socket()),
    "pair": lambda: socket.socketpair()[0],
    "number": lambda: 5,
    "object": object,
}


@pytest.mark.parametrize("name", SOCKETS)
def test_wrong_sockets_equal_the_standard_ones(
    both_factories: Any, faults: Any, name: str
) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        sock = SOCKETS[name]()
        try:
            server = await loop.create_server(Recorder, sock=sock)
        except Exception as exc:
            text = re.sub(r"fd=-?\d+|0x[0-9a-f]+", "N", str(exc))
            return type(exc).__name__, text
        else:
            server.close()
            return "server"
        finally:
            if isinstance(sock, socket.socket):
                sock.close()

    compare(both_factories, scenario)
    faults.take_unraisable()
    faults.take_log()


@looped
async def test_sock_and_host_together() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        text = "host/port and sock can not be specified at the same time"
        with pytest.raises(ValueError, match=text):
            await loop.create_server(Recorder, "127.0.0.1", 0, sock=sock)


@looped
async def test_ssl_socket_is_refused() -> None:
    loop = asyncio.get_running_loop()
    context = certificates().server_context()
    plain = socket.socket()
    text = "Socket cannot be of type SSLSocket"
    with context.wrap_socket(plain, server_side=True) as sock:
        with pytest.raises(TypeError, match=text):
            await loop.create_server(Recorder, sock=sock)
        assert sock.fileno() != -1


@looped
async def test_address_in_use() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = rf"error while attempting to bind on address \('127.0.0.1', {port}\): "
    with pytest.raises(OSError, match=text):
        await loop.create_server(Recorder, "127.0.0.1", port)
    server.close()


@looped
async def test_protocol_number_of_the_listening_socket() -> None:
    """MPTCP's has nine bits; its connections are no plain TCP ones."""
    loop = asyncio.get_running_loop()
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    except OSError:
        pytest.skip("a kernel without MPTCP")
    sock.bind(("127.0.0.1", 0))
    served = Recorder()
    server = await loop.create_server(lambda: served, sock=sock)
    with await client(server):
        await served.made()
        near = served.transport.get_extra_info("socket")
        assert near.proto == 262
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        served.transport.abort()
        await served.lost()
    server.close()


@only_asynccore  # the standard loop has a task in its place
@looped
async def test_factory_that_sets_its_connection_up_itself() -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(False)  # else there is such a task here, too
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        if len(made) == 1:
            (accepted,) = (o for o in gc.get_objects() if type(o) is _core.Accepted)
            accepted()
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    with await client(server):
        await settle()
        assert len(made) == 2
        assert [protocol.count("connection_made") for protocol in made] == [0, 1]
        made[1].transport.abort()
        await made[1].lost()
    server.close()


# --- unix ---


@pytest.mark.parametrize("form", [str, os.fsencode, pathlib.Path])
def test_unix_server_paths(run: Any, folder: pathlib.Path, form: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        served: list[Any] = []
        path = folder / "server"
        server = await loop.create_unix_server(lambda: Echo(served), form(path))
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert server.sockets[0].getsockname() == str(path)
        assert server.sockets[0].family == socket.AF_UNIX
        with await client(server) as sock:
            assert await echoed(sock)
        await served[0].lost()
        server.close()
        await server.wait_closed()
        assert path.exists() == (sys.version_info < (3, 13))

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
@pytest.mark.parametrize("form", [str, os.fsencode])
@looped
async def test_abstract_unix_server(form: Any) -> None:
    loop = asyncio.get_running_loop()
    served: list[Any] = []
    name = form(f"\0asynccore-test-{os.getpid()}")
    server = await loop.create_unix_server(lambda: Echo(served), name)
    assert server.sockets[0].getsockname() == os.fsencode(name)
    near = Recorder()
    await loop.create_unix_connection(lambda: near, name)
    near.transport.write(b"abstract")
    assert await near.got(8) == b"abstract"
    near.transport.close()
    await near.lost()
    await served[0].lost()
    server.close()
    await server.wait_closed()


def test_stale_socket_is_replaced(run: Any, folder: pathlib.Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = folder / "server"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        assert path.exists()
        served: list[Any] = []
        server = await loop.create_unix_server(lambda: Echo(served), path)
        with await client(server) as sock:
            assert await echoed(sock)
        await served[0].lost()
        server.close()

    run(main())


def test_file_that_is_no_socket_is_left_alone(run: Any, folder: pathlib.Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = folder / "file"
        path.write_text("mine")
        text = re.escape(f"Address {str(path)!r} is already in use")
        with pytest.raises(OSError, match=text):
            await loop.create_unix_server(Recorder, path)
        assert path.read_text() == "mine"

    run(main())


@py313
@pytest.mark.parametrize("cleanup", [True, False])
def test_cleanup_socket(run: Any, folder: pathlib.Path, cleanup: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = folder / "server"
        server = await loop.create_unix_server(  # type: ignore[call-arg]
            Recorder, path, cleanup_socket=cleanup
        )
        server.close()
        assert path.exists() == (not cleanup)

    run(main())


@py313
def test_cleanup_leaves_a_newer_socket(run: Any, folder: pathlib.Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = folder / "server"
        first = await loop.create_unix_server(Recorder, path)
        second = await loop.create_unix_server(Recorder, path)
        first.close()
        assert path.exists()
        second.close()
        assert not path.exists()

    run(main())


@py313
def test_cleanup_after_the_path_was_removed(run: Any, folder: pathlib.Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = folder / "server"
        server = await loop.create_unix_server(Recorder, path)
        path.unlink()
        server.close()
        await server.wait_closed()
        assert not path.exists()

    run(main())


def test_unix_server_on_a_given_socket(run: Any, folder: pathlib.Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        served: list[Any] = []
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(folder / "server"))
        server = await loop.create_unix_server(lambda: Echo(served), sock=sock)
        with await client(server) as peer:
            assert await echoed(peer)
        await served[0].lost()
        server.close()
        assert sock.fileno() == -1

    run(main())


UNIX_ARGUMENTS: dict[str, Any] = {
    "nothing": lambda folder: {},
    "ssl is a bool": lambda folder: {"path": folder / "s", "ssl": True},
    "handshake without ssl": lambda folder: {"path": "s", "ssl_handshake_timeout": 1},
    "shutdown without ssl": lambda folder: {"path": "s", "ssl_shutdown_timeout": 1},
    "path too long": lambda folder: {"path": str(folder / ("x" * 200))},
    "no such folder": lambda folder: {"path": folder / "none" / "s"},
    "wrong type": lambda folder: {"path": 5},
    "empty": lambda folder: {"path": ""},
    "null inside": lambda folder: {"path": f"{folder}/a\0b"},
    "unknown keyword": lambda folder: {"path": folder / "s", "unknown": 1},
}


@pytest.mark.parametrize("name", UNIX_ARGUMENTS)
def test_wrong_unix_arguments_equal_the_standard_ones(
    both_factories: Any, faults: Any, folder: pathlib.Path, name: str
) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_unix_server(
                Recorder, **UNIX_ARGUMENTS[name](folder)
            )
        except Exception as exc:
            text = str(exc) if name != "unknown keyword" else ""
            return type(exc).__name__, text
        server.close()
        return "server"

    compare(both_factories, scenario)
    faults.take_unraisable()
    faults.take_log()


@looped
async def test_unix_server_refuses_a_tcp_socket() -> None:
    loop = asyncio.get_running_loop()
    with (
        socket.socket() as sock,
        pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"),
    ):
        await loop.create_unix_server(Recorder, sock=sock)


# --- what the standard Server's user may look at ---


@looped
async def test_sockets_are_usable_but_not_to_be_read() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    sock = server.sockets[0]
    assert sock.type == socket.SOCK_STREAM
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    assert not hasattr(sock, "accept")
    with pytest.raises(ValueError):
        sock.settimeout(1)
    server.close()


@only_asynccore
@looped
async def test_a_client_whose_factory_failed_is_closed_without_the_collector() -> None:
    """The standard loop leaves it to the collector, and the client waits."""
    loop = asyncio.get_running_loop()
    loop.set_debug(False)  # where the standard code runs

    def factory() -> Any:
        raise ValueError("hostile")

    server = await loop.create_server(factory, "127.0.0.1", 0)
    gc.disable()
    try:
        with await client(server) as sock, contextlib.suppress(ConnectionResetError):
            assert await loop.sock_recv(sock, 10) == b""
    finally:
        gc.enable()
        server.close()


def test_outcome_of_methods_with_wrong_arguments(both_factories: Any) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        server: Any = await loop.create_server(Recorder, "127.0.0.1", 0)
        found = [
            outcome(server.close, 1),
            outcome(server.get_loop, 1),
            outcome(server.is_serving, x=1),
            outcome(setattr, server, "sockets", ()),
        ]
        server.close()
        return found

    compare(both_factories, scenario)


def test_exit_of_detach_ends_the_run(loop: asyncio.AbstractEventLoop) -> None:
    """A signal may raise wherever Python code runs, here after connection_lost."""
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    raised: BaseException = ZeroDivisionError()

    async def lose_one(server: Any) -> None:
        peer = await client(server)
        await protocol.made()
        original = server._detach

        def detach(*args: Any) -> None:
            original(*args)
            raise raised

        server._detach = detach
        peer.close()
        await protocol.lost()
        await settle()

    for raised in (ZeroDivisionError(), SystemExit(3)):
        protocol = Recorder()
        serving = loop.create_server(lambda p=protocol: p, "127.0.0.1", 0)
        server = loop.run_until_complete(serving)
        if isinstance(raised, SystemExit):
            with pytest.raises(SystemExit) as caught:
                loop.run_until_complete(lose_one(server))
            assert caught.value is raised
        else:
            loop.run_until_complete(lose_one(server))
            assert [context["exception"] for context in reports] == [raised]
        server.close()
        loop.run_until_complete(settle())


@pytest.mark.parametrize("kind", ["the same", "with a context", "from None"])
def test_contexts_of_what_detach_raises(
    loop: asyncio.AbstractEventLoop, kind: str
) -> None:
    """It is raised in a `finally`, behind what connection_lost() has raised."""
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
    lost = ZeroDivisionError()
    handled: list[Any] = []

    def fail(*_: Any) -> None:
        raise lost

    async def lose_one() -> None:
        protocol = Recorder(connection_lost=fail)
        server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
        peer = await client(server)
        await protocol.made()
        original: Any = server._detach

        def detach(*args: Any) -> None:
            original(*args)
            handled.append(sys.exc_info()[1])
            if kind == "the same":
                raise lost
            if kind == "from None":
                raise TypeError from None
            try:
                raise KeyError
            except KeyError as exc:
                raise TypeError from exc

        server._detach = detach
        peer.close()
        await protocol.lost()
        await settle()
        server.close()
        await settle()

    loop.run_until_complete(lose_one())
    assert handled == [lost]
    (exc,) = reports
    chain = []
    while exc is not None and len(chain) < 5:
        chain.append(type(exc))
        exc = exc.__context__
    assert (
        chain
        == {
            "the same": [ZeroDivisionError],
            "with a context": [TypeError, KeyError, ZeroDivisionError],
            "from None": [TypeError, ZeroDivisionError],
        }[kind]
    )
