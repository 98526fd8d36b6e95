"""The same work with few and with many connections, timers, tasks: whether the cost of
one stays what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.harness import IdleMemory, Load, OwnMemory, Serve, Timed, Workload
from benchmarks.tasks import sleep_0, sleepers
from benchmarks.tcp import echo
from benchmarks.timers import cancel_in_turns, fire, timers


@dataclass(frozen=True)
class Series:
    """One kind of work at several sizes."""

    things: str
    title: str
    workloads: dict[int, Workload]

    @property
    def unit(self) -> str:
        """What the costs are measured in."""
        return next(iter(self.workloads.values())).unit


def series(
    things: str,
    title: str,
    name: str,
    make: Callable[[str, str, str, int], Workload],
) -> Series:
    """Workloads called NAME-SIZE, which `make` makes of name, title, group and size."""
    return Series(
        things,
        title,
        {
            size: make(f"{name}-{size}", f"{title}, {size:,}", things, size)
            for size in SIZES[things]
        },
    )


SIZES = {
    "connections": (10, 1_000, 10_000),
    "timers": (10, 1_000, 100_000, 1_000_000),
    "tasks": (1, 10, 100, 1_000),
}


def echo_among(name: str, title: str, group: str, size: int) -> Workload:
    return Serve(name, title, group, echo, Load(size))


def connection_memory(name: str, title: str, group: str, size: int) -> Workload:
    return IdleMemory(name, title, group, echo, Load(size, 1), exact=True)


def timers_cancelled(name: str, title: str, group: str, size: int) -> Workload:
    run = partial(cancel_in_turns, size=size)
    repeat = (1, 1) if size >= 1_000_000 else (5, 2)
    return Timed(name, title, group, run, max(size, 100_000), repeat=repeat)


def timers_fired(name: str, title: str, group: str, size: int) -> Workload:
    run = partial(fire, size=size)
    return Timed(
        name, title, group, run, min(200 * size, max(size, 100_000)), repeat=(1, 1)
    )


def timer_memory(name: str, title: str, group: str, size: int) -> Workload:
    return OwnMemory(name, title, group, timers, size, exact=True)


def task_steps(name: str, title: str, group: str, size: int) -> Workload:
    run = partial(sleep_0, tasks=size)
    return Timed(name, title, group, run, max(500 * size, 50_000), repeat=(3, 2))


def task_memory(name: str, title: str, group: str, size: int) -> Workload:
    return OwnMemory(name, title, group, sleepers, size, exact=True)


SERIES = (
    series("connections", "Protocol echo 1 KiB, TCP", "scale-echo", echo_among),
    series("connections", "idle connection", "scale-idle", connection_memory),
    series("timers", "timer added and cancelled", "scale-cancel", timers_cancelled),
    series("timers", "timer added and fired", "scale-fire", timers_fired),
    series("timers", "waiting timer", "scale-timer", timer_memory),
    series("tasks", "step of a task, sleep(0)", "scale-step", task_steps),
    series("tasks", "task in sleep(0)", "scale-task", task_memory),
)
WORKLOADS = [w for kind in SERIES for w in kind.workloads.values()]
