"""The leak scripts. One cycle of each does an operation and undoes it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from asynccore import _config, _tls

Factory = Callable[[], Any]
SCRIPTS: dict[str, Script] = {}

DATA = bytes(range(256)) * 4
LARGE = bytes(1 << 20)


class Script:
    """A named script: `environment(factory)` gives the function that is one cycle."""

    def __init__(
        self,
        name: str,
        cycles: int,
        environment: Callable[[Factory], contextlib.AbstractContextManager[Any]],
    ) -> None:
        self.name = name
        self.cycles = cycles
        self.environment = environment


def per_loop(cycles: int) -> Callable[[Callable[[Factory], None]], None]:
    """A script that makes its own loops: the function is the cycle."""

    def register(function: Callable[[Factory], None]) -> None:
        @contextlib.contextmanager
        def environment(factory: Factory) -> Iterator[Callable[[], None]]:
            yield lambda: function(factory)

        SCRIPTS[function.__name__] = Script(function.__name__, cycles, environment)

    return register


def on_loop(cycles: int, debug: bool = False) -> Callable[[Any], None]:
    """A script on one loop. The coroutine function is the cycle.

    As an asynchronous generator it yields the coroutine function, and undoes
    afterwards what it set up before.
    """

    def register(function: Any) -> None:
        @contextlib.contextmanager
        def environment(factory: Factory) -> Iterator[Callable[[], None]]:
            loop = factory()
            loop.set_debug(debug)
            loop.set_exception_handler(lambda loop, context: None)
            asyncio.set_event_loop(loop)
            run = loop.run_until_complete
            cycle = function
            if function in generators:
                generator = function()
                cycle = run(anext(generator))
            yield lambda: run(asyncio.wait_for(cycle(), 20))
            if function in generators:
                run(anext(generator, None))
            asyncio.set_event_loop(None)
            loop.close()

        SCRIPTS[function.__name__] = Script(function.__name__, cycles, environment)

    return register


generators: set[Any] = set()


def with_setup(function: Any) -> Any:
    generators.add(function)
    return function


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# ------------------------------------------------------------------- loops --


@per_loop(200)
def loop(factory: Factory) -> None:
    loop = factory()
    loop.run_until_complete(asyncio.sleep(0, loop))
    loop.close()


@per_loop(200)
def loop_never_run(factory: Factory) -> None:
    loop = factory()
    loop.call_soon(print)
    loop.call_later(10, print)
    loop.close()


async def occupy(loop: Any, here: socket.socket, there: socket.socket) -> None:
    """Opens a timer, a reader, a server and a connection."""
    loop.call_later(100, print)
    loop.add_reader(there, print)
    await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
    transport.write(DATA)


@per_loop(30)
def loop_abandoned(factory: Factory) -> None:
    """Collected while it is in use."""
    loop = factory()
    here, there = socket.socketpair()
    here.setblocking(False)
    loop.run_until_complete(occupy(loop, here, there))
    loop.me = loop
    there.close()
    del loop, here, there
    gc.collect()


@per_loop(50)
def loop_closed_over_open_transports(factory: Factory) -> None:
    loop = factory()

    async def fill() -> list[Any]:
        here, there = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
        other, _ = await loop.create_connection(asyncio.Protocol, sock=there)
        transport.write(LARGE)
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        return [transport, other, server]

    kept = loop.run_until_complete(fill())
    loop.close()
    for transport in kept:
        with contextlib.suppress(RuntimeError):
            transport.close()
    del kept
    gc.collect()


@per_loop(100)
def loop_subclass(factory: Factory) -> None:
    base = type(factory())

    class Loop(base):  # type: ignore[misc, valid-type]
        def call_soon(self, *args: Any, **kwargs: Any) -> Any:
            return super().call_soon(*args, **kwargs)

    loop = Loop()
    loop.time = functools.partial(float, 5)
    loop.note = loop
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gc.collect()


@per_loop(20)
def loop_in_thread(factory: Factory) -> None:
    loop = factory()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.0001), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@per_loop(100)
def loop_ended_by_exceptions(factory: Factory) -> None:
    loop = factory()

    def leave(kind: type[BaseException]) -> None:
        raise kind

    for kind in (KeyboardInterrupt, SystemExit):
        loop.call_soon(leave, kind)
        loop.call_soon(print)
        with contextlib.suppress(kind):
            loop.run_forever()
    loop.close()


@per_loop(100)
def loop_methods(factory: Factory) -> None:
    loop = factory()
    loop.set_debug(True)
    loop.get_debug()
    loop.set_debug(False)
    loop.slow_callback_duration = 0.5
    loop.is_running(), loop.is_closed(), loop.time(), repr(loop)
    loop.create_future().cancel()
    loop.stop()
    loop.run_forever()
    loop.run_until_complete(loop.create_task(asyncio.sleep(0)))
    loop.run_until_complete(loop.create_task(asyncio.sleep(0), name="x"))
    loop.set_task_factory(lambda loop, coro, **kw: asyncio.Task(coro, loop=loop, **kw))
    loop.get_task_factory()

    async def main() -> None:
        await loop.create_task(asyncio.sleep(0), name="x")
        with contextlib.suppress(RuntimeError):
            loop.run_forever()

        async def numbers() -> AsyncIterator[int]:
            yield 1

        async for _ in numbers():
            break
        await loop.shutdown_asyncgens()

    loop.run_until_complete(main())
    for wrong in (
        lambda: loop.call_soon(),
        lambda: loop.call_later("x", print),
        lambda: loop.call_at(None, print),
        lambda: loop.run_until_complete(5),
        lambda: loop.call_soon(print, context=5),
        lambda: loop.call_soon(print, bad=5),
        lambda: loop.create_task(5),
        lambda: loop.create_task(5, bad=5),
        lambda: loop.set_exception_handler(5),
        lambda: loop.add_reader(-1, print),
    ):
        with contextlib.suppress(Exception):
            wrong()
    loop.close()
    for closed in (
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(1, print),
        lambda: loop.run_forever(),
        lambda: loop.add_reader(0, print),
    ):
        with contextlib.suppress(RuntimeError):
            closed()
    loop.close()


# --------------------------------------------------------------- callbacks --


@on_loop(500)
async def call_soon() -> None:
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    for args in ((), (1,), (1, 2), (1, 2, 3, 4, 5)):
        loop.call_soon(lambda *args: None, *args)
        loop.call_soon(lambda *args: None, *args, context=context)
        handle = loop.call_soon(print, *args)
        handle.cancel()
        handle.cancelled(), repr(handle)
        if hasattr(handle, "get_context"):
            handle.get_context()
    cycle: list[Any] = []
    cycle.append(loop.call_soon(lambda x: None, cycle))
    await turns()


@on_loop(300)
async def call_later() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    for delay in (0, -1, 1e-5):
        loop.call_later(delay, lambda *args: None, 1, 2)
        loop.call_at(loop.time() + delay, lambda: None)
    for delay in (0, 0.001, 5, 1e300, float("inf")):
        handle = loop.call_later(delay, print, DATA)
        handle.when(), hash(handle), handle == handle, handle < handle
        repr(handle), handle.cancelled()
        handle.cancel()
    cycle: list[Any] = []
    cycle.append(loop.call_later(0, lambda x: None, cycle))
    loop.call_later(2e-5, done.set_result, None)
    await done
    await turns()


@on_loop(200)
async def many_timers() -> None:
    loop = asyncio.get_running_loop()
    handles = [loop.call_later(10 + i % 7, print) for i in range(50)]
    for handle in handles[::2] + handles[1::2]:
        handle.cancel()
    await turns()


@with_setup
async def _call_soon_threadsafe() -> AsyncIterator[Any]:
    loop = asyncio.get_running_loop()
    wanted = threading.Semaphore(0)
    ended = threading.Event()
    futures: list[Any] = []

    def other_thread() -> None:
        while wanted.acquire() and not ended.is_set():
            loop.call_soon_threadsafe(print).cancel()
            future = futures.pop()
            loop.call_soon_threadsafe(future.set_result, None)

    thread = threading.Thread(target=other_thread)
    thread.start()

    async def cycle() -> None:
        loop.call_soon_threadsafe(lambda *args: None, 1, 2)
        handle = loop.call_soon_threadsafe(print)
        getattr(handle, "_lock", None), repr(handle)  # a lock from 3.14 on
        handle.cancelled(), handle.cancel()
        futures.append(loop.create_future())
        future = futures[0]
        wanted.release()
        await future

    yield cycle
    ended.set()
    wanted.release()
    thread.join()


_call_soon_threadsafe.__name__ = "call_soon_threadsafe"
on_loop(300)(_call_soon_threadsafe)


@on_loop(300)
async def callback_exceptions() -> None:
    loop = asyncio.get_running_loop()

    def fail(*args: Any) -> None:
        raise ValueError(args)

    loop.call_soon(fail, 1)
    loop.call_soon(fail, context=contextvars.copy_context())
    loop.call_later(0, fail, 1, 2, 3)
    loop.call_soon_threadsafe(fail)
    await turns()


@on_loop(100)
async def exception_handlers() -> None:
    loop = asyncio.get_running_loop()
    former = loop.get_exception_handler()

    def broken(loop: Any, context: Any) -> None:
        raise LookupError

    for handler in (broken, None):
        loop.set_exception_handler(handler)
        loop.call_soon(int, "x")
        await turns()
    loop.call_exception_handler({"message": "x", "exception": ValueError()})
    loop.default_exception_handler({"message": "x", "handle": loop.call_soon(int)})
    loop.set_exception_handler(former)


@on_loop(100, debug=True)
async def debug_mode() -> None:
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 0.0
    repr(loop.call_soon(lambda: None))
    repr(loop.call_later(0, lambda: None))
    loop.call_later(5, print).cancel()
    loop.call_soon_threadsafe(lambda: None)
    loop.call_soon(int, "x")
    with contextlib.suppress(TypeError):
        loop.call_soon(turns)
    thread = threading.Thread(target=lambda: wrong_thread(loop))
    thread.start()
    thread.join()
    await turns()


def wrong_thread(loop: Any) -> None:
    with contextlib.suppress(RuntimeError):
        loop.call_soon(print)
    with contextlib.suppress(RuntimeError):
        loop.call_later(1, print)


@on_loop(200)
async def tasks() -> None:
    async def fail() -> None:
        raise ValueError

    task = asyncio.create_task(asyncio.sleep(10))
    await turns(1)
    task.cancel()
    await asyncio.gather(task, fail(), turns(), return_exceptions=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await asyncio.sleep(1)
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    getter = asyncio.ensure_future(queue.get())
    await queue.put(1)
    await getter


@on_loop(50)
async def executor() -> None:
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, len, DATA)
    await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    await loop.getaddrinfo("localhost", None)
    await loop.getnameinfo(("127.0.0.1", 80))


# ------------------------------------------------------------- descriptors --


@on_loop(200)
async def readers_and_writers() -> None:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        seen = loop.create_future()
        loop.add_reader(here, print)
        loop.add_reader(here, seen.set_result, DATA)
        loop.add_writer(here, loop.remove_writer, here)
        there.send(b"x")
        await seen
        loop.remove_reader(here)
        loop.remove_reader(here)
        loop.remove_writer(there.fileno())
        loop.add_reader(there.fileno(), print)
        loop.add_writer(there, lambda: 1 / 0)
        await turns()
        loop.remove_writer(there)
        loop.remove_reader(there)
    with tempfile.TemporaryFile() as file, contextlib.suppress(PermissionError):
        loop.add_reader(file, print)
    with contextlib.suppress(ValueError, OSError):
        loop.add_reader(here, print)


@on_loop(200)
async def descriptors_closed_while_watched() -> None:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    loop.add_reader(here, print)
    number = here.fileno()
    here.close()
    again, other = socket.socketpair()
    await turns()
    loop.remove_reader(number)
    for sock in (there, again, other):
        sock.close()


@on_loop(100)
async def signals() -> None:
    loop = asyncio.get_running_loop()
    seen = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, seen.set_result, DATA)
    os.kill(os.getpid(), signal.SIGUSR1)
    await seen
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR1)
    with contextlib.suppress(RuntimeError):
        loop.add_signal_handler(signal.SIGKILL, print)


@on_loop(100)
async def sock_methods() -> None:
    loop = asyncio.get_running_loop()
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket() as here,
        contextlib.ExitStack() as stack,
    ):
        server.setblocking(False)
        here.setblocking(False)
        accepted = asyncio.ensure_future(loop.sock_accept(server))
        await loop.sock_connect(here, server.getsockname())
        there, _ = await accepted
        stack.enter_context(there)
        with socket.socket() as unused, socket.socket() as refused:
            unused.bind(("127.0.0.1", 0))
            refused.setblocking(False)
            with contextlib.suppress(ConnectionRefusedError):
                await loop.sock_connect(refused, unused.getsockname())
        received = asyncio.ensure_future(loop.sock_recv(there, 100))
        await turns()
        await loop.sock_sendall(here, DATA)
        await received
        await loop.sock_recv_into(there, bytearray(100))
        cancelled = asyncio.ensure_future(loop.sock_accept(server))
        await turns()
        cancelled.cancel()
        while await loop.sock_recv(there, 4096) != DATA[200:]:
            pass
        waiting = asyncio.ensure_future(loop.sock_recv(there, 1))
        await turns()
        replacing = asyncio.ensure_future(loop.sock_recv_into(there, bytearray(1)))
        await turns()
        for task in (waiting, replacing):
            task.cancel()
        await turns()


@on_loop(100)
async def sock_methods_of_datagrams() -> None:
    loop = asyncio.get_running_loop()
    with (
        socket.socket(type=socket.SOCK_DGRAM) as here,
        socket.socket(type=socket.SOCK_DGRAM) as there,
    ):
        for sock in (here, there):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        received = asyncio.ensure_future(loop.sock_recvfrom(there, 100))
        await turns()
        await loop.sock_sendto(here, b"data", there.getsockname())
        await received
        received = asyncio.ensure_future(loop.sock_recvfrom_into(there, bytearray(9)))
        await turns()
        await loop.sock_sendto(here, b"data", there.getsockname())
        await received


@on_loop(100)
async def sock_coroutines() -> None:
    """Those that are not awaited, closed, thrown into, dropped while they wait."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        loop.sock_recv(here, 1).close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.sock_recv(here, 1)
        coro = loop.sock_recv(here, 1)
        coro.send(None)
        with contextlib.suppress(OSError):
            coro.throw(OSError)
        iterator = loop.sock_recv(here, 1).__await__()
        next(iter(iterator))
        iterator.close()
        iterator = loop.sock_recv(here, 1).__await__()
        iterator.send(None)
        with contextlib.suppress(OSError):
            iterator.throw(OSError())
        coro = loop.sock_recv(here, 1)
        coro.send(None)
        coro.close()
        coro = loop.sock_sendall(here, LARGE * 4)
        coro.send(None)
        loop.remove_writer(here)
        assert coro.cr_frame is not None
        del coro
        loop.sock_recv(here, 1).send(None)
        with contextlib.suppress(ValueError):
            await loop.sock_recv(here, -1)


