"""TLS through ssl=: handshakes that work and that fail, closing, half-close rules."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from typing import Any

import pytest

from support import (
    LOST_TLS_ABORTS,
    BufferedRecorder,
    Recorder,
    certificates,
    compare,
    link,
    looped,
    settle,
)

TLS_WAYS = True  # conftest: on the loops, and with records by ssl.MemoryBIO


def keep_reports(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return reports


async def serve(factory: Any, context: ssl.SSLContext, **kwargs: Any) -> Any:
    loop = asyncio.get_running_loop()
    return await loop.create_server(factory, "127.0.0.1", 0, ssl=context, **kwargs)


def port_of(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])


async def connect(server: Any, protocol: Recorder, context: Any, **kwargs: Any) -> Any:
    loop = asyncio.get_running_loop()
    kwargs.setdefault("server_hostname", "localhost")
    made = await loop.create_connection(
        lambda: protocol, "127.0.0.1", port_of(server), ssl=context, **kwargs
    )
    return made[0]


async def end(*protocols: Recorder) -> None:
    for protocol in protocols:
        if protocol.transport is not None:
            protocol.transport.abort()
            await protocol.lost()


# --- handshakes that work ---


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@looped
async def test_versions(version: ssl.TLSVersion) -> None:
    context = certificates().client_context()
    context.minimum_version = context.maximum_version = version
    far, near = Recorder(), Recorder()
    server = await serve(lambda: far, certificates().server_context())
    transport = await connect(server, near, context)
    names = {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}
    assert transport.get_extra_info("ssl_object").version() == names[version]
    await far.made()
    transport.write(b"hello")
    assert await far.got(5) == b"hello"
    far.transport.write(b"answer")
    assert await near.got(6) == b"answer"
    await end(near, far)
    server.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", None])
@looped
async def test_names_that_the_certificate_has(host: str | None) -> None:
    far, near = Recorder(), Recorder()
    server = await serve(lambda: far, certificates().server_context())
    transport = await connect(
        server, near, certificates().client_context(), server_hostname=host
    )
    found = transport.get_extra_info("ssl_object")
    assert found.server_hostname == (host or "127.0.0.1")
    await far.made()
    await end(near, far)
    server.close()


@looped
async def test_client_certificate() -> None:
    far, near = Recorder(), Recorder()
    server = await serve(lambda: far, certificates().server_context(verify=True))
    context = certificates().client_context(certificates().client)
    await connect(server, near, context)
    await far.made()
    certificate = far.transport.get_extra_info("peercert")
    assert certificate["subject"] == ((("commonName", "client"),),)
    await end(near, far)
    server.close()


@looped
async def test_alpn_and_sni() -> None:
    seen: list[Any] = []
    serving = certificates().server_context()
    serving.set_alpn_protocols(["h2", "http/1.1"])
    serving.sni_callback = lambda found, name, context: seen.append((type(found), name))
    context = certificates().client_context()
    context.set_alpn_protocols(["http/1.1"])
    far, near = Recorder(), Recorder()
    server = await serve(lambda: far, serving)
    await connect(server, near, context)
    await far.made()
    assert seen == [(ssl.SSLObject, "localhost")]
    for protocol in (near, far):
        found = protocol.transport.get_extra_info("ssl_object")
        assert found.selected_alpn_protocol() == "http/1.1"
    await end(near, far)
    server.close()


@looped
async def test_no_verification() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    far, near = Recorder(), Recorder()
    server = await serve(lambda: far, certificates().server_context())
    await connect(server, near, context, server_hostname="")
    near.transport.write(b"x")
    assert await far.got(1) == b"x"
    await end(near, far)
    server.close()


@looped
async def test_blocking_client_in_a_thread() -> None:
    """The peer is the ssl module's own socket."""
    loop = asyncio.get_running_loop()
    far = Recorder(data_received=lambda p, data: p.transport.write(data))
    server = await serve(lambda: far, certificates().server_context())
    port = port_of(server)
    data = bytes(range(256)) * 2000

    def client() -> bytes:
        plain = socket.create_connection(("127.0.0.1", port), 10)
        context = certificates().client_context()
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            received = b""
            for start in range(0, len(data), 32_000):
                sock.sendall(data[start : start + 32_000])
                while len(received) < min(start + 32_000, len(data)):
                    received += sock.recv(1 << 16)
            sock.unwrap().close()
            return received

    assert await loop.run_in_executor(None, client) == data
    assert await far.lost() is None
    server.close()


