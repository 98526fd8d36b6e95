"""What a program may put into an SSLContext, and what comes of it."""

from __future__ import annotations

import asyncio
import pathlib
import socket
import ssl
from typing import Any

import pytest

from asynccore import _tls
from support import Recorder, certificates, compare, looped, only_asynccore, settle
from support.tls import raw_peer

TLS_WAYS = True  # conftest: on the loops, and with records by ssl.MemoryBIO


async def pair(
    server: ssl.SSLContext, client: ssl.SSLContext, **kwargs: Any
) -> tuple[Recorder, Recorder]:
    """Both ends of a connection on the loop under test."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    near, far = Recorder(), Recorder()
    made = await asyncio.gather(
        loop.create_connection(
            lambda: near, sock=here, ssl=client, server_hostname="localhost", **kwargs
        ),
        loop.connect_accepted_socket(lambda: far, there, ssl=server),
        return_exceptions=True,
    )
    for result in made:
        if isinstance(result, BaseException):
            result.__traceback__ = None
            raise result
    return near, far


async def end(*protocols: Recorder) -> None:
    for protocol in protocols:
        protocol.transport.abort()
        await protocol.lost()


async def speak(near: Recorder, far: Recorder) -> None:
    """Data in both directions."""
    near.received.clear()
    far.received.clear()
    near.transport.write(b"there")
    assert await far.got(5) == b"there"
    far.transport.write(b"back" * 10_000)
    assert await near.got(40_000) == b"back" * 10_000


def trusting(kind: type[ssl.SSLContext]) -> ssl.SSLContext:
    """A client's context of a class of the program's."""
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates().authority)
    return context


# --- sessions ---


class Resuming(ssl.SSLContext):
    """Goes on with the session that it was given."""

    kept: Any = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, session=self.kept, **kwargs)


@pytest.mark.parametrize("tickets", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@looped
async def test_sessions(version: ssl.TLSVersion, tickets: bool) -> None:
    """With a ticket, or with a session that the server keeps."""
    serving = certificates().server_context()
    serving.maximum_version = version
    if not tickets:
        serving.options |= ssl.OP_NO_TICKET
    context: Any = trusting(Resuming)
    reused = []
    for _ in range(3):
        near, far = await pair(serving, context)
        await speak(near, far)
        found = near.transport.get_extra_info("ssl_object")
        reused.append((found.session_reused, found.session.has_ticket))
        assert (
            far.transport.get_extra_info("ssl_object").session_reused == reused[-1][0]
        )
        context.kept = found.session
        near.transport.close()
        assert await near.lost() is None
        assert await far.lost() is None
    with_ticket = tickets or version == ssl.TLSVersion.TLSv1_3
    assert reused == [(False, with_ticket), (True, with_ticket), (True, with_ticket)]


# --- what the peers agree on ---


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2"], "h2"), (["spdy/1"], None), ([], None)]
)
@looped
async def test_alpn(offered: list[str], chosen: str | None) -> None:
    serving, context = certificates().server_context(), certificates().client_context()
    serving.set_alpn_protocols(["http/1.1", "h2"])
    if offered:
        context.set_alpn_protocols(offered)
    near, far = await pair(serving, context)
    await speak(near, far)
    for protocol in (near, far):
        found = protocol.transport.get_extra_info("ssl_object")
        assert found.selected_alpn_protocol() == chosen
    await end(near, far)


@looped
async def test_extra_info() -> None:
    serving, context = certificates().server_context(), certificates().client_context()
    near, far = await pair(serving, context)
    info = near.transport.get_extra_info
    found = info("ssl_object")
    assert isinstance(found, ssl.SSLObject)
    assert info("sslcontext") is context is found.context
    assert info("cipher") == found.cipher()
    assert info("compression") is None
    assert info("peercert") == found.getpeercert()
    assert info("peercert")["subject"] == ((("commonName", "server"),),)
    assert info("socket").family == socket.AF_UNIX
    assert info("nothing", "default") == "default"
    binding = found.get_channel_binding("tls-unique")
    there = far.transport.get_extra_info("ssl_object")
    assert binding == there.get_channel_binding("tls-unique")
    assert there.getpeercert() is None
    assert there.shared_ciphers()
    assert "SSL" in type(near.transport).__name__
    assert near.transport._start_tls_compatible
    await end(near, far)


@looped
async def test_keylog(tmp_path: pathlib.Path) -> None:
    serving, context = certificates().server_context(), certificates().client_context()
    for name, one in (("server", serving), ("client", context)):
        one.keylog_filename = str(tmp_path / name)
    near, far = await pair(serving, context)
    await speak(near, far)
    await end(near, far)
    logs = [
        {line for line in (tmp_path / name).read_text().splitlines() if line[0] != "#"}
        for name in ("server", "client")
    ]
    assert logs[0] == logs[1]
    assert {line.split()[0] for line in logs[0]} >= {
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
    }


# --- certificates of the client ---


@pytest.mark.parametrize("trusted", [True, False])
@looped
async def test_post_handshake_authentication(trusted: bool) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    serving = certificates().server_context(verify=True)
    serving.post_handshake_auth = True
    context = certificates().client_context(certificates().client if trusted else None)
    context.post_handshake_auth = True
    near, far = await pair(serving, context)
    await speak(near, far)
    found = far.transport.get_extra_info("ssl_object")
    assert found.getpeercert() is None
    found.verify_client_post_handshake()
    far.transport.write(b"!")  # the request leaves with the next record
    await near.got(40_001)
    if trusted:
        await speak(near, far)
        assert found.getpeercert()["subject"] == ((("commonName", "client"),),)
        await end(near, far)
    else:
        near.transport.write(b"not to be read")
        exc = await far.lost()
        assert isinstance(exc, ssl.SSLError)
        assert exc.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        exc.__traceback__ = None
        await near.lost()
        assert far.received == b"there"


# --- classes of the program's ---


class Noting(ssl.SSLObject):
    """Says which of its methods were called."""

    calls: list[str]

    def read(self, *args: Any) -> Any:
        self.calls.append("read")
        return super().read(*args)

    def write(self, data: Any) -> int:
        self.calls.append("write")
        return super().write(data)

    def do_handshake(self) -> None:
        self.calls.append("do_handshake")
        super().do_handshake()

    def unwrap(self) -> Any:
        self.calls.append("unwrap")
        return super().unwrap()


@pytest.mark.parametrize("server_side", [False, True])
@looped
async def test_methods_of_a_subclass_are_called(server_side: bool) -> None:
    calls: list[str] = []
    noting = type("Noting", (Noting,), {"calls": calls})
    serving, context = certificates().server_context(), certificates().client_context()
    (serving if server_side else context).sslobject_class = noting
    near, far = await pair(serving, context)
    assert type(
        (far if server_side else near).transport.get_extra_info("ssl_object")
    ) is (noting)
    assert set(calls) <= {"do_handshake", "read"}
    assert "do_handshake" in calls
    await speak(near, far)
    assert {"read", "write"} < set(calls)
    assert "unwrap" not in calls
    near.transport.close()
    assert await near.lost() is None
    assert await far.lost() is None
    assert "unwrap" in calls


class Trust(ssl.SSLContext):
    """As truststore does it: another place decides about the peer's chain."""

    decide: Any = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        made = super().wrap_bio(*args, **kwargs)
        assert type(made) is Deciding
        return made


