"""What several threads do at once, each case a function: `thread_stress.py CASE LOOP`.

A program of its own, because a fault ends the process. LOOP: "asyncio" or "asynccore".
While a case runs, another thread collects garbage all the time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import queue
import socket
import ssl
import sys
import threading
import time
import warnings

HOST = "127.0.0.1"
THREADS = 4
FILES = os.environ.get("STRESS_CERTIFICATES", "").split(":")  # authority, server
SCALE = float(os.environ.get("STRESS_SCALE", "1"))


def scale(factor: float) -> None:
    global SCALE
    SCALE *= factor


def times(n: int) -> int:
    return max(1, int(n * SCALE))


def in_threads(*functions) -> None:
    """Runs each in a thread of its own, all at once; raises what one has raised."""
    failed: list[BaseException] = []
    barrier = threading.Barrier(len(functions))

    def run(function) -> None:
        barrier.wait()
        try:
            function()
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=run, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def run(main) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.get_loop().set_exception_handler(unexpected)
        runner.run(main())


def unexpected(loop, context) -> None:
    print("unexpected:", context, file=sys.stderr, flush=True)
    os._exit(3)


def has_gil() -> bool:
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def is_refused(function, *args) -> bool:
    try:
        function(*args)
    except RuntimeError:
        return True
    return False


def closed_loop():
    loop = new_event_loop()
    loop.close()
    return loop


class Running:
    """A loop that runs in a thread of its own."""

    def __enter__(self):
        self.loop = new_event_loop()
        self.loop.set_exception_handler(unexpected)
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self.loop

    def __exit__(self, *exc) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def echo_in(loop):
    """A server in a loop that another thread runs, and its address."""
    server = asyncio.run_coroutine_threadsafe(
        loop.create_server(Echo, HOST, 0), loop
    ).result()
    return server, server.sockets[0].getsockname()


# ------------------------------------------------------------- loops side by side


async def echo_server(reader, writer) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def echo_clients(server, connections: int, lines: int, **options) -> None:
    async def client(n: int) -> None:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, **options)
        for i in range(lines):
            line = b"x" * ((n * 131 + i * 977) % 9000) + b"\n"
            writer.write(line)
            assert await reader.readline() == line
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(n) for n in range(connections)))


class Echo(asyncio.Protocol):
    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data) -> None:
        self.transport.write(data)


class Client(asyncio.Protocol):
    def __init__(self, total: int) -> None:
        self.left = total
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.write(b"y" * 1000)

    def data_received(self, data) -> None:
        self.left -= len(data)
        if self.left <= 0:
            self.transport.close()
        else:
            self.transport.write(data)

    def connection_lost(self, exc) -> None:
        if not self.done.done():
            self.done.set_result(self.left)


class Idle(asyncio.Protocol):
    """Has a dict."""


class Quiet(Client):
    """Waits for what others write; closes when all of it has come back."""

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data) -> None:
        self.left -= len(data)
        if self.left <= 0:
            self.transport.close()


async def callbacks() -> None:
    loop = asyncio.get_running_loop()
    count = 0

    def called(n: int) -> None:
        nonlocal count
        count += 1
        if n > 0:
            loop.call_soon(called, n - 1)

    loop.call_soon(called, times(2000))
    timers = [loop.call_later(n / 100000, called, 0) for n in range(times(300))]
    for timer in timers[::2]:
        timer.cancel()
    await asyncio.gather(*(asyncio.sleep(n / 20000) for n in range(times(200))))
    while count < times(2000) + 1 + times(300) // 2:
        await asyncio.sleep(0)


async def connections() -> None:
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo_server, HOST, 0)
    await echo_clients(server, 4, times(40))
    server.close()
    server = await loop.create_server(Echo, HOST, 0)
    address = server.sockets[0].getsockname()
    for _ in range(times(8)):
        made = await asyncio.gather(
            *(loop.create_connection(lambda: Client(50_000), *address) for _ in "1234")
        )
        for _, protocol in made:
            assert await protocol.done <= 0
    server.close()


async def sockets() -> None:
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        for n in range(times(200)):
            receiving = loop.create_task(loop.sock_recv(a, 100))
            if n % 2:
                await asyncio.sleep(0)
            await loop.sock_sendall(b, b"%d" % n)
            assert await receiving == b"%d" % n
        came = asyncio.Event()
        loop.add_reader(a, came.set)
        b.send(b"x")
        await came.wait()
        loop.remove_reader(a)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answers: bool) -> None:
        self.answers = answers
        self.came: asyncio.Queue[bytes] = asyncio.Queue()

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data, address) -> None:
        if self.answers:
            self.transport.sendto(data, address)
        else:
            self.came.put_nowait(data)


async def datagrams() -> None:
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(lambda: Datagrams(True), (HOST, 0))
    client, protocol = await loop.create_datagram_endpoint(
        lambda: Datagrams(False), remote_addr=server.get_extra_info("sockname")
    )
    for n in range(times(100)):
        client.sendto(b"%d" % n)
        assert await protocol.came.get() == b"%d" % n
    client.close()
    server.close()


async def children() -> None:
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert await child.communicate(b"z" * 100_000) == (b"z" * 100_000, None)
    r, w = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    with open(r, "rb", 0) as reading, open(w, "wb", 0) as writing:
        read, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), reading
        )
        write, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writing)
        write.write(b"through a pipe\n")
        assert await reader.readline() == b"through a pipe\n"
        read.close()
        write.close()
        await asyncio.sleep(0)


async def generators() -> None:
    async def numbers(n: int):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async for n in numbers(50):
        if n == 20:
            break
    assert [n async for n in numbers(20)] == list(range(20))
    async with asyncio.timeout(20):
        async with asyncio.TaskGroup() as group:
            for n in range(times(100)):
                group.create_task(asyncio.sleep(n / 50000))


KINDS = (callbacks, connections, sockets, datagrams, children, generators)


def case_loops() -> None:
    def one() -> None:
        for main in KINDS * times(2):
            run(main)

    in_threads(*[one] * THREADS)


def case_debug() -> None:
    def one() -> None:
        for main in KINDS:
            with asyncio.Runner(loop_factory=new_event_loop, debug=True) as runner:
                runner.get_loop().slow_callback_duration = 1000
                runner.run(main())

    scale(0.2)
    in_threads(*[one] * THREADS)


def case_tls() -> None:
    authority, certificate = FILES
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate)
    client_context = ssl.create_default_context(cafile=authority)

    async def main() -> None:
        server = await asyncio.start_server(echo_server, HOST, 0, ssl=server_context)
        await echo_clients(server, 3, times(20), ssl=client_context)
        server.close()

    def one() -> None:
        for _ in range(times(3)):
            run(main)

    in_threads(*[one] * THREADS)


# ------------------------------------------------------------ calls of other threads


def case_flood() -> None:
    """Each thread's calls come, all of them and in order, in each of two loops."""
    total = times(10_000)
    with Running() as one, Running() as two:
        seen: dict[object, list[int]] = {
            (loop, t): [] for loop in (one, two) for t in range(THREADS)
        }

        def flood(thread: int) -> None:
            for n in range(total):
                for loop in (one, two):
                    loop.call_soon_threadsafe(seen[loop, thread].append, n)

        in_threads(*(lambda t=t: flood(t) for t in range(THREADS)))
        for loop in (one, two):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
    assert all(numbers == list(range(total)) for numbers in seen.values())