# ----------------------------------------------------------------- streams --


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = bytearray(300)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, hint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, size: int) -> None:
        self.transport.write(memoryview(self.buffer)[:size])


class Client(asyncio.Protocol):
    """Waits until `size` bytes have come back, and for the end."""

    def __init__(self, size: int = len(DATA)) -> None:
        self.missing = size
        self.got = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing <= 0 and not self.got.done():
            self.got.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def echo_once(connected: Any) -> None:
    transport, client = connected
    transport.write(DATA)
    await client.got
    transport.close()
    await client.lost


def echo_script(cycles: int, name: str, protocol: type, **options: Any) -> None:
    """A server that stays, and a connection to it in each cycle."""

    @with_setup
    async def script() -> AsyncIterator[Any]:
        loop = asyncio.get_running_loop()
        contexts = tls_contexts() if options.get("tls") else (None, None)
        with tempfile.TemporaryDirectory() as folder:
            if options.get("unix"):
                path = os.path.join(folder, "server")
                server = await loop.create_unix_server(protocol, path, ssl=contexts[0])
                connect = functools.partial(loop.create_unix_connection, Client, path)
            else:
                server = await loop.create_server(
                    protocol, "127.0.0.1", 0, ssl=contexts[0]
                )
                address = server.sockets[0].getsockname()
                connect = functools.partial(loop.create_connection, Client, *address)
            tls = {"ssl": contexts[1], "server_hostname": "x"} if contexts[1] else {}

            async def cycle() -> None:
                await echo_once(await connect(**tls))

            yield cycle
            server.close()
            await server.wait_closed()

    script.__name__ = name
    on_loop(cycles, debug=options.get("debug", False))(script)


