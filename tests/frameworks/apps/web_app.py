"""An aiohttp application, for gunicorn."""

import asyncio

from aiohttp import web


async def hello(request):
    return web.Response(text="hello")


async def loop(request):
    return web.Response(text=type(asyncio.get_running_loop()).__module__)


async def set_up(app):
    print("lifespan: up", flush=True)


async def clean_up(app):
    print("lifespan: down", flush=True)


app = web.Application()
app.router.add_get("/", hello)
app.router.add_get("/loop", loop)
app.on_startup.append(set_up)
app.on_cleanup.append(clean_up)
