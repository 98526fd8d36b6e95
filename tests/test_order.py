"""Random programs on both loops: what runs, and in which order, must be the same.

A program is a seeded random mixture of callbacks that schedule, cancel, watch, write,
stop and raise. One turn at a time is compared, so that each turn polls exactly once,
and (without I/O, whose poll ours may leave out for a few turns) long runs.
"""

from __future__ import annotations

import random
import socket

import pytest


class Program:
    """One run of the program of a seed; `trace` is what it did."""

    def __init__(self, factory, seed, *, pairs, clock):
        self.loop = factory()
        self.rng = random.Random(seed)
        self.io = pairs > 0
        # the kernel may report several descriptors in any order: then their callbacks
        # must not do what depends on it
        self.one_by_one = pairs == 1
        self.trace = []
        self.handles = []
        self.count = 0
        self.now = 1000.0
        if clock:
            self.loop.time = lambda: self.now
        self.clock = clock
        self.loop.set_exception_handler(self.on_exception)
        self.pairs = [socket.socketpair() for _ in range(pairs)]
        for sock in (sock for pair in self.pairs for sock in pair):
            sock.setblocking(False)

    def close(self):
        self.loop.close()
        for sock in (sock for pair in self.pairs for sock in pair):
            sock.close()

    def on_exception(self, loop, context):
        self.trace.append(("reported", str(context.get("exception"))))

    def name(self):
        self.count += 1
        return self.count

    def callback(self, name, kind):
        self.trace.append((kind, name))
        for _ in range(self.rng.choice((0, 0, 1, 1, 2))):
            self.act()
        ending = self.rng.random()
        if ending < 0.03:
            raise LookupError(name)
        # with descriptors, the standard loop calls a reader that was left over twice
        if ending < 0.04 and not self.io:
            raise KeyboardInterrupt(name)

    def readable(self, index, name):
        try:
            data = self.pairs[index][0].recv(1)
        except BlockingIOError:
            data = None
        self.trace.append(("io", "read", name, data))
        if self.one_by_one and self.rng.random() < 0.5:
            self.act()

    def writable(self, index, name):
        self.trace.append(("io", "writable", name, None))
        if name % 3:
            self.loop.remove_writer(self.pairs[index][0])
        if self.one_by_one and self.rng.random() < 0.5:
            self.act()

    def delay(self):
        """A delay that no two timers share, so that the order is defined."""
        if self.clock:
            return self.rng.uniform(-3.0, 3.0)
        # with the real clock only what is certainly due, or certainly not
        return self.rng.choice((0, 0, 0, -self.rng.uniform(1, 50), 10_000))

    def act(self):
        if self.count > 3000:
            return
        actions = (
            ["soon"] * 5 + ["later"] * 4 + ["at", "threadsafe", "cancel", "cancel"]
        )
        actions += ["stop", "tick", "tick"]
        if self.io:
            actions += ["send"] * 3 + ["add_reader", "add_writer"] * 2
            actions += ["remove_reader", "remove_writer"]
        getattr(self, "do_" + self.rng.choice(actions))()

    def do_soon(self):
        name = self.name()
        self.handles.append(self.loop.call_soon(self.callback, name, "soon"))

    def do_threadsafe(self):
        name = self.name()
        self.handles.append(
            self.loop.call_soon_threadsafe(self.callback, name, "threadsafe")
        )

    def do_later(self):
        name = self.name()
        delay = self.delay()
        self.handles.append(self.loop.call_later(delay, self.callback, name, "later"))

    def do_at(self):
        name = self.name()
        when = self.loop.time() + (self.delay() or -0.5)
        self.handles.append(self.loop.call_at(when, self.callback, name, "at"))

    def do_cancel(self):
        if self.handles:
            self.handles[self.rng.randrange(len(self.handles))].cancel()

    def do_stop(self):
        self.trace.append("stop")
        self.loop.stop()

    def do_tick(self):
        self.now += self.rng.choice((0.0, 0.01, 0.5, 2.0))

    def index(self):
        return self.rng.randrange(len(self.pairs))

    def do_send(self):
        self.pairs[self.index()][1].send(b"x")

    def do_add_reader(self):
        index, name = self.index(), self.name()
        self.loop.add_reader(self.pairs[index][0], self.readable, index, name)

    def do_add_writer(self):
        index, name = self.index(), self.name()
        self.loop.add_writer(self.pairs[index][0], self.writable, index, name)

    def do_remove_reader(self):
        index = self.index()
        self.trace.append(self.loop.remove_reader(self.pairs[index][0]))

    def do_remove_writer(self):
        index = self.index()
        self.trace.append(self.loop.remove_writer(self.pairs[index][0]))

    def turns(self, count):
        """Acts from outside and runs one turn, over and over."""
        for _ in range(count):
            for _ in range(self.rng.randrange(4)):
                self.act()
            self.loop.stop()
            self.run()
            self.trace.append("turn")
        return self.trace

    def free(self, count):
        """Runs on until it has stopped itself `count` times."""
        for _ in range(count):
            for _ in range(1 + self.rng.randrange(6)):
                self.act()
            self.beat()
            self.run()
            self.trace.append("stopped")
        return self.trace

    def beat(self, left=60):
        """Keeps turns coming, moves the clock, and ends the run at last."""
        self.now += 0.05
        if left == 0:
            self.loop.stop()
        else:
            self.loop.call_soon(self.beat, left - 1)

    def run(self):
        try:
            self.loop.run_forever()
        except KeyboardInterrupt as exc:
            self.trace.append(("interrupted", exc.args))


def sorted_io(trace):
    """The trace with each batch of events in an order of its own."""
    found, batch = [], []
    for entry in [*trace, None]:
        if isinstance(entry, tuple) and entry[0] == "io":
            batch.append(entry)
        else:
            found += sorted(batch, key=repr)
            found.append(entry)
            batch = []
    return found


def compare(factories, seed, run, **options):
    traces = []
    for factory in factories:
        program = Program(factory, seed, **options)
        try:
            traces.append(sorted_io(run(program)))
        finally:
            program.close()
    standard, ours = traces
    # the first difference, not pages of what follows from it
    for position, (expected, found) in enumerate(zip(standard, ours, strict=False)):
        assert found == expected, (seed, position, standard[max(0, position - 8) :][:8])
    assert len(ours) == len(standard)
    return standard


SEEDS = 100


@pytest.mark.parametrize("clock", [False, True], ids=["real clock", "fake clock"])
@pytest.mark.parametrize("pairs", [0, 1, 5])
def test_turns(both_factories, pairs, clock):
    length = 0
    for seed in range(SEEDS):
        trace = compare(
            both_factories,
            seed,
            lambda program: program.turns(40),
            pairs=pairs,
            clock=clock,
        )
        length += len(trace)
    assert length > SEEDS * 100


@pytest.mark.parametrize("clock", [False, True], ids=["real clock", "fake clock"])
def test_free_runs(both_factories, clock):
    length = 0
    for seed in range(SEEDS):
        trace = compare(
            both_factories, seed, lambda program: program.free(20), pairs=0, clock=clock
        )
        length += len(trace)
    assert length > SEEDS * 100
