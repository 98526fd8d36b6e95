"""create_datagram_endpoint and its transport: addresses, sending, receiving."""

from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import os
import socket
import sys
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support import (
    PAUSES_EARLY,
    DatagramRecorder,
    compare,
    has_ipv6,
    looped,
    settle,
)

LOCAL = ("127.0.0.1", 0)
LOOPBACK = socket.if_nametoindex("lo" if sys.platform == "linux" else "lo0")
ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
linux = pytest.mark.skipif(sys.platform != "linux", reason="the abstract namespace")


@contextlib.asynccontextmanager
async def endpoint(
    protocol: DatagramRecorder | None = None, /, **kwargs: Any
) -> AsyncIterator[Any]:
    """The protocol of a new endpoint, on 127.0.0.1 unless told otherwise."""
    loop = asyncio.get_running_loop()
    made = DatagramRecorder() if protocol is None else protocol
    if not kwargs:
        kwargs["local_addr"] = LOCAL
    transport, _ = await loop.create_datagram_endpoint(lambda: made, **kwargs)
    try:
        yield made
    finally:
        if not made.count("connection_lost"):
            transport.abort()
            await made.lost()


def address_of(protocol: DatagramRecorder) -> Any:
    return protocol.transport.get_extra_info("sockname")


# --- what is sent ---

PAYLOADS: dict[str, Any] = {
    "bytes": b"abcd",
    "bytearray": bytearray(b"abcd"),
    "memoryview": memoryview(b"abcd"),
    "memoryview of a bytearray": memoryview(bytearray(b"xabcdx"))[1:5],
    "typed": memoryview(array.array("H", b"abcd")),
    "two dimensions": memoryview(b"abcd").cast("B", (2, 2)),
    "bytes subclass": type("Sub", (bytes,), {})(b"abcd"),
}


@pytest.mark.parametrize("name", PAYLOADS)
@looped
async def test_sendto_takes(name: str) -> None:
    async with endpoint() as one, endpoint() as two:
        assert one.transport.sendto(PAYLOADS[name], address_of(two)) is None
        assert await two.datagrams(1) == [b"abcd"]
        assert two.calls[-1][2] == address_of(one)


@looped
async def test_connected() -> None:
    async with endpoint() as one, endpoint(remote_addr=address_of(one)) as two:
        assert two.transport.get_extra_info("peername") == address_of(one)
        two.transport.sendto(b"a")
        two.transport.sendto(b"b", None)
        two.transport.sendto(b"c", address_of(one))
        two.transport.sendto(b"d", addr=(address_of(one)[0], address_of(one)[1]))
        assert await one.datagrams(4) == [b"a", b"b", b"c", b"d"]
        one.transport.sendto(b"e", address_of(two))
        assert await two.datagrams(1) == [b"e"]


@looped
async def test_broadcasting_endpoint_is_not_connected() -> None:
    async with (
        endpoint() as one,
        endpoint(remote_addr=address_of(one), allow_broadcast=True) as two,
    ):
        assert two.transport.get_extra_info("peername") is None
        two.transport.sendto(b"a")
        two.transport.sendto(b"b", address_of(one))
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            two.transport.sendto(b"c", LOCAL)
        assert await one.datagrams(2) == [b"a", b"b"]


def test_empty_datagrams(both_factories: Any) -> None:
    """3.13 and later send them, others do nothing."""

    async def scenario() -> Any:
        async with endpoint() as one, endpoint(remote_addr=address_of(one)) as two:
            for empty in (b"", bytearray(), memoryview(b"")):
                two.transport.sendto(empty)
            two.transport.sendto(b"x")
            await one.until(lambda: b"x" in one.data())
            return one.data()

    assert compare(both_factories, scenario) == [
        *[b""] * (3 if sys.version_info >= (3, 13) else 0),
        b"x",
    ]


@looped
async def test_sizes() -> None:
    """The largest datagram of UDP arrives whole, a larger one is an error."""
    async with endpoint() as one, endpoint(remote_addr=address_of(one)) as two:
        largest = bytes(range(256)) * 255 + bytes(227)
        two.transport.sendto(largest)
        assert await one.datagrams(1) == [largest]
        two.transport.sendto(largest + b"x")
        assert [type(call[1]) for call in two.calls if call[0] == "error_received"] == [
            OSError
        ]
        two.transport.sendto(b"after")
        assert (await one.datagrams(2))[1] == b"after"


