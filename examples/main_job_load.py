"""Loads an HTTP server for main_job.py where wrk is missing; runs on the standard loop.

    python main_job_load.py PORT CONNECTIONS WARM-UP-SECONDS SECONDS

Prints `start` when the warm-up is over, and then one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Client(asyncio.Protocol):
    """Asks again as soon as an answer of known length is there."""

    transport: asyncio.Transport

    def __init__(self, lost: asyncio.Future[None]) -> None:
        self.lost = lost
        self.taken: list[float] = []
        self.answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        if not end:
            return
        status, *fields = head.lower().split(b"\r\n")
        lengths = [field[15:] for field in fields if field[:15] == b"content-length:"]
        if b" 200 " not in status or not lengths:
            self.fail(f"the server answered {head!r}")
        elif len(body) >= int(lengths[0]):
            self.taken.append(time.perf_counter() - self.sent)
            self.answer = b""
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail("the server closed a connection")

    def fail(self, text: str) -> None:
        if not self.lost.done():
            self.lost.set_exception(ConnectionError(text))


async def main(port: int, connections: int, warm_up: float, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    lost: asyncio.Future[None] = loop.create_future()
    clients = [Client(lost) for _ in range(connections)]
    next_client = iter(clients).__next__
    for _ in clients:
        await loop.create_connection(next_client, "127.0.0.1", port)
    await asyncio.wait([lost], timeout=warm_up)
    for client in clients:
        client.taken.clear()
    print("start", flush=True)
    start = time.perf_counter()
    await asyncio.wait([lost], timeout=seconds)
    elapsed = time.perf_counter() - start
    taken = sorted(one for client in clients for one in client.taken)
    if lost.done():
        sys.exit(str(lost.exception()))
    if not taken:
        sys.exit("the server answered nothing")
    lost.cancel()
    found = {
        "requests": len(taken),
        "seconds": elapsed,
        "p50": taken[len(taken) // 2],
        "p99": taken[len(taken) * 99 // 100],
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    port, connections, warm_up, seconds = sys.argv[1:]
    asyncio.run(main(int(port), int(connections), float(warm_up), float(seconds)))
