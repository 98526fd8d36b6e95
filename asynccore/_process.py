"""How the end of a child process is noticed.

The child is the interpreter's `subprocess.Popen`, its transport the interpreter's own.
A pidfd tells the loop that the child has ended: no signal, no thread, no wait for the
children of others. Where there is none (another system, a kernel that refuses, no
descriptor left, a child that somebody has waited for already), a thread waits.
"""

from __future__ import annotations

import os
import sys
from asyncio import events, tasks, unix_events
from asyncio.log import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._loop import Loop

# Whether the standard's waits for the child of a cancelled start in a task of its own.
_SHIELDS = (
    "shield"
    in unix_events._UnixSelectorEventLoop._make_subprocess_transport.__code__.co_names  # type: ignore[attr-defined]
)

# os.P_PIDFD, which is missing where the C library was older than the kernel
_P_PIDFD = 3


def may_watch(loop: Loop) -> bool:
    """Whether nobody has chosen a child watcher that works in another way."""
    if sys.version_info >= (3, 14):
        return type(loop._watcher) is unix_events._PidfdChildWatcher  # type: ignore[attr-defined]
    policy: Any = events.get_event_loop_policy()
    none = events.AbstractEventLoopPolicy.get_child_watcher
    get = getattr(type(policy), "get_child_watcher", none)
    if get is none:
        return True
    if get is not unix_events.DefaultEventLoopPolicy.get_child_watcher:
        return False
    watcher = policy._watcher
    if watcher is None or type(watcher) is unix_events.PidfdChildWatcher:
        return True
    # what 3.11 makes when nobody has chosen
    is_default = type(watcher) is unix_events.ThreadedChildWatcher
    return is_default and sys.version_info < (3, 12)


async def make_transport(
    loop: Loop, protocol: Any, *args: Any, extra: Any = None, **kwargs: Any
) -> Any:
    """`BaseEventLoop._make_subprocess_transport`, with the watching from here."""
    waiter = loop.create_future()
    transport: Any = unix_events._UnixSubprocessTransport(  # type: ignore[attr-defined]
        loop, protocol, *args, waiter=waiter, extra=extra, **kwargs
    )
    try:
        _watch(loop, transport)
    except BaseException:
        transport.close()
        transport._proc.wait()  # nobody else will, and it was killed
        raise
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        end = transport._wait()
        await (tasks.shield(end) if _SHIELDS else end)
        raise
    return transport


def _watch(loop: Loop, transport: Any) -> None:
    pid: int = transport.get_pid()
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        private = "_" if sys.version_info >= (3, 14) else ""
        watcher: Any = getattr(unix_events, f"{private}ThreadedChildWatcher")()
        watcher.add_child_handler(pid, _exited, loop, transport)
    else:
        child = _Child(loop, transport, pid, fd)
        loop._add_reader(fd, child.on_exit)


def _exited(pid: int, returncode: int, loop: Any, transport: Any) -> None:
    # its own poll() may have been first: then that is the status, not 255
    known: int | None = transport._proc.returncode
    loop._child_watcher_callback(pid, returncode if known is None else known, transport)


class _Child:
    """A child that runs; the loop's reader of the pidfd keeps it."""

    __slots__ = ("_fd", "_loop", "_pid", "_transport")

    def __init__(self, loop: Loop, transport: Any, pid: int, fd: int) -> None:
        self._loop = loop
        self._transport = transport
        self._pid = pid
        self._fd = fd

    def __del__(self) -> None:
        if self._fd >= 0:  # the loop was closed first
            os.close(self._fd)

    def on_exit(self) -> None:
        self._loop._remove_reader(self._fd)
        try:
            returncode = self._collect()
        finally:
            fd, self._fd = self._fd, -1
            os.close(fd)
        _exited(self._pid, returncode, self._loop, self._transport)

    def _collect(self) -> int:
        try:
            # the number could be another child's by now: ask for the one of the pidfd
            os.waitid(_P_PIDFD, self._fd, os.WEXITED | os.WNOWAIT)
            _, status = os.waitpid(self._pid, 0)
        except ChildProcessError:
            if self._transport._proc.returncode is None:
                logger.warning(
                    "child process pid %d exit status already read: "
                    " will report returncode 255",
                    self._pid,
                )
            return 255
        return unix_events.waitstatus_to_exitcode(status)  # type: ignore[attr-defined, no-any-return]
