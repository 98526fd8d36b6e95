"""The package's own annotations, its stubs, and what typed programs make of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import asynccore

pytest.importorskip("mypy")

HERE = Path(__file__).resolve().parent
ROOT = Path(asynccore.__file__).resolve().parent.parent
LIMIT = 80.0


def mypy(*words: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Runs a module of mypy's where asynccore is found; `words` begin with its name."""
    environment = {"PATH": "", "MYPY_CACHE_DIR": str(cache)}
    if ROOT.name not in ("site-packages", "dist-packages"):
        environment["MYPYPATH"] = environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=cache,
        env=environment,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14", "3.15"])
def test_package(cache: Path, version: str) -> None:
    words = ("--strict", "--config-file=", f"--python-version={version}")
    done = mypy("mypy", *words, "-p", "asynccore", cache=cache)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.timeout(LIMIT)
def test_stubs(cache: Path) -> None:
    done = mypy("mypy.stubtest", "asynccore", cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(LIMIT)
def test_right(cache: Path) -> None:
    done = mypy(
        "mypy", "--strict", "--config-file=", str(HERE / "right.py"), cache=cache
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(LIMIT)
def test_wrong(cache: Path) -> None:
    path = HERE / "wrong.py"
    words = ("--strict", "--config-file=", "--hide-error-context", str(path))
    done = mypy("mypy", *words, cache=cache)
    found: dict[int, set[str]] = {}
    for line, kind in re.findall(
        r"wrong\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE
    ):
        found.setdefault(int(line), set()).add(kind)
    wanted = {
        number: set(line.partition("  # ")[2].split(", "))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "  # " in line
    }
    assert found == wanted
