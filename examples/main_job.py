"""The main job: an unmodified web server on asyncio, uvloop and asynccore in turn.

    python main_job.py [--quick] [--server aiohttp|uvicorn]

Each measurement is a fresh server process under load over loopback by a client in a
process of its own: wrk where it is installed, else main_job_load.py. The loops take
turns, round by round. At the end there are a table of medians and a plot.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from main_job_plot import Panel, draw

HERE = Path(__file__).resolve().parent
LOOPS = ("asyncio", "uvloop", "asynccore")
WARM_UP = 0.4  # seconds
START_LIMIT = 20.0  # seconds until a server must answer

# How a program that knows nothing of loops is put on uvloop.
ON_UVLOOP = """
import runpy, sys, uvloop
uvloop.install()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Failure(Exception):
    """Something that the user can mend; told without a traceback."""


class Result(NamedTuple):
    """One measurement; the names are the columns of the table."""

    rate: float  # requests/s
    cpu: float  # server CPU per request, us
    p50: float  # ms
    p99: float  # ms
    rss: float  # MiB


COLUMNS = {
    "rate": ("requests/s", ",.0f"),
    "cpu": ("CPU us/request", ".1f"),
    "p50": ("p50 ms", ".2f"),
    "p99": ("p99 ms", ".2f"),
    "rss": ("RSS MiB", ".1f"),
}


def command(server: str, loop: str, port: int) -> list[str]:
    on_asynccore = ["-m", "asynccore"] if loop == "asynccore" else []
    if server == "uvicorn":
        name = "uvloop" if loop == "uvloop" else "asyncio"
        words = ["-m", "uvicorn", "hello_asgi:app", "--app-dir", str(HERE)]
        words += ["--port", str(port), "--loop", name, "--http", "httptools"]
        words += ["--no-access-log", "--log-level", "warning"]
    else:
        words = [str(HERE / "hello_aiohttp.py"), str(port)]
        if loop == "uvloop":
            words = ["-W", "ignore", "-c", ON_UVLOOP, *words]
    return [sys.executable, *on_asynccore, *words]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_it_answers(server: subprocess.Popen[bytes], port: int) -> None:
    limit = time.monotonic() + START_LIMIT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError as error:
            if server.poll() is not None:
                raise Failure(f"the server ended: {server.args!r}") from error
            if time.monotonic() > limit:
                raise Failure(f"the server does not answer: {server.args!r}") from error
            time.sleep(0.02)


@contextmanager
def serving(server: str, loop: str) -> Iterator[tuple[int, int]]:
    """A server process with a core of its own if there are two; its pid and port."""
    port = free_port()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command(server, loop, port), env=environment) as process:
        try:
            pin(process.pid, 0)
            wait_until_it_answers(process, port)
            yield process.pid, port
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def pin(pid: int, which: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(pid, {cores[which]})


def usage(pid: int) -> tuple[float, float]:
    """The CPU seconds that a process has used, and its resident MiB."""
    try:
        tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
        nanoseconds = sum(int(task.read_text().split()[0]) for task in tasks)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        nanoseconds = pages = 0
    if nanoseconds:
        return nanoseconds / 1e9, pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    shown = ["ps", "-o", "time=,rss=", "-p", str(pid)]
    done = subprocess.run(shown, capture_output=True, text=True, check=True)
    clock, kibibytes = done.stdout.split()
    seconds = 0.0
    for part in clock.replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds, int(kibibytes) / 1024


def load(words: list[str]) -> subprocess.Popen[str]:
    client = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    pin(client.pid, -1)
    return client


def finish(client: subprocess.Popen[str]) -> str:
    said, _ = client.communicate()
    if client.returncode != 0:
        raise Failure(f"the client failed: {said.strip()}")
    return said


def builtin_client(
    port: int, connections: int, warm_up: float, seconds: float
) -> list[str]:
    script = str(HERE / "main_job_load.py")
    return [sys.executable, script, *map(str, (port, connections, warm_up, seconds))]


def measure(options: argparse.Namespace, loop: str) -> Result:
    connections, seconds = options.connections, options.seconds
    with serving(options.server, loop) as (pid, port):
        if options.client == "wrk":
            finish(load(builtin_client(port, connections, WARM_UP, 0.05)))
            words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
            before, _ = usage(pid)
            found = read_wrk(finish(load([*words, f"http://127.0.0.1:{port}/"])))
        else:
            client = load(builtin_client(port, connections, WARM_UP, seconds))
            assert client.stdout is not None
            client.stdout.readline()  # the warm-up is over
            before, _ = usage(pid)
            found = json.loads(finish(client))
        after, rss = usage(pid)
    return Result(
        rate=found["requests"] / found["seconds"],
        cpu=(after - before) / found["requests"] * 1e6,
        p50=found["p50"] * 1e3,
        p99=found["p99"] * 1e3,
        rss=rss,
    )


def read_wrk(said: str) -> dict[str, float]:
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    latency = {
        percent: float(value) * units[unit]
        for percent, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)\b", said)
    }
    total = re.search(r"(\d+) requests in ([\d.]+)(ms|s),", said)
    if total is None or "99" not in latency or int(total[1]) == 0:
        raise Failure(f"wrk said:\n{said}")
    if bad := re.search(r"Socket errors.*|Non-2xx.*", said):
        raise Failure(f"wrk met errors: {bad[0]}")
    return {
        "requests": float(total[1]),
        "seconds": float(total[2]) * units[total[3]],
        "p50": latency["50"],
        "p99": latency["99"],
    }


