"""Single turns of a loop, and what they did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def turn(loop: asyncio.AbstractEventLoop, count: int = 1) -> None:
    """Runs `count` turns, each of which polls once and waits for nothing."""
    for _ in range(count):
        loop.stop()
        loop.run_forever()


class Trace(list[object]):
    """A list of what happened, in order."""

    def note(self, mark: object, *then: Callable[[], object]) -> Callable[[], None]:
        """A callback that appends `mark` and then calls `then` in order."""

        def callback() -> None:
            self.append(mark)
            for call in then:
                call()

        return callback
