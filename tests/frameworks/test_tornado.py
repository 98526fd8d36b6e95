"""tornado on AsyncIOMainLoop: its own streams, over readers and writers of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import looped, others_end

pytest.importorskip("tornado", reason="tornado is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from tornado import (
        httpclient,
        httpserver,
        ioloop,
        iostream,
        netutil,
        tcpserver,
        web,
        websocket,
    )
    from tornado.platform.asyncio import AsyncIOMainLoop

LARGE = bytes(range(256)) * (1 << 14)


class Hello(web.RequestHandler):
    async def get(self) -> None:
        await asyncio.sleep(0)
        self.write("hello")

    def post(self) -> None:
        self.write(self.request.body)


class Echo(websocket.WebSocketHandler):
    async def on_message(self, message: Any) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, Any]]:
    assert isinstance(ioloop.IOLoop.current(), AsyncIOMainLoop)
    app = web.Application([("/", Hello), ("/ws", Echo)])
    server = httpserver.HTTPServer(app, max_buffer_size=1 << 27)
    sockets = netutil.bind_sockets(0, "127.0.0.1", family=socket.AF_INET)
    server.add_sockets(sockets)
    client = httpclient.AsyncHTTPClient(force_instance=True, max_clients=20)
    try:
        yield f"127.0.0.1:{sockets[0].getsockname()[1]}", client
    finally:
        client.close()
        server.stop()
        await server.close_all_connections()
        await others_end()
        await asyncio.get_running_loop().shutdown_default_executor()


@looped
async def test_requests() -> None:
    async with serving() as (address, client):
        url = f"http://{address}/"
        answers = await asyncio.gather(*(client.fetch(url) for _ in range(100)))
        assert [answer.body for answer in answers] == [b"hello"] * 100
        kind = {"Content-Type": "application/octet-stream"}
        answer = await client.fetch(url, method="POST", body=LARGE, headers=kind)
        assert answer.body == LARGE
        with pytest.raises(httpclient.HTTPClientError) as caught:
            await client.fetch(f"{url}nothing")
        assert caught.value.code == 404


@looped
async def test_web_socket() -> None:
    async with serving() as (address, _):
        connection = await websocket.websocket_connect(f"ws://{address}/ws")
        for message in ("text", LARGE, "ü" * 1000):
            await connection.write_message(message, isinstance(message, bytes))
            assert await connection.read_message() == message
        connection.close()
        assert await connection.read_message() is None


@looped
async def test_streams() -> None:
    class Server(tcpserver.TCPServer):
        async def handle_stream(self, stream: Any, address: Any) -> None:
            with contextlib.suppress(iostream.StreamClosedError):
                while True:
                    await stream.write(await stream.read_until(b"\n"))

    server = Server()
    (sock,) = netutil.bind_sockets(0, "127.0.0.1", family=socket.AF_INET)
    server.add_socket(sock)
    stream = iostream.IOStream(socket.socket())
    await stream.connect(sock.getsockname())
    for i in range(500):
        await stream.write(b"%d\n" % i)
        assert await stream.read_until(b"\n") == b"%d\n" % i
    stream.close()
    server.stop()
    await others_end()


@looped
async def test_handlers_and_timers() -> None:
    loop = ioloop.IOLoop.current()
    here, there = socket.socketpair()
    seen: asyncio.Queue[Any] = asyncio.Queue()
    with here, there:
        there.send(b"x")
        loop.add_handler(here, lambda fd, events: seen.put_nowait(events), loop.READ)
        assert await seen.get() == loop.READ
        loop.update_handler(here, loop.WRITE)
        while await seen.get() != loop.WRITE:
            pass
        loop.remove_handler(here)
    loop.add_timeout(loop.time() + 0.01, seen.put_nowait, "timer")
    loop.add_callback(seen.put_nowait, "callback")
    while (found := await seen.get()) != "timer":
        assert found in ("callback", loop.WRITE)