@looped
async def test_many_peers() -> None:
    """Each gets its own answer, whatever is remembered of the others."""

    def echo(protocol: Any, data: bytes, addr: Any) -> None:
        protocol.transport.sendto(data, addr)

    async with endpoint(DatagramRecorder(datagram_received=echo)) as server:
        socks = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(150)]
        try:
            for _ in range(2):
                for number, sock in enumerate(socks):
                    sock.sendto(b"%d" % number, address_of(server))
                    before = server.count("datagram_received")
                    await server.until(
                        lambda n=before: server.count("datagram_received") > n
                    )
            for number, sock in enumerate(socks):
                sock.setblocking(False)
                assert sock.recv(10) == b"%d" % number == sock.recv(10)
        finally:
            for sock in socks:
                sock.close()


@looped
async def test_equal_addresses_are_the_same_address() -> None:
    async with endpoint() as one, endpoint() as two:
        host, port = address_of(two)
        for i in range(5):
            one.transport.sendto(b"%d" % i, (host, int(str(port))))
        await two.datagrams(5)
        senders = {call[2] for call in two.calls if call[0] == "datagram_received"}
        assert senders == {address_of(one)}


@looped
async def test_max_size_bounds_a_datagram() -> None:
    async with endpoint() as one, endpoint(remote_addr=address_of(one)) as two:
        one.transport.max_size = 3
        two.transport.sendto(b"abcdef")
        assert await one.datagrams(1) == [b"abc"]


@looped
async def test_assigned_sendto_is_called() -> None:
    """As programs do that count or filter what is sent."""
    async with endpoint() as one:
        sent: list[Any] = []
        one.transport.sendto = lambda *args: sent.append(args)
        one.transport.sendto(b"x", address_of(one))
        assert sent == [(b"x", address_of(one))]
        del one.transport.sendto
        one.transport.sendto(b"y", address_of(one))
        assert await one.datagrams(1) == [b"y"]


@looped
async def test_a_flood_starves_nobody() -> None:
    """Beside an endpoint that answers itself for ever, others get their turn."""

    def echo(protocol: Any, data: bytes, addr: Any) -> None:
        protocol.transport.sendto(data, addr)

    async with endpoint(DatagramRecorder(datagram_received=echo)) as flood:
        for _ in range(40):
            flood.transport.sendto(b"x", address_of(flood))
        async with endpoint() as one, endpoint(remote_addr=address_of(one)) as two:
            for number in range(20):
                two.transport.sendto(b"%d" % number)
                assert (await one.datagrams(number + 1))[-1] == b"%d" % number
                await asyncio.sleep(0.0001)
        assert flood.count("datagram_received") > 40


# --- families ---


@ipv6
@looped
async def test_ipv6() -> None:
    async with (
        endpoint(local_addr=("::1", 0)) as one,
        endpoint(local_addr=("::1", 0)) as two,
    ):
        host, port, flow, scope = address_of(two)
        assert (host, flow, scope) == ("::1", 0, 0)
        addresses = ((), (0,), (0, 0), (0, LOOPBACK), (1, 0))
        for rest in addresses:
            one.transport.sendto(b"x", (host, port, *rest))
        assert await two.datagrams(len(addresses)) == [b"x"] * len(addresses)
        sender = two.calls[-1][2]
        assert sender == address_of(one)
        two.transport.sendto(b"answer", sender)
        assert await one.datagrams(1) == [b"answer"]


def link_local() -> tuple[str, int]:
    """An address of this machine that needs a scope, and the scope."""
    table = "/proc/net/if_inet6"
    if os.path.exists(table):
        for line in Path(table).read_text().splitlines():
            digits, index, *_ = line.split()
            if digits.startswith("fe80"):
                host = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
                return host, int(index, 16)
    return "fe80::1", LOOPBACK  # of the loopback interface on macOS


@ipv6
@looped
async def test_ipv6_link_local() -> None:
    """The sender's address has the scope, and takes the answer back."""
    host, scope = link_local()
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        sock.bind((host, 0, 0, scope))
    except OSError as exc:
        sock.close()
        pytest.skip(f"no link-local address: {exc}")

    def echo(protocol: Any, data: bytes, addr: Any) -> None:
        protocol.transport.sendto(data, addr)

    async with (
        endpoint(sock=sock) as one,
        endpoint(DatagramRecorder(datagram_received=echo), local_addr=("::", 0)) as two,
    ):
        port = address_of(two)[1]
        for _ in range(2):
            one.transport.sendto(b"x", (host, port, 0, scope))
        one.transport.sendto(b"x", (f"{host}%{socket.if_indextoname(scope)}", port))
        assert await one.datagrams(3) == [b"x"] * 3
        assert {call[2] for call in two.calls[1:]} == {sock.getsockname()}
        assert {call[2] for call in one.calls[1:]} == {(host, port, 0, scope)}


