"""What happens around datagrams, in order: the same trace as on the standard loop."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from typing import Any

import pytest

import asynccore
from support import DatagramRecorder, compare, outcome, settle

LOCAL = ("127.0.0.1", 0)


def sender_to(transport: Any) -> socket.socket:
    """A blocking socket, connected to the transport."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.connect(transport.get_extra_info("sockname"))
    return sock


def test_start(both_factories: Any) -> None:
    """connection_made, then what was scheduled meanwhile, reading, the waiter."""

    async def scenario() -> Any:
        loop = asyncio.get_running_loop()
        trace: list[Any] = []

        def made(protocol: Any, transport: Any) -> None:
            trace.append(("made", outcome(transport.is_reading)))
            loop.call_soon(trace.append, "scheduled by connection_made")
            with sender_to(transport) as sock:
                sock.send(b"x")

        protocol = DatagramRecorder(
            connection_made=made,
            datagram_received=lambda p, data, addr: trace.append(data),
        )
        loop.call_soon(trace.append, "before")
        transport, same = await loop.create_datagram_endpoint(lambda: protocol, LOCAL)
        trace.append("awaited")
        assert same is protocol
        await protocol.datagrams(1)
        transport.close()
        await protocol.lost()
        return trace

    assert "awaited" in compare(both_factories, scenario)


# What a protocol does with the second of five datagrams that wait.
ACTIONS: dict[str, Any] = {
    "nothing": lambda p: None,
    "close": lambda p: p.transport.close(),
    "abort": lambda p: p.transport.abort(),
    "pause": lambda p: p.transport.pause_reading(),
    "pause and resume": lambda p: (
        p.transport.pause_reading(),
        p.transport.resume_reading(),
    ),
    "schedule": lambda p: p.loop.call_soon(p.trace.append, "scheduled"),
    "schedule close": lambda p: p.loop.call_soon(p.transport.close),
    "schedule a call": lambda p: p.loop.call_soon(p.transport.sendto, b"x", p.there),
    "threadsafe": lambda p: p.loop.call_soon_threadsafe(p.trace.append, "scheduled"),
    "stop": lambda p: p.loop.stop(),
    "raise": lambda p: 1 / 0,
    "exit": lambda p: p.leave(),
    "replace": lambda p: p.transport.set_protocol(p.other),
    "answer": lambda p: p.transport.sendto(b"answer", p.calls[-1][2]),
    "wake a task": lambda p: p.event.set(),
}


class Exit(KeyboardInterrupt):
    """Leaves run_forever."""


def five_datagrams(factory: Any, action: Any) -> list[Any]:
    """The trace of five waiting datagrams, with an action in the second."""
    loop = factory()
    trace: list[Any] = []
    loop.set_exception_handler(lambda _, c: trace.append(type(c["exception"]).__name__))

    def received(protocol: Any, data: bytes, addr: Any) -> None:
        trace.append((protocol.name, data))
        if data == b"1":
            action(protocol)

    def leave() -> None:
        raise Exit

    def make(label: str) -> Any:
        protocol = DatagramRecorder(
            datagram_received=received,
            connection_lost=lambda p, exc: trace.append((label, "lost", exc)),
        )
        vars(protocol).update(name=label, loop=loop, trace=trace, leave=leave)
        return protocol

    protocol = make("first")
    protocol.other = make("other")
    protocol.event = asyncio.Event()

    async def waits() -> None:
        await protocol.event.wait()
        trace.append("task")
        protocol.transport.close()

    async def start() -> None:
        protocol.other.transport, _ = await loop.create_datagram_endpoint(
            lambda: protocol, LOCAL
        )
        protocol.task = loop.create_task(waits())

    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(LOCAL)
        protocol.there = peer.getsockname()
        loop.run_until_complete(start())
        transport = protocol.transport
        with sender_to(transport) as sock:
            for number in range(5):
                sock.send(b"%d" % number)
        for _ in range(2):  # the second for what an action that left the run has left
            timer = loop.call_later(0.01, loop.stop)
            try:
                loop.run_forever()
            except Exit:
                trace.append("exit")
            timer.cancel()
        loop.run_until_complete(settle(6))
        trace.append(("closing", transport.is_closing()))
        transport.abort()
        protocol.task.cancel()
        loop.run_until_complete(settle())
    loop.close()
    return trace


@pytest.mark.parametrize("name", ACTIONS)
def test_action_between_datagrams(both_factories: Any, name: str) -> None:
    standard, ours = (five_datagrams(each, ACTIONS[name]) for each in both_factories)
    assert ours == standard
    assert ("first", b"1") in standard


