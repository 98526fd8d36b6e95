"""One run of one workload on one loop, in a process of its own.

    python benchmarks/child.py serve LOOP WORKLOAD [--address PATH] [--cpu N]
    python benchmarks/child.py time LOOP WORKLOAD [--repeat N] [--cpu N]
    python benchmarks/child.py count LOOP WORKLOAD --number N
    python benchmarks/child.py versions

run.py and count.py start it; by hand it is what to put under strace or perf.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import json
import os
import sys
from pathlib import Path

# At the end, so that an installed asynccore goes before the tree's: the directory of
# this file, which Python put first, would hide modules of other packages.
sys.path[0:1] = []
sys.path.append(str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import (  # noqa: E402
    OwnMemory,
    Serve,
    Timed,
    allocated_bytes,
    is_exact,
    resident_bytes,
)
from benchmarks.loops import LOOPS, LoopSpec  # noqa: E402
from benchmarks.suite import EVERY  # noqa: E402


def settle_malloc() -> None:
    """Free one large block, as every program that has run for a while has.

    glibc gives blocks above a threshold back to the system, 10 us each time, until
    the first such block is freed; then the threshold is that block's size.  The 256 KiB
    that the standard loop and uvloop's TLS allocate for each read would decide all
    else, in a way that no real program sees for long.
    """
    bytes(1 << 20)


def tell_memory() -> None:
    """Answer a line on standard input with the bytes that are allocated."""
    sys.stdin.readline()
    gc.collect()
    print(allocated_bytes(), flush=True)


def serve(spec: LoopSpec, workload: Serve, address: str) -> None:
    """Serve until killed; tells process id and address on standard output."""

    async def main() -> None:
        where = await workload.start(address)
        if is_exact(workload):
            asyncio.get_running_loop().add_reader(sys.stdin, tell_memory)
        gc.collect()
        print(os.getpid(), where, flush=True)
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=spec.load()) as runner:
        runner.run(main())


def run_once(spec: LoopSpec, workload: Timed, number: int) -> int:
    """Nanoseconds that this number of operations took."""
    gc.collect()
    if workload.whole:
        whole = workload.run(spec, number)
        assert isinstance(whole, int)
        return whole
    loop = spec.load()()
    asyncio.set_event_loop(loop)
    try:
        if inspect.iscoroutinefunction(workload.run):
            return int(loop.run_until_complete(workload.run(number)))
        elapsed = workload.run(loop, number)
        assert isinstance(elapsed, int)
        return elapsed
    finally:
        asyncio.set_event_loop(None)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def measure_memory(spec: LoopSpec, workload: OwnMemory) -> float:
    """Bytes per thing."""
    memory = allocated_bytes if workload.exact else resident_bytes
    loop = spec.load()()
    few = workload.make(loop, max(workload.number // 10, 1))
    memory()  # once in vain: what that allocates is none of the things
    gc.collect()
    before = memory()
    many = workload.make(loop, workload.number)
    size = (memory() - before) / workload.number
    # A list item is not the thing.
    size -= 8
    del few, many
    return size


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("serve", "time", "count", "versions"))
    parser.add_argument("loop", nargs="?", choices=LOOPS)
    parser.add_argument("workload", nargs="?", choices=EVERY)
    parser.add_argument("--address", default="")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--cpu", type=int)
    args = parser.parse_args()
    if args.what == "versions":
        print(json.dumps({name: spec.version() for name, spec in LOOPS.items()}))
        return
    if args.cpu is not None:
        os.sched_setaffinity(0, {args.cpu})
    spec, workload = LOOPS[args.loop], EVERY[args.workload]
    if not (isinstance(workload, Timed) and workload.fresh):
        settle_malloc()
    if isinstance(workload, Serve):
        serve(spec, workload, args.address)
    elif isinstance(workload, OwnMemory):
        print(json.dumps(measure_memory(spec, workload)))
    elif isinstance(workload, Timed):
        number = args.number or workload.number
        repeat = args.repeat if args.what == "time" else 1
        times = [run_once(spec, workload, number) for _ in range(repeat)]
        print(json.dumps(min(times)))


if __name__ == "__main__":
    main()
