"""aiohttp, server and client, unmodified, on the loop under test."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import pathlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from support import certificates, looped, refused_port

from .programs import FACTORIES, Program, load, program

LARGE = bytes(range(256)) * (1 << 15)


async def hello(request: Any) -> Any:
    peer = request.transport.get_extra_info("peername")
    return web.json_response({"query": dict(request.query), "peer": peer})


async def digest(request: Any) -> Any:
    found = hashlib.sha256()
    async for piece in request.content.iter_any():
        found.update(piece)
    return web.Response(text=found.hexdigest())


async def large(request: Any) -> Any:
    return web.Response(body=LARGE)


async def pieces(request: Any) -> Any:
    response = web.StreamResponse()
    await response.prepare(request)
    for i in range(1000):
        await response.write(b"%06d," % i)
    await response.write_eof()
    return response


async def endless(request: Any) -> Any:
    """Writes until the client is gone, then puts what it got into the queue."""
    response = web.StreamResponse()
    try:
        await response.prepare(request)
        while True:
            await response.write(LARGE)
    except (ConnectionError, asyncio.CancelledError) as exc:
        request.app["ends"].put_nowait(type(exc))
        raise


async def slow(request: Any) -> Any:
    request.app["ends"].put_nowait("began")
    await asyncio.Event().wait()


async def socket_echo(request: Any) -> Any:
    ws = web.WebSocketResponse(max_msg_size=0)
    await ws.prepare(request)
    try:
        async for message in ws:
            if message.data == "close":
                await ws.close(code=4001, message=b"as asked")
            elif message.type == aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type == aiohttp.WSMsgType.BINARY:
                await ws.send_bytes(message.data)
    finally:
        request.app["ends"].put_nowait("socket closed")
    return ws


class Server:
    """The program under test. `ends` gets what the handlers saw at their end."""

    def __init__(self, app: Any, url: str) -> None:
        self.url = url
        self.ends: asyncio.Queue[Any] = app["ends"]


def application() -> Any:
    app = web.Application(client_max_size=1 << 26)
    app["ends"] = asyncio.Queue()
    app.router.add_get("/", hello)
    app.router.add_post("/digest", digest)
    for handler in (large, pieces, endless, slow, socket_echo):
        app.router.add_get(f"/{handler.__name__}", handler)
    app.router.add_static("/files", pathlib.Path(__file__).parent)
    return app


pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")


@contextlib.asynccontextmanager
async def serving(*, tls: bool = False, path: str = "") -> AsyncIterator[Server]:
    app = application()
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        if path:
            site = web.UnixSite(runner, path)
            await site.start()
            yield Server(app, "http://localhost")
        else:
            context = certificates().server_context() if tls else None
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            port = runner.addresses[0][1]
            yield Server(app, f"http{'s' if tls else ''}://localhost:{port}")
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def both(
    *, tls: bool = False, **options: Any
) -> AsyncIterator[tuple[Server, Any]]:
    """A server, and a client whose connections are gone when the block ends."""
    context = certificates().client_context() if tls else True
    async with serving(tls=tls) as server:
        # no second attempt where the first is slow: its server would miss a handshake
        connector = aiohttp.TCPConnector(
            ssl=context, family=socket.AF_INET, happy_eyeballs_delay=None
        )
        async with aiohttp.ClientSession(connector=connector, **options) as client:
            yield server, client
        await settled_close()


async def settled_close() -> None:
    """Lets the closed connections reach connection_lost on both sides."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture(params=[False, True], ids=["http", "https"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@looped
async def test_requests(tls: bool) -> None:
    async with both(tls=tls) as (server, client):

        async def one(i: int) -> None:
            async with client.get(f"{server.url}/?i={i}") as response:
                assert response.status == 200
                assert (await response.json())["query"] == {"i": str(i)}

        await asyncio.gather(*(one(i) for i in range(200)))


@looped
async def test_keep_alive_uses_one_connection(tls: bool) -> None:
    async with both(tls=tls) as (server, client):
        peers = set()
        for _ in range(20):
            async with client.get(server.url) as response:
                peers.add(tuple((await response.json())["peer"]))
        assert len(peers) == 1


@looped
async def test_large_answer(tls: bool) -> None:
    async with (
        both(tls=tls) as (server, client),
        client.get(f"{server.url}/large") as response,
    ):
        assert await response.read() == LARGE


@looped
async def test_pieces(tls: bool) -> None:
    expected = b"".join(b"%06d," % i for i in range(1000))
    async with (
        both(tls=tls) as (server, client),
        client.get(f"{server.url}/pieces") as response,
    ):
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert await response.read() == expected


@looped
async def test_slow_reader(tls: bool) -> None:
    """Flow control: the server fills the buffers long before the client reads."""
    async with (
        both(tls=tls, read_bufsize=1 << 14) as (server, client),
        client.get(f"{server.url}/large") as response,
    ):
        data = bytearray()
        async for piece in response.content.iter_chunked(10_000):
            data += piece
            await asyncio.sleep(0)
        assert data == LARGE


