"""psycopg's async connections: libpq's sockets, watched by add_reader, add_writer."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from conftest import FD_DIR, LoopFactory
from support import compare, looped, settle

from .services import Postgres, postgres

psycopg = pytest.importorskip(
    "psycopg", reason="psycopg or libpq is not installed", exc_type=ImportError
)
LARGE = bytes(range(256)) * (1 << 14)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(params=["tcp", "tls", "unix"])
def address(server: Postgres, request: pytest.FixtureRequest) -> str:
    """The words of a connection."""
    host = server.path if request.param == "unix" else "127.0.0.1"
    mode = "require" if request.param == "tls" else "disable"
    return f"host={host} port={server.port} user=postgres sslmode={mode}"


@contextlib.asynccontextmanager
async def connection(address: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as db:
        yield db
    await settle()


async def value(db: Any, query: str, *values: Any) -> Any:
    cursor = await db.execute(query, values)
    return (await cursor.fetchone())[0]


@looped
async def test_queries(address: str) -> None:
    async with connection(address) as db:
        assert await value(db, "select %s + 1", 41) == 42
        assert await value(db, "select %s::bytea", LARGE) == LARGE
        cursor = await db.execute("select x, 'text' from generate_series(1, 20000) x")
        assert [row[0] async for row in cursor] == list(range(1, 20001))
        with pytest.raises(psycopg.errors.DivisionByZero):
            await db.execute("select 1 / 0")


@looped
async def test_copy(address: str) -> None:
    rows = [(i, i * i) for i in range(5000)]
    async with connection(address) as db, db.cursor() as cursor:
        await cursor.execute("create temporary table numbers (x int, y bigint)")
        async with cursor.copy("copy numbers from stdin") as copy:
            for row in rows:
                await copy.write_row(row)
        await cursor.execute("select * from numbers order by x")
        assert await cursor.fetchall() == rows


@looped
async def test_many_connections(address: str) -> None:
    async def work(i: int) -> int:
        async with connection(address) as db:
            return sum([await value(db, "select %s * %s", i, j) for j in range(20)])

    found = await asyncio.gather(*(work(i) for i in range(10)))
    assert found == [i * sum(range(20)) for i in range(10)]


@looped
async def test_notifications(address: str) -> None:
    async with connection(address) as one, connection(address) as other:
        await one.execute("listen news")
        for i in range(100):
            await other.execute("select pg_notify('news', %s)", (str(i),))
        heard = one.notifies(stop_after=100)
        assert [note.payload async for note in heard] == [str(i) for i in range(100)]


async def sleeping(db: Any, observer: Any) -> asyncio.Task[Any]:
    """A query that the server is at."""
    task = asyncio.create_task(db.execute("select pg_sleep(60)"))
    active = "select state = 'active' from pg_stat_activity where pid = %s"
    while not await value(observer, active, db.info.backend_pid):
        pass
    return task


@looped
async def test_cancelled_query(address: str) -> None:
    """The connection tells the server, and goes on."""
    async with connection(address) as db, connection(address) as observer:
        task = await sleeping(db, observer)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await value(db, "select 1") == 1


def test_terminated_backend(
    both_factories: tuple[LoopFactory, LoopFactory], address: str
) -> None:
    async def scenario() -> list[str]:
        seen = []
        async with connection(address) as observer:
            before = len(os.listdir(FD_DIR))
            for _ in range(5):
                async with connection(address) as db:
                    task = await sleeping(db, observer)
                    pid = db.info.backend_pid
                    assert await value(observer, "select pg_terminate_backend(%s)", pid)
                    await asyncio.wait([task])
                    found = task.exception()
                    assert isinstance(found, psycopg.OperationalError)
                    seen.append(f"{type(found).__name__}: {found}")
                    assert db.closed
            async with connection(address) as db:
                assert await value(db, "select 1") == 1
            assert len(os.listdir(FD_DIR)) == before
        return seen

    compare(both_factories, scenario)
