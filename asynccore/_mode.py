"""The ways to work that environment variables choose, each for the loops to come."""

from __future__ import annotations

import os


class Mode:
    """One of some names: the variable's when it is first asked for, else the first."""

    def __init__(self, variable: str, *names: str) -> None:
        self.variable = variable
        self.names = names
        self._chosen: str | None = None

    def use(self, name: str) -> None:
        """Choose, whatever the variable says; ValueError for an unknown name."""
        if name not in self.names:
            raise ValueError(
                f"{self.variable} must be one of {self.names}, not {name!r}"
            )
        self._chosen = name

    def __call__(self) -> str:
        if self._chosen is None:
            self.use(os.environ.get(self.variable) or self.names[0])
        assert self._chosen is not None
        return self._chosen


# when what callbacks write is sent; `Loop.cork` and `Loop.cork_turn` for one loop
cork = Mode("ASYNCCORE_CORK", "callback", "turn", "off")

# whose readers and writers connections get; `Loop.c_streams` for one loop
streams = Mode("ASYNCCORE_STREAMS", "c", "stdlib")
