"""An ASGI application for uvicorn that knows nothing of event loops.

uvicorn hello_asgi:app --loop asyncio                       on asyncio
python -m asynccore -m uvicorn hello_asgi:app --loop asyncio    on asynccore
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Event = MutableMapping[str, Any]

BODY = b"Hello, world!\n"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]


async def app(
    scope: Event,
    receive: Callable[[], Awaitable[Event]],
    send: Callable[[Event], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    else:
        start = {"type": "http.response.start", "status": 200, "headers": HEADERS}
        await send(start)
        await send({"type": "http.response.body", "body": BODY})
