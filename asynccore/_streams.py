"""Streams: whether `asyncio.start_server` and `asyncio.open_connection` run in C.

Unmodified programs get `_core.StreamReader`, over pipes as well, and, for accepted
connections, `_core.StreamWriter`, subclasses of asyncio's own. ASYNCCORE_STREAMS
chooses for new loops: "c" (the default) or "stdlib" (asyncio's classes, untouched);
`Loop.c_streams` for the connections to come of one loop.
"""

from __future__ import annotations

import os

from . import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MODES: Final = ("c", "stdlib")

_mode: str | None = None


def use(name: str) -> None:
    """Choose for new loops."""
    global _mode
    if name not in MODES:
        raise ValueError(f"ASYNCCORE_STREAMS must be one of {MODES}, not {name!r}")
    _mode = name


def mode() -> str:
    """What was chosen: with the first loop by ASYNCCORE_STREAMS."""
    if _mode is None:
        use(os.environ.get("ASYNCCORE_STREAMS") or MODES[0])
    assert _mode is not None
    return _mode


def describe() -> str:
    """How streams run, for show_config()."""
    if mode() == "stdlib":
        return "asyncio's"
    if not _core.streams_are_stock():
        return "asyncio's, which was patched"
    return "in C"
