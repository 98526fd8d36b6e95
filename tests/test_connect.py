"""create_connection, create_unix_connection, connect_accepted_socket."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pathlib
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from support import (
    Recorder,
    certificates,
    compare,
    has_ipv6,
    looped,
    refused_port,
    settle,
)


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A short path: a unix address has room for some 100 characters."""
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name)


def listening(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.bind((host, port))
    sock.listen()
    sock.settimeout(10)
    return sock


async def check(transport: Any, protocol: Recorder, there: socket.socket) -> None:
    """The transport works both ways; ends it."""
    there.setblocking(False)
    transport.write(b"ping")
    loop = asyncio.get_running_loop()
    assert await loop.sock_recv(there, 10) == b"ping"
    there.send(b"pong")
    assert await protocol.got(4) == b"pong"
    transport.close()
    assert await protocol.lost() is None
    there.close()


def patch_addresses(loop: Any, addresses: list[Any]) -> list[Any]:
    """Makes the loop's name service answer `addresses`; returns the questions."""
    questions = []

    async def getaddrinfo(host: Any, port: Any, **kwargs: Any) -> list[Any]:
        questions.append((host, port))
        infos = []
        for family, address in addresses:
            infos.append((family, socket.SOCK_STREAM, 6, "", (address[0], address[1])))
        return infos

    loop.getaddrinfo = getaddrinfo
    return questions


# --- create_connection to a host ---


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
@looped
async def test_host_and_port(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    loop = asyncio.get_running_loop()
    with listening("::1" if host == "::1" else "127.0.0.1") as sock:
        protocol = Recorder()
        transport, returned = await loop.create_connection(
            lambda: protocol, host, sock.getsockname()[1]
        )
        assert returned is protocol
        assert protocol.names() == ["connection_made"]
        await check(transport, protocol, sock.accept()[0])


@looped
async def test_refused() -> None:
    loop = asyncio.get_running_loop()
    port = refused_port()
    text = (
        rf"\[Errno {errno.ECONNREFUSED}\] Connect call failed \('127.0.0.1', {port}\)"
    )
    with pytest.raises(ConnectionRefusedError, match=text):
        await loop.create_connection(Recorder, "127.0.0.1", port)


@looped
async def test_exception_of_a_refused_connection_is_in_no_list() -> None:
    """It is freed with its traceback, without the collector."""
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(asyncio.Protocol, "127.0.0.1", refused_port())
    except OSError as refused:
        assert not [to for to in gc.get_referrers(refused) if type(to) is list]
    else:
        pytest.fail("connected")


@looped
async def test_override_of_getaddrinfo_is_honoured() -> None:
    loop: Any = asyncio.get_running_loop()
    with listening() as sock:
        questions = patch_addresses(loop, [(socket.AF_INET, sock.getsockname())])
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, "no.such.host.invalid", 80
        )
        assert questions == [("no.such.host.invalid", 80)]
        await check(transport, protocol, sock.accept()[0])


@looped
async def test_no_addresses() -> None:
    loop: Any = asyncio.get_running_loop()
    patch_addresses(loop, [])
    with pytest.raises(OSError, match=r"getaddrinfo\(\) returned empty list"):
        await loop.create_connection(Recorder, "nobody.invalid", 80)


@looped
async def test_next_address_is_tried() -> None:
    loop: Any = asyncio.get_running_loop()
    with listening() as sock:
        patch_addresses(
            loop,
            [
                (socket.AF_INET, ("127.0.0.1", refused_port())),
                (socket.AF_INET, sock.getsockname()),
            ],
        )
        protocol = Recorder()
        transport, _ = await loop.create_connection(lambda: protocol, "x.invalid", 1)
        await check(transport, protocol, sock.accept()[0])


def test_errors_of_several_addresses_equal_the_standard_ones(
    both_factories: Any,
) -> None:
    ports = [refused_port() for _ in range(2)]

    async def scenario() -> Any:
        loop: Any = asyncio.get_running_loop()
        found: list[Any] = []
        for addresses in (
            [("127.0.0.1", ports[0])],
            [("127.0.0.1", ports[0]), ("127.0.0.1", ports[1])],
            [("127.0.0.1", ports[0]), ("127.0.0.1", ports[0])],
        ):
            patch_addresses(loop, [(socket.AF_INET, a) for a in addresses])
            for extra in ({}, {"happy_eyeballs_delay": 0.001}, {"interleave": 1}):
                try:
                    await loop.create_connection(Recorder, "x.invalid", 1, **extra)
                except OSError as exc:
                    found.append((type(exc).__name__, exc.errno, str(exc)))
        return found

    assert len(compare(both_factories, scenario)) == 9


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
@pytest.mark.parametrize("delay", [None, 0.001])
@looped
async def test_all_errors(delay: float | None) -> None:
    loop: Any = asyncio.get_running_loop()
    ports = [refused_port() for _ in range(3)]
    patch_addresses(loop, [(socket.AF_INET, ("127.0.0.1", port)) for port in ports])
    with pytest.raises(ExceptionGroup, match="create_connection failed") as caught:
        await loop.create_connection(
            Recorder, "x.invalid", 1, all_errors=True, happy_eyeballs_delay=delay
        )
    errors = caught.value.exceptions
    assert [type(exc) for exc in errors] == [ConnectionRefusedError] * 3
    for port, exc in zip(ports, errors, strict=True):
        assert str(port) in str(exc)


def test_interleaved_order_equals_the_standard_one(both_factories: Any) -> None:
    ports = [refused_port() for _ in range(4)]

    async def scenario() -> Any:
        loop: Any = asyncio.get_running_loop()
        found: list[Any] = []
        four = [(socket.AF_INET, ("127.0.0.1", port)) for port in ports[:3]]
        six = [(socket.AF_INET6, ("::1", port)) for port in ports[2:]]
        original = loop.sock_connect

        async def sock_connect(sock: Any, address: Any) -> None:
            tried.append(address[:2])
            await original(sock, address)

        loop.sock_connect = sock_connect
        for interleave in (None, 0, 1, 2, 3):
            tried: list[Any] = []
            patch_addresses(loop, four + six)
            try:
                await loop.create_connection(
                    Recorder, "x.invalid", 1, interleave=interleave
                )
            except OSError as exc:
                found.append(type(exc).__name__)
            found.append(tried)
        return found

    compare(both_factories, scenario)


@looped
async def test_happy_eyeballs_takes_the_first_that_answers() -> None:
    """The first address hangs; the second is tried after the delay and wins."""
    loop: Any = asyncio.get_running_loop()
    with listening() as slow, listening() as sock:
        patch_addresses(
            loop,
            [
                (socket.AF_INET, ("127.0.0.9", slow.getsockname()[1])),
                (socket.AF_INET, sock.getsockname()),
            ],
        )
        original = loop.sock_connect
        cancelled = []

        async def sock_connect(one: Any, address: Any) -> None:
            if address[0] == "127.0.0.9":
                try:
                    await loop.create_future()
                except asyncio.CancelledError:
                    cancelled.append(address)
                    raise
            await original(one, address)

        loop.sock_connect = sock_connect
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, "x.invalid", 1, happy_eyeballs_delay=0.01
        )
        assert transport.get_extra_info("peername") == sock.getsockname()
        assert len(cancelled) == 1
        await check(transport, protocol, sock.accept()[0])


