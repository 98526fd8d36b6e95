"""What a loop that costs nothing would reach: limit.c in the place of a loop."""

from __future__ import annotations

from benchmarks import datagram, processes, tcp, tls, unix
from benchmarks.client import build
from benchmarks.harness import Delay, IdleMemory, Serve, Timed, Workload

LIMIT = "limit"

# The work that it does, by the function of the workloads.
_ROLES: dict[object, tuple[str, ...]] = {
    tcp.echo: ("echo",),
    tcp.bulk: ("bulk",),
    unix.echo: ("unix",),
    datagram.echo: ("udp",),
    tls.echo: ("echo", f"--tls={tls.PEM}"),
    tls.bulk: ("bulk", f"--tls={tls.PEM}"),
    processes.cat: ("cat",),
    processes.cat_in_turns: ("turns",),
    processes.cat_lines: ("lines",),
}


def arguments(workload: Workload) -> tuple[str, ...]:
    """What makes limit.c do the work; nothing where it cannot."""
    if isinstance(workload, Delay | IdleMemory):
        return ()
    if isinstance(workload, Serve):
        return _ROLES.get(workload.start, ())
    if isinstance(workload, Timed):
        role = _ROLES.get(workload.run, ())
        return (*role, f"--number={workload.number}") if role else ()
    return ()


def can_run(loop: str, workload: Workload) -> bool:
    """Whether there is this workload for this loop: the limit plays a few."""
    return loop != LIMIT or bool(arguments(workload))


def command(workload: Workload) -> list[str]:
    """The command line, which options of child.py may follow."""
    return [str(build("limit")), *arguments(workload)]
