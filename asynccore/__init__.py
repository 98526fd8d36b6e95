"""A drop-in asyncio event loop: hand-written C on libuv.

    asynccore.run(main())

    with asyncio.Runner(loop_factory=asynccore.new_event_loop) as runner: ...

`python -m asynccore script.py` runs a program on it that does not know of it, and
`pytest --asynccore` its tests.

PYTEST_DONT_REWRITE: pytest would warn where we are imported before it is.
"""

from __future__ import annotations

import asyncio
import sys

from ._loop import Loop
from ._version import __version__

TYPE_CHECKING = False  # typing would be half of what our import costs (3.14)
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    from ._config import show_config
    from ._policy import install

    if sys.version_info < (3, 16):
        from ._policy import EventLoopPolicy

    _T = TypeVar("_T")

__all__ = [
    "Loop",
    "__version__",
    "install",
    "new_event_loop",
    "run",
    "show_config",
]
if sys.version_info < (3, 16):
    __all__ += ["EventLoopPolicy"]

# Made when first asked for: Python deprecates policies from 3.14 on and has none from
# 3.16 on, and few programs ask for the configuration.
_LAZY = {
    "EventLoopPolicy": "_policy",
    "install": "_policy",
    "show_config": "_config",
}


def new_event_loop() -> Loop:
    """Return a new event loop."""
    return Loop()


if sys.version_info >= (3, 12):

    def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
        """Run a coroutine on a new loop of ours, as asyncio.run() does on its own."""
        return asyncio.run(main, debug=debug, loop_factory=new_event_loop)

else:

    def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None) -> _T:
        """Run a coroutine on a new loop of ours, as asyncio.run() does on its own."""
        # asyncio.run() of 3.11 takes no loop_factory; this is its body
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "asyncio.run() cannot be called from a running event loop"
            )
        with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
            return runner.run(main)


if not TYPE_CHECKING:  # a checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        module = _LAZY.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value: object = getattr(import_module(f"{__name__}.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
