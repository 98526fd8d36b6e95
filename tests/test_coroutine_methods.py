"""The methods in C that stand for an `async def` are coroutine functions, as those."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import socket
import subprocess
import sys
import types
import weakref
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import pytest

import asynccore
from support import looped, only_asynccore
from support.streams import Streams, streams

SOCK = (
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_accept",
    "sock_connect",
)
READER = ("read", "readline", "readuntil", "readexactly")
# an autospecced function is known by `asyncio.iscoroutinefunction` only
OLD_MOCKS = sys.version_info < (3, 13)
WRITER = ("drain", "wait_closed")


def functions(s: Streams) -> list[tuple[Any, types.FunctionType]]:
    """The bound methods, each with asyncio's function."""
    loop = asyncio.get_running_loop()
    methods = [
        *((loop, asyncio.SelectorEventLoop, name) for name in SOCK),
        *((s.reader, asyncio.StreamReader, name) for name in READER),
        *((s.writer, asyncio.StreamWriter, name) for name in WRITER),
    ]
    return [(getattr(it, name), getattr(cls, name)) for it, cls, name in methods]


@looped
async def test_what_inspect_sees() -> None:
    async with streams() as s:
        for method, standard in functions(s):
            assert inspect.iscoroutinefunction(method)
            assert inspect.iscoroutinefunction(method.__func__)
            assert inspect.ismethod(method) and inspect.isroutine(method.__func__)
            bound = types.MethodType(standard, method.__self__)
            assert inspect.signature(method) == inspect.signature(bound)
            assert inspect.signature(method.__func__) == inspect.signature(standard)
            assert inspect.getsource(method) == inspect.getsource(standard)
            assert inspect.getdoc(method) == inspect.getdoc(standard)
            for name in (
                *("__name__", "__qualname__", "__module__", "__doc__", "__code__"),
                *("__defaults__", "__kwdefaults__", "__annotations__", "__globals__"),
            ):
                assert getattr(method, name) == getattr(standard, name)
                assert getattr(method.__func__, name) == getattr(standard, name)
            assert repr(method) == repr(bound)
            assert method == getattr(method.__self__, method.__name__)
            with pytest.raises(AttributeError, match="'function' object has no attrib"):
                method.__func__.unknown  # noqa: B018


@looped
async def test_mock() -> None:
    async with streams() as s:
        for method, _ in functions(s):
            with mock.patch.object(method.__self__, method.__name__) as replaced:
                assert isinstance(replaced, mock.AsyncMock)
                replaced.return_value = 7
                assert await getattr(method.__self__, method.__name__)() == 7
            for spec in (method.__self__, type(method.__self__)):
                with mock.patch.object(spec, method.__name__, autospec=True) as specced:
                    assert inspect.iscoroutinefunction(specced) or OLD_MOCKS
        s.peer_writer.write(b"line\n")
        assert await s.reader.readline() == b"line\n"
        await s.writer.drain()


@looped
async def test_wrong_arguments() -> None:
    async with streams() as s:
        for method, standard in functions(s):
            for args, kwargs in [
                ((1, 2, 3, 4, 5), {}),
                ((), {"unknown": 1}),
                (() if method.__name__ in (*SOCK, "readexactly") else (1, 2), {}),
            ]:
                with pytest.raises(TypeError) as expected:
                    standard(method.__self__, *args, **kwargs)
                with pytest.raises(TypeError) as raised:
                    method(*args, **kwargs)
                assert str(raised.value) == str(expected.value)
                with pytest.raises(TypeError) as raised:
                    method.__func__(method.__self__, *args, **kwargs)
                assert str(raised.value) == str(expected.value)
            with pytest.raises(TypeError, match="missing"):
                method.__func__()


@looped
async def test_calls_of_any_form() -> None:
    """Bound, of the class, with a star, by keyword, through a partial."""
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    a.setblocking(False)
    recv: Callable[..., Awaitable[bytes]] = type(loop).sock_recv
    with a, b:
        calls: list[Callable[[], Awaitable[bytes]]] = [
            lambda: loop.sock_recv(a, 1),
            lambda: recv(loop, a, 1),
            lambda: recv(*(loop, a, 1)),
            lambda: recv(loop, sock=a, n=1),
            lambda: recv.__get__(loop)(a, 1),
            lambda: recv.__get__(loop, type(loop))(a, n=1),
            lambda: recv.__call__(loop, a, 1),
        ]
        for i, call in enumerate(calls):
            b.send(bytes([i]))
            assert await call() == bytes([i])
        assert type(loop).__dict__.get("sock_recv", recv) == recv.__get__(None, object)


@looped
async def test_method_of_the_class_with_another_loop() -> None:
    """What is no loop of ours gets the function of asyncio."""
    loop = asyncio.get_running_loop()
    other = asyncio.SelectorEventLoop()
    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.send(b"1")
        coro = type(loop).sock_recv(other, a, 1)  # type: ignore[arg-type]
        assert inspect.iscoroutine(coro)
        with pytest.raises(StopIteration) as stopped:
            coro.send(None)
        assert stopped.value.value == b"1"
    other.close()


@looped
async def test_copies_and_weak_references() -> None:
    async with streams() as s:
        for method, _ in functions(s):
            function = method.__func__
            assert copy.copy(function) is copy.deepcopy(function) is function
            assert pickle.loads(pickle.dumps(function)) is function
            assert weakref.ref(function)() is function
            assert weakref.WeakMethod(method)() == method


@only_asynccore
@looped
async def test_class_of_the_function() -> None:
    """It is ours; what it stands for is there."""
    for cls, standard, name in (
        (asynccore.Loop, asyncio.SelectorEventLoop, "sock_recv"),
        (asynccore._core.StreamReader, asyncio.StreamReader, "read"),
    ):
        method = getattr(cls, name)
        assert method.__wrapped__ is getattr(standard, name)
        assert repr(method).startswith("<coroutine method of asynccore._core.")
        assert gc.is_tracked(method)
        with pytest.raises(TypeError, match="cannot create"):
            type(method)()
        with pytest.raises(AttributeError):
            method.__code__ = compile("0", "", "eval")


PATCHED_BEFORE_IMPORT = """
import asyncio, functools, socket, sys

calls = []

class Patched:
    def __get__(self, loop, cls):
        return functools.partial(self, loop)

    async def __call__(self, loop, sock, n):
        calls.append(n)
        return b"patched"

@functools.wraps(asyncio.SelectorEventLoop.sock_recv)
async def patched(loop, sock, n):
    calls.append(n)
    return b"patched"

asyncio.SelectorEventLoop.sock_recv = patched if sys.argv[1:] else Patched()
import asynccore

async def main():
    loop = asyncio.get_running_loop()
    a, b = socket.socketpair()
    with a, b:
        assert await loop.sock_recv(a, 3) == b"patched"
    assert calls == [3]

asynccore.run(main())
"""


@pytest.mark.parametrize("by", [["a function"], []])
def test_patched_before_the_import(by: list[str]) -> None:
    """What is no function of asyncio stays where the program has put it."""
    command = [sys.executable, "-c", PATCHED_BEFORE_IMPORT, *by]
    subprocess.run(command, check=True, timeout=60)
