"""Child processes: where they find asynccore, and their accounting."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import asynccore

# for PYTHONPATH
SITE = os.path.dirname(os.path.dirname(os.path.abspath(asynccore.__file__)))


def children() -> dict[int, str]:
    """The children of this process that nobody has waited for, by their state."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        state, parent = stat.rpartition(")")[2].split()[:2]
        if int(parent) == os.getpid():
            found[int(folder.name)] = state
    return found


def zombies() -> list[int]:
    """Those that have ended."""
    return [pid for pid, state in children().items() if state == "Z"]


def until_ended(pid: int) -> None:
    """Blocks until a child has ended, and leaves its status to others."""
    with contextlib.suppress(ChildProcessError):  # a thread was faster
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def is_gone(pid: int) -> bool:
    """Whether a child was waited for."""
    return not os.path.exists(f"/proc/{pid}")
