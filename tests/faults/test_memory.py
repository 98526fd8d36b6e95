"""Every allocation of our own calls fails once; see memory.py, which runs alone.

The standard loop is no control here: it hangs and loses connections.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from support.children import SITE

pytest.importorskip("_testcapi", reason="this Python comes without its test modules")

from .memory import STEPS

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="before 3.13 each call of a callback allocates: thousands of rounds a step",
)

TESTS = pathlib.Path(__file__).parents[1]
MODULE = "faults.memory"


@pytest.mark.parametrize("step", STEPS)
def test_step(step: str) -> None:
    options = ["-X", "faulthandler", "-m", MODULE]
    # debug mode walks the stack in Python, which 3.13.0 does not survive without memory
    environ = {**os.environ, "PYTHONPATH": SITE, "PYTHONASYNCIODEBUG": ""}
    done = subprocess.run(
        [sys.executable, *options, step, "asynccore"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=environ,
        cwd=TESTS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # the script's own measure that it was able to fail
    assert int(done.stdout) >= 0
