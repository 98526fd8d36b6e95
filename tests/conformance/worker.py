"""Runs the tests of one module on one loop: `worker.py CONFIG`.

CONFIG is a JSON file, see `runner.run_module`. Each event is a line of JSON written to
the descriptor that it names: "start" and "done" of a test, "absent" when this Python
does not have the module, "end" when all tests are through.
"""

from __future__ import annotations

import asyncio
import faulthandler
import fnmatch
import importlib
import json
import os
import signal
import sys
import time
import types
import unittest
import warnings
from collections.abc import Iterator
from typing import Any

from adapt import Counter, adapt, install

PACKAGE = "test.test_asyncio."


def load(loop: str) -> Any:
    """The object that `module:attribute` names."""
    module, _, attribute = loop.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def name_of(test: unittest.TestCase) -> str:
    return test.id().removeprefix(PACKAGE)


def flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


class Report(unittest.TestResult):
    """Sends each test's outcome to the parent at once."""

    def __init__(self, fd: int, new_loop: Counter) -> None:
        super().__init__()
        self.fd = fd
        self.new_loop = new_loop
        self.outcome = ("pass", "")
        self.began = time.monotonic()
        self.made = 0

    def send(self, event: str, **fields: object) -> None:
        os.write(self.fd, json.dumps({"event": event, **fields}).encode() + b"\n")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.outcome = ("pass", "")
        self.began = time.monotonic()
        self.made = self.new_loop.made
        self.send("start", id=name_of(test))

    def stopTest(self, test: unittest.TestCase) -> None:
        self.done(name_of(test), *self.outcome)
        super().stopTest(test)

    def done(self, test: str, outcome: str, text: str) -> None:
        self.send(
            "done",
            id=test,
            outcome=outcome,
            text=text[-3000:],
            loops=self.new_loop.made - self.made,
            seconds=round(time.monotonic() - self.began, 3),
        )

    def fail(self, test: Any, err: Any) -> None:
        text = self._exc_info_to_string(err, test)
        if not hasattr(test, "_testMethodName"):  # set-up of a class or module
            self.done(name_of(test), "fail", text)
        elif self.outcome[0] != "fail":
            self.outcome = ("fail", text)

    addError = addFailure = fail  # type: ignore[assignment]

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self.fail(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        if hasattr(test, "_testMethodName") and self.outcome[0] == "pass":
            self.outcome = ("skip", reason)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self.outcome = ("fail", "unexpected success")

    def addDuration(self, *_: object) -> None:
        pass


def pick(
    module: types.ModuleType, config: dict[str, Any], report: Report
) -> list[unittest.TestCase]:
    """The tests to run; the exempt ones come last, as they may leave ruins behind."""
    first: list[unittest.TestCase] = []
    last: list[unittest.TestCase] = []

    def listed(key: str, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in config[key])

    done = set(config["done"])
    for test in flatten(unittest.defaultTestLoader.loadTestsFromModule(module)):
        name = name_of(test)
        if type(test).__name__ in config["left_out"] or name in done:
            continue
        if not any(k in name for k in config["match"]):
            continue
        if listed("unstarted", name):
            report.done(name, "unstarted", "")
        else:
            (last if listed("exempt", name) else first).append(test)
    return first + last


def main(path: str) -> None:
    with open(path) as file:
        config = json.load(file)
    fd = config["fd"]
    os.set_inheritable(fd, False)
    faulthandler.enable()
    # a shell starts background jobs with SIGINT ignored, and tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    new_loop = Counter(load(config["loop"]))
    install(new_loop)
    report = Report(fd, new_loop)
    name = config["module"]
    try:
        full = PACKAGE + name if name.startswith("test_") else name
        module = importlib.import_module(full)
        adapt(name, module, new_loop)
    except ModuleNotFoundError as exc:
        report.send("absent", text=str(exc))
        os._exit(0)
    except unittest.SkipTest as exc:
        report.send("absent", text=f"skipped: {exc}")
        os._exit(0)
    if not sys.warnoptions:
        warnings.simplefilter("default")
    unittest.TestSuite(pick(module, config, report)).run(report)
    asyncio.set_event_loop(None)
    report.send("end")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a thread that a failed test left must not hold the worker


if __name__ == "__main__":
    main(sys.argv[1])
