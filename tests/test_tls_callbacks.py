"""Protocols that close, abort, replace themselves, stop the loop or raise in each of
their callbacks over TLS; connections that nobody closes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from asynccore import _tls
from support import BufferedRecorder, Recorder, certificates, looped, settle
from support.tls import RawPeer, raw_peer

TLS_WAYS = True  # conftest: on the loops, and with records by ssl.MemoryBIO

LARGE = bytes(1 << 20)  # more than the high-water marks and the kernel's buffers


# --- what a callback may do ---


def close(protocol: Any) -> None:
    protocol.transport.close()


def abort(protocol: Any) -> None:
    protocol.transport.abort()


def close_twice(protocol: Any) -> None:
    protocol.transport.close()
    protocol.transport.close()


def replace(protocol: Any) -> None:
    """Another protocol of another kind goes on; it closes when it gets something."""
    if not isinstance(protocol, BufferedRecorder):
        other: Any = BufferedRecorder(buffer_updated=lambda p, n: p.transport.close())
    else:
        other = Recorder(data_received=lambda p, data: p.transport.close())
    other.transport = protocol.transport
    protocol.transport.set_protocol(other)
    protocol.other = other


def write(protocol: Any) -> None:
    protocol.transport.write(b"from within")


def pause(protocol: Any) -> None:
    protocol.transport.pause_reading()
    asyncio.get_running_loop().call_soon(protocol.transport.resume_reading)


def stop(protocol: Any) -> None:
    asyncio.get_running_loop().stop()


def fail(protocol: Any) -> None:
    raise ValueError("hostile")


ACTIONS = (close, abort, close_twice, replace, write, pause, stop, fail)
CALLBACKS = (
    "connection_made",
    "received",
    "eof_received",
    "pause_writing",
    "resume_writing",
    "connection_lost",
)


def run(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    """To the end, also if the loop is stopped on the way."""
    task = loop.create_task(asyncio.wait_for(coroutine, 20))
    while not task.done():
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(task)
    return task.result()


async def life(kind: Any, callback: str, action: Callable[[Any], None]) -> Any:
    """A whole connection; the callback does its thing when it is called first."""
    loop = asyncio.get_running_loop()
    reports: list[Any] = []
    loop.set_exception_handler(
        lambda _, context: reports.append(
            (context["message"], type(context.get("exception")).__name__)
        )
    )
    acted: list[bool] = []

    def act(protocol: Any, *_: Any) -> None:
        if not acted:
            acted.append(True)
            action(protocol)

    names = [callback]
    if callback == "received":
        names = ["data_received", "buffer_updated"]
    near = kind(**dict.fromkeys(names, act))
    here, there = socket.socketpair()
    with here, there:
        peer = RawPeer(there, certificates().client_context(), False)
        making = asyncio.ensure_future(
            loop.connect_accepted_socket(
                lambda: near, here, ssl=certificates().server_context()
            )
        )
        got = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await peer.handshake()
            await settle()
            await peer.send(b"hello")
            await settle()
            if callback in ("pause_writing", "resume_writing"):
                for _ in range(3):
                    if not near.transport.is_closing():
                        near.transport.write(LARGE)
                got = await peer.recv(3 * len(LARGE))
            await settle()
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.tls.unwrap()
            await peer.flush()
            while piece := await peer.recv(100):
                got += piece
        outcome = (await asyncio.gather(making, return_exceptions=True))[0]
        if isinstance(outcome, BaseException):
            outcome.__traceback__ = None
        there.close()
        seen = [near, *([near.other] if hasattr(near, "other") else [])]
        await seen[-1].until(lambda: seen[-1].count("connection_lost"))
        await settle()
        told = []
        for protocol in seen:
            ends = [call[1] for call in protocol.calls if call[0] == "connection_lost"]
            assert len(ends) == (protocol is seen[-1])
            for exc in ends:
                if exc is not None:
                    exc.__traceback__ = None
            told.append((protocol.names(), bytes(protocol.received), repr(ends)))
            protocol.calls[:] = []
            protocol.note("connection_lost", None)
        assert acted
        made = not isinstance(outcome, BaseException)
        return told, got.strip(b"\0"), got.count(0) == 3 * len(LARGE), made, reports


@pytest.mark.parametrize("way", _tls.MODES[:2])
@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize(
    ("callback", "action"),
    [
        pytest.param(callback, action, id=f"{action.__name__}-{callback}")
        for callback in CALLBACKS
        for action in ACTIONS
        if (callback, action) != ("connection_lost", replace)
    ],
)
def test_action_in_a_callback(
    both_factories: Any, faults: Any, way: str, kind: Any, callback: str, action: Any
) -> None:
    results = []
    former = _tls.mode()
    _tls.use(way)
    try:
        for factory in both_factories:
            loop = factory()
            try:
                results.append(run(loop, life(kind, callback, action)))
            finally:
                loop.close()
    finally:
        _tls.use(former)
    faults.take_log()
    # the standard transport that is aborted as it resumes writing may end twice
    twice = "Exception in callback _SelectorSocketTransport._call_connection_lost("
    for *_, reports in results:
        reports[:] = [report for report in reports if not report[0].startswith(twice)]
    assert results[0] == results[1]


# --- nobody closes it ---


@looped
async def test_written_from_a_finalizer() -> None:
    """`__del__` of something that the last callback has kept alive."""
    near = Recorder()
    async with raw_peer(near) as peer:

        class Last:
            def __del__(self) -> None:
                near.transport.write(b"from a finalizer")

        def drop(protocol: Any, data: bytes) -> None:
            last = Last()
            last.itself = last  # type: ignore[attr-defined]
            del last
            gc.collect()

        near.hooks["data_received"] = drop
        await peer.send(b"hello")
        assert await peer.recv(16) == b"from a finalizer"


async def accepted() -> tuple[Any, RawPeer, socket.socket]:
    """The server's protocol of a connection, its peer, and the peer's socket."""
    here, there = socket.socketpair()
    peer = RawPeer(there, certificates().client_context(), False)
    near = Recorder()
    await asyncio.gather(
        asyncio.get_running_loop().connect_accepted_socket(
            lambda: near, here, ssl=certificates().server_context()
        ),
        peer.handshake(),
    )
    return near, peer, there


def test_dropped_without_closing(loop_factory: Any, faults: Any) -> None:
    """Both layers say so, and the descriptor is closed."""
    loop = loop_factory()

    async def main() -> Any:
        near, _, there = await accepted()
        near.transport.pause_reading()
        found = weakref.ref(near.transport._ssl_protocol)
        near.transport._ssl_protocol._transport.pause_reading()
        near.calls.clear()
        near.transport = None
        return found, there

    found, there = loop.run_until_complete(main())
    gc.collect()
    loop.close()
    gc.collect()
    assert found() is None
    there.setblocking(False)
    while there.recv(1 << 16):
        pass
    there.close()
    warned = " ".join(faults.take_unraisable())
    assert "unclosed transport <asyncio._SSLProtocolTransport object>" in warned


@pytest.mark.parametrize("busy", [False, True])
def test_loop_closed_with_open_connections(
    loop_factory: Any, faults: Any, busy: bool
) -> None:
    loop = loop_factory()

    async def main() -> Any:
        near, peer, there = await accepted()
        if busy:
            near.transport.write(LARGE)
            peer.tls.write(b"never read")
            await peer.flush()
        return near, there

    near, there = loop.run_until_complete(main())
    loop.close()
    near.transport.write(b"after the end")
    with contextlib.suppress(RuntimeError):
        near.transport.abort()
    near.calls.clear()
    del near
    gc.collect()
    there.close()
    warned = " ".join(faults.take_unraisable())
    assert "unclosed transport" in warned
