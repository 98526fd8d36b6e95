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
    names = ("_core", "_datagram", "_loop", "_mode", "_tls", "_version")
    ours = {"asynccore", *(f"asynccore.{name}" for name in names)}
    assert set(loaded) <= {*ours, "__future__"}


REPLACED_CLOCK = """
import asyncio, time
real = time.monotonic

def check(loop):
    assert abs(loop.time() - real()) < 10
    time.monotonic = lambda: 5.0
    assert loop.time() == 5.0
    time.monotonic = real
    assert abs(loop.time() - real()) < 10
    fired = []
    loop.call_later(0, fired.append, 1)
    loop.call_later(0, loop.stop)
    loop.run_forever()
    loop.close()
    assert fired == [1]
"""


def test_clock_where_others_have_all_watchers_of_dicts() -> None:
    _testcapi = pytest.importorskip("_testcapi")
    if not hasattr(_testcapi, "add_dict_watcher"):
        pytest.skip("dicts have versions on this Python")
    code = """
import _testcapi
try:
    while True:
        _testcapi.add_dict_watcher(0)
except RuntimeError:
    import asynccore
check(asynccore.new_event_loop())
"""
    assert python(REPLACED_CLOCK + code) == ""


def test_clock_of_a_module_that_is_imported_twice() -> None:
    code = """
import asynccore, sys
loops = [asynccore.new_event_loop()]
for name in [name for name in sys.modules if name.startswith("asynccore")]:
    del sys.modules[name]
import asynccore
loops.append(asynccore.new_event_loop())
assert type(loops[0]) is not type(loops[1])
check(loops[1])
check(loops[0])
"""
    assert python(REPLACED_CLOCK + code) == ""
