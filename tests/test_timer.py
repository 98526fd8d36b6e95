"""call_later and call_at: order, accuracy, hostile numbers, cancellation, memory."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import gc
import math
import random
import resource
import threading
import time
import tracemalloc
import weakref

import pytest

from support import only_asynccore
from support.turns import Trace, turn


@pytest.fixture
def trace():
    return Trace()


class Clock:
    """A clock for `loop.time` that moves when it is told to."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


def test_order_of_when(loop, trace):
    now = loop.time()
    for offset in (-1, -3, -2, -5, -4):
        loop.call_at(now + offset, trace.append, offset)
    turn(loop)
    assert trace == [-5, -4, -3, -2, -1]


def test_negative_delays_run_in_the_order_of_when(loop, trace):
    loop.call_later(-1, trace.append, -1)
    loop.call_later(-2, trace.append, -2)
    turn(loop)
    assert trace == [-2, -1]


def test_zero_delays_run_in_the_order_of_creation(loop, trace):
    for n in range(100):
        loop.call_later(0, trace.append, n)
    turn(loop)
    assert trace == sorted(trace)
    assert len(trace) == 100


def test_zero_delay_and_call_at_now_and_past_are_merged(loop, trace):
    now = loop.time()
    loop.call_later(0, trace.append, "zero")
    loop.call_at(now - 1, trace.append, "past")
    loop.call_at(now, trace.append, "now")
    loop.call_later(-0.5, trace.append, "half")
    turn(loop)
    assert trace == ["past", "half", "now", "zero"]


@pytest.mark.parametrize("count", [2, 3])
def test_equal_when_in_the_order_of_creation(loop, trace, count):
    when = loop.time() - 1
    for n in range(count):
        loop.call_at(when, trace.append, n)
    turn(loop)
    assert trace == list(range(count))


# heapq keeps the order of three equals, not that of more; ours is always stable
@only_asynccore
@pytest.mark.parametrize("ahead", [-1, 0.001])
def test_any_number_of_equal_when_in_the_order_of_creation(loop, trace, ahead):
    when = loop.time() + ahead
    handles = [loop.call_at(when, trace.append, n) for n in range(1000)]
    for handle in handles[::3]:
        handle.cancel()
    loop.call_at(when + 0.001, loop.stop)
    loop.run_forever()
    assert trace == [n for n in range(1000) if n % 3]


def test_random_order_and_cancellation(loop, trace):
    rng = random.Random(7)
    base = loop.time()
    live = []
    for n in range(3000):
        when = base + rng.uniform(-10, -1)
        live.append((when, n, loop.call_at(when, trace.append, (when, n))))
        if rng.random() < 0.4:
            live.pop(rng.randrange(len(live)))[2].cancel()
    turn(loop)
    assert trace == sorted((when, n) for when, n, _ in live)


def test_timer_runs_once(loop, trace):
    loop.call_later(-1, trace.append, 1)
    turn(loop, 3)
    assert trace == [1]


def test_timer_created_by_a_timer_runs_in_the_next_turn(loop, trace):
    loop.call_later(-1, trace.note(1, lambda: loop.call_later(-5, trace.append, 2)))
    loop.call_later(-0.5, trace.append, "same turn")
    turn(loop)
    assert trace == [1, "same turn"]
    turn(loop)
    assert trace == [1, "same turn", 2]


def test_timer_cancelled_by_another_of_its_turn(loop, trace):
    first = loop.call_later(-2, trace.note(1, lambda: second.cancel()))
    second = loop.call_later(-1, trace.append, 2)
    turn(loop, 2)
    assert trace == [1]
    assert second.cancelled()
    assert not first.cancelled()


def test_timer_that_cancels_all_others(loop, trace):
    timers = []

    def cancel_all():
        trace.append("first")
        for timer in timers:
            timer.cancel()

    loop.call_later(-100, cancel_all)
    timers += [loop.call_later(-n / 100, trace.append, n) for n in range(1000)]
    turn(loop, 2)
    assert trace == ["first"]


