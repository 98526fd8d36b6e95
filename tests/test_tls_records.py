"""Records: which way they go, their sizes, what waits for them, what they cost."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import random
import socket
import ssl
import subprocess
import sys
import tracemalloc
from asyncio import sslproto
from typing import Any

import pytest

import asynccore
from asynccore import _core, _tls
from support import (
    BufferedRecorder,
    Recorder,
    certificates,
    link,
    looped,
    only_asynccore,
    settle,
)
from support.interpreter import FREE_THREADED
from support.tls import APPLICATION_DATA, raw_peer, records

TLS_WAYS = True  # conftest: on the loops, and with records by ssl.MemoryBIO


def is_direct(transport: Any) -> bool:
    return bool(transport._ssl_protocol._is_direct())


class Overriding(ssl.SSLObject):
    def read(self, *args: Any) -> Any:
        return super().read(*args)


class Verifying(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()


def plain(context: ssl.SSLContext) -> None:
    pass


def observed(context: ssl.SSLContext) -> None:
    context._msg_callback = lambda *args: None  # type: ignore[attr-defined]


def overriding(context: ssl.SSLContext) -> None:
    context.sslobject_class = Overriding


def verifying(context: ssl.SSLContext) -> None:
    context.sslobject_class = Verifying


# --- the ways ---


@pytest.mark.parametrize(
    ("change", "direct"),
    [(plain, True), (observed, False), (overriding, False), (verifying, True)],
    ids=["plain", "observed", "overriding", "verifying"],
)
@pytest.mark.parametrize("server_side", [False, True])
@looped
async def test_ways(change: Any, direct: bool, server_side: bool) -> None:
    """Everything works on each way, and the short one is taken where it may be."""
    context = certificates().client_context()
    if server_side:
        context = certificates().server_context()
    change(context)
    data = random.Random(1).randbytes(100_000)
    near = Recorder(data_received=lambda p, data: p.transport.write(data))
    async with raw_peer(near, server_side=server_side, context=context) as peer:
        await peer.send(data)
        assert await peer.recv(len(data)) == data
        assert near.received == data
        if isinstance(near.transport, _tls._SSLProtocolTransport):
            ours = _tls.mode() == "direct" and not _tls.use("direct")
            assert is_direct(near.transport) == (direct and ours)
        near.transport.close()
        assert await peer.recv(1) == b""
        assert peer.tls.unwrap() is None
        await peer.flush()
        assert await near.lost() is None


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize("name", ["read", "write"])
@looped
async def test_method_replaced_in_the_object(name: str, when: str) -> None:
    seen: list[bytes] = []

    def replace(protocol: Any, *_: Any) -> None:
        sslobj = protocol.transport.get_extra_info("ssl_object")
        original = getattr(sslobj, name)

        def replaced(*args: Any) -> Any:
            result = original(*args)
            seen.append(result if name == "read" else bytes(args[0]))
            return result

        setattr(sslobj, name, replaced)

    near = Recorder(data_received=lambda p, data: p.transport.write(data))
    if when == "at once":
        near.hooks["connection_made"] = replace
    async with raw_peer(near) as peer:
        if when == "later":
            await peer.send(b"before")
            assert await peer.recv(6) == b"before"
            assert seen == []
            replace(near)
        await peer.send(b"hello")
        assert await peer.recv(5) == b"hello"
        assert [data for data in seen if data] == [b"hello"]
        delattr(near.transport.get_extra_info("ssl_object"), name)
        await peer.send(b"after")
        assert await peer.recv(5) == b"after"
        assert [data for data in seen if data] == [b"hello"]


def run_direct(code: str) -> str:
    """What a process that calls libssl prints; it is given the certificates."""
    files = certificates()
    done = subprocess.run(
        [sys.executable, "-c", code, str(files.server), str(files.authority)],
        env={**os.environ, "ASYNCCORE_TLS": "direct"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def is_proven() -> bool:
    former = _tls.mode()
    proven = _tls.use("direct") is None
    _tls.use(former)
    return proven


NUMBERS = """
import _ssl, asyncio, ctypes, ssl, sys
from asynccore import _tls, new_event_loop

