"""The `openssl` and `curl` commands at the other end: key updates, sessions, files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import Recorder, certificates, looped, others_end, settle

TLS_WAYS = True  # conftest: on the loops, and with records by ssl.MemoryBIO


class Program:
    """A running `openssl`, its standard input, and all that it printed."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.output = b""

    def type(self, line: bytes) -> None:
        self.process.stdin.write(line)

    async def printed(self, pattern: bytes) -> re.Match[bytes]:
        while not (found := re.search(pattern, self.output)):
            piece = await self.process.stdout.read(1 << 16)
            assert piece, self.output
            self.output += piece
        return found


@contextlib.asynccontextmanager
async def openssl(*args: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        "openssl",
        *args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def echo() -> Recorder:
    return Recorder(data_received=lambda p, data: p.transport.write(data))


async def serve(protocol: Recorder, **options: Any) -> tuple[Any, int]:
    context = certificates().server_context()
    for name, value in options.items():
        setattr(context, name, value)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@looped
async def test_client(version: str) -> None:
    far = echo()
    server, port = await serve(far)
    async with openssl("s_client", "-connect", f"127.0.0.1:{port}", version) as client:
        client.type(b"hello\n")
        await client.printed(rb"\nhello\n")
        client.type(b"Q\n")
        assert await far.lost() is None
    assert far.received == b"hello\n"
    server.close()


@pytest.mark.parametrize("command", [b"k\n", b"K\n"])
@looped
async def test_client_that_changes_its_key(command: bytes) -> None:
    """`K` asks for a new key of ours as well."""
    far = echo()
    server, port = await serve(far)
    async with openssl("s_client", "-connect", f"127.0.0.1:{port}") as client:
        for number in range(3):
            client.type(b"line %d\n" % number)
            await client.printed(b"line %d\n" % number)
            client.type(command)
            await client.printed(b"(?s)(KEYUPDATE.*){%d}" % (number + 1))
        client.type(b"last\n")
        await client.printed(rb"last\n")
        client.type(b"Q\n")
        assert await far.lost() is None
    server.close()


@looped
async def test_client_that_renegotiates() -> None:
    """It is refused, as everywhere, and the connection goes on or ends."""
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    far = echo()
    server, port = await serve(far, maximum_version=ssl.TLSVersion.TLSv1_2)
    async with openssl("s_client", "-connect", f"127.0.0.1:{port}") as client:
        client.type(b"before\n")
        await client.printed(rb"\nbefore\n")
        client.type(b"R\n")
        await client.printed(rb"RENEGOTIATING\n")
        await far.until(lambda: far.count("connection_lost"))
    assert far.received == b"before\n"
    far.calls.clear()
    server.close()


@contextlib.asynccontextmanager
async def openssl_server(*args: str) -> AsyncIterator[tuple[Program, int]]:
    certificate = str(certificates().server)
    fixed = ("s_server", "-accept", "127.0.0.1:0", "-cert", certificate)
    async with openssl(*fixed, *args) as program:
        found = await program.printed(rb"ACCEPT 127\.0\.0\.1:(\d+)")
        yield program, int(found[1])


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@looped
async def test_server(version: str) -> None:
    loop = asyncio.get_running_loop()
    async with openssl_server(version) as (server, port):
        near = Recorder()
        context = certificates().client_context()
        transport, _ = await loop.create_connection(
            lambda: near, "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
        transport.write(b"to the server\n")
        await server.printed(rb"\nto the server\n")
        server.type(b"to the client\n")
        assert await near.got(14) == b"to the client\n"
        server.type(b"Q\n")
        assert await near.lost() is None


@pytest.mark.parametrize("command", [b"k\n", b"K\n"])
@looped
async def test_server_that_changes_its_key(command: bytes) -> None:
    loop = asyncio.get_running_loop()
    async with openssl_server("-tls1_3") as (server, port):
        near = Recorder()
        context = certificates().client_context()
        transport, _ = await loop.create_connection(
            lambda: near, "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
        for number in range(3):
            server.type(b"line %d\n" % number)
            await near.got(7 * (number + 1))
            server.type(command)  # on its own: it is looked for at the start of a read
            transport.write(b"answer %d\n" % number)
            await server.printed(b"answer %d\n" % number)
        transport.close()
        assert await near.lost() is None


@looped
async def test_server_that_renegotiates() -> None:
    """What is written meanwhile waits for the new handshake, and keeps its order."""
    loop = asyncio.get_running_loop()
    lines = [b"<%d %s>\n" % (number, b"x" * 5000) for number in range(60)]
    async with openssl_server("-tls1_2") as (server, port):
        near = Recorder()
        context = certificates().client_context()
        transport, _ = await loop.create_connection(
            lambda: near, "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
        for number, line in enumerate(lines):
            if number % 20 == 0:
                server.type(b"R\n")
                await server.printed(b"(?s)(SSL_do_handshake.*){%d}" % (number // 20))
            transport.write(line)
            await settle()
        await server.printed(rb"<59 x+>\n")
        found = re.findall(rb"<(\d+) x{5000}>\n", server.output)
        assert [int(number) for number in found] == list(range(60))
        server.type(b"the end\n")
        assert await near.got(8) == b"the end\n"
        transport.close()
        assert await near.lost() is None


@looped
async def test_resumed_session(faults: Any) -> None:
    """The second connection goes on with the session of the first."""
    loop = asyncio.get_running_loop()
    far = [echo(), echo()]
    context = certificates().server_context()
    waiting = list(far)
    server = await loop.create_server(
        lambda: waiting.pop(0), "127.0.0.1", 0, ssl=context
    )
    port = server.sockets[0].getsockname()[1]
    command = ("s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-reconnect")
    waiting += [echo() for _ in range(8)]
    async with openssl(*command) as client:
        await client.printed(rb"Reused, TLSv1.2")
        client.type(b"Q\n")
    await far[0].until(lambda: far[0].count("connection_lost"))
    server.close()
    await asyncio.sleep(0)
    if loop.get_debug():
        faults.take_log()  # the server tells of connections that ended early


# --- curl ---


@contextlib.asynccontextmanager
async def http_server(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Answers each request with the length of its body and a megabyte."""

    async def answer(reader: Any, writer: Any) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = head.partition(b"content-length: ")[2].split(b"\r\n")[0]
                if b"expect: 100-continue" in head:
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(size or 0))
                text = b"%d\n" % len(body) + bytes(1 << 20)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: ")
                writer.write(b"%d\r\n\r\n" % len(text) + text)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await others_end()


async def curl(*args: str, data: bytes = b"") -> tuple[int, bytes]:
    """The exit status and what it printed."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    # the runtime of a sanitizer is for the interpreter alone
    environ = {key: os.environ[key] for key in os.environ if key != "LD_PRELOAD"}
    process = await asyncio.create_subprocess_exec(
        *("curl", "-q", "-sS", "--max-time", "20", *args),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environ,
    )
    output, _ = await process.communicate(data)
    assert process.returncode is not None
    return process.returncode, output


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@looped
async def test_curl(version: str) -> None:
    """Several requests on one connection, a large body, a certificate of its own."""
    found = certificates()
    own = ("--cacert", str(found.authority), "--cert", str(found.client))
    limits = (f"--tlsv{version}", "--tls-max", version)
    async with http_server(found.server_context(verify=True)) as port:
        url = f"https://localhost:{port}/"
        status, output = await curl(*own, *limits, url, url, url)
        assert (status, output) == (0, (b"0\n" + bytes(1 << 20)) * 3)
        status, output = await curl(
            *own, *limits, "--data-binary", "@-", url, data=bytes(3_000_000)
        )
        assert (status, output) == (0, b"3000000\n" + bytes(1 << 20))


@looped
async def test_curl_that_trusts_nobody() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with http_server(certificates().server_context()) as port:
        untrusted = ("--cacert", str(certificates().other))
        status, output = await curl(*untrusted, f"https://localhost:{port}/")
        assert (status, output) in ((60, b""), (77, b""))
        status, _ = await curl(f"http://localhost:{port}/")  # plain text
        assert status in (52, 56)  # no answer, or a reset


@looped
async def test_curl_of_http_2() -> None:
    """It offers h2; we take http/1.1."""
    context = certificates().server_context()
    context.set_alpn_protocols(["http/1.1"])
    trust = ("--cacert", str(certificates().authority))
    async with http_server(context) as port:
        status, output = await curl("--http2", *trust, f"https://localhost:{port}/")
        assert (status, output[:2]) == (0, b"0\n")
