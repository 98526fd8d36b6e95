"""Servers that are started by one line, with workers.

Each starts, serves from the loop that it was told, and ends with 0 on SIGTERM while a
client keeps its connection open: within STOP_LIMIT, which is less than each time that a
server would wait for such a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import pathlib
import signal
import socket
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import asynccore.gunicorn

from .programs import FACTORIES, Program, program

OURS = ("-m", "asynccore")


class Server(NamedTuple):
    """The command of a server for each of the two loops."""

    package: str
    asyncio: tuple[str, ...]
    asynccore: tuple[str, ...]
    ready: str = r"http://127\.0\.0\.1:(\d+)"


def gunicorn(theirs: str, ours: str, app: str, *words: str) -> Server:
    common = ("-b", "127.0.0.1:0", "--no-control-socket", "-w", "2", *words, app)
    return Server(
        ours.partition(":")[0],
        # its ASGI worker waits for idle clients until their time-out
        ("-m", "gunicorn", "-k", *theirs.split(), "--keep-alive", "1", *common),
        ("-m", "gunicorn", "-k", ours.partition(":")[2], "--keep-alive", "60", *common),
        # a worker that is still starting misses that it is to stop, but for ours
        Server._field_defaults["ready"] + 2 * r"(?s:.*lifespan: up)",
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
        assert server.stop() == 0, server.output.decode()
        assert idle.recv(1) == b""
    assert b"lifespan: down" in server.output
    assert b"Traceback" not in server.output


@pytest.mark.parametrize("server", ["gunicorn-asgi"], indirect=True)
def test_answers_whole_while_it_ends(server: Program) -> None:
    socks = [server.get("/")[0] for _ in range(10)]
    with server.connect() as busy:
        busy.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = busy.recv(1)
        server.process.send_signal(signal.SIGTERM)
        for sock in socks:  # the workers are about to end
            assert sock.recv(1) == b""
            sock.close()
        while piece := busy.recv(1 << 20):
            answer += piece
    assert answer.partition(b"\r\n\r\n")[2] == bytes(range(256)) * (1 << 15)
    assert server.wait() == 0


# Waits until SIGTERM is there. A signal that comes just before get() waits would not
# wake it: hence the time-out.
CONFIGURATION = """
import queue
import sys

def post_fork(server, worker):
    sys.stderr.write("forked\\n")
    while True:
        try:
            return server.SIG_QUEUE.put(server.SIG_QUEUE.get(timeout=0.1))
        except queue.Empty:
            pass
"""


@pytest.mark.parametrize("name", ["UvicornWorker", "ASGIWorker", "AiohttpWorker"])
def test_gunicorn_ends_a_worker_that_starts(name: str, tmp_path: pathlib.Path) -> None:
    """The handlers that it has from the master only queue the signal."""
    arbiter = pytest.importorskip("gunicorn.arbiter", reason="is not installed")
    if "SimpleQueue" not in inspect.getsource(arbiter):
        pytest.skip("this gunicorn queues signals in another way")
    try:
        getattr(asynccore.gunicorn, name)
    except ImportError as exc:
        pytest.skip(str(exc))
    path = tmp_path / "gunicorn.conf.py"
    path.write_text(CONFIGURATION)
    command = ("-m", "gunicorn", "-c", str(path), "-k", f"asynccore.gunicorn.{name}")
    where = ("-b", "127.0.0.1:0", "--no-control-socket", "asgi:app")
    ready = Server._field_defaults["ready"] + "(?s:.*forked)"
    with program(*command, *where, ready=ready) as started:
        assert started.stop() == 0
        assert b"lifespan" not in started.output
        assert b"Worker exiting" in started.output


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
