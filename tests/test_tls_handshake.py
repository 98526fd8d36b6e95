"""The constructor and the handshake: what a program may put in their way."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import warnings
from asyncio import constants, sslproto
from types import MethodType
from typing import Any
from unittest import mock

import pytest

from asynccore import _tls
from support import Recorder, certificates, compare, looped, only_asynccore
from support.links import link
from support.protocols import Log
from support.tls import raw_peer

TLS_WAYS = True  # conftest: on the loops, and with records by ssl.MemoryBIO


# --- what the short way must not pass over; it is left for good once a class has
# been changed, as is done below ---


@pytest.mark.parametrize("how", ["function", "method"])
@looped
async def test_method_replaced_in_an_ssl_object(how: str) -> None:
    error = ssl.SSLError(1, "odd")
    called = []

    def unwrap(self: Any = None) -> None:
        called.append(self)
        raise error

    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        sslobj = pair.near.get_extra_info("ssl_object")
        sslobj.unwrap = MethodType(unwrap, sslobj) if how == "method" else unwrap
        pair.near.close()
        assert await near.lost() is error
        assert called == [sslobj if how == "method" else None]
    error.__traceback__ = None
    del sslobj.unwrap


@looped
async def test_method_replaced_by_the_callback_of_a_name() -> None:
    certificate: dict[str, Any] = {"subject": ()}

    def choose(sslobj: Any, name: str, _: Any) -> None:
        sslobj.getpeercert = lambda *args: certificate

    context = certificates().server_context()
    context.sni_callback = choose
    far = Recorder()
    async with raw_peer(far, server_side=True, context=context):
        await far.made()
        assert far.transport.get_extra_info("peercert") is certificate


@looped
async def test_context_that_can_not_serve() -> None:
    """It fails at once, not when the client speaks."""
    context = certificates().server_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
        context.options |= ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3
    here, there = socket.socketpair()
    loop = asyncio.get_running_loop()
    with here, pytest.raises(ssl.SSLError, match="NO_PROTOCOLS_AVAILABLE"):
        await loop.connect_accepted_socket(asyncio.Protocol, there, ssl=context)


@pytest.mark.parametrize("server_side", [False, True])
@pytest.mark.parametrize("name", [None, ""])
def test_name_that_is_missing(
    both_factories: Any, server_side: bool, name: str | None
) -> None:
    """A context with check_hostname refuses to go without, from 3.15 on."""
    _tls.mode()  # what is looked up with the first connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if server_side:
        context = certificates().server_context()
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = True
    results = []
    for kind in (sslproto.SSLProtocol, _tls.SSLProtocol):
        try:
            one: Any = kind(None, asyncio.Protocol(), context, None, server_side, name)  # type: ignore[arg-type]
        except ValueError as exc:
            results.append(str(exc))
        else:
            one._app_transport._closed = True
            results.append("")
    assert results[0] == results[1]


# --- classes of the ssl module that somebody has changed ---


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (ssl.SSLContext, "wrap_bio"),
        (ssl.SSLContext, "_encode_hostname"),
        (ssl.SSLObject, "_create"),
        (ssl.SSLObject, "do_handshake"),
        (ssl.SSLObject, "getpeercert"),
        (ssl.SSLObject, "cipher"),
        (ssl.SSLObject, "compression"),
    ],
)
@looped
async def test_replaced_methods_are_called(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    async with link("tls", Log(), Log()):
        pass  # what is looked up with the first connection has been
    calls = []
    found: Any = vars(owner)[name]
    plain = found.__func__ if isinstance(found, classmethod) else found

    def replacement(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(self)
        return plain(self, *args, **kwargs)

    made: Any = replacement
    monkeypatch.setattr(
        owner, name, classmethod(made) if plain is not found else replacement
    )
    async with link("tls", Log(), Log()):
        pass
    assert len(calls) >= 2  # both ends


@pytest.mark.parametrize("server_side", [False, True])
@looped
async def test_attribute_of_a_context(server_side: bool) -> None:
    """A method in the instance's own dict comes before that of the class."""
    calls = []

    def wrap_bio(*args: Any, **kwargs: Any) -> ssl.SSLObject:
        calls.append(args)
        return ssl.SSLContext.wrap_bio(context, *args, **kwargs)

    serving, asking = certificates().server_context(), certificates().client_context()
    context: Any = serving if server_side else asking
    context.wrap_bio = wrap_bio
    here, there = socket.socketpair()
    loop = asyncio.get_running_loop()
    near, far = Recorder(), Recorder()
    await asyncio.gather(
        loop.create_connection(
            lambda: near, sock=here, ssl=asking, server_hostname="localhost"
        ),
        loop.connect_accepted_socket(lambda: far, there, ssl=serving),
    )
    assert len(calls) == 1
    near.transport.abort()
    await near.lost()
    await far.lost()


