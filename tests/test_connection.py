"""Connections made without the frames of create_connection: what is seen of it."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import pathlib
import select
import socket
import sys
import tempfile
import weakref
from asyncio import base_events, unix_events
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

import asynccore
from conftest import LOOPS, run_script
from support import (
    Recorder,
    compare,
    looped,
    needs_ipv6,
    only_asynccore,
    refused_port,
    settle,
)
from support.interpreter import FREE_THREADED

KINDS = ("tcp", "tcp6", "unix") if socket.has_ipv6 else ("tcp", "unix")
METHODS = ("create_connection", "create_unix_connection")

variable: ContextVar[str] = ContextVar("variable", default="none")


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A short path: a unix address has room for some 100 characters."""
    with tempfile.TemporaryDirectory() as name:
        yield pathlib.Path(name)


@asynccontextmanager
async def listening(kind: str, backlog: int = 100) -> AsyncIterator[Any]:
    """A socket that listens and `connect(factory, **options)` to it."""
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as name:
        sock: socket.socket
        if kind == "unix":
            path = os.path.join(name, "s")
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
            connect = functools.partial(connect_to, loop.create_unix_connection, path)
        else:
            six = kind == "tcp6"
            sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
            sock.bind(("::1" if six else "127.0.0.1", 0))
            address = sock.getsockname()[:2]
            connect = functools.partial(connect_to, loop.create_connection, *address)
        with sock:
            sock.listen(backlog)
            sock.settimeout(10)
            yield SimpleNamespace(sock=sock, connect=connect)


def connect_to(method: Any, *args: Any, **options: Any) -> Any:
    *address, factory = args
    return method(factory, *address, **options)


def fill(sock: socket.socket) -> list[socket.socket]:
    """Connections until the queue of a listening TCP socket is full."""
    held = []
    while True:
        client = socket.socket(sock.family)
        client.setblocking(False)
        held.append(client)
        with suppress(BlockingIOError):
            client.connect(sock.getsockname())
        if not select.select([], [client], [], 0.2)[1]:
            return held


# --- it is what it was ---


@pytest.mark.parametrize("name", METHODS)
def test_methods_look_like_the_standard_ones(both_factories: Any, name: str) -> None:
    looks = []
    for factory in both_factories:
        loop = factory()
        method = getattr(loop, name)
        coro = method(Recorder, "127.0.0.1")
        looks.append(
            (
                inspect.iscoroutinefunction(method),
                str(inspect.signature(method)),
                method.__qualname__,
                method.__doc__,
                inspect.iscoroutine(coro),
                coro.__qualname__,
            )
        )
        coro.close()
        loop.close()
    assert looks[0] == looks[1]


