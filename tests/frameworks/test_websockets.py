"""The websockets library, server and client, unmodified."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import serve, unix_serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from support import certificates, looped

LARGE = bytes(range(256)) * (1 << 14)


async def echo(connection: Any) -> None:
    async for message in connection:
        if message == "close":
            await connection.close(4001, "as asked")
        elif message == "raise":
            raise RuntimeError("as asked")
        else:
            await connection.send(message)


@contextlib.asynccontextmanager
async def serving(tls: bool = False, **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A server, and a function that connects to it."""
    server_tls = {"ssl": certificates().server_context()} if tls else {}
    client_tls = {"ssl": certificates().client_context()} if tls else {}
    options.setdefault("max_size", None)
    async with serve(echo, "127.0.0.1", 0, **server_tls, **options) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"ws{'s' if tls else ''}://localhost:{port}"

        def client(**more: Any) -> Any:
            return connect(url, **client_tls, **{"max_size": None, **more})

        yield server, client


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[None, "deflate"], ids=["plain", "deflate"])
def compression(request: pytest.FixtureRequest) -> str | None:
    return request.param


@looped
async def test_echo(tls: bool, compression: str | None) -> None:
    async with (
        serving(tls, compression=compression) as (_, client),
        client(compression=compression) as connection,
    ):
        for message in ("text", b"binary", "", b"", "ü" * 70_000, LARGE):
            await connection.send(message)
            assert await connection.recv() == message
        for i in range(500):
            await connection.send(str(i))
        assert [await connection.recv() for _ in range(500)] == [
            str(i) for i in range(500)
        ]


@looped
async def test_fragments(tls: bool) -> None:
    async with serving(tls) as (_, client), client() as connection:
        await connection.send([LARGE[i : i + 9999] for i in range(0, len(LARGE), 9999)])
        assert await connection.recv() == LARGE


@looped
async def test_many_clients(tls: bool) -> None:
    async with serving(tls) as (_, client):

        async def one(i: int) -> None:
            async with client() as connection:
                for j in range(5):
                    await connection.send(f"{i} {j}")
                    assert await connection.recv() == f"{i} {j}"

        await asyncio.gather(*(one(i) for i in range(30)))


@looped
async def test_ping(tls: bool) -> None:
    async with serving(tls) as (_, client), client() as connection:
        pong = await connection.ping(b"x")
        assert await pong >= 0


@looped
async def test_close_by_the_server(tls: bool) -> None:
    async with serving(tls) as (_, client), client() as connection:
        await connection.send("close")
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "as asked")


@looped
async def test_handler_that_raises(tls: bool, caplog: Any) -> None:
    async with serving(tls) as (_, client), client() as connection:
        await connection.send("raise")
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1011


@looped
async def test_client_that_aborts(tls: bool) -> None:
    async with serving(tls) as (server, client), client() as connection:
        await connection.send("text")
        assert await connection.recv() == "text"
        connection.transport.abort()
        with pytest.raises(ConnectionClosedError):
            await connection.recv()
        while server.connections:
            await asyncio.sleep(0)


@looped
async def test_message_beyond_the_limit(tls: bool) -> None:
    async with serving(tls, max_size=1000) as (_, client), client() as connection:
        await connection.send(LARGE)
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


@looped
async def test_server_that_closes_with_open_clients(tls: bool) -> None:
    async with serving(tls) as (server, client):
        connections = [await client() for _ in range(10)]
        server.close()
        await server.wait_closed()
        for connection in connections:
            with pytest.raises(ConnectionClosedOK) as caught:
                await connection.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
            await connection.wait_closed()


@looped
async def test_slow_reader(tls: bool) -> None:
    """Flow control from end to end: 20 large messages against a full queue."""
    async with serving(tls) as (_, client), client(max_queue=1) as connection:

        async def send() -> None:
            for _ in range(20):
                await connection.send(LARGE)

        sender = asyncio.ensure_future(send())
        for _ in range(20):
            await asyncio.sleep(0)
            assert len(await connection.recv()) == len(LARGE)
        await sender


@looped
async def test_unix(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "server")
    async with unix_serve(echo, path), unix_connect(path) as connection:
        await connection.send("text")
        assert await connection.recv() == "text"