class Deciding(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        certificate = self.getpeercert(binary_form=True)
        self.context.decide(certificate)  # type: ignore[attr-defined]


@pytest.mark.parametrize("good", [True, False])
@looped
async def test_decision_after_the_handshake(good: bool) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    seen: list[Any] = []

    def decide(certificate: Any) -> None:
        seen.append(certificate)
        if not good:
            raise ssl.SSLCertVerificationError("not today")

    context = Trust(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslobject_class = Deciding
    context.decide = decide
    if good:
        near, far = await pair(certificates().server_context(), context)
        await speak(near, far)
        await end(near, far)
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match="not today"):
            await pair(certificates().server_context(), context)
        await settle()
    assert len(seen) == 1
    assert seen[0].startswith(b"0\x82")


# --- callbacks of OpenSSL ---


@looped
async def test_another_context_for_a_name() -> None:
    """Another certificate, another protocol of the application."""
    serving = certificates().server_context(certificates().other)
    right = certificates().server_context()
    right.set_alpn_protocols(["h2"])
    names: list[Any] = []

    def choose(found: Any, name: Any, _: Any) -> None:
        names.append(name)
        if name == "localhost":
            found.context = right

    serving.sni_callback = choose
    context = certificates().client_context()
    context.set_alpn_protocols(["h2"])
    near, far = await pair(serving, context)
    await speak(near, far)
    found = far.transport.get_extra_info("ssl_object")
    assert found.context is right
    assert names == ["localhost"]
    await end(near, far)


@pytest.mark.parametrize("answer", ["alert", "raises", "other", "aborts"])
def test_names_that_are_refused(both_factories: Any, faults: Any, answer: str) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        serving = certificates().server_context()
        far = Recorder()

        def refuse(found: Any, name: Any, context: Any) -> Any:
            if answer == "alert":
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            if answer == "raises":
                raise ValueError("hostile")
            if answer == "aborts":
                below.abort()
                return None
            return "no number"

        serving.sni_callback = refuse
        here, there = socket.socketpair()
        transport, _ = await loop.create_connection(Recorder, sock=here, ssl=None)
        below = transport
        upgrading = asyncio.ensure_future(
            loop.start_tls(transport, far, serving, server_side=True)
        )
        connecting = asyncio.ensure_future(
            loop.create_connection(
                Recorder,
                sock=there,
                ssl=certificates().client_context(),
                server_hostname="localhost",
            )
        )
        found = []
        for result in await asyncio.gather(
            upgrading, connecting, return_exceptions=True
        ):
            found.append((type(result).__name__, getattr(result, "reason", None)))
            if isinstance(result, BaseException):
                result.__traceback__ = None
        await settle()
        assert transport.is_closing()
        return found[0]  # the standard loop sends no alert to the client

    for name in ("direct", "memorybio"):
        former = _tls.mode()
        _tls.use(name)
        try:
            compare(both_factories, scenario)
        finally:
            _tls.use(former)
    faults.take_unraisable()


@pytest.mark.parametrize("when", ["handshake", "records"])
def test_message_callback_that_raises(
    both_factories: Any, faults: Any, when: str
) -> None:
    async def scenario() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        failing = when == "handshake"
        seen: list[str] = []

        def callback(conn: Any, direction: str, *_: Any) -> None:
            seen.append(direction)
            if failing and direction == "read":
                raise ValueError("hostile")

        context = certificates().server_context()
        context._msg_callback = callback  # type: ignore[attr-defined]
        near = Recorder()
        found: Any = None
        try:
            async with raw_peer(near, server_side=True, context=context) as peer:
                failing = True
                await peer.send(b"hello")
                exc = await near.lost()
                found = type(exc).__name__, str(exc), bytes(near.received)
        except (ValueError, ConnectionError, ssl.SSLError) as exc:
            found = type(exc).__name__, str(exc)
            exc.__traceback__ = None
        await settle()
        assert seen
        near.calls.clear()
        return found

    compare(both_factories, scenario)
    faults.take_unraisable()


@only_asynccore
@pytest.mark.parametrize("when", ["read", "write"])
@looped
async def test_message_callback_that_writes(when: str) -> None:
    """What is written while OpenSSL is at work leaves by itself afterwards."""
    near = Recorder(data_received=lambda p, data: p.transport.write(b"answer"))
    pending = [b"written in the middle"]

    def callback(conn: Any, direction: str, *_: Any) -> None:
        if pending and direction == when and near.transport is not None:
            near.transport.write(pending.pop())

    context = certificates().server_context()
    context._msg_callback = callback  # type: ignore[attr-defined]
    async with raw_peer(near, server_side=True, context=context) as peer:
        await near.made()
        await peer.send(b"hello")
        said = b"answer", b"written in the middle"
        assert await peer.recv(27) in (b"".join(said), b"".join(said[::-1]))
        assert await near.got(5) == b"hello"


@pytest.mark.parametrize("how", ["abort", "close"])
@looped
async def test_message_callback_that_ends_the_connection(how: str) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    near = Recorder()
    ended = []

    def callback(conn: Any, direction: str, *_: Any) -> None:
        if direction == "read" and near.transport is not None and not ended:
            ended.append(True)
            getattr(near.transport, how)()

    context = certificates().server_context()
    context._msg_callback = callback  # type: ignore[attr-defined]
    async with raw_peer(near, server_side=True, context=context) as peer:
        await near.made()
        await peer.send(b"hello")
        await peer.loop.sock_sendall(peer.sock, b"")
        peer.sock.shutdown(socket.SHUT_WR)
        await near.until(lambda: near.count("connection_lost"))
    assert ended
