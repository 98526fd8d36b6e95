"""Starts the workers, reads their events, and compares the outcome with exempt.txt."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import importlib.util
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
LOOP = "asynccore:new_event_loop"

# The modules whose subject is a loop, or code that runs on one. Not among them:
# test_selector_events, test_proactor_events, test_windows_*, test_transports,
# test_protocols, test_tools: mocks and the insides of other loops, or no loop.
MODULES = [
    "test_base_events",
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_free_threading",
    "test_futures",
    "test_futures2",
    "test_graph",
    "test_locks",
    "test_pep492",
    "test_queues",
    "test_runners",
    "test_sendfile",
    "test_server",
    "test_server_context",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_staggered",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
    "test.test_asyncgen",
    "test.test_contextlib_async",
    "test.test_coroutines",
    "test.test_unittest.test_async_case",
    "test.test_unittest.testmock.testasync",
]

# A few seconds together: connections, streams, timers and the order of callbacks.
SUBSET = [
    "test_buffered_proto",
    "test_context",
    "test_pep492",
    "test_runners",
    "test_sendfile",
    "test_server",
    "test_sock_lowlevel",
    "test_streams",
    "test_timeouts",
]

# Classes that do not run, whatever the loop is.
LEFT_OUT = {
    # the same tests again with another selector: there is one loop under test
    "KqueueEventLoopTests",
    "EPollEventLoopTests",
    "PollEventLoopTests",
    # calls on helpers with mocks only, or on classes that are not a loop
    "AbstractChildWatcherTests",
    "BaseChildWatcherTests",
    "BaseEventTests",
    "FastChildWatcherTests",
    "PolicyTests",
    "SafeChildWatcherTests",
    "SelectorEventLoopSignalTests",
    "SelectorEventLoopUnixSockSendfileTests",
    "SubprocessTransportTests",
    "TestSelectorUtils",
    "UnixReadPipeTransportTests",
    "UnixWritePipeTransportTests",
    # other platforms
    "BufferedProtocolProactorTests",
    "ProactorStartServerTests",
    "ProactorStartTLSTests",
}


@dataclasses.dataclass
class Exemption:
    """One line of exempt.txt."""

    pattern: str
    reason: str
    hangs: bool = False  # not even started: it would wait for the time-out


@dataclasses.dataclass
class Outcome:
    """What one test came to: pass, fail, skip, hang, crash or unstarted."""

    outcome: str
    text: str = ""
    loops: int = 0
    seconds: float = 0.0
    exempt: bool = False

    @property
    def bad(self) -> bool:
        return self.outcome in ("fail", "hang", "crash") and not self.exempt


@dataclasses.dataclass
class Module:
    """The outcome of one module. `absent` says why this Python does not have it."""

    name: str
    tests: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    absent: str = ""
    errors: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def count(self, kind: str) -> int:
        return sum(t.outcome == kind and not t.exempt for t in self.tests.values())

    @property
    def failures(self) -> list[str]:
        """One text for each thing that is wrong; empty when the module is right."""
        texts = [
            f"{test.outcome.upper()} {name}\n{test.text.rstrip()}"
            for name, test in sorted(self.tests.items())
            if test.bad
        ]
        return texts + self.errors


EXEMPTION = r"(?:\[3\.(\d+)(-(?:3\.(\d+))?)?\])?\s*(!?)(\S+)\s*"


def read_exempt(path: pathlib.Path, version: tuple[int, int]) -> list[Exemption]:
    """The lines of an exempt file that are for this Python.

    A line is `[versions] pattern  # reason`; versions is 3.12, 3.12- or 3.11-3.13, and
    a `!` before the pattern marks what would hang.
    """
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text, _, reason = line.partition("#")
        if not text.strip():
            continue
        match = re.fullmatch(EXEMPTION, text)
        if match is None or not reason.strip():
            raise ValueError(f"{path.name}:{number}: no pattern or no reason: {line}")
        low, span, high, hangs, pattern = match.groups()
        if low is not None:
            last = int(high) if high else 99 if span else int(low)
            if not (3, int(low)) <= version <= (3, last):
                continue
        found.append(Exemption(pattern, reason.strip(), bool(hangs)))
    return found


def python_path(loop: str) -> str:
    """The folder from which this process imports the loop's package."""
    spec = importlib.util.find_spec(loop.partition(":")[0])
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no loop {loop}")
    origin = pathlib.Path(spec.origin)
    package = spec.submodule_search_locations is not None
    return str(origin.parent.parent if package else origin.parent)