library = ctypes.CDLL(getattr(_ssl, "__file__", None))
for _ in range(200):  # 3.0 gives numbers that are too large, others then give -1
    library.BIO_get_new_index()

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(sys.argv[1])
client_context = ssl.create_default_context(cafile=sys.argv[2])


async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()


async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address, ssl=client_context)
    writer.write(b"x" * 50000 + b"\\n")
    assert await reader.read() == b"x" * 50000 + b"\\n"
    print(writer.transport._ssl_protocol._is_direct())
    writer.close()
    server.close()


with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


def test_process_that_has_used_up_the_numbers_of_bios() -> None:
    """OpenSSL has 127 in a process, and each interpreter takes one."""
    assert run_direct(NUMBERS) == f"{is_proven()}\n"


NO_DESCRIPTOR = """
import asyncio, resource, socket, ssl, sys
from asynccore import _tls, new_event_loop

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(sys.argv[1])
client_context = ssl.create_default_context(cafile=sys.argv[2])
limits = resource.getrlimit(resource.RLIMIT_NOFILE)


async def connect(here, there):
    loop = asyncio.get_running_loop()
    (client, _), (server, _) = await asyncio.gather(
        loop.create_connection(
            asyncio.Protocol, sock=here, ssl=client_context, server_hostname="localhost"
        ),
        loop.connect_accepted_socket(asyncio.Protocol, there, ssl=server_context),
    )
    found = [end._ssl_protocol._is_direct() for end in (client, server)]
    client.abort()
    server.abort()
    await asyncio.sleep(0)
    return found


async def main():
    pairs = [socket.socketpair() for _ in range(2)]
    await asyncio.sleep(0.001)  # the descriptors of the loop
    "localhost".encode("idna")  # a module
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    without = await connect(*pairs[0])
    why = _tls.describe()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    print(without, "no descriptor" in why, await connect(*pairs[1]))


with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


def test_proof_that_lacked_a_descriptor_is_made_again() -> None:
    printed = run_direct(NO_DESCRIPTOR)
    again = is_proven() and not FREE_THREADED  # there by who chooses alone
    assert printed == f"[False, False] True {[again] * 2}\n"


@looped
async def test_context_changed_by_the_name_of_the_server() -> None:
    """A context with _msg_callback, which comes in the middle of the handshake."""
    seen: list[Any] = []
    other = certificates().server_context()
    other._msg_callback = lambda *args: seen.append(args[1])  # type: ignore[attr-defined]
    context = certificates().server_context()

    def choose(sslobj: Any, name: str, _: Any) -> None:
        sslobj.context = other

    context.sni_callback = choose
    far = Recorder()
    async with raw_peer(far, server_side=True, context=context) as peer:
        await far.made()
        before = len(seen)
        await peer.send(b"hello")
        assert await far.got(5) == b"hello"
        assert len(seen) > before
        if isinstance(far.transport, _tls._SSLProtocolTransport):
            assert not is_direct(far.transport)


@only_asynccore
@looped
async def test_patched_classes_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def write(self: Any, data: Any) -> None:
        calls.append("write")
        standard(self, data)

    standard = sslproto._SSLProtocolTransport.write
    near, far = Recorder(), Recorder()
    with monkeypatch.context() as patch:
        patch.setattr(sslproto._SSLProtocolTransport, "write", write)
        async with link("tls", near, far) as pair:
            assert type(pair.near) is sslproto._SSLProtocolTransport
            pair.near.write(b"hello")
            assert await far.got(5) == b"hello"
    assert calls == ["write"]

    class Counting(sslproto.SSLProtocol):
        def connection_made(self, transport: Any) -> None:
            calls.append("made")
            super().connection_made(transport)

    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(sslproto, "SSLProtocol", Counting)
        near, far = Recorder(), Recorder()
        async with link("start_tls", near, far):
            assert calls == ["made", "made"]


@only_asynccore
@looped
async def test_inherited_methods_may_be_patched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is the interpreter's own code stays so: no other class is needed."""
    calls: list[Any] = []

    def check(self: Any) -> None:
        calls.append(self)
        standard(self)

    standard: Any = sslproto.SSLProtocol._call_eof_received  # type: ignore[attr-defined]
    monkeypatch.setattr(sslproto.SSLProtocol, "_call_eof_received", check)
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        assert isinstance(pair.near, _tls._SSLProtocolTransport)
        pair.near.close()
        await far.lost()
    assert pair.far._ssl_protocol in calls


