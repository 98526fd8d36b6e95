"""All workloads by name, in the order of the table, and what is aimed at."""

from __future__ import annotations

from benchmarks import (
    datagram,
    fairness,
    misc,
    processes,
    ready,
    scale,
    sock,
    streams,
    tasks,
    tcp,
    timers,
    tls,
    unix,
    web,
)
from benchmarks.harness import Workload

GROUPS = (
    "network",
    "small writes",
    "programs",
    "streams",
    "sock_*",
    "TLS",
    "processes",
    "no network: callbacks",
    "no network: timers",
    "no network: tasks",
    "no network: the rest",
    "memory and start",
    "fairness",
)

_MODULES = (
    tcp,
    unix,
    datagram,
    web,
    streams,
    sock,
    tls,
    processes,
    ready,
    timers,
    tasks,
    misc,
    fairness,
)
WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for group in GROUPS
    for module in _MODULES
    for workload in module.WORKLOADS
    if workload.group == group
}

# What has a table of its own: the same work with few and with many of a thing.
SCALE: dict[str, Workload] = {w.name: w for w in scale.WORKLOADS}
EVERY = WORKLOADS | SCALE

# Times as good as uvloop of the same Python (3.13), or as the loop in BASES: the goal
# of the first release, and the one after it.
GOALS: dict[str, tuple[float | None, float | None]] = {
    "tcp-1k-10": (1.0, 1.08),
    "tcp-1k-100": (1.03, 1.08),
    "tcp-1k-1000": (1.05, 1.15),
    "tcp-buffered": (1.05, None),
    "tcp-64k": (1.0, None),
    "tcp-connect": (1.0, None),
    "tcp-bulk": (1.2, None),
    "unix-1k": (1.2, 1.3),
    "udp-1k": (1.2, 1.25),
    "writes-16": (10, 12),
    "pipelined-16": (9, 11),
    "uvicorn": (1.45, 1.6),
    "aiohttp": (1.15, 1.25),
    "streams-1k-10": (None, 1.3),
    "streams-1k-100": (None, 1.35),
    "streams-1k-1000": (None, 1.6),
    "streams-lines": (None, 1.35),
    "streams-unix": (None, 1.6),
    "tls-1k": (None, 1.25),
    "tls-1k-10": (None, 1.3),
    "tls-16k": (None, 1.2),
    "tls-100k": (None, 1.05),
    "tls-bulk": (None, 1.15),
    "tls-connect": (None, 1.05),
    "tls-streams": (1.2, 1.35),
    "sock-1k": (2.2, 2.5),
    "sock-64k": (None, 1.35),
    "spawn": (None, 0.97),
    "cat-64k": (None, 1.5),
    "cat-64k-fresh": (None, 1.5),
    "sendfile": (None, 0.97),
    "signal": (None, 1.3),
    "call-soon": (1.35, 1.6),
    "call-soon-1": (1.35, 1.6),
    "call-soon-2": (1.35, 1.5),
    "call-soon-context": (None, 1.4),
    "turn": (4, 6),
    "later-0": (4, 5),
    "threadsafe": (2, 2.5),
    "timers-cancel": (3, 4.5),
    "timers-churn": (2, 2.5),
    "timers-fire": (2, 2.6),
    "sleep-0": (1.15, 1.35),
    "yield": (None, 1.6),
    "future": (2, 2.3),
    "queue": (1.6, 1.75),
    "event": (None, 1.9),
    "lock": (None, 2),
    "gather": (1.15, 1.35),
    "task-group": (None, 1.45),
    "timeout": (None, 1.5),
    "wait-for": (None, 1.45),
    "eager": (2.4, 2.6),
    "run-done": (5, 7),
    "run": (2.5, 3),
    "reader-churn": (3, 7),
    "getaddrinfo": (8, None),
    "memory-connection": (1 / 0.7, 1257 / 800),
    "memory-streams": (None, 5793 / 3500),
    "memory-tls": (None, 56 / 30),
    "memory-timer": (None, 537 / 200),
    "import": (1.0, None),
}

# What the second of them is from a Python on.
GOALS_SINCE: dict[tuple[int, int], dict[str, float]] = {
    (3, 14): {"streams-1k-10": 1.25, "streams-1k-100": 1.3, "streams-1k-1000": 1.5},
}

# The loop that counts as 1 where it is not --base: uvloop has no sendfile, and takes
# several times as long to start a child.
BASES = {"spawn": "asyncio", "sendfile": "asyncio"}

# The rows of the README.
SHORT = (
    "tcp-1k-100",
    "tcp-64k",
    "unix-1k",
    "udp-1k",
    "pipelined-16",
    "streams-1k-100",
    "sock-1k",
    "tls-1k",
    "uvicorn",
    "aiohttp",
    "call-soon",
    "sleep-0",
    "timers-churn",
    "gather",
    "memory-connection",
)


def goal_of(name: str, python: str) -> float | None:
    """The nearest goal of a workload on a version of Python, if it has one."""
    first, second = GOALS.get(name, (None, None))
    major, minor = map(int, python.split(".")[:2])
    for since, goals in GOALS_SINCE.items():
        if (major, minor) >= since:
            second = goals.get(name, second)
    return first or second


def select(
    names: list[str], workloads: dict[str, Workload] = WORKLOADS
) -> list[Workload]:
    """Those of these names, beginnings of names or groups; all for none."""
    if not names:
        return list(workloads.values())
    chosen = []
    for name in names:
        if name in workloads:
            matches = [workloads[name]]
        else:
            matches = [
                w
                for w in workloads.values()
                if w.name.startswith(name) or w.group.startswith(name)
            ]
        if not matches:
            raise SystemExit(f"no workload {name!r}; --list shows them")
        chosen += [w for w in matches if w not in chosen]
    return [w for w in workloads.values() if w in chosen]