@pytest.mark.parametrize("delay", [0.0001, 0.0005, 0.001, 0.0015, 0.003, 0.01, 0.0203])
def test_not_early(loop, delay):
    found = []
    resolution = time.get_clock_info("monotonic").resolution
    for _ in range(5):
        start = time.monotonic()
        loop.call_later(delay, lambda: (found.append(time.monotonic()), loop.stop()))
        loop.run_forever()
        assert found[-1] - start >= delay - resolution
        assert found[-1] - start < delay + 5


def test_many_timers_are_neither_early_nor_lost(loop, trace):
    rng = random.Random(3)
    resolution = time.get_clock_info("monotonic").resolution
    start = loop.time()
    last = 0.0

    def fired(when):
        trace.append((when, loop.time() - when))

    for _ in range(2000):
        when = start + rng.uniform(0.0, 0.2)
        last = max(last, when)
        loop.call_at(when, fired, when)
    loop.call_at(last + 0.001, loop.stop)
    loop.run_forever()
    whens = [when for when, _ in trace]
    assert len(whens) == 2000
    assert whens == sorted(whens)
    assert min(late for _, late in trace) >= -resolution


@only_asynccore
def test_grain_of_a_millisecond_does_not_show(loop):
    # epoll_wait of the standard loop rounds up to a millisecond; ours must not
    late = []
    for _ in range(100):
        when = loop.time() + 0.0003
        loop.call_at(
            when, lambda when: (late.append(loop.time() - when), loop.stop()), when
        )
        loop.run_forever()
    assert min(late) < 0.0006


def test_sleep_is_not_early(run, loop):
    async def main():
        for delay in (0.001, 0.0023, 0.005):
            start = loop.time()
            await asyncio.sleep(delay)
            assert loop.time() - start >= delay - 1e-6

    run(main())


def test_timer_set_while_waiting_for_a_longer_one(loop, trace):
    # another thread adds a nearer timer: the wait must be shortened
    far = loop.call_later(60, loop.stop)
    thread = threading.Thread(
        target=loop.call_soon_threadsafe,
        args=(lambda: loop.call_later(0.001, trace.note("near", loop.stop)),),
    )
    start = time.monotonic()
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    far.cancel()
    assert trace == ["near"]
    assert time.monotonic() - start < 30


def test_cancelled_nearest_timer_does_not_delay_the_next(loop, trace):
    near = loop.call_later(0.001, trace.append, "near")
    loop.call_later(0.003, trace.note("next", loop.stop))
    near.cancel()
    loop.run_forever()
    assert trace == ["next"]


@pytest.mark.parametrize(
    "value",
    [math.inf, 1e300, 1e18, 2**63, 2**64, 10**30, 86400 * 365 * 1000, 1e10, 4294967.3],
)
@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_huge_numbers_wait(loop, trace, method, value):
    timer = getattr(loop, method)(value, trace.append, "huge")
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    assert trace == []
    assert timer.when() >= 1e6
    timer.cancel()
    turn(loop)


def test_only_a_huge_timer_does_not_make_the_loop_spin(loop, trace):
    polls = []
    loop.call_later(math.inf, trace.append, "inf")

    def wake():
        time_before = time.process_time()
        thread = threading.Timer(0.05, loop.call_soon_threadsafe, [loop.stop])
        thread.start()
        polls.append((thread, time_before))

    loop.call_soon(wake)
    loop.run_forever()
    thread, before = polls[0]
    thread.join()
    assert time.process_time() - before < 0.04
    assert trace == []


@pytest.mark.parametrize("value", [-math.inf, -1e300, -(10**30), 0, -0.0, -1])
@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_past_numbers_are_due(loop, trace, method, value):
    getattr(loop, method)(value, trace.append, "past")
    turn(loop)
    assert trace == ["past"]


def test_nan_neither_crashes_nor_blocks_others(loop, trace):
    # what becomes of the nan itself is undefined; the others must run
    nan = loop.call_later(math.nan, trace.append, "nan")
    loop.call_soon(trace.append, "soon")
    turn(loop)
    assert "soon" in trace
    nan.cancel()
    turn(loop)


@pytest.mark.parametrize(
    "value",
    [None, "1", b"1", [], {}, object(), 1j, int, float],
    ids=lambda value: repr(value)[:12],
)
@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_wrong_types_raise_as_on_the_standard_loop(both_factories, method, value):
    def found(factory):
        loop = factory()
        try:
            # the standard heap finds out when it compares: make it compare
            loop.call_at(1, print)
            getattr(loop, method)(value, print)
            return None
        except Exception as exc:
            return type(exc), str(exc)
        finally:
            loop.close()

    standard, ours = map(found, both_factories)
    assert standard is not None
    assert ours[0] is standard[0]
    if "instances of" not in standard[1]:  # not found out by a comparison
        assert ours[1] == standard[1]