def test_wrong_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCCORE_TLS", "fast")
    monkeypatch.setattr(_tls, "_mode", None)
    with pytest.raises(ValueError, match="ASYNCCORE_TLS must be one of"):
        _tls.mode()


def test_choice_of_the_standard_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCCORE_TLS", "stdlib")
    monkeypatch.setattr(_tls, "_mode", None)
    assert _tls.protocol_class() is sslproto.SSLProtocol
    assert _tls.describe() == "asyncio's SSLProtocol"


# --- sizes ---


@pytest.mark.parametrize("server_side", [False, True])
@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@looped
async def test_sizes_of_records(kind: Any, server_side: bool) -> None:
    rest = random.Random(2)
    near = kind(data_received=lambda p, data: None)
    sent = b""
    async with raw_peer(near, server_side=server_side) as peer:
        for size in (1, 2, 100, 4096, 16383, 16384):
            data = rest.randbytes(size * 5 + 1)
            sent += data
            await peer.send(data, size)
            assert await near.got(len(sent)) == sent


@looped
async def test_records_of_one_byte() -> None:
    data = random.Random(3).randbytes(5000)
    near = Recorder()
    async with raw_peer(near) as peer:
        await peer.send(data, 1)
        assert await near.got(len(data)) == data


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@looped
async def test_byte_by_byte(kind: Any) -> None:
    """Each byte of a record on its own, and the end of one with the next one's."""
    data = random.Random(4).randbytes(300)
    near = kind()
    async with raw_peer(near) as peer:
        sent = peer.encrypt(data[:100]) + peer.encrypt(data[100:])
        for start in range(len(sent)):
            await peer.loop.sock_sendall(peer.sock, sent[start : start + 1])
        assert await near.got(len(data)) == data


@looped
async def test_large_writes() -> None:
    rest = random.Random(5)
    near = Recorder()
    async with raw_peer(near, server_side=True) as peer:
        for size in (16384, 16385, 1 << 17, (1 << 17) + 1, 3_000_001):
            data = rest.randbytes(size)
            near.transport.write(data)
            assert await peer.recv(size) == data


@looped
async def test_large_write_is_not_lost_when_closed() -> None:
    data = random.Random(6).randbytes(4 << 20)
    near = Recorder()
    async with raw_peer(near) as peer:
        near.transport.write(data)
        near.transport.close()
        near.transport.write(b"too late")
        assert await peer.recv(len(data) + 1) == data


def far_records(data: bytes) -> list[int]:
    return [size for kind, size in records(data) if kind == APPLICATION_DATA]


@only_asynccore
@looped
async def test_writelines_is_one_record() -> None:
    near = Recorder()
    pieces = [b"a" * 10, b"", bytearray(b"b" * 20), memoryview(b"c" * 30)]
    async with raw_peer(near) as peer:
        near.transport.writelines(pieces)
        await settle()
        data = await peer.loop.sock_recv(peer.sock, 1 << 16)
        assert len(far_records(data)) == 1
        peer.incoming.write(data)
        assert peer.tls.read(100) == b"".join(pieces)


@pytest.mark.parametrize("pieces", [(), [b""], iter([b"x", b"y"]), [bytearray(b"xy")]])
@looped
async def test_writelines(pieces: Any) -> None:
    near = Recorder()
    if not isinstance(pieces, (tuple, list)):
        pieces = iter([b"x", b"y"])
    async with raw_peer(near) as peer:
        near.transport.writelines(pieces)
        near.transport.write(b"!")
        while not (got := await peer.recv(1)).endswith(b"!"):
            assert got in (b"x", b"y")


