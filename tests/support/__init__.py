"""Helpers of the stream and server tests."""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.certs import Certificates, certificates
from support.differential import compare, outcome
from support.interpreter import HANDLERS_ARE_REPORTED, LOST_TLS_ABORTS, PAUSES_EARLY
from support.links import LINKS, PLAIN_LINKS, Link, has_ipv6, link, needs_ipv6
from support.protocols import BufferedRecorder, DatagramRecorder, Recorder
from support.wires import SIDES, WIRES, Peer, Wire, wire

__all__ = [
    "HANDLERS_ARE_REPORTED",
    "LINKS",
    "LOST_TLS_ABORTS",
    "PAUSES_EARLY",
    "PLAIN_LINKS",
    "SIDES",
    "WIRES",
    "BufferedRecorder",
    "Certificates",
    "DatagramRecorder",
    "Link",
    "Peer",
    "Recorder",
    "Wire",
    "certificates",
    "compare",
    "has_ipv6",
    "link",
    "looped",
    "needs_ipv6",
    "only_asynccore",
    "others_end",
    "outcome",
    "refused_port",
    "settle",
    "wire",
]

# For a documented improvement over the standard loop; the test tells which.
only_asynccore = pytest.mark.parametrize("loop_name", ["asynccore"], indirect=True)


def looped(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Makes a coroutine function a test: the fixture `run` runs it on `loop`."""

    @functools.wraps(test)
    def sync(run: Callable[[Awaitable[None]], None], **kwargs: Any) -> None:
        run(test(**kwargs))

    own = inspect.signature(test)
    runner = inspect.Parameter("run", inspect.Parameter.KEYWORD_ONLY)
    others = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own.parameters.values()
    ]
    signature = own.replace(parameters=[runner, *others])
    sync.__signature__ = signature  # type: ignore[attr-defined]
    return sync


async def settle(rounds: int = 3) -> None:
    """Returns when every event that the kernel had ready has reached its callback.

    A byte sent to ourselves is polled in the same batch as what was ready before it.
    """
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    with here, there:
        for _ in range(rounds):
            seen = asyncio.Event()
            loop.add_reader(here, lambda seen=seen: (here.recv(1), seen.set()))
            there.send(b"x")
            await seen.wait()
            loop.remove_reader(here)


async def others_end() -> None:
    """Returns when no other task of the loop is left; they must end by themselves."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    await settle()


def refused_port() -> int:
    """A TCP port of 127.0.0.1 where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