REPLACED_BEFORE = """
import sys
from asynccore import _tls

owner, name, kind = sys.argv[3:]
owner = getattr(ssl, owner)
found = vars(owner)[name]
plain = getattr(found, "__func__", found)
calls = []


class Descriptor:
    def __get__(self, instance, owner):
        return lambda *args, **kwargs: replacement(instance or owner, *args, **kwargs)


def replacement(self, *args, **kwargs):
    if running:
        calls.append(self)
    return plain(self, *args, **kwargs)


getattr(owner, name)  # its version is known
running = False
setattr(
    owner,
    name,
    {"descriptor": Descriptor(), "classmethod": classmethod(replacement)}[kind],
)
getattr(owner, name)
_tls.mode()  # what is looked up with the first connection
running = True
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(sys.argv[1])
client_context = ssl.create_default_context(cafile=sys.argv[2])


async def main():
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    near, far = await asyncio.gather(
        loop.create_connection(
            asyncio.Protocol, sock=here, ssl=client_context, server_hostname="localhost"
        ),
        loop.connect_accepted_socket(asyncio.Protocol, there, ssl=server_context),
    )
    near[0].abort()
    far[0].abort()
    await asyncio.sleep(0)


import asyncio, socket
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
assert len(calls) == 2, calls
"""


@pytest.mark.parametrize(
    ("owner", "name", "kind"),
    [
        ("SSLObject", "_create", "classmethod"),
        ("SSLObject", "cipher", "descriptor"),
        ("SSLContext", "wrap_bio", "descriptor"),
    ],
)
def test_methods_replaced_before_the_first_connection(
    script: Any, owner: str, name: str, kind: str
) -> None:
    """By anything that can be called, not by functions alone."""
    files = certificates()
    code = "import ssl\n" + REPLACED_BEFORE
    script(code, str(files.server), str(files.authority), owner, name, kind)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (sslproto._SSLProtocolTransport, "__init__"),
        (sslproto._SSLProtocolTransport, "is_closing"),
        (sslproto.SSLProtocol, "_do_read__copied"),
        (sslproto.SSLProtocol, "_on_handshake_complete"),
    ],
)
@looped
async def test_replaced_methods_of_asyncio_are_called(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    calls = []
    plain: Any = vars(owner)[name]

    def replacement(self: Any, *args: Any) -> Any:
        calls.append(self)
        return plain(self, *args)

    monkeypatch.setattr(owner, name, replacement)
    near, far = Recorder(), Recorder()
    async with link("tls", near, far) as pair:
        pair.near.write(b"hello")
        assert await far.got(5) == b"hello"
        assert not pair.near.is_closing()
        assert not pair.far.is_closing()
    assert len(set(calls)) == 2  # both ends


@looped
async def test_replaced_max_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sslproto.SSLProtocol, "max_size", 100)
    async with link("tls", Log(), Log()) as pair:
        assert pair.near._ssl_protocol.max_size == 100


# --- methods that fail ---


def failing(name: str, error: BaseException) -> type[ssl.SSLObject]:
    def fail(self: Any) -> Any:
        raise error

    return type("Failing", (ssl.SSLObject,), {name: fail})


@pytest.mark.parametrize("server_side", [False, True])
@pytest.mark.parametrize(
    "error",
    [ValueError("odd"), ssl.SSLError(1, "odd"), ssl.CertificateError(1, "odd")],
    ids=["ValueError", "SSLError", "CertificateError"],
)
@pytest.mark.parametrize(
    "name", ["do_handshake", "getpeercert", "cipher", "compression"]
)
def test_methods_that_fail(
    both_factories: Any, name: str, error: BaseException, server_side: bool
) -> None:
    """The same exceptions reach the same places, and the connection ends."""

    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        told: list[Any] = []
        loop.set_exception_handler(
            lambda loop, context: told.append(
                # without the arguments of a callback: transports have names
                (context["message"].split("(")[0], repr(context.get("exception")))
            )
        )
        serving = certificates().server_context()
        asking = certificates().client_context()
        (serving if server_side else asking).sslobject_class = failing(name, error)
        here, there = socket.socketpair()
        near, far = Recorder(), Recorder()
        ends = await asyncio.gather(
            asyncio.wait_for(
                loop.create_connection(
                    lambda: near, sock=here, ssl=asking, server_hostname="localhost"
                ),
                5,
            ),
            asyncio.wait_for(
                loop.connect_accepted_socket(lambda: far, there, ssl=serving), 5
            ),
            return_exceptions=True,
        )
        seen = [
            (type(end).__name__, str(end)) if isinstance(end, Exception) else "made"
            for end in ends
        ]
        for end in ends:
            if isinstance(end, Exception):
                end.__traceback__ = None
            else:
                end[0].abort()  # type: ignore[index]
        for end in (here, there):
            if end.fileno() >= 0:
                end.close()
        for _ in range(5):
            await asyncio.sleep(0)
        return seen[server_side], told, near.transport is None, far.transport is None

    seen, _, _, _ = compare(both_factories, scenario)
    assert seen != "made"