@pytest.mark.parametrize("pieces", [[5], ["text"], [b"x", None], 7])
@looped
async def test_writelines_of_something_else(pieces: Any) -> None:
    """The exception, or the end of the connection, is the standard's."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    near = Recorder()
    async with raw_peer(near):
        if pieces == ["text"]:
            near.transport.writelines(pieces)
            assert type(await near.lost()) is TypeError
        else:
            with pytest.raises(TypeError):
                near.transport.writelines(pieces)


@pytest.mark.parametrize("data", [5, "text", None, [b"x"]])
@looped
async def test_write_of_something_else(data: Any) -> None:
    near = Recorder()
    async with raw_peer(near):
        name = type(data).__name__
        text = f"data: expecting a bytes-like instance, got {name}"
        with pytest.raises(TypeError, match=text):
            near.transport.write(data)


@only_asynccore
@looped
async def test_views() -> None:
    data = bytes(range(200)) * 300
    near = Recorder()
    typed = memoryview(data).cast("I")
    async with raw_peer(near) as peer:
        near.transport.write(memoryview(data)[::2])
        near.transport.write(typed)
        near.transport.writelines([typed])
        wanted = data[::2] + data + data
        assert await peer.recv(len(wanted)) == wanted


# --- waiting ---


@only_asynccore
@looped
async def test_written_during_the_handshake() -> None:
    loop: Any = asyncio.get_running_loop()
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    near = Recorder()
    waiter = loop.create_future()
    context = certificates().client_context()
    transport = loop._make_ssl_transport(
        here, near, context, waiter, server_hostname="localhost"
    )
    await settle(1)  # before that it would be lost, as with the standard
    data = bytearray(b"early")
    transport.write(data)
    transport.writelines([data, b"!"])
    data[:] = b"later"
    assert transport.get_write_buffer_size() == 11
    far = Recorder()
    await loop.connect_accepted_socket(
        lambda: far, there, ssl=certificates().server_context()
    )
    await waiter
    assert await far.got(11) == b"earlyearly!"
    assert transport.get_write_buffer_size() == 0
    for protocol in (near, far):
        protocol.transport.abort()
        await protocol.lost()


@looped
async def test_pause_leaves_the_rest_encrypted() -> None:
    data = random.Random(7).randbytes(1 << 20)
    near = Recorder()
    async with raw_peer(near) as peer:
        near.transport.pause_reading()
        sending = asyncio.ensure_future(peer.send(data))
        size = near.transport.get_read_buffer_size
        _, high = near.transport.get_read_buffer_limits()
        while size() < high:
            await settle(1)
        await settle()
        assert size() < 2 * high + (1 << 16)
        assert not near.transport._ssl_protocol._transport.is_reading()
        assert near.received == b""
        near.transport.resume_reading()
        assert await near.got(len(data)) == data
        await sending
        assert size() == 0


@looped
async def test_pause_inside_data_received() -> None:
    """One call for each pause, however small the pieces that come."""
    data = random.Random(8).randbytes(50_000)
    near = Recorder(data_received=lambda p, data: p.transport.pause_reading())
    async with raw_peer(near) as peer:
        for start in range(0, len(data), 1000):
            await peer.send(data[start : start + 1000])
            if start % 5000 == 0:
                await settle(1)
        while len(near.received) < len(data):
            count = near.count("data_received")
            near.transport.resume_reading()
            await near.until(lambda count=count: near.count("data_received") > count)
        assert near.received == data


@looped
async def test_flow_control_of_the_writer() -> None:
    data = bytes(1 << 20)
    near = Recorder()
    async with raw_peer(near) as peer:
        written = 0
        while not near.count("pause_writing"):
            near.transport.write(data)
            written += len(data)
            await asyncio.sleep(0)
        assert near.transport.get_write_buffer_size() > 0
        assert len(await peer.recv(written)) == written
        await near.until(lambda: near.count("resume_writing"))
        assert near.transport.get_write_buffer_size() == 0


@looped
async def test_write_limits() -> None:
    near = Recorder()
    async with raw_peer(near) as peer:
        transport = near.transport
        transport.set_write_buffer_limits(high=0)
        assert near.names()[-1] == "pause_writing"
        transport.writelines([])
        assert near.names()[-1] == "resume_writing"
        transport.set_write_buffer_limits(high=0)
        assert near.names()[-1] == "pause_writing"
        transport.set_write_buffer_limits(high=10.5, low=1)
        assert near.names()[-1] == "resume_writing"
        transport.write(b"x" * 100)
        assert await peer.recv(100) == b"x" * 100
        assert transport.get_write_buffer_limits() == (1, 10.5)


@looped
async def test_a_large_write_goes_down_whole() -> None:
    """What the kernel refuses waits below, although that has paused meanwhile."""
    near = Recorder()
    async with raw_peer(near) as peer:
        transport = near.transport
        transport.set_write_buffer_limits(high=0)
        data = random.Random(6).randbytes((2 << 20) + 2)
        transport.write(data)
        assert transport._ssl_protocol._ssl_writing_paused
        assert transport.get_write_buffer_size() == 0
        assert near.names()[-1] == "resume_writing"
        assert await peer.recv(len(data)) == data


@looped
async def test_a_large_write_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    """The transport below warns of the fifth write after its end."""
    near = Recorder()
    async with raw_peer(near) as peer:
        peer.sock.close()
        for _ in range(4):
            near.transport.write(bytes(1 << 20))
        assert [record.getMessage() for record in caplog.records] == []
        assert isinstance(await near.lost(), OSError)


@only_asynccore
@looped
async def test_idle_connections_keep_nothing() -> None:
    """After 200 KB each way: what Python's allocators have given, per connection."""
    data = random.Random(9).randbytes(200_000)
    near = Recorder(data_received=lambda p, data: p.transport.write(data))
    peers = []

    async def connect() -> Any:
        near = Recorder()
        made = raw_peer(near)
        peer = await made.__aenter__()
        await peer.send(data)
        await near.got(len(data))
        near.transport.write(data)
        assert await peer.recv(len(data)) == data
        near.received.clear()
        near.calls[1:] = []
        protocol = near.transport._ssl_protocol
        assert protocol._get_read_buffer_size() == 0
        assert protocol._get_write_buffer_size() == 0
        return made, near

    peers.append(await connect())
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            peers.append(await connect())
        each = (tracemalloc.get_traced_memory()[0] - before) / 5
    finally:
        tracemalloc.stop()
    assert each < 30_000
    for made, near in peers:
        near.transport.abort()
        await made.__aexit__(None, None, None)


