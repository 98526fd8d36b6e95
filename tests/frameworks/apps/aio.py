"""An aiohttp program: `aio.py MODULE:CALLABLE`, the loop factory."""

import importlib
import socket
import sys

from aiohttp import web


async def hello(request):
    return web.Response(text="hello")


def main(factory):
    module, _, name = factory.partition(":")
    loop = getattr(importlib.import_module(module), name)()
    app = web.Application()
    app.router.add_get("/", hello)
    app.on_cleanup.append(clean_up)
    sock = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    web.run_app(app, sock=sock, loop=loop, print=None, keepalive_timeout=60)
    print("closed:", loop.is_closed(), type(loop).__module__, flush=True)


async def clean_up(app):
    print("cleaned up", flush=True)


main(sys.argv[1])