def test_integer_beyond_floats(loop):
    # refused at once, or (standard call_at) when the wait for it is worked out
    with pytest.raises(OverflowError, match="int too large to convert to float"):
        loop.call_later(10**400, print)
    timers = []
    with pytest.raises(OverflowError):
        timers.append(loop.call_at(10**400, print))
        loop.call_later(0.01, loop.stop)
        loop.call_soon(loop.call_soon, int)
        loop.run_forever()
        turn(loop)
        raise OverflowError("the standard loop compares integers exactly")


@pytest.mark.parametrize(
    "value", [True, 1, 1.5, "fraction", "decimal-like", "index"], ids=str
)
def test_numbers_of_other_types(loop, trace, value):
    class Floatish:
        def __radd__(self, other):
            return other - 1.0

    number = {"fraction": fractions.Fraction(-1, 2), "decimal-like": Floatish()}.get(
        value, -1 if value == "index" else value
    )
    timer = loop.call_later(number, trace.append, "ran")
    turn(loop)
    assert trace == (["ran"] if isinstance(value, str) else [])
    timer.cancel()


def test_missing_arguments(loop):
    for method in (loop.call_later, loop.call_at):
        with pytest.raises(TypeError):
            method()
        with pytest.raises(TypeError):
            method(1)
        with pytest.raises(TypeError):
            method(1, print, unknown=1)


def test_keywords(loop, trace):
    loop.call_later(delay=-1, callback=lambda: trace.append("later"))
    loop.call_at(when=1, callback=lambda: trace.append("at"))
    turn(loop)
    assert trace == ["at", "later"]


def test_closed(loop_factory):
    loop = loop_factory()
    timer = loop.call_later(0, print, "never")
    loop.close()
    for call in (loop.call_later, loop.call_at):
        with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
            call(0, print)
    assert not timer.cancelled()


def test_fake_clock_moves_the_timers(loop, trace):
    loop.time = clock = Clock()
    loop.call_later(10, trace.append, 10)
    loop.call_later(5, trace.append, 5)
    loop.call_at(1020, trace.append, 20)
    turn(loop)
    assert trace == []
    clock.now += 7
    turn(loop)
    assert trace == [5]
    clock.now += 100
    turn(loop)
    assert trace == [5, 10, 20]


def test_fake_clock_that_goes_back(loop, trace):
    loop.time = clock = Clock()
    loop.call_later(10, trace.append, 10)
    clock.now -= 500
    turn(loop)
    assert trace == []
    loop.call_later(1, trace.append, 1)
    clock.now += 2
    turn(loop)
    assert trace == [1]
    clock.now += 1000
    turn(loop)
    assert trace == [1, 10]


@pytest.mark.parametrize("now", [0.0, 1e6, 1e9, 2.0**53, 1e300, -1e9])
def test_fake_clock_that_stands_still(both_factories, now):
    # so large that it cannot tell its resolution, when a timer is due at once
    def found(factory):
        loop, trace = factory(), []
        with contextlib.closing(loop):
            loop.time = lambda: now
            for when in (now, math.nextafter(now, math.inf), now + 1, now - 1):
                loop.call_at(when, trace.append, when)
            turn(loop)
            turn(loop)
        return trace

    standard, ours = map(found, both_factories)
    assert sorted(ours) == sorted(standard)


def test_fake_clock_in_a_subclass(loop_factory, trace):
    base = loop_factory()
    kind = type(base)
    base.close()

    class Fake(kind):
        now = 50.0

        def time(self):
            return self.now

    loop = Fake()
    with contextlib.closing(loop):
        timer = loop.call_later(1000, trace.append, "ran")
        assert timer.when() == 1050.0
        loop.now = 2000.0
        turn(loop)
        assert trace == ["ran"]


