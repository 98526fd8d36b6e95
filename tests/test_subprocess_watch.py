"""How the loop learns that a child has ended: a pidfd, a thread, a chosen watcher."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sys
import threading
import warnings
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from support import only_asynccore
from support.children import zombies

exec_ = asyncio.create_subprocess_exec
shell = asyncio.create_subprocess_shell
needs_pidfd = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="this system has no pidfd"
)
has_policy_watchers = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="3.14 has no child watchers of the policy"
)


def run(loop: Any, coroutine: Any) -> Any:
    return loop.run_until_complete(asyncio.wait_for(coroutine, 20))


async def talk() -> None:
    process = await shell("cat; exit 3", stdin=PIPE, stdout=PIPE)
    assert await process.communicate(b"text") == (b"text", None)
    assert process.returncode == 3
    process = await exec_("sleep", "1000")
    process.kill()
    assert await process.wait() == -9


@needs_pidfd
@only_asynccore  # the standard loop of 3.11 takes a thread
def test_no_thread_and_no_signal_where_there_is_a_pidfd(loop: Any) -> None:
    threads: set[str] = set()

    async def main() -> None:
        process = await exec_("sleep", "1000")
        threads.update(thread.name for thread in threading.enumerate())
        process.kill()
        await process.wait()

    before = signal.getsignal(signal.SIGCHLD)
    run(loop, main())
    assert not [name for name in threads if "waitpid" in name]
    assert signal.getsignal(signal.SIGCHLD) is before


@needs_pidfd
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
@only_asynccore
def test_a_thread_where_there_is_no_pidfd(
    loop: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(pid: int, flags: int = 0) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    run(loop, talk())
    wait_for_threads()


@needs_pidfd
@only_asynccore
def test_a_system_without_pidfds(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    run(loop, talk())
    wait_for_threads()


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if "waitpid" in thread.name:
            thread.join(10)


@needs_pidfd
@only_asynccore
def test_neither_pidfd_nor_thread(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start fails, and the child is gone."""

    def no_start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.setattr(threading.Thread, "start", no_start)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await exec_("sleep", "1000", stdin=PIPE, stdout=PIPE)
        await asyncio.sleep(0.01)

    run(loop, main())
    gc.collect()
    assert zombies() == []


@only_asynccore
def test_ignored_sigchld(loop: Any, faults: Any) -> None:
    """The kernel forgets such children: the standard's 255 and its warning."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:

        async def main() -> int:
            process = await shell("exit 3")
            return await process.wait()

        assert run(loop, main()) == 255
    finally:
        signal.signal(signal.SIGCHLD, before)
    wait_for_threads()
    [text] = faults.take_log()
    assert "255" in text


@has_policy_watchers
@pytest.mark.parametrize(
    "name", ["SafeChildWatcher", "FastChildWatcher", "MultiLoopChildWatcher"]
)
@only_asynccore
def test_a_chosen_watcher_is_used(loop: Any, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy: Any = asyncio.get_event_loop_policy()
        former = policy._watcher
        watcher: Any = getattr(asyncio, name)()
        seen: list[int] = []
        add = watcher.add_child_handler

        def note(pid: int, *args: Any) -> Any:
            seen.append(pid)
            return add(pid, *args)

        watcher.add_child_handler = note
        try:
            asyncio.set_child_watcher(watcher)
            asyncio.set_event_loop(loop)
            watcher.attach_loop(loop)
            run(loop, talk())
            assert len(seen) == 2
        finally:
            watcher.close()
            asyncio.set_event_loop(None)
            policy._watcher = former


@has_policy_watchers
@only_asynccore
def test_a_policy_without_watchers(loop: Any) -> None:
    class Policy(asyncio.events.BaseDefaultEventLoopPolicy):
        _loop_factory = type(loop)

    former = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Policy())
    try:
        run(loop, talk())
    finally:
        asyncio.set_event_loop_policy(former)
