"""A chat room over TCP with streams: a name first, then every line goes to all others.

python chat.py [PORT]       Ctrl-C ends it
nc 127.0.0.1 PORT
"""

from __future__ import annotations

import asyncio
import sys

import asynccore


class Room:
    def __init__(self) -> None:
        self.writers: dict[str, asyncio.StreamWriter] = {}

    async def say(self, text: str, *, but: str = "") -> None:
        line = f"{text}\n".encode()
        writers = [writer for name, writer in self.writers.items() if name != but]
        for writer in writers:
            writer.write(line)
        # one who is gone must not hold up the others
        waits = (writer.drain() for writer in writers)
        await asyncio.gather(*waits, return_exceptions=True)

    async def enter(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str:
        writer.write(b"your name?\n")
        while line := await reader.readline():
            name = line.decode(errors="replace").strip()
            if name and name not in self.writers:
                self.writers[name] = writer
                await self.say(f"* {name} is here")
                return name
            writer.write(b"another name?\n")
        return ""

    async def visit(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        name = ""
        try:
            name = await self.enter(reader, writer)
            while name and (line := await reader.readline()):
                text = line.decode(errors="replace").rstrip()
                await self.say(f"{name}: {text}", but=name)
        except (ConnectionError, ValueError):  # gone, or a line without an end
            pass
        finally:
            if self.writers.pop(name, None):
                await self.say(f"* {name} left")
            writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(Room().visit, "127.0.0.1", port)
    print("listening on port", server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asynccore.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
    except KeyboardInterrupt:
        print("bye")
