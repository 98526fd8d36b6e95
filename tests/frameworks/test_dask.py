"""dask.distributed: a scheduler, two workers and a client, each a process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .programs import SITE, Program, program

if importlib.util.find_spec("distributed") is None:
    pytest.skip("distributed is not installed", allow_module_level=True)

pytestmark = pytest.mark.timeout(120)

# distributed knows `asyncio` and `uvloop`; ours takes the latter's place
WORDS = {"asyncio": (), "asynccore": ("-m", "asynccore", "--as-uvloop")}
SETTING = "DASK_DISTRIBUTED__ADMIN__EVENT_LOOP"
LOOPS = {"asyncio": "asyncio", "asynccore": "uvloop"}

# A worker that is stopped while the scheduler answers its heartbeat writes a traceback,
# on every loop: Worker.heartbeat() awaits on a connection that Worker.close() closes.
LATE_HEARTBEAT = re.compile(
    rb"[^\n]*Failed to communicate with scheduler during heartbeat\.\n"
    rb".*?CommClosedError: [^\n]*Stream is closed\n",
    re.DOTALL,
)


@pytest.fixture(autouse=True)
def settings(
    loop_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv(SETTING, LOOPS[loop_name])
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD", "spawn")


@contextlib.contextmanager
def cluster(loop_name: str, *options: str) -> Iterator[tuple[str, list[Program]]]:
    """The address of a scheduler with two workers, and the three programs."""
    words = WORDS[loop_name]
    here = ("--host", "127.0.0.1", "--no-dashboard")
    with contextlib.ExitStack() as stack:
        started = program(
            *(*words, "-m", "distributed.cli.dask_scheduler", "--port", "0", *here),
            ready=r"Scheduler at: +tcp://127\.0\.0\.1:(\d+)",
        )
        scheduler = stack.enter_context(started)
        address = f"tcp://127.0.0.1:{scheduler.port}"
        limits = ("--nthreads", "1", "--memory-limit", "0", *options)
        programs = [scheduler]
        for _ in range(2):
            command = (*words, "-m", "distributed.cli.dask_worker", address, *here)
            ready = r"Registered to: +tcp://127\.0\.0\.1:(\d+)"
            worker = program(*command, *limits, ready=ready)
            programs.append(stack.enter_context(worker))
        yield address, programs


def client(loop_name: str, address: str, code: str) -> str:
    """What a client prints."""
    source = f"""
import asyncio, os, signal, threading
from distributed import Client, wait

def whose():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]

def main(client):
    {code.strip().replace(chr(10), chr(10) + "    ")}

if __name__ == "__main__":
    with Client({address!r}, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        main(client)
    print("ended")
"""
    done = subprocess.run(
        [sys.executable, *WORDS[loop_name], "-c", source],
        env={**os.environ, "PYTHONPATH": SITE},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_work(loop_name: str) -> None:
    code = """
print(client.run_on_scheduler(whose), *client.run(whose).values(), client.sync(inner))
squares = client.map(lambda x: x * x, range(500))
assert sum(client.gather(squares)) == sum(x * x for x in range(500))
assert client.submit(sum, squares).result() == sum(x * x for x in range(500))
large = client.scatter(bytes(50_000_000), broadcast=True)
sizes = client.map(lambda i, data: len(data), range(4), data=large)
assert client.gather(sizes) == [50_000_000] * 4
pids = client.gather(client.map(lambda i: os.getpid(), range(40), pure=False))
assert len(set(pids)) == 2
"""
    inner = "async def inner():\n    return whose()\n"
    with cluster(loop_name, "--no-nanny") as (address, programs):
        printed = client(loop_name, address, inner + code)
        assert printed.split() == [loop_name] * 4 + ["ended"]
        for one in reversed(programs):
            assert one.stop() == 0, one.output.decode()
            output = LATE_HEARTBEAT.sub(b"", one.output)
            assert not re.search(rb"Traceback|never retrieved", output), output


def test_worker_that_is_killed(loop_name: str) -> None:
    """What it held is computed again, and its nanny starts another."""
    code = """
values = client.map(lambda x: (x, os.getpid()), range(50))
wait(values)
pids = {pid for _, pid in client.gather(values)}
assert len(pids) == 2
os.kill(min(pids), signal.SIGKILL)
again = client.map(lambda pair: pair[0], values)
assert client.gather(again) == list(range(50))
client.wait_for_workers(2, timeout=60)
print(*client.run(whose).values())
"""
    with cluster(loop_name, "--nanny") as (address, programs):
        printed = client(loop_name, address, code)
        assert printed.split() == [loop_name] * 2 + ["ended"]
        for one in reversed(programs):
            assert one.stop(signal.SIGTERM) == 0, one.output.decode()
