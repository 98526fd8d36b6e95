"""One measurement: start the process of a workload on a loop, and read its cost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import limit
from benchmarks.client import Client, cpus
from benchmarks.harness import (
    EXACT,
    Delay,
    IdleMemory,
    Lateness,
    Load,
    OwnMemory,
    Serve,
    Timed,
    Workload,
    cpu_ns,
    is_exact,
    resident_bytes,
)

TIMEOUT = 120
"""Seconds, many times what the slowest workload takes."""

CHILD = Path(__file__).with_name("child.py")
# The same hashes in every process: one source of noise less.
# a checkout is imported from bytecode, as installed packages are
ENVIRONMENT = os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""}


@dataclass(frozen=True)
class Server:
    """A running server process."""

    pid: int
    where: str
    process: subprocess.Popen[str]

    def memory(self, exact: bool) -> int:
        """The bytes that it has: resident, or those that it says it has allocated."""
        if not exact:
            return resident_bytes(self.pid)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the server ended")
        return int(answer)


def environment_of(workload: Workload) -> dict[str, str]:
    """The environment of the workload's process."""
    return ENVIRONMENT | EXACT if is_exact(workload) else ENVIRONMENT


def child(*arguments: str, wrapper: tuple[str, ...] = ()) -> list[str]:
    """The command line of child.py, under another program if `wrapper` names one."""
    return [*wrapper, sys.executable, str(CHILD), *arguments]


def run_of(
    what: str,
    loop: str,
    workload: Workload,
    *options: str,
    wrapper: tuple[str, ...] = (),
) -> list[str]:
    """The command line of a workload's process on a loop, or of the limit's."""
    if loop == limit.LIMIT:
        return [*wrapper, *limit.command(workload), *options]
    return child(what, loop, workload.name, *options, wrapper=wrapper)


@contextlib.contextmanager
def server(
    loop: str, workload: Serve, *options: str, wrapper: tuple[str, ...] = ()
) -> Iterator[Server]:
    """A server process; it is killed with SIGTERM."""
    with tempfile.TemporaryDirectory() as directory:
        command = run_of(
            "serve",
            loop,
            workload,
            f"--address={directory}/socket",
            *options,
            wrapper=wrapper,
        )
        log = Path(directory, "log")
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE if is_exact(workload) else None,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment_of(workload),
            ) as process,
        ):
            assert process.stdout is not None
            pid, _, where = process.stdout.readline().strip().partition(" ")
            if not where:
                process.wait()
                raise RuntimeError(last_line(log.read_text()))
            try:
                yield Server(int(pid), where, process)
            except RuntimeError as error:
                raise RuntimeError(last_line(log.read_text()) or str(error)) from error
            finally:
                os.kill(int(pid), signal.SIGTERM)  # not strace, if that is between


def last_line(text: str) -> str:
    """Of a traceback: the exception."""
    return text.strip().rpartition("\n")[2]


def on_cpu(cpu: int | None) -> list[str]:
    """The option that pins a child."""
    return [] if cpu is None else [f"--cpu={cpu}"]


def measure_server(loop: str, workload: Serve, quick: bool) -> dict[str, float]:
    """CPU time per request; or, for a Delay, the 99th percentile."""
    server_cpu, client_cpu = cpus()
    load = workload.load
    if load.requests:
        extra = [f"--requests={load.requests[quick]}"]
    else:
        extra = [f"--seconds={0.4 if quick else 1.0}"]
        extra.append(f"--warm-up={0.15 if quick else 0.3}")
    with (
        server(loop, workload, *on_cpu(server_cpu)) as process,
        Client(load, process.where, client_cpu, *extra) as client,
    ):
        before = cpu_ns(process.pid)
        answer = client.run()
        spent = cpu_ns(process.pid) - before
        cost = (
            answer["p99_ns"]
            if isinstance(workload, Delay)
            else (spent / answer["requests"])
        )
        return {
            "cost": cost / 1000,
            "requests_per_second": answer["requests"] / answer["elapsed_ns"] * 1e9,
            "busy": spent / answer["elapsed_ns"],
            "p50_us": answer["p50_ns"] / 1000,
            "p99_us": answer["p99_ns"] / 1000,
        }


def measure_idle(loop: str, workload: IdleMemory, quick: bool) -> dict[str, float]:
    """Bytes per connection: the growth from a few connections to many."""
    load = workload.load
    few = Load(1 if workload.exact else 200, load.size, options=load.options)
    with (
        server(loop, workload) as process,
        Client(few, process.where, None, "--hold"),
    ):
        before = process.memory(workload.exact)
        with Client(load, process.where, None, "--hold"):
            after = process.memory(workload.exact)
    return {"cost": (after - before) / load.connections}


def measure(loop: str, workload: Workload, quick: bool) -> dict[str, float]:
    """One run of one workload on one loop; "cost" is in the workload's unit."""
    if isinstance(workload, IdleMemory):
        return measure_idle(loop, workload, quick)
    if isinstance(workload, Serve):
        return measure_server(loop, workload, quick)
    options = on_cpu(cpus()[0])
    if isinstance(workload, Timed):
        options.append(f"--repeat={workload.repeat[quick]}")
    else:
        assert isinstance(workload, OwnMemory)
    try:
        run = subprocess.run(
            run_of("time", loop, workload, *options),
            env=environment_of(workload),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no end within {TIMEOUT} s") from None
    if run.returncode:
        raise RuntimeError(last_line(run.stderr))
    cost = float(json.loads(run.stdout))
    if isinstance(workload, Lateness):
        cost /= 1000
    elif isinstance(workload, Timed):
        cost /= workload.number
    return {"cost": cost}


def versions() -> dict[str, str | None]:
    """The version of each loop that this Python can import; None for the others. The
    limit has none to tell."""
    output = subprocess.check_output(
        child("versions"), env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    found: dict[str, str | None] = json.loads(output)
    return found | {limit.LIMIT: ""}