def case_wake() -> None:
    """No call is lost while the loop goes to sleep."""
    with Running() as loop:

        def ping() -> None:
            for _ in range(times(1500)):
                came = threading.Event()
                loop.call_soon_threadsafe(came.set)
                assert came.wait(20)

        in_threads(*[ping] * 3)


def case_coroutines() -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(n % 3 / 10000)
        return 2 * n

    with Running() as one, Running() as two:

        def call() -> None:
            for n in range(times(150)):
                futures = [
                    asyncio.run_coroutine_threadsafe(double(n), loop)
                    for loop in (one, two, one)
                ]
                if n % 10 == 0:
                    futures[0].cancel()
                assert futures[1].result() == 2 * n
                try:
                    assert futures[0].result() == 2 * n
                except concurrent.futures.CancelledError:
                    assert n % 10 == 0
                futures[2].result()

        in_threads(*[call] * THREADS)


def case_executor() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        jobs = [loop.run_in_executor(None, pow, 3, n) for n in range(times(150))]
        names = [loop.getaddrinfo("localhost", 80 + n) for n in range(times(20))]
        assert await asyncio.gather(*jobs) == [3**n for n in range(times(150))]
        assert all(await asyncio.gather(*names))
        assert await asyncio.to_thread(threading.get_ident) != threading.get_ident()

    def one() -> None:
        for _ in range(times(3)):
            run(main)

    in_threads(*[one] * THREADS)


