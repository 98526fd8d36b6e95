"""Random programs on a pair of transports: the same trace as on the standard loop."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

import pytest

from support import (
    PAUSES_EARLY,
    BufferedRecorder,
    Recorder,
    compare,
    outcome,
    settle,
)

STEPS = 60


class Run:
    """One random program; the same seed gives the same program on each loop."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.trace: list[Any] = []
        self.protocols: list[Any] = []

    def protocol(self, end: int) -> Any:
        """A protocol that writes into the trace, and acts at random inside callbacks.

        What it does depends on the number of the call, not on the pieces that data
        arrives in: these are joined in the trace.
        """
        rng = random.Random(self.rng.random())
        keep_open = rng.random() < 0.5
        plan = {
            name: self.action(rng) if rng.random() < chance else None
            for name, chance in (
                ("pause_writing", 0.3),
                ("resume_writing", 0.3),
                ("eof_received", 0.3),
                ("connection_made", 0.2),
            )
        }
        if not PAUSES_EARLY and (plan["connection_made"] or [""])[0] == "pause":
            plan["connection_made"] = None

        def hook(name: str) -> Any:
            def call(protocol: Any, *args: Any) -> Any:
                shown = args
                if name == "connection_made":
                    shown = ()
                if name == "connection_lost":
                    shown = (type(args[0]).__name__,)
                self.note(end, name, *shown)
                action = plan.get(name)
                plan[name] = None  # once
                if action:
                    self.do(end, *action)
                return keep_open if name == "eof_received" else None

            return call

        names = (
            "connection_made",
            "eof_received",
            "connection_lost",
            "pause_writing",
            "resume_writing",
        )
        hooks = {name: hook(name) for name in names}
        if rng.random() < 0.3:
            made: Any = BufferedRecorder(
                1 << 20, buffer_updated=lambda p, n: self.data(end, n), **hooks
            )
        else:
            made = Recorder(
                data_received=lambda p, data: self.data(end, len(data)), **hooks
            )
        return made

    def data(self, end: int, size: int) -> None:
        self.trace.append([end, "data", size])

    def note(self, end: int, *what: Any) -> None:
        self.trace.append([end, *what])

    def action(self, rng: random.Random) -> tuple[Any, ...]:
        name = rng.choices(
            (
                "write",
                "write much",
                "writelines",
                "pause",
                "resume",
                "write_eof",
                "limits",
                "size",
                "reading",
                "close",
                "abort",
            ),
            (30, 12, 8, 10, 14, 2, 4, 8, 4, 1.5, 0.7),
        )[0]
        size = int(2 ** rng.uniform(0, 10))
        if name == "write much":
            size = rng.choice((70_000, 200_000, 500_000))
        return name, size

    def do(self, end: int, name: str, size: int) -> None:
        """One action. What it changes is noted when all is quiet: a write that the
        kernel refuses is noticed when the callback has returned."""
        protocol = self.protocols[end]
        transport = protocol.transport
        if protocol.count("connection_lost"):
            return  # what the methods do from here on differs by patch release
        if transport.is_closing() and name == "writelines":
            return  # likewise
        call, args = {
            "write": (transport.write, (b"x" * size,)),
            "write much": (transport.write, (b"x" * size,)),
            "writelines": (transport.writelines, ([b"y" * size, b"z"],)),
            "pause": (transport.pause_reading, ()),
            "resume": (transport.resume_reading, ()),
            "limits": (transport.set_write_buffer_limits, (size * 64,)),
            "size": (transport.get_write_buffer_size, ()),
            "reading": (transport.is_reading, ()),
            "write_eof": (transport.write_eof, ()),
            "close": (transport.close, ()),
            "abort": (transport.abort, ()),
        }[name]
        kind, value = outcome(call, *args)
        if name not in ("size", "reading"):
            self.note(end, "did", name, size, kind, value)

    def look(self) -> None:
        """Notes the state of both ends."""
        for end in (0, 1):
            transport = self.protocols[end].transport
            if self.protocols[end].count("connection_lost"):
                continue
            queued = transport.get_write_buffer_size() > 0
            state = (transport.is_closing(), transport.is_reading(), queued)
            self.note(end, "is", *state)

    async def quiet(self) -> None:
        """Returns when nothing happens any more until somebody acts."""
        calm = 0
        while calm < 3:
            before = len(self.trace)
            await settle(1)
            calm = calm + 1 if len(self.trace) == before else 0

    async def run(self) -> list[Any]:
        loop = asyncio.get_running_loop()
        pair = socket.socketpair()
        for sock in pair:  # what the kernel takes must not depend on the machine
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        self.protocols = [self.protocol(end) for end in range(2)]
        for end in range(2):
            made = self.protocols[end]
            if self.rng.random() < 0.5:
                await loop.create_connection(lambda m=made: m, sock=pair[end])
            else:
                await loop.connect_accepted_socket(lambda m=made: m, pair[end])
        for _ in range(STEPS):
            for _ in range(self.rng.choice((1, 1, 1, 2, 5))):
                end = self.rng.randrange(2)
                self.do(end, *self.action(self.rng))
            await self.quiet()
            self.look()
        for protocol in self.protocols:
            if not protocol.count("connection_lost"):
                protocol.transport.resume_reading()
        await self.quiet()
        for protocol in self.protocols:
            if not protocol.count("connection_lost"):
                protocol.transport.abort()
        for protocol in self.protocols:
            await protocol.lost()
        await settle()
        return self.trace


def by_end(trace: list[Any]) -> list[Any]:
    """The trace of each end, pieces of data joined.

    How the two ends interleave depends on which was polled first.
    """
    ends: list[list[Any]] = [[], []]
    for end, name, *args in trace:
        calls = ends[end]
        if name == "data" and calls and calls[-1][0] == "data":
            calls[-1] = ("data", calls[-1][1] + args[0])
        else:
            calls.append((name, *args))
    return ends


@pytest.mark.parametrize("seed", range(40))
def test_random_program(both_factories: Any, faults: Any, seed: int) -> None:
    async def scenario() -> Any:
        return by_end(await Run(seed).run())

    compare(both_factories, scenario)
    faults.take_log()


def test_programs_are_not_trivial() -> None:
    """The seeds above reach what they are meant to reach."""
    seen: set[str] = set()
    loop = asyncio.SelectorEventLoop()
    try:
        for seed in range(40):
            trace = loop.run_until_complete(Run(seed).run())
            seen.update(str(call[1]) for call in trace)
    finally:
        loop.close()
    assert seen >= {
        "connection_made",
        "connection_lost",
        "eof_received",
        "pause_writing",
        "resume_writing",
        "data",
        "did",
    }
