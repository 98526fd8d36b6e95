"""500 loops, one after the other, each with all kinds of traffic: `pytest -m soak`."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from conftest import LoopFactory, open_fds
from support import certificates

CYCLES = 500
SEED = 20260101


async def echo(reader: Any, writer: Any) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def talk(connect: Callable[..., Awaitable[Any]], rng: random.Random) -> None:
    """Sends pieces of random sizes; some clients leave before the answer is there."""
    reader, writer = await connect()
    sizes = [rng.choice((1, 100, 5_000, 200_000)) for _ in range(rng.randrange(1, 5))]
    for size in sizes:
        writer.write(bytes(size))
        if rng.random() < 0.2:
            writer.transport.abort()
            return
        assert len(await reader.readexactly(size)) == size
    writer.close()
    if rng.random() < 0.5:
        await writer.wait_closed()


async def traffic(rng: random.Random, folder: str) -> None:
    loop = asyncio.get_running_loop()
    certs = certificates()
    tls = {"ssl": certs.client_context(), "server_hostname": "localhost"}
    path = f"{folder}/server"
    plain = await asyncio.start_server(echo, "127.0.0.1", 0)
    secure = await asyncio.start_server(
        echo, "127.0.0.1", 0, ssl=certs.server_context()
    )
    unix = await asyncio.start_unix_server(echo, path)
    ports = [server.sockets[0].getsockname()[1] for server in (plain, secure)]
    connects: list[Callable[..., Awaitable[Any]]] = [
        lambda: asyncio.open_connection("127.0.0.1", ports[0]),
        lambda: asyncio.open_connection("127.0.0.1", ports[1], **tls),
        lambda: asyncio.open_unix_connection(path),
    ]
    timers = [loop.call_later(rng.random(), int) for _ in range(100)]
    for timer in timers[:90]:
        timer.cancel()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(talk(rng.choice(connects), rng))
        for _ in range(5):
            group.create_task(asyncio.to_thread(int))
        group.create_task(asyncio.sleep(rng.random() / 100))
    for server in (plain, secure, unix):
        server.close()
    # the server's sides of the connections that were aborted
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)
    await asyncio.sleep(0.001)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_cycles(loop_factory: LoopFactory, tmp_path: Any) -> None:
    rng = random.Random(SEED)
    fds: dict[int, Any] = {}
    blocks = 0
    for cycle in range(CYCLES):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(traffic(rng, str(tmp_path)))
        (tmp_path / "server").unlink(missing_ok=True)
        if cycle == CYCLES // 5:
            gc.collect()
            fds, blocks = open_fds(), sys.getallocatedblocks()
    gc.collect()
    assert open_fds() == fds
    assert sys.getallocatedblocks() < blocks * 1.05
