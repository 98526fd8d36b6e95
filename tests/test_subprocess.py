"""Child processes: starting, talking, signals, the end; on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import resource
import signal
import subprocess
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterator
from typing import Any

import pytest

from support import compare, looped, only_asynccore, settle
from support.children import children, is_gone, until_ended, zombies
from support.interpreter import POPEN_CLOSES_PIPES, STDIN_MAY_BREAK, is_reading

PYTHON = sys.executable
SLEEP = ("sleep", "1000")
LARGE = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    gc.collect()
    assert {pid: s for pid, s in children().items() if pid not in before} == {}


exec_ = asyncio.create_subprocess_exec
shell = asyncio.create_subprocess_shell


class Watching(asyncio.SubprocessProtocol):
    """Notes what a child's transport tells."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.output: dict[int, bytearray] = {1: bytearray(), 2: bytearray()}
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.calls.append("connection_made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output[fd] += data

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.calls.append(("pipe_connection_lost", fd))

    def process_exited(self) -> None:
        self.calls.append("process_exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("connection_lost")
        self.lost.set_result(exc)


# --- the result ---


@pytest.mark.parametrize("status", [0, 1, 42, 255])
@looped
async def test_status(status: int) -> None:
    process = await shell(f"exit {status}")
    assert await process.wait() == status
    assert process.returncode == status
    assert await process.wait() == status
    assert is_gone(process.pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2])
@looped
async def test_status_of_a_signal(number: int) -> None:
    process = await shell(f"kill -{int(number)} $$")
    assert await process.wait() == -number


@looped
async def test_the_protocol_of_a_child() -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        Watching, PYTHON, "-c", "import os; os.write(1, b'out'); os.write(2, b'err')"
    )
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert transport.get_extra_info("subprocess").pid == transport.get_pid()
    assert transport.get_pipe_transport(0) is not None
    assert transport.get_pipe_transport(7) is None
    assert await protocol.lost is None
    assert transport.get_returncode() == 0
    assert protocol.output == {1: b"out", 2: b"err"}
    assert protocol.calls[0] == "connection_made"
    assert protocol.calls[-1] == "connection_lost"
    assert sorted(map(str, protocol.calls[1:-1])) == [
        "('pipe_connection_lost', 0)",
        "('pipe_connection_lost', 1)",
        "('pipe_connection_lost', 2)",
        "process_exited",
    ]
    transport.close()


@looped
async def test_wait_of_several() -> None:
    process = await exec_(*SLEEP)
    waits = [asyncio.ensure_future(process.wait()) for _ in range(3)]
    await settle()
    waits[0].cancel()
    await settle()
    process.kill()
    assert await asyncio.gather(*waits[1:]) == [-9, -9]
    with pytest.raises(asyncio.CancelledError):
        await waits[0]


# --- pipes ---


@looped
async def test_large_data_both_ways() -> None:
    process = await exec_("cat", stdin=PIPE, stdout=PIPE)
    out, err = await process.communicate(LARGE)
    assert out == LARGE
    assert err is None
    assert process.returncode == 0


