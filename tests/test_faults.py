"""Faults: no descriptors, no memory, callbacks that do their worst."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import socket
import sys
import textwrap
import warnings

import pytest

from support import only_asynccore
from support.interpreter import FREE_THREADED
from support.turns import Trace, turn

needs_testcapi = pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None,
    reason="this Python has no _testcapi, whose allocator can be told to fail",
)


@pytest.fixture
def trace():
    return Trace()


# -- descriptors


# the standard constructor forgets what it opened before it failed
@only_asynccore
def test_no_descriptors_for_a_new_loop(script):
    # whatever is missing, a loop can wait and watches nothing; nothing leaks, and later
    # it can watch
    done = script("""
        import asyncio, errno, gc, os, resource, sys
        sys.unraisablehook = lambda args: None
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        ends = os.pipe()
        lowest = ends[1] + 1
        def count():
            return len(os.listdir("/dev/fd"))
        refused = 0
        open_after = []
        for _ in range(3):  # the first loop of a process opens what stays open
            for spare in range(0, 30):
                resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
                loop = new_event_loop()
                loop.run_until_complete(asyncio.sleep(0.001))
                try:
                    loop.add_reader(ends[0], int)
                except OSError as exc:
                    assert exc.errno == errno.EMFILE, exc
                    refused += 1
                if spare % 2:
                    loop.close()
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                if not loop.is_closed():
                    loop.run_until_complete(asyncio.sleep(0.001))
                    loop.close()
                gc.collect()
            open_after.append(count())
        assert len(set(open_after)) == 1, open_after
        open_now = count()
        for _ in range(5):
            loop = new_event_loop()
            loop.call_later(0.001, loop.stop)
            loop.run_forever()
            loop.close()
        assert count() == open_now
        assert refused >= 10, refused
        loop = new_event_loop()
        loop.call_soon(print, "works")
        loop.stop()
        loop.run_forever()
        loop.close()
    """)
    assert done.stdout == "works\n"


def test_no_descriptors_for_a_socket(script):
    done = script("""
        import asyncio, resource
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        loop = new_event_loop()
        loop.set_debug(False)
        async def main():
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                try:
                    await loop.create_connection(asyncio.Protocol, *address)
                except OSError as exc:
                    print(type(exc).__name__, exc.errno)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            transport.abort()
            server.close()
            await asyncio.sleep(0.01)
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """)
    assert done.stdout == "OSError 24\n"


# -- memory
#
# CPython itself crashes when the allocation of a frame of Python code fails, so while
# allocations fail only C code runs: ours, and the builtins that are the callbacks.


SWEEP = """
import contextlib, gc, socket, sys
import _testcapi

def sweep(make, work):
    # fails the nth allocation, for each n, until the work gets through unharmed
    failures = 0
    for n in range(2000):
        loop = make()
        harmed = False
        _testcapi.set_nomemory(n, n + 1)
        try:
            work(loop)
        except MemoryError:
            harmed = True
        finally:
            _testcapi.remove_mem_hooks()
        # whatever failed, nothing is lost of what comes now
        seen = []
        loop.call_soon(seen.append, 1)
        loop.call_later(-1, seen.append, 2)
        loop.call_soon_threadsafe(seen.append, 3)
        for _ in range(2):
            loop.stop()
            loop.run_forever()
        assert sorted(seen) == [1, 2, 3], seen
        loop.close()
        del loop
        failures += harmed
        if not harmed and n > 100:
            break
    gc.collect()
    return failures

def make():
    loop = new_event_loop()
    loop.set_debug(False)
    loop.stop()
    loop.run_forever()
    return loop
