"""Instructions and system calls per operation: python -m benchmarks.count --help

A run is made twice, of two lengths; the difference divided by the operations that the
longer has more is free of start-up and tear-down.  Instructions are those that
callgrind sees: user mode, the interpreter and libraries included, the kernel not.
They do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import report
from benchmarks.client import Client
from benchmarks.harness import Delay, IdleMemory, Lateness, Serve, Timed, Workload
from benchmarks.limit import can_run
from benchmarks.measure import ENVIRONMENT, run_of, server, versions
from benchmarks.suite import select

# What is counted when nothing is named.
MAIN = [
    "network",
    "small writes",
    "programs",
    "streams-1k-100",
    "sock-1k",
    "no network",
]


def callgrind(output: Path, callers: int) -> tuple[str, ...]:
    """The wrapper that counts instructions by function, or by chain of callers."""
    return (
        "valgrind",
        "--tool=callgrind",
        "-q",
        f"--separate-callers={callers}",
        f"--callgrind-out-file={output}",
    )


def strace(output: Path) -> tuple[str, ...]:
    """The wrapper that counts system calls by name."""
    return ("strace", "-f", "-c", "-U", "calls,name", "-o", str(output))


def lengths(workload: Workload) -> tuple[int, int]:
    """Operations of the short and of the long run."""
    if isinstance(workload, Serve):
        if workload.load.requests:
            return 1, 2
        short = max(1024, 4 * workload.load.connections)
    else:
        assert isinstance(workload, Timed)
        short = max(workload.number // 10, 1)
    return short, 3 * short


def run(loop: str, workload: Workload, number: int, wrapper: tuple[str, ...]) -> None:
    """One run of this length under the wrapper."""
    if not isinstance(workload, Serve):
        command = run_of("count", loop, workload, f"--number={number}", wrapper=wrapper)
        subprocess.run(command, check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        return
    extra = (f"--requests={number}", "--warm-up=0")
    with (
        server(loop, workload, wrapper=wrapper) as process,
        Client(workload.load, process.where, None, *extra) as client,
    ):
        client.run()


def instructions(output: Path, inclusive: bool) -> Counter[str]:
    """Instructions by function."""
    listing = subprocess.check_output(
        [
            "callgrind_annotate",
            "--threshold=100",
            "--auto=no",
            f"--inclusive={'yes' if inclusive else 'no'}",
            output,
        ],
        text=True,
    )
    found: Counter[str] = Counter()
    for match in re.finditer(r"^ *([\d,]+) \(.*?\)  (.+)$", listing, re.MULTILINE):
        count, where = match.groups()
        if where == "PROGRAM TOTALS":
            continue
        # FILE:FUNCTION'RECURSION [OBJECT], of several files where code was inlined.
        name = re.sub(r" \[.*\]$", "", where).rpartition(":")[2]
        name = re.sub(r"'\d+(?='|$)", "", name).replace("'", " < ")
        found[name] += int(count.replace(",", ""))
    return found


def total(output: Path) -> int:
    """All instructions of a run."""
    match = re.search(r"^(?:summary|totals): (\d+)", output.read_text(), re.MULTILINE)
    if not match:
        raise RuntimeError(f"no total in {output}")
    return int(match[1])


def calls(output: Path) -> Counter[str]:
    """System calls by name."""
    pairs = re.findall(r"^ *(\d+) (\w+)$", output.read_text(), re.MULTILINE)
    return Counter({name: int(n) for n, name in pairs if name != "total"})


def count_instructions(
    loop: str, workload: Workload, functions: int, inclusive: bool, callers: int
) -> tuple[float, list[tuple[str, float]]]:
    """Per operation: the total, and the functions that take most of it."""
    short, long = lengths(workload)
    with tempfile.TemporaryDirectory() as directory:
        outputs = [Path(directory, "short"), Path(directory, "long")]
        for number, output in zip((short, long), outputs, strict=True):
            run(loop, workload, number, callgrind(output, callers))
        more = total(outputs[1]) - total(outputs[0])
        most: list[tuple[str, float]] = []
        if functions:
            few, many = (instructions(output, inclusive) for output in outputs)
            many.subtract(few)
            most = [(f, n / (long - short)) for f, n in many.most_common(functions)]
    return more / (long - short), most


def count_calls(loop: str, workload: Workload) -> dict[str, float]:
    """System calls per operation, those that are not start-up."""
    short, long = lengths(workload)
    with tempfile.TemporaryDirectory() as directory:
        outputs = [Path(directory, "short"), Path(directory, "long")]
        for number, output in zip((short, long), outputs, strict=True):
            run(loop, workload, number, strace(output))
        few, many = calls(outputs[0]), calls(outputs[1])
    many.subtract(few)
    each = {name: n / (long - short) for name, n in many.most_common()}
    return {name: n for name, n in each.items() if n >= 0.001}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.count",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workloads", nargs="*", help="default: the main ones")
    parser.add_argument("--loops", default="asyncio,uvloop,asynccore")
    parser.add_argument(
        "--functions", type=int, default=0, metavar="N", help="the N most costly"
    )
    parser.add_argument(
        "--inclusive", action="store_true", help="with what these functions call"
    )
    parser.add_argument(
        "--callers",
        type=int,
        default=0,
        metavar="N",
        help="with --functions: tell a function's counts apart by N callers",
    )
    parser.add_argument(
        "--calls", action="store_true", help="system calls instead (strace)"
    )
    args = parser.parse_args()
    wanted = args.loops.split(",")
    loops = [
        name
        for name, version in versions().items()
        if name in wanted and version is not None
    ]
    rows = []
    for workload in select(args.workloads or MAIN):
        countable = isinstance(workload, Serve | Timed)
        if not countable or isinstance(workload, Delay | IdleMemory | Lateness):
            continue
        cells = [workload.name]
        for loop in loops:
            if not can_run(loop, workload):
                cells.append("-")
                continue
            if args.calls:
                each = count_calls(loop, workload)
                text = ", ".join(f"{name} {n:.3g}" for name, n in each.items())
                print(f"{workload.name} on {loop}: {text or 'none'}", flush=True)
                continue
            count, most = count_instructions(
                loop, workload, args.functions, args.inclusive, args.callers
            )
            cells.append(f"{count:,.0f}")
            print(f"{workload.name} on {loop}: {count:,.0f} instructions", flush=True)
            for function, n in most:
                print(f"  {n:10,.1f}  {function}")
        rows.append(cells)
    if not args.calls:
        print()
        print(report.lay_out(["instructions per operation", *loops], rows, plain=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