@looped
async def test_size_that_is_made_negative() -> None:
    near = Recorder()
    async with raw_peer(near) as peer:
        protocol = near.transport._ssl_protocol
        protocol._write_buffer_size -= 100
        assert near.transport.get_write_buffer_size() == -100
        await peer.send(b"data")
        await near.got(4)
        near.transport.write(b"answer")
        assert await peer.recv(6) == b"answer"
        protocol._write_buffer_size += 100


# --- the end ---


@looped
async def test_ssl_object_outlives_the_connection() -> None:
    near = Recorder()
    async with raw_peer(near) as peer:
        found = near.transport.get_extra_info("ssl_object")
        await peer.send(b"never read")
        near.transport.abort()
        await near.lost()
    assert found.version() == "TLSv1.3"
    assert found.getpeercert()["subject"] == ((("commonName", "server"),),)
    assert found.pending() == 0
    with pytest.raises(ssl.SSLWantReadError):
        found.read(1)
    assert found.write(b"nobody hears it") == 15


@only_asynccore
@pytest.mark.parametrize("deleted", [False, True])
@looped
async def test_ssl_object_that_loses_its_inner_one(deleted: bool) -> None:
    """OpenSSL's memory is not freed: records go on by what it had."""
    near = Recorder()
    async with raw_peer(near) as peer:
        sslobj = near.transport.get_extra_info("ssl_object")
        near.transport.write(b"before")
        assert await peer.recv(6) == b"before"
        if not is_direct(near.transport):
            return
        if deleted:
            del sslobj._sslobj
        else:
            sslobj._sslobj = None
        near.transport.write(b"after")
        assert await peer.recv(5) == b"after"
        await peer.send(bytes(100_000))
        await near.got(100_000)


@looped
async def test_truncated_in_a_record() -> None:
    near = Recorder()
    async with raw_peer(near) as peer:
        data = peer.encrypt(b"whole") + peer.encrypt(b"a part")[:-3]
        await peer.loop.sock_sendall(peer.sock, data)
        peer.sock.shutdown(socket.SHUT_WR)
        assert await near.got(5) == b"whole"
        assert await near.lost() is None
    assert near.received == b"whole"