@ipv6
@looped
async def test_ipv6_scope_and_multicast() -> None:
    """A link-local group on the loopback interface: only the scope id tells where."""
    async with (
        endpoint(local_addr=("::", 0)) as one,
        endpoint(local_addr=("::1", 0)) as two,
    ):
        group = socket.inet_pton(socket.AF_INET6, "ff02::beef")
        joined = group + LOOPBACK.to_bytes(4, sys.byteorder)
        try:
            one.transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined
            )
        except OSError as exc:
            pytest.skip(f"no multicast on the loopback interface: {exc}")
        port = address_of(one)[1]
        two.transport.sendto(b"group", ("ff02::beef", port, 0, LOOPBACK))
        if two.count("error_received"):
            pytest.skip(f"no route to a group: {two.calls[-1][1]}")
        assert await one.datagrams(1) == [b"group"]


@looped
async def test_multicast() -> None:
    async with endpoint(local_addr=("0.0.0.0", 0)) as one, endpoint() as two:
        sock = one.transport.get_extra_info("socket")
        here = socket.inet_aton("127.0.0.1")
        sock.setsockopt(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP,
            socket.inet_aton("239.255.43.21") + here,
        )
        sender = two.transport.get_extra_info("socket")
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        two.transport.sendto(b"group", ("239.255.43.21", address_of(one)[1]))
        assert await one.datagrams(1) == [b"group"]
        assert one.calls[-1][2] == address_of(two)


@looped
async def test_unix_paths(tmp_path: Any) -> None:
    names = [str(tmp_path / name) for name in ("one", "\u00fctwo")]
    async with (
        endpoint(local_addr=names[0], family=socket.AF_UNIX) as one,
        endpoint(local_addr=names[1], family=socket.AF_UNIX) as two,
    ):
        two.transport.sendto(b"there", names[0])
        assert await one.datagrams(1) == [b"there"]
        assert one.calls[-1][2] == names[1]
        one.transport.sendto(b"back", one.calls[-1][2])
        one.transport.sendto(b"again", names[1].encode())
        assert await two.datagrams(2) == [b"back", b"again"]
        two.transport.sendto(b"nobody", str(tmp_path / "nobody"))
        assert isinstance(two.calls[-1][1], FileNotFoundError)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
            nameless.sendto(b"nameless", names[0])
            await one.datagrams(2)
            assert one.calls[-1][2] in (None, "")


@linux
@looped
async def test_abstract_names(tmp_path: Any) -> None:
    name = "\0" + str(tmp_path)
    async with (
        endpoint(local_addr=name, family=socket.AF_UNIX) as one,
        endpoint(
            local_addr=name + "/2", remote_addr=name, family=socket.AF_UNIX
        ) as two,
    ):
        two.transport.sendto(b"a")
        assert await one.datagrams(1) == [b"a"]
        assert one.calls[-1][2] == (name + "/2").encode()
        one.transport.sendto(b"b", one.calls[-1][2])
        one.transport.sendto(b"c", name + "/2")
        assert await two.datagrams(2) == [b"b", b"c"]


@looped
async def test_socketpair() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with right:
        async with endpoint(sock=left) as one:
            right.send(b"x" * 100_000)
            assert await one.datagrams(1) == [b"x" * 100_000]
            assert one.calls[-1][2] is None


@looped
async def test_sock_and_its_options() -> None:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(LOCAL)
    async with (
        endpoint(sock=sock) as one,
        endpoint(local_addr=LOCAL, reuse_port=True) as two,
    ):
        assert sock.gettimeout() == 0
        two.transport.sendto(b"x", sock.getsockname())
        assert await one.datagrams(1) == [b"x"]
        assert two.transport.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEPORT
        )
        one.transport.close()
        await one.lost()
        assert sock.fileno() == -1


# --- the object ---