@looped
async def test_blocking_server_in_a_thread() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def server() -> bytes:
            plain, _ = listening.accept()
            plain.settimeout(10)
            context = certificates().server_context()
            with context.wrap_socket(plain, server_side=True) as sock:
                data = b""
                while piece := sock.recv(1 << 16):
                    data += piece
                    sock.sendall(piece.upper())
                return data

        task = loop.run_in_executor(None, server)
        near = Recorder()
        port = listening.getsockname()[1]
        await loop.create_connection(
            lambda: near, "localhost", port, ssl=certificates().client_context()
        )
        near.transport.write(b"hello" * 20_000)
        assert await near.got(100_000) == b"HELLO" * 20_000
        near.transport.close()
        assert await near.lost() is None
        assert await task == b"hello" * 20_000


# --- handshakes that fail ---


FAILURES: dict[str, Any] = {
    "nobody trusted": lambda c: (c.server_context(), c.client_context(trust=False), {}),
    "expired": lambda c: (c.server_context(c.expired), c.client_context(), {}),
    "another name": lambda c: (c.server_context(c.other), c.client_context(), {}),
    "another host": lambda c: (
        c.server_context(),
        c.client_context(),
        {"server_hostname": "other.example"},
    ),
    "old client": lambda c: (
        limited(c.server_context(), low=ssl.TLSVersion.TLSv1_3),
        limited(c.client_context(), high=ssl.TLSVersion.TLSv1_2),
        {},
    ),
}


def limited(context: ssl.SSLContext, low: Any = None, high: Any = None) -> Any:
    if low:
        context.minimum_version = low
    if high:
        context.maximum_version = high
    return context


@pytest.mark.parametrize("name", FAILURES)
def test_failures_equal_the_standard_ones(both_factories: Any, name: str) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        reports = keep_reports(loop)
        made: list[Recorder] = []
        serving, context, kwargs = FAILURES[name](certificates())
        near = Recorder()

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await serve(factory, serving)
        try:
            await connect(server, near, context, **kwargs)
        except ssl.SSLError as exc:
            found: Any = (
                type(exc).__name__,
                exc.reason,
                getattr(exc, "verify_code", None),
                getattr(exc, "verify_message", None),
            )
        except ConnectionResetError as exc:
            found = type(exc).__name__
        else:
            found = "connected"
        await settle(5)
        far = [protocol.names() for protocol in made]
        messages = [report["message"] for report in reports]
        reports.clear()
        server.close()
        return found, near.names(), far, messages

    assert compare(both_factories, scenario)[0] != "connected"


@looped
async def test_verification_error_has_the_details() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # it is told in debug mode
    server = await serve(Recorder, certificates().server_context())
    context = certificates().client_context(trust=False)
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        await connect(server, Recorder(), context)
    assert caught.value.verify_code == 20
    assert caught.value.reason == "CERTIFICATE_VERIFY_FAILED"
    assert isinstance(caught.value, OSError)
    await settle(5)
    server.close()
    caught.value.__traceback__ = None


@looped
async def test_client_without_the_certificate_that_is_asked_for() -> None:
    loop = asyncio.get_running_loop()
    keep_reports(loop)
    made: list[Recorder] = []
    near = Recorder()

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = await serve(factory, certificates().server_context(verify=True))
    # TLS 1.3: the client is connected before the server has decided
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await connect(server, near, certificates().client_context())
    if near.transport is not None:
        exc = await near.lost()
        assert exc is None or isinstance(exc, ssl.SSLError | ConnectionError)
    assert near.received == b""
    assert [protocol.names() for protocol in made] == [[]]
    server.close()


@looped
async def test_peer_closes_during_the_handshake() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = loop.create_task(
            loop.create_connection(
                Recorder, *listening.getsockname(), ssl=certificates().client_context()
            )
        )
        listening.setblocking(False)
        peer, _ = await loop.sock_accept(listening)
        peer.setblocking(False)
        assert await loop.sock_recv(peer, 1 << 16)
        peer.close()
        with pytest.raises(ConnectionResetError):
            await task