def test_clock_patched_in_the_time_module(loop, trace, monkeypatch):
    # loop.time() reads time.monotonic when it is called
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 5000.0)
    assert loop.time() == now + 5000.0
    timer = loop.call_later(1, trace.append, 1)
    assert timer.when() == now + 5001.0
    monkeypatch.undo()
    timer.cancel()


def replace_in_module(loop, clock, monkeypatch):
    monkeypatch.setattr(time, "monotonic", clock)


def replace_in_dict(loop, clock, monkeypatch):
    monkeypatch.setitem(vars(time), "monotonic", clock)


def replace_in_instance(loop, clock, monkeypatch):
    monkeypatch.setattr(loop, "time", clock)


def replace_in_class(loop, clock, monkeypatch):
    monkeypatch.setattr(type(loop), "time", lambda self: clock())


REPLACEMENTS = (
    replace_in_module,
    replace_in_dict,
    replace_in_instance,
    replace_in_class,
)


@pytest.mark.parametrize("replace", REPLACEMENTS)
def test_clock_replaced_after_it_was_looked_at(loop, trace, monkeypatch, replace):
    # what call_later() saw does not count where the next look sees less
    real = time.monotonic

    def callback():
        loop.call_later(0, trace.append, "due again")
        replace(loop, lambda: real() - 1000.0, monkeypatch)
        loop.call_soon(loop.call_soon, loop.call_soon, loop.stop)

    loop.call_later(0, callback)
    loop.run_forever()
    assert trace == []
    monkeypatch.undo()
    turn(loop)
    assert trace == ["due again"]


@pytest.mark.parametrize("replace", REPLACEMENTS)
def test_clock_replaced_after_many_looks(loop, trace, monkeypatch, replace):
    real = time.monotonic
    for offset in (1000.0, 0.0, 2000.0):
        assert real() - 1 < loop.time() < real() + 1
        replace(loop, lambda offset=offset: real() + offset, monkeypatch)
        assert real() + offset - 1 < loop.time() < real() + offset + 1
        loop.call_at(real() + offset, trace.append, offset)
        turn(loop)
        monkeypatch.undo()
    assert trace == [1000.0, 0.0, 2000.0]


def test_timers_that_are_due_since_the_look_run_in_the_same_turn(loop, trace):
    # the first was due when call_later() looked, the others are when the turn begins
    def callback():
        loop.call_later(0, trace.append, 1)
        loop.call_later(1e-6, trace.append, 2)
        loop.call_later(2e-6, trace.append, 3)
        start = time.monotonic()
        while time.monotonic() < start + 1e-3:
            pass
        loop.call_soon(trace.note("soon", loop.stop))

    loop.call_later(0, callback)
    loop.run_forever()
    assert trace == ["soon", 1, 2, 3]


def test_chain_of_zero_delays_runs_one_a_turn(loop, trace):
    def link(left):
        trace.append(left)
        if left:
            loop.call_soon(trace.append, "between")
            loop.call_later(0, link, left - 1)
        else:
            loop.stop()

    loop.call_later(0, link, 200)
    loop.run_forever()
    assert trace[::2] == list(range(200, -1, -1))
    assert set(trace[1::2]) == {"between"}


def test_methods_patched_in_the_class_count_at_once(loop, trace, monkeypatch):
    kind, real, real_call_at = type(loop), loop.time, loop.call_at

    def call_at(self, when, callback, *args, context=None):
        trace.append(args)
        return real_call_at(when, callback, *args, context=context)

    def patch():
        monkeypatch.setattr(kind, "time", lambda self: real() - 1000.0)
        timer = loop.call_later(1, trace.append, "never")
        trace.append(timer.when() < real() - 900.0)
        timer.cancel()
        monkeypatch.setattr(kind, "call_at", call_at)
        loop.call_later(1, trace.append, "never").cancel()

    loop.call_soon(patch)
    turn(loop)
    assert trace == [True, ("never",)]


def test_time_is_that_of_time_monotonic(loop):
    before = time.monotonic()
    now = loop.time()
    assert before <= now <= time.monotonic()
    assert type(now) is float


def test_time_is_not_cached_for_a_turn(loop, trace):
    def callback():
        start = loop.time()
        deadline = time.monotonic() + 0.002
        while time.monotonic() < deadline:
            pass
        trace.append(loop.time() - start)

    loop.call_soon(callback)
    turn(loop)
    assert trace[0] >= 0.0019


