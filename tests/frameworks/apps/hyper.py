"""hypercorn in a program: `hyper.py MODULE:CALLABLE`, the loop factory."""

import asyncio
import importlib
import sys

from asgi import app
from hypercorn.asyncio import serve
from hypercorn.config import Config


def main(factory):
    module, _, name = factory.partition(":")
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.keep_alive_timeout = 60
    loop_factory = getattr(importlib.import_module(module), name)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(app, config))


main(sys.argv[1])