@looped
async def test_write_in_connection_made_is_observed() -> None:
    """An exception of _msg_callback ends the connection, as with later writes."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(context.get("exception"))
    )
    error = ValueError("odd")

    def callback(conn: Any, direction: str, *_: Any) -> None:
        if near.count("connection_made") and direction == "write":
            raise error

    context = certificates().server_context()
    context._msg_callback = callback  # type: ignore[attr-defined]
    near = Recorder(connection_made=lambda _, transport: transport.write(b"hello"))
    async with raw_peer(near, server_side=True, context=context):
        assert await near.lost() is error
    assert told[0] is error
    error.__traceback__ = None
    told.clear()


def test_extra_that_is_gone(both_factories: Any) -> None:
    async def scenario() -> Any:
        class Taking(ssl.SSLObject):
            def getpeercert(self, binary_form: bool = False) -> Any:
                transport._ssl_protocol._extra = None
                return None

        loop: Any = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        serving = certificates().server_context()
        serving.sslobject_class = Taking
        here, there = socket.socketpair()
        there.setblocking(False)
        waiter = loop.create_future()
        near, far = Recorder(), Recorder()
        transport = loop._make_ssl_transport(
            there, far, serving, waiter, server_side=True
        )
        asking = certificates().client_context()
        await loop.create_connection(
            lambda: near, sock=here, ssl=asking, server_hostname="localhost"
        )
        with pytest.raises(AttributeError) as caught:
            await waiter
        await near.lost()
        return str(caught.value)

    compare(both_factories, scenario)


class Replacing(Log, asyncio.Protocol):
    """Another protocol takes its place while its method is looked up."""

    connection_made = Log.connection_made

    @property
    def connection_lost(self) -> Any:  # type: ignore[override]
        if self.transport.get_protocol() is self:
            self.transport.set_protocol(asyncio.Protocol())
        return lambda exc: self.note("connection_lost", exc)


@looped
async def test_protocol_that_is_replaced_at_the_end() -> None:
    here, there = socket.socketpair()
    loop = asyncio.get_running_loop()
    near, far = Replacing(), Recorder()
    await asyncio.gather(
        loop.create_connection(
            lambda: near,
            sock=here,
            ssl=certificates().client_context(),
            server_hostname="localhost",
        ),
        loop.connect_accepted_socket(
            lambda: far, there, ssl=certificates().server_context()
        ),
    )
    near.transport.abort()
    await near.until(lambda: near.count("connection_lost") > 0)
    await far.lost()
    assert near.count("connection_lost") == 1


# --- the constructor ---


@pytest.mark.parametrize("kilobytes", [0, 0.5, 10**30, True])
@looped
async def test_odd_limits(monkeypatch: pytest.MonkeyPatch, kilobytes: Any) -> None:
    monkeypatch.setattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_READ", kilobytes)
    monkeypatch.setattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_WRITE", 10**30)
    high = kilobytes * 1024
    async with link("tls", Log(), Log()) as pair:
        assert pair.near.get_read_buffer_limits() == (high // 4, high)
        assert pair.near.get_write_buffer_limits() == (10**30 * 256, 10**30 * 1024)


def test_wrong_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    context = certificates().client_context()
    messages = []
    for name in ("READ", "WRITE"):
        monkeypatch.setattr(constants, f"FLOW_CONTROL_HIGH_WATER_SSL_{name}", -1)
        for kind in (sslproto.SSLProtocol, _tls.SSLProtocol):
            with pytest.raises(ValueError, match="-1024") as caught:
                kind(None, asyncio.Protocol(), context, None, False, "localhost")  # type: ignore[arg-type]
            messages.append(str(caught.value))
        monkeypatch.undo()
    assert messages[0] == messages[1]
    assert messages[2] == messages[3]


def test_ssl_module_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sslproto, "ssl", None)
    context = certificates().client_context()
    with pytest.raises(RuntimeError, match="stdlib ssl module not available"):
        _tls.SSLProtocol(None, asyncio.Protocol(), context, None)  # type: ignore[arg-type]


@looped
async def test_replaced_memory_bio() -> None:
    with mock.patch("ssl.MemoryBIO", side_effect=ssl.MemoryBIO) as made:
        async with link("tls", Log(), Log()):
            pass
    assert made.call_count == 4  # two for each end


@looped
async def test_constants_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "SSL_HANDSHAKE_TIMEOUT", 7.5)
    monkeypatch.setattr(constants, "SSL_SHUTDOWN_TIMEOUT", 8)
    monkeypatch.setattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_READ", 4)
    monkeypatch.setattr(constants, "FLOW_CONTROL_HIGH_WATER_SSL_WRITE", 8)
    async with link("tls", Log(), Log()) as pair:
        for transport in (pair.near, pair.far):
            protocol = transport._ssl_protocol
            assert protocol._ssl_shutdown_timeout == 8
            assert protocol._incoming_high_water == 4096
            assert protocol._incoming_low_water == 1024
            assert transport.get_write_buffer_limits() == (2048, 8192)
        assert pair.near._ssl_protocol._ssl_handshake_timeout == 7.5


def wrong_arguments() -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    protocol, context = asyncio.Protocol(), certificates().client_context()
    usual = (None, protocol, context, None)
    return [
        ((), {}),
        (usual[:3], {}),
        ((*usual, False, None, True, None, None, None), {}),
        (usual, {"unknown": 1}),
        (usual, {"loop": None}),
        *((usual, {"ssl_handshake_timeout": value}) for value in (0, -1, -0.5, "1")),
        *((usual, {"ssl_shutdown_timeout": value}) for value in (0, -1, -0.5, "1")),
        ((None, protocol, None, None, True), {}),
        ((None, protocol, "context", None), {}),
        ((None, protocol, context, None), {"server_hostname": ".wrong"}),
    ]


@pytest.mark.parametrize("number", range(len(wrong_arguments())))
def test_wrong_arguments(number: int) -> None:
    args, kwargs = wrong_arguments()[number]
    messages = []
    for kind in (sslproto.SSLProtocol, _tls.SSLProtocol):
        with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
            kind(*args, **kwargs)
        messages.append((caught.type, str(caught.value)))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("server_side", [False, True])
@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("name", [None, "", "localhost"])
@pytest.mark.parametrize("seconds", [None, 3, 0.5, 10**30, True])
def test_attributes(
    server_side: bool, made: bool, name: str | None, seconds: Any
) -> None:
    """What the constructor sets, and nothing but the buffer is missing."""
    context = certificates().server_context()
    if not server_side:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
    loop, protocol, waiter = object(), asyncio.Protocol(), object()
    seen: list[dict[str, Any]] = []
    for kind in (sslproto.SSLProtocol, _tls.SSLProtocol):
        one: Any = kind(
            loop,  # type: ignore[arg-type]
            protocol,
            context,
            waiter,  # type: ignore[arg-type]
            server_side,
            name,
            made,
            ssl_handshake_timeout=seconds,
            ssl_shutdown_timeout=seconds,
        )
        one._app_transport._closed = True
        names = vars(one) if kind is sslproto.SSLProtocol else seen[0]
        seen.append({name: getattr(one, name) for name in names})
    for attribute in ("_sslobj", "_incoming", "_outgoing", "_app_transport"):
        kinds = [type(one.pop(attribute)).__name__ for one in seen]
        assert kinds[0] == kinds[1]
    for attribute in ("_ssl_buffer", "_ssl_buffer_view"):  # ours needs none
        for values in seen:
            del values[attribute]
    assert seen[0] == seen[1]


# --- states ---


@pytest.mark.parametrize("new", list(sslproto.SSLProtocolState))
@pytest.mark.parametrize("old", list(sslproto.SSLProtocolState))
def test_states_that_may_follow(old: Any, new: Any) -> None:
    context = certificates().server_context()
    results = []
    for kind in (sslproto.SSLProtocol, _tls.SSLProtocol):
        one: Any = kind(object(), asyncio.Protocol(), context, None, True)  # type: ignore[arg-type]
        one._app_transport._closed = True
        one._state = old
        try:
            one._set_state(new)
        except RuntimeError as exc:
            results.append((one._state, str(exc)))
        else:
            results.append((one._state, ""))
    assert results[0] == results[1]


@only_asynccore
def test_transport_that_nobody_closed(loop: asyncio.AbstractEventLoop) -> None:
    said = []
    for kind in (sslproto._SSLProtocolTransport, _tls._SSLProtocolTransport):
        for closed in (True, False):
            transport: Any = kind(loop, None)  # type: ignore[arg-type]
            transport._closed = closed
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del transport
                gc.collect()
            said.append([(one.category, str(one.message)) for one in caught])
    assert said[0] == said[2] == []
    assert said[1] == said[3] != []
