"""httpx over anyio, against uvicorn in the same loop, with and without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from support import certificates, looped

from .programs import APPS

httpx = pytest.importorskip("httpx", reason="an optional peer of these tests")


@contextlib.asynccontextmanager
async def both(tls: bool) -> AsyncIterator[httpx.AsyncClient]:
    """A server, and a client of it."""
    sys.path.insert(0, str(APPS))
    try:
        import asgi
    finally:
        sys.path.remove(str(APPS))
    files = {"ssl_certfile": str(certificates().server)} if tls else {}
    config = uvicorn.Config(asgi.app, port=0, log_config=None, lifespan="off", **files)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
        trust = certificates().client_context() if tls else True
        async with httpx.AsyncClient(base_url=url, verify=trust) as client:
            yield client
    finally:
        await server.shutdown()


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@looped
async def test_requests(tls: bool) -> None:
    async with both(tls) as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(100)))
        assert [answer.text for answer in answers] == ["hello"] * 100


@looped
async def test_upload_and_download(tls: bool) -> None:
    body = bytes(range(256)) * (1 << 14)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    async with both(tls) as client:
        answer = await client.post("/digest", content=pieces())
        assert answer.text == hashlib.sha256(body).hexdigest()
        async with client.stream("GET", "/large") as response:
            found = hashlib.sha256()
            async for piece in response.aiter_bytes():
                found.update(piece)
        expected = hashlib.sha256(bytes(range(256)) * (1 << 15))
        assert found.digest() == expected.digest()


@looped
async def test_server_that_is_not_trusted(faults: Any) -> None:
    async with both(tls=True) as client, httpx.AsyncClient() as other:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await other.get(client.base_url)
        assert (await client.get("/")).text == "hello"
    if asyncio.get_running_loop().get_debug():
        faults.take_log()  # the server tells of the handshake that failed


@looped
async def test_timeout_and_refused() -> None:
    async with httpx.AsyncClient() as client:
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(httpx.ReadTimeout):
                await client.get(url, timeout=0.05)
        with pytest.raises(httpx.ConnectError):
            await client.get(url)
