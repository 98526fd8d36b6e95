"""What `import uvloop` gives in a program that `python -m asynccore --as-uvloop` runs.

The start-up hook loads this file under the name uvloop: a program that hard-codes
uvloop runs on asynccore, whether or not uvloop is installed.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.base_events import Server
from asyncio.selector_events import _SelectorDatagramTransport  # type: ignore[attr-defined]
from asyncio.sslproto import SSLProtocol
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import TypeVar

from asynccore import Loop, _core, new_event_loop

__all__ = ["Loop", "new_event_loop", "run"]

if sys.version_info < (3, 16):
    from asynccore import EventLoopPolicy, install

    __all__ += ["EventLoopPolicy", "install"]

# the release whose interface this is: programs compare it
__version__ = "0.23.0"

# uvloop's extension module, for programs that name its classes
loop = sys.modules[f"{__name__}.loop"] = ModuleType(f"{__name__}.loop")
vars(loop).update(
    Handle=asyncio.Handle,
    Loop=Loop,
    SSLProtocol=SSLProtocol,
    Server=Server,
    TCPTransport=_core.StreamTransport,
    TimerHandle=asyncio.TimerHandle,
    UDPTransport=_SelectorDatagramTransport,
    UnixTransport=_core.StreamTransport,
)

_T = TypeVar("_T")


def run(
    main: Awaitable[_T],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = new_event_loop,
    debug: bool | None = None,
) -> _T:
    """Run a coroutine, or what else can be awaited, on a new loop."""

    async def wrapper() -> _T:
        return await main

    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(wrapper())
