"""What sock_recv and its siblings return is a coroutine, as that of an `async def`."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import io
import socket
import sys
import types
import unittest.mock
import warnings
import weakref

import pytest

from support.sockets import listener, pair

__all__ = ["listener", "pair"]  # fixtures

OPERATIONS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 100),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(4)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 100),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(
        sock, bytearray(4)
    ),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, bytes(1 << 24)),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", "name"),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, "name"),
}


@pytest.fixture
def recv(loop, pair):
    """A new coroutine that waits when it is driven."""
    coro = loop.sock_recv(pair[0], 100)
    yield coro
    coro.close()


# -- what it is


@pytest.mark.parametrize("name", OPERATIONS)
def test_class(loop, pair, name):
    coro = OPERATIONS[name](loop, pair[0])
    assert asyncio.iscoroutine(coro)
    assert isinstance(coro, collections.abc.Coroutine)
    assert inspect.isawaitable(coro)
    assert coro.__name__ == name
    assert coro.__qualname__ == f"BaseSelectorEventLoop.{name}"
    assert coro.cr_code.co_name == name
    assert repr(coro).startswith(f"<coroutine object BaseSelectorEventLoop.{name} at ")
    assert weakref.ref(coro)() is coro
    coro.close()


@pytest.mark.parametrize("name", OPERATIONS)
def test_signature(loop, name):
    standard = inspect.signature(getattr(asyncio.SelectorEventLoop, name))
    ours = inspect.signature(getattr(type(loop), name))
    assert list(ours.parameters) == list(standard.parameters)
    assert [value.default for value in ours.parameters.values()] == [
        value.default for value in standard.parameters.values()
    ]


def test_does_nothing_until_it_is_driven(loop, run, pair):
    a, b = pair
    b.send(b"data")
    coro = loop.sock_recv(a, 2)
    loop.sock_recv(a, -1).close()
    loop.sock_sendall(b, b"more").close()
    assert a.recv(2) == b"da"
    assert run(coro) == b"ta"


def test_keywords(loop, run, pair):
    a, b = pair
    run(loop.sock_sendall(data=b"data", sock=b))
    assert run(loop.sock_recv(a, n=2)) == b"da"
    buffer = bytearray(10)
    assert run(loop.sock_recvfrom_into(a, buf=buffer, nbytes=1))[0] == 1


@pytest.mark.parametrize("args", [(), (1,), (1, 2, 3, 4, 5)], ids=len)
def test_wrong_number_of_arguments(both_factories, args):
    for name in OPERATIONS:
        if name == "sock_accept" and len(args) == 1:
            continue
        texts = []
        for factory in both_factories:
            loop = factory()
            with pytest.raises(TypeError) as caught:
                getattr(loop, name)(*args)
            texts.append(str(caught.value))
            loop.close()
        assert texts[0] == texts[1]


def test_states(loop, pair):
    a, b = pair
    coro = loop.sock_recv(a, 100)
    assert inspect.getcoroutinestate(coro) == inspect.CORO_CREATED
    assert (coro.cr_running, coro.cr_suspended, coro.cr_await) == (False, False, None)
    future = coro.send(None)
    assert asyncio.isfuture(future)
    assert inspect.getcoroutinestate(coro) == inspect.CORO_SUSPENDED
    assert coro.cr_await is not None
    assert coro.cr_frame.f_code is coro.cr_code
    loop.call_soon(b.send, b"data")
    loop.run_until_complete(future)
    with pytest.raises(StopIteration) as caught:
        coro.send(None)
    assert caught.value.value == b"data"
    assert inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED
    assert coro.cr_frame is None


def test_traceable_as_a_task(loop, run, recv):
    async def main():
        task = loop.create_task(recv)
        await asyncio.sleep(0)
        text = repr(task)
        assert "coro=<BaseSelectorEventLoop.sock_recv() running at " in text
        assert "selector_events.py" in text
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["sock_recv"]
        out = io.StringIO()
        task.print_stack(file=out)
        assert "in sock_recv" in out.getvalue()
        if sys.version_info >= (3, 14):
            assert "sock_recv" in asyncio.format_call_graph(task)
        task.cancel()
        await asyncio.wait([task])

    run(main())


# -- ways to run it


def test_create_task(loop, run, pair):
    a, b = pair

    async def main():
        task = loop.create_task(loop.sock_recv(a, 100), name="reader")
        await loop.create_task(loop.sock_sendall(b, b"data"))
        assert task.get_name() == "reader"
        return await task

    assert run(main()) == b"data"


def test_run_until_complete(loop, pair):
    a, b = pair
    loop.run_until_complete(loop.sock_sendall(b, b"data"))
    assert loop.run_until_complete(loop.sock_recv(a, 100)) == b"data"


def test_gather_and_wait(loop, run, pair):
    a, b = pair

    async def main():
        got = await asyncio.gather(loop.sock_recv(a, 100), loop.sock_sendall(b, b"one"))
        assert got == [b"one", None]
        assert await asyncio.wait_for(loop.sock_sendall(b, b"two"), 5) is None
        assert await asyncio.shield(loop.sock_recv(a, 100)) == b"two"
        async with asyncio.TaskGroup() as group:
            task = group.create_task(loop.sock_recv(a, 100))
            group.create_task(loop.sock_sendall(b, b"three"))
        assert task.result() == b"three"

    run(main())


def test_run_coroutine_threadsafe(loop, run, pair):
    a, b = pair

    def elsewhere():
        future = asyncio.run_coroutine_threadsafe(loop.sock_recv(a, 100), loop)
        return future.result(5)

    async def main():
        waiting = loop.run_in_executor(None, elsewhere)
        await loop.sock_sendall(b, b"data")
        found = await waiting
        await loop.shutdown_default_executor()
        return found

    assert run(main()) == b"data"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of 3.12")
def test_eager_task(loop, run, pair):
    a, b = pair

    async def main():
        b.send(b"data")
        loop.set_task_factory(asyncio.eager_task_factory)
        done = loop.create_task(loop.sock_recv(a, 100))
        assert done.done()
        waits = loop.create_task(loop.sock_recv(a, 100))
        assert not waits.done()
        b.send(b"more")
        return await done, await waits

    assert run(main()) == (b"data", b"more")


def test_exceptions_of_a_waiter_come_out_of_the_await(loop, run, pair):
    a, _ = pair

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await loop.sock_recv(a, 100)
        task = asyncio.ensure_future(loop.sock_recv(a, 100))
        await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await task

    run(main())


class Awaitable:
    """An `__await__` as they are written in Python."""

    def __init__(self, coro):
        self.coro = coro

    def __await__(self):
        value = yield from self.coro.__await__()
        return [value]


@types.coroutine
def old_style(coro):
    value = yield from coro
    return [value]


@pytest.mark.parametrize("wrap", [Awaitable, old_style])
@pytest.mark.parametrize("waits", [False, True])
def test_yield_from(loop, run, pair, wrap, waits):
    a, b = pair

    async def main():
        if waits:
            loop.call_soon(b.send, b"data")
        else:
            b.send(b"data")
        return await wrap(loop.sock_recv(a, 100))

    assert run(main()) == [b"data"]


def test_cancelled_in_a_yield_from(loop, run, pair):
    a, b = pair

    async def outer():
        await Awaitable(loop.sock_recv(a, 100))

    async def main():
        task = loop.create_task(outer())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        b.send(b"data")
        assert await loop.sock_recv(a, 100) == b"data"

    run(main())


def test_driven_through_its_iterator(loop, recv, pair):
    iterator = recv.__await__()
    assert iter(iterator) is iterator
    future = next(iterator)
    assert inspect.getcoroutinestate(recv) == inspect.CORO_SUSPENDED
    with pytest.raises(KeyError):
        iterator.throw(KeyError("thrown"))
    iterator.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        iterator.send(None)
    future.cancel()


# -- misuse


def test_not_iterable(recv):
    assert not isinstance(recv, collections.abc.Iterable)
    assert not hasattr(recv, "__iter__")
    with pytest.raises(TypeError, match="object is not iterable"):
        list(recv)

    def generator():
        yield from recv

    with pytest.raises(TypeError, match=r"iterable|'yield from' a coroutine object"):
        next(generator())
    assert inspect.getcoroutinestate(recv) == inspect.CORO_CREATED


@pytest.mark.skipif(sys.version_info < (3, 12), reason="not deprecated yet")
def test_throw_of_several_arguments_is_deprecated(recv):
    with (
        pytest.warns(DeprecationWarning, match=r"\(type, exc, tb\) signature"),
        pytest.raises(ValueError, match="text"),
    ):
        recv.throw(ValueError, "text")


@pytest.mark.parametrize("args", [(), (1, 2, 3, 4)])
def test_wrong_number_of_arguments_of_throw(recv, args):
    expected = (
        "at least 1 argument, got 0" if not args else "at most 3 arguments, got 4"
    )
    with pytest.raises(TypeError, match=f"^throw expected {expected}$"):
        recv.throw(*args)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["connection", "address"], None),
        (("connection",), ValueError),
        ((1, 2, 3), ValueError),
        (None, TypeError),
    ],
)
def test_accept_that_was_replaced(
    loop, run, listener, monkeypatch, waits, given, error
):
    blocked = [BlockingIOError()] if waits else []
    connection = unittest.mock.Mock()

    def accept(self):
        if blocked:
            raise blocked.pop()
        if isinstance(given, list):
            return [connection, given[1]]
        return given

    monkeypatch.setattr(socket.socket, "accept", accept)
    with socket.create_connection(listener.getsockname()):
        if error is None:
            assert run(loop.sock_accept(listener)) == (connection, "address")
            connection.setblocking.assert_called_once_with(False)
        else:
            with pytest.raises(error):
                run(loop.sock_accept(listener))


def test_never_awaited(loop, pair):
    with pytest.warns(RuntimeWarning) as caught:
        loop.sock_recv(pair[0], 1)
        gc.collect()
    (warning,) = caught
    expected = "coroutine 'BaseSelectorEventLoop.sock_recv' was never awaited"
    assert str(warning.message) == expected


def test_never_awaited_as_an_error(loop, pair, faults):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.sock_recv(pair[0], 1)
    (text,) = faults.take_unraisable()
    assert "'BaseSelectorEventLoop.sock_recv' was never awaited" in text


def test_never_awaited_until_the_interpreter_ends(script):
    done = script("""
        import socket, warnings
        warnings.simplefilter("default")
        loop = new_event_loop()
        here, there = socket.socketpair()
        kept = [loop.sock_recv(here, 1)]
        kept.append(kept)
        for used in (loop, here, there):
            used.close()
    """)
    text = (
        "RuntimeWarning: coroutine 'BaseSelectorEventLoop.sock_recv' was never awaited"
    )
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_origin_is_told_in_debug_mode(loop, run, pair):
    loop.set_debug(True)

    async def main():
        coro = loop.sock_recv(pair[0], 1)
        file, _, function = coro.cr_origin[0]
        assert (file, function) == (__file__, "main")
        with pytest.warns(RuntimeWarning, match="Coroutine created at"):
            del coro

    run(main())
    coro = loop.sock_recv(pair[0], 1)
    assert coro.cr_origin is None
    coro.close()


def test_awaited_twice(loop, run, pair):
    a, b = pair
    b.send(b"data")
    coro = loop.sock_recv(a, 100)
    run(coro)
    for drive in (run, lambda coro: coro.send(None), lambda coro: coro.throw(OSError)):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited corout"):
            drive(coro)
    assert coro.close() is None


def test_awaited_by_two(loop, run, recv):
    async def main():
        task = asyncio.ensure_future(recv)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await recv
        task.cancel()
        await asyncio.wait([task])

    run(main())


def test_value_sent_to_a_new_one(recv):
    with pytest.raises(TypeError, match="can't send non-None value to a just-started"):
        recv.send(1)


def test_resumed_before_the_future_is_done(recv):
    recv.send(None)
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        recv.send(None)


def test_closed_before_it_begins(loop, recv):
    recv.close()
    recv.close()
    with pytest.raises(RuntimeError, match="cannot reuse"):
        recv.send(None)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize(
    "thrown", [OSError, OSError("text"), GeneratorExit, asyncio.CancelledError("text")]
)
def test_throw(loop, recv, started, thrown):
    kind = thrown if isinstance(thrown, type) else type(thrown)
    if started:
        recv.send(None)
    with pytest.raises(kind) as caught:
        recv.throw(thrown)
    if not isinstance(thrown, type):
        assert caught.value is thrown
    assert inspect.getcoroutinestate(recv) == inspect.CORO_CLOSED


STATES = {
    "created": lambda coro: None,
    "waiting": lambda coro: coro.send(None),
    "closed": lambda coro: coro.close(),
}


def outcome_of_throw(coro, args):
    with pytest.raises(BaseException) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coro.throw(*args)
    exc = caught.value
    return repr(exc), repr(exc.__cause__), inspect.getcoroutinestate(coro)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "args",
    [
        (StopAsyncIteration(),),
        (OSError, OSError("text"), None),
        (OSError("text"), 1),
        (OSError, "text", 3),
        (5,),
        (int,),
    ],
    ids=repr,
)
def test_throw_is_that_of_an_async_function(loop, recv, state, args):
    async def waits():
        await loop.create_future()

    plain = waits()
    STATES[state](recv)
    STATES[state](plain)
    assert outcome_of_throw(recv, args) == outcome_of_throw(plain, args)
    plain.close()


@pytest.mark.parametrize("stop", [StopIteration, StopIteration(5)])
def test_throw_of_the_end_of_an_iteration(recv, stop):
    async def plain():
        pass

    assert outcome_of_throw(recv, (stop,)) == outcome_of_throw(plain(), (stop,))


@pytest.mark.parametrize("wrong", [None, 1, "text", object])
def test_throw_of_no_exception(recv, wrong):
    with pytest.raises(TypeError, match="exceptions must be classes or instances"):
        recv.throw(wrong)


def test_waiting_one_that_is_dropped(loop, pair):
    a, _ = pair
    loop.sock_recv(a, 100).send(None)
    gc.collect()
    assert loop.remove_reader(a)
    gc.collect()


def test_loop_closed_while_one_waits(loop, pair):
    coro = loop.sock_recv(pair[0], 100)
    coro.send(None)
    loop.close()
    coro.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.sock_recv(pair[0], 100).send(None)


def test_collected_with_a_cycle(loop, pair):
    class Buffer(bytearray):
        pass

    buffer = Buffer(10)
    gone = weakref.ref(buffer)
    buffer.coro = loop.sock_recv_into(pair[0], buffer)
    buffer.coro.close()
    buffer.coro = coro = loop.sock_recv_into(pair[0], buffer)
    coro.send(None)
    loop.remove_reader(pair[0])
    del buffer, coro
    gc.collect()
    assert gone() is None
