"""HTTP servers as they are: uvicorn and aiohttp answer "hello"."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.harness import HELLO, Load, Serve, keep, listen


async def application(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


async def uvicorn(_: str) -> int:
    from uvicorn import Config, Server

    listener = listen()
    config = Config(
        application,
        http="httptools",
        loop="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        backlog=2048,
    )
    keep(asyncio.ensure_future(Server(config).serve(sockets=[listener])))
    port: int = listener.getsockname()[1]
    return port


async def aiohttp(_: str) -> int:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=HELLO)

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    listener = listen()
    site = web.SockSite(runner, listener, backlog=2048)
    await site.start()
    keep(runner)
    port: int = listener.getsockname()[1]
    return port


HTTP = Load(32, options=("http",))
WORKLOADS = [
    Serve("uvicorn", "uvicorn hello, 32", "programs", uvicorn, HTTP),
    Serve("aiohttp", "aiohttp hello, 32", "programs", aiohttp, HTTP),
]
