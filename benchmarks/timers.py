"""Timers: scheduled, cancelled, fired."""

from __future__ import annotations

import asyncio
import time

from benchmarks.harness import OwnMemory, Timed, clock
from benchmarks.ready import nothing


def zero_delay(loop: asyncio.AbstractEventLoop, n: int) -> int:
    left = n

    def turn() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_later(0, turn)
        else:
            loop.stop()

    loop.call_soon(turn)
    start = clock()
    loop.run_forever()
    return clock() - start


def cancel(loop: asyncio.AbstractEventLoop, n: int) -> int:
    """Add n timers, cancel them all, and let the loop see it."""
    start = clock()
    timers = [loop.call_later(60 + i / n, nothing) for i in range(n)]
    for timer in timers:
        timer.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    return clock() - start


def cancel_in_turns(loop: asyncio.AbstractEventLoop, n: int, size: int) -> int:
    """The same, `size` of them in each turn of a loop that runs, and forget them."""
    left = n // size

    def turn() -> None:
        nonlocal left
        timers = [loop.call_later(60 + i / size, nothing) for i in range(size)]
        for timer in timers:
            timer.cancel()
        left -= 1
        loop.call_soon(turn if left else loop.stop)

    loop.call_soon(turn)
    start = clock()
    loop.run_forever()
    return clock() - start


def churn(loop: asyncio.AbstractEventLoop, n: int) -> int:
    """Replace one of 1,000 live timers after the other, 100 in a turn."""
    timers = [loop.call_later(60 + i / 1000, nothing) for i in range(1000)]
    left = n // 100
    at = 0

    def turn() -> None:
        nonlocal left, at
        for i in range(at, at + 100):
            timers[i].cancel()
            timers[i] = loop.call_later(61, nothing)
        at = (at + 100) % 1000
        left -= 1
        if left:
            loop.call_soon(turn)
        else:
            loop.stop()

    loop.call_soon(turn)
    start = clock()
    loop.run_forever()
    elapsed = clock() - start
    for timer in timers:
        timer.cancel()
    return elapsed


def fire(loop: asyncio.AbstractEventLoop, n: int, size: int = 0) -> int:
    """Add n timers, wait until all are due, and let them fire; or `size` at a time. The
    wait is not counted."""
    size = size or n
    left = max(n // size, 1)
    elapsed = 0

    def add() -> None:
        nonlocal elapsed
        elapsed -= clock()
        base = loop.time() + max(size * 2e-6, 0.002)  # none is due while they are added
        for i in range(size):
            loop.call_at(base + (i * 7919 % size) * 1e-6, nothing)
        last = base + size * 1e-6 + 0.002
        loop.call_at(last, fired)
        elapsed += clock()
        time.sleep(max(0, last + 0.002 - loop.time()))
        elapsed -= clock()

    def fired() -> None:
        nonlocal elapsed, left
        elapsed += clock()
        left -= 1
        loop.call_soon(add if left else loop.stop)

    loop.call_soon(add)
    loop.run_forever()
    return elapsed


def timers(loop: asyncio.AbstractEventLoop, n: int) -> object:
    return [loop.call_later(3600, nothing) for _ in range(n)]


GROUP = "no network: timers"
WORKLOADS = [
    Timed("later-0", "call_later(0) chain", GROUP, zero_delay, 20_000),
    Timed("timers-cancel", "1e5 added and cancelled", GROUP, cancel, 100_000),
    Timed("timers-churn", "churn among 1,000 live", GROUP, churn, 50_000),
    Timed("timers-fire", "20,000 fire", GROUP, fire, 20_000),
    OwnMemory("memory-timer", "timer", "memory and start", timers),
]
