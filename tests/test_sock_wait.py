"""sock_recv and its siblings while they wait: cancellation, replacement, numbers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
import time

import pytest

from support import only_asynccore, settle
from support.sockets import listener, pair, socketpair, udp

__all__ = ["listener", "pair"]  # fixtures


# -- cancellation


def test_cancelled_recv_loses_nothing(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        b.send(b"data")
        assert await loop.sock_recv(a, 100) == b"data"
        assert loop.remove_reader(a) is False

    run(main())


def test_cancelled_recv_watches_no_more(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        b.send(b"data")
        await settle()
        assert a.recv(100) == b"data"

    run(main())


def test_cancelled_in_the_turn_of_the_data(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        b.send(b"data")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await loop.sock_recv(a, 100) == b"data"

    run(main())


@pytest.fixture
def deaf_address():
    """A listening address whose queue is full, so that a connection takes long."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()


@pytest.mark.parametrize("operation", ["sendall", "accept", "connect", "recv_into"])
def test_cancelled_operations(loop, run, pair, listener, deaf_address, operation):
    a, _ = pair

    async def main():
        client = socket.socket()
        client.setblocking(False)
        with client:
            coro = {
                "sendall": lambda: loop.sock_sendall(a, bytes(1 << 24)),
                "accept": lambda: loop.sock_accept(listener),
                "connect": lambda: loop.sock_connect(client, deaf_address),
                "recv_into": lambda: loop.sock_recv_into(a, bytearray(10)),
            }[operation]()
            task = asyncio.ensure_future(coro)
            await settle()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for sock in (a, listener, client):
                assert loop.remove_reader(sock) is False
                assert loop.remove_writer(sock) is False

    run(main())


@only_asynccore  # the standard loses the connection before gh-153761
def test_cancelled_in_the_turn_of_the_connection(loop, run, listener):
    async def main():
        task = asyncio.ensure_future(loop.sock_accept(listener))
        await asyncio.sleep(0)
        with socket.socket() as client:
            client.connect(listener.getsockname())
            loop.call_soon(task.cancel)  # before the event, which is there already
            with pytest.raises(asyncio.CancelledError):
                await task
            peer, address = await loop.sock_accept(listener)
            assert address == client.getsockname()
            peer.close()

    run(main())


def test_cancelled_sendall_has_sent_a_part(loop, run, pair):
    a, b = pair
    data = os.urandom(1 << 22)

    async def main():
        task = asyncio.ensure_future(loop.sock_sendall(a, data))
        await asyncio.sleep(0)
        got = await loop.sock_recv(b, 1 << 20)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with contextlib.suppress(BlockingIOError):
            while True:
                got += b.recv(1 << 20)
        assert 0 < len(got) < len(data)
        assert data.startswith(got)

    run(main())


def test_data_of_a_waiting_sendall_cannot_shrink(loop, run, pair):
    a, b = pair
    data = bytearray(1 << 22)

    async def main():
        task = asyncio.ensure_future(loop.sock_sendall(a, data))
        await asyncio.sleep(0)
        with pytest.raises(BufferError):
            data.clear()
        size = 0
        while size < len(data):
            size += len(await loop.sock_recv(b, 1 << 20))
        await task
        data.clear()

    run(main())


def test_time_out(loop, run, pair):
    a, b = pair

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(a, 100), 0.001)
        b.send(b"data")
        assert await loop.sock_recv(a, 100) == b"data"

    run(main())


def test_socket_closed_while_waiting(loop, run, pair):
    a, b = pair
    number = a.fileno()

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        loop.remove_reader(number)
        a.close()
        await settle()
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        b.close()

    run(main())


def test_socket_of_a_transport(loop, run, pair):
    a, _ = pair

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(a, print)
        with pytest.raises(BlockingIOError):
            a.recv(1)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(a, 1)
        transport.close()
        await asyncio.sleep(0)

    run(main())


def test_replaces_no_reader_of_the_user(loop, run, pair):
    # as on the standard loop, the last who watches wins
    a, b = pair
    seen = []

    async def main():
        loop.add_reader(a, seen.append, "user")
        task = asyncio.ensure_future(loop.sock_recv(a, 10))
        await asyncio.sleep(0)
        b.send(b"data")
        assert await task == b"data"
        b.send(b"x")
        await settle()

    run(main())
    assert seen == []
    assert loop.remove_reader(a) is False


# -- who else waits for the number


