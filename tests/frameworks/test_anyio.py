"""anyio and what it makes of the loop: `anyio.run` with a loop factory."""

from __future__ import annotations

import math
import os
import pathlib
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.from_thread import start_blocking_portal
from anyio.streams.tls import TLSListener, TLSStream

from conftest import LoopFactory
from support import certificates, refused_port

LIMIT = 20.0
LARGE = bytes(range(256)) * (1 << 14)

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture
def run(loop_factory: LoopFactory) -> Run:
    """`anyio.run` on the loop of this test, in a bound."""

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        async def bounded() -> Any:
            with anyio.fail_after(LIMIT):
                return await main()

        return anyio.run(bounded, backend_options={"loop_factory": loop_factory})

    return run


async def echo(stream: Any) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


async def receive(stream: Any, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await stream.receive()
    return bytes(data)


async def exchange(listener: Any, connect: Callable[[], Awaitable[Any]]) -> None:
    """Ten clients at once send and get back a large message."""
    async with listener, anyio.create_task_group() as server:
        server.start_soon(listener.serve, echo)

        async def client() -> None:
            async with await connect() as stream, anyio.create_task_group() as group:
                group.start_soon(stream.send, LARGE)
                assert await receive(stream, len(LARGE)) == LARGE

        async with anyio.create_task_group() as clients:
            for _ in range(10):
                clients.start_soon(client)
        server.cancel_scope.cancel()


def port_of(listener: Any) -> int:
    return int(listener.extra(SocketAttribute.local_port))


def test_tcp(run: Run) -> None:
    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = port_of(listener)
        await exchange(listener, lambda: anyio.connect_tcp("127.0.0.1", port))

    run(main)


def test_happy_eyeballs(run: Run) -> None:
    """`localhost` may be ::1 first, where nobody listens."""

    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = port_of(listener)
        await exchange(listener, lambda: anyio.connect_tcp("localhost", port))

    run(main)


def test_unix(run: Run, tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        path = tmp_path / "server"
        listener = await anyio.create_unix_listener(path)
        await exchange(listener, lambda: anyio.connect_unix(path))

    run(main)


def test_tls(run: Run) -> None:
    async def main() -> None:
        tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
        listener = TLSListener(
            tcp, certificates().server_context(), standard_compatible=False
        )
        port = port_of(tcp)

        async def connect() -> TLSStream:
            return await anyio.connect_tcp(
                "127.0.0.1",
                port,
                ssl_context=certificates().client_context(),
                tls_hostname="localhost",
                tls_standard_compatible=False,
            )

        await exchange(listener, connect)

    run(main)


def test_certificate_of_nobody(run: Run) -> None:
    async def main() -> None:
        tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")

        refused = anyio.Event()

        async def serve(stream: Any) -> None:
            context = certificates().server_context()
            async with stream:
                with pytest.raises((ssl.SSLError, anyio.BrokenResourceError)):
                    await TLSStream.wrap(stream, server_side=True, ssl_context=context)
            refused.set()

        async with tcp, anyio.create_task_group() as group:
            group.start_soon(tcp.serve, serve)
            with pytest.raises(ssl.SSLCertVerificationError):
                await anyio.connect_tcp(
                    "127.0.0.1",
                    port_of(tcp),
                    ssl_context=certificates().client_context(trust=False),
                    tls_hostname="localhost",
                )
            await refused.wait()
            group.cancel_scope.cancel()

    run(main)


def test_udp(run: Run) -> None:
    async def main() -> None:
        async with (
            await anyio.create_udp_socket(local_host="127.0.0.1") as server,
            await anyio.create_connected_udp_socket(
                "127.0.0.1", server.extra(SocketAttribute.local_port)
            ) as client,
        ):
            for i in range(50):
                await client.send(b"%d" % i)
                data, (host, port) = await server.receive()
                assert data == b"%d" % i
                await server.sendto(data, host, port)
                assert await client.receive() == data

    run(main)


def test_end_of_stream_and_half_close(run: Run) -> None:
    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

        async def serve(stream: Any) -> None:
            async with stream:
                data = b"".join([piece async for piece in stream])
                await stream.send(data[::-1])

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            async with await anyio.connect_tcp(
                "127.0.0.1", port_of(listener)
            ) as stream:
                await stream.send(LARGE)
                await stream.send_eof()
                assert await receive(stream, len(LARGE)) == LARGE[::-1]
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()
            group.cancel_scope.cancel()

    run(main)


def test_peer_that_aborts(run: Run) -> None:
    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

        async def serve(stream: Any) -> None:
            await stream.receive()
            await anyio.aclose_forcefully(stream)

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            async with await anyio.connect_tcp(
                "127.0.0.1", port_of(listener)
            ) as stream:
                await stream.send(b"x")
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
                with pytest.raises(anyio.BrokenResourceError):
                    while True:
                        await stream.send(LARGE)
            group.cancel_scope.cancel()

    run(main)


def test_cancelled_operations(run: Run) -> None:
    """A cancelled receive loses nothing, a cancelled accept no client."""

    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            for _ in range(20):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await listener.serve(echo)
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp(
                "127.0.0.1", port_of(listener)
            ) as stream:
                for i in range(50):
                    with anyio.move_on_after(0) as scope:
                        await stream.receive()
                    assert scope.cancelled_caught
                    await stream.send(b"%3d" % i)
                    assert await receive(stream, 3) == b"%3d" % i
            group.cancel_scope.cancel()

    run(main)


def test_refused(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match=r"refused|attempts failed"):
            await anyio.connect_tcp("127.0.0.1", refused_port())

    run(main)


def test_task_groups(run: Run) -> None:
    async def main() -> list[str]:
        seen = []

        async def fail() -> None:
            await anyio.sleep(0)
            raise LookupError("as asked")

        async def wait() -> None:
            try:
                await anyio.sleep(math.inf)
            except anyio.get_cancelled_exc_class():
                seen.append("cancelled")
                raise

        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(wait)
                group.start_soon(fail)
        assert [type(exc) for exc in caught.value.exceptions] == [LookupError]

        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await wait()
        with anyio.move_on_after(0.01):
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
                seen.append("shielded")
            await wait()
        return seen

    assert run(main) == ["cancelled"] * 4 + ["shielded", "cancelled"]


def test_the_root_task_is_cancellable(run: Run) -> None:
    """anyio finds the root task by the callback that run_until_complete put on it."""

    async def main() -> bool:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep(math.inf)
        return scope.cancelled_caught and bool(anyio.get_current_task().id)

    assert run(main)


def test_threads(run: Run) -> None:
    async def main() -> None:
        def work(i: int) -> int:
            assert threading.current_thread() is not threading.main_thread()
            return anyio.from_thread.run(later, i)

        async def later(i: int) -> int:
            await anyio.sleep(0)
            return i * i

        results = {}

        async def call(i: int) -> None:
            results[i] = await anyio.to_thread.run_sync(work, i)

        async with anyio.create_task_group() as group:
            for i in range(100):
                group.start_soon(call, i)
        assert results == {i: i * i for i in range(100)}

    run(main)


def test_blocking_portal(loop_factory: LoopFactory) -> None:
    """The loop runs in a thread of its own."""

    async def twice(i: int) -> int:
        await anyio.sleep(0)
        return 2 * i

    options = {"loop_factory": loop_factory}
    with start_blocking_portal(backend_options=options) as portal:
        futures = [portal.start_task_soon(twice, i) for i in range(100)]
        assert [future.result(LIMIT) for future in futures] == [
            2 * i for i in range(100)
        ]


def test_process(run: Run) -> None:
    async def main() -> None:
        code = "import sys; sys.stdout.write(sys.stdin.read()[::-1]); sys.exit(3)"
        done = await anyio.run_process(
            [sys.executable, "-c", code], input=b"abc" * 50_000, check=False
        )
        assert (done.returncode, done.stdout) == (3, b"cba" * 50_000)

    run(main)


def test_signals(run: Run) -> None:
    async def main() -> None:
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            for sig in (signal.SIGUSR1, signal.SIGUSR2):
                os.kill(os.getpid(), sig)
                assert await anext(signals) == sig

    run(main)


def test_wait_readable(run: Run) -> None:
    async def main() -> None:
        one, two = socket.socketpair()
        with one, two:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.wait_readable, one)
                await anyio.sleep(0)
                two.send(b"x")
            await anyio.wait_writable(two)
            with anyio.move_on_after(0) as scope:
                one.recv(1)
                await anyio.wait_readable(one)
            assert scope.cancelled_caught

    run(main)