def test_failing_clock_ends_the_run(loop, trace):
    timer = loop.call_later(1000, trace.append, "never")

    def broken():
        raise LookupError("expected")

    loop.time = broken
    with pytest.raises(LookupError, match="expected"):
        turn(loop)
    del loop.time
    turn(loop)
    timer.cancel()
    assert trace == []


def test_slow_callback_does_not_pull_timers_into_its_turn(loop, trace):
    # due means due when the poll returned
    loop.time = clock = Clock()

    def slow():
        trace.append("slow")
        clock.now += 10

    loop.call_soon(slow)
    loop.call_later(5, trace.append, "timer")
    loop.call_soon(trace.append, "soon")
    turn(loop)
    assert trace == ["slow", "soon"]
    turn(loop)
    assert trace == ["slow", "soon", "timer"]


def test_slow_timer_does_not_pull_timers_into_its_turn(loop, trace):
    loop.time = clock = Clock()

    def slow():
        trace.append("slow")
        clock.now += 10

    loop.call_later(-1, slow)
    loop.call_later(5, trace.append, "timer")
    turn(loop)
    assert trace == ["slow"]
    turn(loop)
    assert trace == ["slow", "timer"]


def test_timers_are_looked_at_in_every_turn(loop, trace):
    # a zero delay from a ready callback runs in the next turn, whatever is ready
    def spin(n):
        trace.append(n)
        if n == 2:
            loop.call_later(0, trace.append, "timer")
        if n < 5:
            loop.call_soon(spin, n + 1)
        else:
            loop.stop()

    loop.call_soon(spin, 0)
    loop.run_forever()
    assert trace == [0, 1, 2, 3, "timer", 4, 5]


def test_chain_of_zero_delays(loop, trace):
    def step(n):
        trace.append(n)
        if n < 1000:
            loop.call_later(0, step, n + 1)
        else:
            loop.stop()

    loop.call_later(0, step, 0)
    loop.run_forever()
    assert trace == list(range(1001))


def test_reference_to_the_arguments_ends_with_the_call(loop):
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    loop.call_later(-1, lambda thing: None, thing)
    del thing
    turn(loop)
    gc.collect()
    assert gone() is None


def test_comparison_of_whens_that_raises(loop, trace):
    class Odd(float):
        def __lt__(self, other):
            raise LookupError("expected")

        __gt__ = __le__ = __ge__ = __lt__

    timers = []
    with contextlib.suppress(LookupError):
        for n in range(5):
            timers.append(loop.call_at(Odd(loop.time() + 1000 + n), trace.append, n))
    for timer in timers:
        timer.cancel()
    with contextlib.suppress(LookupError):
        turn(loop)
    assert trace == []


def test_memory_of_cancelled_timers_is_bounded(loop):
    # a time-out that is set and cancelled a million times must not pile up
    def churn(count):
        for n in range(count):
            loop.call_later(3600, print).cancel()
            if n % 50 == 0:
                turn(loop)

    churn(1000)
    tracemalloc.start()
    try:
        churn(5000)
        gc.collect()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300_000


def test_timer_cancelled_from_its_own_destructor(loop, trace):
    class Last:
        def __del__(self):
            trace.append("last")
            loop.call_later(-1, trace.append, "scheduled")

    timer = loop.call_later(1000, print, Last())
    timer.cancel()
    assert trace == ["last"]
    turn(loop)
    assert trace == ["last", "scheduled"]


def test_timers_left_by_a_stop_run_next_time(loop, trace):
    loop.call_later(-2, trace.note(1, loop.stop))
    loop.call_later(-1, trace.append, 2)
    loop.run_forever()
    assert trace == [1, 2]


