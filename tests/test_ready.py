"""call_soon: the order of a turn, contexts, what a callback keeps alive."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import weakref

import pytest

from support.turns import Trace, turn

var = contextvars.ContextVar("var", default="outside")


class Thing:
    pass


@pytest.fixture
def trace():
    return Trace()


@pytest.fixture
def pairs():
    """Two connected pairs of sockets."""
    made = [socket.socketpair() for _ in range(2)]
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


def test_order_and_arguments(loop, trace):
    def callback(*args):
        trace.append(args)

    for args in [(), (1,), (1, 2), (1, 2, 3), tuple(range(300))]:
        handle = loop.call_soon(callback, *args)
        assert isinstance(handle, asyncio.Handle)
    turn(loop)
    assert trace == [(), (1,), (1, 2), (1, 2, 3), tuple(range(300))]


def test_nothing_runs_before_the_loop_does(loop, trace):
    loop.call_soon(trace.append, 1)
    assert trace == []
    turn(loop)
    turn(loop)
    assert trace == [1]


def test_a_turn_runs_only_what_was_ready_at_its_start(loop, trace):
    def first():
        trace.append("first")
        loop.call_soon(trace.append, "added")

    loop.call_soon(first)
    loop.call_soon(trace.append, "second")
    turn(loop)
    assert trace == ["first", "second"]
    turn(loop)
    assert trace == ["first", "second", "added"]


def test_many_callbacks_keep_their_order(loop, trace):
    def refill(n):
        trace.append(n)
        if n < 5000:
            loop.call_soon(refill, n + 5000)

    for n in range(5000):
        loop.call_soon(refill, n)
    turn(loop, 2)
    assert trace == list(range(10000))


@pytest.mark.parametrize("size", [0, 1, 7, 63, 64, 65, 1000])
def test_queue_of_every_fill_wraps_round(loop, trace, size):
    for first in range(0, 5 * size, max(size, 1)):
        for n in range(first, first + size):
            loop.call_soon(trace.append, n)
        turn(loop)
    assert trace == list(range(5 * size))


def test_callback_that_reschedules_itself_forever_does_not_keep_a_turn(loop, trace):
    def again():
        trace.append("again")
        loop.call_soon(again)

    loop.call_soon(again)
    turn(loop, 3)
    assert trace == ["again"] * 3


def test_readers_run_behind_what_is_ready_and_before_what_they_add(loop, trace, pairs):
    (a, a_peer), (c, c_peer) = pairs
    a_peer.send(b"x")
    c_peer.send(b"x")

    def readable(sock, name):
        sock.recv(1)
        trace.append(name)
        loop.call_soon(trace.append, "X" + name)

    loop.add_reader(a, readable, a, "A")
    loop.add_reader(c, readable, c, "C")
    turn(loop, 2)
    assert sorted(trace[:2]) == ["A", "C"]
    assert trace[2:] == ["X" + name for name in trace[:2]]
    loop.remove_reader(a)
    loop.remove_reader(c)


def test_order_of_ready_reader_and_due_timer(loop, trace, pairs):
    (a, peer), _ = pairs
    peer.send(b"x")

    def readable():
        a.recv(1)
        trace.append("reader")
        loop.call_soon(trace.append, "soon of reader")
        loop.call_later(-1, trace.append, "timer of reader")

    def due():
        trace.append("timer")
        loop.call_soon(trace.append, "soon of timer")

    loop.call_later(0, due)
    loop.add_reader(a, readable)
    loop.call_soon(
        trace.note("ready", lambda: loop.call_soon(trace.append, "soon of ready"))
    )
    turn(loop, 2)
    assert trace == [
        "ready",
        "reader",
        "timer",
        "soon of ready",
        "soon of reader",
        "soon of timer",
        "timer of reader",
    ]
    loop.remove_reader(a)


def test_zero_delay_runs_behind_call_soon(loop, trace):
    loop.call_later(0, trace.append, "later")
    loop.call_soon(trace.append, "soon")
    turn(loop)
    assert trace == ["soon", "later"]


def test_zero_delay_runs_behind_call_soon_inside_a_callback(loop, trace):
    def callback():
        loop.call_later(0, trace.append, "later")
        loop.call_soon(trace.append, "soon")

    loop.call_soon(callback)
    turn(loop, 2)
    assert trace == ["soon", "later"]


def test_timer_of_the_turn_can_be_cancelled_by_a_ready_callback(loop, trace):
    timer = loop.call_later(-1, trace.append, "timer")
    loop.call_soon(trace.note("ready", timer.cancel))
    turn(loop, 2)
    assert trace == ["ready"]


def test_reader_of_the_turn_can_be_removed_by_a_ready_callback(loop, trace, pairs):
    (a, peer), _ = pairs
    peer.send(b"x")
    loop.add_reader(a, trace.append, "reader")
    loop.call_soon(trace.note("ready", lambda: loop.remove_reader(a)))
    turn(loop, 2)
    assert trace == ["ready"]


def test_callback_can_cancel_a_later_one_of_its_batch(loop, trace):
    handles = []
    loop.call_soon(trace.note(1, lambda: handles[1].cancel()))
    handles += [loop.call_soon(trace.append, n) for n in (2, 3, 4)]
    turn(loop)
    assert trace == [1, 2, 4]


def test_stop_lets_the_batch_finish(loop, trace):
    loop.call_soon(trace.append, 1)
    loop.call_soon(trace.note(2, loop.stop, lambda: loop.call_soon(trace.append, 4)))
    loop.call_soon(trace.append, 3)
    loop.run_forever()
    assert trace == [1, 2, 3]
    turn(loop)
    assert trace == [1, 2, 3, 4]


def test_callbacks_see_the_running_loop(loop, trace):
    loop.call_soon(lambda: trace.append(asyncio.get_running_loop()))
    turn(loop)
    assert trace == [loop]


def test_context_is_copied_when_scheduled(loop, trace):
    def callback():
        trace.append(var.get())
        var.set("inside")
        trace.append(var.get())

    def schedule():
        var.set("scheduled")
        loop.call_soon(callback)
        var.set("after")

    contextvars.copy_context().run(schedule)
    loop.call_soon(lambda: trace.append(var.get()))
    turn(loop)
    assert trace == ["scheduled", "inside", "outside"]
    assert var.get() == "outside"


def test_given_context_is_used_itself(loop, trace):
    context = contextvars.copy_context()

    def callback(value):
        trace.append(var.get())
        var.set(value)

    loop.call_soon(callback, 1, context=context)
    loop.call_soon(callback, 2, context=context)
    loop.call_later(0, callback, 3, context=context)
    loop.call_soon(lambda: trace.append(var.get()))
    loop.call_soon(callback, 4, context=None)
    turn(loop)
    assert trace == ["outside", 1, "outside", "outside", 2]
    assert context[var] == 3


def test_consecutive_callbacks_of_one_context_are_each_inside(loop, trace):
    mine = contextvars.copy_context()
    other = contextvars.copy_context()

    def fail():
        var.set("failed")
        raise LookupError("expected")

    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(var.get()))
    loop.call_soon(var.set, "mine", context=mine)
    loop.call_soon(fail, context=mine)
    loop.call_soon(lambda: trace.append(var.get()), context=mine)
    loop.call_soon(lambda: trace.append(var.get()), context=other)
    turn(loop)
    assert trace == ["failed", "outside"]
    assert len(caught) == 1
    assert var.get() == "outside"


def test_context_already_entered_is_reported(loop, trace, faults):
    context = contextvars.copy_context()
    loop.call_soon(trace.append, 1, context=context)
    loop.call_soon(trace.append, 2)
    context.run(turn, loop)
    assert trace == [2]
    (text,) = faults.take_log()
    assert text.startswith("Exception in callback ")
    assert text.endswith(
        f"RuntimeError: cannot enter context: {context!r} is already entered"
    )


def test_nested_run_of_another_context_inside_a_callback(loop, trace):
    context = contextvars.copy_context()

    def callback():
        trace.append(contextvars.copy_context().run(var.get))
        context.run(var.set, "nested")
        trace.append(var.get())

    loop.call_soon(callback)
    turn(loop)
    assert trace == ["outside", "outside"]
    assert context[var] == "nested"


def test_arguments_are_released_when_the_callback_has_run(loop):
    thing = Thing()
    gone = weakref.ref(thing)
    loop.call_soon(lambda thing: None, thing)
    del thing
    assert gone() is not None
    turn(loop)
    gc.collect()
    assert gone() is None


def test_arguments_of_a_cancelled_handle_are_released_at_once(loop):
    thing = Thing()
    gone = weakref.ref(thing)
    handle = loop.call_soon(lambda thing: None, thing)
    del thing
    handle.cancel()
    assert gone() is None
    turn(loop)


def test_arguments_of_pending_callbacks_are_released_by_close(loop_factory):
    loop = loop_factory()
    things = [Thing(), Thing()]
    gone = [weakref.ref(thing) for thing in things]
    loop.call_soon(print, things[0])
    loop.call_later(1000, print, things[1])
    del things
    loop.close()
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_destructor_of_an_argument_may_schedule(loop, trace):
    class Last:
        def __del__(self):
            loop.call_soon(trace.append, "last")

    loop.call_soon(lambda last: trace.append("callback"), Last())
    turn(loop, 2)
    assert trace == ["callback", "last"]


def test_destructor_of_a_cancelled_argument_may_cancel_and_schedule(loop, trace):
    class Last:
        def __del__(self):
            other.cancel()
            loop.call_soon(trace.append, "last")

    handle = loop.call_soon(trace.append, Last())
    other = loop.call_soon(trace.append, "other")
    handle.cancel()
    turn(loop, 2)
    assert trace == ["last"]


def test_exception_in_a_callback_does_not_stop_the_batch(loop, trace):
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))
    loop.call_soon(trace.append, 1)
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(trace.append, 2)
    turn(loop)
    assert trace == [1, 2]
    (context,) = caught
    assert isinstance(context["exception"], ZeroDivisionError)


def test_callback_that_is_not_callable_fails_when_it_runs(loop):
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))
    loop.set_debug(False)
    loop.call_soon(42, 1)
    turn(loop)
    (context,) = caught
    assert type(context["exception"]) is TypeError
    assert str(context["exception"]) == "'int' object is not callable"
    assert context["message"].startswith("Exception in callback 42(")


def test_wrong_calls(loop):
    with pytest.raises(TypeError):
        loop.call_soon()
    with pytest.raises(TypeError):
        loop.call_soon(print, unknown=1)
    with pytest.raises(TypeError):
        loop.call_soon(print, context=None, other=None)
    turn(loop)


def test_callback_by_keyword(loop, trace):
    loop.call_soon(callback=lambda: trace.append("keyword"))
    turn(loop)
    assert trace == ["keyword"]


def test_callback_may_be_any_callable(loop, trace):
    class Callable:
        def __call__(self, *args):
            trace.append(args)

        def method(self, *args):
            trace.append(("method", *args))

    loop.call_soon(Callable(), 1)
    loop.call_soon(Callable().method, 2)
    loop.call_soon(trace.append, "builtin")
    loop.call_soon(type("Class", (), {"__init__": lambda self: trace.append("class")}))
    turn(loop)
    assert trace == [(1,), ("method", 2), "builtin", "class"]


def test_deep_chain_of_callbacks_uses_no_stack(loop, trace):
    def step(n):
        if n:
            loop.call_soon(step, n - 1)
        else:
            trace.append("end")
            loop.stop()

    loop.call_soon(step, 20000)
    loop.run_forever()
    assert trace == ["end"]


def test_io_is_not_starved_by_ready_callbacks(loop, pairs):
    (a, peer), _ = pairs
    spins = 0
    read = []

    def spin():
        nonlocal spins
        spins += 1
        if read:
            loop.stop()
        else:
            loop.call_soon(spin)

    loop.add_reader(a, lambda: read.append(a.recv(1)))
    loop.call_soon(spin)
    loop.call_soon(peer.send, b"x")
    loop.run_forever()
    loop.remove_reader(a)
    assert read == [b"x"]
    assert spins <= 300


def test_what_a_callback_sets_is_not_there_for_the_next(loop, trace):
    def callback(n):
        trace.append(var.get())
        var.set(n)
        loop.call_soon(callback, n + 1) if n < 3 else loop.stop()

    def apart(n):
        trace.append(var.get())
        var.set(n)

    for n in range(3):
        loop.call_soon(apart, n)
    turn(loop)
    for n in range(3):
        loop.call_soon(apart, n)
    turn(loop)
    assert trace == ["outside"] * 6
    del trace[:]
    loop.call_soon(callback, 1)
    loop.run_forever()
    assert trace == ["outside", 1, 2]  # each has a copy of the one that scheduled it


def test_context_that_a_callback_keeps_is_its_own(loop):
    contexts = []

    def callback():
        # the copy of a copy: get_context() of a handle came in 3.12
        contexts.append(contextvars.copy_context())

    handles = [loop.call_soon(callback) for _ in range(3)]
    kept = [handle._context for handle in handles]
    del handles
    turn(loop)
    for n, context in enumerate(kept):
        context.run(var.set, n)
    for _ in range(5):
        loop.call_soon(callback)
    turn(loop)
    assert [context[var] for context in kept] == [0, 1, 2]
    assert not any(var in context for context in contexts)


def test_context_seen_by_a_weak_reference_is_its_own(loop):
    handle = loop.call_soon(int)
    seen = weakref.ref(handle._context)
    del handle
    turn(loop)
    loop.call_soon(int)
    assert seen() is None
    turn(loop)


def test_context_found_by_the_collector_is_its_own(loop):
    def contexts():
        gc.collect()
        return [o for o in gc.get_objects() if type(o) is contextvars.Context]

    before = contexts()
    for _ in range(10):
        loop.call_soon(int)
    turn(loop)
    found = [c for c in contexts() if not any(c is b for b in before)]
    for context in found:
        context.run(var.set, "inside")
    trace = []
    for _ in range(20):
        loop.call_soon(lambda: trace.append(var.get()))
    turn(loop)
    assert trace == ["outside"] * 20


def test_value_of_a_variable_dies_with_its_callback(loop):
    class Value:
        pass

    values = []

    def callback():
        value = Value()
        values.append(weakref.ref(value))
        var.set(value)

    for _ in range(5):
        loop.call_soon(callback)
    turn(loop)
    gc.collect()
    assert [value() for value in values] == [None] * 5


def test_handle_seen_by_a_weak_reference_is_not_used_again(loop):
    seen = []

    def callback():
        seen.append(refs[0]())

    refs = [weakref.ref(loop.call_soon(callback))]
    turn(loop)
    handle = seen.pop()
    assert handle._callback is callback
    del handle
    other = loop.call_soon(int)
    assert refs[0]() is None
    turn(loop)
    del other