def case_cancel() -> None:
    """Handles are cancelled by other threads while their loop runs them."""
    ran = [0]

    def called(*args) -> None:
        ran[0] += 1

    with Running() as loop:
        batches: list[list[asyncio.Handle]] = []

        def fill(made: threading.Event, batch: list) -> None:
            for n in range(200):
                batch.append(loop.call_later(n % 20 / 10000, called, n))
                batch.append(loop.call_later(100 + n, called, n))
                batch.append(loop.call_soon(called, (n,)))
            made.set()

        def cancel() -> None:
            for _ in range(times(30)):
                made, batch = threading.Event(), []
                loop.call_soon_threadsafe(fill, made, batch)
                made.wait()
                handles = [loop.call_soon_threadsafe(called, n) for n in range(200)]
                for handle in batch + handles:
                    handle.cancel()
                    assert handle.cancelled()
                    repr(handle)

        in_threads(*[cancel] * THREADS)
        batches.clear()


def case_close() -> None:
    """A loop closes under threads that call: RuntimeError, and nothing else."""
    for _ in range(times(60)):
        loop = new_event_loop()
        running = threading.Thread(target=loop.run_forever)
        running.start()

        def call(loop=loop) -> None:
            try:
                while True:
                    loop.call_soon_threadsafe(int)
                    loop._write_to_self()
            except RuntimeError as exc:
                assert str(exc) == "Event loop is closed", exc

        def close(loop=loop, running=running) -> None:
            time.sleep(0.001)
            loop.call_soon_threadsafe(loop.stop)
            running.join()
            loop.close()

        in_threads(close, *[call] * (THREADS - 1))


def case_closers() -> None:
    """The same by several threads at once, with timers and callbacks left over."""
    for _ in range(times(1000)):
        loop = new_event_loop()
        handles = [loop.call_soon(int) for _ in range(50)]
        handles += [loop.call_later(1, int) for _ in range(50)]
        handles.clear()

        def call(loop=loop) -> None:
            try:
                while True:
                    loop.call_later(1, int)
            except RuntimeError as exc:
                assert str(exc) == "Event loop is closed", exc

        def close(loop=loop) -> None:
            # the first one has closed the selector, or the socket that wakes it
            with contextlib.suppress(AttributeError, KeyError, OSError, ValueError):
                loop.close()

        in_threads(close, close, call, call)


def case_closers_in_finalizers() -> None:
    """Two loops, each closed by what the other one drops while it is closed."""
    for schedule in ("call_soon", "call_later"):
        barrier = threading.Barrier(2)

        class Callback:
            def __init__(self, loop, barrier=barrier) -> None:
                self.loop = loop
                self.barrier = barrier

            def __call__(self) -> None:
                raise AssertionError

            def __del__(self) -> None:
                self.barrier.wait()
                self.loop.close()

        def close(loop, other, schedule=schedule, callback=Callback) -> None:
            delay = [60] if schedule == "call_later" else []
            getattr(loop, schedule)(*delay, callback(other))
            loop.close()

        one, two = new_event_loop(), new_event_loop()
        in_threads(lambda: close(one, two), lambda: close(two, one))  # noqa: B023