class Progress:
    """A bar on standard error; a line a round where that is not a terminal."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.done = 0
        self.start = time.monotonic()
        self.bar = sys.stderr.isatty()

    def show(self, what: str) -> None:
        if not self.bar:
            return
        full = 28 * self.done // self.steps
        elapsed = time.monotonic() - self.start
        left = elapsed / self.done * (self.steps - self.done) if self.done else None
        rest = f"{left:3.0f} s left" if left is not None else ""
        bar = "#" * full + "." * (28 - full)
        line = f"\r[{bar}] {self.done}/{self.steps}  {what:<20} {rest}"
        print(f"{line:<79}", end="", file=sys.stderr, flush=True)

    def step(self, what: str) -> None:
        self.done += 1
        if not self.bar:
            print(f"{self.done}/{self.steps} {what}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.bar:
            print("\r" + " " * 79 + "\r", end="", file=sys.stderr, flush=True)


def table(medians: dict[str, Result]) -> str:
    rows = [["", *(title for title, _ in COLUMNS.values())]]
    for loop, result in medians.items():
        values = zip(result, COLUMNS.values(), strict=True)
        rows.append([loop, *(format(value, form) for value, (_, form) in values)])
    ours = medians["asynccore"]
    for loop, result in medians.items():
        if loop != "asynccore":
            ratios = [f"{a / b:.2f}" for a, b in zip(ours, result, strict=True)]
            rows.append([f"asynccore / {loop}", *ratios])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{first:<{widths[0]}}  "
        + "  ".join(
            f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)
        )
        for first, *rest in rows
    )


def require(server: str) -> list[str]:
    """The loops that can run here; Failure if the job can not be done."""
    needed = {"asynccore": "asynccore", server: server}
    if server == "uvicorn":
        needed["httptools"] = "httptools"
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        names = " ".join(missing)
        raise Failure(f"missing packages: {names} (python -m pip install {names})")
    if importlib.util.find_spec("uvloop") is None:
        print("uvloop is not installed: it is left out", file=sys.stderr)
        return [loop for loop in LOOPS if loop != "uvloop"]
    return list(LOOPS)


def measure_all(
    options: argparse.Namespace, loops: list[str]
) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {loop: [] for loop in loops}
    progress = Progress(options.rounds * len(loops))
    try:
        for number in range(options.rounds):
            elapsed = time.monotonic() - progress.start
            if number and elapsed * (number + 1) / number > options.limit:
                break  # a slow machine: fewer rounds
            # no loop is always the first of its round
            shift = number % len(loops)
            for loop in loops[shift:] + loops[:shift]:
                what = f"{loop}, round {number + 1}"
                progress.show(what)
                results[loop].append(measure(options, loop))
                progress.step(what)
    finally:
        progress.end()
    return results


def plot(
    title: str, note: str, results: dict[str, list[Result]], medians: dict[str, Result]
) -> str:
    panels = [
        Panel(
            words,
            {loop: getattr(result, name) for loop, result in medians.items()},
            {
                loop: [getattr(result, name) for result in found]
                for loop, found in results.items()
            },
            form,
        )
        for name, words, form in (
            ("rate", "requests/s (more is better)", ",.0f"),
            ("cpu", "server CPU us/request (less is better)", ".1f"),
        )
    ]
    return draw(title, note, panels)


def run(options: argparse.Namespace) -> None:
    loops = require(options.server)
    options.client = options.client or ("wrk" if shutil.which("wrk") else "built-in")
    if options.client == "wrk":
        options.seconds = math.ceil(options.seconds)
    results = measure_all(options, loops)
    medians = {
        loop: Result(*map(statistics.median, zip(*found, strict=True)))
        for loop, found in results.items()
    }
    title = f"{options.server} says hello"
    rounds = len(results["asynccore"])
    note = (
        f"Python {platform.python_version()}, {options.connections} connections, "
        f"{options.client} client, medians of {rounds} x {options.seconds:g} s"
    )
    print(f"{title}: {note}\n\n{table(medians)}\n")
    options.plot.parent.mkdir(parents=True, exist_ok=True)
    options.plot.write_text(plot(title, note, results, medians))
    print(f"plot: {options.plot}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="some 10 seconds in all, not 50")
    add("--server", choices=("aiohttp", "uvicorn"), default="aiohttp")
    add("--client", choices=("wrk", "built-in"), help="default: wrk if installed")
    add("--connections", type=int, default=32, metavar="N")
    add("--rounds", type=int, metavar="N", help="default: 5, with --quick 2")
    add("--seconds", type=float, metavar="S", help="of a round; default: 2, or 1")
    add("--plot", type=Path, default=Path("out/main_job.svg"), metavar="FILE")
    options = parser.parse_args()
    options.limit = 14.0 if options.quick else 52.0
    if options.rounds is None:
        options.rounds = 2 if options.quick else 5
    else:
        options.limit = math.inf
    if options.seconds is None:
        options.seconds = 1.0 if options.quick else 2.0
    if min(options.rounds, options.seconds, options.connections) <= 0:
        parser.error("rounds, seconds and connections must be positive")
    try:
        run(options)
    except Failure as failure:
        print(f"main_job: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
