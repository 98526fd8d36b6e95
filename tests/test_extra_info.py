"""get_extra_info: names and sockets as the standard loop gives them."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from asyncio import trsock
from typing import Any

import pytest

from support import (
    LINKS,
    PLAIN_LINKS,
    SIDES,
    WIRES,
    Recorder,
    certificates,
    compare,
    link,
    looped,
    needs_ipv6,
    wire,
)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_names(kind: str, side: str) -> None:
    async with wire(Recorder(), kind, side) as held:
        transport, peer = held.transport, held.peer.sock
        assert transport.get_extra_info("sockname") == peer.getpeername()
        assert transport.get_extra_info("peername") == peer.getsockname()
        sock = transport.get_extra_info("socket")
        assert transport.get_extra_info("sockname") == sock.getsockname()
        assert transport.get_extra_info("peername") == sock.getpeername()
        if kind == "tcp6":
            assert len(transport.get_extra_info("peername")) == 4


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", WIRES)
@looped
async def test_transport_socket(kind: str, side: str) -> None:
    async with wire(Recorder(), kind, side) as held:
        transport = held.transport
        sock = transport.get_extra_info("socket")
        assert type(sock) is trsock.TransportSocket
        assert transport.get_extra_info("socket") is sock
        families = {"tcp": socket.AF_INET, "tcp6": socket.AF_INET6}
        assert sock.family == families.get(kind, socket.AF_UNIX)
        assert sock.type == socket.SOCK_STREAM
        assert f"fd={sock.fileno()}," in repr(sock)
        assert sock.gettimeout() == 0
        assert os.get_inheritable(sock.fileno()) is False
        with pytest.raises(ValueError, match="settimeout"):
            sock.settimeout(1)
        with pytest.raises(ValueError, match="setblocking"):
            sock.setblocking(True)
        copy = sock.dup()
        assert type(copy) is socket.socket
        copy.close()
        held.peer.send_now(b"alive")
        assert await held.protocol.got(5) == b"alive"
        transport.close()
        await held.protocol.lost()
        assert sock.fileno() == -1
        assert transport.get_extra_info("socket") is sock


@looped
async def test_socket_options_work() -> None:
    async with wire(Recorder()) as held:
        sock = held.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        sock.shutdown(socket.SHUT_WR)
        assert await held.peer.recv_all() == b""


@looped
async def test_socket_made_late_is_the_transport_s_own() -> None:
    """Looked up in any state; the number is closed once."""
    for moment in ("before", "after close", "after the end"):
        async with wire(Recorder()) as held:
            transport = held.transport
            if moment == "before":
                assert transport.get_extra_info("socket").fileno() > 0
            transport.close()
            if moment == "after close":
                assert transport.get_extra_info("socket").fileno() > 0
            await held.protocol.lost()
            one, two = socket.socketpair()  # takes the number that became free
            with one, two:
                if moment == "after the end":
                    assert transport.get_extra_info("socket").fileno() == -1
                one.send(b"untouched")
                assert two.recv(10) == b"untouched"


@looped
async def test_socket_kept_longer_than_the_transport() -> None:
    async with wire(Recorder()) as held:
        sock = held.transport.get_extra_info("socket")
        held.transport.close()
        await held.protocol.lost()
        held.transport = held.protocol.transport = None
        held.protocol.calls[:] = [("connection_lost", None)]
        assert sock.fileno() == -1
        assert "fd=-1" in repr(sock) or "closed" in repr(sock)
        with pytest.raises(OSError, match="Bad file descriptor"):
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        held.transport = Recorder()  # the helper asks it for nothing


@pytest.mark.parametrize("kind", PLAIN_LINKS)
@looped
async def test_unknown_names_and_defaults(kind: str) -> None:
    async with link(kind, Recorder(), Recorder()) as pair:
        for transport in (pair.near, pair.far):
            assert transport.get_extra_info("unknown") is None
            assert transport.get_extra_info("unknown", 5) == 5
            assert transport.get_extra_info("unknown", default=6) == 6
            assert transport.get_extra_info("sslcontext") is None
            assert transport.get_extra_info(name="peername") is not None
            with pytest.raises(TypeError):
                transport.get_extra_info()
            with pytest.raises(TypeError):
                transport.get_extra_info([])


@pytest.mark.parametrize("kind", [k for k in LINKS if k not in PLAIN_LINKS])
@looped
async def test_tls_extra_info(kind: str) -> None:
    import ssl

    async with link(kind, Recorder(), Recorder()) as pair:
        for transport in (pair.near, pair.far):
            found = transport.get_extra_info("ssl_object")
            assert isinstance(found, ssl.SSLObject)
            assert isinstance(transport.get_extra_info("sslcontext"), ssl.SSLContext)
            assert transport.get_extra_info("cipher") == found.cipher()
            assert transport.get_extra_info("compression") is None
            assert type(transport.get_extra_info("socket")) is trsock.TransportSocket
        certificate = pair.near.get_extra_info("peercert")
        names = dict(pair for rdn in certificate["subject"] for pair in rdn)
        assert names["commonName"] == certificates().server.stem
        assert not pair.far.get_extra_info("peercert")
        if kind != "tls_unix":
            name = pair.near.get_extra_info("sockname")
            assert pair.far.get_extra_info("peername") == name


UNIX_NAMES = ["unnamed", "path"]
if sys.platform == "linux":
    UNIX_NAMES += ["abstract", "abstract with null", "autobind"]


@pytest.mark.parametrize("client", UNIX_NAMES)
@pytest.mark.parametrize("server", [name for name in UNIX_NAMES if name != "unnamed"])
def test_unix_names_equal_the_standard_ones(
    both_factories: Any, server: str, client: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def address(kind: str, which: str) -> Any:
            pid = os.getpid()
            return {
                "path": f"{folder}/{which}",
                "abstract": f"\0asynccore-{which}-{pid}",
                "abstract with null": f"\0asynccore\0{which}-{pid}\0",
                "autobind": "",
            }[kind]

        async def scenario() -> Any:
            loop = asyncio.get_running_loop()
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(address(server, "server"))
            bound = listening.getsockname()
            far, near = Recorder(), Recorder()
            made = await loop.create_unix_server(lambda: far, sock=listening)
            sock = socket.socket(socket.AF_UNIX)
            if client != "unnamed":
                sock.bind(address(client, "client"))
            sock.connect(bound)
            own = sock.getsockname()
            await loop.create_unix_connection(lambda: near, sock=sock)
            await far.made()
            found = []
            for protocol in (near, far):
                for name in ("sockname", "peername"):
                    value = protocol.transport.get_extra_info(name)
                    found.append((type(value).__name__, value))
            near.transport.close()
            await near.lost()
            await far.lost()
            made.close()
            for kind in ("server", "client"):
                if os.path.exists(f"{folder}/{kind}"):
                    os.unlink(f"{folder}/{kind}")
            # the kernel chooses the name of an autobound socket
            return [
                (kind, {bytes_of(bound): "B", bytes_of(own): "O"}[bytes_of(value)])
                if "autobind" in (server, client)
                else (kind, value)
                for kind, value in found
            ]

        compare(both_factories, scenario)


def bytes_of(name: Any) -> bytes:
    return name.encode() if isinstance(name, str) else bytes(name)


@looped
async def test_peer_that_is_gone_before_it_is_accepted() -> None:
    """The kernel still hands it over; peername is what accept() said."""
    loop = asyncio.get_running_loop()
    far = Recorder()
    server = await loop.create_server(lambda: far, "127.0.0.1", 0)
    client = socket.create_connection(server.sockets[0].getsockname())
    name = client.getsockname()
    client.close()
    transport = await far.made()
    assert transport.get_extra_info("peername") == name
    assert await far.lost() is None
    server.close()


@looped
async def test_scope_id_of_a_link_local_peer() -> None:
    needs_ipv6()
    async with wire(Recorder(), "tcp6") as held:
        name = held.transport.get_extra_info("peername")
        assert name == held.peer.sock.getsockname()
        assert name[2:] == (0, 0)


def test_names_of_a_socket_that_is_not_connected_equal_the_standard_ones(
    both_factories: Any, faults: Any
) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        protocol = Recorder()
        sock = socket.socket()
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        found = [transport.get_extra_info(name) for name in ("sockname", "peername")]
        transport.abort()
        await protocol.lost()
        return found

    compare(both_factories, scenario)


@pytest.mark.parametrize("place", ["BaseTransport", "Transport"])
@looped
async def test_replaced_method_of_a_base_is_called(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(transport: Any, name: str, default: Any = None) -> Any:
        return type(transport).__mro__, name, default

    client = Recorder()
    async with link("tcp", client, Recorder()):
        transport = client.transport
        with monkeypatch.context() as patch:
            patch.setattr(getattr(asyncio, place), "get_extra_info", replaced)
            assert transport.get_extra_info("sockname", default=1) == (
                type(transport).__mro__,
                "sockname",
                1,
            )
        assert transport.get_extra_info("peername") is not None
