"""Starts a process for a script."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from .measure import Growth

HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 240.0
# What a thread's cache keeps counts as in use, and newer releases of glibc keep more
# with each cycle of some scripts, by where things happen to lie: without the cache, and
# under valgrind, nothing is left behind.
EXACT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}


def _python(*args: str) -> tuple[str, str]:
    """Runs a file of this folder: its last line, and all that it said if it failed."""
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *args],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=os.environ | EXACT | {"PYTHONPATH": path},
        check=False,
    )
    if done.returncode != 0:
        return "", f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()[-1], ""


def run(name: str, loop: str) -> tuple[Growth | None, str]:
    """Measures one script: its growth, or None and what went wrong."""
    line, error = _python(str(HERE / "measure.py"), name, loop)
    return (None, error) if error else (Growth(**json.loads(line)), "")


def called(loop: str) -> set[str]:
    """The C functions that the scripts call."""
    line, error = _python(str(HERE / "measure.py"), loop)
    if error:
        raise RuntimeError(error)
    return set(json.loads(line))
