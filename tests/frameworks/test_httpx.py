"""httpx over anyio, against uvicorn in the same loop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest
import uvicorn

from support import looped

from .programs import APPS

httpx = pytest.importorskip("httpx", reason="an optional peer of these tests")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    sys.path.insert(0, str(APPS))
    try:
        import asgi
    finally:
        sys.path.remove(str(APPS))
    config = uvicorn.Config(asgi.app, port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.shutdown()


@looped
async def test_requests() -> None:
    async with serving() as url, httpx.AsyncClient(base_url=url) as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(100)))
        assert [answer.text for answer in answers] == ["hello"] * 100


@looped
async def test_upload_and_download() -> None:
    body = bytes(range(256)) * (1 << 14)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    async with serving() as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/digest", content=pieces())
        assert answer.text == hashlib.sha256(body).hexdigest()
        async with client.stream("GET", "/large") as response:
            found = hashlib.sha256()
            async for piece in response.aiter_bytes():
                found.update(piece)
        expected = hashlib.sha256(bytes(range(256)) * (1 << 15))
        assert found.digest() == expected.digest()


@looped
async def test_timeout_and_refused() -> None:
    async with httpx.AsyncClient() as client:
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(httpx.ReadTimeout):
                await client.get(url, timeout=0.05)
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
