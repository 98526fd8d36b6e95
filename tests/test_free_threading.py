"""Without the GIL: on a free-threaded interpreter it stays off.

What several threads do at once is in thread_stress.py, a program; its cases run on
every interpreter, each as it is.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import thread_stress
from support import certificates
from support.interpreter import FREE_THREADED

free_threaded = pytest.mark.skipif(not FREE_THREADED, reason="this build has the GIL")

LIMIT = 60  # seconds for a program
STRESS = """
import sys
sys.path.insert(0, sys.argv[1])
import thread_stress
thread_stress.main(*sys.argv[2:])
"""


def program(
    *args: str, gil: str | None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs Python with PYTHON_GIL as given, None: not set; without debug mode."""
    unset = ("PYTHON_GIL", "PYTHONASYNCIODEBUG")
    environment = {name: v for name, v in os.environ.items() if name not in unset}
    if gil is not None:
        environment["PYTHON_GIL"] = gil
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", *args],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@free_threaded
@pytest.mark.parametrize(
    ("gil", "told"),
    [(None, "False False"), ("0", "False False"), ("1", "True True")],
    ids=["default", "off", "on"],
)
def test_import(gil: str | None, told: str) -> None:
    done = program(
        "-c",
        "import sys; print(sys._is_gil_enabled(), end=' ')\n"
        "import asynccore; print(sys._is_gil_enabled())",
        gil=gil,
    )
    assert done.stdout.strip() == told
    assert "The global interpreter lock (GIL) has been enabled" not in done.stderr


ONE_THREAD = """
import asyncio, gc, os, signal, socket, ssl, sys, threading
import asynccore

HOST = "127.0.0.1"
authority, certificate = sys.argv[1:]
server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(certificate)
client_context = ssl.create_default_context(cafile=authority)


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class OneDatagram(asyncio.DatagramProtocol):
    def __init__(self):
        self.came = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        self.came.set_result(data)


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def client(server, context):
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    for n in range(100):
        line = b"x" * (n * 97 % 5000) + b"\\n"
        writer.write(line)
        assert await reader.readline() == line
    writer.close()
    await writer.wait_closed()


async def main():
    loop = asyncio.get_running_loop()
    servers = [
        (await loop.create_server(Echo, HOST, 0), None),
        (await asyncio.start_server(echo, HOST, 0), None),
        (await asyncio.start_server(echo, HOST, 0, ssl=server_context), client_context),
    ]
    async with asyncio.TaskGroup() as group:
        for server, context in servers * 3:
            group.create_task(client(server, context))
    for server, _ in servers:
        server.close()

    echoing, _ = await loop.create_datagram_endpoint(EchoDatagrams, (HOST, 0))
    address = echoing.get_extra_info("sockname")
    sending, protocol = await loop.create_datagram_endpoint(
        OneDatagram, remote_addr=address
    )
    sending.sendto(b"datagram")
    assert await protocol.came == b"datagram"
    sending.close()
    echoing.close()

    a, b = socket.socketpair()
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        receiving = loop.create_task(loop.sock_recv(a, 10))
        await asyncio.sleep(0)
        await loop.sock_sendall(b, b"bytes")
        assert await receiving == b"bytes"

    came = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, came.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await came.wait()
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert await child.communicate(b"to a child") == (b"to a child", None)
    await asyncio.gather(*(asyncio.sleep(n / 10000) for n in range(100)))


for debug in (False, True, False):
    with asyncio.Runner(loop_factory=asynccore.new_event_loop, debug=debug) as runner:
        runner.run(main())
    gc.collect()
assert threading.active_count() == 1
print(sys._is_gil_enabled())
"""


@free_threaded
@pytest.mark.parametrize("gil", ["0", "1"], ids=["off", "on"])
def test_one_thread(gil: str) -> None:
    files = certificates()
    done = program("-c", ONE_THREAD, str(files.authority), str(files.server), gil=gil)
    assert done.stdout == f"{gil == '1'}\n"


@pytest.mark.parametrize("case", sorted(thread_stress.CASES))
def test_threads(case: str) -> None:
    files = certificates()
    done = program(
        "-c",
        STRESS,
        str(pathlib.Path(__file__).parent),
        case,
        "asynccore",
        gil=None,
        STRESS_CERTIFICATES=f"{files.authority}:{files.server}",
        STRESS_SCALE="0.2",
    )
    # in stderr may be what the standard library's finalizers say in a foreign thread
    assert done.stdout == ("no GIL\n" if FREE_THREADED else "GIL\n")