"""

WORKS = {
    "call_soon": """
        def work(loop):
            for n in range(3):
                loop.call_soon(int, n)
    """,
    "call_soon of many": """
        def work(loop):
            for n in range(300):
                loop.call_soon(int)
    """,
    "call_soon_threadsafe": """
        def work(loop):
            for n in range(3):
                loop.call_soon_threadsafe(int, n)
    """,
    "call_later": """
        def work(loop):
            for n in range(5):
                loop.call_later(n - 2, int, n)
    """,
    "call_later of many": """
        def work(loop):
            for n in range(300):
                loop.call_later(1000 + n, int)
    """,
    "cancel": """
        def work(loop):
            for n in range(3):
                loop.call_later(1000, int).cancel()
                loop.call_soon(int).cancel()
    """,
    "run": """
        def make():
            loop = new_event_loop()
            loop.set_debug(False)
            loop.call_soon(int, 1)
            loop.call_later(-1, int, 2)
            loop.call_soon_threadsafe(int, 3)
            loop.stop()
            return loop
        def work(loop):
            loop._run_once()
    """,
    "readers": """
        pair = socket.socketpair()
        pair[1].send(b"x")
        def work(loop):
            fd = pair[0].fileno()
            try:
                loop._add_reader(fd, int, 1)
                loop._add_writer(fd, int, 1)
                loop._run_once()
            finally:
                loop._remove_reader(fd)
                loop._remove_writer(fd)
    """,
}


@needs_testcapi
@only_asynccore
@pytest.mark.parametrize("work", WORKS)
def test_no_memory(script, work):
    code = SWEEP + textwrap.dedent(WORKS[work]) + "\nprint(sweep(make, work))\n"
    done = script(code)
    assert int(done.stdout) >= 1


@needs_testcapi
@only_asynccore
def test_no_memory_for_a_new_loop(script):
    done = script("""
        import gc
        import _testcapi
        from asynccore import _core
        new_event_loop().close()
        failures = 0
        for n in range(200):
            loop = None
            _testcapi.set_nomemory(n, n + 1)
            try:
                loop = _core.Loop()
            except MemoryError:
                failures += 1
            finally:
                _testcapi.remove_mem_hooks()
            if loop is not None:
                loop._shut()
        gc.collect()
        assert failures >= 1
        loop = new_event_loop()
        loop.call_soon(print, "works")
        loop.stop()
        loop.run_forever()
        loop.close()
    """)
    assert done.stdout == "works\n"


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="the second allocation is another one where all are malloc()'s",
)
@needs_testcapi
@only_asynccore
def test_no_memory_for_all_that_a_reader_waits_for(script):
    """Most of it has not come, and may never: the reader goes on with less."""
    script("""
        import asyncio
        import _testcapi

        async def main():
            from asynccore import _core
            loop = asyncio.get_running_loop()
            reader = asyncio.StreamReader()
            _core.adopt_reader(loop, reader)
            task = loop.create_task(reader.readexactly(4000))
            await asyncio.sleep(0)
            feed, data = reader.feed_data, bytes(1000)
            _testcapi.set_nomemory(1, 2)
            try:
                feed(data)
            finally:
                _testcapi.remove_mem_hooks()
            feed(bytes(3000))
            assert await task == bytes(4000)

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    """)


# -- callbacks


class Odd(BaseException):
    """Neither Exception nor one of the two that end a run."""


class Raising:
    """Raises in whatever is done to it."""

    def __call__(self, *args):
        raise LookupError("in call")

    def __repr__(self):
        return "Raising()"

    def __eq__(self, other):
        raise LookupError("in eq")

    def __bool__(self):
        raise LookupError("in bool")

    __hash__ = None


def test_callbacks_that_raise_anything(loop, trace):
    class Weird(Exception):
        def __str__(self):
            raise LookupError("in str")

        __repr__ = __str__

    def fail(exc):
        raise exc

    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))
    raised = [
        ValueError(),
        StopIteration(),
        StopAsyncIteration(),
        GeneratorExit(),
        asyncio.CancelledError(),
        asyncio.InvalidStateError(),
        MemoryError(),
        RecursionError(),
        OSError(9, "x"),
        Odd(),
        ExceptionGroup("group", [ValueError()]),
        BaseExceptionGroup("group", [Odd()]),
        Weird(),
    ]
    for exc in raised:
        loop.call_soon(fail, exc)
        loop.call_later(-1, fail, exc)
    loop.call_soon(trace.append, "end")
    turn(loop)
    assert trace == ["end"]
    assert sorted(type(context["exception"]).__name__ for context in caught) == sorted(
        type(exc).__name__ for exc in raised * 2
    )


def test_arguments_that_raise_in_everything(loop):
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))
    raising = Raising()
    loop.call_soon(raising, raising, raising)
    loop.call_later(-1, raising, raising)
    loop.call_soon(print, raising).cancel()
    turn(loop)
    assert [str(context["exception"]) for context in caught] == ["in call"] * 2


def test_callback_recursion(loop):
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))

    def recurse():
        recurse()

    loop.call_soon(recurse)
    turn(loop)
    assert isinstance(caught[0]["exception"], RecursionError)


def test_callback_that_drops_the_last_reference_to_its_loop(loop_factory, trace):
    box = [loop_factory()]

    def callback():
        box.clear()
        gc.collect()
        trace.append("alive")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        box[0].call_soon(callback)
        box[0].call_soon(trace.append, "next")
        box[0].stop()
        box[0].run_forever()
        gc.collect()
    assert trace == ["alive", "next"]


def test_callback_that_collects(loop, trace):
    for n in range(20):
        loop.call_soon(gc.collect)
        loop.call_soon(trace.append, n)
        loop.call_later(-1, gc.collect)
    turn(loop)
    assert trace == list(range(20))


def test_destructors_that_use_the_loop_in_every_way(loop, trace):
    class Last:
        def __del__(self):
            loop.call_soon(trace.append, "soon")
            loop.call_later(-1, trace.append, "later")
            loop.call_soon_threadsafe(trace.append, "threadsafe")
            loop.call_later(1000, print).cancel()

    loop.call_soon(int, *[]).cancel()
    loop.call_soon(lambda last: None, Last())
    loop.call_later(-1, lambda last: None, Last())
    loop.call_later(1000, print, Last()).cancel()
    turn(loop, 4)
    assert sorted(trace) == ["later"] * 3 + ["soon"] * 3 + ["threadsafe"] * 3


def test_destructor_that_closes_the_loop(loop_factory, trace):
    class Last:
        def __del__(self):
            try:
                loop.close()
            except RuntimeError as exc:
                trace.append(str(exc))

    loop = loop_factory()
    loop.call_soon(lambda last: None, Last())
    turn(loop)
    assert trace == ["Cannot close a running event loop"]
    handle = loop.call_soon(print, Last())
    handle.cancel()
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        turn(loop)


def test_reader_whose_destructor_removes_and_adds(loop, trace):
    a, b = socket.socketpair()

    class Last:
        def __del__(self):
            trace.append(loop.remove_reader(b))
            loop.add_reader(b, print)

    with a, b:
        loop.add_reader(a, print, Last())
        loop.add_reader(b, print)
        loop.remove_reader(a)
        gc.collect()
        assert trace == [True]
        assert loop.remove_reader(b) is True


# the standard loop raises IndexError from its own turn afterwards
@only_asynccore
def test_callback_that_runs_the_loop_by_hand(loop, trace):
    # forbidden and survived: a turn inside a turn
    def callback():
        try:
            loop._run_once()
        except RuntimeError:
            trace.append("refused")
        trace.append("callback")

    loop.call_soon(callback)
    loop.call_soon(trace.append, "next")
    turn(loop, 2)
    assert sorted(set(trace) - {"refused"}) == ["callback", "next"]


def test_loop_used_in_its_own_repr(loop, trace):
    class Callback:
        def __call__(self):
            raise LookupError("expected")

        def __repr__(self):
            loop.call_soon(trace.append, "from repr")
            loop.stop()
            return "Callback()"

    loop.set_exception_handler(lambda loop, context: repr(context))
    loop.call_soon(Callback())
    turn(loop, 2)
    assert set(trace) == {"from repr"}


def test_tracing_of_callbacks(loop, trace):
    # a debugger's trace function sees the callbacks' frames
    names = []

    def tracer(frame, event, arg):
        names.append(frame.f_code.co_name)

    def traced_callback():
        trace.append(1)

    loop.call_soon(traced_callback)
    old = sys.gettrace()
    sys.settrace(tracer)
    try:
        turn(loop)
    finally:
        sys.settrace(old)
    assert trace == [1]
    assert "traced_callback" in names


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="AddressSanitizer keeps freed memory on purpose",
)
@pytest.mark.skipif(FREE_THREADED, reason="mimalloc keeps freed memory, too")
def test_growth_is_given_back(script):
    # after a burst of callbacks the memory is near what it was before
    done = script(
        """
        import gc
        def resident():
            gc.collect()
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096
        loop = new_event_loop()
        loop.set_debug(False)
        def burst(count):
            for n in range(count):
                loop.call_soon(int)
                loop.call_later(1000, int).cancel()
            loop.stop()
            loop.run_forever()
        burst(1000)
        before = resident()
        burst(300_000)
        after = resident()
        loop.close()
        print((after - before) // 1024)
    """
        if sys.platform == "linux"
        else "print(0)"
    )
    assert int(done.stdout) < 12_000