@looped
async def test_happy_eyeballs_skips_the_delay_after_an_error() -> None:
    loop: Any = asyncio.get_running_loop()
    with listening() as sock:
        patch_addresses(
            loop,
            [
                (socket.AF_INET, ("127.0.0.1", refused_port())),
                (socket.AF_INET, sock.getsockname()),
            ],
        )
        protocol = Recorder()
        transport, _ = await loop.create_connection(  # an hour would be too long
            lambda: protocol, "x.invalid", 1, happy_eyeballs_delay=3600
        )
        await check(transport, protocol, sock.accept()[0])


@pytest.mark.parametrize("port", [0, "free"])
@looped
async def test_local_addr(port: Any) -> None:
    loop = asyncio.get_running_loop()
    with listening() as sock:
        wanted = 0 if port == 0 else refused_port()
        protocol = Recorder()
        transport, _ = await loop.create_connection(
            lambda: protocol, *sock.getsockname(), local_addr=("127.0.0.1", wanted)
        )
        name = transport.get_extra_info("sockname")
        assert name[0] == "127.0.0.1"
        assert wanted in (0, name[1])
        there, peer = sock.accept()
        assert peer == name
        await check(transport, protocol, there)


def test_local_addr_errors_equal_the_standard_ones(both_factories: Any) -> None:
    with listening() as sock, listening() as used:

        async def scenario() -> Any:
            loop: Any = asyncio.get_running_loop()
            found = []
            for local in (
                used.getsockname(),
                ("::1", 0),
                ("203.0.113.1", 0),
                ("127.0.0.1",),
                "127.0.0.1",
                5,
                (None, None),
                ("no.such.name.invalid", 0),
            ):
                try:
                    await loop.create_connection(
                        Recorder, *sock.getsockname(), local_addr=local
                    )
                except Exception as exc:
                    found.append((type(exc).__name__, str(exc)))
            return found

        compare(both_factories, scenario)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@looped
