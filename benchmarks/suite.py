"""All workloads by name, in the order of the table, and what is aimed at."""

from __future__ import annotations

from benchmarks import (
    clients,
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
    clients,
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
EVERY = WORKLOADS | SCALE | clients.PEERS

# Times as good as uvloop of the same Python (3.13), or as the loop in BASES.
GOALS: dict[str, float] = {
    "tcp-1k-10": 1.08,
    "tcp-1k-100": 1.08,
    "tcp-1k-1000": 1.15,
    "tcp-buffered": 1.05,
    "tcp-64k": 1.0,
    "tcp-connect": 1.0,
    "tcp-bulk": 1.2,
    "unix-1k": 1.3,
    "udp-1k": 1.25,
    "writes-16": 12,
    "pipelined-16": 11,
    "uvicorn": 1.6,
    "aiohttp": 1.25,
    "aiohttp-client": 1.15,
    "websockets": 1.2,
    "asyncpg": 1.1,
    "redis": 1.1,
    "streams-1k-10": 1.3,
    "streams-1k-100": 1.35,
    "streams-1k-1000": 1.6,
    "streams-lines": 1.35,
    "streams-unix": 1.6,
    "tls-1k": 1.25,
    "tls-1k-10": 1.3,
    "tls-16k": 1.2,
    "tls-100k": 1.05,
    "tls-bulk": 1.15,
    "tls-connect": 1.05,
    "tls-streams": 1.35,
    "sock-1k": 2.5,
    "sock-64k": 1.35,
    "spawn": 0.97,
    "cat-64k": 1.5,
    "cat-64k-fresh": 1.5,
    "sendfile": 0.97,
    "signal": 1.3,
    "call-soon": 1.6,
    "call-soon-1": 1.6,
    "call-soon-2": 1.5,
    "call-soon-context": 1.4,
    "turn": 6,
    "later-0": 5,
    "threadsafe": 2.5,
    "timers-cancel": 4.5,
    "timers-churn": 2.5,
    "timers-fire": 2.6,
    "sleep-0": 1.35,
    "yield": 1.6,
    "future": 2.3,
    "queue": 1.75,
    "event": 1.9,
    "lock": 2,
    "gather": 1.35,
    "task-group": 1.45,
    "timeout": 1.5,
    "wait-for": 1.45,
    "eager": 2.6,
    "run-done": 7,
    "run": 3,
    "reader-churn": 7,
    "getaddrinfo": 8,
    "memory-connection": 1257 / 800,
    "memory-streams": 5793 / 3500,
    "memory-tls": 56 / 30,
    "memory-timer": 537 / 200,
    "import": 1.0,
}

# What they are from a Python on.
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
    "aiohttp-client",
    "asyncpg",
    "call-soon",
    "sleep-0",
    "timers-churn",
    "gather",
    "memory-connection",
)


def goal_of(name: str, python: str) -> float | None:
    """The goal of a workload on a version of Python, if it has one."""
    goal = GOALS.get(name)
    major, minor = map(int, python.split(".")[:2])
    for since, goals in GOALS_SINCE.items():
        if (major, minor) >= since:
            goal = goals.get(name, goal)
    return goal


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
