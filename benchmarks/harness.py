"""What the workloads share: how they are described, kept alive and timed."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

clock = time.perf_counter_ns
# What a process spends beside a child or a peer that is busy too: its own CPU time.
cpu = time.process_time_ns

HELLO = b"hello"
"""What the servers of HTTP answer."""

# Deep enough for every connection of a workload that comes at once.
BACKLOG = 2048

_kept: list[object] = []


def keep(thing: object) -> None:
    """Hold a server, a task or a transport until the process ends."""
    _kept.append(thing)


@dataclass(frozen=True)
class Load:
    """What the client does: `connections` peers, each one round at a time.

    A round writes `depth` requests of `size` bytes at once and reads as many replies
    of `reply` bytes (0: as long as the request).
    """

    connections: int = 1
    size: int = 1024
    reply: int = 0
    depth: int = 1
    options: tuple[str, ...] = ()
    # A fixed number of requests instead of a time, with and without --quick.
    requests: tuple[int, int] | None = None
    # What the server's CPU time is divided by; 0: the requests.
    divisor: int = 0

    def arguments(self) -> list[str]:
        """The command line of client.c, apart from the address and the duration."""
        numbers = {
            "connections": self.connections,
            "size": self.size,
            "reply": self.reply,
            "depth": self.depth,
        }
        return [f"--{name}={n}" for name, n in numbers.items()] + [
            f"--{option}" for option in self.options
        ]


@dataclass(frozen=True)
class Workload:
    """One row of the table; a lower cost is better."""

    name: str
    title: str
    group: str

    @property
    def unit(self) -> str:
        """What the cost is measured in."""
        raise NotImplementedError


@dataclass(frozen=True)
class Serve(Workload):
    """A server under load: its CPU time (user and system) per request.

    `start` begins to serve and returns the port, or the path it was given.
    """

    start: Callable[[str], Awaitable[int | str]]
    load: Load

    @property
    def unit(self) -> str:
        return "us of server CPU per request"


@dataclass(frozen=True)
class Delay(Serve):
    """A server under load: the 99th percentile of a request's time, as the client
    sees it."""

    @property
    def unit(self) -> str:
        return "us at p99"


@dataclass(frozen=True)
class Timed(Workload):
    """No network: the time per operation, best of several repetitions.

    `run` takes a new loop and a number of operations and returns nanoseconds, those of
    its set-up not counted. It may be a coroutine function of the number alone, or,
    with `whole`, a function that takes the LoopSpec and makes its own loops.
    """

    run: Callable[..., int | Awaitable[int]]
    number: int
    whole: bool = False
    fresh: bool = False  # in a process that has not freed a large block before
    repeat: tuple[int, int] = (7, 4)  # without and with --quick

    @property
    def unit(self) -> str:
        return "ns per operation"


@dataclass(frozen=True)
class Lateness(Timed):
    """`run` returns a delay, not the sum of its operations' times."""

    repeat: tuple[int, int] = (1, 1)

    @property
    def unit(self) -> str:
        return "us at p99"


@dataclass(frozen=True)
class IdleMemory(Serve):
    """Memory of the server per connection that is open and idle: resident, or with
    `exact` what malloc() has given out."""

    exact: bool = False

    @property
    def unit(self) -> str:
        return "bytes"


@dataclass(frozen=True)
class OwnMemory(Workload):
    """Memory per thing that `make` returns, in the process that makes it: resident, or
    with `exact` what malloc() has given out."""

    make: Callable[[asyncio.AbstractEventLoop, int], object]
    number: int = field(default=100_000)
    exact: bool = False

    @property
    def unit(self) -> str:
        return "bytes"


def listen(path: str = "") -> socket.socket:
    """A listening socket: unix with a path, else TCP on a free port of 127.0.0.1."""
    if path:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
    else:
        # With the protocol named: the standard loop turns Nagle's algorithm off only
        # for sockets that say they are TCP.
        listener = socket.socket(proto=socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def port_of(server: asyncio.Server) -> int:
    """The port of a server that listens on one TCP socket."""
    port: int = server.sockets[0].getsockname()[1]
    return port


def resident_bytes(pid: int | str = "self") -> int:
    """The resident memory of a process."""
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("no Rss line in smaps_rollup")


def is_exact(workload: Workload) -> bool:
    """Whether the workload needs a process in which malloc() knows of all memory."""
    return isinstance(workload, IdleMemory | OwnMemory) and workload.exact


# Python's own allocator hides what it has given out, and a cache of malloc()'s what
# came back: without the two, allocated_bytes() tells ten timers from none.
EXACT = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


@functools.cache
def _mallinfo2() -> Callable[[], _MallInfo]:
    """The function of glibc, found once: that allocates, too."""
    function = ctypes.CDLL(None).mallinfo2
    function.restype = _MallInfo
    found: Callable[[], _MallInfo] = function
    return found


def allocated_bytes() -> int:
    """What malloc() of this process has given out, its own words included (glibc)."""
    info = _mallinfo2()()
    return int(info.uordblks + info.hblkhd)  # small blocks and mapped ones


def cpu_ns(pid: int) -> int:
    """User and system time of another process, in nanoseconds.

    Linux numbers a process's CPU clock so that anybody may read it: the exact sum that
    the scheduler keeps, where /proc counts in hundredths of a second.
    """
    return time.clock_gettime_ns((~pid << 3) | 2)