@looped
async def test_what_it_is() -> None:
    async with endpoint() as one:
        transport = one.transport
        assert isinstance(transport, asyncio.BaseTransport)
        if sys.version_info >= (3, 13):
            assert isinstance(transport, asyncio.DatagramTransport)
        assert transport.get_protocol() is one
        assert not PAUSES_EARLY or transport.is_reading()
        assert not transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert transport.get_write_buffer_limits() == (16384, 65536)
        sock = transport.get_extra_info("socket")
        assert type(sock) is asyncio.trsock.TransportSocket
        assert sock.type == socket.SOCK_DGRAM
        assert transport.get_extra_info("socket") is sock
        assert transport.get_extra_info("nothing", "x") == "x"
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(sock.fileno(), print)
        transport.anything = 1
        assert transport.anything == 1


def test_repr_in_each_state(both_factories: Any) -> None:
    async def scenario() -> Any:
        def shown() -> str:
            fd = f"fd={number}"
            return repr(transport).replace(name, "Name").replace(fd, "fd=")

        async with endpoint() as one:
            transport = one.transport
            name = type(transport).__name__
            number = transport.get_extra_info("socket").fileno()
            seen = [shown()]
            if PAUSES_EARLY:
                transport.pause_reading()
                seen.append(shown())
                transport.resume_reading()
            transport.close()
            seen.append(shown())
            await one.lost()
            await settle()
            seen.append(shown())
            return seen

    assert len(set(compare(both_factories, scenario))) == 3 + PAUSES_EARLY


@pytest.mark.skipif(not PAUSES_EARLY, reason="datagram transports cannot pause")
def test_unclosed_transport_warns(loop: Any) -> None:
    async def leave() -> None:
        transport, protocol = await loop.create_datagram_endpoint(
            DatagramRecorder, LOCAL
        )
        protocol.transport = None
        protocol.calls.clear()
        transport.pause_reading()  # else the loop keeps it

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run_until_complete(leave())
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert str(caught[0].message).startswith("unclosed transport <")


class OwnMethods(socket.socket):
    """A socket that wants its methods called."""

    sent: list[bytes]

    def sendto(self, data: bytes, *rest: Any) -> int:  # type: ignore[override]
        self.sent.append(bytes(data))
        return super().sendto(data, *rest)


class Plain(socket.socket):
    """A socket with nothing of its own on the way of a datagram."""


@pytest.mark.parametrize("kind", [OwnMethods, Plain])
@looped
async def test_subclass_of_socket(kind: Any) -> None:
    sock = kind(type=socket.SOCK_DGRAM)
    sock.sent = []
    sock.bind(LOCAL)
    async with endpoint(sock=sock) as one, endpoint() as two:
        one.transport.sendto(b"x", address_of(two))
        assert await two.datagrams(1) == [b"x"]
        assert sock.sent == ([b"x"] if kind is OwnMethods else [])


def test_type_of_the_transport(both_factories: Any) -> None:
    """Ours is C per datagram, unless the socket's own methods are to be called."""

    async def scenario() -> Any:
        sock = OwnMethods(type=socket.SOCK_DGRAM)
        async with endpoint() as one, endpoint(sock=sock) as two:
            return [type(each.transport).__name__ for each in (one, two)]

    names = []
    for factory in both_factories:
        loop = factory()
        names.append(loop.run_until_complete(scenario()))
        loop.close()
    assert names == [
        ["_SelectorDatagramTransport"] * 2,
        ["DatagramTransport", "_SelectorDatagramTransport"],
    ]


def test_socket_that_a_collection_sets_anew_during_a_read(script, monkeypatch):
    # on 3.11 a new address may run one, and with it any finalizer
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    script(
        """
        import asyncio, gc, socket

        class Setter:
            def __del__(self):
                transport._sock = transport._sock

        class Protocol(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                assert (data, address) == (b"data", peer.getsockname())
                received.append(data)

        async def main():
            global transport
            transport, _ = await loop.create_datagram_endpoint(
                Protocol, local_addr=("127.0.0.1", 0)
            )
            peer.bind(("127.0.0.1", 0))
            transport.sendto(b"first", peer.getsockname())
            peer.sendto(b"data", transport.get_extra_info("sockname"))
            gc.collect()
            gc.disable()
            cycle = Setter()
            cycle.cycle = cycle
            del cycle
            kept = [(i, i) for i in range(6000)]
            gc.set_threshold(1)
            gc.enable()
            transport._read_ready()
            gc.set_threshold(700)
            gc.collect()
            transport.close()

        received = []
        loop = new_event_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            loop.run_until_complete(main())
        loop.close()
        assert received == [b"data"]
        """
    )