def case_runners() -> None:
    """Several threads want to run one loop: one does, the others are refused."""
    loop = new_event_loop()
    over = threading.Event()

    def stop() -> None:
        while not over.wait(0.001):
            loop.call_soon_threadsafe(loop.stop)

    def use() -> None:
        for _ in range(times(500_000)):
            loop.stop()
            try:
                loop.run_forever()
            except RuntimeError as exc:
                assert str(exc) == "This event loop is already running", exc

    stopping = threading.Thread(target=stop)  # the end of a run takes any stop() back
    stopping.start()
    try:
        in_threads(*[use] * THREADS)
    finally:
        over.set()
        stopping.join()
    loop.close()


# ------------------------------------------------------------- what modules are asked


def case_patches() -> None:
    """What a thread puts into a module is there, whoever looks at it meanwhile."""
    real = time.monotonic
    over = threading.Event()

    def look() -> None:
        loop = new_event_loop()
        while not over.is_set():
            loop.time()
        loop.close()

    def patch() -> None:
        loop = new_event_loop()
        try:
            for n in range(times(20_000)):
                time.monotonic = lambda n=n: -float(n + 1)
                assert loop.time() == -float(n + 1)
                time.monotonic = real
                assert loop.time() > 0
        finally:
            time.monotonic = real
            over.set()
        loop.close()

    in_threads(patch, *[look] * (THREADS - 1))


def case_overrides() -> None:
    """What a thread puts into a class is seen by the loops of others."""
    class_of_loop = type("Mine", (type(closed_loop()),), {})
    over = threading.Event()
    seen = [0.0] * (THREADS - 1)

    def look(place: int) -> None:
        with contextlib.closing(class_of_loop()) as loop:
            while not over.is_set():
                timer = loop.call_later(1, int)
                seen[place] = timer.when()
                timer.cancel()
                time.sleep(0)

    def patch() -> None:
        try:
            for n in range(times(1000)):
                if n % 2:  # while they look at this one, there is another
                    del class_of_loop.time
                    time.sleep(n % 100 / 1e6)
                class_of_loop.time = lambda self, n=n: n + 1e9
                late = time.monotonic() + 20
                while seen != [n + 1e9 + 1] * len(seen):
                    time.sleep(0)
                    assert time.monotonic() < late, (n, seen)
        finally:
            over.set()

    in_threads(patch, *(lambda n=n: look(n) for n in range(len(seen))))


# --------------------------------------------------------------- ends, in any thread


def case_ends() -> None:
    """Transports, coroutines and loops in cycles end in the collector's thread."""
    warnings.simplefilter("ignore")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, HOST, 0)
        address = server.sockets[0].getsockname()
        kept = []
        for n in range(times(30)):
            transport, protocol = await loop.create_connection(Idle, *address)
            transport.pause_reading()
            protocol.cycle = [protocol, transport]
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"some")
            assert await reader.read(4) == b"some"
            writer.transport.pause_reading()
            reader.cycle = [reader, writer]
            kept.append((transport, writer) if n % 3 == 0 else None)
            a, b = socket.socketpair()
            a.setblocking(False)
            given, protocol = await loop.create_connection(Idle, sock=a)
            given.pause_reading()
            protocol.cycle = [protocol, given, b]
            task = loop.create_task(asyncio.sleep(0))
            waits = loop.create_future()
            task.cycle = [task, waits, loop.call_soon(int), loop.sock_recv(b, 1)]
            task.cycle[-1].close()
            del transport, protocol, reader, writer, a, b, given, task, waits
            timer = loop.call_later(50, int)
            timer.cancel()
            await asyncio.sleep(0.0003)
        server.close()
        for pair in kept:
            if pair is not None:
                pair[0].close()
                pair[1].close()

    def one() -> None:
        for _ in range(times(3)):
            run(main)

    in_threads(*[one] * THREADS)


