"""Compare event loops, in pairs and in turns: python -m benchmarks.run --help"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from pathlib import Path

from benchmarks import client, report, scale_report
from benchmarks.harness import Serve, Workload, is_exact
from benchmarks.limit import LIMIT, can_run
from benchmarks.loops import LOOPS
from benchmarks.measure import measure, versions
from benchmarks.report import Results
from benchmarks.suite import SCALE, WORKLOADS, select

DOCS = Path(__file__).resolve().parent.parent / "docs"


class Progress:
    """A bar on standard error, if that is a terminal; else a line per workload."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._tty = sys.stderr.isatty()
        self._last = ""

    def step(self, workload: str, loop: str) -> None:
        if self._tty:
            filled = 24 * self._done // self._total
            spent = time.monotonic() - self._start
            left = spent / self._done * (self._total - self._done) if self._done else 0
            text = (
                f"\r[{'#' * filled:.<24}] {self._done}/{self._total} "
                f"{int(left) // 60}:{int(left) % 60:02} left  {workload} {loop}"
            )
            sys.stderr.write(f"{text:<78.78}")
        elif workload != self._last:
            sys.stderr.write(f"{self._done}/{self._total} {workload}\n")
        sys.stderr.flush()
        self._last = workload
        self._done += 1

    def end(self) -> None:
        if self._tty:
            sys.stderr.write(f"\r{'':78}\r")
            sys.stderr.flush()


def turns(columns: list[str], number: int) -> list[str]:
    """The order of one round: each loop comes first, last, before and after others."""
    shift = number // 2 % len(columns)
    order = columns[shift:] + columns[:shift]
    return order[::-1] if number % 2 else order


def collect(
    results: Results, workloads: list[Workload], rounds: int, quick: bool
) -> None:
    """Run everything; what fails on a loop is noted and not tried again."""
    # What malloc() has given out is the same each time.
    each = {w.name: 1 if is_exact(w) else rounds for w in workloads}
    progress = Progress(sum(each.values()) * len(results.columns))
    for workload in workloads:
        failed: dict[str, str] = {}
        for number in range(each[workload.name]):
            row: dict[str, dict[str, float]] = {}
            for column in turns(list(results.columns), number):
                loop = results.columns[column]
                progress.step(workload.name, column)
                if loop in failed or not can_run(loop, workload):
                    continue
                try:
                    row[column] = measure(loop, workload, quick)
                except (RuntimeError, OSError) as error:
                    failed[loop] = str(error)
            results.add(workload, row)
        results.failed[workload.name] = failed
    progress.end()


def with_descriptors(workloads: list[Workload]) -> list[Workload]:
    """Raise the limit of open files, which the processes inherit, to what the most
    connections need; without the workloads for which it cannot be raised."""

    def needed(workload: Workload) -> int:
        # The few connections of IdleMemory, and what each process has open.
        return workload.load.connections + 300 if isinstance(workload, Serve) else 0

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(needed, workloads))
    if soft != resource.RLIM_INFINITY and soft < most:
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fitting = []
    for workload in workloads:
        if soft == resource.RLIM_INFINITY or needed(workload) <= soft:
            fitting.append(workload)
        else:
            print(
                f"{workload.name} is left out: it needs {needed(workload)} open files, "
                f"and the hard limit (ulimit -Hn) is {hard}",
                file=sys.stderr,
            )
    return fitting


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__
    )
    parser.add_argument(
        "workloads", nargs="*", help="names, beginnings of names, or groups"
    )
    parser.add_argument("--list", action="store_true", help="show the workloads")
    parser.add_argument(
        "--scale",
        action="store_true",
        help="instead: cost by number of connections, timers, tasks",
    )
    parser.add_argument(
        "--loops",
        default="asyncio,uvloop,asynccore",
        help=f"of {', '.join(LOOPS)}, or all; what cannot be imported is left out; "
        f"and {LIMIT}: what C without Python reaches",
    )
    parser.add_argument("--base", default="uvloop", help="the loop that counts as 1")
    parser.add_argument("--rounds", type=int, help="default: 5; --quick 3, --scale 2")
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    parser.add_argument(
        "--docs",
        action="store_true",
        help="write JSON and plot to docs/assets, the table to docs/performance.md",
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="with --docs: keep the rows of workloads that do not run now",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    if args.list:
        for workload in (SCALE if args.scale else WORKLOADS).values():
            print(f"{workload.name:20} {workload.title}  [{workload.group}]")
        return 0
    workloads = with_descriptors(
        select(args.workloads, SCALE if args.scale else WORKLOADS)
    )
    known = versions()
    wanted = args.loops.replace("all", ",".join(LOOPS)).split(",")
    if unknown := set(wanted) - set(known):
        raise SystemExit(f"no loop {', '.join(unknown)}; there are {', '.join(known)}")
    loops = [name for name in known if name in wanted and known[name] is not None]
    for name in wanted:
        if known[name] is None:
            print(f"{name} is not installed: left out", file=sys.stderr)
    base = args.base if args.base in loops else "asyncio"
    if base not in loops:
        loops.insert(0, base)
    client.build()
    release = ".".join(platform.release().split(".")[:2])
    columns = {name: name for name in loops}
    if not args.scale:
        columns[report.CONTROL] = base
    results = Results(
        base=base,
        columns=columns,
        about={
            "python": platform.python_version(),
            "system": f"{platform.system()} {release} {platform.machine()}",
            "versions": {n: known[n] for n in loops if n != LIMIT},
            "quick": args.quick,
        },
    )
    rounds = args.rounds or (2 if args.scale else 3 if args.quick else 5)
    collect(results, workloads, rounds, args.quick)
    writer = scale_report if args.scale else report
    print(writer.table(results, plain=True))
    if args.json:
        args.json.write_text(json.dumps(results.as_dict(), indent=1) + "\n")
    if args.docs:
        writer.write_docs(results, DOCS, merge=args.merge)
    return 0


if __name__ == "__main__":
    sys.exit(main())