def test_timers_left_by_an_exception_run_next_time(loop, trace):
    def interrupt():
        trace.append("interrupt")
        raise KeyboardInterrupt

    loop.call_later(-3, trace.append, 1)
    loop.call_later(-2, interrupt)
    loop.call_later(-1, trace.append, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert trace == [1, "interrupt"]
    turn(loop)
    assert trace == [1, "interrupt", 2]


@contextlib.contextmanager
def no_descriptors():
    """No further descriptor can be had inside; gives what ends that early."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("waited", ["never", "before"])
def test_timer_without_a_free_descriptor(loop, trace, waited):
    # a server whose clients took the last one waits a second for the next
    if waited == "before":
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
    start = loop.time()
    loop.call_later(0.02, trace.note("late", loop.stop))
    loop.call_later(0.01, trace.append, "early")
    with no_descriptors():
        loop.run_forever()
    assert loop.time() - start >= 0.02 - loop._clock_resolution
    assert trace == ["early", "late"]


def test_timer_when_descriptors_are_free_again(loop, trace):
    with no_descriptors() as end:
        loop.call_later(0.01, end)
        loop.call_later(0.02, trace.append, 1)
        loop.call_later(0.03, trace.note(2, loop.stop))
        loop.run_forever()
    assert trace == [1, 2]


def test_clock_that_takes_itself_away(loop, monkeypatch):
    class Clock:
        def __call__(self):
            monkeypatch.undo()
            return original() + 1.0

    original = time.monotonic
    monkeypatch.setattr(time, "monotonic", Clock())
    assert loop.time() > original() + 0.5
    assert loop.time() < original() + 0.5


def test_timers_cancelled_while_the_loop_is_closed(loop_factory):
    class Canceller:
        def __del__(self):
            for timer in timers:
                timer.cancel()

    loop = loop_factory()
    timers = [loop.call_later(i, int) for i in range(1000, 1200)]
    loop.call_later(2000, int, Canceller())  # the last of the heap: dropped first
    timers += [loop.call_later(i, int) for i in range(1000, 1100)]
    for timer in timers[::3]:
        timer.cancel()
    loop.close()
    assert all(timer.cancelled() for timer in timers)


def test_timer_that_another_loop_is_given(script):
    script(
        """
        import threading

        own, other = new_event_loop(), new_event_loop()
        timers, made, seen = [], threading.Event(), []

        def make():
            timers.extend(own.call_later(1000 + i, seen.append, i) for i in range(3))
            made.set()

        def take():
            for timer in timers:
                other._add_callback(timer)
            other.call_soon(other.stop)

        own.call_soon(make)
        thread = threading.Thread(target=own.run_forever)
        thread.start()
        made.wait()
        other.call_soon(take)
        other.run_forever()
        own.call_soon_threadsafe(own.stop)
        thread.join()
        assert seen == [0, 1, 2], seen
        own.close()
        other.close()
        """
    )


def test_scheduled_is_a_heap(loop):
    # fake clocks of programs' tests call what they find there, in its order
    timers = [loop.call_later(1000 + 37 * n % 101, int) for n in range(100)]
    when = [timer.when() for timer in loop._scheduled]
    assert all(when[(n - 1) // 2] <= when[n] for n in range(1, len(when)))
    assert sorted(when) == sorted(timer.when() for timer in timers)


def test_due_timer_stands_in_the_queue_of_its_turn(loop):
    # fake clocks of programs' tests wait until nothing is left there
    clock = Clock()
    loop.time = clock
    seen = []

    async def main():
        timer = loop.call_later(10, int)
        clock.now += 11
        await asyncio.sleep(0)
        loop.call_soon(int)
        seen.extend(handle is timer for handle in loop._ready)
        await asyncio.sleep(0)
        seen.append(len(loop._ready))

    loop.run_until_complete(main())
    assert seen == [True, False, 0]


@pytest.mark.parametrize("name", ["_ready", "_scheduled"])
def test_queue_that_a_collection_empties_while_it_is_looked_at(script, name):
    # on 3.11 a new list may run one, and with it any finalizer
    script(
        """
        import gc, sys

        class Canceller:
            def __del__(self):
                for handle in handles:
                    handle.cancel()
                handles.clear()
                loop.close()

        loop = new_event_loop()
        handles = [loop.call_later(1000 + i, int) for i in range(2000)]
        handles += [loop.call_soon(int) for _ in range(2000)]
        gc.collect()
        gc.disable()
        cycle = Canceller()
        cycle.cycle = cycle
        del cycle
        kept = [[] for _ in range(10)]
        gc.set_threshold(1)
        gc.enable()
        seen = getattr(loop, sys.argv[1])
        gc.set_threshold(700)
        for handle in list(seen):
            repr(handle)
        gc.collect()
        assert loop.is_closed()
        """,
        name,
    )
