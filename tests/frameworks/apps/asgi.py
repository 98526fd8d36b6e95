"""An ASGI program without a framework: for uvicorn, and for httpx's tests."""

import asyncio
import hashlib

started = []


async def body_of(receive):
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        yield event.get("body", b"")
        if not event.get("more_body"):
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await http(scope, receive, send)


async def lifespan(receive, send):
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            started.append(True)
            print("lifespan: up", flush=True)
            await send({"type": "lifespan.startup.complete"})
        else:
            print("lifespan: down", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return


async def http(scope, receive, send):
    pieces = [b"hello"]
    if scope["path"] == "/digest":
        digest = hashlib.sha256()
        async for piece in body_of(receive):
            digest.update(piece)
        pieces = [digest.hexdigest().encode()]
    elif scope["path"] == "/loop":
        pieces = [type(asyncio.get_running_loop()).__module__.encode()]
    elif scope["path"] == "/pieces":
        pieces = [b"%06d," % i * 100 for i in range(1000)]
    elif scope["path"] == "/large":
        pieces = [bytes(range(256)) * (1 << 15)]
    headers = [(b"content-length", b"%d" % sum(map(len, pieces)))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body"})


async def websocket(receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        del event["type"]
        await send({"type": "websocket.send", **event})
