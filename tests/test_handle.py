"""Handle and TimerHandle: what call_soon, call_later and call_at return."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import gc
import socket
import sys
import threading
import tracemalloc
import weakref
from asyncio import format_helpers

import pytest

from support import only_asynccore
from support.turns import Trace, on_shallow_stack, turn

HANDLE_MAKERS = {
    "call_soon": lambda loop, *args: loop.call_soon(*args),
    "call_later": lambda loop, *args: loop.call_later(-1, *args),
    "call_at": lambda loop, *args: loop.call_at(loop.time() - 1, *args),
    "threadsafe": lambda loop, *args: loop.call_soon_threadsafe(*args),
}


@pytest.fixture(params=HANDLE_MAKERS)
def make(request, loop):
    """make(callback, *args): a handle of each kind, due in the next turn."""
    return lambda *args: HANDLE_MAKERS[request.param](loop, *args)


@pytest.fixture
def trace():
    return Trace()


def callback(*args):
    """Does nothing, and has a name and a line."""


def test_types(loop):
    soon = loop.call_soon(callback)
    later = loop.call_later(1, callback)
    at = loop.call_at(1, callback)
    safe = loop.call_soon_threadsafe(callback)
    for handle in (soon, later, at, safe):
        assert isinstance(handle, asyncio.Handle)
    for timer in (later, at):
        assert isinstance(timer, asyncio.TimerHandle)
    for handle in (soon, safe):
        assert not isinstance(handle, asyncio.TimerHandle)


def test_kind_of_threadsafe_handle(loop):
    kind = getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)
    assert isinstance(loop.call_soon_threadsafe(callback), kind)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("make_name", HANDLE_MAKERS)
def test_repr_is_that_of_the_standard_handle(both_factories, make_name, debug):
    class Callable:
        def __call__(self):
            pass

        def method(self):
            pass

        def __repr__(self):
            return "Callable"

    cases = [
        (callback,),
        (callback, 1, "two", b"3"),
        (lambda: None,),
        (Callable(),),
        (Callable().method, 1),
        (print, "x" * 1000),
        (functools.partial(callback, 1, key=2), 3),
        (functools.partial(functools.partial(callback, 1), 2),),
    ]

    def texts(factory):
        loop = factory()
        loop.set_debug(debug)
        loop.time = lambda: 1000.0
        found = []
        for case in cases:
            handle = HANDLE_MAKERS[make_name](loop, *case)
            found.append(repr(handle))
            handle.cancel()
            found += [repr(handle), str(handle)]
        loop.close()
        return found

    standard, ours = map(texts, both_factories)
    assert ours == standard
    assert len(set(standard)) >= 5


def test_repr_after_the_run(loop, make):
    handle = make(callback)
    before = repr(handle)
    turn(loop)
    assert repr(handle) == before
    assert "cancelled" not in before


def test_repr_of_a_failing_argument(loop):
    class Bad:
        def __repr__(self):
            raise LookupError("expected")

    loop.set_debug(False)
    handle = loop.call_soon(Bad())
    with pytest.raises(LookupError):
        repr(handle)
    handle.cancel()


def test_cancel(loop, make, trace):
    handle = make(trace.append, 1)
    assert handle.cancelled() is False
    assert handle.cancel() is None
    assert handle.cancelled() is True
    handle.cancel()
    turn(loop)
    assert trace == []
    handle.cancel()
    assert handle.cancelled() is True


def test_cancel_after_the_run(loop, make, trace):
    handle = make(trace.append, 1)
    turn(loop)
    assert handle.cancelled() is False
    handle.cancel()
    assert handle.cancelled() is True
    turn(loop)
    assert trace == [1]


def test_cancel_with_a_repr_that_fails(loop, make):
    """Cancelled for good, although the callback is still there."""
    calls = []

    class Unshown:
        def __call__(self):
            calls.append(self)

        def __repr__(self):
            raise ZeroDivisionError

    loop.set_debug(True)
    handle = make(Unshown())
    with pytest.raises(ZeroDivisionError):
        handle.cancel()
    assert handle.cancelled()
    loop.set_debug(False)
    turn(loop)
    assert not calls


def test_cancel_itself_while_running(loop, make, trace):
    handles = []
    handles.append(make(trace.note(1, lambda: handles[0].cancel())))
    turn(loop)
    assert trace == [1]
    assert handles[0].cancelled() is True


def test_cancel_after_close(loop_factory):
    loop = loop_factory()
    handles = [make(loop, callback) for make in HANDLE_MAKERS.values()]
    loop.close()
    for handle in handles:
        handle.cancel()
        assert handle.cancelled() is True


def test_cancel_releases_what_it_holds(loop, make):
    class Thing:
        pass

    thing, argument = Thing(), Thing()
    thing.run = lambda argument: None
    gone = weakref.ref(thing), weakref.ref(argument)
    handle = make(thing.run, argument)
    del thing, argument
    gc.collect()
    handle.cancel()
    gc.collect()
    assert gone[1]() is None
    assert handle._callback is None
    assert handle._args is None


def test_handle_attributes(loop, make):
    handle = make(callback, 1, 2)
    assert handle._callback is callback
    assert handle._args == (1, 2)
    assert handle._cancelled is False
    assert handle._loop is loop
    assert isinstance(handle._context, contextvars.Context)
    if not loop.get_debug():
        assert handle._source_traceback is None
        assert handle._repr is None


def test_chain_of_handles_ends_without_a_stack_frame_for_each(loop, make):
    former = threading.stack_size(2 * 1024 * 1024)
    try:
        count = on_shallow_stack(lambda: run_chain(loop, make, 100_000))
    finally:
        threading.stack_size(former)
    assert count == 100_000


def run_chain(loop, make, length):
    count = 0

    def counted(former):
        nonlocal count
        count += 1

    handle = None
    for _ in range(length):
        handle = make(counted, handle)
    turn(loop)
    reference = weakref.ref(handle)
    del handle
    assert reference() is None
    return count


def test_context_of_another_type(loop, trace):
    class Runs:
        def run(self, callback, *args):
            trace.append("run")
            callback(*args)

    loop.call_soon(trace.append, 1, context=Runs())
    loop.call_later(-1, trace.append, 2, context=Runs())
    turn(loop)
    assert trace == ["run", 1, "run", 2]

    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    loop.call_soon(trace.append, 3, context=object())
    turn(loop)
    assert isinstance(contexts[0]["exception"], AttributeError)
    assert len(trace) == 4


def test_each_handle_has_a_context_of_its_own(loop, make):
    """Also where no variable is set: there a context is made when it is needed."""
    variable = contextvars.ContextVar("variable", default=0)
    found = []

    def change():
        found.append((variable.get(), len(contextvars.copy_context())))
        variable.set(1)

    def schedule_and_run():
        for _ in range(3):
            make(change)
        asked, asked_late = make(change), make(change)
        asked_before = asked._context
        assert len(asked_before) == 0
        variable.set(2)
        turn(loop)
        assert asked._context is asked_before is not asked_late._context
        return [asked._context[variable], asked_late._context[variable]]

    assert contextvars.Context().run(schedule_and_run) == [1, 1]
    assert found == [(0, 0)] * 5


@pytest.mark.skipif(sys.version_info < (3, 12), reason="get_context came in 3.12")
def test_get_context(loop):
    context = contextvars.copy_context()
    assert loop.call_soon(callback, context=context).get_context() is context
    assert loop.call_later(1, callback, context=context).get_context() is context
    assert loop.call_at(1, callback, context=context).get_context() is context
    safe = loop.call_soon_threadsafe(callback, context=context)
    assert safe.get_context() is context
    assert isinstance(loop.call_soon(callback).get_context(), contextvars.Context)


def test_handle_is_weakly_referenceable_and_hashable(loop, make):
    handle = make(callback)
    ref = weakref.ref(handle)
    assert ref() is handle
    assert len({handle, make(callback)}) == 2
    turn(loop)
    del handle
    gc.collect()
    assert ref() is None


def test_weak_reference_to_a_reused_handle_dies(loop):
    # handles may come from a freelist: a reference to the first must not see the next
    refs = []
    for _ in range(10):
        handle = loop.call_soon(callback)
        refs.append(weakref.ref(handle))
        del handle
        turn(loop)
        assert [ref() for ref in refs] == [None] * len(refs)


def test_kept_handle_is_not_reused(loop, trace):
    kept = loop.call_soon(trace.append, "kept")
    turn(loop)
    others = [loop.call_soon(trace.append, n) for n in range(3)]
    assert all(other is not kept for other in others)
    kept.cancel()
    turn(loop)
    assert trace == ["kept", 0, 1, 2]


def test_equality(loop):
    assert loop.call_soon(callback) != loop.call_soon(callback)
    handle = loop.call_soon(callback)
    assert handle == handle
    assert handle != 1


def test_run_of_a_handle_by_hand(loop, make, trace):
    handle = make(trace.append, "run")
    handle._run()
    assert trace == ["run"]
    turn(loop)
    assert trace == ["run", "run"]


def test_run_by_hand_reports_exceptions(loop, make):
    caught = []
    loop.set_exception_handler(lambda loop, context: caught.append(context))
    handle = make(lambda: 1 / 0)
    handle._run()
    handle.cancel()
    (context,) = caught
    assert context["handle"] is handle


def test_made_by_hand(loop, trace):
    handle = asyncio.Handle(trace.append, ("mine",), loop)
    timer = asyncio.TimerHandle(5.0, trace.append, ("timer",), loop)
    handle._run()
    timer._run()
    assert trace == ["mine", "timer"]
    assert timer.when() == 5.0
    timer.cancel()
    assert timer.cancelled()


def test_made_by_hand_compares_with_the_loops(loop):
    mine = asyncio.TimerHandle(5.0, callback, (), loop)
    theirs = loop.call_at(6.0, callback)
    assert mine < theirs
    assert theirs > mine
    assert mine != theirs
    same = loop.call_at(5.0, callback)
    assert mine <= same
    assert same >= mine
    theirs.cancel()
    same.cancel()


def test_timer_attributes(loop):
    when = loop.time() + 100
    timer = loop.call_at(when, callback)
    assert timer.when() == when
    assert timer._when == when
    assert timer._scheduled is True
    timer.cancel()
    assert timer.when() == when
    later = loop.call_later(100, callback)
    assert loop.time() + 99 < later.when() <= loop.time() + 100
    later.cancel()


def test_when_keeps_what_was_given(loop):
    timer = loop.call_at(5, callback)
    assert timer.when() == 5
    timer.cancel()


def test_timer_is_no_longer_scheduled_when_it_ran(loop):
    timer = loop.call_later(0, callback)
    turn(loop)
    assert timer._scheduled is False


def test_timer_comparison(loop):
    when = loop.time() + 100
    a = loop.call_at(when, callback)
    b = loop.call_at(when + 1, callback)
    same = loop.call_at(when, callback)
    assert a < b
    assert a <= b
    assert b > a
    assert b >= a
    assert not a > b
    assert not b < a
    assert a == same
    assert a != b
    assert a <= same
    assert a >= same
    assert not a < same
    assert hash(a) == hash(same) == hash(when)
    same.cancel()
    assert a != same
    for timer in (a, b):
        timer.cancel()


@pytest.mark.parametrize("op", ["__lt__", "__le__", "__gt__", "__ge__", "__eq__"])
def test_timer_comparison_with_something_else(loop, op):
    timer = loop.call_at(1, callback)
    for other in (1, None, "x", loop.call_soon(callback)):
        assert getattr(timer, op)(other) is NotImplemented
    timer.cancel()


def test_timer_order_with_something_else_raises(loop):
    timer = loop.call_at(1, callback)
    with pytest.raises(TypeError):
        _ = timer < 1
    assert timer != 1
    timer.cancel()


def test_handle_cannot_be_copied_into_a_crash(loop, make):
    handle = make(callback)
    try:
        twin = copy.copy(handle)
    except TypeError:
        twin = None
    if twin is not None:
        assert isinstance(twin, asyncio.Handle)
    handle.cancel()


def test_made_without_init(loop, make):
    handle = make(callback)
    kind = type(handle)
    try:
        empty = kind.__new__(kind)
    except TypeError:
        empty = None  # a type that only the loop makes
    if empty is not None:
        for use in (repr, kind.cancelled, kind.cancel, kind._run):
            with pytest.raises(AttributeError):
                use(empty)
    handle.cancel()


def test_patched_run_sees_every_callback(loop, trace, monkeypatch):
    original = asyncio.Handle._run
    seen = []

    def _run(self):
        seen.append(self._callback)
        return original(self)

    monkeypatch.setattr(asyncio.events.Handle, "_run", _run)
    callbacks = [trace.note(n) for n in range(4)]
    loop.call_soon(callbacks[0])
    loop.call_later(0, callbacks[1])
    loop.call_at(loop.time(), callbacks[2])
    turn(loop, 2)
    assert seen == callbacks[:3]
    assert trace == [0, 1, 2]
    monkeypatch.undo()
    loop.call_soon(callbacks[3])
    turn(loop)
    assert seen == callbacks[:3]
    assert trace == [0, 1, 2, 3]


def test_run_patched_in_the_class_of_timers(loop, trace, monkeypatch):
    def _run(self):
        trace.append("patched")
        asyncio.Handle._run(self)

    monkeypatch.setattr(asyncio.events.TimerHandle, "_run", _run, raising=False)
    loop.call_soon(trace.append, "soon")
    loop.call_later(0, trace.append, "later")
    turn(loop)
    assert trace == ["soon", "patched", "later"]
    monkeypatch.undo()
    loop.call_later(0, trace.append, "later")
    turn(loop)
    assert trace == ["soon", "patched", "later", "later"]


def test_run_patched_in_the_middle_of_a_batch(loop, trace, monkeypatch):
    original = asyncio.Handle._run
    seen = []

    def _run(self):
        seen.append(self._args)
        return original(self)

    def patch():
        monkeypatch.setattr(asyncio.events.Handle, "_run", _run)

    loop.call_soon(trace.append, 1)
    loop.call_soon(patch)
    loop.call_soon(trace.append, 2)
    turn(loop)
    monkeypatch.undo()
    assert seen == [(2,)]
    assert trace == [1, 2]


def test_patched_run_sees_the_steps_of_a_task(loop, run, monkeypatch):
    original = asyncio.Handle._run
    seen = []

    def _run(self):
        seen.append(self)
        return original(self)

    async def steps():
        for _ in range(5):
            await asyncio.sleep(0)

    monkeypatch.setattr(asyncio.events.Handle, "_run", _run)
    run(steps())
    monkeypatch.undo()
    assert len(seen) >= 6
    assert all(isinstance(handle, asyncio.Handle) for handle in seen)


def test_patched_run_sees_readers(loop, monkeypatch):
    original = asyncio.Handle._run
    seen = []

    def _run(self):
        seen.append(self._callback)
        return original(self)

    def readable():
        a.recv(1)

    monkeypatch.setattr(asyncio.events.Handle, "_run", _run)
    a, b = socket.socketpair()
    with a, b:
        loop.add_reader(a, readable)
        b.send(b"x")
        turn(loop)
        loop.remove_reader(a)
    monkeypatch.undo()
    assert seen == [readable]


def test_patched_run_that_raises_ends_the_run(loop, monkeypatch):
    def _run(self):
        raise LookupError("expected")

    monkeypatch.setattr(asyncio.events.Handle, "_run", _run)
    loop.call_soon(callback)
    with pytest.raises(LookupError, match="expected"):
        turn(loop)
    monkeypatch.undo()
    turn(loop)


def frames(handle):
    return [(frame.filename, frame.name) for frame in handle._source_traceback]


def test_debug_traceback_ends_at_the_caller(loop, make):
    loop.set_debug(True)
    handle = make(callback)
    names = [name for _, name in frames(handle)]
    assert names[-2:] == ["<lambda>", "<lambda>"]
    assert "test_debug_traceback_ends_at_the_caller" in names
    assert all(filename == __file__ for filename, _ in frames(handle)[-3:])
    assert handle._source_traceback[-1].lineno > 0
    handle.cancel()


def test_debug_traceback_is_the_standard_loops(both_factories):
    def texts(factory):
        loop = factory()
        loop.set_debug(True)
        found = []
        for make in HANDLE_MAKERS.values():
            handle = make(loop, callback)
            found.append(
                [(f.filename, f.name, f.line) for f in handle._source_traceback]
            )
        loop.close()
        return found

    standard, ours = (
        on_shallow_stack(lambda factory=factory: texts(factory))
        for factory in both_factories
    )
    assert ours == standard


@pytest.mark.parametrize("make_name", HANDLE_MAKERS)
def test_debug_traceback_is_as_short_as_the_standard_loops(both_factories, make_name):
    def deep(n, loop):
        return deep(n - 1, loop) if n else HANDLE_MAKERS[make_name](loop, callback)

    lengths = []
    for factory in both_factories:
        loop = factory()
        loop.set_debug(True)
        lengths.append(len(deep(50, loop)._source_traceback))
        loop.close()
    assert lengths[0] == lengths[1] > 1


def test_debug_traceback_is_short(loop, make):
    loop.set_debug(True)

    def deep(n):
        return deep(n - 1) if n else make(callback)

    handle = deep(50)
    depth = asyncio.constants.DEBUG_STACK_DEPTH
    assert 1 < len(handle._source_traceback) <= depth
    handle.cancel()


def test_debug_repr_tells_the_source(loop, make):
    loop.set_debug(True)
    handle = make(callback)
    line = callback.__code__.co_firstlineno
    assert f" created at {__file__}:" in repr(handle)
    assert f"callback() at {__file__}:{line}" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)
    assert "callback" in repr(handle)


def test_no_traceback_without_debug(loop, make):
    loop.set_debug(False)
    assert make(callback)._source_traceback is None
    assert "created at" not in repr(make(callback))


def test_format_source_is_used_when_shown(loop, make, monkeypatch):
    # the name is looked up when it is used, as the standard handle does
    handle = make(callback)
    monkeypatch.setattr(
        format_helpers, "_format_callback_source", lambda *args, **kwargs: "PATCHED"
    )
    assert "PATCHED" in repr(handle)
    monkeypatch.undo()
    handle.cancel()


def test_no_growth_by_cancelled_handles(loop):
    # cancelled and forgotten: memory stays bounded without a turn of the loop
    def churn(count):
        for _ in range(count):
            loop.call_later(1000, callback).cancel()
            turn(loop)

    churn(500)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        churn(10_000)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # the interpreter's own attribute cache keeps up to 4,096 names alive
    assert after - before < 400_000


@pytest.mark.parametrize("kind", ["call_soon", "call_later", "threadsafe", "cancelled"])
def test_cycle_through_a_kept_handle_is_collected(loop, kind):
    # object -> handle -> bound method -> object, made while the loop runs
    class Owner:
        def method(self):
            pass

    gone = []

    def make():
        owner = Owner()
        gone.append(weakref.ref(owner))
        if kind == "call_later":
            owner.handle = loop.call_later(0, owner.method)
        elif kind == "threadsafe":
            owner.handle = loop.call_soon_threadsafe(owner.method)
        else:
            owner.handle = loop.call_soon(owner.method)
        if kind == "cancelled":
            owner.handle.cancel()

    loop.call_soon(make)
    turn(loop, 3)
    gc.collect()
    assert gone[0]() is None


def test_cycle_collected_while_the_loop_still_runs(loop):
    class Owner:
        def method(self):
            pass

    gone = []

    async def main():
        for _ in range(10):
            owner = Owner()
            owner.handle = loop.call_soon(owner.method)
            gone.append(weakref.ref(owner))
        del owner
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        return [ref() for ref in gone]

    assert loop.run_until_complete(main()) == [None] * 10


@only_asynccore  # C code would read what is assigned
@pytest.mark.parametrize("name", ["_loop", "_context", "_cancelled"])
def test_what_runs_a_handle_cannot_be_taken_from_it(loop, name):
    for handle in (loop.call_soon(callback), loop.call_later(0, callback)):
        value = getattr(handle, name)
        with pytest.raises(AttributeError):
            setattr(handle, name, 5)
        with pytest.raises(AttributeError):
            delattr(handle, name)
        assert getattr(handle, name) is value
    turn(loop)
    handle.cancel()