def test_timer_between_datagrams(loop_factory: Any) -> None:
    """One that is due at once lets at most the next datagram go first."""
    trace = five_datagrams(
        loop_factory, lambda p: p.loop.call_later(0, p.trace.append, "timer")
    )
    assert trace.index("timer") < trace.index(("first", b"3"))


@pytest.mark.parametrize("seed", range(30))
def test_random_actions_between_datagrams(both_factories: Any, seed: int) -> None:
    """Of one endpoint that finds forty datagrams, and does something at each.

    Nothing that shows whether a turn polls: see "The turn" in docs/compatibility.md.
    """

    def scenario(factory: Any) -> list[Any]:
        loop = factory()
        rng = random.Random(seed)
        trace: list[Any] = []
        loop.set_exception_handler(lambda _, c: trace.append(repr(c["exception"])))

        def act() -> None:
            name = rng.choices(
                ("nothing", "schedule", "pause", "raise", "close"), (30, 10, 4, 3, 0.5)
            )[0]
            trace.append(name)
            if name == "schedule":
                loop.call_soon(trace.append, "scheduled")
            elif name == "pause":
                protocol.transport.pause_reading()
                loop.call_soon(protocol.transport.resume_reading)
            elif name == "close":
                protocol.transport.close()
            elif name == "raise":
                raise ValueError

        def received(_: Any, data: bytes, addr: Any) -> None:
            trace.append(data)
            act()

        protocol = DatagramRecorder(
            datagram_received=received,
            connection_lost=lambda p, exc: trace.append("lost"),
        )

        async def main() -> None:
            transport, _ = await loop.create_datagram_endpoint(lambda: protocol, LOCAL)
            with sender_to(transport) as sock:
                for number in range(40):
                    sock.send(b"%d" % number)
                await settle(80)
            transport.abort()
            await protocol.lost()

        loop.run_until_complete(main())
        loop.close()
        return trace

    standard, ours = map(scenario, both_factories)
    assert ours == standard


def test_what_a_datagram_schedules_comes_before_the_next(loop: Any) -> None:
    """What one datagram schedules runs before the next is delivered."""
    trace: list[Any] = []

    def received(protocol: Any, data: bytes, addr: Any) -> None:
        trace.append(data)
        loop.call_soon(trace.append, "scheduled")

    async def main() -> None:
        protocol = DatagramRecorder(datagram_received=received)
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, LOCAL)
        with sender_to(transport) as sock:
            for _ in range(20):
                sock.send(b"x")
            await protocol.datagrams(20)
        await asyncio.sleep(0)
        transport.close()
        await protocol.lost()

    loop.run_until_complete(main())
    assert trace == [b"x", "scheduled"] * 20


def test_a_waiting_request_is_answered_once(loop: Any) -> None:
    """A second answer finds the transport closed: its future is not set twice."""

    async def main() -> None:
        answer = loop.create_future()
        protocol = DatagramRecorder(
            datagram_received=lambda p, data, addr: answer.set_result(data)
        )
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, LOCAL)
        with sender_to(transport) as sock:
            for number in range(3):
                sock.send(b"%d" % number)
            assert await answer == b"0"
            transport.close()
            await protocol.lost()

    loop.run_until_complete(main())


def test_slow_callbacks_leave_room_for_timers(loop: Any) -> None:
    """A timer that is due comes before the rest of the datagrams."""
    trace: list[Any] = []

    def received(protocol: Any, data: bytes, addr: Any) -> None:
        trace.append(data)
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass

    async def main() -> None:
        protocol = DatagramRecorder(datagram_received=received)
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, LOCAL)
        with sender_to(transport) as sock:
            for _ in range(20):
                sock.send(b"x")
            loop.call_later(0.003, trace.append, "timer")
            await protocol.datagrams(20)
        transport.close()
        await protocol.lost()

    loop.run_until_complete(main())
    assert trace.index("timer") < 6


# --- random programs ---

STEPS = 80


