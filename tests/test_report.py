"""What becomes of an exception that has no caller: handlers, default and custom."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
import weakref

import pytest

from support.turns import Trace, on_shallow_stack, turn


class Odd(BaseException):
    """No Exception, and none that ends a run."""


@pytest.fixture
def trace():
    return Trace()


def fail(exc=None):
    raise exc or LookupError("expected")


def remove_and_fail(loop, sock):
    loop.remove_reader(sock)
    fail()


def test_default_handler_logs(loop, faults):
    loop.set_debug(False)
    loop.call_soon(fail)
    turn(loop)
    (text,) = faults.take_log()
    line = fail.__code__.co_firstlineno
    assert text.splitlines() == [
        f"Exception in callback fail() at {__file__}:{line}",
        f"handle: <Handle fail() at {__file__}:{line}>",
        "LookupError: expected",
    ]


SOURCES = {
    "ready": lambda loop, sock: loop.call_soon(fail),
    "arguments": lambda loop, sock: loop.call_soon(fail, LookupError("expected")),
    "threadsafe": lambda loop, sock: loop.call_soon_threadsafe(fail),
    "timer": lambda loop, sock: loop.call_at(5, fail),
    "reader": lambda loop, sock: loop.add_reader(sock, fail),
    "writer": lambda loop, sock: loop.add_writer(sock, fail),
    "removed": lambda loop, sock: loop.add_reader(sock, remove_and_fail, loop, sock),
    "lambda": lambda loop, sock: loop.call_soon(lambda: 1 / 0),
    "partial": lambda loop, sock: loop.call_soon(fail, Odd("odd")),
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_report_is_the_standard_loops(both_factories, source, debug, faults):
    if source in ("reader", "writer", "removed"):
        debug = False  # such a handle tells the line of asyncio's that made it

    def found(factory):
        loop = factory()
        loop.set_debug(debug)
        a, b = socket.socketpair()
        with a, b:
            b.send(b"x")
            SOURCES[source](loop, a)
            turn(loop)
            loop.remove_reader(a)
            loop.remove_writer(a)
        loop.close()
        return faults.take_log()

    standard, ours = (
        on_shallow_stack(lambda factory=factory: found(factory))
        for factory in both_factories
    )
    assert len(standard) == 1
    assert ours == standard


@pytest.mark.parametrize("source", SOURCES)
def test_context_is_the_standard_loops(both_factories, source):
    def found(factory):
        loop = factory()
        contexts = []
        loop.set_exception_handler(lambda loop, context: contexts.append(context))
        a, b = socket.socketpair()
        with a, b:
            b.send(b"x")
            SOURCES[source](loop, a)
            turn(loop)
            loop.remove_reader(a)
            loop.remove_writer(a)
        loop.close()
        (context,) = contexts
        exc = context["exception"]
        frames = []
        tb = exc.__traceback__
        while tb is not None:
            frames.append(tb.tb_frame.f_code.co_name)
            tb = tb.tb_next
        shown = [type(exc), str(exc), context["message"], sorted(context)]
        # the standard traceback begins in Handle._run, ours in the callback
        return shown, [name for name in frames if name != "_run"]

    standard, ours = map(found, both_factories)
    assert ours == standard


def test_handler_gets_loop_and_context(loop, trace):
    loop.set_exception_handler(lambda *args: trace.append(args))
    exc = LookupError("expected")
    handle = loop.call_soon(fail, exc)
    turn(loop)
    ((got_loop, context),) = trace
    assert got_loop is loop
    assert set(context) >= {"message", "exception", "handle"}
    assert context["exception"] is exc
    assert context["handle"] is handle


def test_handle_of_another_loop_is_reported_to_that(loop_factory, trace):
    loop, other = loop_factory(), loop_factory()
    loop.set_exception_handler(lambda *args: trace.append("loop"))
    other.set_exception_handler(lambda loop, _: trace.append(loop is other))
    handles = [other.call_soon(fail), other.call_later(60, fail)]
    for handle in [*handles, other.call_soon_threadsafe(fail)]:
        loop._add_callback(handle)
    turn(loop)
    assert trace == [True] * 3
    loop.close()
    other.close()


def test_handler_can_be_read_and_reset(loop, faults):
    assert loop.get_exception_handler() is None

    def handler(loop, context):
        pass

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.call_soon(fail)
    turn(loop)
    assert faults.take_log() == []
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None
    loop.call_soon(fail)
    turn(loop)
    assert len(faults.take_log()) == 1


@pytest.mark.parametrize("wrong", [1, "x", object()], ids=["int", "str", "object"])
def test_handler_must_be_callable(loop, wrong):
    with pytest.raises(TypeError) as caught:
        loop.set_exception_handler(wrong)
    assert str(caught.value) == f"A callable object or None is expected, got {wrong!r}"
    assert loop.get_exception_handler() is None


def test_handler_that_raises(loop, faults, trace):
    def handler(loop, context):
        raise ValueError("in the handler")

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    loop.call_soon(trace.append, 1)
    turn(loop)
    assert trace == [1]
    (text,) = faults.take_log()
    assert text.startswith("Unhandled error in exception handler\ncontext: {")
    assert text.endswith("ValueError: in the handler")
    assert "LookupError('expected')" in text


def test_handler_that_raises_what_is_no_exception(loop, faults, trace):
    loop.set_exception_handler(lambda loop, context: fail(Odd("in the handler")))
    loop.call_soon(fail)
    loop.call_soon(trace.append, 1)
    turn(loop)
    assert trace == [1]
    (text,) = faults.take_log()
    assert text.startswith("Unhandled error in exception handler")
    assert text.endswith("Odd: in the handler")


def test_transport_that_fails_with_what_is_no_exception(script):
    script(
        """
        import asyncio, socket

        seen = []

        def handler(loop, context):
            try:
                raise ValueError
            except ValueError as exc:
                seen.append((context["exception"], exc.__context__))

        async def main():
            loop.set_exception_handler(handler)
            for wrong in ("text", 5, None, ValueError):
                a, b = socket.socketpair()
                made = await loop.create_connection(asyncio.Protocol, sock=a)
                made[0]._fatal_error(wrong, "message")
                assert seen.pop() == (wrong, None)
                assert made[0].is_closing()
                await asyncio.sleep(0)
                b.close()

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )


def test_handler_with_wrong_signature(loop, faults, trace):
    loop.set_exception_handler(lambda: None)
    loop.call_soon(fail)
    loop.call_soon(trace.append, 1)
    turn(loop)
    assert trace == [1]
    (text,) = faults.take_log()
    assert "takes 0 positional arguments but 2 were given" in text


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_handler_that_ends_the_run(loop, kind, trace):
    loop.set_exception_handler(lambda loop, context: fail(kind("expected")))
    loop.call_soon(fail)
    loop.call_soon(trace.append, 1)
    with pytest.raises(kind, match="expected"):
        turn(loop)
    turn(loop)
    assert trace == [1]


def test_handler_that_stops_the_loop(loop, trace):
    loop.set_exception_handler(lambda loop, context: loop.stop())
    loop.call_soon(fail)
    loop.call_soon(trace.append, 1)
    loop.run_forever()
    assert trace == [1]


def test_handler_that_schedules_and_cancels(loop, trace):
    def handler(loop, context):
        context["handle"].cancel()
        other.cancel()
        loop.call_soon(trace.append, "scheduled")

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    other = loop.call_soon(trace.append, "cancelled")
    turn(loop, 2)
    assert trace == ["scheduled"]


def test_handler_that_replaces_itself(loop, trace):
    def first(loop, context):
        trace.append("first")
        loop.set_exception_handler(lambda loop, context: trace.append("second"))

    loop.set_exception_handler(first)
    loop.call_soon(fail)
    loop.call_soon(fail)
    turn(loop)
    assert trace == ["first", "second"]


def test_handler_may_defer_to_the_default(loop, faults):
    loop.set_exception_handler(
        lambda loop, context: loop.default_exception_handler(
            context | {"message": "mine"}
        )
    )
    loop.call_soon(fail)
    turn(loop)
    (text,) = faults.take_log()
    assert text.startswith("mine\nhandle: <Handle fail()")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="handlers got contexts in 3.12")
def test_handler_runs_in_the_context_of_the_handle(loop, trace):
    var = contextvars.ContextVar("var", default="outside")

    def failing():
        var.set("inside")
        fail()

    loop.set_exception_handler(lambda loop, context: trace.append(var.get()))
    loop.call_soon(failing)
    loop.call_later(-1, failing)
    loop.call_soon_threadsafe(failing)
    turn(loop)
    assert trace == ["inside"] * 3


def test_override_of_call_exception_handler_on_the_instance(loop, trace):
    loop.call_exception_handler = lambda context: trace.append(context["message"])
    loop.call_soon(fail)
    loop.call_later(-1, fail)
    turn(loop)
    assert len(trace) == 2
    assert all(text.startswith("Exception in callback fail()") for text in trace)


def test_override_of_call_exception_handler_in_a_subclass(loop_factory, trace):
    base = loop_factory()
    base.close()

    class Sub(type(base)):
        def call_exception_handler(self, context):
            trace.append(context["message"])

        def default_exception_handler(self, context):
            trace.append("default")

    loop = Sub()
    loop.call_soon(fail)
    turn(loop)
    type(loop).__mro__[1].call_exception_handler(loop, {"message": "x"})
    loop.close()
    assert len(trace) == 2
    assert trace[1] == "default"