echo_script(100, "connection", Echo)
echo_script(100, "connection_buffered", BufferedEcho)
echo_script(100, "connection_unix", Echo, unix=True)
echo_script(50, "connection_debug", Echo, debug=True)
echo_script(30, "tls", Echo, tls=True)
echo_script(30, "tls_unix", Echo, tls=True, unix=True)


@functools.cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from support.certs import certificates

    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    server = certificates().server_context()
    server.num_tickets = 0  # a context keeps the sessions that it made
    return server, client


@on_loop(50)
async def server() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=False)
    await server.start_serving()
    address = server.sockets[0].getsockname()
    await echo_once(await loop.create_connection(Client, *address))
    waiting = asyncio.ensure_future(server.serve_forever())
    await turns()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    repr(server)
    server.close()
    await server.wait_closed()


@on_loop(50)
async def server_closed_over_clients() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    clients = [await loop.create_connection(Client, *address) for _ in range(5)]
    server.close()
    if hasattr(server, "abort_clients"):
        server.abort_clients()
    for transport, client in clients:
        transport.abort()
        await client.lost
    await turns(10)


@on_loop(50)
async def stream_pairs() -> None:
    async def serve(reader: Any, writer: Any) -> None:
        writer.write(await reader.readline())
        writer.writelines([b"a", b"b"])
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\n")
        assert await reader.read() == b"line\nab"
        writer.close()
        await writer.wait_closed()


