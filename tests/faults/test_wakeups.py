"""Another thread's callback at the worst moments of a turn."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest


@pytest.mark.parametrize("call", range(1, 8))
def test_callback_while_the_loop_asks_for_the_time(
    loop: asyncio.AbstractEventLoop, call: int
) -> None:
    """An overridden time() runs Python between the look at the queue and the poll."""
    original = loop.time
    count = 0

    def time() -> float:
        nonlocal count
        count += 1
        if count == call:
            thread = threading.Thread(
                target=loop.call_soon_threadsafe, args=(loop.stop,)
            )
            thread.start()
            thread.join()
        return original()

    loop.time = time  # type: ignore[method-assign]
    far = [loop.call_later(60 + i, int) for i in range(call)]
    loop.call_later(0.01, int)
    loop.call_later(0.02, int)
    if count < call:
        loop.run_forever()
    assert count >= call
    for handle in far:
        handle.cancel()


@pytest.mark.parametrize("rounds", [2000])
def test_executor_that_answers_at_once(
    loop: asyncio.AbstractEventLoop, rounds: int
) -> None:
    """Each result is a wake-up; one that is lost hangs."""

    async def main() -> None:
        for _ in range(rounds):
            await loop.run_in_executor(None, int)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_runs_that_end_by_another_thread(loop: asyncio.AbstractEventLoop) -> None:
    """A run for each call: each sets up the wake-up of signals anew."""
    wanted: Any = threading.Semaphore(0)
    ended = False

    def other() -> None:
        while wanted.acquire() and not ended:
            loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=other)
    thread.start()
    for _ in range(2000):
        wanted.release()
        loop.run_forever()
    ended = True
    wanted.release()
    thread.join()
