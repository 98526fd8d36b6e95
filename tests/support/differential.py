"""The same scenario on the standard loop and on the loop under test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Scenario = Callable[[], Awaitable[Any]]
Factory = Callable[[], asyncio.AbstractEventLoop]


def outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, Any]:
    """What a call returned, or the type and text of what it raised."""
    try:
        return "returned", call(*args, **kwargs)
    except Exception as exc:
        return type(exc).__name__, str(exc)


def compare(factories: tuple[Factory, Factory], scenario: Scenario) -> Any:
    """Runs `scenario` on both loops; what it returns must be equal. Returns it."""
    results = []
    for factory in factories:
        loop = factory()
        try:
            results.append(loop.run_until_complete(asyncio.wait_for(scenario(), 20)))
        finally:
            loop.close()
    standard, ours = results
    assert ours == standard
    return standard