@on_loop(400)
async def stream_methods() -> None:
    _config.streams()

    async def serve(reader: Any, writer: Any) -> None:
        assert await reader.readline() == b"line\n"
        assert await reader.readuntil(b"--") == b"until--"
        assert await reader.readexactly(4) == b"four"
        large = asyncio.ensure_future(reader.readexactly(900))
        await turns()
        for _ in range(3):
            reader.feed_data(bytes(300))
        assert len(await large) == 900
        with contextlib.suppress(ValueError):
            await reader.readuntil(b"")
        reading = reader.read(10)
        reading.send(None)
        with contextlib.suppress(RuntimeError):
            await reader.read(1)
        with contextlib.suppress(ZeroDivisionError):
            reading.throw(ZeroDivisionError)
        reader.readline().close()
        awaiter = reader.read(10).__await__()
        awaiter.send(None)
        with contextlib.suppress(ZeroDivisionError):
            awaiter.throw(ZeroDivisionError)
        reader._buffer.extend(b"more")
        reader.feed_data(b"and more")
        writer.write(await reader.read(100))
        writer.can_write_eof(), writer.is_closing(), writer.get_extra_info("socket")
        waiting = writer.wait_closed()
        waiting.send(None)
        with contextlib.suppress(ZeroDivisionError):
            waiting.throw(ZeroDivisionError)
        writer.drain().close()
        reader.note = writer.note = writer._complete_fut
        assert [line async for line in reader] == [b"last"]
        assert reader.at_eof()
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readexactly(1)
        reader.set_exception(reader.exception() or OSError("by script"))
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.write_eof()
        reader.__class__ = asyncio.StreamReader
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        reader.feed_data = reader.feed_data
        writer.write(b"line\nuntil--four")
        assert await reader.readexactly(12) == b"moreand more"
        writer.write(b"last")
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await turns()