@pytest.mark.parametrize("name", METHODS)
@looped
async def test_autospec(name: str) -> None:
    loop = asyncio.get_running_loop()
    with mock.patch.object(loop, name, autospec=True) as method:
        method.return_value = 1, 2
        assert await getattr(loop, name)(Recorder, "127.0.0.1") == (1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_what_happens(both_factories: Any, kind: str) -> None:
    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        seen: list[Any] = []
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            if turns < 20:
                loop.call_soon(turn)

        def note(*what: Any) -> None:
            seen.append((turns, *what))

        class Client(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                note("made", transport.is_reading())
                loop.call_soon(note, "after made")

        def factory() -> Client:
            note("factory")
            loop.call_soon(note, "after the factory")
            return Client()

        async with listening(kind) as server:
            turn()
            task = loop.create_task(server.connect(factory))
            loop.call_soon(note, "after the task")
            transport, protocol = await task
            note("returned", type(protocol))
            await settle()
            transport.abort()
            await settle()
        return [(*entry[:2], str(entry[2:])) for entry in seen]

    compare(both_factories, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_contexts(both_factories: Any, kind: str) -> None:
    """Of the callbacks: that of who connects, or a copy of it."""

    async def scenario() -> Any:
        seen: list[Any] = []

        class Client(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                seen.append(("made", variable.get()))
                variable.set("by connection_made")

            def data_received(self, data: bytes) -> None:
                seen.append(("data", variable.get()))
                variable.set("by data_received")

            def connection_lost(self, exc: Any) -> None:
                seen.append(("lost", variable.get()))
                lost.set_result(None)

        def factory() -> Client:
            seen.append(("factory", variable.get()))
            variable.set("by the factory")
            return Client()

        lost = asyncio.get_running_loop().create_future()
        variable.set("by the caller")
        async with listening(kind) as server:
            await server.connect(factory)
            seen.append(("returned", variable.get()))
            peer, _ = server.sock.accept()
            peer.send(b"x")
            peer.close()
            await lost
        return seen

    compare(both_factories, scenario)


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_no_socket_object_is_needed(kind: str) -> None:
    """But it is there, and its names, for who asks."""
    async with listening(kind) as server:
        transport, protocol = await server.connect(Recorder)
        peer, _ = server.sock.accept()
        with peer:
            sock = transport.get_extra_info("socket")
            assert sock.family == server.sock.family
            assert sock.type == socket.SOCK_STREAM
            assert sock.gettimeout() == 0
            assert sock.getpeername() == server.sock.getsockname()
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("sockname") == peer.getpeername()
            assert os.get_inheritable(sock.fileno()) is False
            if kind != "unix":
                option = socket.IPPROTO_TCP, socket.TCP_NODELAY
                assert sock.getsockopt(*option) == 1
            transport.write(b"ping")
            peer.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(peer, 10) == b"ping"
            transport.close()
            assert await protocol.lost() is None


# --- options ---


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_options_as_by_default(kind: str) -> None:
    async with listening(kind) as server:
        loop = asyncio.get_running_loop()
        name = METHODS[kind == "unix"]
        standard = getattr(asyncio.SelectorEventLoop, name)
        transport, _ = await server.connect(Recorder, **standard.__kwdefaults__)
        transport.abort()
        await settle()
        assert not loop.is_closed()


@pytest.mark.parametrize(
    "options",
    [
        {"server_hostname": ""},
        {"server_hostname": "x"},
        {"ssl_handshake_timeout": 0},
        {"ssl_shutdown_timeout": 0.0},
        {"nonsense": None},
        {"sock": False},
        {"local_addr": ()},
        {"happy_eyeballs_delay": 0},
        {"interleave": 0},
        {"flags": None},
        {"family": None},
        {"ssl": ()},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_odd_options(both_factories: Any, kind: str, options: Any) -> None:
    async def scenario() -> Any:
        async with listening(kind) as server:
            try:
                transport, _ = await server.connect(Recorder, **options)
            except Exception as exc:
                return type(exc), str(exc)
            transport.abort()
            await settle()
            return "connected"

    compare(both_factories, scenario)


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", None),
        ("127.0.0.1", -1),
        ("127.0.0.1", 65536),
        ("127.0.0.1", 1 << 70),
        ("127.0.0.1", "x"),
        ("127.0.0.1", 1.5),
        ("127.1", 1),
        ("127.0.0.1\0", 1),
        ("::1%", 1),
        (b"127.0.0.1", 1),
        (None, None),
        ("", 0),
        (("127.0.0.1", 1), 1),
        ([], 1),
    ],
    ids=repr,
)
def test_odd_addresses(both_factories: Any, address: Any) -> None:
    async def scenario() -> Any:
        loop: Any = asyncio.get_running_loop()
        try:
            await loop.create_connection(Recorder, *address)
        except Exception as exc:
            return type(exc), str(exc)

    compare(both_factories, scenario)


@pytest.mark.parametrize(
    "path", [("127.0.0.1", 1), "", "\0", "a\0b", "x" * 200, 5, [], b"", None], ids=repr
)
def test_odd_paths(both_factories: Any, path: Any) -> None:
    async def scenario() -> Any:
        loop: Any = asyncio.get_running_loop()
        try:
            await loop.create_unix_connection(Recorder, path)
        except Exception as exc:
            return type(exc), str(exc)

    compare(both_factories, scenario)


@pytest.mark.parametrize("args", [(), (Recorder,), (Recorder, 1, 2, 3)], ids=len)
@pytest.mark.parametrize("name", METHODS)
def test_wrong_number_of_arguments(both_factories: Any, name: str, args: Any) -> None:
    async def scenario() -> Any:
        try:
            await getattr(asyncio.get_running_loop(), name)(*args)
        except Exception as exc:
            return type(exc)

    compare(both_factories, scenario)


# --- errors ---


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::0:1"])
def test_refused(both_factories: Any, host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    port = refused_port()

    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(Recorder, host, port)
        except OSError as exc:
            context = exc.__context__, exc.__cause__
            return type(exc), exc.errno, str(exc), exc.filename, context

    assert compare(both_factories, scenario) is not None


def test_refused_paths(both_factories: Any, folder: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(folder / "deaf"))
    (folder / "file").touch()

    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        results: list[Any] = []
        for path in ("deaf", "file", "none", "none/none"):
            try:
                await loop.create_unix_connection(Recorder, os.fspath(folder / path))
            except OSError as exc:
                results.append((type(exc), exc.errno, str(exc)))
        return results

    assert len(compare(both_factories, scenario)) == 4


@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_no_descriptor(kind: str) -> None:
    import resource

    async with listening(kind) as server:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        connecting = server.connect(Recorder)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files") as caught:
                await connecting
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert caught.value.errno == 24


@only_asynccore
@pytest.mark.parametrize("kind", KINDS)
@looped
async def test_factory_that_raises(kind: str) -> None:
    """The standard loop leaves the socket to the collector (until gh-153133)."""

    asyncio.get_running_loop().set_debug(False)  # where the standard code runs

    def factory() -> Any:
        raise ZeroDivisionError("by the factory")

    async with listening(kind) as server:
        with pytest.raises(ZeroDivisionError, match="by the factory"):
            await server.connect(factory)
        peer, _ = server.sock.accept()
        with peer:
            peer.settimeout(10)
            assert peer.recv(1) == b""


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the standard loop
@pytest.mark.parametrize("made", [None, 5, "text"], ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_factory_of_no_protocol(both_factories: Any, kind: str, made: Any) -> None:
    async def scenario() -> Any:
        async with listening(kind) as server:
            try:
                await server.connect(lambda: made)
            except AttributeError as exc:
                return str(exc)

    assert "connection_made" in compare(both_factories, scenario)
    gc.collect()


# --- the end before the connection ---


@pytest.mark.parametrize("collect", [False, True], ids=["", "collected"])
@looped
async def test_cancelled(collect: bool) -> None:
    """While it waits for the socket; the waiting itself keeps the task alive."""
    loop = asyncio.get_running_loop()
    async with listening("tcp", backlog=0) as server:
        held = fill(server.sock)
        await settle()  # now the loop has its own descriptors
        before = len(os.listdir("/dev/fd"))
        task = loop.create_task(server.connect(Recorder))
        await settle()
        assert len(os.listdir("/dev/fd")) == before + 1
        if collect:
            alive = weakref.ref(task)
            del task
            gc.collect()
            found = alive()
            assert found is not None
            task = found
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(os.listdir("/dev/fd")) == before
        for client in held:
            client.close()


@only_asynccore  # the standard loop goes on watching the number that was closed
@pytest.mark.parametrize("end", ["close", "drop", "throw"])
def test_coroutine_that_is_ended(loop: Any, end: str) -> None:
    async def scenario() -> None:
        async with listening("tcp", backlog=0) as server:
            held = fill(server.sock)
            await settle()  # now the loop has its own descriptors
            before = len(os.listdir("/dev/fd"))
            coro = server.connect(Recorder)
            future = coro.send(None)
            assert asyncio.isfuture(future)
            assert len(os.listdir("/dev/fd")) == before + 1
            if end == "close":
                coro.close()
            elif end == "throw":
                with pytest.raises(ZeroDivisionError):
                    coro.throw(ZeroDivisionError())
            del coro, future
            await settle()
            gc.collect()
            if end != "drop":  # what waits for the socket keeps only the future
                assert len(os.listdir("/dev/fd")) == before
            for client in held:
                client.close()

    loop.run_until_complete(asyncio.wait_for(scenario(), 20))


@only_asynccore  # the standard selector is not rid of the number either
def test_loop_that_is_closed(loop: Any) -> None:
    """Nothing is left when the task is gone as well."""

    async def scenario() -> Any:
        async with listening("tcp", backlog=0) as server:
            held.extend(fill(server.sock))
            task = loop.create_task(server.connect(Recorder))
            await settle()
            task._log_destroy_pending = False
            return task

    held: list[socket.socket] = []
    before = len(os.listdir("/dev/fd"))
    task = loop.run_until_complete(scenario())
    loop.close()
    for client in held:
        client.close()
    assert not task.done()
    task.get_coro().close()
    del task
    gc.collect()
    assert len(os.listdir("/dev/fd")) <= before  # those of the loop are gone, too


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_in_each_turn(both_factories: Any, kind: str) -> None:
    """The peer sees the end, the protocol what the standard loop's sees."""

    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        results = []
        for turns in range(1, 6):
            async with listening(kind) as server:
                protocol = Recorder()
                task = loop.create_task(server.connect(lambda p=protocol: p))
                for _ in range(turns):
                    await asyncio.sleep(0)
                cancelled = task.cancel()
                result = (await asyncio.gather(task, return_exceptions=True))[0]
                if isinstance(result, tuple):
                    result[0].close()
                    result = "connected"
                await settle()
                results.append((cancelled, type(result), protocol.names()))
        return results

    # how many turns it takes until the kernel says that it is connected is its own
    standard = compare(both_factories, scenario)
    assert standard[0][1] is asyncio.CancelledError


# --- what may be replaced ---


def replaced(original: Any, calls: list[Any]) -> Any:
    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        calls.append(original.__name__)
        return original(*args, **kwargs)

    return function


PARTS = [
    ("tcp", "_ensure_resolved"),
    ("tcp", "_connect_sock"),
    ("tcp", "sock_connect"),
    ("tcp", "_create_connection_transport"),
    ("tcp", "_make_socket_transport"),
    ("unix", "sock_connect"),
    ("unix", "_create_connection_transport"),
    ("unix", "_make_socket_transport"),
]


@pytest.mark.parametrize(("kind", "name"), PARTS)
@looped
async def test_part_of_an_instance(kind: str, name: str) -> None:
    loop = asyncio.get_running_loop()
    calls: list[Any] = []
    async with listening(kind) as server:
        setattr(loop, name, replaced(getattr(loop, name), calls))
        transport, _ = await server.connect(Recorder)
        transport.abort()
        assert set(calls) == {name}
        calls.clear()
        delattr(loop, name)
        transport, _ = await server.connect(Recorder)
        transport.abort()
        await settle()
        assert calls == []


@pytest.mark.parametrize(("kind", "name"), PARTS)
@looped
async def test_part_of_the_class(kind: str, name: str) -> None:
    loop = asyncio.get_running_loop()
    calls: list[Any] = []
    async with listening(kind) as server:
        original = getattr(type(loop), name)
        with mock.patch.object(type(loop), name, replaced(original, calls)):
            transport, _ = await server.connect(Recorder)
        transport.abort()
        assert set(calls) == {name}
        calls.clear()
        transport, _ = await server.connect(Recorder)
        transport.abort()
        await settle()
        assert calls == []


@pytest.mark.parametrize("name", METHODS)
@looped
async def test_method_of_the_standard_class(name: str) -> None:
    loop = asyncio.get_running_loop()
    calls: list[Any] = []
    original = getattr(asyncio.SelectorEventLoop, name)
    async with listening("unix" if "unix" in name else "tcp") as server:
        changed = replaced(original, calls)
        with mock.patch.object(asyncio.SelectorEventLoop, name, changed):
            transport, _ = await connect_anew(server, loop, name)
        transport.abort()
        await settle()
        assert calls == [name]


async def connect_anew(server: Any, loop: Any, name: str) -> Any:
    address = server.sock.getsockname()
    address = (address,) if isinstance(address, str) else address
    return await getattr(loop, name)(Recorder, *address)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_subclass(kind: str) -> None:
    """What it overrides is called; else it is as fast as its base."""
    calls: list[Any] = []

    class Own(asynccore.Loop):
        async def sock_connect(self, sock: Any, address: Any) -> None:
            calls.append(type(sock))
            await super().sock_connect(sock, address)

    async def scenario() -> None:
        async with listening(kind) as server:
            transport, _ = await server.connect(Recorder)
            transport.abort()
            await settle()

    loop = Own()
    loop.run_until_complete(scenario())
    loop.close()
    assert calls == [socket.socket]


@pytest.mark.parametrize(
    ("kind", "module", "name"),
    [
        ("tcp", base_events, "_ipaddr_info"),
        ("tcp", base_events, "_set_nodelay"),
        ("unix", base_events, "_set_nodelay"),
        ("tcp", socket, "socket"),
        ("unix", socket, "socket"),
    ],
)
@looped
async def test_part_of_a_module(kind: str, module: Any, name: str) -> None:
    calls: list[Any] = []
    async with listening(kind) as server:
        original = getattr(module, name)
        if isinstance(original, type):

            class Own(socket.socket):
                def __init__(self, *args: Any, **kwargs: Any) -> None:
                    calls.append(name)
                    super().__init__(*args, **kwargs)

            changed: Any = Own
        else:
            changed = replaced(original, calls)
        with mock.patch.object(module, name, changed):
            transport, _ = await server.connect(Recorder)
        transport.abort()
        await settle()
        assert set(calls) == {name}


@pytest.mark.parametrize(
    ("kind", "module"), [("tcp", base_events), ("unix", unix_events)]
)
@looped
async def test_module_that_is_replaced(kind: str, module: Any) -> None:
    calls: list[Any] = []
    names = SimpleNamespace(**vars(socket))
    names.socket = replaced(socket.socket, calls)
    async with listening(kind) as server:
        with mock.patch.object(module, "socket", names):
            transport, _ = await server.connect(Recorder)
        transport.abort()
        await settle()
        assert calls == ["socket"]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@looped
async def test_guarded_sockets(kind: str) -> None:
    """As a test suite forbids them."""

    def connect(self: Any, address: Any) -> None:
        raise PermissionError(f"no connection to {address}")

    async with listening(kind) as server:
        with (
            mock.patch.object(socket.socket, "connect", connect),
            pytest.raises(PermissionError, match="no connection to"),
        ):
            await server.connect(Recorder)


@pytest.mark.parametrize(
    "name",
    ["__init__", "setblocking", "close", "getsockname", "getpeername", "setsockopt"],
)
@looped
async def test_method_of_sockets(name: str) -> None:
    calls: list[Any] = []
    async with listening("tcp") as server:
        original = getattr(socket.socket, name)
        with mock.patch.object(socket.socket, name, replaced(original, calls)):
            transport, _ = await server.connect(Recorder)
            transport.abort()
            await settle()
        assert set(calls) == {name}


# --- audits ---

AUDIT = """
    import asyncio, os, socket, sys, tempfile

    way, host = sys.argv[1:]
    events = []
    on = False
    kept = []

    def hook(event, args):
        if not on or not event.startswith("socket."):
            return
        if event == "socket.__new__":
            events.append((event, *map(int, args[1:])))
        else:
            events.append((event, type(args[0]).__name__, *args[1:]))
        if event == "socket.connect":
            events.append(args[0].gettimeout())
            if way == "raises":
                raise RuntimeError("not allowed")
            if way == "closes":
                args[0].close()
            if way == "keeps":
                kept.append(args[0])

    sys.addaudithook(hook)

    class Client(asyncio.Protocol):
        def connection_made(self, transport):
            events.append("made")
        def data_received(self, data):
            events.append(data)
        def connection_lost(self, exc):
            events.append(("lost", exc))
            lost.set()

    async def connect(make, server):
        global on
        on = True
        before = len(os.listdir("/dev/fd"))
        try:
            transport, _ = await make
        except Exception as exc:
            on = False
            events.append((type(exc).__name__, str(exc)))
            assert len(os.listdir("/dev/fd")) == before
            return
        on = False
        peer, _ = server.accept()
        peer.send(b"hello")
        peer.close()
        await lost.wait()
        lost.clear()

    async def main():
        global lost
        lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, 0), family=family)
        port = server.getsockname()[1]
        local = socket.socket(socket.AF_UNIX)
        with server, local, tempfile.TemporaryDirectory() as folder:
            path = folder + "/s"
            local.bind(path)
            local.listen()
            await connect(loop.create_connection(Client, host, port), server)
            await connect(loop.create_unix_connection(Client, path), local)
        print(repr(events).replace(path, "PATH").replace(str(port), "PORT"))

    loop = new_event_loop()
    loop.set_debug(False)  # where the standard code runs
    loop.run_until_complete(asyncio.wait_for(main(), 30))
    loop.close()
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("way", ["looks", "raises", "closes", "keeps"])
def test_audits(way: str, host: str) -> None:
    if ":" in host:
        needs_ipv6()
    seen = [run_script(AUDIT, name, way, host).stdout for name in LOOPS]
    assert seen[0] == seen[1]
    assert seen[0].count("'socket.connect'") == 2


@pytest.mark.skipif(sys.version_info < (3, 13), reason="loops leave names there")
@pytest.mark.skipif(FREE_THREADED, reason="what is freed may be given back later")
def test_each_loops_first_connection_leaves_nothing(script: Any) -> None:
    """The interpreter's cache of methods keeps the names that it is asked for."""
    script(
        """
        import asyncio, gc, socket, sys

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                transport.abort()

        async def main(address):
            loop = asyncio.get_running_loop()
            await loop.create_connection(Protocol, *address)
            loop.call_soon_threadsafe(len, ())
            await asyncio.sleep(0)

        def blocks_of(loops):
            gc.collect()
            before = sys.getallocatedblocks()
            for _ in range(loops):
                with asyncio.Runner(loop_factory=new_event_loop, debug=False) as runner:
                    runner.run(main(listener.getsockname()))
                listener.accept()[0].close()
            gc.collect()
            return sys.getallocatedblocks() - before

        with socket.create_server(("127.0.0.1", 0)) as listener:
            blocks_of(10)
            assert min(blocks_of(20) for _ in range(3)) < 10
        """
    )
