"""What endless work does to others: callbacks to a timer and to a connection, a thread
to records over TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading

from benchmarks.harness import Delay, Lateness, Load, clock
from benchmarks.tcp import echo
from benchmarks.tls import server_context


def endless(loop: asyncio.AbstractEventLoop) -> None:
    """Always one callback ready: the loop never has a reason to wait."""

    def chain() -> None:
        loop.call_soon(chain)

    chain()


async def busy_echo(address: str) -> int:
    endless(asyncio.get_running_loop())
    return await echo(address)


def timer_lateness(loop: asyncio.AbstractEventLoop, n: int) -> int:
    """The 99th percentile of how late timers of 10 ms fire beside such a chain."""
    late: list[float] = []
    due = 0.0

    def fired() -> None:
        late.append(loop.time() - due)
        if len(late) == n:
            loop.stop()
        else:
            begin()

    def begin() -> None:
        nonlocal due
        due = loop.time() + 0.01
        loop.call_at(due, fired)

    begin()
    endless(loop)
    loop.run_forever()
    late.sort()
    return int(late[int(len(late) * 0.99)] * 1e9)


def busy_thread_record(loop: asyncio.AbstractEventLoop, n: int) -> int:
    """The 99th percentile of a write of 1 KiB over TLS beside a busy Python thread.

    Who gives up the GIL for each record waits for the thread to give it back.
    """
    took: list[int] = []
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            pass

    async def main() -> None:
        here, there = socket.socketpair()
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        (transport, _), _ = await asyncio.gather(
            loop.connect_accepted_socket(asyncio.Protocol, here, ssl=server_context()),
            loop.create_connection(
                asyncio.Protocol, sock=there, ssl=trusting, server_hostname=""
            ),
        )
        thread = threading.Thread(target=busy)
        thread.start()
        try:
            while len(took) < n:
                for _ in range(20):
                    begin = clock()
                    transport.write(bytes(1024))
                    took.append(clock() - begin)
                await asyncio.sleep(0)
        finally:
            over.set()
            thread.join()
        transport.abort()

    loop.run_until_complete(main())
    took.sort()
    return took[int(len(took) * 0.99)]


GROUP = "fairness"
WORKLOADS = [
    Lateness("late-timer", "10 ms timer, how late", GROUP, timer_lateness, 300),
    Lateness(
        "late-record",
        "1 KiB over TLS beside a busy thread",
        GROUP,
        busy_thread_record,
        400,
    ),
    Delay("late-echo", "echo 1 KiB, round trip", GROUP, busy_echo, Load(1)),
]