class Run:
    """One random program on three endpoints; the same seed, the same program."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.trace: list[list[Any]] = [[], [], []]
        self.protocols: list[Any] = []
        self.plans: list[dict[str, Any]] = [{}, {}, {}]
        self.depth = 0

    def protocol(self, end: int) -> Any:
        def hook(name: str) -> Any:
            def call(protocol: Any, *args: Any) -> None:
                shown: Any = None
                if name in ("connection_lost", "error_received"):
                    shown = type(args[0]).__name__
                elif name == "datagram_received":
                    shown = len(args[0])
                self.trace[end].append((name, shown))
                plan = self.plans[end].pop(name, None)
                if plan:
                    self.do(end, *plan)

            return call

        names = (
            "connection_made",
            "connection_lost",
            "datagram_received",
            "error_received",
            "pause_writing",
            "resume_writing",
        )
        return DatagramRecorder(**{name: hook(name) for name in names})

    def action(self) -> tuple[Any, ...]:
        name = self.rng.choices(
            (
                "send",
                "burst",
                "wrong",
                "pause",
                "resume",
                "limits",
                "size",
                "plan",
                "close",
                "abort",
            ),
            (30, 12, 4, 8, 14, 4, 6, 10, 0.7, 0.4),
        )[0]
        return name, int(2 ** self.rng.uniform(0, 12)), self.rng.randrange(3)

    def do(self, end: int, name: str, size: int, other: int) -> None:
        protocol = self.protocols[end]
        transport = protocol.transport
        trace = self.trace[end]
        if transport is None or protocol.count("connection_lost"):
            return
        if name == "plan":
            self.plans[end] = {
                "datagram_received": self.action(),
                "pause_writing": self.action(),
                "resume_writing": self.action(),
            }
            return
        peer = self.addresses[other]
        fixed = transport.get_extra_info("peername")
        calls: dict[str, Any] = {
            "send": lambda: transport.sendto(bytearray(size), None if fixed else peer),
            "burst": lambda: [
                transport.sendto(b"y" * size, None if fixed else peer)
                for _ in range(size % 40)
            ],
            "wrong": lambda: transport.sendto(b"z", ("127.0.0.1", -size)),
            "pause": transport.pause_reading,
            "resume": transport.resume_reading,
            "limits": lambda: transport.set_write_buffer_limits(size),
            "size": transport.get_write_buffer_size,
            "close": transport.close,
            "abort": transport.abort,
        }
        kind, value = outcome(calls[name])
        if name == "burst":
            value = None
        trace.append((name, size, kind, str(value).replace(peer, "peer")))
        trace.append((transport.is_closing(), outcome(transport.is_reading)))

    async def run(self, folder: Any) -> list[Any]:
        loop = asyncio.get_running_loop()
        self.addresses = [str(folder / name) for name in "abc"]
        self.protocols = [self.protocol(end) for end in range(3)]
        socks = []
        for address in self.addresses:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.bind(address)
            # a full queue must come soon, and must not depend on the machine
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
            socks.append(sock)
        socks[2].connect(self.addresses[0])
        for protocol, sock in zip(self.protocols, socks, strict=True):
            await loop.create_datagram_endpoint(lambda p=protocol: p, sock=sock)
        for _ in range(STEPS):
            self.do(self.rng.randrange(3), *self.action())
            await self.quiet()
        for protocol in self.protocols:
            if not protocol.count("connection_lost"):
                self.trace[self.protocols.index(protocol)].append(
                    protocol.transport.get_write_buffer_size()
                )
                outcome(protocol.transport.resume_reading)
        await self.quiet()
        for protocol in self.protocols:
            protocol.transport.abort()
        for protocol in self.protocols:
            await protocol.lost()
        for address in self.addresses:
            (folder / address).unlink()
        return self.trace

    async def quiet(self) -> None:
        calm = 0
        while calm < 3:
            before = [len(trace) for trace in self.trace]
            await settle(1)
            calm = calm + 1 if before == [len(trace) for trace in self.trace] else 0


class OneATurn(asynccore.Loop):
    """With a replaced clock each turn polls, and a transport gets one datagram.

    Endpoints that wait for each other show in which order a poll finds them.
    """

    def time(self) -> float:
        return super().time()


@pytest.mark.parametrize("seed", range(40))
def test_random_program(
    both_factories: Any, faults: Any, tmp_path: Any, seed: int
) -> None:
    compare((both_factories[0], OneATurn), lambda: Run(seed).run(tmp_path))
    faults.take_log()


def test_programs_are_not_trivial(tmp_path: Any, faults: Any) -> None:
    """The seeds above reach what they are meant to reach."""
    seen: set[Any] = set()
    loop = asyncio.SelectorEventLoop()
    try:
        for seed in range(40):
            for trace in loop.run_until_complete(Run(seed).run(tmp_path)):
                seen.update(call[0] for call in trace if isinstance(call, tuple))
    finally:
        loop.close()
    faults.take_log()
    assert seen >= {
        "connection_lost",
        "datagram_received",
        "error_received",
        "pause_writing",
        "resume_writing",
        "send",
        "burst",
    }
