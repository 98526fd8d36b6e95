"""Lets one allocation after the other fail in one call: `-m faults.memory STEP LOOP`.

In each round a step is set up, its n-th allocation fails, and then, whatever came of
it, the loop must go on: what was opened is closed, connection_lost comes at most once,
an echo works, and no descriptor stays. Only the call itself runs without memory, and
the callbacks in it are builtins: the interpreter's own code does not always survive it.
"""

from __future__ import annotations

import _testcapi  # the interpreter's own tests need it too
import asyncio
import contextlib
import contextvars
import functools
import gc
import importlib
import logging
import os
import pathlib
import socket
import ssl
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from . import memory_reader  # noqa: F401 - its steps
from .steps import STEPS, Call, one_turn, step, turns

FD_DIR = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
DATA = bytes(range(256)) * 40
LARGE = bytes(1 << 20)
devnull = os.open(os.devnull, os.O_RDWR)
HELD = 300  # more handles than a loop keeps for reuse
ENOUGH = 15  # rounds in a row without an exception: all allocations are through
FACTORIES = {
    "asyncio": "asyncio:SelectorEventLoop",
    "asynccore": "asynccore:new_event_loop",
}


class Receiver(asyncio.Protocol):
    """Its callbacks are builtins that allocate nothing: a deque has room at first."""

    def __init__(self) -> None:
        self.made: deque[Any] = deque()
        self.data: deque[bytes] = deque()
        self.lost: deque[Any] = deque()
        self.connection_made = self.made.append  # type: ignore[method-assign]
        self.data_received = self.data.append  # type: ignore[method-assign]
        self.connection_lost = self.lost.append  # type: ignore[method-assign]


class DatagramReceiver(asyncio.DatagramProtocol):
    """The same for datagrams: by their content, the sender."""

    def __init__(self) -> None:
        self.data: dict[bytes, Any] = {}
        self.lost: deque[Any] = deque()
        self.datagram_received = self.data.__setitem__  # type: ignore[method-assign]
        self.connection_lost = self.lost.append  # type: ignore[method-assign]