async def pair(first: Any, second: Any = asyncio.Protocol) -> tuple[Any, Any, Any, Any]:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    one, p = await loop.create_connection(first, sock=here)
    two, q = await loop.connect_accepted_socket(second, there)
    return one, p, two, q


@on_loop(100)
async def transport_methods() -> None:
    one, _, two, client = await pair(Echo, Client)
    two.write(b"x")
    two.write(bytearray(b"y"))
    two.write(memoryview(DATA)[::2])
    two.writelines([b"a", b"b", memoryview(b"c")])
    two.writelines(())
    for wrong in (None, 5, "text"):
        with contextlib.suppress(TypeError):
            two.write(wrong)
    await client.got if client.missing <= 0 else None
    two.pause_reading(), two.is_reading(), two.resume_reading()
    two.set_write_buffer_limits(high=10)
    two.get_write_buffer_limits(), two.get_write_buffer_size()
    with contextlib.suppress(ValueError):
        two.set_write_buffer_limits(1, 2)
    for name in ("socket", "sockname", "peername", "nothing"):
        two.get_extra_info(name)
    two.set_protocol(Client())
    two.get_protocol(), two.can_write_eof(), two.is_closing(), repr(two)
    two.note = two
    two.write_eof()
    await turns(5)
    one.abort()
    two.abort()
    two.close(), two.is_closing(), repr(two)
    with contextlib.suppress(RuntimeError):
        two.write(b"late")
    await turns(5)


