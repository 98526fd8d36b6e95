"""A web server on aiohttp that knows nothing of event loops.

python hello_aiohttp.py [PORT]                  on asyncio
python -m asynccore hello_aiohttp.py [PORT]     on asynccore
"""

from __future__ import annotations

import sys

from aiohttp import web


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="Hello, world!\n")


app = web.Application()
app.router.add_get("/", hello)

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)
