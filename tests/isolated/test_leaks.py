"""The leak scripts under pytest; `python -m tests.isolated` runs the same.

A few run always, the others with `-m leaks`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.interpreter import FREE_THREADED

from . import measure
from .processes import called, run
from .scripts import SCRIPTS, Script

ALWAYS = ("loop", "call_soon", "call_later", "connection")


def _param(name: str) -> Any:
    marks = [] if name in ALWAYS else [pytest.mark.leaks]
    return pytest.param(name, marks=marks)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [_param(name) for name in SCRIPTS])
def test_script(name: str) -> None:
    growth, text = run(name, "asynccore")
    assert growth is not None, text
    assert growth.leaks() == []


@pytest.mark.timeout(300)
def test_every_public_method_has_a_script() -> None:
    from asynccore import _core

    methods = {
        f"{kind.__name__}.{name}"
        for kind in vars(_core).values()
        if isinstance(kind, type)
        for name, value in vars(kind).items()
        if not name.startswith("_") and isinstance(value, types.MethodDescriptorType)
    }
    functions = {
        name
        for name, value in vars(_core).items()
        if not name.startswith("_") and isinstance(value, types.BuiltinFunctionType)
    }
    assert "Loop.call_soon" in methods
    if not hasattr(asyncio.StreamWriter, "__del__"):  # which 3.11.2 lacks, and calls it
        methods.discard("Connected.is_closing")
    assert (methods | functions) - called("asynccore") == set()


def leaky(leak: Callable[[Any], None]) -> Script:
    """A script that keeps something in one cycle of ten."""

    @contextlib.contextmanager
    def environment(factory: Any) -> Iterator[Callable[[], None]]:
        kept: list[Any] = []
        count = iter(range(1_000_000))

        def cycle() -> None:
            if next(count) % 10 == 0:
                leak(kept)

        yield cycle
        for item in kept:
            if isinstance(item, int):
                os.close(item)

    return Script("leaky", 100, environment)


needs_pymalloc = pytest.mark.skipif(
    os.environ.get("PYTHONMALLOC", "").startswith("malloc"),
    reason="blocks are counted by pymalloc, which PYTHONMALLOC has switched off",
)


@pytest.mark.parametrize(
    ("leak", "expected"),
    [
        pytest.param(lambda kept: None, "", id="nothing"),
        pytest.param(lambda kept: kept.append([]), "objects", id="objects"),
        pytest.param(
            lambda kept: kept.append(object()),
            "blocks",
            id="blocks",
            marks=needs_pymalloc,
        ),
        pytest.param(
            lambda kept: kept.append(bytes(100_000)),
            "bytes",
            id="bytes",
            marks=[
                needs_pymalloc,
                pytest.mark.skipif(FREE_THREADED, reason="malloc() knows of no bytes"),
            ],
        ),
        pytest.param(
            lambda kept: kept.append(os.open("/dev/null", os.O_RDONLY)),
            "fds",
            id="fds",
        ),
    ],
)
def test_measure_sees_leaks(leak: Callable[[Any], None], expected: str) -> None:
    leaks = measure.measure(leaky(leak), asyncio.SelectorEventLoop).leaks()
    assert expected in " ".join(leaks)
    assert bool(leaks) == bool(expected)