async def test_family(family: socket.AddressFamily) -> None:
    loop = asyncio.get_running_loop()
    with listening() as sock:
        port = sock.getsockname()[1]
        protocol = Recorder()
        connect = loop.create_connection(
            lambda: protocol, "127.0.0.1", port, family=family
        )
        if family == socket.AF_INET:
            transport, _ = await connect
            await check(transport, protocol, sock.accept()[0])
        else:
            with pytest.raises(OSError, match=r".+"):
                await connect


@looped
async def test_cancelled_while_connecting() -> None:
    """Nothing is left of it: no transport, no descriptor, no protocol."""
    loop: Any = asyncio.get_running_loop()
    made: list[Any] = []

    async def hang(sock: Any, address: Any) -> None:
        started.set_result(None)
        await loop.create_future()

    started = loop.create_future()
    loop.sock_connect = hang
    task = loop.create_task(
        loop.create_connection(lambda: made.append(1) or Recorder(), "127.0.0.1", 1)
    )
    await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert made == []


@looped
async def test_cancelled_after_the_transport_was_made() -> None:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with there:
        protocol = Recorder()

        def factory() -> Recorder:
            loop.call_soon(task.cancel)
            return protocol

        task = loop.create_task(loop.create_connection(factory, sock=here))
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()
        assert here.fileno() == -1
        assert there.recv(10) == b""
        assert protocol.names() == ["connection_made", "connection_lost"]


@looped
async def test_many_connections_at_once() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Recorder, "127.0.0.1", 0, backlog=100)
    address = server.sockets[0].getsockname()
    protocols = [Recorder() for _ in range(80)]
    await asyncio.gather(
        *(loop.create_connection(lambda p=p: p, *address) for p in protocols)
    )
    for protocol in protocols:
        protocol.transport.close()
    for protocol in protocols:
        assert await protocol.lost() is None
    server.close()
    await server.wait_closed()


# --- wrong arguments ---

ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "nothing": ((), {}),
    "name without ssl": (("127.0.0.1", 1), {"server_hostname": "x"}),
    "handshake without ssl": (("127.0.0.1", 1), {"ssl_handshake_timeout": 1}),
    "shutdown without ssl": (("127.0.0.1", 1), {"ssl_shutdown_timeout": 1}),
    "ssl without a name": ((), {"ssl": True}),
    "port of a wrong type": (("127.0.0.1", "no such service"), {}),
    "negative port": (("127.0.0.1", -1), {}),
    "port too large": (("127.0.0.1", 70000), {}),
    "host of a wrong type": ((5, 1), {}),
    "host with a null": (("127.0.0.1\0", 1), {}),
    "unknown keyword": (("127.0.0.1", 1), {"unknown": 1}),
    "delay of a wrong type": (("127.0.0.1", 1), {"happy_eyeballs_delay": "x"}),
    "interleave of a wrong type": (("127.0.0.1", 1), {"interleave": "x"}),
    "third positional": (("127.0.0.1", 1, 2), {}),
    "ssl of a wrong type": (("127.0.0.1", "LISTENING"), {"ssl": 5}),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_arguments_equal_the_standard_ones(
    both_factories: Any, faults: Any, name: str
) -> None:
    with listening() as sock:
        args, kwargs = ARGUMENTS[name]
        args = tuple(sock.getsockname()[1] if a == "LISTENING" else a for a in args)

        async def scenario() -> Any:
            loop: Any = asyncio.get_running_loop()
            try:
                await loop.create_connection(Recorder, *args, **kwargs)
            except Exception as exc:
                hidden = name in ("unknown keyword", "third positional")
                return type(exc).__name__, "" if hidden else str(exc)
            return "connected"

        compare(both_factories, scenario)
    faults.take_unraisable()
    faults.take_log()


