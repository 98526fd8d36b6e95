"""Every public method of the loop with hostile arguments, open and closed.

What the standard loop returns or raises, ours must return or raise: both are asked.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import math
import re
import socket
import sys
import warnings

import pytest

from support import only_asynccore

WRONG = {
    "None": None,
    "True": True,
    "zero": 0,
    "minus one": -1,
    "fraction": 1.5,
    "nan": math.nan,
    "inf": math.inf,
    "minus inf": -math.inf,
    "1e300": 1e300,
    "2**31": 2**31,
    "2**63": 2**63,
    "2**64": 2**64,
    "10**400": 10**400,
    "minus 10**400": -(10**400),
    "text": "text",
    "surrogate": "\ud800",
    "bytes": b"bytes",
    "list": [1],
    "dict": {},
    "function": print,
    "class": int,
    "object": object(),
    "complex": 1j,
}


class Things:
    """The right arguments, made anew for each call."""

    def __init__(self, loop):
        self.loop = loop
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)
        self.peer.setblocking(False)
        self.peer.send(b"data")
        self.pool = concurrent.futures.ThreadPoolExecutor(1)
        self.coros = []

    async def _coro(self):
        return 1

    def coro(self):
        self.coros.append(self._coro())
        return self.coros[-1]

    def close(self):
        self.sock.close()
        self.peer.close()
        self.pool.shutdown()
        for coro in self.coros:
            coro.close()


# Each public method, with arguments that are right.
METHODS = {
    "add_reader": lambda t: (t.sock, print, 1),
    "add_signal_handler": lambda t: (10, print, 1),
    "add_writer": lambda t: (t.sock, print, 1),
    "call_at": lambda t: (1e9, print, 1),
    "call_exception_handler": lambda t: ({"message": "expected"},),
    "call_later": lambda t: (1000, print, 1),
    "call_soon": lambda t: (print, 1),
    "call_soon_threadsafe": lambda t: (print, 1),
    "close": lambda t: (),
    "create_future": lambda t: (),
    "create_task": lambda t: (t.coro(),),
    "default_exception_handler": lambda t: ({"message": "expected"},),
    "get_debug": lambda t: (),
    "get_exception_handler": lambda t: (),
    "get_task_factory": lambda t: (),
    "getaddrinfo": lambda t: ("127.0.0.1", 80),
    "getnameinfo": lambda t: (("127.0.0.1", 80), 3),
    "is_closed": lambda t: (),
    "is_running": lambda t: (),
    "remove_reader": lambda t: (t.sock,),
    "remove_signal_handler": lambda t: (10,),
    "remove_writer": lambda t: (t.sock,),
    "run_in_executor": lambda t: (t.pool, int, 1),
    "run_until_complete": lambda t: (t.coro(),),
    "set_debug": lambda t: (False,),
    "set_default_executor": lambda t: (t.pool,),
    "set_exception_handler": lambda t: (print,),
    "set_task_factory": lambda t: (print,),
    "shutdown_asyncgens": lambda t: (),
    "shutdown_default_executor": lambda t: () if sys.version_info < (3, 12) else (1,),
    "sock_accept": lambda t: (t.sock,),
    "sock_connect": lambda t: (t.sock, "/nonexistent"),
    "sock_recv": lambda t: (t.sock, 1),
    "sock_recv_into": lambda t: (t.sock, bytearray(1)),
    "sock_recvfrom": lambda t: (t.sock, 1),
    "sock_recvfrom_into": lambda t: (t.sock, bytearray(1), 1),
    "sock_sendall": lambda t: (t.sock, b"x"),
    "sock_sendto": lambda t: (t.sock, b"x", "/nonexistent"),
    "stop": lambda t: (),
    "time": lambda t: (),
}
# Those that make transports, processes or servers have test files of their own; a run
# without an end is not for this one either.
ELSEWHERE = {
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "run_forever",
    "sendfile",
    "sock_sendfile",
    "start_tls",
    "subprocess_exec",
    "subprocess_shell",
}
# A name would be looked up in the network.
SKIPPED = {("getaddrinfo", 0): ("text", "bytes", "surrogate")}


def plain(text):
    """An error text without what differs by construction."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    text = re.sub(r"fd=\d+", "fd=", text)
    # 'BaseEventLoop.stop() takes ...' and 'Loop.stop() takes ...'
    return re.sub(r"\b\w+\.(?=\w+\(\) )", "", text)


