"""Clients as they are: what a request or a connection costs the process that makes it.

Ten connections ask, each one request at a time. The server is a process of its own,
on the other CPU, and the same for every loop: aiohttp asks uvicorn, and websockets its
own server, both on uvloop.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import glob
import importlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import HELLO, Load, Serve, Timed, cpu, keep, port_of

CONNECTIONS = 10
MESSAGE = b"m" * 1024
STARTED = 30.0
"""Seconds that a server may take to start."""

Ask = Callable[[], Awaitable[object]]

# ----------------------------------------------------------------------- servers --


@contextlib.contextmanager
def _on_other_cpus() -> Iterator[None]:
    """What is started in it does not run on the CPU that this process is pinned to."""
    mine = os.sched_getaffinity(0)
    others = set(range(os.cpu_count() or 1)) - mine
    with contextlib.suppress(OSError):  # not allowed, or none
        os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def _start(
    *command: str, end: signal.Signals = signal.SIGTERM, **options: Any
) -> subprocess.Popen[str]:
    """A process that lives as long as this one, which sends it `end` then."""
    with _on_other_cpus():
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, **options
        )

    def stop() -> None:
        process.send_signal(end)
        process.wait()

    atexit.register(stop)
    return process


@functools.cache
def _peer(name: str) -> int:
    """The port of a server of the benchmark, on uvloop."""
    child = str(Path(__file__).with_name("child.py"))
    process = _start(sys.executable, child, "serve", "uvloop", name)
    assert process.stdout is not None
    return int(process.stdout.readline().split()[1])


@functools.cache
def _folder(user: int = -1) -> str:
    """A folder that lives as long as this process."""
    path = tempfile.mkdtemp(prefix="asynccore-", dir="/tmp")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    os.chown(path, user, -1)
    return path


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until a server has made its socket."""
    deadline = time.monotonic() + STARTED
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not start")
        time.sleep(0.01)


@functools.cache
def _redis() -> str:
    """The socket of a Redis."""
    path = Path(_folder(), "redis")
    words = ["--port", "0", "--unixsocket", str(path), "--save", ""]
    _wait_for(path, _start("redis-server", *words, "--dir", _folder()))
    return str(path)


@functools.cache
def _postgres() -> str:
    """The folder of the socket of a PostgreSQL, where everybody is trusted."""
    programs = Path((glob.glob("/usr/lib/postgresql/*/bin") or ["/usr/bin"])[-1])
    account: dict[str, Any] = {}
    if os.geteuid() == 0:  # which PostgreSQL refuses
        entry = pwd.getpwnam("postgres")
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    folder = _folder(account.get("user", -1))
    account["cwd"] = folder
    data = str(Path(folder, "data"))
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N"],
        stdout=subprocess.DEVNULL,
        check=True,
        **account,
    )
    options = ["-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
    process = _start(
        str(programs / "postgres"),
        *("-D", data, *options),
        end=signal.SIGINT,  # it waits for no client
        stderr=subprocess.DEVNULL,
        **account,
    )
    _wait_for(Path(folder, ".s.PGSQL.5432"), process)
    return folder


async def _websocket_server(_: str) -> int:
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    server = await serve(echo, "127.0.0.1", 0, compression=None)
    keep(server)
    return port_of(server.server)


# ----------------------------------------------------------------------- clients --


async def _measure(n: int, asks: list[Ask]) -> int:
    """The CPU time of n requests, each connection its part."""

    async def run(ask: Ask) -> None:
        for _ in range(n // len(asks)):
            await ask()

    await asyncio.gather(*(ask() for ask in asks))  # everything is set up then
    start = cpu()
    await asyncio.gather(*map(run, asks))
    return cpu() - start


async def aiohttp(n: int) -> int:
    import aiohttp

    url = f"http://127.0.0.1:{_peer('uvicorn')}/"
    async with aiohttp.ClientSession() as session:

        async def get() -> None:
            async with session.get(url) as response:
                assert await response.read() == HELLO

        return await _measure(n, [get] * CONNECTIONS)


async def websockets(n: int) -> int:
    from websockets.asyncio.client import connect

    url = f"ws://127.0.0.1:{_peer('websocket-server')}/"
    async with contextlib.AsyncExitStack() as stack:

        async def asker() -> Ask:
            connection = await stack.enter_async_context(connect(url, compression=None))

            async def echo() -> None:
                await connection.send(MESSAGE)
                assert await connection.recv() == MESSAGE

            return echo

        return await _measure(n, [await asker() for _ in range(CONNECTIONS)])


async def asyncpg(n: int) -> int:
    asyncpg: Any = importlib.import_module("asyncpg")  # has no types
    folder = _postgres()
    async with contextlib.AsyncExitStack() as stack:

        async def asker() -> Ask:
            while True:
                with contextlib.suppress(asyncpg.CannotConnectNowError):  # it starts
                    connection = await asyncpg.connect(host=folder, user="postgres")
                    break
            stack.push_async_callback(connection.close)

            async def select() -> None:
                assert await connection.fetchval("select 1") == 1

            return select

        return await _measure(n, [await asker() for _ in range(CONNECTIONS)])


async def redis(n: int) -> int:
    from redis.asyncio import Redis

    path = _redis()
    async with contextlib.AsyncExitStack() as stack:

        async def asker() -> Ask:
            client = await stack.enter_async_context(
                Redis(unix_socket_path=path, single_connection_client=True)
            )
            await client.set("key", MESSAGE)

            async def get() -> None:
                assert await client.get("key") == MESSAGE

            return get

        return await _measure(n, [await asker() for _ in range(CONNECTIONS)])


async def connect(n: int) -> int:
    """Connections one after the other, each closed at once."""
    loop = asyncio.get_running_loop()
    port = _peer("tcp-1k-10")

    class Brief(asyncio.Protocol):
        def __init__(self) -> None:
            self.over = loop.create_future()

        def connection_lost(self, exc: Exception | None) -> None:
            self.over.set_result(None)

    async def one() -> None:
        transport, protocol = await loop.create_connection(Brief, "127.0.0.1", port)
        transport.close()
        await protocol.over

    return await _measure(n, [one])


async def connect_streams(n: int) -> int:
    port = _peer("tcp-1k-10")

    async def one() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()

    return await _measure(n, [one])


PEERS = {
    peer.name: peer
    for peer in (
        Serve("websocket-server", "", "programs", _websocket_server, Load(CONNECTIONS)),
    )
}
WORKLOADS = [
    Timed(name, title, "programs", run, number, repeat=(3, 2))
    for name, title, run, number in (
        ("aiohttp-client", "aiohttp client, 10", aiohttp, 3_000),
        ("websockets", "websockets client, echo 1 KiB, 10", websockets, 5_000),
        ("asyncpg", "asyncpg `select 1`, 10", asyncpg, 5_000),
        ("redis", "redis-py GET 1 KiB, 10", redis, 5_000),
    )
] + [
    Timed(name, title, "network", run, 3_000, repeat=(3, 2))
    for name, title, run in (
        ("client-connect", "connect + close, client", connect),
        ("client-streams", "open_connection + close, client", connect_streams),
    )
]
