"""nginx before us and behind us, with certificates on both sides."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support import certificates, looped, others_end

from .services import nginx

LARGE = bytes(range(256)) * (1 << 13)
TLS_WAYS = True  # conftest: on the loops, and with records by ssl.MemoryBIO


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP: the digest of what was sent, whose certificate came, and a large body."""
    certificate = writer.get_extra_info("peercert")
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
            digest = hashlib.sha256(await reader.readexactly(size)).hexdigest()
            text = f"{digest} {certificate['subject'][0][0][1]}\n".encode() + LARGE
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text))
            writer.write(text)
            await writer.drain()
    writer.close()


async def request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes
) -> bytes:
    writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ")
    writer.write(b"%d\r\n\r\n" % len(body))
    writer.write(body)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert b" 200 " in head, head
    size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    return await reader.readexactly(size)


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await others_end()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@looped
async def test_proxy_with_a_client_certificate(version: str) -> None:
    """We are what nginx passes its requests on to."""
    found = certificates()
    async with serving(found.server_context(verify=True)) as port:
        block = f"""
            listen 127.0.0.1:PORT; client_max_body_size 10m;
            location / {{
                proxy_pass https://127.0.0.1:{port}; proxy_ssl_verify on;
                proxy_ssl_name localhost;
                proxy_http_version 1.1; proxy_set_header Connection "";
                proxy_ssl_protocols {version};
                proxy_ssl_trusted_certificate {found.authority};
                proxy_ssl_certificate {found.client};
                proxy_ssl_certificate_key {found.client};
            }}"""
        with nginx(block) as proxy:
            client = await asyncio.open_connection("127.0.0.1", proxy.port)
            for size in (1, 100, len(LARGE)):
                text = await request(*client, LARGE[:size])
                digest = hashlib.sha256(LARGE[:size]).hexdigest()
                assert text == f"{digest} client\n".encode() + LARGE
            client[1].close()
            await client[1].wait_closed()


@pytest.mark.parametrize("known", [True, False])
@looped
async def test_server_that_asks_for_a_certificate(known: bool) -> None:
    """nginx ends TLS; many connections of ours at once."""
    found = certificates()
    block = f"""
        listen 127.0.0.1:PORT ssl; client_max_body_size 10m;
        ssl_certificate {found.server}; ssl_certificate_key {found.server};
        ssl_client_certificate {found.authority}; ssl_verify_client on;
        location / {{ return 200 $ssl_client_s_dn; }}"""
    context = found.client_context(found.client if known else None)

    async def one(port: int) -> Any:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        text = await reader.read()
        writer.close()
        await writer.wait_closed()
        return text

    with nginx(block) as server:
        texts = await asyncio.gather(*(one(server.port) for _ in range(20)))
        for text in texts:
            if known:
                assert text.endswith(b"\r\n\r\nCN=client")
            else:
                assert text.startswith(b"HTTP/1.1 400 ")
    await others_end()