def test_override_that_raises_leaves_the_run(loop, trace):
    def broken(context):
        raise ValueError("in the override")

    loop.call_exception_handler = broken
    loop.call_soon(fail)
    loop.call_soon(trace.append, 1)
    with pytest.raises(ValueError, match="in the override"):
        turn(loop)
    del loop.call_exception_handler
    turn(loop)
    assert trace == [1]


class Failing(asyncio.Protocol):
    """Each of its calls after the first raises."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        fail()

    def eof_received(self):
        fail()


@pytest.mark.parametrize("event", ["data", "end"])
def test_context_of_a_transport_s_event(loop, run, event):
    contexts = []

    def handler(context):
        contexts.append(context | {"handle": repr(context.get("handle"))})
        if "transport" in context:
            raise ValueError("in the override")

    async def main():
        loop.set_debug(False)
        loop.call_exception_handler = handler
        here, there = socket.socketpair()
        with there:
            transport, _ = await loop.create_connection(Failing, sock=here)
            there.send(b"x") if event == "data" else there.shutdown(socket.SHUT_WR)
            while len(contexts) < 2:
                await asyncio.sleep(0)
            transport.abort()
            await asyncio.sleep(0)
        return transport

    transport = run(main())
    del loop.call_exception_handler
    context = contexts[1]
    assert sorted(context) == ["exception", "handle", "message"]
    assert type(context["exception"]) is ValueError
    name = type(transport).__name__
    assert context["message"] == f"Exception in callback {name}._read_ready()"
    assert context["handle"].startswith(f"<Handle {name}._read_ready()")


def test_default_handler_that_raises(loop, faults):
    def broken(context):
        raise ValueError("in the default handler")

    loop.default_exception_handler = broken
    loop.call_soon(fail)
    turn(loop)
    (text,) = faults.take_log()
    assert text.startswith("Exception in default exception handler")
    loop.set_exception_handler(lambda loop, context: 1 / 0)
    loop.call_soon(fail)
    turn(loop)
    (text,) = faults.take_log()
    assert text.startswith(
        "Exception in default exception handler while handling an unexpected error"
    )


def test_repr_of_the_callback_that_raises(loop, trace):
    class Bad:
        def __call__(self):
            fail()

        def __repr__(self):
            raise ValueError("in repr")

    loop.call_soon(Bad())
    loop.call_soon(trace.append, 1)
    with pytest.raises(ValueError, match="in repr") as caught:
        turn(loop)
    assert type(caught.value.__context__) is LookupError
    turn(loop)
    assert trace == [1]


def test_report_by_hand(loop, faults):
    loop.call_exception_handler({})
    loop.call_exception_handler({"message": "by hand", "zebra": 1, "ape": "x"})
    assert faults.take_log() == [
        "Unhandled exception in event loop",
        "by hand\nape: 'x'\nzebra: 1",
    ]


def test_report_after_close(loop_factory, faults):
    loop = loop_factory()
    loop.close()
    loop.call_exception_handler({"message": "after close"})
    assert faults.take_log() == ["after close"]


def test_debug_report_tells_where_the_handle_came_from(loop, faults):
    loop.set_debug(True)
    loop.call_soon(fail)
    turn(loop)
    (text,) = faults.take_log()
    assert "source_traceback: Object created at (most recent call last):" in text
    assert "test_debug_report_tells_where_the_handle_came_from" in text


def test_debug_report_names_the_current_handle(loop, faults):
    loop.set_debug(True)

    def reports():
        loop.call_exception_handler({"message": "by hand"})

    loop.call_soon(reports)
    turn(loop)
    (text,) = faults.take_log()
    assert text.startswith("by hand\nhandle_traceback: Handle created at")
    assert "test_debug_report_names_the_current_handle" in text


def test_lost_task_exception(loop, faults):
    async def lost():
        fail()

    task = loop.create_task(lost())
    turn(loop, 2)
    assert task.done()
    del task
    gc.collect()
    (text,) = faults.take_log()
    assert text.startswith("Task exception was never retrieved")
    assert text.endswith("LookupError: expected")


def test_exception_is_not_kept_by_the_loop(loop):
    class Kept(Exception):
        pass

    exc = Kept()
    gone = weakref.ref(exc)
    loop.set_exception_handler(lambda loop, context: None)
    loop.call_soon(fail, exc)
    del exc
    turn(loop)
    gc.collect()
    assert gone() is None
    assert asyncio._get_running_loop() is None


def test_implicit_context_of_an_exception_in_the_handler(loop, trace):
    # what the handler raises knows what it was handling
    def handler(loop, context):
        try:
            raise ValueError("in the handler")
        except ValueError as exc:
            trace.append((type(context["exception"]), exc.__context__))

    loop.set_exception_handler(handler)
    loop.call_soon(fail)
    turn(loop)
    ((kind, implicit),) = trace
    assert kind is LookupError
    assert isinstance(implicit, LookupError)
    trace.clear()