@looped
async def test_client_leaves_during_the_handshake() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # it is told in debug mode
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = await serve(factory, certificates().server_context())
    with socket.create_connection(("127.0.0.1", port_of(server))) as sock:
        sock.send(b"\x16\x03\x01\x00")
        while not made:
            await settle(1)
    await settle(3)
    assert made[0].names() == []
    server.close()
    await server.wait_closed()


@looped
async def test_server_that_does_not_speak_tls() -> None:
    loop = asyncio.get_running_loop()
    hello = lambda p, t: t.write(b"220 this is not TLS at all\r\n")  # noqa: E731
    server = await loop.create_server(
        lambda: Recorder(connection_made=hello), "127.0.0.1", 0
    )
    with pytest.raises(ssl.SSLError) as caught:
        await connect(server, Recorder(), certificates().client_context())
    assert caught.value.reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG")
    caught.value.__traceback__ = None
    server.close()
    await settle(3)


@looped
async def test_client_that_does_not_speak_tls() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # it is told in debug mode
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    server = await serve(factory, certificates().server_context())
    with socket.create_connection(("127.0.0.1", port_of(server))) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while await loop.sock_recv(sock, 1000):
                pass
    assert made[0].names() == []
    # the next one is served
    near = Recorder()
    await connect(server, near, certificates().client_context())
    await made[1].made()
    await end(near, made[1])
    server.close()


@looped
async def test_handshake_time_out() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        text = (
            r"^SSL handshake is taking longer than 0.01 seconds: "
            r"aborting the connection$"
        )
        with pytest.raises(ConnectionAbortedError, match=text):
            await loop.create_connection(
                Recorder,
                *listening.getsockname(),
                ssl=certificates().client_context(),
                ssl_handshake_timeout=0.01,
            )


@looped
async def test_handshake_time_out_of_a_server() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # it is told in debug mode
    server = await serve(
        Recorder, certificates().server_context(), ssl_handshake_timeout=0.01
    )
    with socket.create_connection(("127.0.0.1", port_of(server))) as sock:
        sock.setblocking(False)
        with contextlib.suppress(ConnectionResetError):
            assert await loop.sock_recv(sock, 10) == b""
    server.close()


@looped
async def test_cancelled_during_the_handshake() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        protocol = Recorder()
        task = loop.create_task(
            loop.create_connection(
                lambda: protocol,
                *listening.getsockname(),
                ssl=certificates().client_context(),
            )
        )
        listening.setblocking(False)
        peer, _ = await loop.sock_accept(listening)
        with peer:
            peer.setblocking(False)
            assert await loop.sock_recv(peer, 1 << 16)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            peer.settimeout(0)
        await settle(5)
        assert protocol.names() == []


@pytest.mark.parametrize("given", [5, "context", object()])
def test_wrong_contexts_equal_the_standard_ones(
    both_factories: Any, faults: Any, given: Any
) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        found = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            try:
                await loop.create_connection(
                    Recorder, *listening.getsockname(), ssl=given
                )
            except Exception as exc:
                found.append(type(exc).__name__)
        return found

    compare(both_factories, scenario)
    faults.take_unraisable()
    faults.take_log()


@pytest.mark.parametrize("action", ["end", "cancel"])
def test_run_that_ends_during_an_accepted_handshake(
    loop_factory: Any, action: str
) -> None:
    """The task that waits for it is cancelled, and closes the connection."""
    far = Recorder()

    async def main() -> None:
        asyncio.get_running_loop().set_debug(False)  # in debug mode it is logged
        server = await serve(lambda: far, certificates().server_context())
        plain.connect(("127.0.0.1", port_of(server)))
        own = {asyncio.current_task()}
        while not (waiting := asyncio.all_tasks() - own):
            await settle(1)
        await settle()
        server.close()
        if action == "cancel":
            [task] = waiting
            task.cancel()
            await asyncio.wait(waiting)
            assert not task.cancelled()
            assert task.result() is None
            await settle()
            assert plain.recv(1) == b""

    with socket.socket() as plain:
        plain.settimeout(10)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        assert plain.recv(1) == b""
    assert far.names() == []


