"""Descriptor numbers that go from a connection to something else of the loop's.

What the loop keeps for a number, or has been told of it, must not touch its next user.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import threading
import time
from typing import Any

import pytest

from support import Recorder, looped, only_asynccore, settle
from test_fork import in_child

KEPT = 256  # numbers so far apart are kept in the same place (csrc/loop/own.h)


def fill(below: int) -> list[int]:
    """Opens all free numbers below one, which is the next that anybody gets."""
    opened: list[int] = []
    while True:
        number = os.dup(0)
        if number >= below:
            os.close(number)
            return opened
        opened.append(number)


def free_number() -> int:
    number = os.dup(0)
    os.close(number)
    return number


class Server:
    """Accepts connections at numbers that the test chooses."""

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(False)  # else accepting is the standard's
        self.made: asyncio.Queue[Recorder] = asyncio.Queue()
        self.server = await loop.create_server(
            lambda: Recorder(
                connection_made=lambda self_, _: self.made.put_nowait(self_)
            ),
            "127.0.0.1",
            0,
        )

    async def accept(self, number: int | None = None) -> tuple[Recorder, socket.socket]:
        peer = socket.socket()
        peer.connect(self.server.sockets[0].getsockname())
        filled = [] if number is None else fill(number)
        while self.made.empty():
            await asyncio.sleep(0)  # without a wait, which may open something
        protocol = self.made.get_nowait()
        await settle()
        for held in filled:
            os.close(held)
        if number is not None:
            assert f"fd={number} " in repr(protocol.transport)
        return protocol, peer

    async def pass_by(self, number: int) -> None:
        """A connection with a number, from its beginning to its end."""
        protocol, peer = await self.accept(number)
        peer.close()
        await protocol.lost()
        await settle()

    def close(self) -> None:
        self.server.close()


def run_guarded(loop: Any, coroutine: Any) -> Any:
    """`run_until_complete` that a thread ends, where timers may fail."""
    task = loop.create_task(coroutine)
    guard = threading.Timer(20.0, loop.call_soon_threadsafe, (task.cancel,))
    guard.start()
    try:
        return loop.run_until_complete(task)
    finally:
        guard.cancel()


def test_timer_that_gets_the_number_of_a_connection(loop: Any) -> None:
    async def scenario() -> None:
        server = Server()
        await server.start()
        # after a wait without a timer, the loop has what else it needs to wait
        await loop.run_in_executor(None, time.sleep, 0.02)
        await loop.shutdown_default_executor()
        number = free_number() + 1  # the first is that of the peer
        await server.pass_by(number)
        filled = fill(number)
        await asyncio.sleep(0.001)  # the first timer
        for held in filled:
            os.close(held)
        await server.pass_by(number + KEPT)
        await asyncio.sleep(0.001)
        server.close()
        await settle()

    run_guarded(loop, scenario())


@only_asynccore  # on the standard loop its selector's table fails the second connection
@looped
async def test_end_of_a_connection_whose_number_has_another_user() -> None:
    server = Server()
    await server.start()
    stale, first = await server.accept()
    number = stale.transport.get_extra_info("socket").fileno()
    await settle()
    peer = socket.socket()
    peer.connect(server.server.sockets[0].getsockname())
    filled = fill(number)
    assert stale.transport.get_extra_info("socket")._sock.detach() == number
    os.close(number)
    protocol = await server.made.get()
    await settle()
    for held in filled:
        os.close(held)
    assert protocol.transport.get_extra_info("socket").fileno() == number
    stale.transport.abort()
    await settle()
    await server.pass_by(number + KEPT)
    peer.send(b"to the second")
    assert await protocol.got(13) == b"to the second"
    protocol.transport.close()
    await protocol.lost()
    first.close()
    peer.close()
    server.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("closed", ["before the fork", "in the child"])
def test_child_whose_loop_gets_numbers_of_connections(
    loop_factory: Any, closed: str
) -> None:
    """The first turn in a child opens descriptors of libuv's anew."""
    low = fill(free_number() + 24)  # the loop's own are above them
    numbers = low[4:]
    loop = loop_factory()
    try:

        async def prepare() -> tuple[Server, list[Any]]:
            server = Server()
            await server.start()
            await server.pass_by(free_number() + 1)  # what is made once is made
            for number in numbers:
                os.close(number)
            kept = []
            for number in numbers:
                peer = socket.socket()
                high = fcntl.fcntl(peer, fcntl.F_DUPFD_CLOEXEC, 64)
                peer.close()
                peer = socket.socket(fileno=high)
                peer.connect(server.server.sockets[0].getsockname())
                protocol = await server.made.get()
                await settle()
                assert f"fd={number} " in repr(protocol.transport)
                kept.append((protocol, peer))
            return server, kept

        async def end(kept: list[Any]) -> None:
            for protocol, _ in kept:
                protocol.transport.abort()
                await protocol.lost()
            await settle()

        server, kept = run_guarded(loop, prepare())
        if closed == "before the fork":
            run_guarded(loop, end(kept))

        def child() -> str:
            if closed == "in the child":
                for protocol, _ in kept:
                    protocol.transport.abort()
                    protocol.transport._call_connection_lost(None)
            run_guarded(loop, settle())
            if closed == "before the fork":
                run_guarded(loop, pass_by())
            thread = threading.Timer(0.1, loop.call_soon_threadsafe, (loop.stop,))
            guard = threading.Timer(5.0, os._exit, (3,))
            guard.daemon = True
            guard.start()
            thread.start()
            loop.run_forever()
            return "woken"

        async def pass_by() -> None:
            for number in numbers:
                await server.pass_by(number + KEPT)

        assert in_child(child) == "woken"
        run_guarded(loop, end(kept))
        for _, peer in kept:
            peer.close()
        server.close()
        run_guarded(loop, settle())
    finally:
        loop.close()
        for number in low[:4]:
            os.close(number)
