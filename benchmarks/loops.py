"""The event loops that can be compared."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@dataclass(frozen=True)
class LoopSpec:
    """A loop by the name that the command line uses."""

    name: str
    module: str
    factory: str = "new_event_loop"

    def load(self) -> LoopFactory:
        """Import the loop's package and return what makes a loop."""
        factory: LoopFactory = getattr(
            importlib.import_module(self.module), self.factory
        )
        return factory

    def version(self) -> str | None:
        """The version, "" where there is none to tell, None if it cannot be used."""
        try:
            self.load()().close()
        except Exception:  # a peer may fail in any way, a wrong CPU included
            return None
        if self.module == "asyncio":
            return ""
        try:
            return importlib.metadata.version(self.module)
        except importlib.metadata.PackageNotFoundError:
            module = importlib.import_module(self.module)
            return str(getattr(module, "__version__", ""))


LOOPS = {
    spec.name: spec
    for spec in (
        LoopSpec("asyncio", "asyncio", "SelectorEventLoop"),
        LoopSpec("uvloop", "uvloop"),
        LoopSpec("asynccore", "asynccore"),
        LoopSpec("zuvloop", "zuvloop"),
        LoopSpec("rloop", "rloop"),
        LoopSpec("rsloop", "rsloop"),
        LoopSpec("talyn", "talyn", "Loop"),
    )
}