class _Worker:
    """One worker process in a session of its own, and the pipe that it reports to."""

    def __init__(self, config: dict[str, Any], folder: str, path: str) -> None:
        self.read, write = os.pipe()
        self.output = os.path.join(folder, "output")
        config_file = os.path.join(folder, "config.json")
        with open(config_file, "w") as file:
            json.dump({**config, "fd": write}, file)
        environ = {**os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1"}
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "worker.py"), config_file],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=environ,
                pass_fds=[write],
                start_new_session=True,
            )
        os.close(write)
        self.rest = b""

    def events(self, timeout: float) -> list[dict[str, Any]] | None:
        """The next events, [] at the end of the process, None after `timeout`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            # the end of the pipe says nothing: a child of the worker may hold it
            ended = self.process.poll() is not None
            if select.select([self.read], [], [], 0 if ended else 0.1)[0]:
                data = self.rest + os.read(self.read, 1 << 16)
                *lines, self.rest = data.split(b"\n")
                if lines:
                    return [json.loads(line) for line in lines]
            if ended:
                return []
        return None

    def tail(self) -> str:
        with open(self.output, errors="replace") as file:
            return file.read()[-4000:]

    def stop(self, sig: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, sig)

    def close(self) -> None:
        self.stop()
        self.process.wait()
        os.close(self.read)


def run_module(
    name: str,
    loop: str = LOOP,
    *,
    exempt: list[Exemption] | None = None,
    match: list[str] | None = None,
    timeout: float = 30.0,
) -> Module:
    """Runs one module; a test without an event for `timeout` seconds is a hang."""
    module = Module(name)
    exempt = exempt or []
    began = time.monotonic()
    deaths = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ended = False
        while not ended:
            config = {
                "module": name,
                "loop": loop,
                "left_out": sorted(LEFT_OUT),
                "exempt": [e.pattern for e in exempt],
                "unstarted": [e.pattern for e in exempt if e.hangs],
                "match": match or [""],
                "done": sorted(module.tests),
            }
            worker = _Worker(config, folder, python_path(loop))
            try:
                ended = _follow(worker, module, timeout)
            finally:
                worker.close()
            deaths += not ended
            if deaths > 20 or (not ended and not module.tests):
                module.errors.append(f"{name}: the worker dies\n{worker.tail()}")
                break
    whole = not match and not module.errors
    _apply(exempt, module, whole=whole, strict=loop == LOOP)
    module.seconds = time.monotonic() - began
    return module


def _follow(worker: _Worker, module: Module, timeout: float) -> bool:
    """Takes in a worker's events; returns whether it came to its end."""
    current = ""
    while True:
        events = worker.events(timeout)
        if not events:
            break
        for event in events:
            kind = event.pop("event")
            if kind == "start":
                current = event["id"]
            elif kind == "done":
                name = event.pop("id")
                module.tests[name] = Outcome(**event)
                current = ""
            elif kind == "absent":
                module.absent = event["text"]
                return True
            elif kind == "end":
                return True
    kind = "crash"
    if events is None:
        kind = "hang"
        worker.stop(signal.SIGABRT)  # the fault handler writes where it hangs
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(5)
    if current:
        status = worker.process.poll()
        text = f"worker's status {status}\n{worker.tail()}"
        module.tests[current] = Outcome(kind, text)
    else:
        text = f"{module.name}: worker {kind} outside a test\n{worker.tail()}"
        module.errors.append(text)
    return False


def _apply(
    exempt: list[Exemption], module: Module, *, whole: bool, strict: bool
) -> None:
    """Marks the exempt tests; an unknown pattern is an error.

    With `strict`, so is one that nothing needs.
    """
    for exemption in exempt:
        if not exemption.pattern.startswith(module.name + "."):
            continue
        found = [
            test
            for name, test in module.tests.items()
            if fnmatch.fnmatchcase(name, exemption.pattern)
        ]
        for test in found:
            test.exempt = True
        if not whole or module.absent:
            continue
        if not found:
            module.errors.append(f"exempt.txt: no test is called {exemption.pattern}")
        elif strict and all(test.outcome in ("pass", "skip") for test in found):
            module.errors.append(f"exempt.txt: {exemption.pattern} passes: remove it")
