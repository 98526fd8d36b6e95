"""Nobody starves: counted by calls and turns, never by time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

import pytest

from support import BufferedRecorder, Recorder, looped, settle


class Flood:
    """A peer in a thread that writes as fast as the kernel takes it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.stopped = False
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        data = bytes(1 << 18)
        self.sock.settimeout(0.05)
        while not self.stopped:
            try:
                self.sock.send(data)
            except TimeoutError:
                continue
            except OSError:
                break

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *exc: object) -> None:
        self.stopped = True
        self.thread.join()


@contextlib.asynccontextmanager
async def greedy_and_modest(modest: int, buffered: bool = False) -> Any:
    """One flooded transport, and some that get a byte now and then."""
    loop = asyncio.get_running_loop()
    order: list[int] = []
    protocols: list[Any] = []
    peers = []

    def spy(index: int) -> Any:
        return lambda protocol, data: order.append(index)

    for index in range(modest + 1):
        if buffered and index == 0:
            protocol: Any = BufferedRecorder(1 << 16, buffer_updated=spy(0))
            protocol.buffer_updated = lambda n: order.append(0)
        else:
            protocol = Recorder(data_received=spy(index))
        here, there = socket.socketpair()
        peers.append(there)
        await loop.create_connection(lambda p=protocol: p, sock=here)
        protocols.append(protocol)
    protocols[0].data_received = lambda data: order.append(0)
    try:
        with Flood(peers[0]):
            yield order, protocols, peers
    finally:
        for protocol in protocols:
            protocol.transport.abort()
            protocol.__dict__.pop("data_received", None)
            protocol.__dict__.pop("buffer_updated", None)
        for protocol in protocols:
            await protocol.lost()
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("buffered", [False, True])
@looped
async def test_greedy_peer_does_not_starve_others(buffered: bool) -> None:
    async with greedy_and_modest(20, buffered) as (order, _, peers):
        while order.count(0) < 20:
            await asyncio.sleep(0)
        for _ in range(20):
            del order[:]
            for peer in peers[1:]:
                peer.send(b"x")
            # all that are ready are served in the batch of one poll
            while len(set(order) - {0}) < 20:
                await asyncio.sleep(0)
            assert sorted(set(order) - {0}) == list(range(1, 21))
            last = max(order.index(index) for index in range(1, 21))
            assert order[:last].count(0) <= 16


@looped
async def test_greedy_peer_does_not_starve_callbacks() -> None:
    loop = asyncio.get_running_loop()
    async with greedy_and_modest(1) as (order, _, __):
        while order.count(0) < 20:
            await asyncio.sleep(0)
        del order[:]
        for turn in range(100):
            loop.call_soon(order.append, -1)
            while order.count(-1) <= turn:
                await asyncio.sleep(0)
        # between two turns of the ready queue a connection is read a few times at most
        runs = "".join("." if index == 0 else "|" for index in order).split("|")
        assert max(map(len, runs)) <= 16


@looped
async def test_greedy_peer_does_not_starve_timers() -> None:
    loop = asyncio.get_running_loop()
    async with greedy_and_modest(1) as (order, _, __):
        while order.count(0) < 20:
            await asyncio.sleep(0)
        for _ in range(10):
            fired = loop.create_future()
            loop.call_later(0, lambda f=fired: (order.append(-2), f.set_result(None)))
            del order[:]
            await fired
            assert order[: order.index(-2)].count(0) <= 16


@looped
async def test_callbacks_do_not_starve_reading() -> None:
    loop = asyncio.get_running_loop()
    stopped = False
    turns = 0

    def again() -> None:
        nonlocal turns
        turns += 1
        if not stopped:
            loop.call_soon(again)

    here, there = socket.socketpair()
    with there:
        protocol = Recorder()
        await loop.create_connection(lambda: protocol, sock=here)
        await settle()
        again()
        for number in range(50):
            before = turns
            there.send(b"x")
            await protocol.got(number + 1)
            # a few turns may pass without a poll: a bound, not a wait
            assert turns - before <= 128
        stopped = True
        protocol.transport.abort()
        await protocol.lost()


@looped
async def test_flood_of_new_connections_does_not_starve_others() -> None:
    loop = asyncio.get_running_loop()
    accepted = 0
    order: list[str] = []

    def factory() -> Recorder:
        nonlocal accepted
        accepted += 1
        order.append("accept")
        return Recorder()

    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=64)
    address = server.sockets[0].getsockname()
    here, there = socket.socketpair()
    protocol = Recorder(data_received=lambda p, data: order.append("data"))
    await loop.create_connection(lambda: protocol, sock=here)
    with contextlib.ExitStack() as stack:
        stack.enter_context(there)
        for turn in range(3):
            del order[:]
            target = accepted + 40
            for _ in range(40):
                client = stack.enter_context(socket.socket())
                client.connect(address)
            there.send(b"x")
            while accepted < target or len(protocol.received) <= turn:
                await asyncio.sleep(0)
            assert order.count("accept") == 40
            assert order.count("data") == 1
    server.close()
    protocol.transport.abort()
    await protocol.lost()
    await settle()


@looped
async def test_threadsafe_flood_does_not_starve_reading() -> None:
    loop = asyncio.get_running_loop()
    stopped = threading.Event()
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    def flood() -> None:
        # more than the loop can run, unless its thread is let in
        while not stopped.is_set():
            loop.call_soon_threadsafe(tick)

    here, there = socket.socketpair()
    with there:
        protocol = Recorder()
        await loop.create_connection(lambda: protocol, sock=here)
        thread = threading.Thread(target=flood)
        thread.start()
        try:
            while not count:
                await asyncio.sleep(0)
            for number in range(50):
                there.send(b"x")
                assert len(await protocol.got(number + 1)) == number + 1
        finally:
            stopped.set()
            while thread.is_alive():
                await asyncio.sleep(0)
            thread.join()
        protocol.transport.abort()
        await protocol.lost()


@looped
async def test_writer_with_a_fast_reader_does_not_starve_others() -> None:
    """A peer that takes everything at once does not keep its writer's turn going."""
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    stopped = False

    def drain() -> None:
        while there.recv(1 << 18):
            pass

    thread = threading.Thread(target=drain)
    thread.start()
    more = lambda p: None if stopped else p.transport.write(bytes(1 << 20))  # noqa: E731
    writer = Recorder(resume_writing=more)
    await loop.create_connection(lambda: writer, sock=here)
    writer.transport.write(bytes(1 << 20))
    one, two = socket.socketpair()
    reader = Recorder()
    await loop.create_connection(lambda: reader, sock=one)
    for number in range(50):
        two.send(b"x")
        before = writer.count("resume_writing")
        await reader.got(number + 1)
        assert writer.count("resume_writing") - before <= 16
    stopped = True
    writer.transport.abort()
    reader.transport.abort()
    await writer.lost()
    await reader.lost()
    thread.join()
    there.close()
    two.close()
