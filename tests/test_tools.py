"""tools/prepare.sh: what the two commands of the README say is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    not (TOP / "tools" / "prepare.sh").exists(), reason="no source tree"
)


def ending(code: str, folder: Path, **variables: str) -> str:
    """What a script of tools/ says that ends there, without root."""
    user = folder / "id"
    user.write_text("#!/bin/sh\necho 1000\n")
    user.chmod(0o755)
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHON"}
    inherited["PATH"] = f"{folder}{os.pathsep}{inherited['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", f". tools/prepare.sh\n{code}\necho went on", "tools/x.sh"],
        cwd=TOP,
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_packages_are_named(tmp_path: Path) -> None:
    text = ending("install_packages sh sh a-package no-such-program", tmp_path)
    assert text.startswith("x.sh: missing packages (Debian's names): ")
    assert text.split()[-1] == "a-package"


def test_interpreter_that_is_not_there(tmp_path: Path) -> None:
    text = ending("install_packages", tmp_path, PYTHON="/no/such/python")
    assert text == "x.sh: there is no PYTHON=/no/such/python\n"