def test_second_wait_replaces_the_first(loop, run, pair):
    a, b = pair

    async def main():
        first = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(loop.sock_recv_into(a, bytearray(100)))
        await asyncio.sleep(0)
        b.send(b"data")
        assert await second == 4
        b.send(b"more")
        await settle()
        assert not first.done()
        third = asyncio.ensure_future(loop.sock_recv(a, 100))
        assert await third == b"more"
        fourth = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        first.cancel()  # it has no place to give back
        await asyncio.wait([first])
        b.send(b"last")
        assert await fourth == b"last"

    run(main())


def test_readers_and_writers_do_not_replace_each_other(loop, run, pair):
    a, b = pair

    async def main():
        writing = asyncio.ensure_future(loop.sock_sendall(a, bytes(1 << 22)))
        reading = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        b.send(b"data")
        assert await reading == b"data"
        assert not writing.done()
        size = 0
        while size < 1 << 22:
            size += len(await loop.sock_recv(b, 1 << 20))
        await writing
        assert loop.remove_writer(a) is False

    run(main())


def test_reader_of_the_user_replaces_a_wait(loop, run, pair):
    a, b = pair
    seen = []

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)

        def read():
            seen.append(a.recv(100))

        loop.add_reader(a, read)
        b.send(b"data")
        await settle()
        assert seen == [b"data"]
        task.cancel()
        await asyncio.wait([task])
        b.send(b"more")
        await settle()
        assert seen == [b"data", b"more"]
        assert loop.remove_reader(a) is True

    run(main())


