"""The command line: `python -m tests.conformance --help`."""

from __future__ import annotations

import argparse
import concurrent.futures
import platform
import sys

from . import __doc__ as description
from .runner import HERE, LOOP, MODULES, SUBSET, Module, read_exempt, run_module

TITLES = ("pass", "fail", "skip", "exempt", "looped")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-m", "--module", action="append", help="only this module; may be repeated")
    add("-k", "--match", action="append", help="only tests with this in their name")
    add("--subset", action="store_true", help="only the quick modules")
    add("--loop", default=LOOP, help="MODULE:CALLABLE (default: %(default)s)")
    add("--timeout", type=float, default=30.0, help="seconds until a test is a hang")
    add("-j", "--jobs", type=int, default=1, help="modules at the same time")
    add("-v", "--verbose", action="store_true", help="list skipped and exempt tests")
    args = parser.parse_args()

    exempt = read_exempt(HERE / "exempt.txt", sys.version_info[:2])

    def run(name: str) -> Module:
        return run_module(
            name, args.loop, exempt=exempt, match=args.match, timeout=args.timeout
        )

    total = dict.fromkeys(("passed", "failed", "skipped", "exempt"), 0)
    failures = []
    print(f"# Python {platform.python_version()}, {args.loop}")
    print(f"# {'module':<38}" + "".join(f"{t:>8}" for t in TITLES))
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        names = args.module or (SUBSET if args.subset else MODULES)
        for module in pool.map(run, names):
            tests = module.tests.values()
            counts = {
                "passed": module.count("pass"),
                "failed": sum(test.bad for test in tests),
                "skipped": module.count("skip"),
                "exempt": sum(test.exempt for test in tests),
            }
            for kind, count in counts.items():
                total[kind] += count
            failures += module.failures
            looped = sum(test.loops > 0 for test in tests)
            row = "".join(f"{n:>8}" for n in counts.values())
            note = module.absent or f"{module.seconds:.1f} s"
            print(f"  {module.name:<38}{row}{looped:>8}  {note}", flush=True)
            for name, test in sorted(module.tests.items()) if args.verbose else ():
                if test.exempt or test.outcome == "skip":
                    last = test.text.rstrip().rpartition("\n")[2]
                    kind = f"exempt, {test.outcome}" if test.exempt else "skip"
                    print(f"    {name}: {kind}: {last[:120]}")
    for text in failures:
        print(f"\n{text}")
    print(", ".join(f"{count} {kind}" for kind, count in total.items()))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