@looped
async def test_task_of_an_accepted_handshake_ends_with_it() -> None:
    asyncio.get_running_loop().set_debug(False)  # in debug mode a failure is logged
    own = asyncio.all_tasks()
    far, near = Recorder(), Recorder()
    server = await serve(lambda: far, certificates().server_context())
    await connect(server, near, certificates().client_context())
    await far.made()
    await settle()
    assert asyncio.all_tasks() == own
    await end(near, far)
    failing = connect(server, Recorder(), certificates().client_context(trust=False))
    with pytest.raises(ssl.SSLCertVerificationError):
        await failing
    await settle()
    assert asyncio.all_tasks() == own
    server.close()


# --- data and flow ---


@looped
async def test_pause_reading() -> None:
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        pair.far.pause_reading()
        assert not pair.far.is_reading()
        pair.near.write(b"later")
        await settle(5)
        assert far.received == b""
        pair.far.resume_reading()
        assert await far.got(5) == b"later"


@looped
async def test_writing_pauses_when_the_peer_does_not_read() -> None:
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        pair.far.pause_reading()
        total = 0
        while not near.count("pause_writing"):
            pair.near.write(bytes(1 << 18))
            total += 1 << 18
        assert pair.near.get_write_buffer_size() > 512 << 10
        pair.far.resume_reading()
        await near.until(lambda: near.count("resume_writing"))
        assert len(await far.got(total)) == total


@looped
async def test_buffered_protocol_over_tls() -> None:
    near, far = Recorder(), BufferedRecorder(1000)
    async with link("tls", near, far) as pair:
        data = bytes(range(256)) * 400
        pair.near.write(data)
        assert await far.got(len(data)) == data
        pair.near.close()
        assert await far.lost() is None
        assert far.names()[-2:] == ["eof_received", "connection_lost"]


@looped
async def test_many_small_writes() -> None:
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        for number in range(1000):
            pair.near.write(b"%04d" % number)
        expected = b"".join(b"%04d" % number for number in range(1000))
        assert await far.got(4000) == expected


# --- closing ---


@looped
async def test_graceful_close() -> None:
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        pair.near.close()
        assert pair.near.is_closing()
        assert await near.lost() is None
        assert await far.lost() is None
        assert far.names() == ["connection_made", "eof_received", "connection_lost"]
        pair.near.write(b"ignored")
        pair.near.close()
        if LOST_TLS_ABORTS:
            pair.near.abort()


@looped
async def test_both_ends_close_at_once() -> None:
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        pair.near.write(b"n" * 100_000)
        pair.far.write(b"f" * 100_000)
        pair.near.close()
        pair.far.close()
        for protocol in (near, far):
            exc = await protocol.lost()
            # what was not read any more may make a reset of it
            assert exc is None or isinstance(exc, ConnectionError | ssl.SSLError)


@pytest.mark.parametrize("keep", [True, False, None])
def test_eof_received_cannot_keep_tls_open(run: Any, faults: Any, keep: Any) -> None:
    async def main() -> None:
        near, far = Recorder(), Recorder(eof_received=lambda p: keep)
        async with link("tls", near, far) as pair:
            pair.near.close()
            assert await far.lost() is None
            assert await near.lost() is None

    run(main())
    warned = faults.take_log()
    expected = "returning true from eof_received() has no effect when using ssl"
    assert warned == ([expected] if keep else [])


@pytest.mark.parametrize("reset", [True, False])
@looped
async def test_peer_without_close_notify(reset: bool) -> None:
    """The TCP connection ends under the TLS session."""
    loop = asyncio.get_running_loop()
    far = Recorder()
    server = await serve(lambda: far, certificates().server_context())
    sock = socket.create_connection(("127.0.0.1", port_of(server)))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = certificates().client_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    sock.setblocking(False)
    while True:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            await loop.sock_sendall(sock, outgoing.read())
            incoming.write(await loop.sock_recv(sock, 1 << 16))
        else:
            break
    client.write(b"hello")
    await loop.sock_sendall(sock, outgoing.read())
    assert await far.got(5) == b"hello"
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    else:
        while True:  # session tickets: unread data would make it a reset
            try:
                sock.recv(1 << 16)
            except BlockingIOError:
                break
    sock.close()
    exc = await far.lost()
    if reset:
        assert type(exc) is ConnectionResetError
    else:
        assert exc is None
    server.close()


