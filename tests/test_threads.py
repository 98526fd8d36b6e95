"""Many loops in many threads, in subinterpreters, and beside other loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import importlib.util
import socket
import sys
import threading
import time

import pytest

from support import only_asynccore
from support.interpreter import FREE_THREADED
from support.turns import turn

THREADS = 8


def in_threads(work, count=THREADS):
    """Runs work(n) in `count` threads at once; returns the results in order."""
    barrier = threading.Barrier(count)

    def started(n):
        barrier.wait(10)
        return work(n)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(started, n) for n in range(count)]
        return [future.result(30) for future in futures]


def test_loops_in_threads(loop_factory):
    def work(n):
        async def main():
            for _ in range(50):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)
            return n

        loop = loop_factory()
        result = loop.run_until_complete(main())
        loop.close()
        return result

    assert in_threads(work) == list(range(THREADS))


def test_loops_made_and_closed_in_threads(loop_factory):
    def work(n):
        for _ in range(30):
            loop = loop_factory()
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.close()
        return n

    assert in_threads(work) == list(range(THREADS))


def test_loops_that_talk_by_sockets(loop_factory):
    pairs = [socket.socketpair() for _ in range(THREADS)]
    for sock in (sock for pair in pairs for sock in pair):
        sock.setblocking(False)

    def work(n):
        async def main():
            loop = asyncio.get_running_loop()
            mine, theirs = pairs[n][0], pairs[n - 1][1]
            for k in range(50):
                await loop.sock_sendall(mine, bytes([k]))
                assert await loop.sock_recv(theirs, 1) == bytes([k])
            return n

        loop = loop_factory()
        result = loop.run_until_complete(asyncio.wait_for(main(), 20))
        loop.close()
        return result

    assert in_threads(work) == list(range(THREADS))
    for sock in (sock for pair in pairs for sock in pair):
        sock.close()


def test_loops_that_wake_each_other(loop_factory):
    # a ring of loops, each of which hands a token on by call_soon_threadsafe
    loops = [loop_factory() for _ in range(THREADS)]
    hops = 400
    seen = []

    def token(n, left):
        seen.append(n)
        if left == 0:
            for loop in loops:
                loop.call_soon_threadsafe(loop.stop)
        else:
            following = (n + 1) % THREADS
            loops[following].call_soon_threadsafe(token, following, left - 1)

    def work(n):
        if n == 0:
            loops[0].call_soon(token, 0, hops)
        loops[n].run_forever()

    in_threads(work)
    for loop in loops:
        loop.close()
    assert seen == [n % THREADS for n in range(hops + 1)]


def test_loop_that_moves_between_threads(loop):
    found = []

    def work():
        found.append(loop.run_until_complete(asyncio.sleep(0, threading.get_ident())))

    for _ in range(5):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found[-1] == thread.ident
    work()
    assert found[-1] == threading.get_ident()


def test_second_thread_cannot_run_it(loop):
    found = []
    running = threading.Event()

    def work():
        running.wait(10)
        try:
            loop.run_forever()
        except RuntimeError as exc:
            found.append(str(exc))

    thread = threading.Thread(target=work)
    thread.start()
    loop.call_soon(lambda: (running.set(), thread.join(), loop.stop()))
    loop.run_forever()
    assert found == ["This event loop is already running"]


def test_is_running_is_seen_by_other_threads(loop):
    found = []
    loop.call_soon(
        lambda: in_thread(lambda: found.append((loop.is_running(), loop.is_closed())))
    )
    turn(loop)
    in_thread(lambda: found.append((loop.is_running(), loop.is_closed())))
    assert found == [(True, False), (False, False)]


def in_thread(target):
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()


def test_loop_closed_by_another_thread(loop_factory):
    loop = loop_factory()
    loop.call_soon(int)
    loop.call_later(100, int)
    turn(loop)
    in_thread(loop.close)
    assert loop.is_closed()


def test_loop_dropped_by_another_thread(loop_factory):
    box = [loop_factory()]
    box[0].close()
    in_thread(box.clear)
    assert box == []


def test_collection_in_another_thread_while_the_loop_waits(loop):
    # a collection visits the loop while its own thread is in the poll
    stopping = threading.Event()

    def collect():
        while not stopping.is_set():
            gc.collect()
            time.sleep(0)

    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        thread = threading.Thread(target=collect)
        thread.start()
        received = []

        def readable():
            received.append(a.recv(100))
            if len(received) == 20:
                loop.stop()
            else:
                loop.call_later(0.0005, b.send, b"x")

        loop.add_reader(a, readable)
        loop.call_later(0.0005, b.send, b"x")
        loop.run_forever()
        stopping.set()
        thread.join()
        loop.remove_reader(a)
    assert received == [b"x"] * 20


# the standard loop's tables are not made for this; ours must at least not crash
@only_asynccore
def test_wrong_thread_calls_while_the_loop_runs(loop):
    stopping = threading.Event()
    pairs = [socket.socketpair() for _ in range(4)]
    errors = []

    def refused():
        if FREE_THREADED:  # while the loop runs
            return contextlib.suppress(RuntimeError)
        return contextlib.nullcontext()

    def abuse(n):
        a, b = pairs[n]
        while not stopping.is_set():
            try:
                loop.call_soon(int)
                handle = loop.call_later(0, int)
                loop.call_later(1000, int).cancel()
                handle.cancel()
                with refused():
                    loop.add_reader(a, int)
                with refused():
                    loop.add_writer(b, int)
                with refused():
                    loop.remove_writer(b)
                with refused():
                    loop.remove_reader(a)
                loop.time()
                repr(loop)
                loop.is_running()
            except BaseException as exc:
                errors.append(repr(exc))
            time.sleep(0)

    threads = [threading.Thread(target=abuse, args=(n,)) for n in range(4)]
    loop.set_debug(False)
    loop.set_exception_handler(lambda loop, context: None)
    for thread in threads:
        loop.call_soon(thread.start)
    ticks = []

    def tick():
        ticks.append(1)
        if len(ticks) < 100:
            loop.call_later(0.001, tick)
        else:
            stopping.set()
            loop.stop()

    loop.call_soon(tick)
    loop.run_forever()
    stopping.set()
    for thread in threads:
        thread.join()
    assert len(ticks) == 100
    assert errors == []
    for a, b in pairs:
        loop.remove_reader(a)
        loop.remove_writer(b)
        a.close()
        b.close()


@only_asynccore
def test_timer_of_another_thread_shortens_the_wait(loop):
    # not promised by asyncio, where it waits for the next event; no harm in it
    fired = []
    loop.set_debug(False)
    waiting = threading.Event()

    def work():
        waiting.wait(10)
        loop.call_later(0.001, fired.append, 1)
        loop.call_soon_threadsafe(loop.call_later, 0.005, loop.stop)

    thread = threading.Thread(target=work)
    thread.start()
    loop.call_soon(waiting.set)
    loop.run_forever()
    thread.join()
    assert fired == [1]


def test_both_kinds_of_loop_in_one_process(both_factories):
    def work(n):
        loop = both_factories[n % 2]()
        result = loop.run_until_complete(asyncio.sleep(0.001, n))
        loop.close()
        return result

    assert in_threads(work) == list(range(THREADS))


@pytest.fixture(scope="module")
def uvloop_factory():
    """uvloop.new_event_loop, whose first loop opens descriptors that stay open."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    uvloop.new_event_loop().close()
    return uvloop.new_event_loop


def test_beside_uvloop(loop_factory, uvloop_factory):
    def work(n):
        loop = (loop_factory, uvloop_factory)[n % 2]()
        result = loop.run_until_complete(asyncio.sleep(0.001, n))
        loop.close()
        return result

    assert in_threads(work) == list(range(THREADS))


INTERPRETERS = next(
    (
        name
        for name in ("_interpreters", "_xxsubinterpreters")
        if importlib.util.find_spec(name)
    ),
    None,
)
SUBINTERPRETERS = """
    import {module} as interpreters, sys
    code = '''if True:
        import asyncio
        {imports}
        async def main():
            await asyncio.sleep(0.001)
            return 1
        for _ in range(3):
            loop = new_event_loop()
            assert loop.run_until_complete(main()) == 1
            loop.close()
    '''
    before = new_event_loop()
    {create}
    for _ in range(3):
        try:
            made = create()
        except Exception as exc:
            print("cannot create", exc)
            break
        error = interpreters.run_string(made, code)
        if error is not None:
            print("ImportError" if "ImportError" in str(error) else error)
        interpreters.destroy(made)
    before.call_soon(before.stop)
    before.run_forever()
    before.close()
    print("alive")
"""


def subinterpreters(loop_name, own_gil):
    """What the scripts need to make them."""
    imports = (
        "from asynccore import new_event_loop"
        if loop_name == "asynccore"
        else "new_event_loop = asyncio.SelectorEventLoop"
    )
    if INTERPRETERS == "_interpreters":
        kind = "isolated" if own_gil else "legacy"
        create = f"create = lambda: interpreters.create({kind!r})"
    else:
        create = f"create = lambda: interpreters.create(isolated={own_gil})"
    return {"module": INTERPRETERS, "imports": imports, "create": create}


@pytest.mark.skipif(INTERPRETERS is None, reason="no subinterpreters here")
@pytest.mark.parametrize("own_gil", [False, True], ids=["shared GIL", "own GIL"])
def test_subinterpreters(loop_name, script, own_gil):
    """A module without support for a GIL of its own is refused with ImportError."""
    if own_gil and sys.version_info[:2] == (3, 12):
        pytest.skip("3.12 crashes at exit, with the standard library alone")
    done = script(SUBINTERPRETERS.format(**subinterpreters(loop_name, own_gil)))
    lines = done.stdout.split("\n")
    assert "alive" in lines
    told = set(lines) - {"alive", ""}
    if own_gil and loop_name == "asynccore":
        assert told <= {"ImportError"}
    else:
        assert told == set()


LEFT_OPEN = """
    import {module} as interpreters, threading
    code = '''if True:
        import asyncio, logging
        {imports}
        logging.disable()
        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
            def data_received(self, data):
                self.transport.write(data)
        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"x" * 1000)
            await reader.readexactly(1000)
            assert await loop.run_in_executor(None, int, "7") == 7
            loop.call_later(100, print)
            reading = loop.create_task(reader.read(), name="reading")
            await asyncio.sleep(0)
            return server, writer, reading
        kept = []
        for _ in range(2):
            loop = new_event_loop()
            kept.append((loop, loop.run_until_complete(main())))
    '''
    {create}
    told = []
    def work():
        for _ in range(3):
            made = create()
            told.append(interpreters.run_string(made, code))
            interpreters.destroy(made)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    async def main():
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0.001)
    import asyncio
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    print(told)
"""


@pytest.mark.skipif(INTERPRETERS is None, reason="no subinterpreters here")
@pytest.mark.parametrize("own_gil", [False, True], ids=["shared GIL", "own GIL"])
def test_subinterpreters_that_leave_loops_open(loop_name, script, own_gil):
    """Loops with all that belongs to them end with their interpreter, in any thread."""
    if sys.version_info < (3, 12):
        pytest.skip("a running loop of 3.11 is that of all interpreters")
    if own_gil and sys.version_info < (3, 13):
        pytest.skip("3.12 crashes at exit, with the standard library alone")
    done = script(LEFT_OPEN.format(**subinterpreters(loop_name, own_gil)))
    assert done.stdout == f"{[None] * 9}\n"
