"""asyncpg on a PostgreSQL of its own, and what happens when that fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from conftest import FD_DIR, LoopFactory
from support import certificates, compare, looped, settle

from .services import Postgres, postgres

asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")
# what a query ends with when its connection does; which, is asyncpg's affair
LOST = (asyncpg.ConnectionDoesNotExistError, asyncpg.AdminShutdownError)
LARGE = bytes(range(256)) * (1 << 14)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(params=["tcp", "tls", "unix"])
def address(server: Postgres, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The arguments of a connection."""
    found: dict[str, Any] = {"user": "postgres", "port": server.port, "ssl": False}
    found["host"] = "localhost" if request.param != "unix" else str(server.path)
    if request.param == "tls":
        found["ssl"] = certificates().client_context()
    return found


@contextlib.asynccontextmanager
async def connection(address: dict[str, Any]) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(**address)
    try:
        yield connection
    finally:
        await connection.close()
        await settle()


@contextlib.asynccontextmanager
async def pool(address: dict[str, Any], size: int = 4) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(**address, min_size=size, max_size=size) as pool:
        yield pool
    await settle()


@looped
async def test_queries(address: dict[str, Any]) -> None:
    async with connection(address) as db:
        assert await db.fetchval("select $1::int + 1", 41) == 42
        assert await db.fetchval("select $1::bytea", LARGE) == LARGE
        rows = await db.fetch("select x, 'text' from generate_series(1, 50000) x")
        assert [row[0] for row in rows] == list(range(1, 50001))
        with pytest.raises(asyncpg.DivisionByZeroError):
            await db.fetchval("select 1 / 0")
        async with db.transaction():
            cursor = db.cursor("select generate_series(1, 1000)", prefetch=10)
            assert [row[0] async for row in cursor] == list(range(1, 1001))


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "another"])
@looped
async def test_certificate_that_is_verified(server: Postgres, name: str) -> None:
    """sslmode=verify-full in the address, as programs have it in their settings."""
    host = "localhost" if name == "another" else name
    trust = certificates().authority if name != "another" else certificates().other
    address = (
        f"postgresql://postgres@{host}:{server.port}/postgres"
        f"?sslmode=verify-full&sslrootcert={trust}"
    )
    if name == "another":
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncpg.connect(address)
        await settle()
        return
    async with connection({"dsn": address}) as db:
        query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        assert await db.fetchval(query) is True
        assert await db.fetchval("select $1::bytea", LARGE) == LARGE


@looped
async def test_copy(address: dict[str, Any]) -> None:
    async def lines() -> AsyncIterator[bytes]:
        for i in range(50_000):
            yield b"%d\t%d\n" % (i, i * i)

    async with connection(address) as db:
        await db.execute("create temporary table numbers (x int, y bigint)")
        assert await db.copy_to_table("numbers", source=lines()) == "COPY 50000"
        found = bytearray()

        async def add(piece: bytes) -> None:
            found.extend(piece)

        await db.copy_from_query("select * from numbers order by x", output=add)
        assert found == b"".join([line async for line in lines()])


@looped
async def test_notifications(address: dict[str, Any]) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with connection(address) as one, connection(address) as other:
        await one.add_listener("news", lambda *words: heard.put_nowait(words[-1]))
        for i in range(100):
            await other.execute("select pg_notify('news', $1)", str(i))
        assert [await heard.get() for _ in range(100)] == [str(i) for i in range(100)]
        await one.reset()


@looped
async def test_pool(address: dict[str, Any]) -> None:
    async with pool(address) as db:

        async def work(i: int) -> int:
            total = 0
            for j in range(20):
                total += await db.fetchval("select $1::int * $2::int", i, j)
            return total

        found = await asyncio.gather(*(work(i) for i in range(20)))
        assert found == [i * sum(range(20)) for i in range(20)]


@looped
async def test_cancelled_query(address: dict[str, Any]) -> None:
    """The connection cancels it by a second one, and goes on."""
    async with connection(address) as db:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(db.execute("select pg_sleep(60)"), 0.05)
        assert await db.fetchval("select 1") == 1
        with pytest.raises(TimeoutError):
            await db.execute("select pg_sleep(60)", timeout=0.05)
        assert await db.fetchval("select 1") == 1


