"""Servers that are started by one line, with workers.

Each starts, serves from the loop that it was told, and ends with 0 on SIGTERM while a
client keeps its connection open.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import signal
import socket
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from .programs import FACTORIES, Program, program

# Seconds from SIGTERM to the end. On an idle machine all are below 2; gunicorn's master
# may miss the end of a worker where the machine is busy, and looks again.
LIMIT = 30.0
OURS = ("-m", "asynccore")


class Server(NamedTuple):
    """The command of a server for each of the two loops."""

    package: str
    asyncio: tuple[str, ...]
    asynccore: tuple[str, ...]
    ready: str = r"http://127\.0\.0\.1:(\d+)"


def gunicorn(theirs: str, ours: str, app: str, *words: str) -> Server:
    where = ("-b", "127.0.0.1:0", "--no-control-socket", "--keep-alive", "1")
    common = (*where, "--graceful-timeout", "10", "-w", "2", *words, app)
    return Server(
        ours.partition(":")[0],
        ("-m", "gunicorn", "-k", *theirs.split(), *common),
        ("-m", "gunicorn", "-k", ours.partition(":")[2], *common),
    )


def both_ways(package: str, *command: str, ready: str = "") -> Server:
    """A server that has no option for our loop: `python -m asynccore -m ...`."""
    command = ("-m", package, *command)
    ready = Server._field_defaults["ready"] + ready
    return Server(package, command, (*OURS, *command), ready)


UVICORN = ("-m", "uvicorn", "asgi:app", "--port", "0", "--timeout-keep-alive", "60")
UVICORN_WORKERS = (
    "uvicorn_worker.UvicornH11Worker",
    "uvicorn_worker:asynccore.gunicorn.UvicornWorker",
    "asgi:app",
)
HYPERCORN = ("asgi:app", "-b", "127.0.0.1:0", "--keep-alive", "60")

SERVERS = {
    "uvicorn": Server(
        "uvicorn",
        (*UVICORN, "--loop", FACTORIES["asyncio"], "--workers", "2"),
        (*UVICORN, "--loop", FACTORIES["asynccore"], "--workers", "2"),
    ),
    "gunicorn-uvicorn": gunicorn(*UVICORN_WORKERS),
    "gunicorn-uvicorn-preload": gunicorn(*UVICORN_WORKERS, "--preload"),
    "gunicorn-asgi": gunicorn(
        "asgi --asgi-loop asyncio",
        "gunicorn.workers.gasgi:asynccore.gunicorn.ASGIWorker",
        "asgi:app",
    ),
    "gunicorn-aiohttp": gunicorn(
        "aiohttp.GunicornWebWorker",
        "aiohttp:asynccore.gunicorn.AiohttpWorker",
        "web_app:app",
    ),
    "gunicorn-aiohttp-preload": gunicorn(
        "aiohttp.GunicornWebWorker",
        "aiohttp:asynccore.gunicorn.AiohttpWorker",
        "web_app:app",
        "--preload",
    ),
    "hypercorn": both_ways("hypercorn", *HYPERCORN, "-k", "asyncio", "-w", "2"),
    "hypercorn-program": Server(
        "hypercorn",
        ("hyper.py", FACTORIES["asyncio"]),
        ("hyper.py", FACTORIES["asynccore"]),
    ),
    "granian": both_ways(
        "granian",
        *("asgi:app", "--interface", "asgi", "--loop", "asyncio", "--workers", "2"),
        # a worker that is still starting misses that it is to stop, on any loop
        ready=2 * r"(?s:.*Started worker)",
    ),
}


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A port that nobody else gets, but who also sets SO_REUSEPORT may listen on."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its package is missing
        return False


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, loop_name: str) -> Iterator[Program]:
    chosen = SERVERS[request.param]
    command = list(getattr(chosen, loop_name))
    for name in {chosen.package, *({"gunicorn"} if "gunicorn" in command else ())}:
        if not installed(name):
            pytest.skip(f"{name} is not installed")
    with contextlib.ExitStack() as stack:
        if chosen.package == "granian":  # port 0 would stay 0 in what it tells
            if sys.platform != "linux":
                pytest.skip("SO_REUSEPORT means something else here")
            command += ["--port", str(stack.enter_context(held_port()))]
        yield stack.enter_context(program(*command, ready=chosen.ready))


def test_serves_and_ends(server: Program, loop_name: str) -> None:
    module = server.body("/loop").decode()
    assert module.partition(".")[0] == loop_name
    assert {server.body() for _ in range(50)} == {b"hello"}
    idle, answer = server.get("/")
    with idle:
        assert answer.endswith(b"hello")
        assert server.stop(limit=LIMIT) == 0, server.output.decode()
        assert idle.recv(1) == b""
    assert b"lifespan: down" in server.output
    assert b"Traceback" not in server.output


def test_the_aiohttp_worker_ends_at_once(loop: asyncio.AbstractEventLoop) -> None:
    """Its class in aiohttp sees that it is to end in its next look, after a second."""
    aiohttp = pytest.importorskip("aiohttp.worker", reason="gunicorn is not installed")
    if not hasattr(aiohttp.GunicornWebWorker, "_notify_waiter_done"):
        pytest.skip("this aiohttp waits in another way")
    from asynccore.gunicorn import AiohttpWorker

    worker = AiohttpWorker.__new__(AiohttpWorker)
    worker.loop, worker.alive, worker._notify_waiter = loop, True, None
    waiter = worker._wait_next_notify()
    worker.handle_exit(signal.SIGTERM, None)
    assert waiter.done()
    assert not worker.alive
