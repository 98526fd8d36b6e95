"""The command line: `python -m tests.isolated --help`."""

from __future__ import annotations

import argparse
import sys

from . import __doc__ as description
from .measure import FACTORIES
from .processes import names, run


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
    print(f"# {'script':<36}{'objects':>9}{'blocks':>9}{'bytes':>9}{'fds':>9}{'refs':>9}")
    for name in args.script or names():
        growth, text = run(name, args.loop)
        if growth is None:
            failed += 1
            print(f"  {name:<36}FAILED\n{text}", flush=True)
            continue
        leaks = growth.leaks()
        failed += bool(leaks)
        passed += not leaks
        counts = (
            growth.objects,
            growth.blocks,
            growth.bytes,
            growth.fds,
            growth.references,
        )
        row = "".join(f"{count:>9.2f}" for count in counts)
        print(f"  {name:<36}{row}{'  LEAK' if leaks else ''}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
