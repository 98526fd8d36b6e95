"""The command line: `python -m tests.isolated --help`."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from . import __doc__ as description
from .measure import FACTORIES
from .processes import run
from .scripts import SCRIPTS


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.isolated",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("script", nargs="*", help="names of scripts (all)")
    parser.add_argument("--loop", choices=FACTORIES, default="asynccore")
    args = parser.parse_args()
    failed = passed = 0
    titles = ("objects", "blocks", "bytes", "fds", "refs")
    print("# a cycle leaves behind".ljust(38) + "".join(f"{t:>9}" for t in titles))
    for name in args.script or SCRIPTS:
        growth, text = run(name, args.loop)
        if growth is None:
            failed += 1
            print(f"  {name:<36}FAILED\n{text}", flush=True)
            continue
        leaks = growth.leaks()
        failed += bool(leaks)
        passed += not leaks
        row = "".join(f"{n:>9.2f}" for n in dataclasses.astuple(growth))
        print(f"  {name:<36}{row}{'  LEAK' if leaks else ''}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
