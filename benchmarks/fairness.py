"""What endless work does to others: callbacks, threads and peers to a timer and to a
connection, a busy thread to records over TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks.harness import Delay, Lateness, Load, clock, keep, port_of
from benchmarks.ready import nothing
from benchmarks.tcp import echo
from benchmarks.tls import server_context

# A peer that sends to one port until there is nobody; on whichever processor is free.
FLOOD = """\
import os, socket, sys
kind, port, size = map(int, sys.argv[1:])
os.sched_setaffinity(0, range(os.cpu_count()))
with socket.socket(socket.AF_INET, kind) as sock:
    sock.connect(("127.0.0.1", port))
    data = bytes(size)
    try:
        while True:
            sock.send(data)
    except OSError:
        pass
"""

# What makes endless work, and what ends it.
Begin = Callable[[], Awaitable[Callable[[], None]]]


def flood(kind: socket.SocketKind, port: int, size: int) -> Callable[[], None]:
    arguments = [sys.executable, "-c", FLOOD, str(int(kind)), str(port), str(size)]
    child = subprocess.Popen(arguments)

    def end() -> None:
        child.kill()
        child.wait()

    return end


async def chain() -> Callable[[], None]:
    """Always one callback ready: the loop never has a reason to wait."""
    loop = asyncio.get_running_loop()
    over = False

    def again() -> None:
        if not over:
            loop.call_soon(again)

    def end() -> None:
        nonlocal over
        over = True

    again()
    return end


async def threadsafe() -> Callable[[], None]:
    """A thread that calls call_soon_threadsafe as fast as it can."""
    loop = asyncio.get_running_loop()
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            loop.call_soon_threadsafe(nothing)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    return end


async def greedy() -> Callable[[], None]:
    """A connection on which more has always come."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    keep(server)
    return flood(socket.SOCK_STREAM, port_of(server), 256 * 1024)


async def datagrams() -> Callable[[], None]:
    """A socket at which datagrams of 1 KiB arrive without an end."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, ("127.0.0.1", 0)
    )
    keep(transport)
    return flood(socket.SOCK_DGRAM, transport.get_extra_info("sockname")[1], 1024)


async def echo_beside(begin: Begin, address: str) -> int:
    keep(await begin())
    return await echo(address)


def timer_beside(begin: Begin, loop: asyncio.AbstractEventLoop, n: int) -> int:
    """The 99th percentile of how late timers of 10 ms fire."""
    late: list[float] = []
    due = 0.0

    def fired() -> None:
        late.append(loop.time() - due)
        if len(late) == n:
            loop.stop()
        else:
            start()

    def start() -> None:
        nonlocal due
        due = loop.time() + 0.01
        loop.call_at(due, fired)

    end = loop.run_until_complete(begin())
    try:
        start()
        loop.run_forever()
    finally:
        end()
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
BESIDE: dict[str, tuple[str, Begin]] = {
    "": ("call_soon chain", chain),
    "-threadsafe": ("threadsafe flood", threadsafe),
    "-greedy": ("greedy peer", greedy),
    "-datagrams": ("flood of datagrams", datagrams),
}
WORKLOADS = [
    *(
        Lateness(
            f"late-timer{suffix}",
            f"10 ms timer: {what}",
            GROUP,
            partial(timer_beside, begin),
            300,
        )
        for suffix, (what, begin) in BESIDE.items()
    ),
    *(
        Delay(
            f"late-echo{suffix}",
            f"echo 1 KiB: {what}",
            GROUP,
            partial(echo_beside, begin),
            Load(1),
        )
        for suffix, (what, begin) in BESIDE.items()
    ),
    Lateness(
        "late-record",
        "1 KiB over TLS: busy thread",
        GROUP,
        busy_thread_record,
        400,
    ),
]
