"""UDP with DatagramProtocol: echo."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.harness import Load, Serve, keep


class Echo(asyncio.DatagramProtocol):
    """Sends each datagram back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.transport.sendto(data, addr)


async def echo(_: str) -> int:
    loop = asyncio.get_running_loop()
    transport, _protocol = await loop.create_datagram_endpoint(
        Echo, local_addr=("127.0.0.1", 0)
    )
    keep(transport)
    port: int = transport.get_extra_info("sockname")[1]
    return port


WORKLOADS = [
    Serve(
        "udp-1k",
        "DatagramProtocol echo 1 KiB, 10",
        "network",
        echo,
        Load(10, options=("udp",)),
    ),
]