@looped
async def test_large_data_on_three_pipes() -> None:
    code = (
        "import sys, threading\n"
        "data = sys.stdin.buffer.read()\n"
        "t = threading.Thread(target=sys.stderr.buffer.write, args=(data,))\n"
        "t.start(); sys.stdout.buffer.write(data[::-1]); t.join()\n"
    )
    process = await exec_(PYTHON, "-c", code, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate(LARGE)
    assert out == LARGE[::-1]
    assert err == LARGE


@looped
async def test_a_conversation() -> None:
    process = await exec_("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for i in range(200):
        line = b"%d\n" % i
        process.stdin.write(line)
        await process.stdin.drain()
        assert await process.stdout.readline() == line
    process.stdin.close()
    await process.stdin.wait_closed()
    assert await process.stdout.read() == b""
    assert await process.wait() == 0


@pytest.mark.skipif(
    not STDIN_MAY_BREAK, reason="this Python reports the end of a stdin as lost"
)
@looped
async def test_a_child_that_does_not_read() -> None:
    process = await exec_("true", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(LARGE) == (b"", None)
    assert process.returncode == 0


@looped
async def test_a_child_that_closes_its_input() -> None:
    process = await shell(
        "exec 0<&-; echo closed; exec sleep 1000", stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert await process.stdout.readline() == b"closed\n"
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            process.stdin.write(b"x" * 65536)
            await process.stdin.drain()
            await asyncio.sleep(0)
    process.kill()
    await process.wait()


@looped
async def test_a_child_killed_while_it_writes() -> None:
    process = await exec_("yes", stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readexactly(1000) == b"y\n" * 500
    process.kill()
    rest = await process.stdout.read()
    assert set(rest) <= set(b"y\n")
    assert await process.wait() == -9


@looped
async def test_a_paused_reader_stops_the_child() -> None:
    """What StreamReader does not take stays in the pipe: `yes` must wait."""
    process = await exec_("yes", stdout=PIPE, limit=1024)
    assert process.stdout is not None
    transport: Any = process._transport.get_pipe_transport(1)  # type: ignore[attr-defined]
    while is_reading(transport):
        await settle()
    held = len(process.stdout._buffer)  # type: ignore[attr-defined]
    await settle(10)
    assert len(process.stdout._buffer) == held  # type: ignore[attr-defined]
    assert await process.stdout.readexactly(100_000) == b"y\n" * 50_000
    process.kill()
    await process.stdout.read()
    await process.wait()


@looped
async def test_stdout_and_stderr_together() -> None:
    process = await shell("echo a; echo b >&2", stdout=PIPE, stderr=STDOUT)
    assert await process.communicate() == (b"a\nb\n", None)


@looped
async def test_nowhere() -> None:
    process = await shell("cat; echo x", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
    assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
    assert await process.wait() == 0


@looped
async def test_descriptors_and_files(tmp_path: Any) -> None:
    target = tmp_path / "out"
    read, write = os.pipe()
    os.write(write, b"text")
    os.close(write)
    with target.open("wb") as file:
        process = await exec_("cat", stdin=read, stdout=file, stderr=file.fileno())
        assert await process.wait() == 0
    os.close(read)
    assert target.read_bytes() == b"text"


# --- keywords of Popen ---


# whether the shell, which may have become this program, leads its session or group
IS_LEADER = (
    f'{PYTHON} -c "import os, sys; '
    'sys.exit(os.{}(0) not in (os.getppid(), os.getpid()))" && echo yes'
)
KEYWORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "cwd": ("pwd", {"cwd": "/"}),
    "env": ("echo $NAME", {"env": {"NAME": "value"}}),
    "executable": ("echo $0", {"executable": "/bin/sh"}),
    "start_new_session": (
        IS_LEADER.format("getsid"),
        {"start_new_session": True},
    ),
    "process_group": (
        IS_LEADER.format("getpgid"),
        {"process_group": 0},
    ),
    "umask": ("umask", {"umask": 0o27}),
    "preexec_fn": ("umask", {"preexec_fn": lambda: os.umask(0o31) and None}),
    "restore_signals": ("echo a", {"restore_signals": False}),
    "user": ("id -u", {"user": os.getuid()}),
    "group": ("id -g", {"group": os.getgid()}),
    "pipesize": ("echo a", {"pipesize": 1 << 16}),
    "close_fds": ("echo a", {"close_fds": False}),
}


# the keywords of Popen that other tests pass
ELSEWHERE = {
    *("stdin", "stdout", "stderr", "pass_fds", "extra_groups"),
    # refused as on the standard loop, see test_refused_keyword
    *("bufsize", "shell", "universal_newlines", "text", "encoding", "errors"),
    *("startupinfo", "creationflags"),
}


def test_every_keyword_is_here() -> None:
    """Those of the interpreter that runs."""
    parameters = inspect.signature(subprocess.Popen).parameters
    assert set(parameters) - {"args"} == {*KEYWORDS, *ELSEWHERE}


@pytest.mark.parametrize("name", KEYWORDS)
def test_keyword(both_factories: Any, name: str) -> None:
    command, keywords = KEYWORDS[name]

    async def scenario() -> Any:
        process = await shell(command, stdout=PIPE, stderr=PIPE, **keywords)
        return await process.communicate(), process.returncode

    (out, err), status = compare(both_factories, scenario)
    assert (err, status) == (b"", 0)
    assert out


@pytest.mark.skipif(os.getuid() != 0, reason="only root may change these")
@looped
async def test_another_user() -> None:
    process = await shell(
        "id -u; id -g; id -G",
        user=65534,
        group=65533,
        extra_groups=[65532],
        stdout=PIPE,
    )
    out, _ = await process.communicate()
    assert out.split()[:2] == [b"65534", b"65533"]
    assert b"65532" in out


@looped
async def test_pass_fds() -> None:
    read, write = os.pipe()
    process = await exec_(
        PYTHON, "-c", f"import os; os.write({write}, b'here')", pass_fds=[write]
    )
    os.close(write)
    assert await process.wait() == 0
    assert os.read(read, 10) == b"here"
    os.close(read)


def is_inherited(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # the listing's own
        return False


@looped
async def test_no_descriptor_of_ours_reaches_a_child() -> None:
    code = "import os; print(*os.listdir('/proc/self/fd'))"
    process = await exec_(PYTHON, "-c", code, stdout=PIPE, close_fds=False)
    out, _ = await process.communicate()
    listed = map(int, os.listdir("/proc/self/fd"))
    ours = {fd for fd in listed if is_inherited(fd)}
    assert len(set(map(int, out.split())) - ours - {0, 1, 2}) == 1  # the listing's


@pytest.mark.parametrize(
    "keywords",
    [
        {"universal_newlines": True},
        {"bufsize": 1},
        {"text": True},
        {"encoding": "utf-8"},
        {"errors": "strict"},
        {"shell": True},
        {"startupinfo": 1},
        {"creationflags": 1},
        {"nonsense": 1},
    ],
    ids=lambda keywords: next(iter(keywords)),
)
def test_refused_keyword(both_factories: Any, keywords: Any) -> None:
    async def scenario() -> Any:
        try:
            await exec_("true", **keywords)
        except Exception as exc:
            return type(exc).__name__, str(exc)

    assert compare(both_factories, scenario) is not None


def test_unfit_arguments(both_factories: Any) -> None:
    async def scenario() -> Any:
        results = []
        for call in (
            lambda: exec_(None),
            lambda: exec_("true", 5),
            lambda: exec_("true", "a\0b"),
            lambda: shell(["true"]),
            lambda: exec_("true", cwd="/nowhere/at/all"),
            lambda: exec_("true", env={"a=b": "c"}),
            lambda: exec_("true", stdin=object()),
            lambda: exec_("true", stdin=99_999),
            lambda: exec_("true", pass_fds=[-1]),
            lambda: exec_("/etc/passwd"),
            lambda: exec_("/"),
            lambda: exec_(""),
        ):
            try:
                process = await call()
            except Exception as exc:
                results.append((type(exc).__name__, str(exc)))
            else:
                results.append(("status", str(await process.wait())))
        return results

    results = compare(both_factories, scenario)
    assert [name for name, _ in results].count("status") == 0


@looped
async def test_a_program_that_does_not_exist() -> None:
    for keywords in ({}, {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}):
        with pytest.raises(FileNotFoundError) as caught:
            await exec_("/nowhere/at/all", **keywords)
        assert caught.value.filename == "/nowhere/at/all"


# --- signals ---


@pytest.mark.parametrize("method", ["kill", "terminate", "send_signal"])
@looped
async def test_signals(method: str) -> None:
    process = await exec_(*SLEEP)
    getattr(process, method)(*([signal.SIGUSR1] if method == "send_signal" else []))
    expected = {"kill": 9, "terminate": 15, "send_signal": signal.SIGUSR1}[method]
    assert await process.wait() == -expected


@looped
async def test_a_signal_after_the_end() -> None:
    process = await exec_("true")
    await process.wait()
    await settle()
    for call in (process.kill, process.terminate, lambda: process.send_signal(1)):
        with pytest.raises(ProcessLookupError):
            call()


@looped
async def test_signals_race_with_the_end(faults: Any) -> None:
    """Whoever reads the status first, the right one is told, or the standard's 255."""
    for _ in range(20):
        read, write = os.pipe()
        process = await exec_("cat", stdin=read)
        os.close(read)
        os.close(write)
        until_ended(process.pid)  # and the loop has not been told yet
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        status = await process.wait()
        if "asynccore" in type(asyncio.get_running_loop()).__module__:
            assert status == 0
    for text in faults.take_log():
        assert "255" in text
        assert "asynccore" not in type(asyncio.get_running_loop()).__module__


# --- many, threads, other waiters ---


@looped
async def test_hundreds_at_once() -> None:
    async def one(i: int) -> tuple[int, bytes]:
        process = await shell(f"echo {i}; exit {i % 256}", stdout=PIPE)
        out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out

    results = await asyncio.gather(*[one(i) for i in range(200)])
    assert results == [(i % 256, b"%d\n" % i) for i in range(200)]


def test_loops_in_two_threads(loop_factory: Any) -> None:
    results: list[Any] = []

    async def work() -> list[Any]:
        processes = [await exec_("cat", stdin=PIPE, stdout=PIPE) for _ in range(5)]
        return [(await p.communicate(b"x"), p.returncode) for p in processes]

    def run() -> None:
        loop = loop_factory()
        try:
            results.append(loop.run_until_complete(asyncio.wait_for(work(), 20)))
        finally:
            loop.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [[((b"x", None), 0)] * 5] * 3


@looped
async def test_children_of_others_are_left_alone() -> None:
    other = subprocess.Popen(["sh", "-c", "exit 7"])
    for _ in range(3):
        process = await exec_("true")
        assert await process.wait() == 0
    until_ended(other.pid)
    await settle()
    assert other.wait(10) == 7


@looped
async def test_a_status_that_somebody_else_has_read(faults: Any) -> None:
    read, write = os.pipe()
    process = await exec_("cat", stdin=read)
    os.close(read)
    os.close(write)
    try:
        os.waitpid(process.pid, 0)
    except ChildProcessError:  # the thread of 3.11's loop
        assert await process.wait() == 0
        return
    assert await process.wait() == 255
    [text] = faults.take_log()
    assert f"{process.pid}" in text
    assert "255" in text


def test_sigchld_stays_free(loop: Any) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    try:

        async def main() -> int:
            process = await exec_("true")
            return await process.wait()

        assert loop.run_until_complete(asyncio.wait_for(main(), 10)) == 0
        assert seen == [signal.SIGCHLD]
        assert signal.getsignal(signal.SIGCHLD) is not before
    finally:
        signal.signal(signal.SIGCHLD, before)


# --- a spawn that fails in the middle ---


@contextlib.contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Only so many more may be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = os.dup(0)
    os.close(top)
    holes = []  # below the limit that is set, all is taken
    highest = max(map(int, os.listdir("/proc/self/fd"))) + 1
    while (fd := os.dup(0)) < highest:
        holes.append(fd)
    os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in holes:
            os.close(fd)


@pytest.mark.skipif(
    not POPEN_CLOSES_PIPES, reason="this Python's Popen loses the pipes it made"
)
@looped
async def test_too_few_descriptors(faults: Any) -> None:
    """However many are left: it works, or fails with EMFILE and leaves nothing."""
    await (await exec_("true")).wait()  # what the loop opens for its first child
    outcomes = []
    for number in range(12):
        process = None
        with descriptors_left(number):
            try:
                process = await exec_("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE)
            except OSError as exc:
                outcomes.append(exc.strerror)
        if process is not None:
            outcomes.append("works")
            assert (await process.communicate(b"x"))[0] == b"x"
        del process
        gc.collect()
    assert outcomes[0] == "Too many open files"
    assert outcomes[-1] == "works"
    assert zombies() == []
    faults.take_log()


# --- the end ---


@looped
async def test_closing_the_transport_kills_the_child() -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(Watching, *SLEEP)
    transport.close()
    assert await protocol.lost is None
    assert transport.get_returncode() == -9


@looped
async def test_cancelled_communicate() -> None:
    process = await exec_(*SLEEP, stdin=PIPE, stdout=PIPE)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(process.communicate(b"x"), 0.01)
    process.kill()
    assert await process.wait() == -9


@looped
async def test_cancelled_start() -> None:
    task = asyncio.ensure_future(exec_(*SLEEP, stdin=PIPE, stdout=PIPE))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()  # what connects the pipes has gone on: they end with the child
    assert zombies() == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a thread waits, in its time")
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turns_of_a_cancelled_start(
    both_factories: Any, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self.pid)

    async def main() -> int:
        task = asyncio.ensure_future(exec_(*SLEEP, stdin=PIPE, stdout=PIPE))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)  # it is killed now
        os.waitid(os.P_PID, started.pop(), os.WEXITED | os.WNOWAIT)
        count = 0
        while not task.done():
            await asyncio.sleep(0)
            count += 1
        await settle()
        return count

    def found(factory: Any) -> int:
        with contextlib.closing(factory()) as loop:
            count: int = loop.run_until_complete(main())
        return count

    monkeypatch.setattr(subprocess, "Popen", Popen)
    standard, ours = map(found, both_factories)
    assert ours == standard


@only_asynccore  # the standard loop leaves the pidfd open
def test_a_loop_that_is_closed_before_the_child_ends(loop: Any, faults: Any) -> None:
    async def main() -> Any:
        return await exec_(*SLEEP)

    process = loop.run_until_complete(main())
    loop.close()
    popen = process._transport.get_extra_info("subprocess")
    popen.kill()
    assert popen.wait(10) == -9
    process._transport.close()
    del process
    gc.collect()
    faults.take_unraisable()
    faults.take_log()
