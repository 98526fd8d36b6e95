"""What an endless chain of callbacks does to a timer and to a connection."""

from __future__ import annotations

import asyncio

from benchmarks.harness import Delay, Lateness, Load
from benchmarks.tcp import echo


def endless(loop: asyncio.AbstractEventLoop) -> None:
    """Always one callback ready: the loop never has a reason to wait."""

    def chain() -> None:
        loop.call_soon(chain)

    chain()


async def busy_echo(address: str) -> int:
    endless(asyncio.get_running_loop())
    return await echo(address)


def timer_lateness(loop: asyncio.AbstractEventLoop, n: int) -> int:
    """The 99th percentile of how late timers of 10 ms fire beside such a chain."""
    late: list[float] = []
    due = 0.0

    def fired() -> None:
        late.append(loop.time() - due)
        if len(late) == n:
            loop.stop()
        else:
            begin()

    def begin() -> None:
        nonlocal due
        due = loop.time() + 0.01
        loop.call_at(due, fired)

    begin()
    endless(loop)
    loop.run_forever()
    late.sort()
    return int(late[int(len(late) * 0.99)] * 1e9)


GROUP = "fairness"
WORKLOADS = [
    Lateness("late-timer", "10 ms timer, how late", GROUP, timer_lateness, 300),
    Delay("late-echo", "echo 1 KiB, round trip", GROUP, busy_echo, Load(1)),
]
