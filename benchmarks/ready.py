"""The ready queue: call_soon, one callback a turn, call_soon_threadsafe."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable

from benchmarks.harness import Timed, clock

BATCH = 1000


def batches(
    loop: asyncio.AbstractEventLoop, n: int, schedule: Callable[[], object]
) -> int:
    """Schedule n callbacks, 1,000 in each turn of the loop."""
    left = n // BATCH

    def turn() -> None:
        nonlocal left
        if not left:
            loop.stop()
            return
        left -= 1
        for _ in range(BATCH):
            schedule()
        loop.call_soon(turn)

    loop.call_soon(turn)
    start = clock()
    loop.run_forever()
    return clock() - start


def nothing(*args: object) -> None:
    pass


def no_argument(loop: asyncio.AbstractEventLoop, n: int) -> int:
    call_soon = loop.call_soon

    def schedule() -> None:
        call_soon(nothing)

    return batches(loop, n, schedule)


def one_argument(loop: asyncio.AbstractEventLoop, n: int) -> int:
    call_soon = loop.call_soon

    def schedule() -> None:
        call_soon(nothing, None)

    return batches(loop, n, schedule)


def two_arguments(loop: asyncio.AbstractEventLoop, n: int) -> int:
    call_soon = loop.call_soon

    def schedule() -> None:
        call_soon(nothing, None, None)

    return batches(loop, n, schedule)


def with_context(loop: asyncio.AbstractEventLoop, n: int) -> int:
    call_soon = loop.call_soon
    context = contextvars.copy_context()

    def schedule() -> None:
        call_soon(nothing, context=context)

    return batches(loop, n, schedule)


def one_a_turn(loop: asyncio.AbstractEventLoop, n: int) -> int:
    left = n

    def turn() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(turn)
        else:
            loop.stop()

    loop.call_soon(turn)
    start = clock()
    loop.run_forever()
    return clock() - start


def threadsafe(loop: asyncio.AbstractEventLoop, n: int) -> int:
    """Another thread schedules everything as fast as it can."""

    def flood() -> None:
        call = loop.call_soon_threadsafe
        for _ in range(n):
            call(nothing)
        call(loop.stop)

    thread = threading.Thread(target=flood)
    loop.call_soon(thread.start)
    start = clock()
    loop.run_forever()
    elapsed = clock() - start
    thread.join()
    return elapsed


GROUP = "no network: callbacks"
WORKLOADS = [
    Timed("call-soon", "call_soon, no argument", GROUP, no_argument, 100_000),
    Timed("call-soon-1", "call_soon, one argument", GROUP, one_argument, 100_000),
    Timed("call-soon-2", "call_soon, two arguments", GROUP, two_arguments, 100_000),
    Timed("call-soon-context", "call_soon, context=", GROUP, with_context, 100_000),
    Timed("turn", "one callback a turn", GROUP, one_a_turn, 20_000),
    Timed("threadsafe", "call_soon_threadsafe flood", GROUP, threadsafe, 50_000),
]