@pytest.mark.parametrize("reading", [False, True])
@looped
async def test_close_with_data_on_its_way(reading: bool) -> None:
    """What came before close_notify is passed on, unless reading is paused."""
    near = Recorder()
    async with raw_peer(near) as peer:
        if not reading:
            near.transport.pause_reading()
        peer.tls.write(b"last words")
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.unwrap()
        await peer.flush()
        await settle()
        if not reading:
            assert near.received == b""
            near.transport.resume_reading()
        assert await near.got(10) == b"last words"
        assert await near.lost() is None
    assert near.names()[-2:] == ["eof_received", "connection_lost"]


@looped
async def test_flood_of_garbage() -> None:
    """A peer that sends megabytes of no record at all is cut off."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    near = Recorder()
    async with raw_peer(near) as peer:
        with pytest.raises((ConnectionError, ssl.SSLError)):
            for _ in range(1000):
                await peer.loop.sock_sendall(peer.sock, bytes(1 << 16))
        exc = await near.lost()
        assert isinstance(exc, ssl.SSLError)
        assert exc.reason == "WRONG_VERSION_NUMBER" or exc.library == "SSL"
        exc.__traceback__ = None
    assert near.received == b""


@looped
async def test_key_update_of_the_peer() -> None:
    """Session tickets come after the handshake as well, in records of their own."""
    near = Recorder()
    async with raw_peer(near) as peer:
        await peer.send(b"first")
        assert await near.got(5) == b"first"
        near.transport.write(b"second")
        assert await peer.recv(6) == b"second"


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@looped
async def test_callback_that_writes_and_closes(kind: Any) -> None:
    def answer(protocol: Any, *_: Any) -> None:
        protocol.transport.write(b"bye")
        protocol.transport.close()

    near = kind(data_received=answer, buffer_updated=answer)
    async with raw_peer(near) as peer:
        await peer.send(b"hello")
        assert await peer.recv(10) == b"bye"


@looped
async def test_buffer_that_is_too_small() -> None:
    data = random.Random(10).randbytes(100_000)
    near = BufferedRecorder(size=1000)
    async with raw_peer(near) as peer:
        await peer.send(data)
        assert await near.got(len(data)) == data


@looped
async def test_rest_that_waits_while_something_else_is_read() -> None:
    """What the protocol's buffer had no room for is not the loop's memory any more."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    got = bytearray()

    def read_other(protocol: Any, size: int) -> None:
        there.send(b"\xff" * 50_000)
        reading = loop.sock_recv(here, 50_000)
        with pytest.raises(StopIteration) as done:
            reading.send(None)
        got.extend(done.value.value)

    data = random.Random(11).randbytes(30_000)
    near = BufferedRecorder(size=1000, buffer_updated=read_other)
    async with raw_peer(near) as peer:
        await peer.send(data, 900)
        assert await near.got(len(data)) == data
    assert set(got) == {0xFF}
    here.close()
    there.close()


@looped
async def test_buffer_without_room() -> None:
    """SSLObject.read() into nothing returns 0, which means EOF."""
    near = BufferedRecorder()
    async with raw_peer(near) as peer:
        near.hooks["get_buffer"] = lambda p, hint: memoryview(bytearray())
        await peer.send(b"hello")
        assert await peer.recv(1) == b""
        peer.sock.shutdown(socket.SHUT_WR)
        await near.lost()
    assert near.names() == [
        "connection_made",
        "get_buffer",
        "eof_received",
        "get_buffer",  # for what may be left when it is closed
        "connection_lost",
    ]


@pytest.mark.parametrize("cast", [False, True])
@looped
async def test_buffer_of_larger_items(cast: bool) -> None:
    """As many bytes as it has items are filled."""
    items = array.array("I", [0] * 16)
    got = bytearray()

    def updated(protocol: Any, size: int) -> None:
        got.extend(items.tobytes()[:size])

    near = BufferedRecorder(buffer_updated=updated)
    near.hooks["get_buffer"] = lambda p, hint: memoryview(items) if cast else items
    data = random.Random(12).randbytes(100)
    async with raw_peer(near) as peer:
        await peer.send(data)
        await near.until(lambda: len(got) >= len(data))
    assert got == data
    sizes = [call[1] for call in near.calls if call[0] == "buffer_updated"]
    assert sizes == [16] * 6 + [4]


