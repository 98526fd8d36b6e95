"""An accepted connection of asyncio.start_server, and its client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from typing import Any

from support import certificates


class Streams:
    """`reader`, `writer`: the accepted ones; `peer_reader`, `peer_writer`: others."""

    reader: Any
    writer: Any
    peer_reader: Any
    peer_writer: Any


@contextlib.asynccontextmanager
async def streams(kind: str = "tcp", **kwargs: Any) -> AsyncIterator[Streams]:
    """Yields both ends; whatever the test leaves open is aborted."""
    made = Streams()
    done = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.reader, made.writer = reader, writer
        done.set_result(None)

    with tempfile.TemporaryDirectory() as folder:
        client: dict[str, Any] = {}
        if kind == "tls":
            kwargs["ssl"] = certificates().server_context()
            client["ssl"] = certificates().client_context()
        if kind == "unix":
            path = os.path.join(folder, "server")
            server = await asyncio.start_unix_server(accept, path, **kwargs)
            pair = await asyncio.open_unix_connection(path)
        else:
            server = await asyncio.start_server(accept, "127.0.0.1", 0, **kwargs)
            host, port = server.sockets[0].getsockname()
            pair = await asyncio.open_connection(host, port, **client)
        made.peer_reader, made.peer_writer = pair
        await done
        try:
            yield made
        finally:
            for writer in (made.peer_writer, made.writer):
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            server.close()
            await server.wait_closed()