def case_writers() -> None:
    """Writers that nobody closed, over TLS as well, and what runs beside them."""
    warnings.simplefilter("ignore")

    def unraisable(told) -> None:
        # close() by the collector's thread fails there as it does on the standard loop:
        # what it has just looked at is closed meanwhile
        if "StreamWriter.__del__" not in f"{told.err_msg} {told.object!r}":
            sys.__unraisablehook__(told)

    sys.unraisablehook = unraisable
    authority, certificate = FILES
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate)
    client_context = ssl.create_default_context(cafile=authority)

    async def main() -> None:
        for context, secure in ((None, None), (server_context, client_context)):
            server = await asyncio.start_server(echo_server, HOST, 0, ssl=context)
            address = server.sockets[0].getsockname()
            for _ in range(times(15)):
                reader, writer = await asyncio.open_connection(*address, ssl=secure)
                writer.write(b"line\n")
                assert await reader.readline() == b"line\n"
                writer.transport.pause_reading()
                reader.cycle = [reader, writer]
                del reader, writer
                await asyncio.sleep(0.0005)
            server.close()

    def one() -> None:
        for _ in range(times(2)):
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                # connections that are lost in the middle are reported here
                runner.get_loop().set_exception_handler(lambda *args: None)
                runner.run(main())

    in_threads(*[one] * THREADS)


def case_handed() -> None:
    """Loops are made here, run there, and end elsewhere."""
    for _ in range(times(20)):
        loops = [new_event_loop() for _ in range(THREADS)]
        handles = [loop.call_soon(loop.call_later, 0.001, loop.stop) for loop in loops]
        in_threads(*(loop.run_forever for loop in loops))
        handles += [loop.call_soon(int) for loop in loops]
        in_threads(*(loop.close for loop in loops))
        in_threads(loops.clear, handles.clear)


def case_collected() -> None:
    """An open transport that the collector finds elsewhere is closed by its loop."""
    warnings.simplefilter("ignore")

    async def connect(a: socket.socket):
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Idle, sock=a)
        transport.pause_reading()
        protocol.cycle = [protocol, transport]

    with Running() as loop:
        for _ in range(times(50)):
            a, b = socket.socketpair()
            a.setblocking(False)
            asyncio.run_coroutine_threadsafe(connect(a), loop).result()
            del a
            with b:
                b.settimeout(20)
                gc.collect()
                assert b.recv(1) == b""


def case_wrong() -> None:
    """Calls on a transport from a foreign thread, which asyncio forbids: no fault."""

    async def connect(loop, address):
        client = Quiet(20 * len(b"abc"))
        transport, _ = await loop.create_connection(lambda: client, *address)
        transport.pause_reading()
        return transport, client

    async def wait(client):
        return await client.done

    with Running() as loop:
        server, address = echo_in(loop)

        def use() -> None:
            for n in range(times(40)):
                transport, client = asyncio.run_coroutine_threadsafe(
                    connect(loop, address), loop
                ).result()
                for name in ("_sock", "_extra"):
                    assert has_gil() or is_refused(getattr, transport, name)
                assert has_gil() or is_refused(
                    setattr, transport, "_protocol", transport.get_protocol()
                )
                transport.resume_reading()
                for _ in range(20):
                    transport.write(b"abc")
                    transport.is_closing()
                    with contextlib.suppress(RuntimeError):  # refused
                        transport.get_write_buffer_size()
                        transport.get_extra_info("peername")
                transport.abort() if n % 2 else transport.close()
                left = asyncio.run_coroutine_threadsafe(wait(client), loop)
                assert isinstance(left.result(), int)
                del transport, client

        in_threads(*[use] * THREADS)
        loop.call_soon_threadsafe(server.close)


def case_wrong_pipes() -> None:
    """The same on the transport of a pipe: all bytes come, in their order."""

    async def connect(loop, protocol, pipe):
        return await loop.connect_write_pipe(protocol, pipe)

    class Written(asyncio.BaseProtocol):
        def __init__(self) -> None:
            self.lost = threading.Event()

        def connection_lost(self, exc) -> None:
            self.lost.set()

    with Running() as loop:

        def use() -> None:
            for _ in range(times(60)):
                r, w = os.pipe()
                with open(r, "rb", 0) as reading, open(w, "wb", 0) as writing:
                    transport, protocol = asyncio.run_coroutine_threadsafe(
                        connect(loop, Written, writing), loop
                    ).result()
                    data = [b"%d;" % n * 10 for n in range(100)]
                    for piece in data:
                        transport.write(piece)
                        repr(transport)
                    loop.call_soon_threadsafe(transport.write_eof)
                    assert reading.readall() == b"".join(data)
                    assert protocol.lost.wait(20)

        in_threads(*[use] * THREADS)


