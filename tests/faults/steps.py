"""The steps that memory.py makes without memory, by name, and what they share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

Call = Callable[[], Any]
STEPS: dict[str, Callable[[Any], Any]] = {}


def step(function: Callable[[Any], Iterator[Call]]) -> None:
    """A generator that yields the call to make without memory, and cleans up after."""
    STEPS[function.__name__] = contextlib.contextmanager(function)


def turns(loop: Any, count: int = 6) -> None:
    for _ in range(count):
        loop.call_soon(loop.stop)
        loop.run_forever()


def one_turn(loop: Any) -> Call:
    """The call that is one turn of the loop, with little else in it."""
    loop.call_soon(loop.stop)
    return loop.run_forever
