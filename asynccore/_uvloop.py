"""What `import uvloop` gives in a program that `python -m asynccore --as-uvloop` runs.

The start-up hook loads this file under the name uvloop: a program that hard-codes
uvloop runs on asynccore, whether or not uvloop is installed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from asynccore import Loop, new_event_loop

__all__ = ["Loop", "new_event_loop", "run"]

if sys.version_info < (3, 16):
    from asynccore import EventLoopPolicy, install

    __all__ += ["EventLoopPolicy", "install"]

# the release whose interface this is: programs compare it
__version__ = "0.23.0"

_T = TypeVar("_T")


def run(
    main: Coroutine[Any, Any, _T],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = new_event_loop,
    debug: bool | None = None,
) -> _T:
    """Run a coroutine on a new loop."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