@looped
async def test_small_segments_leave_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nagle's algorithm is off, by a function that may be replaced."""
    loop = asyncio.get_running_loop()
    seen: list[Any] = []
    with listening() as sock:
        for replaced in (False, True):
            if replaced:
                monkeypatch.setattr(asyncio.base_events, "_set_nodelay", seen.append)
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *sock.getsockname()
            )
            here = transport.get_extra_info("socket")
            on = here.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert bool(on) is not replaced
            assert len(seen) == replaced
            transport.close()
            await settle()


@looped
async def test_setsockopt_that_is_replaced_in_the_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    original = socket.socket.setsockopt
    seen: list[Any] = []

    def setsockopt(self: socket.socket, *args: Any) -> None:
        seen.append(args)
        original(self, *args)

    monkeypatch.setattr(socket.socket, "setsockopt", setsockopt)
    with listening() as sock:
        for given in (False, True):
            options: dict[str, Any] = {}
            address = sock.getsockname()
            if given:
                options["sock"] = socket.create_connection(address)
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *(() if given else address), **options
            )
            assert seen.pop() == (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert not seen
            transport.close()
            await settle()


# --- sock= ---


@looped
async def test_connected_socket() -> None:
    loop = asyncio.get_running_loop()
    with listening() as sock:
        here = socket.create_connection(sock.getsockname())
        there, _ = sock.accept()
        protocol = Recorder()
        transport, _ = await loop.create_connection(lambda: protocol, sock=here)
        assert here.gettimeout() == 0
        assert transport.get_extra_info("socket").fileno() == here.fileno()
        assert here.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await check(transport, protocol, there)
        assert here.fileno() == -1


@looped
async def test_socket_object_s_own_close_is_called() -> None:
    class Watched(socket.socket):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    loop = asyncio.get_running_loop()
    plain, there = socket.socketpair()
    with there:
        here = Watched(fileno=plain.detach())
        protocol = Recorder()
        transport, _ = await loop.create_connection(lambda: protocol, sock=here)
        transport.close()
        await protocol.lost()
        await settle(1)
        assert here.closed == 1
        assert here.fileno() == -1
        assert there.recv(1) == b""


SOCKETS: dict[str, Any] = {
    "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "closed": lambda: (lambda s: (s.close(), s)[1])(socket.socket()),
    "number": lambda: 5,
    "text": lambda: "sock",
    "not connected": socket.socket,
}


@pytest.mark.parametrize("name", SOCKETS)
@pytest.mark.parametrize(
    "method",
    ["create_connection", "create_unix_connection", "connect_accepted_socket"],
)
def test_wrong_sockets_equal_the_standard_ones(
    both_factories: Any, faults: Any, method: str, name: str
) -> None:
    async def scenario() -> Any:
        loop: Any = asyncio.get_running_loop()
        sock = SOCKETS[name]()
        protocol = Recorder()
        try:
            transport, _ = await getattr(loop, method)(lambda: protocol, sock=sock)
        except Exception as exc:
            text = re.sub(r"fd=-?\d+|0x[0-9a-f]+", "N", str(exc))
            return type(exc).__name__, text
        else:
            exc = await protocol.lost()
            assert transport.is_closing()
            return protocol.names(), type(exc).__name__
        finally:
            if isinstance(sock, socket.socket):
                sock.close()

    compare(both_factories, scenario)
    faults.take_unraisable()
    faults.take_log()


@looped
async def test_sock_and_host_together() -> None:
    loop = asyncio.get_running_loop()
    text = "host/port and sock can not be specified at the same time"
    with socket.socket() as sock:
        for given in ({"host": "x"}, {"port": 1}, {"host": "x", "port": 1}):
            with pytest.raises(ValueError, match=text):
                await loop.create_connection(Recorder, sock=sock, **given)
        assert sock.fileno() != -1


@pytest.mark.parametrize("method", ["create_connection", "connect_accepted_socket"])
@looped
async def test_ssl_socket_is_refused(method: str) -> None:
    loop = asyncio.get_running_loop()
    context = certificates().client_context()
    text = "Socket cannot be of type SSLSocket"
    with context.wrap_socket(socket.socket(), server_hostname="localhost") as sock:
        with pytest.raises(TypeError, match=text):
            await getattr(loop, method)(Recorder, sock=sock)
        assert sock.fileno() != -1


# --- connect_accepted_socket ---


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@looped
async def test_connect_accepted_socket(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    loop = asyncio.get_running_loop()
    with listening(host) as sock:
        there = socket.create_connection(sock.getsockname()[:2])
        here, peer = sock.accept()
        protocol = Recorder()
        transport, returned = await loop.connect_accepted_socket(lambda: protocol, here)
        assert returned is protocol
        assert transport.get_extra_info("peername") == peer
        await check(transport, protocol, there)
        assert here.fileno() == -1


@looped
async def test_connect_accepted_unix_socket() -> None:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    protocol = Recorder()
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock=here)
    await check(transport, protocol, there)


@pytest.mark.parametrize(
    "given", [{"ssl_handshake_timeout": 1}, {"ssl_shutdown_timeout": 1}]
)
@looped
async def test_accepted_time_outs_need_ssl(given: Any) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        [name] = given
        with pytest.raises(ValueError, match=f"{name} is only meaningful with ssl"):
            await loop.connect_accepted_socket(Recorder, sock, **given)
        assert sock.fileno() != -1


@looped
async def test_accepted_with_ssl() -> None:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    far, near = Recorder(), Recorder()
    await asyncio.gather(
        loop.connect_accepted_socket(
            lambda: far, here, ssl=certificates().server_context()
        ),
        loop.create_connection(
            lambda: near,
            sock=there,
            ssl=certificates().client_context(),
            server_hostname="localhost",
        ),
    )
    near.transport.write(b"hello")
    assert await far.got(5) == b"hello"
    near.transport.close()
    assert await near.lost() is None
    assert await far.lost() is None


# --- unix ---


@pytest.mark.parametrize("form", [str, os.fsencode, pathlib.Path])
def test_unix_connection(run: Any, folder: pathlib.Path, form: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = folder / "server"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            sock.listen()
            protocol = Recorder()
            transport, _ = await loop.create_unix_connection(
                lambda: protocol, form(path)
            )
            await check(transport, protocol, sock.accept()[0])

    run(main())


def test_unix_errors_equal_the_standard_ones(
    both_factories: Any, folder: pathlib.Path
) -> None:
    (folder / "file").write_text("")
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(folder / "stale"))
    stale.close()

    async def scenario() -> Any:
        loop: Any = asyncio.get_running_loop()
        found = []
        for args, kwargs in (
            ((folder / "none",), {}),
            ((folder / "file",), {}),
            ((folder / "stale",), {}),
            ((folder,), {}),
            (("x" * 200,), {}),
            ((5,), {}),
            ((f"{folder}/a\0b",), {}),
            (("",), {}),
            ((), {}),
            (("a",), {"sock": 5}),
            (("a",), {"server_hostname": "x"}),
            (("a",), {"ssl": True}),
            (("a",), {"ssl_handshake_timeout": 1}),
            (("a",), {"ssl_shutdown_timeout": 1}),
            (("a",), {"server_hostname": 5, "ssl": True}),
        ):
            try:
                await loop.create_unix_connection(Recorder, *args, **kwargs)
            except (Exception, AssertionError) as exc:
                found.append((type(exc).__name__, str(exc)))
        return found

    assert len(compare(both_factories, scenario)) == 15


@looped
async def test_unix_connection_on_a_given_socket() -> None:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    protocol = Recorder()
    transport, _ = await loop.create_unix_connection(lambda: protocol, sock=here)
    await check(transport, protocol, there)
    with socket.socket() as tcp:
        text = "A UNIX Domain Stream Socket was expected"
        with pytest.raises(ValueError, match=text):
            await loop.create_unix_connection(Recorder, sock=tcp)
        assert tcp.fileno() != -1
