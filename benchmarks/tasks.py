"""Tasks, futures and what asyncio builds on them."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Coroutine, Generator
from typing import Any

from benchmarks.harness import Timed, clock
from benchmarks.loops import LoopSpec


async def timed(*coroutines: Coroutine[Any, Any, object]) -> int:
    """The time that the coroutines take, side by side."""
    start = clock()
    await asyncio.gather(*coroutines)
    return clock() - start


async def sleep_0(n: int, tasks: int = 100) -> int:
    async def sleeper() -> None:
        for _ in range(n // tasks):
            await asyncio.sleep(0)

    return await timed(*(sleeper() for _ in range(tasks)))


def sleepers(loop: asyncio.AbstractEventLoop, n: int) -> object:
    """Tasks that are each in a sleep(0)."""

    async def sleeper() -> None:
        while True:
            await asyncio.sleep(0)

    tasks = [loop.create_task(sleeper()) for _ in range(n)]
    loop.run_until_complete(asyncio.sleep(0))
    return tasks


@types.coroutine
def bare_yield() -> Generator[None]:
    yield


async def yields(n: int) -> int:
    async def yielder() -> None:
        for _ in range(n // 100):
            await bare_yield()

    return await timed(*(yielder() for _ in range(100)))


async def future_ping_pong(n: int) -> int:
    loop = asyncio.get_running_loop()
    ping: asyncio.Future[None] = loop.create_future()
    pong: asyncio.Future[None] = loop.create_future()

    async def left() -> None:
        nonlocal pong
        for _ in range(n // 2):
            ping.set_result(None)
            await pong
            pong = loop.create_future()

    async def right() -> None:
        nonlocal ping
        for _ in range(n // 2):
            await ping
            ping = loop.create_future()
            pong.set_result(None)

    return await timed(left(), right())


async def queue(n: int) -> int:
    items: asyncio.Queue[int] = asyncio.Queue(1)

    async def put() -> None:
        for i in range(n):
            await items.put(i)

    async def get() -> None:
        for _ in range(n):
            await items.get()

    return await timed(put(), get())


async def event(n: int) -> int:
    ping, pong = asyncio.Event(), asyncio.Event()

    async def player(mine: asyncio.Event, other: asyncio.Event) -> None:
        for _ in range(n // 2):
            await mine.wait()
            mine.clear()
            other.set()

    ping.set()
    return await timed(player(ping, pong), player(pong, ping))


async def lock(n: int) -> int:
    mutex = asyncio.Lock()

    async def contender() -> None:
        for _ in range(n // 10):
            async with mutex:
                await asyncio.sleep(0)

    return await timed(*(contender() for _ in range(10)))


async def gather(n: int) -> int:
    start = clock()
    for _ in range(n // 100):
        await asyncio.gather(*(asyncio.sleep(0) for _ in range(100)))
    return clock() - start


async def task_group(n: int) -> int:
    start = clock()
    for _ in range(n // 100):
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(asyncio.sleep(0))
    return clock() - start


async def timeout(n: int) -> int:
    start = clock()
    for _ in range(n):
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
    return clock() - start


async def wait_for(n: int) -> int:
    start = clock()
    for _ in range(n):
        await asyncio.wait_for(asyncio.sleep(0), 60)
    return clock() - start


async def answer() -> int:
    return 42


async def eager(n: int) -> int:
    """Tasks that finish at once, with the eager factory if the loop can use it.

    uvloop 0.23 fails with that of CPython before 3.13.4; there its tasks start late.
    """
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    first = answer()
    try:
        await loop.create_task(first)
    except TypeError:
        first.close()
        loop.set_task_factory(None)
    start = clock()
    for _ in range(n):
        await loop.create_task(answer())
    elapsed = clock() - start
    loop.set_task_factory(None)
    return elapsed


def run_done(loop: asyncio.AbstractEventLoop, n: int) -> int:
    start = clock()
    for _ in range(n):
        loop.run_until_complete(answer())
    return clock() - start


def run_whole(spec: LoopSpec, n: int) -> int:
    factory = spec.load()
    start = clock()
    for _ in range(n):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(answer())
    return clock() - start


GROUP = "no network: tasks"
WORKLOADS = [
    Timed("sleep-0", "sleep(0) in 100 tasks", GROUP, sleep_0, 50_000),
    Timed("yield", "bare yield in 100 tasks", GROUP, yields, 50_000),
    Timed("future", "Future ping-pong", GROUP, future_ping_pong, 20_000),
    Timed("queue", "Queue(1)", GROUP, queue, 10_000),
    Timed("event", "Event ping-pong", GROUP, event, 10_000),
    Timed("lock", "Lock, 10 contenders", GROUP, lock, 10_000),
    Timed("gather", "gather of 100", GROUP, gather, 10_000),
    Timed("task-group", "TaskGroup of 100", GROUP, task_group, 10_000),
    Timed("timeout", "timeout()", GROUP, timeout, 10_000),
    Timed("wait-for", "wait_for", GROUP, wait_for, 10_000),
    Timed("run-done", "run_until_complete, done", GROUP, run_done, 3_000),
    Timed("run", "asyncio.run, start to stop", GROUP, run_whole, 100, whole=True),
]
if sys.version_info >= (3, 12):
    WORKLOADS.append(Timed("eager", "eager task", GROUP, eager, 20_000))
