"""Several processes that share a port by `reuse_port`."""

from __future__ import annotations

import contextlib
import errno
import sys

import pytest

from .programs import FACTORIES, Program, program

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere the kernel does not spread connections"
)


def ask(server: Program) -> int:
    with server.connect() as sock, sock.makefile("rwb") as file:
        file.write(b"who\n")
        file.flush()
        return int(file.readline())


def test_processes_share_a_port(loop_name: str) -> None:
    command = ("shared_port.py", FACTORIES[loop_name])
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(program(*command, "0"))
        others = [
            stack.enter_context(program(*command, str(first.port))) for _ in range(2)
        ]
        servers = [first, *others]
        pids = {server.process.pid for server in servers}
        seen: set[int] = set()
        while seen != pids:  # the kernel chooses by a hash of the addresses
            seen.add(ask(first))
            assert seen <= pids
        # one goes, the others go on
        assert first.stop() == 0
        seen = {ask(others[0]) for _ in range(50)}
        assert seen <= pids - {first.process.pid}
        assert [server.stop() for server in others] == [0, 0]


def test_port_of_one_that_does_not_share(loop_name: str) -> None:
    """Without the option on both sides the port is taken."""
    with program("shared_port.py", FACTORIES[loop_name], "0") as server:
        code = f"""
import asyncio
from {FACTORIES[loop_name].replace(":", " import ")} as factory

async def main():
    try:
        await asyncio.start_server(print, "127.0.0.1", {server.port})
    except OSError as exc:
        print("http://127.0.0.1:" + str(exc.errno))

with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""
        with program("-c", code) as second:
            assert second.port == errno.EADDRINUSE
            assert second.wait() == 0
        assert server.stop() == 0
