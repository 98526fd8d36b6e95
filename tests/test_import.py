"""Importing asynccore: its names, its silence, its cost."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import asynccore


def python(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


def test_names() -> None:
    names = {"Loop", "install", "new_event_loop", "run", "show_config", "__version__"}
    assert names <= set(asynccore.__all__)
    for name in names:
        assert getattr(asynccore, name) is not None
        assert name in dir(asynccore)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", asynccore.__version__)


def test_no_other_names() -> None:
    with pytest.raises(AttributeError, match="module 'asynccore' has no attribute 'x'"):
        asynccore.x  # type: ignore[attr-defined] # noqa: B018
    assert python("from asynccore import *; print(Loop, run)") != ""


def test_silent() -> None:
    code = """
import asyncio, asynccore
async def main(): pass
asynccore.run(main())
asynccore.new_event_loop().close()
asynccore.show_config("dict")
asynccore.EventLoopPolicy
"""
    assert python(code) == ""


def test_imports_nothing_more_than_asyncio() -> None:
    code = """
import asyncio, sys
before = set(sys.modules)
import asynccore
print(*sorted(set(sys.modules) - before))
"""
    loaded = python(code).split()
    names = ("_core", "_datagram", "_loop", "_streams", "_tls", "_version")
    ours = {"asynccore", *(f"asynccore.{name}" for name in names)}
    assert set(loaded) <= {*ours, "__future__"}