@looped
async def test_streaming_upload(tls: bool) -> None:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(LARGE), 100_000):
            yield LARGE[start : start + 100_000]

    async with (
        both(tls=tls) as (server, client),
        client.post(f"{server.url}/digest", data=body()) as response,
    ):
        assert await response.text() == hashlib.sha256(LARGE).hexdigest()


@looped
async def test_file(tls: bool) -> None:
    """A FileResponse, which takes loop.sendfile when there is no TLS."""
    async with (
        both(tls=tls) as (server, client),
        client.get(f"{server.url}/files/{pathlib.Path(__file__).name}") as r,
    ):
        assert await r.read() == pathlib.Path(__file__).read_bytes()
    # aiohttp closes the file in a thread that nobody waits for
    await asyncio.get_running_loop().shutdown_default_executor()


@looped
async def test_web_socket(tls: bool) -> None:
    async with both(tls=tls) as (server, client):
        async with client.ws_connect(f"{server.url}/socket_echo", max_msg_size=0) as ws:
            await ws.send_str("text")
            assert await ws.receive_str() == "text"
            await ws.send_bytes(LARGE)
            assert await ws.receive_bytes() == LARGE
            for i in range(500):
                await ws.send_str(str(i))
            assert [await ws.receive_str() for _ in range(500)] == [
                str(i) for i in range(500)
            ]
            await ws.send_str("close")
            message = await ws.receive()
            assert (message.type, message.data, message.extra) == (
                aiohttp.WSMsgType.CLOSE,
                4001,
                "as asked",
            )
        assert await server.ends.get() == "socket closed"


@looped
async def test_web_socket_of_a_client_that_leaves(tls: bool) -> None:
    async with both(tls=tls) as (server, client):
        ws = await client.ws_connect(f"{server.url}/socket_echo")
        await ws.send_str("text")
        assert await ws.receive_str() == "text"
        ws._response.connection.transport.abort()
        assert await server.ends.get() == "socket closed"
        await ws.close()


@looped
async def test_client_that_leaves_in_the_middle(tls: bool) -> None:
    async with both(tls=tls) as (server, client):
        response = await client.get(f"{server.url}/endless")
        assert await response.content.readexactly(100) == LARGE[:100]
        response.close()
        end = await server.ends.get()
        assert issubclass(end, (ConnectionError, asyncio.CancelledError))


@looped
async def test_cancelled_and_timed_out_requests(tls: bool) -> None:
    async with both(tls=tls) as (server, client):
        task = asyncio.ensure_future(client.get(f"{server.url}/slow"))
        assert await server.ends.get() == "began"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            timeout = aiohttp.ClientTimeout(total=0.05)
            await client.get(f"{server.url}/slow", timeout=timeout)
        async with client.get(server.url) as response:
            assert response.status == 200


@looped
async def test_server_that_stops_while_clients_are_idle(tls: bool) -> None:
    context = certificates().client_context()
    async with aiohttp.ClientSession() as client:
        async with (
            serving(tls=tls) as server,
            client.get(server.url, ssl=context) as response,
        ):
            await response.read()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get(server.url, ssl=context)
    await settled_close()


@looped
async def test_refused() -> None:
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await client.get(f"http://127.0.0.1:{refused_port()}")
    assert isinstance(caught.value.os_error, ConnectionRefusedError)


@looped
async def test_certificate_of_nobody(faults: Any) -> None:
    async with serving(tls=True) as server, aiohttp.ClientSession() as client:
        context = certificates().client_context(trust=False)
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.get(server.url, ssl=context)
        async with client.get(server.url, ssl=certificates().client_context()) as r:
            assert r.status == 200
    await settled_close()
    if asyncio.get_running_loop().get_debug():
        faults.take_log()  # the server tells of the handshake that failed


@looped
async def test_unix(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "server")
    async with serving(path=path) as server:
        connector = aiohttp.UnixConnector(path)
        async with aiohttp.ClientSession(connector=connector) as client:
            async with client.get(f"{server.url}/large") as response:
                assert await response.read() == LARGE
            async with client.ws_connect(f"{server.url}/socket_echo") as ws:
                await ws.send_str("text")
                assert await ws.receive_str() == "text"


@pytest.fixture
def started(loop_name: str) -> Iterator[Program]:
    with program("aio.py", FACTORIES[loop_name]) as started:
        yield started


def test_run_app_under_load(started: Program) -> None:
    assert load(started, "/") > 50
    assert started.stop() == 0
    assert b"cleaned up\nclosed: True" in started.output


def test_run_app_stops_with_idle_clients(started: Program, loop_name: str) -> None:
    socks = [started.get("/")[0] for _ in range(10)]
    try:
        assert started.stop() == 0
        assert [sock.recv(1) for sock in socks] == [b""] * 10
    finally:
        for sock in socks:
            sock.close()
    assert f"cleaned up\nclosed: True {loop_name}".encode() in started.output


def test_run_app_stops_by_sigint(started: Program) -> None:
    started.get("/")[0].close()
    assert started.stop(signal.SIGINT) == 0
    assert b"cleaned up\nclosed: True" in started.output
