"""What is special in a container: the server is process 1, system calls are refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import FACTORIES, Program, program

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="containers are Linux's"
)


@pytest.fixture
def command(loop_name: str) -> list[str]:
    where = ["asgi:app", "--port", "0", "--timeout-keep-alive", "60"]
    return ["uvicorn", *where, "--loop", FACTORIES[loop_name]]


def check_loop(started: Program, loop_name: str) -> None:
    assert started.body("/loop").decode().partition(".")[0] == loop_name


def test_process_1(command: list[str], loop_name: str) -> None:
    """Process 1 gets no signal that it does not handle, and has no parent."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root and unshare (util-linux) for a namespace of processes")
    unshare = ("unshare", "--pid", "--fork", "--kill-child")
    probe = subprocess.run([*unshare, "true"], capture_output=True, text=True)
    if probe.returncode != 0:  # such as in a container
        pytest.skip(f"no namespace of processes: {probe.stderr.strip()}")
    with program("-m", *command, prefix=unshare) as started:
        check_loop(started, loop_name)
        outer = started.process.pid
        child = int(Path(f"/proc/{outer}/task/{outer}/children").read_text())
        status = Path(f"/proc/{child}/status").read_text()
        assert f"NSpid:\t{child}\t1\n" in status
        idle, _ = started.get("/")
        with idle:
            os.kill(child, signal.SIGTERM)
            # the signal that uvicorn raises again at its end does nothing here
            assert started.wait() == 0
    assert b"lifespan: down" in started.output
    assert b"Traceback" not in started.output


@pytest.mark.parametrize("workers", [1, 2])
def test_refused_system_calls(command: list[str], loop_name: str, workers: int) -> None:
    words = ["sandboxed.py", *command, "--workers", str(workers)]
    with program(*words) as started:
        check_loop(started, loop_name)
        idle, _ = started.get("/")
        with idle:
            assert started.stop() == (-signal.SIGTERM if workers == 1 else 0)
    assert b"lifespan: down" in started.output
    assert b"Traceback" not in started.output