@looped
async def test_buffer_that_is_no_view() -> None:
    """The standard's `buf[offset:]` is a copy: a second record of one read is lost."""
    loop = asyncio.get_running_loop()
    near = BufferedRecorder()
    near.hooks["get_buffer"] = lambda p, hint: p.buffer
    async with raw_peer(near) as peer:
        await peer.send(b"one, two", 4)
        assert (await near.got(8))[:4] == b"one,"
        lost = not isinstance(loop, asynccore.Loop)
        assert near.received[4:] == (bytes(4) if lost else b" two")


@pytest.mark.parametrize("what", ["read-only", "raises", "closes", "none"])
@looped
async def test_buffer_that_is_unfit(what: str) -> None:
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    def get_buffer(protocol: Any, hint: int) -> Any:
        assert hint > 0
        if what == "raises":
            raise ValueError("hostile")
        if what == "closes":
            protocol.transport.abort()
            return memoryview(bytearray(10))
        return None if what == "none" else memoryview(bytes(100))

    near = BufferedRecorder()
    async with raw_peer(near) as peer:
        near.hooks["get_buffer"] = get_buffer
        await peer.send(b"hello")
        exc = await near.lost()
        if what == "closes":
            assert exc is None
        else:
            kinds = {"raises": ValueError, "read-only": (BufferError, TypeError)}
            assert isinstance(exc, kinds.get(what, TypeError))
            if what == "none":
                assert str(exc) == "object of type 'NoneType' has no len()"
            assert [r["message"] for r in reports] == ["Fatal error on SSL protocol"]
            exc.__traceback__ = None
        reports.clear()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="new in 3.14")
@looped
async def test_is_closing_asks_the_transport_below() -> None:
    near = Recorder()
    async with raw_peer(near):
        assert not near.transport.is_closing()
        near.transport._ssl_protocol._transport.abort()
        assert near.transport.is_closing()


@pytest.mark.parametrize("base", [False, True])
def test_protocol_that_was_never_initialised(base: bool) -> None:
    kind = _core.TLSProtocol if base else _tls.protocol_class()
    methods = {
        name
        for name, method in vars(_core.TLSProtocol).items()
        if callable(method) and not name.startswith("__")
    }
    assert "_do_write" in methods
    for name in methods:
        for args in ((), (b"x",), ([b"x"],), (None,)):
            empty = kind.__new__(kind)  # type: ignore[call-overload]
            with contextlib.suppress(Exception):
                getattr(empty, name)(*args)
    without_backlog: Any = kind.__new__(kind)  # type: ignore[call-overload]
    without_backlog._state = sslproto.SSLProtocolState.WRAPPED
    with pytest.raises(AttributeError):
        without_backlog._write_appdata([b"x"])
    without_object: Any = kind.__new__(kind)  # type: ignore[call-overload]
    without_object._state = sslproto.SSLProtocolState.WRAPPED
    without_object._app_reading_paused = False
    without_object._app_protocol_is_buffer = True
    without_object._app_protocol_get_buffer = lambda size: b"read-only"
    without_object._incoming = ssl.MemoryBIO()
    with pytest.raises(AttributeError):
        without_object._do_read()


@only_asynccore
def test_length_that_ends_the_connection(script: Any) -> None:
    """The transport is the only one that has the protocol."""
    script(
        """
        import asyncio, ssl
        from asynccore import _tls

        class Text(bytes):
            def __len__(self):
                transport._ssl_protocol = None
                return 1

        async def main():
            global transport
            loop = asyncio.get_running_loop()
            context = ssl.create_default_context()
            kind = _tls.protocol_class()
            protocol = kind(loop, asyncio.Protocol(), context, None, False, "host")
            transport = protocol._get_app_transport()
            del protocol
            transport.write(Text(b"x"))
            transport._closed = True

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )
