"""A loop on both sides of a fork: the child makes its own, the parent's goes on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
import warnings

import pytest

from support import only_asynccore
from support.turns import Trace, turn

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def in_child(function):
    """Runs `function` in a forked child; returns what it returned, as text."""
    r, w = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            sys.unraisablehook = lambda args: None
            os.write(w, str(function()).encode())
            status = 0
        except BaseException as exc:
            os.write(w, f"{type(exc).__name__}: {exc}".encode())
        finally:
            os._exit(status)
    os.close(w)
    text = b""
    while piece := os.read(r, 65536):
        text += piece
    os.close(r)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, text.decode()
    return text.decode()


async def value(result):
    await asyncio.sleep(0)
    return result


def test_new_loop_in_the_child(loop_factory):
    def child():
        asyncio._set_running_loop(None)
        loop = loop_factory()
        result = loop.run_until_complete(value(42))
        loop.close()
        return result

    assert in_child(child) == "42"


def test_new_loop_in_the_child_of_a_used_loop(loop, loop_factory):
    a, b = socket.socketpair()
    with a, b:
        loop.add_reader(a, print)
        loop.call_later(100, print)
        turn(loop)

        def child():
            new = loop_factory()
            result = new.run_until_complete(value(1))
            seen = []
            new.add_reader(a, seen.append, 1)
            b.send(b"x")
            turn(new)
            new.close()
            return result, seen

        assert in_child(child) == "(1, [1])"
        loop.remove_reader(a)


def test_new_loop_in_the_child_of_a_running_loop(loop, loop_factory):
    found = []

    def callback():
        found.append(in_child(child))

    def child():
        asyncio._set_running_loop(None)
        new = loop_factory()
        result = new.run_until_complete(value(7))
        new.close()
        return result

    loop.call_soon(callback)
    turn(loop)
    assert found == ["7"]


def test_asyncio_runner_in_the_child_of_a_running_loop(loop, loop_factory):
    found = []

    def child():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(value(8))

    loop.call_soon(lambda: found.append(in_child(child)))
    turn(loop)
    assert found == ["8"]


def test_closing_the_inherited_loop_leaves_the_parents_alone(loop):
    trace = Trace()
    a, b = socket.socketpair()
    with a, b:
        loop.add_reader(a, lambda: trace.append(a.recv(1)))
        turn(loop)

        def child():
            loop.close()
            return loop.is_closed()

        assert in_child(child) == "True"
        b.send(b"x")
        turn(loop)
        assert trace == [b"x"]
        loop.call_soon_threadsafe(trace.append, "threadsafe")
        loop.call_later(0.001, trace.note("timer", loop.stop))
        loop.run_forever()
        assert trace == [b"x", "threadsafe", "timer"]
        loop.remove_reader(a)


def test_collecting_the_inherited_loop_leaves_the_parents_alone(loop_factory):
    trace = Trace()
    a, b = socket.socketpair()
    box = [loop_factory()]
    with a, b:
        box[0].add_reader(a, lambda: trace.append(a.recv(1)))
        turn(box[0])

        def child():
            warnings.simplefilter("ignore")
            box.clear()
            gc.collect()
            return "alive"

        assert in_child(child) == "alive"
        b.send(b"x")
        turn(box[0])
        assert trace == [b"x"]
        box[0].remove_reader(a)
    box[0].close()


# a standard loop shares its epoll set with the child
@only_asynccore
def test_changes_in_the_child_are_not_seen_by_the_parent(loop):
    trace = Trace()
    a, b = socket.socketpair()
    with a, b:
        loop.add_reader(a, lambda: trace.append(a.recv(1)))
        turn(loop)

        def child():
            # whatever comes of it in the child, the parent still gets its events
            try:
                loop.remove_reader(a)
                loop.call_soon_threadsafe(print)
                loop.close()
            except (RuntimeError, OSError):
                pass
            return "alive"

        assert in_child(child) == "alive"
        b.send(b"x")
        turn(loop)
        assert trace == [b"x"]
        loop.remove_reader(a)


def test_wake_up_in_the_child_does_not_wake_the_parent(loop):
    def child():
        loop.call_soon_threadsafe(print, "never")
        return "called"

    assert in_child(child) == "called"
    looks = []

    def clock():
        looks.append(time.monotonic())
        return looks[-1]

    loop.time = clock
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    del loop.time
    assert 1 <= len(looks) < 20  # each turn looks at the clock


def test_transport_of_the_parent_survives_the_child(loop, run):
    received = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)
            done.set_result(None)

    a, b = socket.socketpair()
    done = loop.create_future()

    async def main():
        transport, _ = await loop.create_connection(Protocol, sock=a)
        asyncio._set_running_loop(None)
        text = in_child(child)
        asyncio._set_running_loop(loop)
        assert text in ("closed", "Cannot close a running event loop")
        b.send(b"data")
        await done
        transport.close()
        await asyncio.sleep(0)

    def child():
        try:
            loop.close()
        except RuntimeError as exc:
            return exc
        return "closed"

    with b:
        run(main())
    assert received == [b"data"]


def test_child_of_a_child(loop_factory):
    def grandchild():
        loop = loop_factory()
        result = loop.run_until_complete(value("grandchild"))
        loop.close()
        return result

    def child():
        loop = loop_factory()
        found = in_child(grandchild)
        result = loop.run_until_complete(value("child"))
        loop.close()
        return found, result

    assert in_child(child) == "('grandchild', 'child')"


def test_multiprocessing_fork(script):
    done = script("""
        import asyncio, multiprocessing
        def work(queue):
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                async def main():
                    await asyncio.sleep(0)
                    return "child"
                queue.put(runner.run(main()))
        if __name__ == "__main__":
            async def parent():
                process = context.Process(target=work, args=(queue,))
                process.start()
                await asyncio.get_running_loop().run_in_executor(None, process.join)
                return queue.get()
            import warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            context = multiprocessing.get_context("fork")
            queue = context.SimpleQueue()
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                print(runner.run(parent()))
            queue.close()
    """)
    assert done.stdout == "child\n"


def test_preloaded_loop_is_replaced_after_the_fork(script):
    # what gunicorn --preload does: a loop made before the fork, workers after it
    done = script("""
        import asyncio, gc, os, warnings
        warnings.simplefilter("ignore")
        preloaded = new_event_loop()
        asyncio.set_event_loop(preloaded)
        preloaded.run_until_complete(asyncio.sleep(0))
        pids = []
        for n in range(3):
            pid = os.fork()
            if pid == 0:
                preloaded = None
                loop = new_event_loop()
                asyncio.set_event_loop(loop)
                gc.collect()
                loop.run_until_complete(asyncio.sleep(0.001))
                loop.close()
                os._exit(n)
            pids.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        preloaded.run_until_complete(asyncio.sleep(0.001))
        asyncio.set_event_loop(None)
        preloaded.close()
        print(codes)
    """)
    assert done.stdout == "[0, 1, 2]\n"


class Accepting(asyncio.Protocol):
    """Of one connection."""

    transport = None

    def __init__(self):
        self.received = []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received.append(data)


@contextlib.contextmanager
def accepted(loop):
    """A connection that is read from: its protocol, and the client's socket."""
    loop.set_debug(False)  # else a task accepts, which a turn by hand cannot step
    made = []

    def factory():
        made.append(Accepting())
        return made[0]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1", 0))
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        while not made or not made[0].transport or not made[0].transport.is_reading():
            turn(loop)
        turn(loop)  # with the connection watched
        yield made[0], client
        made[0].transport.abort()
        server.close()
        loop.run_until_complete(server.wait_closed())