@looped
async def test_abort_during_a_large_write() -> None:
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        pair.far.pause_reading()
        pair.near.write(bytes(4 << 20))
        pair.near.abort()
        assert await near.lost() is None
        pair.far.resume_reading()
        await far.lost()
        assert len(far.received) < 4 << 20


@looped
async def test_shutdown_time_out() -> None:
    """The peer never answers the close_notify."""
    loop = asyncio.get_running_loop()
    keep_reports(loop)
    far = Recorder()
    server = await serve(
        lambda: far, certificates().server_context(), ssl_shutdown_timeout=0.01
    )
    port = port_of(server)

    def client() -> Any:
        plain = socket.create_connection(("127.0.0.1", port), 10)
        context = certificates().client_context()
        return context.wrap_socket(plain, server_hostname="localhost")

    with await loop.run_in_executor(None, client):
        await far.made()
        far.transport.close()
        exc = await far.lost()
        assert exc is None or isinstance(exc, TimeoutError)
    server.close()


@pytest.mark.parametrize("callback", ["connection_made", "data_received"])
@looped
async def test_close_inside_a_callback(callback: str) -> None:
    def close(protocol: Recorder, *args: Any) -> None:
        protocol.transport.write(b"bye")
        protocol.transport.close()

    near, far = Recorder(), Recorder(**{callback: close})
    async with link("tls", near, far) as pair:
        if callback == "data_received":
            pair.near.write(b"hello")
        assert await near.lost() is None
        assert near.received == b"bye"
        assert await far.lost() is None


@looped
async def test_data_received_that_raises() -> None:
    loop = asyncio.get_running_loop()
    reports = keep_reports(loop)

    def fail(protocol: Recorder, data: bytes) -> None:
        raise ValueError("hostile")

    near, far = Recorder(), Recorder(data_received=fail)
    async with link("tls", near, far) as pair:
        pair.near.write(b"hello")
        await far.lost()
        await near.lost()
        assert len(reports) == 1
        assert str(reports[0]["exception"]) == "hostile"
        reports.clear()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="new in 3.13")
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
@looped
async def test_server_ends_its_tls_clients(how: str) -> None:
    far, near = Recorder(), Recorder()
    server = await serve(lambda: far, certificates().server_context())
    await connect(server, near, certificates().client_context())
    await far.made()
    server.close()
    getattr(server, how)()
    await near.lost()
    await far.lost()
    await server.wait_closed()


@looped
async def test_many_tls_connections() -> None:
    far: list[Recorder] = []

    def factory() -> Recorder:
        far.append(Recorder(data_received=lambda p, data: p.transport.write(data)))
        return far[-1]

    server = await serve(factory, certificates().server_context())
    context = certificates().client_context()
    near = [Recorder() for _ in range(20)]
    await asyncio.gather(*(connect(server, protocol, context) for protocol in near))
    for number, protocol in enumerate(near):
        protocol.transport.write(b"%02d" % number * 5000)
    for number, protocol in enumerate(near):
        assert await protocol.got(10_000) == b"%02d" % number * 5000
        protocol.transport.close()
    for protocol in (*near, *far):
        assert await protocol.lost() is None
    server.close()


def test_connections_that_outlive_their_module(script: Any, monkeypatch: Any) -> None:
    # left open, and collected when all modules are gone: before the types, or after
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    script("""
        import asyncio, codecs, gc, select, socket, ssl, warnings
        from asyncio.sslproto import SSLProtocol
        warnings.simplefilter("ignore")

        class Loop(type(new_event_loop())):
            def __del__(self):
                pass

        def turn(loop):
            loop.call_soon(loop.stop)
            loop.run_forever()

        def used():
            loop = Loop()
            here, there = socket.socketpair()
            connecting = loop.create_task(
                loop.create_connection(
                    asyncio.Protocol,
                    sock=here,
                    ssl=ssl.create_default_context(),
                    server_hostname="localhost",
                )
            )
            while not select.select([there], [], [], 0)[0]:  # the ClientHello
                turn(loop)
            for protocol in [x for x in gc.get_objects() if isinstance(x, SSLProtocol)]:
                protocol.itself = protocol
            connecting.cancel()
            turn(loop)
            loop.itself = loop, there
            return loop

        codecs.register(lambda name: None)  # keeps this module
        kept = used()
    """)
