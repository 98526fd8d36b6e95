"""The event loop policy, on the Pythons that have policies: up to 3.15.

Imported when `EventLoopPolicy` or `install` is first asked for. The class to derive
from is taken from where asyncio itself takes it: its public name warns from 3.14 on.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from asyncio import unix_events

from ._loop import Loop

_ADVICE = "use asynccore.run() or asyncio.Runner(loop_factory=asynccore.new_event_loop)"

if sys.version_info < (3, 16):

    class EventLoopPolicy(unix_events._UnixDefaultEventLoopPolicy):
        """The standard policy, whose new loops are ours."""

        _loop_factory = Loop


def install() -> None:
    """Make ours the loop of asyncio.run(), asyncio.new_event_loop() and their like.

    That is asyncio.set_event_loop_policy(asynccore.EventLoopPolicy()). Python 3.14 and
    3.15 deprecate it, so it warns there; Python 3.16 has no policies: RuntimeError.
    """
    if sys.version_info >= (3, 16):
        raise RuntimeError(
            f"asynccore.install() needs an event loop policy, which Python "
            f"{sys.version_info[0]}.{sys.version_info[1]} does not have: {_ADVICE}"
        )
    if sys.version_info >= (3, 14):
        warnings.warn(
            "asynccore.install() sets an event loop policy, which Python 3.16 "
            f"removes: {_ADVICE}",
            DeprecationWarning,
            stacklevel=2,
        )
        asyncio.events._set_event_loop_policy(EventLoopPolicy())
    else:
        asyncio.set_event_loop_policy(EventLoopPolicy())
