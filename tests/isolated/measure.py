"""Runs one script and counts what it leaves: `measure.py SCRIPT LOOP`.

`measure.py LOOP` runs one cycle of each and prints the C functions that were called.
"""

from __future__ import annotations

import array
import ctypes
import dataclasses
import gc
import importlib
import itertools
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

FD_DIR = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
WARM_UP = 2  # rounds in which caches and freelists fill
ROUNDS = 4
MOST_ROUNDS = 24
MALLINFO2 = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)
# half an object in ten cycles, or some bytes in a cycle, is beyond the noise left
LIMITS = {"objects": 0.05, "blocks": 0.05, "bytes": 4.0, "fds": 0.0, "references": 0.05}
FACTORIES = {
    "asyncio": "asyncio:SelectorEventLoop",
    "asynccore": "asynccore:new_event_loop",
    "uvloop": "uvloop:new_event_loop",
}


class _Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO2]


def _malloc_counter() -> Callable[[], int]:
    """Returns what tells the bytes that malloc gave out, or else the process's size."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # not glibc 2.33 or later
        import resource

        scale = 1 if sys.platform == "darwin" else 1024
        return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    mallinfo2.restype = _Mallinfo2

    def in_use() -> int:
        info = mallinfo2()
        return int(info.uordblks + info.hblkhd)

    return in_use


malloc_in_use = _malloc_counter()


@dataclasses.dataclass
class Growth:
    """What each cycle leaves behind; all zero when there is no leak."""

    objects: float = 0.0
    blocks: float = 0.0
    bytes: float = 0.0
    fds: float = 0.0
    references: float = 0.0

    def leaks(self) -> list[str]:
        return [
            f"{value:.2f} {name} a cycle"
            for name, value in dataclasses.asdict(self).items()
            if value > LIMITS[name]
        ]


COUNTERS: dict[str, Callable[[], int]] = {
    "objects": lambda: len(gc.get_objects()),
    "blocks": sys.getallocatedblocks,
    "bytes": malloc_in_use,
    "fds": lambda: len(os.listdir(FD_DIR)),
    "references": getattr(sys, "gettotalrefcount", int),
}


# The cache of attribute look-ups keeps up to 4096 names: those that C code makes anew
# for each look-up, as CPython's own does, fill it over many rounds
clear_caches: Callable[[], object] = getattr(
    sys, "_clear_internal_caches", getattr(sys, "_clear_type_cache", int)
)


def take_sample(samples: array.array[int], start: int) -> None:
    """Writes into an array made before: a sample leaves no object behind."""
    clear_caches()
    for _ in range(3):
        gc.collect()
    for i, counter in enumerate(COUNTERS.values()):
        samples[start + i] = counter()


def measure(script: Any, factory: Callable[[], Any]) -> Growth:
    """Runs the script; a leak is what every round adds, so the least one counts.

    A script that is not at rest yet gets more rounds.
    """
    width = len(COUNTERS)
    samples = array.array("q", [0] * width * (WARM_UP + MOST_ROUNDS))
    growth = Growth()
    with script.environment(factory) as cycle:
        for turn in range(WARM_UP + MOST_ROUNDS):
            for _ in range(script.cycles):
                cycle()
            take_sample(samples, turn * width)
            if turn >= WARM_UP + ROUNDS - 1:
                growth = least_growth(samples, width, turn, script.cycles)
                if not growth.leaks():
                    break
    return growth


def least_growth(
    samples: array.array[int], width: int, turn: int, cycles: int
) -> Growth:
    growth = {}
    for i, name in enumerate(COUNTERS):
        column = samples[i : (turn + 1) * width : width][WARM_UP - 1 :]
        least = min(b - a for a, b in itertools.pairwise(column))
        growth[name] = max(0.0, least / cycles)
    return Growth(**growth)


def factory_of(loop: str) -> Callable[[], Any]:
    module, _, name = FACTORIES[loop].partition(":")
    factory: Callable[[], Any] = getattr(importlib.import_module(module), name)
    return factory


def called(scripts: dict[str, Any], factory: Callable[[], Any]) -> set[str]:
    """The qualified names of the C functions that one cycle of each script calls."""
    names: set[str] = set()

    def profile(frame: object, event: str, arg: Any) -> None:
        if event == "c_call":
            names.add(arg.__qualname__)
            for kind in type(arg.__self__).__mro__:  # it may be a subclass in Python
                if arg.__name__ in vars(kind):
                    names.add(f"{kind.__qualname__}.{arg.__name__}")

    for script in scripts.values():
        with script.environment(factory) as cycle:
            threading.setprofile(profile)
            sys.setprofile(profile)
            try:
                cycle()
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
    return names


def main(*names: str) -> None:
    from scripts import SCRIPTS

    warnings.simplefilter("ignore")  # abandoned objects warn; that is their test
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = lambda args: None
    *script, loop = names
    factory = factory_of(loop)
    if script:
        found: Any = dataclasses.asdict(measure(SCRIPTS[script[0]], factory))
    else:
        found = sorted(called(SCRIPTS, factory))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