def kind_of(value, loop):
    """What tells a result from another, whichever loop made it."""
    if value is loop:
        return "the loop"
    for kind in (asyncio.TimerHandle, asyncio.Handle, asyncio.Future, float):
        if isinstance(value, kind):
            return kind.__name__
    if type(value).__module__ == "builtins" and not callable(value):
        return repr(value)
    return type(value).__name__


def outcome(loop, name, args, kwargs):
    try:
        result = getattr(loop, name)(*args, **kwargs)
        if asyncio.iscoroutine(result):
            with contextlib.closing(result):
                if loop.is_closed():
                    result.send(None)
                result = loop.run_until_complete(asyncio.wait_for(result, 5))
        elif isinstance(result, asyncio.Future) and name == "run_in_executor":
            result = loop.run_until_complete(asyncio.wait_for(result, 5))
        return kind_of(result, loop)
    except StopIteration as exc:
        return kind_of(exc.value, loop)
    except Exception as exc:
        return type(exc), plain(str(exc))


def found(factory, name, change, state):
    """The outcome of a call whose arguments `change` has spoilt."""
    loop = factory()
    loop.set_debug(False)
    things = Things(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coroutines that nobody took
        try:
            if state == "closed":
                loop.close()
            args, kwargs = change(METHODS[name](things))
            return outcome(loop, name, args, kwargs)
        finally:
            loop.set_task_factory(None)
            if not loop.is_closed():
                with contextlib.suppress(RuntimeError):
                    loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            things.close()


def cases():
    """(method, position, wrong) for each argument of each method."""
    for name, make in METHODS.items():
        things = Things(None)
        count = len(make(things))
        things.close()
        for position in range(count):
            for wrong in WRONG:
                if wrong not in SKIPPED.get((name, position), ()):
                    yield name, position, wrong


def test_every_public_method_is_here():
    public = {
        name
        for owner in (asyncio.AbstractEventLoop, asyncio.SelectorEventLoop)
        for name in dir(owner)
        if not name.startswith("_") and callable(getattr(owner, name))
    }
    assert public == METHODS.keys() | ELSEWHERE


# the comparison says nothing about these: ours refuses at once what the standard
# loop's heap, or nobody, refuses later; test_timer.py has them
LATER = {"call_at", "call_later"}


@pytest.mark.parametrize("state", ["open", "closed"])
@pytest.mark.parametrize("name", METHODS)
def test_wrong_values(both_factories, faults, name, state):
    differences = []
    for method, position, wrong in cases():
        if method != name or (name in LATER and position == 0):
            continue

        def change(args, position=position, wrong=wrong):
            return [*args[:position], WRONG[wrong], *args[position + 1 :]], {}

        standard, ours = (found(f, name, change, state) for f in both_factories)
        if standard != ours:
            differences.append((position, wrong, standard, ours))
    faults.take_log()
    assert differences == []


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", sorted(LATER))
def test_wrong_times_do_not_crash(loop, faults, name, wrong):
    loop.set_debug(False)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        handle = getattr(loop, name)(WRONG[wrong], int)
        handle.cancel()
    loop.call_soon(loop.stop)
    with contextlib.suppress(TypeError, OverflowError):
        loop.run_forever()
    faults.take_log()
    assert not loop.is_running()


# How many arguments are missing or too many, and unknown keywords. The text for a
# method in C is the interpreter's for C functions.
@pytest.mark.parametrize("state", ["open", "closed"])
@pytest.mark.parametrize("name", METHODS)
def test_wrong_counts_and_keywords(both_factories, faults, name, state):
    variadic = {"add_reader", "add_writer", "add_signal_handler", "run_in_executor"}
    variadic |= {"call_soon", "call_soon_threadsafe", "call_later", "call_at"}
    changes = [lambda args: ([], {}), lambda args: (args, {"unknown": 1})]
    changes += [lambda args, n=n: (args[:n], {}) for n in range(4)]
    if name not in variadic:
        changes.append(lambda args: ([*args, 1, 2, 3, 4, 5], {}))
    differences = []
    for number, change in enumerate(changes):
        standard, ours = (found(f, name, change, state) for f in both_factories)
        if isinstance(standard, tuple) and standard[0] is TypeError:
            if ours[0] is not TypeError:
                differences.append((number, standard, ours))
        elif standard != ours:
            differences.append((number, standard, ours))
    faults.take_log()
    assert differences == []


@pytest.mark.parametrize("name", METHODS)
def test_keywords_are_the_standard_loops(both_factories, faults, name):
    parameters = inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters
    names = [
        parameter.name
        for parameter in parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and parameter.name != "self"
    ]

    def change(args):
        return [], dict(zip(names, args, strict=False))

    standard, ours = (found(f, name, change, "open") for f in both_factories)
    faults.take_log()
    assert ours == standard


@pytest.mark.parametrize(
    "name", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"]
)
@pytest.mark.parametrize("wrong", ["text", 1, 1.5, {}, object()], ids=repr)
def test_wrong_contexts(loop, faults, name, wrong):
    # the standard loop finds out when the callback runs
    first = () if "soon" in name else (0,)
    ran = []
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))
    try:
        getattr(loop, name)(*first, ran.append, 1, context=wrong)
    except TypeError as exc:
        caught.append(exc)
    loop.call_soon(ran.append, 2)
    with contextlib.suppress(AttributeError, TypeError):
        loop.stop()
        loop.run_forever()
    loop.stop()
    loop.run_forever()
    faults.take_log()
    assert ran == [2]
    assert len(caught) <= 1