@on_loop(30)
async def flow_control() -> None:
    one, client, two, _ = await pair(lambda: Client(4 * len(LARGE)))
    for _ in range(4):
        two.write(LARGE)
    one.pause_reading()
    await turns()
    one.resume_reading()
    await client.got
    two.close()
    await client.lost


@on_loop(30)
async def aborted_with_a_queue() -> None:
    one, client, two, _ = await pair(Client)
    one.pause_reading()
    two.write(LARGE)
    two.write(bytearray(LARGE))
    two.writelines([LARGE, LARGE])
    await turns()
    two.abort()
    one.resume_reading()
    await client.lost
    await turns()


@on_loop(50)
async def peer_resets() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport, client = await loop.create_connection(Client, *server.getsockname())
        there, _ = server.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        transport.write(DATA)
        there.close()
        await client.lost
        for _ in range(10):
            transport.write(DATA)


@on_loop(30)
async def protocol_exceptions() -> None:
    def failing(name: str, base: type) -> type:
        def fail(*args: Any) -> None:
            raise ValueError(name)

        return type(name, (base,), {name: fail})

    loop = asyncio.get_running_loop()
    for base, names in (
        (Echo, ("connection_made", "data_received", "eof_received", "connection_lost")),
        (BufferedEcho, ("get_buffer", "buffer_updated")),
    ):
        for name in names:
            one, _, two, _ = await pair(failing(name, base), Client)
            two.write(DATA)
            two.write_eof()
            await turns(6)
            one.abort()
            two.abort()
            await turns(3)
    for size in (0, None):
        kind = type(
            "bad", (BufferedEcho,), {"get_buffer": lambda *a, s=size: s and b""}
        )
        one, _, two, client = await pair(kind, Client)
        two.write(DATA)
        await client.lost
    server = await loop.create_server(lambda: 1 / 0, "127.0.0.1", 0)
    _, client = await loop.create_connection(Client, *server.sockets[0].getsockname())
    await client.lost
    server.close()


