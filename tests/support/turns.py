"""Single turns of a loop, and what they did."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def turn(loop: asyncio.AbstractEventLoop, count: int = 1) -> None:
    """Runs `count` turns, each of which polls once and waits for nothing."""
    for _ in range(count):
        loop.stop()
        loop.run_forever()


def on_shallow_stack(call: Callable[[], T]) -> T:
    """What `call` returns in a thread of its own.

    Debug tracebacks have a limit, of which the standard loop spends some on its own
    frames: with few frames above, both loops show the same.
    """
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results[0]


class Trace(list[object]):
    """A list of what happened, in order."""

    def note(self, mark: object, *then: Callable[[], object]) -> Callable[[], None]:
        """A callback that appends `mark` and then calls `then` in order."""

        def callback() -> None:
            self.append(mark)
            for call in then:
                call()

        return callback