@pytest.mark.parametrize("name", METHODS)
def test_method_of_another_type(loop_factory, name):
    loop = loop_factory()
    method = getattr(type(loop), name)
    loop.close()
    if name in ("create_task", "run_until_complete"):
        return  # their arguments would be coroutines nobody awaits
    things = Things(None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.closing(things), pytest.raises((TypeError, AttributeError)):
            result = method(object(), *METHODS[name](things))
            if asyncio.iscoroutine(result):
                with contextlib.closing(result):
                    result.send(None)
            # some of the standard's Python methods do not look at self
            raise TypeError


@only_asynccore
@pytest.mark.parametrize(
    "name",
    ["call_soon", "call_soon_threadsafe", "call_later", "call_at", "time", "stop"],
)
def test_c_method_refuses_another_type(loop, name):
    with pytest.raises(TypeError, match=r"requires|doesn't apply"):
        getattr(type(loop), name)(object())


def test_wrong_arguments_of_the_class(loop_factory, faults):
    loop = loop_factory()
    kind = type(loop)
    loop.close()
    with pytest.raises(TypeError):
        kind(unknown=1)
    with pytest.raises(TypeError):
        kind(1, 2, 3)
    # a finalizer of the standard loop fails on what __init__ would have set
    texts = faults.take_unraisable()
    assert all(text.startswith(("AttributeError", "ResourceW")) for text in texts)


ATTRIBUTES = ["slow_callback_duration", "_debug", "_task_factory", "anything"]


@pytest.mark.parametrize("name", ATTRIBUTES)
@pytest.mark.parametrize("wrong", ["text", None, -1, 10**400, math.nan], ids=repr)
def test_wrong_attributes_do_not_crash(loop, faults, name, wrong):
    old = getattr(loop, name, None)
    with contextlib.suppress(TypeError, OverflowError, ValueError):
        setattr(loop, name, wrong)
    loop.call_soon(int)
    with contextlib.suppress(TypeError):
        loop.stop()
        loop.run_forever()
    setattr(loop, name, old)
    loop.stop()
    loop.run_forever()
    faults.take_log()
    assert not loop.is_running()


def test_deleted_attributes_do_not_crash(loop):
    for name in [*ATTRIBUTES, "_selector", "_ready", "_scheduled", "_closed"]:
        with contextlib.suppress(AttributeError, TypeError):
            old = getattr(loop, name)
            delattr(loop, name)
            setattr(loop, name, old)
    loop.stop()
    loop.run_forever()
    assert not loop.is_running()


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("call_soon", (), "BaseEventLoop.call_soon() missing 1"),
        ("call_soon_threadsafe", (), "BaseEventLoop.call_soon_threadsafe() missing 1"),
        ("call_later", (), "BaseEventLoop.call_later() missing 2"),
        ("call_at", (1,), "BaseEventLoop.call_at() missing 1"),
        ("add_reader", (0,), "BaseSelectorEventLoop.add_reader() missing 1"),
        ("add_writer", (), "BaseSelectorEventLoop.add_writer() missing 2"),
        ("remove_reader", (), "BaseSelectorEventLoop.remove_reader() missing 1"),
        ("remove_writer", (), "BaseSelectorEventLoop.remove_writer() missing 1"),
    ],
)
def test_missing_arguments_name_the_class(loop, name, args, text):
    with pytest.raises(TypeError) as info:
        getattr(loop, name)(*args)
    assert str(info.value).startswith(text)