@on_loop(50)
async def abandoned_transports() -> None:
    """Nobody holds them: idle ones are collected, reading ones end with the peer."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=here)
    transport.pause_reading()
    transport.me = transport
    del transport, here, _
    gc.collect()
    with there:
        there.setblocking(False)
        while await loop.sock_recv(there, 1):
            pass
    here, there = socket.socketpair()
    _, client = await loop.create_connection(Client, sock=here)
    lost = client.lost
    del _, here, client
    gc.collect()
    there.close()
    await lost


@on_loop(50)
async def protocol_switches() -> None:
    one, client, two, _ = await pair(Client, Echo)
    for kind in (BufferedEcho, Echo, BufferedEcho):
        protocol = kind()
        protocol.transport = two
        two.set_protocol(protocol)
        one.write(DATA)
        await client.got
        client.__init__()  # type: ignore[misc]
    one.close()
    await client.lost


@on_loop(50)
async def failed_connections() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
        with contextlib.suppress(ConnectionError):
            await loop.create_connection(Client, *address)
        with contextlib.suppress(OSError):
            await loop.create_connection(Client, "127.0.0.1", 1, local_addr=address)
        with contextlib.suppress(OSError):
            await loop.create_unix_connection(Client, "/nowhere/at/all")
        unused.listen()
        with contextlib.suppress(ZeroDivisionError):
            await loop.create_connection(lambda: 1 / 0, *address)
        task = asyncio.ensure_future(loop.create_connection(Client, *address))
        await turns(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with contextlib.suppress(OSError):
            await loop.create_server(Client, *address)
        with contextlib.suppress(ValueError):
            await loop.create_server(Client)
        with contextlib.suppress(ValueError):
            await loop.create_connection(Client)


@on_loop(50)
async def connections_driven_by_hand() -> None:
    from asynccore import _core

    loop = asyncio.get_running_loop()
    if not isinstance(loop, _core.Loop):
        return
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        for end in ("close", "throw"):
            coro = _core.connect(loop, Client, *sock.getsockname())
            assert coro is not None
            coro.send(None)
            with contextlib.suppress(ZeroDivisionError):
                coro.throw(ZeroDivisionError) if end == "throw" else coro.close()
        coro = _core.connect_unix(loop, Client, "/nowhere/at/all")
        assert coro is not None
        with contextlib.suppress(FileNotFoundError):
            coro.send(None)


# --------------------------------------------------------------------- TLS --


@on_loop(30)
async def start_tls() -> None:
    loop = asyncio.get_running_loop()
    server_context, client_context = tls_contexts()
    one, client, two, echo = await pair(Client, Echo)

    async def serve() -> None:
        echo.transport = await loop.start_tls(
            two, echo, server_context, server_side=True
        )

    serving = asyncio.ensure_future(serve())
    tls = await loop.start_tls(one, client, client_context)
    await serving
    tls.write(DATA)
    await client.got
    tls.close()
    await turns(10)
    two.abort()
    one.abort()
    await turns(3)


@on_loop(30)
async def tls_in_tls() -> None:
    """A transport of the standard's in between: bytes go through get_buffer()."""
    loop = asyncio.get_running_loop()
    server_context, client_context = tls_contexts()
    one, client, two, echo = await pair(Client, Echo)
    for kind in ("memorybio", "stdlib", "direct"):
        _tls.use(kind)
        two, one = await asyncio.gather(
            loop.start_tls(two, echo, server_context, server_side=True),
            loop.start_tls(one, client, client_context),
        )
        echo.transport = two
    one.writelines([DATA, b"", bytearray(DATA)])
    await client.got
    assert not one.is_closing()
    one.close()
    await turns(40)
    two.abort()
    await turns(10)


@on_loop(100)
async def tls_by_hand() -> None:
    """A protocol over TLS that is never given a transport."""
    loop = asyncio.get_running_loop()
    client: Any = Client()
    protocol = _tls.SSLProtocol(loop, client, tls_contexts()[0], None, True)
    protocol.connection_lost(None)
    protocol.eof_received()


@on_loop(30)
async def failed_handshakes() -> None:
    loop = asyncio.get_running_loop()
    server_context, _ = tls_contexts()
    strict = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    address = server.sockets[0].getsockname()
    with contextlib.suppress(ssl.SSLError):
        await loop.create_connection(Client, *address, ssl=strict, server_hostname="x")
    transport, client = await loop.create_connection(Client, *address)
    transport.write(b"no TLS at all\r\n\r\n" * 10)
    await client.lost
    transport, client = await loop.create_connection(Client, *address)
    transport.abort()
    await client.lost
    server.close()
    await turns(10)


