"""redis-py on a Redis of its own, and what happens when that is gone for a while."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from conftest import FD_DIR, LoopFactory
from support import certificates, compare, looped, settle

from .services import Redis, redis

client = pytest.importorskip("redis.asyncio", reason="redis is not installed")
NoBackoff = importlib.import_module("redis.backoff").NoBackoff
Retry = importlib.import_module("redis.asyncio.retry").Retry
LARGE = bytes(range(256)) * (1 << 14)


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with redis() as server:
        yield server


@pytest.fixture(params=["tcp", "tls", "unix"])
def address(server: Redis, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments of a client."""
    if request.param == "unix":
        return {"unix_socket_path": server.socket}
    if request.param == "tls":
        if not server.tls:
            pytest.skip("this Redis was built without TLS")
        return {
            "host": "localhost",
            "port": server.tls_port,
            "ssl": True,
            "ssl_ca_certs": str(certificates().authority),
            "ssl_certfile": str(certificates().client),
            "ssl_keyfile": str(certificates().client),
        }
    return {"host": "127.0.0.1", "port": server.port}


@contextlib.asynccontextmanager
async def connected(address: dict[str, Any], **options: Any) -> AsyncIterator[Any]:
    options = {"socket_timeout": None, **options}  # some releases have 5 seconds
    async with client.Redis(**address, **options) as db:
        yield db
        await db.flushall()
    await settle()


@looped
async def test_commands(address: dict[str, Any]) -> None:
    async with connected(address) as db:
        assert await db.set("large", LARGE)
        assert await db.get("large") == LARGE
        assert await db.get("nothing") is None
        async with db.pipeline(transaction=False) as pipe:
            for i in range(5000):
                pipe.set(f"key {i}", i)
            assert await pipe.execute() == [True] * 5000
        found = {key async for key in db.scan_iter("key *", count=100)}
        assert len(found) == 5000
        with pytest.raises(client.ResponseError):
            await db.incr("large")


@looped
async def test_many_tasks(address: dict[str, Any]) -> None:
    async with connected(address, max_connections=50) as db:

        async def work() -> None:
            for _ in range(20):
                await db.incr("count")

        await asyncio.gather(*(work() for _ in range(50)))
        assert await db.get("count") == b"1000"


@looped
async def test_messages(address: dict[str, Any]) -> None:
    async with connected(address) as db, db.pubsub() as news:
        await news.subscribe("news")
        assert (await news.get_message(timeout=20))["type"] == "subscribe"
        for i in range(100):
            assert await db.publish("news", str(i)) == 1
        found = [(await news.get_message(timeout=20))["data"] for _ in range(100)]
        assert found == [b"%d" % i for i in range(100)]


@looped
async def test_blocking_and_cancelled(address: dict[str, Any]) -> None:
    async with connected(address) as db:
        waiting = asyncio.create_task(db.blpop("queue"))
        await blocked(db, 1)
        await db.rpush("queue", "x")
        assert await waiting == (b"queue", b"x")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await db.blpop("queue")
        assert await db.ping()


async def blocked(db: Any, count: int) -> None:
    """Returns when so many clients wait in the server."""
    while (await db.info("clients"))["blocked_clients"] != count:
        pass


def test_restarted_server(
    both_factories: tuple[LoopFactory, LoopFactory],
    server: Redis,
    address: dict[str, Any],
) -> None:
    async def scenario() -> list[object]:
        loop = asyncio.get_running_loop()
        seen: list[object] = []
        async with connected(address, retry=Retry(NoBackoff(), 1)) as db:
            assert await db.ping()
            before = len(os.listdir(FD_DIR))
            for sig in (signal.SIGKILL, signal.SIGTERM):
                waiting = [asyncio.create_task(db.blpop("queue")) for _ in range(4)]
                await blocked(db, 4)
                await loop.run_in_executor(None, server.stop, sig)
                ends = await asyncio.gather(*waiting, return_exceptions=True)
                # the texts tell whether the second try came before the server's end
                seen += [type(end) for end in ends]
                with pytest.raises(client.ConnectionError) as caught:
                    await db.ping()
                seen.append((type(caught.value), type(caught.value.__cause__)))
                await loop.run_in_executor(None, server.start)
                assert await db.ping()
                await asyncio.gather(*(db.set(str(i), i) for i in range(4)))
            await settle()
            # its connections beyond the first were not there before
            await db.connection_pool.disconnect()
            assert await db.ping()
            await settle()
            assert len(os.listdir(FD_DIR)) == before
        return seen

    compare(both_factories, scenario)
