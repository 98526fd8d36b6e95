"""TLS over TCP: Protocol and streams echo."""

from __future__ import annotations

import asyncio
import ssl
import tempfile

from benchmarks.harness import BACKLOG, IdleMemory, Load, Serve, keep, port_of
from benchmarks.streams import echo_bytes
from benchmarks.tcp import BULK, Bulk, Echo

# A self-signed key and certificate for these benchmarks alone; EC P-256.
PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgXCaFHXtfri7ZsBoG
kPIjd5pNfnfkw8GsgbSYCBjsT7uhRANCAARaORq81U73CeBPjHZiMcg6EJXa9TAE
kvWbIjIDaClSTmrE44DV6nJFiAOj9jiF/k6NxZVudD1fubV9kG1Pl5Yf
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUaWvVhFpabmLOiwKZc42NI0nDOnQwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjIxNTUwM1oYDzIxMjYxMDI5
MjE1NTAzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARaORq81U73CeBPjHZiMcg6EJXa9TAEkvWbIjIDaClSTmrE44DV6nJF
iAOj9jiF/k6NxZVudD1fubV9kG1Pl5Yfo1MwUTAdBgNVHQ4EFgQUl0wokODSdGCk
R5wgJNPRnt1PalQwHwYDVR0jBBgwFoAUl0wokODSdGCkR5wgJNPRnt1PalQwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBvkF7U6qS7yqX6B+ZWWQOE
mEuw6o2aJqGrbDcc107ZHwIhAPZfZgQg+FMk9jxlxnRyspGuhVWKO70mo6LYjGP5
wdss
-----END CERTIFICATE-----
"""


def server_context() -> ssl.SSLContext:
    """A context that serves with the certificate above."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
        pem.write(PEM)
        pem.flush()
        context.load_cert_chain(pem.name)
    return context


async def echo(_: str) -> int:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        Echo, "127.0.0.1", 0, backlog=BACKLOG, ssl=server_context()
    )
    keep(server)
    return port_of(server)


async def bulk(_: str) -> int:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        Bulk, "127.0.0.1", 0, backlog=BACKLOG, ssl=server_context()
    )
    keep(server)
    return port_of(server)


async def streams(_: str) -> int:
    server = await asyncio.start_server(
        echo_bytes, "127.0.0.1", 0, backlog=BACKLOG, ssl=server_context()
    )
    keep(server)
    return port_of(server)


TLS = ("tls",)
WORKLOADS = [
    Serve(
        "tls-1k", "Protocol echo 1 KiB, TLS, 100", "TLS", echo, Load(100, options=TLS)
    ),
    Serve(
        "tls-1k-10", "Protocol echo 1 KiB, TLS, 10", "TLS", echo, Load(10, options=TLS)
    ),
    *(
        Serve(
            f"tls-{size}k",
            f"Protocol echo {size} KiB, TLS, 10",
            "TLS",
            echo,
            Load(10, size * 1024, options=TLS),
        )
        for size in (16, 64, 100)
    ),
    Serve(
        "tls-bulk",
        "1 GiB through write with flow control, TLS",
        "TLS",
        bulk,
        Load(1, 1, BULK, options=("tls", "warm-up=0.01"), requests=(2, 1)),
    ),
    Serve(
        "tls-connect",
        "connect + echo 1 KiB + close, TLS, 10",
        "TLS",
        echo,
        Load(10, options=("tls", "reconnect")),
    ),
    Serve(
        "tls-streams",
        "streams echo 1 KiB, TLS, 100",
        "TLS",
        streams,
        Load(100, options=TLS),
    ),
    IdleMemory(
        "memory-tls",
        "idle connection, TLS",
        "memory and start",
        echo,
        Load(1000, 1, options=TLS),
    ),
]