def test_wait_that_is_taken_out(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        assert loop.remove_reader(a) is True
        assert loop.remove_reader(a) is False
        b.send(b"data")
        await settle()
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert a.recv(100) == b"data"

    run(main())


@only_asynccore  # on the standard loop it is, for one turn more
def test_number_is_not_watched_after_the_event(loop, run, pair):
    async def main():
        here, there = pair
        task = asyncio.ensure_future(loop.sock_recv(here, 10))
        await settle()
        there.send(b"x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        assert loop.remove_reader(here) is False
        assert await task == b"x"

    run(main())


@only_asynccore  # the standard's selector does not notice the new file
def test_number_that_is_reused(loop, run):
    async def main():
        with socketpair() as (a, b):
            number = a.fileno()
            waiting = asyncio.ensure_future(loop.sock_recv(a, 100))
            await asyncio.sleep(0)
            a.close()
            c, d = socket.socketpair()
            c.setblocking(False)
            d.setblocking(False)
            assert number in (c.fileno(), d.fileno())
            if c.fileno() != number:
                c, d = d, c
            with c, d:
                for _ in range(3):
                    other = asyncio.ensure_future(loop.sock_recv(c, 100))
                    await asyncio.sleep(0)
                    d.send(b"other")
                    assert await other == b"other"
                assert not waiting.done()
                b.close()
                await settle()
                assert not waiting.done()
                waiting.cancel()
                await asyncio.wait([waiting])

    run(main())


@only_asynccore  # the standard's future goes on waiting, and takes the data
def test_closed_while_it_waits(loop, run, pair):
    a, b = pair

    async def main():
        coro = loop.sock_recv(a, 100)
        coro.send(None)
        coro.close()
        assert loop.remove_reader(a) is False
        b.send(b"data")
        await settle()
        assert a.recv(100) == b"data"

    run(main())


def test_number_that_is_reused_between_waits(loop, run):
    async def main():
        for n in range(20):
            with socketpair() as (a, b):
                for _ in range(2):
                    task = asyncio.ensure_future(loop.sock_recv(a, 100))
                    await asyncio.sleep(0)
                    b.send(b"%d" % n)
                    assert await task == b"%d" % n

    run(main())


async def echo(loop, sock):
    while data := await loop.sock_recv(sock, 100):
        await loop.sock_sendall(sock, data)


async def ask(loop, sock, count):
    for i in range(count):
        await loop.sock_sendall(sock, b"%d" % i)
        assert await loop.sock_recv(sock, 100) == b"%d" % i


@contextlib.asynccontextmanager
async def echoing(loop, count):
    """So many sockets that an echo answers."""
    async with asyncio.TaskGroup() as tasks:
        with contextlib.ExitStack() as stack:
            ours = []
            for _ in range(count):
                a, b = stack.enter_context(socketpair())
                tasks.create_task(echo(loop, b))
                ours.append(a)
            yield ours
            for a in ours:
                a.close()
            await settle()


def test_many_that_wait_in_turn(loop, run):
    """What is known of their numbers is used again, whether or not the loop blocks."""

    async def main():
        async with echoing(loop, 20) as ours:
            await asyncio.gather(*(ask(loop, a, 50) for a in ours))
            for a in ours:
                await ask(loop, a, 5)
            await asyncio.gather(*(ask(loop, a, 50) for a in ours[:10]))

    run(main())


@pytest.mark.parametrize("others", [0, 20], ids=["alone", "among others"])
@pytest.mark.parametrize("kept", [False, True], ids=["gone", "kept"])
def test_number_that_is_given_another_file(loop, run, pair, others, kept):
    """By dup2, so that the socket object stays the same."""
    a, b = pair

    async def main():
        async with echoing(loop, others) as busy:
            work = asyncio.gather(*(ask(loop, sock, 200) for sock in busy))
            await ask_both(loop, a, b, b"before")
            with contextlib.ExitStack() as stack:
                if kept:  # the first file goes on being watched, and has data
                    stack.enter_context(a.dup())
                    b.send(b"not asked for")
                c, d = stack.enter_context(socketpair())
                os.dup2(c.fileno(), a.fileno())
                for i in range(5):
                    await ask_both(loop, a, d, b"%d" % i)
            await work

    async def ask_both(loop, receiver, sender, data):
        task = asyncio.ensure_future(loop.sock_recv(receiver, 100))
        await settle()
        assert not task.done()
        sender.send(data)
        assert await task == data

    run(main())


def test_accepted_sockets_with_the_numbers_of_others(loop, run, listener):
    """They may have the addresses of the closed socket objects as well."""
    address = listener.getsockname()

    async def main():
        async with echoing(loop, 5) as busy:
            work = asyncio.gather(*(ask(loop, sock, 200) for sock in busy))
            for i in range(30):
                with socket.socket() as client:
                    client.setblocking(False)
                    await loop.sock_connect(client, address)
                    peer, _ = await loop.sock_accept(listener)
                    with peer:
                        waiting = asyncio.ensure_future(loop.sock_recv(peer, 100))
                        await asyncio.sleep(0)
                        await loop.sock_sendall(client, b"%d" % i)
                        assert await waiting == b"%d" % i
                        del waiting
            await work

    run(main())


def test_duplicate_of_a_closed_socket(loop, run):
    # the kernel goes on watching what the duplicate keeps open
    async def main():
        with socketpair() as (a, b):
            task = asyncio.ensure_future(loop.sock_recv(a, 100))
            await asyncio.sleep(0)
            b.send(b"data")
            await task
            with a.dup() as other:
                a.close()
                b.send(b"more")
                await settle()
                with socketpair() as (c, d):
                    task = asyncio.ensure_future(loop.sock_recv(c, 100))
                    await asyncio.sleep(0)
                    d.send(b"third")
                    assert await task == b"third"
                assert other.recv(100) == b"more"

    run(main())


def test_event_of_a_closed_socket_with_another_waiter(loop, run):
    # the standard loop reports that it can watch the number no more
    loop.set_exception_handler(lambda loop, context: None)

    async def main():
        with socketpair() as (a, b):
            sending = asyncio.ensure_future(loop.sock_sendall(a, bytes(1 << 22)))
            receiving = asyncio.ensure_future(loop.sock_recv(a, 100))
            await asyncio.sleep(0.001)  # the loop has all of its descriptors now
            with a.dup():  # the kernel goes on watching what this keeps open
                a.close()
                b.send(b"data")
                with pytest.raises(OSError) as caught:
                    await receiving
            assert caught.value.errno == errno.EBADF
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    run(main())


def test_data_that_nobody_awaits_costs_no_turns(loop, run, pair):
    a, b = pair

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 1))
        await asyncio.sleep(0)
        b.send(b"data")
        await task
        started = time.process_time()
        await asyncio.sleep(0.2)
        assert time.process_time() - started < 0.1
        assert await loop.sock_recv(a, 100) == b"ata"

    run(main())


def test_socket_handed_to_a_transport(loop, run):
    async def main():
        with socketpair() as (a, b):
            task = asyncio.ensure_future(loop.sock_recv(a, 100))
            await asyncio.sleep(0)
            b.send(b"first")
            assert await task == b"first"
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.create_connection(lambda: protocol, sock=a)
            b.send(b"second")
            assert await reader.read(100) == b"second"
            transport.close()
            await asyncio.sleep(0)

    run(main())


# -- futures and turns