class BufferedReceiver(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.made: deque[Any] = deque()
        self.sizes: deque[int] = deque()
        self.lost: deque[Any] = deque()
        self.buffer = bytearray(1 << 16)
        self.connection_made = self.made.append  # type: ignore[method-assign]
        self.get_buffer = lambda hint: self.buffer  # type: ignore[method-assign]
        self.buffer_updated = self.sizes.append  # type: ignore[method-assign]
        self.connection_lost = self.lost.append  # type: ignore[method-assign]


@contextlib.contextmanager
def connected(loop: Any, kind: type = Receiver) -> Iterator[tuple[Any, Any, Any]]:
    """A transport, its protocol and the plain socket at the other end."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    protocol = kind()
    with there:
        transport = loop._make_socket_transport(here, protocol)
        turns(loop)
        try:
            yield transport, protocol, there
        finally:
            transport.abort()
            turns(loop)
            assert len(protocol.lost) == 1, protocol.lost


# ------------------------------------------------------------------- steps --


@step
def call_soon(loop: Any) -> Iterator[Call]:
    ran: list[int] = []
    yield functools.partial(loop.call_soon, ran.append, 1)
    turns(loop, 2)


@step
def call_soon_with_arguments(loop: Any) -> Iterator[Call]:
    yield functools.partial(loop.call_soon, max, 1, 2, 3, 4)
    turns(loop, 2)


@step
def call_soon_threadsafe(loop: Any) -> Iterator[Call]:
    yield functools.partial(loop.call_soon_threadsafe, max, 1, 2)
    turns(loop, 2)


@step
def call_soon_threadsafe_cancel(loop: Any) -> Iterator[Call]:
    yield loop.call_soon_threadsafe(max, 1, 2).cancel
    turns(loop, 2)


@step
def call_soon_threadsafe_lock(loop: Any) -> Iterator[Call]:
    handle = loop.call_soon_threadsafe(max, 1, 2)
    yield functools.partial(getattr, handle, "_lock", None)  # from 3.14 on
    turns(loop, 2)
    handle.cancel()


@step
def call_soon_threadsafe_lock_in_callback(loop: Any) -> Iterator[Call]:
    handle = loop.call_soon_threadsafe(getattr)
    handle._args = (handle, "_lock", None)
    yield one_turn(loop)
    turns(loop, 2)
    handle.cancel()


@step
def call_later(loop: Any) -> Iterator[Call]:
    yield functools.partial(loop.call_later, 0, max, 1, 2)
    turns(loop, 2)


@step
def timer_cancel(loop: Any) -> Iterator[Call]:
    yield loop.call_later(5, max, 1, 2).cancel
    turns(loop, 2)


@step
def ready_turn(loop: Any) -> Iterator[Call]:
    ran = bytearray(100)
    for i in range(50):
        loop.call_soon(ran.__setitem__, i, 1)
        loop.call_later(0, ran.__setitem__, 50 + i, 1)
    yield one_turn(loop)
    turns(loop, 4)
    assert ran.count(1) == 100, ran


@contextlib.contextmanager
def connecting(loop: Any) -> Iterator[tuple[Any, Receiver]]:
    """The coroutine of a connection, and the protocol that its factory gives."""
    core = importlib.import_module("asynccore._core")
    protocol = Receiver()
    with socket.create_server(("127.0.0.1", 0)) as server:
        coro = core.connect(loop, deque([protocol]).pop, *server.getsockname())
        try:
            yield coro, protocol
        finally:
            coro.close()
            turns(loop)
            for transport in protocol.made:
                transport.abort()
            turns(loop)
            assert len(protocol.lost) <= len(protocol.made) <= 1


@step
def connect(loop: Any) -> Iterator[Call]:
    with connecting(loop) as (coro, _):
        yield functools.partial(coro.send, None)


@step
def connected_by_the_loop(loop: Any) -> Iterator[Call]:
    with connecting(loop) as (coro, _):
        future = coro.send(None)
        yield one_turn(loop)
        turns(loop)
        assert future.done()


@step
def connection_opened(loop: Any) -> Iterator[Call]:
    with connecting(loop) as (coro, _):
        future = coro.send(None)
        turns(loop)
        assert future.done()
        yield functools.partial(coro.send, None)
        turns(loop)


@step
def new_loop(loop: Any) -> Iterator[Call]:
    """The part of it that is ours: the standard's constructor crashes 3.13.0."""
    made: list[Any] = [None]
    kind = next(
        c for c in type(loop).__mro__ if c.__module__.startswith("asynccore._c")
    )

    def make() -> None:
        made[0] = kind()

    yield make
    if made[0] is not None:
        made[0]._shut()


@step
def close_loop(loop: Any) -> Iterator[Call]:
    new = type(loop)()
    new.call_later(5, print)
    turns(new, 1)
    yield new.close
    new.close()


@step
def add_reader(loop: Any) -> Iterator[Call]:
    here, there = socket.socketpair()
    with here, there:
        seen: list[int] = []
        yield functools.partial(loop._add_reader, here.fileno(), seen.append, 1)
        there.send(b"x")
        turns(loop, 2)
        loop.remove_reader(here)


@step
def add_writer(loop: Any) -> Iterator[Call]:
    here, there = socket.socketpair()
    with here, there:
        seen: list[int] = []
        loop.add_reader(here, seen.append, 1)
        yield functools.partial(loop._add_writer, here.fileno(), seen.append, 2)
        turns(loop, 2)
        loop.remove_reader(here)
        loop.remove_writer(here)


@step
def reader_turn(loop: Any) -> Iterator[Call]:
    here, there = socket.socketpair()
    with here, there:
        seen: list[int] = []
        loop.add_reader(here, seen.append, 1)
        there.send(b"x")
        yield one_turn(loop)
        turns(loop, 2)
        assert seen
        loop.remove_reader(here)


@step
def make_transport(loop: Any) -> Iterator[Call]:
    here, there = socket.socketpair()
    here.setblocking(False)
    protocol = Receiver()
    made: list[Any] = [None]

    def make() -> None:
        made[0] = loop._make_socket_transport(here, protocol)

    with there:
        yield make
        turns(loop)
        if made[0] is not None:
            made[0].abort()
        turns(loop)
        here.close()
        # as on the standard loop, one that failed half-way may have been announced
        assert len(protocol.lost) == (made[0] is not None)


@step
def first_turn(loop: Any) -> Iterator[Call]:
    here, there = socket.socketpair()
    here.setblocking(False)
    protocol = Receiver()
    with there:
        transport = loop._make_socket_transport(here, protocol)
        yield one_turn(loop)
        turns(loop)
        transport.abort()
        turns(loop)
        assert len(protocol.lost) <= 1


@step
def read_turn(loop: Any) -> Iterator[Call]:
    with connected(loop) as (_, protocol, there):
        there.send(DATA)
        yield one_turn(loop)
        turns(loop, 3)
        received = b"".join(protocol.data)
        assert DATA.startswith(received)
        assert received == DATA or protocol.lost or not protocol.data
        assert protocol.lost or received, "neither data nor the end"


@contextlib.contextmanager
def datagrams(loop: Any) -> Iterator[tuple[Any, dict[bytes, Any], socket.socket]]:
    """A datagram transport, what it received, and a plain socket."""
    here, there = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    for sock in (here, there):
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
    protocol = DatagramReceiver()
    with there:
        transport = loop._make_datagram_transport(here, protocol)
        turns(loop)
        try:
            yield transport, protocol.data, there
        finally:
            transport.abort()
            turns(loop)
            assert len(protocol.lost) == 1, protocol.lost


@step
def datagram_sendto(loop: Any) -> Iterator[Call]:
    with datagrams(loop) as (transport, _, there):
        yield functools.partial(transport.sendto, DATA, there.getsockname())
        transport.sendto(b"after", there.getsockname())
        turns(loop, 3)
        got = [there.recv(1 << 16)]
        with contextlib.suppress(BlockingIOError):
            got.append(there.recv(1 << 16))
        assert got in ([DATA, b"after"], [b"after"]) or transport.is_closing(), got


@step
def datagram_turn(loop: Any) -> Iterator[Call]:
    with datagrams(loop) as (transport, received, there):
        for number in range(3):
            there.sendto(b"%d" % number * 500, transport.get_extra_info("sockname"))
        yield one_turn(loop)
        turns(loop, 5)
        # as on the standard loop, want of memory is a fatal error
        assert transport.is_closing() or len(received) >= 2, received


@step
def buffered_read_turn(loop: Any) -> Iterator[Call]:
    with connected(loop, BufferedReceiver) as (_, protocol, there):
        there.send(DATA)
        yield one_turn(loop)
        turns(loop, 3)
        assert protocol.lost or protocol.sizes


@step
def eof_turn(loop: Any) -> Iterator[Call]:
    with connected(loop) as (_, _, there):
        there.shutdown(socket.SHUT_WR)
        yield one_turn(loop)
        turns(loop, 3)


@step
def lost_turn(loop: Any) -> Iterator[Call]:
    with connected(loop) as (transport, _, _):
        transport.abort()
        yield one_turn(loop)


@step
def accept_turn(loop: Any) -> Iterator[Call]:
    protocols: list[Receiver] = []

    def factory() -> Receiver:
        protocols.append(Receiver())
        return protocols[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        yield one_turn(loop)
        turns(loop, 5)
        client.close()
        turns(loop, 5)
    server.close()
    turns(loop)
    assert all(len(p.lost) == len(p.made) for p in protocols)


def _writing(name: str, call: Callable[[Any], Call]) -> None:
    def writing(loop: Any) -> Iterator[Call]:
        with connected(loop) as (transport, _, _):
            yield call(transport)
            turns(loop, 2)

    writing.__name__ = name
    step(writing)


def _bound(name: str, *args: Any) -> Callable[[Any], Call]:
    return lambda transport: functools.partial(getattr(transport, name), *args)


_writing("write", _bound("write", DATA))
_writing("write_large", _bound("write", LARGE))
_writing("write_copied", _bound("write", bytearray(LARGE)))
_writing("write_lines", _bound("writelines", [DATA, bytearray(DATA), LARGE]))
_writing("write_end", _bound("write_eof"))
_writing("close", _bound("close"))
_writing("abort", _bound("abort"))
_writing("pause", _bound("pause_reading"))
_writing("limits", _bound("set_write_buffer_limits", 10))
_writing("limits_of", _bound("get_write_buffer_limits"))
_writing("extra_info", _bound("get_extra_info", "socket"))
_writing("set_protocol", lambda t: functools.partial(t.set_protocol, t.get_protocol()))


@step
def flush_turn(loop: Any) -> Iterator[Call]:
    with connected(loop) as (transport, protocol, there):
        transport.write(LARGE)
        transport.writelines([DATA, bytearray(DATA)])
        there.recv(1 << 20)
        yield one_turn(loop)
        turns(loop, 2)
        assert not transport.is_closing() or protocol.lost


@step
def cork_turn(loop: Any) -> Iterator[Call]:
    """The kernel takes a part of what a callback has written: the rest follows it."""
    written = b"w" * 30_000
    with connected(loop) as (transport, _, there):
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        loop.call_soon(transport.write, written)
        held = [contextvars.copy_context() for _ in range(HELD)]
        yield one_turn(loop)
        held.clear()
        got = b""
        for _ in range(30):
            with contextlib.suppress(BlockingIOError):
                got += there.recv(1 << 20)
            turns(loop, 1)
        assert got in (b"", written) or transport.is_closing(), len(got)


@step
def drain_turn(loop: Any) -> Iterator[Call]:
    """The queue leaves in several turns, then the transport closes."""
    with connected(loop) as (transport, _, there):
        transport.write(LARGE)
        transport.close()
        turns(loop, 1)
        there.recv(1 << 20)
        yield one_turn(loop)
        for _ in range(20):
            with contextlib.suppress(BlockingIOError):
                there.recv(1 << 20)
            turns(loop, 1)


# ------------------------------------------------------------------- pipes --


@contextlib.contextmanager
def piped(loop: Any, reading: bool) -> Iterator[tuple[Any, Any, int]]:
    """A pipe's transport, its protocol and the descriptor of the other end."""
    read, write = os.pipe()
    own, other = (read, write) if reading else (write, read)
    os.set_blocking(other, False)
    protocol = Receiver()
    protocol.eof_received = deque[Any]().clear  # type: ignore[method-assign]
    file = os.fdopen(own, "rb" if reading else "wb", 0)
    make = (
        loop._make_read_pipe_transport if reading else loop._make_write_pipe_transport
    )
    transport = make(file, protocol)
    turns(loop)
    try:
        yield transport, protocol, other
    finally:
        transport.close()
        with contextlib.suppress(OSError):
            os.read(other, 1 << 20)
        turns(loop)
        os.close(other)
        turns(loop)
        assert len(protocol.lost) == 1, protocol.lost
        assert file.closed


@step
def pipe_read_turn(loop: Any) -> Iterator[Call]:
    with piped(loop, True) as (_, protocol, other):
        os.write(other, DATA)
        yield one_turn(loop)
        turns(loop, 3)
        assert protocol.lost or protocol.data, "neither data nor the end"


@step
def pipe_large_read_turn(loop: Any) -> Iterator[Call]:
    with piped(loop, True) as (_, protocol, other):
        os.write(other, LARGE)
        turns(loop, 2)
        os.write(other, LARGE)
        yield one_turn(loop)
        turns(loop, 3)
        assert protocol.lost or len(protocol.data) >= 2


@step
def pipe_eof_turn(loop: Any) -> Iterator[Call]:
    with piped(loop, True) as (_, _, other):
        os.dup2(devnull, other)
        yield one_turn(loop)
        turns(loop, 3)


@step
def pipe_reader_left_turn(loop: Any) -> Iterator[Call]:
    with piped(loop, False) as (_, _, other):
        os.dup2(devnull, other)
        yield one_turn(loop)
        turns(loop, 3)


def _piping(name: str, call: Callable[[Any], Call], reading: bool = False) -> None:
    def piping(loop: Any) -> Iterator[Call]:
        with piped(loop, reading) as (transport, _, _):
            yield call(transport)
            turns(loop, 2)

    piping.__name__ = name
    step(piping)


_piping("pipe_write", _bound("write", DATA))
_piping("pipe_write_large", _bound("write", LARGE))
_piping("pipe_write_copied", _bound("write", bytearray(LARGE)))
_piping("pipe_write_end", _bound("write_eof"))
_piping("pipe_close", _bound("close"))
_piping("pipe_abort", _bound("abort"))
_piping("pipe_close_reading", _bound("close"), True)
_piping("pipe_pause", _bound("pause_reading"), True)


@step
def pipe_drain_turn(loop: Any) -> Iterator[Call]:
    with piped(loop, False) as (transport, _, other):
        transport.write(LARGE)
        os.read(other, 1 << 20)
        yield one_turn(loop)
        turns(loop, 2)


@step
def pipe_last_turn(loop: Any) -> Iterator[Call]:
    with piped(loop, False) as (transport, _, other):
        transport.write(bytes(100_000))
        transport.close()
        os.read(other, 1 << 20)
        yield one_turn(loop)
        turns(loop, 2)


# --------------------------------------------------------------------- TLS --


@functools.cache
def tls_contexts() -> tuple[Any, Any]:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    from support.certs import certificates

    return certificates().server_context(), certificates().client_context()


class Peer:
    """The client of a TLS connection: plain parts, driven by hand."""

    def __init__(self, loop: Any, sock: socket.socket, last: bool = True) -> None:
        """Shakes hands; if not `last`, nobody has read the client's last words."""
        self.loop, self.sock = loop, sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls_contexts()[1].wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                break
        if last:
            self.exchange()
        else:
            self.sock.send(self.outgoing.read())

    def exchange(self) -> None:
        if data := self.outgoing.read():
            self.sock.send(data)
        turns(self.loop, 3)
        with contextlib.suppress(BlockingIOError):
            self.incoming.write(self.sock.recv(1 << 20))

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.sock.send(self.outgoing.read())


@contextlib.contextmanager
def connected_tls(loop: Any, kind: type = Receiver) -> Iterator[tuple[Any, Any, Peer]]:
    """The same as `connected`, over TLS."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    protocol = kind()
    with there:
        transport = loop._make_ssl_transport(
            here, protocol, tls_contexts()[0], server_side=True
        )
        peer = Peer(loop, there)
        assert len(protocol.made) == 1
        try:
            yield transport, protocol, peer
        finally:
            transport.abort()
            turns(loop)
            assert len(protocol.lost) == 1, protocol.lost


@step
def tls_read_turn(loop: Any) -> Iterator[Call]:
    with connected_tls(loop) as (_, protocol, peer):
        peer.send(DATA)
        yield one_turn(loop)
        turns(loop, 3)
        received = b"".join(protocol.data)
        assert received == DATA or (protocol.lost and not received)


@step
def tls_buffered_read_turn(loop: Any) -> Iterator[Call]:
    with connected_tls(loop, BufferedReceiver) as (_, protocol, peer):
        peer.send(DATA)
        yield one_turn(loop)
        turns(loop, 3)
        assert protocol.lost or list(protocol.sizes) == [len(DATA)]


@step
def tls_paused_turn(loop: Any) -> Iterator[Call]:
    with connected_tls(loop) as (transport, protocol, peer):
        transport.pause_reading()
        peer.send(DATA)
        turns(loop, 2)
        peer.send(DATA)
        yield one_turn(loop)
        turns(loop, 3)
        if not protocol.lost:
            transport.resume_reading()
            turns(loop, 3)
            assert b"".join(protocol.data) == DATA * 2


def _writing_tls(name: str, call: Callable[[Any], Call]) -> None:
    def writing(loop: Any) -> Iterator[Call]:
        with connected_tls(loop) as (transport, protocol, peer):
            yield call(transport)
            turns(loop, 2)
            if not protocol.lost:
                peer.exchange()
                with contextlib.suppress(ssl.SSLWantReadError):
                    assert DATA.startswith(peer.tls.read(len(DATA)))

    writing.__name__ = name
    step(writing)


_writing_tls("tls_write", _bound("write", DATA))
_writing_tls("tls_write_copied", _bound("write", bytearray(DATA)))
_writing_tls("tls_write_large", _bound("write", DATA * 30))
_writing_tls("tls_write_lines", _bound("writelines", [DATA, bytearray(DATA)]))


@step
def tls_constructor(loop: Any) -> Iterator[Call]:
    from asynccore import _tls

    kind = type("Kind", (_tls.SSLProtocol,), {"_get_app_transport": staticmethod(int)})
    assert _tls.is_ours()
    yield functools.partial(kind, loop, Receiver(), tls_contexts()[0], None, True)


@step
def tls_handshake_turn(loop: Any) -> Iterator[Call]:
    """The last step of the handshake, up to connection_made()."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    protocol = Receiver()
    with there:
        transport = loop._make_ssl_transport(
            here, protocol, tls_contexts()[0], server_side=True
        )
        peer = Peer(loop, there, last=False)
        assert not protocol.made
        yield one_turn(loop)
        turns(loop, 3)
        if protocol.made:
            assert len(protocol.made) == 1
            transport.abort()
            turns(loop)
            assert len(protocol.lost) == 1
        else:  # it was ended, and nobody had been told of it
            transport.abort()
            turns(loop)
            assert not protocol.lost
        del peer


@step
def tls_lost_turn(loop: Any) -> Iterator[Call]:
    with connected_tls(loop) as (transport, _, _peer):
        transport.abort()
        yield one_turn(loop)
        turns(loop, 2)


# ------------------------------------------------------------------- sweep --


def attempt(loop: Any, name: str, n: int) -> bool:
    """One round. Returns whether the call raised nothing."""
    went_well = True
    with STEPS[name](loop) as call:
        # more of them in each round: the freelists are empty
        # and they have a context, which a handle that is kept would need when it runs
        context = contextvars.copy_context()
        count = HELD + 10 * n
        held = [loop.call_later(60, max, i, context=context) for i in range(count)]
        held += [loop.call_soon(max, 1, i, context=context) for i in range(count)]
        _testcapi.set_nomemory(n, n + 1)
        try:
            call()
        except MemoryError:
            went_well = False
        finally:
            _testcapi.remove_mem_hooks()
        for handle in held:
            handle.cancel()
        del held
    with connected(loop) as (transport, protocol, there):
        transport.write(DATA)
        there.send(DATA)
        turns(loop, 3)
        assert there.recv(1 << 16) == b"".join(protocol.data) == DATA
    return went_well


def main(name: str, loop_name: str) -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = lambda args: None
    module, _, attribute = FACTORIES[loop_name].partition(":")
    loop = getattr(importlib.import_module(module), attribute)()
    trouble: list[Any] = []
    loop.set_exception_handler(lambda loop, context: trouble.append(1))
    for _ in range(3):
        attempt(loop, name, 1_000)  # fills the caches
    gc.collect()
    before = set(os.listdir(FD_DIR))
    n = clean = 0
    while clean < ENOUGH:
        n += 1
        trouble.clear()
        os.write(2, b"\r%d " % n)  # where it was, when it crashes
        went_well = attempt(loop, name, n)
        clean = clean + 1 if went_well and not trouble else 0
    gc.collect()
    after = set(os.listdir(FD_DIR))
    assert len(after) == len(before), f"open: {after - before}"
    loop.close()
    print(n - ENOUGH)


if __name__ == "__main__":
    main(*sys.argv[1:])