async def sleeping(db: Any, observer: Any) -> tuple[Any, int]:
    """A query that runs on a connection of the pool, and the backend's process."""
    started = asyncio.get_running_loop().create_future()

    async def query() -> None:
        async with db.acquire() as connection:
            started.set_result(connection.get_server_pid())
            await connection.execute("select pg_sleep(60)")

    task = asyncio.create_task(query())
    pid = await started
    running = "select state = 'active' from pg_stat_activity where pid = $1"
    while not await observer.fetchval(running, pid):
        pass
    return task, pid


def same(
    factories: tuple[LoopFactory, LoopFactory], scenario: Callable[[], Any]
) -> None:
    """Runs the scenario on both loops; they must see the same exception."""

    async def described() -> str:
        return f"{(found := await scenario()).__class__.__name__}: {found}"

    compare(factories, described)


async def exception_of(task: asyncio.Future[Any]) -> BaseException | None:
    await asyncio.wait([task])
    return task.exception()


def test_terminated_backend(
    both_factories: tuple[LoopFactory, LoopFactory], address: dict[str, Any]
) -> None:
    async def scenario() -> BaseException | None:
        async with connection(address) as observer, pool(address) as db:
            before = await idle(db)
            for _ in range(5):
                task, pid = await sleeping(db, observer)
                assert await observer.fetchval("select pg_terminate_backend($1)", pid)
                found = await exception_of(task)
                assert isinstance(found, LOST)
            values = await asyncio.gather(*(db.fetchval("select 1") for _ in range(20)))
            assert values == [1] * 20
            assert await idle(db) == before
            return found

    same(both_factories, scenario)


@looped
async def test_terminated_while_idle(address: dict[str, Any]) -> None:
    async with connection(address) as observer, pool(address) as db:
        pids = [await pid_of(db) for _ in range(4)]
        for pid in set(pids):
            assert await observer.fetchval("select pg_terminate_backend($1)", pid)
        gone = "select count(*) from pg_stat_activity where pid = any($1)"
        while await observer.fetchval(gone, pids):
            pass
        await settle()
        assert await db.fetchval("select 1") == 1


async def pid_of(db: Any) -> int:
    async with db.acquire() as connection:
        return int(connection.get_server_pid())


def test_killed_backend(
    both_factories: tuple[LoopFactory, LoopFactory], address: dict[str, Any]
) -> None:
    """PostgreSQL ends all its backends then, and starts anew."""

    async def scenario() -> BaseException | None:
        async with pool(address) as db:
            before = await idle(db)
            observer = await asyncpg.connect(**address)
            task, pid = await sleeping(db, observer)
            os.kill(pid, signal.SIGKILL)
            found = await exception_of(task)
            assert isinstance(found, LOST)
            while not observer.is_closed():  # by PostgreSQL, before it starts anew
                await settle()
            assert await recovered(db) == before
            return found

    same(both_factories, scenario)


def test_restarted_server(
    both_factories: tuple[LoopFactory, LoopFactory],
    server: Postgres,
    address: dict[str, Any],
) -> None:
    async def scenario() -> BaseException | None:
        loop = asyncio.get_running_loop()
        async with pool(address) as db:
            before = await idle(db)
            observer = await asyncpg.connect(**address)
            task, _ = await sleeping(db, observer)
            await loop.run_in_executor(None, server.stop)
            found = await exception_of(task)
            assert isinstance(found, LOST)
            observer.terminate()
            with pytest.raises(OSError):
                await db.fetchval("select 1")
            await loop.run_in_executor(None, server.start)
            assert await recovered(db) == before
            return found

    same(both_factories, scenario)


async def recovered(db: Any) -> int:
    """`idle`, once the server answers again."""
    while True:
        try:
            return await idle(db)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0.01)


async def idle(db: Any) -> int:
    """Uses all connections of the pool; returns how many descriptors are open."""
    barrier = asyncio.Barrier(db.get_max_size())

    async def one() -> Exception | None:
        try:
            async with db.acquire() as connection:
                assert await connection.fetchval("select 1") == 1
                with contextlib.suppress(asyncio.BrokenBarrierError):
                    await barrier.wait()
        except Exception as exc:
            await barrier.abort()
            return exc
        return None

    # none is cancelled: asyncpg leaves an exception behind then, on any loop
    found = await asyncio.gather(*(one() for _ in range(db.get_max_size())))
    for exc in filter(None, found):
        raise exc
    await settle()
    return len(os.listdir(FD_DIR))