def test_order_of_callbacks(loop, run):
    # the data is taken in the turn of its event, the tasks go on in the next
    seen = []

    async def read(sock, name):
        await loop.sock_recv(sock, 100)
        seen.append(name)

    async def main():
        with socketpair() as (a, b), socketpair() as (c, d), socketpair() as (e, f):

            def on_reader():
                loop.remove_reader(c)
                seen.append("reader")
                loop.call_soon(seen.append, "its callback")

            tasks = [loop.create_task(read(a, "first"))]
            loop.add_reader(c, on_reader)
            tasks.append(loop.create_task(read(e, "second")))
            await asyncio.sleep(0)
            for sock in (b, d, f):
                sock.send(b"data")
            await asyncio.wait(tasks)

    run(main())
    assert seen == ["reader", "first", "its callback", "second"]


def test_future_of_the_loop(loop, run, pair, monkeypatch):
    a, b = pair
    made = []

    def create_future():
        made.append(asyncio.Future(loop=loop))
        return made[-1]

    async def main():
        monkeypatch.setattr(loop, "create_future", create_future, raising=False)
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        (future,) = made
        assert task._fut_waiter is future
        b.send(b"data")
        assert await task == b"data"
        assert future.result() == b"data"

    run(main())
    monkeypatch.undo()


def test_future_in_python(loop, run, pair, monkeypatch):
    a, b = pair
    monkeypatch.setattr(asyncio.futures, "Future", asyncio.futures._PyFuture)

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        assert isinstance(task._fut_waiter, asyncio.futures._PyFuture)
        b.send(b"data")
        return await task

    assert run(main()) == b"data"


def test_of_another_loop(loop, run, pair, loop_factory):
    other = loop_factory()

    async def main():
        with pytest.raises(RuntimeError, match="attached to a different loop"):
            await other.sock_recv(pair[0], 100)

    run(main())
    other.close()


@pytest.mark.parametrize("debug", [False, True])
def test_debug_mode(loop, run, pair, debug):
    a, b = pair
    loop.set_debug(debug)

    async def main():
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        b.send(b"data")
        assert await task == b"data"
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    run(main())


# -- sockets with methods of their own


class Counting(socket.socket):
    """Counts the calls of its methods."""

    calls = 0

    def recv(self, *args):
        self.calls += 1
        return super().recv(*args)

    def send(self, *args):
        self.calls += 1
        return super().send(*args)


def test_methods_of_a_subclass_are_called(loop, run, pair):
    a, b = pair

    async def main():
        with Counting(fileno=os.dup(a.fileno())) as sock:
            sock.setblocking(False)
            await loop.sock_sendall(sock, b"x")
            task = asyncio.ensure_future(loop.sock_recv(sock, 100))
            await asyncio.sleep(0)
            b.send(b"data")
            assert await task == b"data"
            assert sock.calls == 3

    run(main())


def test_patched_methods_are_called(loop, run, pair, monkeypatch):
    a, b = pair
    original = socket.socket.recv
    monkeypatch.setattr(socket.socket, "recv", lambda *args: original(*args).upper())
    b.send(b"data")
    assert run(loop.sock_recv(a, 100)) == b"DATA"
    monkeypatch.undo()
    b.send(b"data")
    assert run(loop.sock_recv(a, 100)) == b"data"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__: new in 3.12")
def test_buffer_that_closes_the_coroutine(script):
    script(
        """
        import asyncio, socket

        class Buffer:
            count = 0

            def __buffer__(self, flags):
                self.count += 1
                if self.count == 2:  # when the data has come
                    coro.close()
                return memoryview(bytearray(10))

        async def main():
            global coro
            a, b = socket.socketpair()
            a.setblocking(False)
            with a, b:
                coro = loop.sock_recv_into(a, Buffer())
                task = loop.create_task(coro)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                b.send(b"x")
                await asyncio.sleep(0.01)
                task.cancel()
                try:
                    await task
                except RuntimeError as exc:
                    assert "cannot reuse" in str(exc)
                else:
                    raise AssertionError

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )


# -- sizes


@pytest.mark.parametrize("size", [1 << 16, 1 << 18, (1 << 18) + 1, 1 << 30])
def test_result_is_as_small_as_the_data(loop, run, pair, size):
    a, b = pair
    for data in (b"data", os.urandom(100_000), b"more"):
        b.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sent = b.send(data)
        got = run(loop.sock_recv(a, size))
        while len(got) < sent:
            got += run(loop.sock_recv(a, size))
        assert got == data[:sent]
    assert len(got) == 4


def test_datagrams(loop, run):
    async def main():
        with udp() as a, udp() as b:
            for n in range(10):
                task = asyncio.ensure_future(loop.sock_recvfrom(a, 100))
                await asyncio.sleep(0)
                assert await loop.sock_sendto(b, b"%d" % n, a.getsockname()) == 1
                assert await task == (b"%d" % n, b.getsockname())

    run(main())
