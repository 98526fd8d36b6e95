"""Fixtures of the whole suite: the two loops, and what must be true when a test ends.

What must equal asyncio runs on both loops: a test takes `loop_factory` or `loop` and
gets the parameters `asyncio` (the standard loop) and `asynccore`. A test that fails on
the standard loop is wrong.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

LOOPS = ("asyncio", "asynccore")
RUN_LIMIT = 10.0  # seconds for one awaitable given to `run`
TEST_LIMIT = 90.0  # seconds until a stuck test ends the process with a traceback
FD_DIR = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"

# A shell starts background jobs with SIGINT ignored, and so would be all that the
# tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The markers of what takes long, and what `-m` has to name for it to run.
SLOW = {"conformance_full": "conformance", "leaks": "leaks", "soak": "soak"}

_IMPORTS = {
    "asyncio": "from asyncio import SelectorEventLoop as new_event_loop",
    "asynccore": "from asynccore import new_event_loop",
}


def factory_of(name: str) -> LoopFactory:
    """Returns the loop factory called `name` after a first loop has waited.

    The first libuv loop of a process opens descriptors that stay open.
    """
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    import asynccore

    loop = asynccore.new_event_loop()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    loop.close()
    return asynccore.new_event_loop


@pytest.fixture(scope="module")
def loop_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """`asyncio`, then `asynccore`; after a hyphen what ASYNCCORE_TLS would say."""
    name, _, way = request.param.partition("-")
    if not way:
        yield name
        return
    from asynccore import _tls

    former = _tls.mode()
    _tls.use(way)
    yield name
    _tls.use(former)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The loops; a module with TLS_WAYS runs once more with the other way."""
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "loop_name" in metafunc.fixturenames and "loop_name" not in chosen:
        more = ["asynccore-memorybio"] if hasattr(metafunc.module, "TLS_WAYS") else []
        names = [*LOOPS, *more]
        metafunc.parametrize("loop_name", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def loop_factory(loop_name: str) -> LoopFactory:
    """Makes a new loop; the test closes it."""
    return factory_of(loop_name)


@pytest.fixture(scope="module")
def both_factories() -> tuple[LoopFactory, LoopFactory]:
    """The standard factory and ours, for tests that compare the two."""
    return factory_of("asyncio"), factory_of("asynccore")


@pytest.fixture
def loop(loop_factory: LoopFactory) -> Iterator[asyncio.AbstractEventLoop]:
    """A new loop, closed at the end."""
    loop = loop_factory()
    yield loop
    loop.close()


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop) -> Callable[[Awaitable[T]], T]:
    """`loop.run_until_complete` that gives up after RUN_LIMIT seconds."""

    def run(awaitable: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(RUN_LIMIT):
                return await awaitable

        return loop.run_until_complete(bounded())

    return run


Script = Callable[..., subprocess.CompletedProcess[str]]


def run_script(
    code: str, name: str, *args: str, check: bool = True, timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a new interpreter where `new_event_loop()` makes the loop `name`.

    With `check`, a status other than 0 fails the test and shows what was printed.
    """
    source = f"{_IMPORTS[name]}\n{textwrap.dedent(code)}"
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-c", source, *args]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        pytest.fail(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


@pytest.fixture
def script(loop_name: str) -> Script:
    """`run_script(code, *args, check=True, timeout=60.0)` on the loop of this test."""

    def script(code: str, *args: str, **kwargs: Any) -> Any:
        return run_script(code, loop_name, *args, **kwargs)

    return script


class Faults(logging.Handler):
    """What went wrong during a test without reaching it as an exception.

    Holds texts only: an exception kept here would keep frames and sockets alive.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.log: list[tuple[int, str]] = []
        self.unraisable: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # the record outlives the test in pytest's own handler: leave only text in it
        record.msg, record.args = record.getMessage(), None
        text = str(record.msg)
        if record.exc_info and record.exc_info[0] is not None:
            text += f"\n{record.exc_info[0].__name__}: {record.exc_info[1]}"
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        self.log.append((record.levelno, text))

    def on_unraisable(self, args: Any) -> None:
        kind = args.exc_type.__name__
        where = args.err_msg or "Exception ignored in"
        self.unraisable.append(f"{kind}: {args.exc_value} [{where} {args.object!r}]")

    def on_thread(self, args: Any) -> None:
        self.unraisable.append(f"{args.exc_type.__name__}: {args.exc_value} [thread]")

    def take_log(self) -> list[str]:
        """The texts logged on `asyncio` (WARNING and up) so far; they are expected."""
        texts = [text for _, text in self.log]
        self.log.clear()
        return texts

    def take_unraisable(self) -> list[str]:
        """The unraisable exceptions so far; they are expected."""
        gc.collect()
        texts = self.unraisable[:]
        self.unraisable.clear()
        return texts


class _Texts(logging.Handler):
    """Formats each record when it comes: a repr of a transport changes."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.fixture
def debug_log() -> Iterator[list[str]]:
    """What the logger `asyncio` is told from now on, of every level."""
    logger = logging.getLogger("asyncio")
    handler = _Texts()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.texts
    logger.setLevel(level)
    logger.removeHandler(handler)


def open_fds() -> dict[int, tuple[int, int]]:
    """The open descriptors, each with the file that it stands for."""
    found = {}
    for name in os.listdir(FD_DIR):
        try:
            info = os.fstat(int(name))
        except OSError:
            continue  # the descriptor that listdir itself had open
        found[int(name)] = (info.st_dev, info.st_ino)
    return found


@pytest.fixture(autouse=True)
def faults(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Faults]:
    """Fails the test if it leaves something behind.

    That is an open (or a foreign closed) descriptor, an unraisable exception (such as
    the warning of an unclosed loop or socket), or an ERROR on the logger `asyncio`,
    which is what an unexpected call of the exception handler and a lost task end in.
    """
    watch = Faults()
    logger = logging.getLogger("asyncio")
    before = open_fds()
    monkeypatch.setattr(sys, "unraisablehook", watch.on_unraisable)
    monkeypatch.setattr(threading, "excepthook", watch.on_thread)
    logger.addHandler(watch)
    marker = request.node.get_closest_marker("timeout")
    limit = max(TEST_LIMIT, marker.args[0] + 30.0 if marker else 0.0)
    faulthandler.dump_traceback_later(limit, exit=True, file=_stderr)
    try:
        yield watch
        gc.collect()
    finally:
        faulthandler.cancel_dump_traceback_later()
        logger.removeHandler(watch)
    assert watch.unraisable == []
    assert [text for level, text in watch.log if level >= logging.ERROR] == []
    assert open_fds() == before


_stderr = 2  # replaced by a copy that pytest does not capture


def pytest_configure(config: pytest.Config) -> None:
    global _stderr
    _stderr = os.dup(2)
    config.addinivalue_line("filterwarnings", "error")
    config.addinivalue_line("markers", "conformance: of CPython's test_asyncio")
    for marker, name in SLOW.items():
        config.addinivalue_line("markers", f"{marker}: runs only with `-m {name}`")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    named = config.getoption("markexpr")
    left_out = [marker for marker, name in SLOW.items() if name not in named]
    slow = [item for item in items if any(map(item.get_closest_marker, left_out))]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def pytest_collection_finish() -> None:
    # what exists by now is not garbage: the collection after each test gets cheap
    gc.collect()
    gc.freeze()
