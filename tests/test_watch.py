"""add_reader, add_writer and their removal; what becomes of closed and reused fds."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import fcntl
import gc
import itertools
import os
import pty
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc
import weakref

import pytest

from support import only_asynccore
from support.turns import Trace, turn


@pytest.fixture
def trace():
    return Trace()


@pytest.fixture
def pair():
    """Two connected sockets, closed at the end."""
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def unused_fd():
    """A number that stands for no open file."""
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    return r


# -- return values, arguments


def test_return_values(loop, pair):
    a, _ = pair
    assert loop.remove_reader(a) is False
    assert loop.remove_writer(a) is False
    assert loop.add_reader(a, print) is None
    assert loop.add_writer(a, print) is None
    assert loop.remove_reader(a) is True
    assert loop.remove_reader(a) is False
    assert loop.remove_writer(a) is True
    assert loop.remove_writer(a) is False


def test_socket_number_and_object_with_fileno_are_the_same(loop, pair, trace):
    class File:
        def fileno(self):
            return pair[0].fileno()

    a, b = pair
    b.send(b"x")
    loop.add_reader(File(), trace.append, 1)
    loop.add_reader(a.fileno(), trace.append, 2)
    turn(loop)
    assert trace == [2]
    assert loop.remove_reader(a) is True
    assert loop.remove_reader(File()) is False


def test_arguments_and_context(loop, pair, trace):
    var = contextvars.ContextVar("var", default="outside")
    a, b = pair
    b.send(b"x")

    def callback(*args):
        trace.append((args, var.get()))
        var.set("inside")

    def add():
        var.set("added")
        loop.add_reader(a, callback, 1, 2, 3)

    contextvars.copy_context().run(add)
    turn(loop, 2)
    assert trace == [((1, 2, 3), "added"), ((1, 2, 3), "inside")]
    assert var.get() == "outside"
    loop.remove_reader(a)


def test_reader_repeats_until_the_data_is_read(loop, pair, trace):
    a, b = pair
    b.send(b"x")
    loop.add_reader(a, trace.append, 1)
    turn(loop, 3)
    assert trace == [1, 1, 1]
    a.recv(1)
    turn(loop)
    assert trace == [1, 1, 1]
    loop.remove_reader(a)


def test_reader_and_writer_of_one_fd(loop, pair, trace):
    a, b = pair
    loop.add_writer(a, trace.append, "writer")
    loop.add_reader(a, trace.append, "reader")
    turn(loop)
    assert trace == ["writer"]
    b.send(b"x")
    turn(loop)
    assert trace == ["writer", "reader", "writer"]
    loop.remove_writer(a)
    turn(loop)
    assert trace == ["writer", "reader", "writer", "reader"]
    loop.remove_reader(a)
    turn(loop)
    assert len(trace) == 4


def test_writer_waits_for_room(loop, pair, trace):
    a, b = pair
    a.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            a.send(bytes(65536))
    loop.add_writer(a, trace.append, "writer")
    turn(loop)
    assert trace == []
    b.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            b.recv(1 << 20)
    turn(loop)
    assert trace == ["writer"]
    loop.remove_writer(a)


def test_replacement(loop, pair, trace):
    a, b = pair
    b.send(b"x")
    loop.add_reader(a, trace.append, "first")
    loop.add_reader(a, trace.append, "second")
    turn(loop)
    assert trace == ["second"]
    assert loop.remove_reader(a) is True
    assert loop.remove_reader(a) is False


def test_replacement_in_the_batch_cancels_the_event(loop, pair, trace):
    a, b = pair
    b.send(b"x")
    loop.add_reader(a, trace.append, "first")
    loop.call_soon(lambda: loop.add_reader(a, trace.append, "second"))
    turn(loop)
    assert trace == []
    turn(loop)
    assert trace == ["second"]
    loop.remove_reader(a)


def test_replaced_callback_is_released(loop, pair):
    class Thing:
        pass

    a, _ = pair
    things = [Thing(), Thing()]
    gone = [weakref.ref(thing) for thing in things]
    loop.add_reader(a, print, things[0])
    loop.add_reader(a, print, things[1])
    del things
    gc.collect()
    assert gone[0]() is None
    assert gone[1]() is not None
    loop.remove_reader(a)
    gc.collect()
    assert gone[1]() is None


def test_exception_leaves_the_reader(loop, pair, trace):
    a, b = pair
    b.send(b"x")
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))
    loop.add_reader(a, trace.note(1, lambda: 1 / 0))
    turn(loop, 2)
    assert trace == [1, 1]
    assert [type(context["exception"]) for context in caught] == [ZeroDivisionError] * 2
    loop.remove_reader(a)


WRONG = {
    "None": None,
    "text": "x",
    "float": 1.5,
    "object": object(),
    "negative": -1,
    "huge": 2**31,
    "huger": 2**100,
    "list": [],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "method", ["add_reader", "remove_reader", "add_writer", "remove_writer"]
)
def test_wrong_fds(both_factories, method, wrong):
    args = (print,) if method.startswith("add") else ()

    def found(factory):
        loop = factory()
        try:
            return getattr(loop, method)(WRONG[wrong], *args)
        except Exception as exc:
            return type(exc), str(exc)
        finally:
            loop.close()

    standard, ours = map(found, both_factories)
    assert ours == standard


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_fileno_that_raises(loop, method):
    class File:
        def fileno(self):
            raise LookupError("expected")

    with pytest.raises((LookupError, ValueError)):
        getattr(loop, method)(File(), print)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_unused_number(loop, method):
    fd = unused_fd()
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        getattr(loop, method)(fd, print)
    assert caught.value.errno == errno.EBADF
    remove = "remove_" + method.removeprefix("add_")
    assert getattr(loop, remove)(fd) is False


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_number_beyond_all_descriptors_takes_no_memory(loop, pair, method):
    loop.add_reader(pair[0], print)
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            getattr(loop, method)(1 << 22, print)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert loop.remove_reader(pair[0])


@pytest.mark.skipif(sys.platform != "linux", reason="epoll refuses what kqueue takes")
@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_regular_file(loop, tmp_path, method):
    with open(tmp_path / "file", "w+") as file, pytest.raises(PermissionError):
        getattr(loop, method)(file, print)
    turn(loop)


@pytest.mark.skipif(sys.platform != "linux", reason="epoll refuses what kqueue takes")
def test_regular_file_over_and_over(loop, tmp_path, pair, trace):
    # a refused file leaves nothing behind that a later fd of that number could see
    a, b = pair
    with open(tmp_path / "file", "w+") as file:
        number = file.fileno()
        for _ in range(3):
            with pytest.raises(PermissionError):
                loop.add_reader(file, print)
            assert loop.remove_reader(file) is False
    os.dup2(a.fileno(), number)
    b.send(b"x")
    loop.add_reader(number, trace.append, 1)
    turn(loop)
    assert trace == [1]
    assert loop.remove_reader(number)
    os.close(number)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_wrong_calls(loop, pair, method):
    call = getattr(loop, method)
    with pytest.raises(TypeError):
        call()
    with pytest.raises(TypeError):
        call(pair[0])
    with pytest.raises(TypeError):
        call(pair[0], print, key=1)


# -- kinds of files


def test_pipe(loop, trace):
    r, w = os.pipe()
    loop.add_reader(r, lambda: trace.append(os.read(r, 10)))
    loop.add_writer(w, trace.note("writable", lambda: loop.remove_writer(w)))
    turn(loop)
    assert trace == ["writable"]
    os.write(w, b"data")
    turn(loop)
    assert trace == ["writable", b"data"]
    loop.remove_reader(r)
    os.close(r)
    os.close(w)


def test_hang_up_wakes_the_reader(loop, pair, trace):
    a, b = pair
    loop.add_reader(a, lambda: trace.append(a.recv(1)))
    b.close()
    turn(loop)
    assert trace == [b""]
    loop.remove_reader(a)


def test_hang_up_of_a_pipe_wakes_the_writer(loop, trace):
    r, w = os.pipe()
    os.set_blocking(w, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(w, bytes(65536))
    loop.add_writer(w, trace.append, "woken")
    turn(loop)
    assert trace == []
    os.close(r)
    turn(loop)
    assert trace == ["woken"]
    loop.remove_writer(w)
    os.close(w)


def test_error_wakes_reader_and_writer(loop, trace):
    # a connection that is refused
    with socket.socket() as refused:
        refused.bind(("127.0.0.1", 0))
        address = refused.getsockname()
    with socket.socket() as sock:
        sock.setblocking(False)
        error = sock.connect_ex(address)
        assert error in (errno.EINPROGRESS, errno.ECONNREFUSED)
        loop.add_reader(sock, trace.append, "reader")
        loop.add_writer(sock, trace.append, "writer")
        while len(trace) < 2:
            turn(loop)
        assert set(trace) == {"reader", "writer"}
        loop.remove_reader(sock)
        loop.remove_writer(sock)


def test_reset_wakes_only_who_is_there(loop, trace):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.socket() as sock:
            sock.connect(server.getsockname())
            peer, _ = server.accept()
            loop.add_writer(sock, trace.append, "writer")
            linger = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            peer.close()
            turn(loop)
            assert trace == ["writer"]
            loop.remove_writer(sock)
            turn(loop)
            assert trace == ["writer"]


def test_flags_stay(loop):
    a, b = socket.socketpair()
    r, w = os.pipe()
    with a, b:
        for fd in (a.fileno(), r, w):
            before = fcntl.fcntl(fd, fcntl.F_GETFL)
            assert not before & os.O_NONBLOCK
            loop.add_reader(fd, int)
            turn(loop)
            assert fcntl.fcntl(fd, fcntl.F_GETFL) == before
            loop.remove_reader(fd)
            loop.add_writer(fd, int)
            turn(loop)
            loop.remove_writer(fd)
            assert fcntl.fcntl(fd, fcntl.F_GETFL) == before
            assert not os.get_inheritable(fd)
    os.close(r)
    os.close(w)


def test_terminal(loop, trace):
    master, slave = pty.openpty()
    before = fcntl.fcntl(slave, fcntl.F_GETFL)
    loop.add_reader(master, lambda: (trace.append(os.read(master, 100)), loop.stop()))
    os.write(slave, b"line")
    loop.run_forever()
    assert trace == [b"line"]
    loop.remove_reader(master)
    assert fcntl.fcntl(slave, fcntl.F_GETFL) == before
    os.close(master)
    os.close(slave)


def test_listening_socket(loop, trace):
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        loop.add_reader(server, trace.append, "accept")
        turn(loop)
        assert trace == []
        client.connect(server.getsockname())
        turn(loop)
        assert trace == ["accept"]
        loop.remove_reader(server)


def test_datagram_socket(loop, trace):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        loop.add_reader(sock, lambda: trace.append(sock.recv(10)))
        sock.sendto(b"one", sock.getsockname())
        turn(loop)
        assert trace == [b"one"]
        loop.remove_reader(sock)


@pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux's")
def test_epoll_inside_the_loop(loop, pair, trace):
    a, b = pair
    with select.epoll() as inner:
        inner.register(a, select.EPOLLIN)
        loop.add_reader(inner, trace.append, 1)
        turn(loop)
        assert trace == []
        b.send(b"x")
        turn(loop)
        assert trace == [1]
        loop.remove_reader(inner)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd here")
def test_pidfd(loop, trace):
    child = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(3)"])
    fd = os.pidfd_open(child.pid)
    loop.add_reader(fd, trace.note("ended", loop.stop))
    loop.run_forever()
    loop.remove_reader(fd)
    os.close(fd)
    assert child.wait() == 3
    assert trace == ["ended"]


def test_loop_inside_a_loop(loop_factory, trace):
    # a socket pair of two loops in one thread, run in turn
    first, second = loop_factory(), loop_factory()
    a, b = socket.socketpair()
    with a, b:
        first.add_reader(a, lambda: trace.append(("first", a.recv(1))))
        second.add_reader(b, lambda: trace.append(("second", b.recv(1))))
        second.add_writer(b, lambda: (b.send(b"2"), second.remove_writer(b)))
        first.add_writer(a, lambda: (a.send(b"1"), first.remove_writer(a)))
        turn(first)
        turn(second)
        turn(first)
        assert trace == [("second", b"1"), ("first", b"2")]
        first.remove_reader(a)
        second.remove_reader(b)
    first.close()
    second.close()


def test_same_fd_in_two_loops(loop_factory, pair, trace):
    a, b = pair
    b.send(b"x")
    loops = [loop_factory(), loop_factory()]
    for n, loop in enumerate(loops):
        loop.add_reader(a, trace.append, n)
    for loop in loops:
        turn(loop)
    assert trace == [0, 1]
    for loop in loops:
        loop.close()


# -- callbacks that change what is watched


def test_reader_that_removes_itself(loop, pair, trace):
    a, b = pair
    b.send(b"x")
    loop.add_reader(a, trace.note(1, lambda: loop.remove_reader(a)))
    turn(loop, 3)
    assert trace == [1]


def test_reader_that_removes_the_writer_of_its_fd(loop, pair, trace):
    a, b = pair
    b.send(b"x")
    loop.add_reader(a, trace.note("reader", lambda: loop.remove_writer(a)))
    loop.add_writer(a, trace.append, "writer")
    turn(loop)
    assert trace == ["reader"]
    loop.remove_reader(a)


def test_readers_that_remove_each_other(loop, trace):
    pairs = [socket.socketpair() for _ in range(4)]

    def readable(n):
        trace.append(n)
        for a, _ in pairs:
            loop.remove_reader(a)

    for n, (a, b) in enumerate(pairs):
        b.send(b"x")
        loop.add_reader(a, readable, n)
    turn(loop, 3)
    assert len(trace) == 1
    for sock in itertools.chain(*pairs):
        sock.close()


def test_readers_that_close_each_other(loop, trace):
    pairs = [socket.socketpair() for _ in range(4)]

    def readable(n):
        trace.append(n)
        for a, b in pairs:
            loop.remove_reader(a)
            a.close()
            b.close()

    for n, (a, b) in enumerate(pairs):
        b.send(b"x")
        loop.add_reader(a, readable, n)
    turn(loop, 3)
    assert len(trace) == 1


def test_reader_that_puts_another_fd_under_a_number_of_its_batch(loop, trace):
    # the event of the old file must not call the reader of the new one
    pairs = [socket.socketpair() for _ in range(2)]
    fresh, fresh_peer = socket.socketpair()
    numbers = [a.fileno() for a, _ in pairs]

    def readable(n):
        trace.append(n)
        other = numbers[1 - n]
        loop.remove_reader(other)
        os.dup2(fresh.fileno(), other)
        loop.add_reader(other, trace.append, "fresh")
        loop.remove_reader(numbers[n])

    for n, (_, b) in enumerate(pairs):
        b.send(b"x")
        loop.add_reader(numbers[n], readable, n)
    turn(loop, 2)
    assert len(trace) == 1
    fresh_peer.send(b"x")
    turn(loop)
    assert trace[1:] == ["fresh"]
    loop.remove_reader(numbers[1 - trace[0]])
    for sock in (*itertools.chain(*pairs), fresh, fresh_peer):
        sock.close()


def test_reader_that_adds_a_ready_reader(loop, trace):
    (a, b), (c, d) = socket.socketpair(), socket.socketpair()
    with a, b, c, d:
        b.send(b"x")
        d.send(b"x")

        def readable():
            trace.append("first")
            loop.remove_reader(a)
            loop.add_reader(c, trace.append, "second")

        loop.add_reader(a, readable)
        turn(loop)
        assert trace == ["first"]
        turn(loop)
        assert trace == ["first", "second"]
        loop.remove_reader(c)


def test_removed_and_added_again_in_a_callback(loop, pair, trace):
    a, b = pair
    b.send(b"x")

    def readable():
        trace.append("old")
        loop.remove_reader(a)
        loop.add_reader(a, trace.append, "new")

    loop.add_reader(a, readable)
    turn(loop)
    assert trace == ["old"]
    turn(loop)
    assert trace == ["old", "new"]
    loop.remove_reader(a)


def test_reader_that_stops_the_loop(loop, pair, trace):
    a, b = pair
    b.send(b"x")
    loop.add_reader(a, trace.note(1, loop.stop))
    loop.run_forever()
    assert trace == [1]
    loop.remove_reader(a)


def test_added_while_the_loop_waits(loop, pair, trace):
    a, b = pair
    b.send(b"x")

    def add():
        loop.call_soon_threadsafe(
            lambda: loop.add_reader(a, trace.note("reader", loop.stop))
        )

    thread = threading.Thread(target=add)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert trace == ["reader"]
    loop.remove_reader(a)


def test_added_between_runs(loop, pair, trace):
    a, b = pair
    turn(loop)
    loop.add_reader(a, trace.note("reader", loop.stop))
    b.send(b"x")
    loop.run_forever()
    assert trace == ["reader"]
    loop.remove_reader(a)


def test_close_with_readers(loop_factory, pair, trace):
    a, b = pair
    loop = loop_factory()
    b.send(b"x")
    loop.add_reader(a, trace.append, 1)
    loop.add_writer(a, trace.append, 2)
    loop.close()
    assert trace == []
    assert a.recv(1) == b"x"
    assert loop.remove_reader(a) is False


def test_remove_after_close_of_the_loop(loop_factory, pair):
    loop = loop_factory()
    loop.close()
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0]) is False


# -- closed and reused numbers


@pytest.mark.parametrize("lower", range(8))
@pytest.mark.parametrize("name", ["add_reader", "add_writer"])
def test_closed_number_as_the_first_of_a_loop(loop, name, lower):
    """It is none of the numbers that the loop takes for itself."""
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(lower + 1)]
    for fd in fds:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        getattr(loop, name)(fds[-1], print)


def test_closed_without_removal(loop, trace):
    a, b = socket.socketpair()
    number = a.fileno()
    b.send(b"x")
    loop.add_reader(a, trace.append, 1)
    turn(loop)
    assert trace == [1]
    a.close()
    turn(loop, 3)
    assert trace == [1]
    assert loop.remove_reader(number) is True
    assert loop.remove_reader(number) is False
    turn(loop)
    b.close()


def test_closed_before_the_first_poll(loop, trace):
    a, b = socket.socketpair()
    number = a.fileno()
    loop.add_reader(a, trace.append, 1)
    a.close()
    turn(loop, 2)
    assert trace == []
    assert loop.remove_reader(number) is True
    b.close()


# the standard loop raises from the removal that leaves the other one
@only_asynccore
def test_closed_with_reader_and_writer(loop, trace):
    a, b = socket.socketpair()
    number = a.fileno()
    loop.add_reader(a, trace.append, "reader")
    loop.add_writer(a, trace.append, "writer")
    a.close()
    turn(loop, 2)
    assert trace == []
    assert loop.remove_writer(number) is True
    turn(loop)
    assert loop.remove_reader(number) is True
    turn(loop)
    assert trace == []
    b.close()


@pytest.fixture
def closed(loop):
    """Sockets that were closed with a reader and a writer, and their former numbers.

    What a loop opens late may get one of these.
    """
    pairs = [socket.socketpair() for _ in range(20)]
    socks = [a for a, _ in pairs]
    for a, b in pairs:
        loop.add_reader(a, print)
        loop.add_writer(a, int)
        b.send(b"x")
        a.recv(1)
    turn(loop, 2)
    numbers = [a.fileno() for a in socks]
    for a, b in pairs:
        a.close()
        b.close()
    yield socks, numbers
    forget(loop, socks)


def forget(loop, socks):
    for sock in socks:
        for remove in (loop.remove_reader, loop.remove_writer):
            with contextlib.suppress(OSError, ValueError):
                remove(sock)


def misuse(loop, numbers):
    for number in numbers:
        with contextlib.suppress(OSError, RuntimeError):  # closed, or a transport's
            loop.add_writer(number, print)
            loop.remove_writer(number)


def test_timer_survives_a_closed_number(loop, closed):
    socks, numbers = closed
    for disturb in (int, lambda: forget(loop, socks), lambda: misuse(loop, numbers)):
        disturb()
        guard = threading.Timer(10, loop.call_soon_threadsafe, (loop.stop,))
        guard.start()
        loop.run_until_complete(asyncio.sleep(0.001))
        guard.cancel()
        guard.join()


def test_signals_survive_a_closed_number(loop, closed):
    """While a connection is open, which libuv watches."""
    socks, numbers = closed
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connecting = loop.create_connection(asyncio.Protocol, *listening.getsockname())
        transport, _ = loop.run_until_complete(connecting)
        loop.run_until_complete(asyncio.sleep(0.001))
        forget(loop, socks)
        misuse(loop, numbers)
        killer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        killer.start()
        guard = loop.call_later(20, loop.stop)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        guard.cancel()
        killer.join()
        transport.abort()
        turn(loop, 3)


def test_peer_of_a_closed_number(loop, trace):
    a, b = socket.socketpair()
    loop.add_reader(a, trace.append, 1)
    number = a.fileno()
    b.close()
    a.close()
    turn(loop, 2)
    assert trace == []
    loop.remove_reader(number)


# What a program does that removes before the number is used again.
FAIR_ORDERS = [
    ("close", "remove", "reuse", "add"),
    ("remove", "close", "reuse", "add"),
    ("close", "poll", "remove", "reuse", "add"),
    ("poll", "remove", "close", "reuse", "add"),
]
# Here the standard loop raises FileNotFoundError, or never calls the new reader.
OTHER_ORDERS = [
    ("close", "reuse", "remove", "add"),
    ("close", "reuse", "add"),
    ("close", "poll", "reuse", "remove", "add"),
    ("poll", "close", "reuse", "add"),
    ("poll", "close", "reuse", "poll", "add"),
    ("poll", "close", "reuse", "poll", "remove", "add"),
    ("poll", "close", "poll", "reuse", "add"),
]


def reuse_number(loop, trace, order, ready):
    turn(loop)  # from here on the loop opens nothing that could take the number
    old, old_peer = socket.socketpair()
    new, new_peer = socket.socketpair()
    number = old.fileno()
    with old, old_peer, new, new_peer:
        if ready:
            old_peer.send(b"x")
        loop.add_reader(old, trace.append, "old")
        for step in order:
            if step == "close":
                old.close()
            elif step == "remove":
                loop.remove_reader(number)
            elif step == "poll":
                turn(loop)
            elif step == "reuse":
                assert os.dup(new.fileno()) == number  # the lowest that is free
            else:
                loop.add_reader(number, trace.append, "new")
        before = len(trace)
        turn(loop, 2)
        assert trace[before:] == []
        new_peer.send(b"x")
        turn(loop)
        assert trace[before:] == ["new"]
        assert loop.remove_reader(number) is True
        os.close(number)
        turn(loop)
        assert trace[before:] == ["new"]


@pytest.mark.parametrize("order", FAIR_ORDERS, ids="-".join)
@pytest.mark.parametrize("ready", [False, True], ids=["idle", "ready"])
def test_reused_number(loop, trace, order, ready):
    reuse_number(loop, trace, order, ready)


@only_asynccore
@pytest.mark.parametrize("order", OTHER_ORDERS, ids="-".join)
@pytest.mark.parametrize("ready", [False, True], ids=["idle", "ready"])
def test_reused_number_in_other_orders(loop, trace, order, ready):
    reuse_number(loop, trace, order, ready)


def test_dup_keeps_the_file_open(loop, trace):
    # closed under its number, the file lives on in a duplicate: the kernel still
    # reports it, and nobody may be called who is not watching it any more
    a, b = socket.socketpair()
    number = a.fileno()
    twin = os.dup(number)
    loop.add_reader(a, trace.append, "old")
    loop.remove_reader(a)
    a.close()
    b.send(b"x")
    turn(loop, 2)
    assert trace == []
    loop.add_reader(twin, trace.append, "twin")
    turn(loop)
    assert trace == ["twin"]
    loop.remove_reader(twin)
    os.close(twin)
    b.close()
    assert number != twin


def test_dup_keeps_the_file_open_and_there_is_no_descriptor(loop, pair, trace):
    # what keeps being reported cannot be got rid of then: the loop goes on all the same
    a, b = pair
    old, peer = socket.socketpair()
    twin = os.dup(old.fileno())
    number = old.fileno()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with peer:
        loop.add_reader(old, trace.append, "old")
        loop.add_reader(a, lambda: trace.append(a.recv(10)))
        turn(loop)
        old.close()
        assert loop.remove_reader(number)
        peer.send(b"x")
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            turn(loop, 3)
            b.send(b"one")
            turn(loop, 3)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        b.send(b"two")
        turn(loop, 3)
        assert trace == [b"one", b"two"]
        loop.remove_reader(a)
    os.close(twin)


def test_both_duplicates_are_watched(loop, pair, trace):
    a, b = pair
    twin = os.dup(a.fileno())
    loop.add_reader(a, trace.append, "one")
    loop.add_reader(twin, trace.append, "two")
    b.send(b"x")
    turn(loop)
    assert sorted(trace) == ["one", "two"]
    loop.remove_reader(a)
    turn(loop)
    assert sorted(trace) == ["one", "two", "two"]
    loop.remove_reader(twin)
    os.close(twin)


def test_numbers_reused_over_and_over(loop, trace):
    for n in range(200):
        a, b = socket.socketpair()
        loop.add_reader(a, trace.append, n)
        if n % 3 == 0:
            b.send(b"x")
        if n % 2:
            turn(loop)
        if n % 5:
            loop.remove_reader(a)
            a.close()
        else:
            a.close()
            loop.remove_reader(b.fileno() - 1)
            turn(loop)
        b.close()
    assert set(trace) <= set(range(200))
    assert trace == sorted(trace)


# -- transports


def test_fd_of_a_transport(loop, run, pair):
    a, _ = pair
    a.setblocking(False)

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
        number = a.fileno()
        for file in (number, a):
            text = f"File descriptor {file!r} is used by transport {transport!r}"
            for call in (
                lambda file=file: loop.add_reader(file, print),
                lambda file=file: loop.add_writer(file, print),
                lambda file=file: loop.remove_reader(file),
                lambda file=file: loop.remove_writer(file),
            ):
                with pytest.raises(RuntimeError) as caught:
                    call()
                assert str(caught.value) == text
        transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert a.fileno() == -1
        return number

    number = run(main())
    c, d = socket.socketpair()
    with c, d:
        assert number in (c.fileno(), d.fileno())
        loop.add_reader(number, print)
        assert loop.remove_reader(number) is True


# -- scale


def test_two_thousand_fds(loop, trace):
    count = 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    pairs = []
    try:
        pairs += [socket.socketpair() for _ in range(count)]
        for n, (a, b) in enumerate(pairs):
            loop.add_reader(a, trace.append, n)
            loop.add_reader(b, trace.append, -1)
        turn(loop)
        assert trace == []
        for _, b in pairs[::2]:
            b.send(b"x")
        turn(loop)
        assert sorted(trace) == list(range(0, count, 2))
        for a, b in pairs:
            assert loop.remove_reader(a)
            assert loop.remove_reader(b)
    finally:
        for sock in itertools.chain(*pairs):
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_high_number(loop, pair, trace):
    a, b = pair
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        number = fcntl.fcntl(a, fcntl.F_DUPFD, 4000)
        b.send(b"x")
        loop.add_reader(number, trace.append, 1)
        turn(loop)
        assert trace == [1]
        assert loop.remove_reader(number)
        os.close(number)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_churn(loop, pair):
    a, b = pair
    b.send(b"x")
    seen = []
    for n in range(3000):
        loop.add_reader(a, seen.append, n)
        loop.add_writer(a, int)
        loop.remove_writer(a)
        if n % 100 == 0:
            turn(loop)
        loop.remove_reader(a)
    assert seen == list(range(0, 3000, 100))
    turn(loop)
    assert len(seen) == 30


def test_fairness_of_many_ready_fds(loop):
    # all that are ready are called in each turn, none twice
    pairs = [socket.socketpair() for _ in range(100)]
    seen = [0] * 100

    def readable(n):
        seen[n] += 1

    for n, (a, b) in enumerate(pairs):
        b.send(b"x")
        loop.add_reader(a, readable, n)
    turn(loop, 5)
    assert seen == [5] * 100
    for a, b in pairs:
        loop.remove_reader(a)
        a.close()
        b.close()


def test_number_zero(script):
    done = script("""
        import os, socket
        a, b = socket.socketpair()
        os.dup2(a.fileno(), 0)
        loop = new_event_loop()
        loop.add_reader(0, lambda: (print(a.recv(1)), loop.stop()))
        b.send(b"x")
        loop.run_forever()
        print(loop.remove_reader(0))
        loop.close()
        os.fstat(0)
        a.close(); b.close()
    """)
    assert done.stdout == "b'x'\nTrue\n"


def test_loop_made_with_descriptors_0_to_2_closed(script):
    script("""
        import os, socket
        a, b = socket.socketpair()
        log = os.dup(2)
        for fd in (0, 1, 2):
            os.close(fd)
        loop = new_event_loop()
        seen = []
        loop.add_reader(a, lambda: (seen.append(a.recv(1)), loop.stop()))
        b.send(b"x")
        loop.run_forever()
        loop.close()
        a.close(); b.close()
        os.dup2(log, 2)
        assert seen == [b"x"], seen
    """)


def test_mode_of_the_files_that_a_loop_opens(loop):
    # everything that a loop opens is closed on exec
    before = set(os.listdir("/dev/fd"))
    other = type(loop)()
    for name in set(os.listdir("/dev/fd")) - before:
        try:
            info = os.fstat(int(name))
        except OSError:
            continue
        assert not os.get_inheritable(int(name)), stat.S_IFMT(info.st_mode)
    other.close()
    assert len(set(os.listdir("/dev/fd"))) == len(before)