class Sender(asyncio.DatagramProtocol):
    """Counts what comes back."""

    def __init__(self) -> None:
        self.count = 0
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address) -> None:
        self.count += 1

    def connection_lost(self, exc) -> None:
        self.lost.set_result(exc)


def case_wrong_datagrams() -> None:
    """The same on a datagram transport."""

    async def connect(loop, **options):
        return await loop.create_datagram_endpoint(Sender, **options)

    async def wait(protocol):
        return await protocol.lost

    with Running() as loop:
        server, _ = asyncio.run_coroutine_threadsafe(
            loop.create_datagram_endpoint(lambda: Datagrams(True), (HOST, 0)), loop
        ).result()
        address = server.get_extra_info("sockname")
        ways = ({"remote_addr": address}, {"local_addr": (HOST, 0)})

        def use() -> None:
            for n in range(times(60)):
                transport, protocol = asyncio.run_coroutine_threadsafe(
                    connect(loop, **ways[n // 2 % 2]), loop
                ).result()
                for i in range(20):
                    data = bytearray(b"datagram %d" % i)
                    transport.sendto(data, address)
                    data[:] = b""
                    repr(transport)
                    transport.is_closing()
                    transport.get_extra_info("sockname")
                    with contextlib.suppress(RuntimeError):  # refused
                        transport.set_protocol(protocol)
                transport.abort() if n % 2 else transport.close()
                left = asyncio.run_coroutine_threadsafe(wait(protocol), loop)
                assert left.result() is None
                del transport, protocol

        in_threads(*[use] * THREADS)
        loop.call_soon_threadsafe(server.close)


def case_wrong_coroutines() -> None:
    """What a foreign thread begins is refused; what it ends is left to the loop."""

    async def begin(coroutine):
        coroutine.send(None)
        return coroutine

    async def receive(sock: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.sock_recv(sock, 1)

    def refused(loop, sock: socket.socket, address) -> None:
        for coroutine in (
            loop.create_connection(Idle, *address),
            loop.create_connection(Idle, sock=sock.dup()),  # closed, from 3.15 on
            loop.connect_read_pipe(Idle, sock),
            loop.connect_write_pipe(Idle, sock),
            loop.sock_recv(sock, 1),
        ):
            assert is_refused(coroutine.send, None), coroutine

    with Running() as loop:
        server, address = echo_in(loop)

        def use() -> None:
            for _ in range(times(100)):
                a, b = socket.socketpair()
                a.setblocking(False)
                with a, b:
                    for coroutine in (
                        loop.sock_recv(a, 1),
                        loop.create_connection(Idle, *address),
                    ):
                        asyncio.run_coroutine_threadsafe(
                            begin(coroutine), loop
                        ).result().close()
                    b.send(b"x")
                    if not has_gil():
                        refused(loop, a, address)
                    received = asyncio.run_coroutine_threadsafe(receive(a), loop)
                    assert received.result() == b"x"

        in_threads(*[use] * THREADS)
        loop.call_soon_threadsafe(server.close)


def case_wrong_readers() -> None:
    """A StreamReader is looked at and changed by foreign threads, and read."""

    async def talk(reader, writer) -> None:
        for n in range(times(300)):
            line = b"x" * (n * 977 % 9000) + b"\n"
            writer.write(line)
            assert await reader.readline() == line

    async def finish(server, writer) -> None:
        writer.close()
        server.close()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    with Running() as loop:
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(echo_server, HOST, 0), loop
        ).result()
        reader, writer = asyncio.run_coroutine_threadsafe(
            asyncio.open_connection(*server.sockets[0].getsockname()), loop
        ).result()
        over = threading.Event()

        def use() -> None:
            try:
                asyncio.run_coroutine_threadsafe(talk(reader, writer), loop).result()
            finally:
                over.set()

        def look() -> None:
            while not over.is_set():
                assert not reader.at_eof()
                assert len(reader._buffer) <= 9001
                assert reader.exception() is None
                with contextlib.suppress(StopIteration):
                    reader.read(0).send(None)

        def change() -> None:
            n = 0
            while not over.is_set():
                n += 1
                reader._limit = 2**16 + n % 1000
                reader.note = n
                assert reader.note == n

        in_threads(use, change, *[look] * (THREADS - 1))
        asyncio.run_coroutine_threadsafe(finish(server, writer), loop).result()


def case_wrong_writers() -> None:
    """The same by the StreamWriter of an accepted connection: all lines come."""
    made: queue.SimpleQueue[asyncio.StreamWriter] = queue.SimpleQueue()
    over = threading.Event()
    total = times(10_000)

    async def serve(reader, writer) -> None:
        made.put(writer)
        await reader.read()
        writer.close()
        over.set()

    with Running() as loop:
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(serve, HOST, 0), loop
        ).result()
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            writer = made.get()

            def write(thread: int) -> None:
                for n in range(total):
                    writer.write(b"%d %d\n" % (thread, n))

            def read() -> None:
                seen: list[list[int]] = [[] for _ in range(THREADS)]
                with client.makefile("rb") as lines:
                    for _ in range(total * THREADS):
                        thread, n = lines.readline().split()
                        seen[int(thread)].append(int(n))
                assert seen == [list(range(total))] * THREADS

            in_threads(read, *(lambda t=t: write(t) for t in range(THREADS)))
        assert over.wait(20)
        loop.call_soon_threadsafe(server.close)


ASKED = (
    *("_loop", "_server", "_protocol", "_sock", "_extra", "_empty_waiter"),
    *("get_protocol", "is_reading", "is_closing", "get_write_buffer_limits"),
)


def case_wrong_questions() -> None:
    """What a transport has is asked by foreign threads while it opens and ends."""
    shown: list[asyncio.Transport] = []

    async def use() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, HOST, 0)
        address = server.sockets[0].getsockname()
        r, w = os.pipe()
        with open(r, "rb", 0) as reading, open(w, "wb", 0) as writing:
            for n in range(times(2000)):
                transport, client = await loop.create_connection(
                    lambda: Client(1000), *address
                )
                shown[:] = [transport, client.transport]
                if n % 2:
                    await client.done
                transport.abort()
                await asyncio.sleep(0)
            for pipe in (reading, writing):
                connect = (
                    loop.connect_read_pipe
                    if pipe is reading
                    else (loop.connect_write_pipe)
                )
                transport, _ = await connect(asyncio.Protocol, pipe)
                shown[:] = [transport]
                await asyncio.sleep(0)
                transport.close()
                await asyncio.sleep(0)
        server.close()

    with Running() as loop:
        over = threading.Event()

        def run_it() -> None:
            try:
                asyncio.run_coroutine_threadsafe(use(), loop).result()
            finally:
                over.set()

        def ask() -> None:
            while not over.is_set():
                for transport in list(shown):
                    repr(transport)
                    for name in ASKED:
                        # refused, or a pipe has none
                        with contextlib.suppress(RuntimeError, AttributeError):
                            asked = getattr(transport, name)
                            if callable(asked) and not name.startswith("_"):
                                asked()

        in_threads(run_it, *[ask] * (THREADS - 1))


CASES = {
    name.removeprefix("case_"): function
    for name, function in list(globals().items())
    if name.startswith("case_")
}


def main(case: str, loop: str) -> None:
    global new_event_loop
    if loop == "asyncio":
        new_event_loop = asyncio.new_event_loop
    else:
        import asynccore

        new_event_loop = asynccore.new_event_loop
    over = threading.Event()

    def collect() -> None:
        while not over.wait(0.002):
            gc.collect()

    collecting = threading.Thread(target=collect)
    collecting.start()
    try:
        CASES[case]()
    finally:
        over.set()
        collecting.join()
    gc.collect()
    assert threading.active_count() == 1
    print("GIL" if has_gil() else "no GIL")


if __name__ == "__main__":
    main(*sys.argv[1:])