def turns_of_a_wait(loop):
    """The turns until a timer: a few, or thousands if the loop does not wait."""
    due = []
    turns = 0
    loop.call_later(0.2, due.append, 1)
    while not due:
        loop._run_once()
        turns += 1
    return turns


def receive(loop, protocol):
    """What comes, turn by turn."""
    guard = loop.call_later(30, loop.stop)
    while not protocol.received and loop.time() < guard.when():
        loop._run_once()
    guard.cancel()
    return protocol.received


@only_asynccore  # the standard loop's selector takes the parent's sockets out
@pytest.mark.parametrize("what", ["close", "run", "turn by hand"])
def test_pausing_a_transport_in_the_child(loop, what):
    with accepted(loop) as (protocol, client):

        def child():
            protocol.transport.pause_reading()
            if what == "close":
                loop.close()
            elif what == "run":
                loop.run_until_complete(asyncio.sleep(0.001))
            else:
                loop.call_later(0.001, int)
                loop._run_once()

        assert in_child(child) == "None"
        client.send(b"to the parent")
        assert receive(loop, protocol) == [b"to the parent"]


@only_asynccore  # the standard loop's selector is the parent's
def test_transport_that_is_paused_when_the_loop_is_forked(loop):
    with accepted(loop) as (protocol, client):
        protocol.transport.pause_reading()
        turn(loop)
        client.send(b"to the child")

        def child():
            turns = turns_of_a_wait(loop)
            before = list(protocol.received)
            protocol.transport.resume_reading()
            return turns < 100, before, receive(loop, protocol)

        assert in_child(child) == "(True, [], [b'to the child'])"
        turn(loop)
        assert protocol.received == []
        client.send(b"to the parent")
        protocol.transport.resume_reading()
        assert receive(loop, protocol) == [b"to the parent"]


@only_asynccore  # the standard loop's self-pipe is shared: either process may read it
def test_signal_of_the_child_is_no_signal_of_the_parent(loop):
    trace = Trace()

    def arrived():
        trace.append("signal")
        loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, arrived)
    turn(loop)

    def child():
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.call_later(10, loop.stop)
        loop.run_forever()
        return trace

    assert in_child(child) == "['signal']"
    turn(loop, 3)
    assert trace == []
    loop.remove_signal_handler(signal.SIGUSR1)


def test_child_that_holds_a_closed_socket_open(loop):
    """What the kernel goes on reporting of it does not keep the parent's loop awake."""
    a, b = socket.socketpair()
    a.setblocking(False)
    r, w = os.pipe()
    with a, b:
        loop.call_soon(loop.call_soon, b.send, b"1")
        assert loop.run_until_complete(loop.sock_recv(a, 10)) == b"1"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(w)
            os.read(r, 1)  # until the parent is done
            os._exit(0)
        os.close(r)
        a.close()
        b.send(b"2")
        turns = turns_of_a_wait(loop)
        os.close(w)
        os.waitpid(pid, 0)
    assert turns < 100  # thousands, if it does not wait


@pytest.mark.parametrize("end", ["run", "close"])
def test_loop_that_is_first_used_in_the_child(loop, end):
    """Its parent has nothing that it could share."""

    def child():
        asyncio._set_running_loop(None)
        seen = []
        before = set(os.listdir("/dev/fd"))
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        if end == "run":
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.remove_signal_handler(signal.SIGUSR1)
        loop.close()
        return seen, len(set(os.listdir("/dev/fd")) - before)

    assert in_child(child) == str(([1] if end == "run" else [], 0))