# ---------------------------------------- the standard's code over our parts --


@on_loop(100)
async def datagrams() -> None:
    loop = asyncio.get_running_loop()
    got = loop.create_future()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, address: Any) -> None:
            got.set_result(data)

    one, _ = await loop.create_datagram_endpoint(Receiver, ("127.0.0.1", 0))
    address = one.get_extra_info("sockname")
    two, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=address
    )
    two.sendto(DATA)
    await got
    one.close()
    two.abort()
    await turns()


@on_loop(20)
async def datagrams_that_wait() -> None:
    loop = asyncio.get_running_loop()
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    failed: list[Exception] = []

    class Protocol(asyncio.DatagramProtocol):
        def error_received(self, exc: Exception) -> None:
            failed.append(exc)

        def datagram_received(self, data: bytes, address: Any) -> None:
            raise ValueError

    with tempfile.TemporaryDirectory() as folder:
        sender, _ = await loop.create_datagram_endpoint(
            Protocol, family=socket.AF_UNIX, local_addr=f"{folder}/sender"
        )
        receiver, _ = await loop.create_datagram_endpoint(Protocol, sock=pair[0])
        for number in range(200):  # more addresses than are kept
            sender.sendto(DATA, f"{folder}/{number}")
        assert len(failed) == 200
        with contextlib.suppress(NotImplementedError):  # 3.11.2 has it not
            receiver.pause_reading()
        filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        filler.bind(f"{folder}/filler")
        for _ in range(1000):  # most of them are queued
            sender.sendto(bytearray(DATA), f"{folder}/filler")
        assert sender.get_write_buffer_size() > 0
        with contextlib.suppress(NotImplementedError):
            receiver.resume_reading()
        pair[1].send(DATA)
        await turns()
        filler.close()
        sender.abort()
        receiver.close()
        await turns()
    pair[1].close()


@on_loop(50)
async def pipes() -> None:
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    reader, client = await loop.connect_read_pipe(Client, os.fdopen(read, "rb", 0))
    writer, _ = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(write, "wb", 0)
    )
    writer.write(DATA)
    await client.got
    writer.close()
    await client.lost
    reader.close()
    await turns()


@on_loop(50)
async def pipe_methods() -> None:
    loop = asyncio.get_running_loop()
    read, write = os.pipe()
    reader, client = await loop.connect_read_pipe(Client, os.fdopen(read, "rb", 0))
    writer, _ = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(write, "wb", 0)
    )
    reader.pause_reading(), reader.is_reading(), repr(reader)
    for data in (b"x", bytearray(b"x"), memoryview(LARGE)[::2], LARGE, LARGE):
        writer.write(data)
    with contextlib.suppress(AssertionError):
        writer.write("text")
    writer.get_write_buffer_size(), writer.can_write_eof(), repr(writer)
    for transport in (reader, writer):
        transport.set_protocol(transport.get_protocol())
        transport.is_closing(), transport.get_extra_info("pipe")
        transport.note = transport
    reader.resume_reading()
    writer.write_eof()
    await client.lost
    for method in ("close", "abort", "write"):
        read, write = os.pipe()
        writer, _ = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(write, "wb", 0)
        )
        os.close(read)
        getattr(writer, method)(*([LARGE] if method == "write" else []))
        await turns()
    with tempfile.TemporaryFile() as file:
        for connect in (loop.connect_read_pipe, loop.connect_write_pipe):
            with contextlib.suppress(ValueError):
                await connect(asyncio.Protocol, file)
    await turns()


@on_loop(10)
async def processes() -> None:
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert (await process.communicate(DATA))[0] == DATA
    await turns(5)
    with contextlib.suppress(FileNotFoundError):
        await asyncio.create_subprocess_exec("/nowhere/at/all")


@on_loop(50)
async def sendfile() -> None:
    loop = asyncio.get_running_loop()
    _, client, two, _ = await pair(Client)
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.flush()
        await loop.sendfile(two, file)
    await client.got
    two.close()
    await client.lost
