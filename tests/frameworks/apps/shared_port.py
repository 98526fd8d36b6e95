"""A server that shares its port: `shared_port.py MODULE:CALLABLE PORT`."""

import asyncio
import importlib
import os
import signal
import sys


async def answer(reader, writer):
    await reader.readline()
    writer.write(b"%d\n" % os.getpid())
    await writer.drain()
    writer.close()


async def main(port):
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    server = await asyncio.start_server(answer, "127.0.0.1", port, reuse_port=True)
    async with server:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await stopped.wait()


module, _, name = sys.argv[1].partition(":")
with asyncio.Runner(
    loop_factory=getattr(importlib.import_module(module), name)
) as runner:
    runner.run(main(int(sys.argv[2])))
