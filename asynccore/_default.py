"""Replaces asyncio's default loop by ours, in a program that is run on asynccore.

What a program chooses itself stays: a policy or a factory of its own, a loop on a
selector that it passes, and a subclass of the standard loop, which may reach into it.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABCMeta
from asyncio import unix_events
from selectors import BaseSelector
from types import new_class
from typing import Any

from ._loop import Loop

_Standard = unix_events._UnixSelectorEventLoop


class _Meta(ABCMeta):  # so that the program's subclasses may mix in an ABC
    def __new__(
        meta,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        **keywords: Any,
    ) -> Any:
        if not any(isinstance(base, meta) for base in bases):
            return super().__new__(meta, name, bases, namespace, **keywords)
        own = tuple(_Standard if isinstance(base, meta) else base for base in bases)
        return new_class(name, own, keywords, lambda body: body.update(namespace))

    def __call__(
        cls, selector: BaseSelector | None = None
    ) -> asyncio.AbstractEventLoop:
        return Loop() if selector is None else _Standard(selector)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Standard)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Standard)


class SelectorEventLoop(_Standard, metaclass=_Meta):
    """What a program finds as asyncio.SelectorEventLoop: calling it makes our loop."""


def replace_default_loop() -> None:
    """Make ours the loop that asyncio makes when no other is asked for."""
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, SelectorEventLoop)
    if sys.version_info < (3, 16):
        # what asyncio.run(), Runner, new_event_loop() and get_event_loop() call
        policy: type = unix_events._UnixDefaultEventLoopPolicy
        policy._loop_factory = Loop  # type: ignore[attr-defined]
