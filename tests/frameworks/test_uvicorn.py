"""uvicorn, unmodified, in a process of its own: `--loop MODULE:CALLABLE`."""

from __future__ import annotations

import hashlib
import signal

import pytest
from websockets.sync.client import connect

from .programs import FACTORIES, Program, load, program


@pytest.fixture(params=["httptools", "h11"])
def http(request: pytest.FixtureRequest) -> str:
    """uvicorn's two parsers: one in C, one in Python."""
    return str(request.param)


# it ends by the signal itself, or with 0; which, depends on its version
CLEAN = (0, -signal.SIGINT, -signal.SIGTERM)
READY = r"(?s)http://127\.0\.0\.1:(\d+)"


def uvicorn(loop_name: str, http: str, *args: str, ready: str = READY) -> object:
    keep_alive = ("--timeout-keep-alive", "60", "--no-access-log")
    where = ("--port", "0", "--loop", FACTORIES[loop_name], "--http", http)
    return program("-m", "uvicorn", "asgi:app", *where, *keep_alive, *args, ready=ready)


@pytest.fixture
def server(loop_name: str, http: str) -> object:
    with uvicorn(loop_name, http) as started:
        yield started


def test_load(server: Program) -> None:
    assert load(server, "/") > 50
    assert load(server, "/pieces") > 10
    assert server.stop() in CLEAN
    assert b"lifespan: down" in server.output
    assert b"Traceback" not in server.output


def test_sigterm_with_idle_clients(server: Program) -> None:
    socks = [server.get("/")[0] for _ in range(10)]
    try:
        assert server.stop() in CLEAN
        assert b"lifespan: down" in server.output
        assert [sock.recv(1) for sock in socks] == [b""] * 10
    finally:
        for sock in socks:
            sock.close()


def test_sigint(server: Program) -> None:
    server.get("/")[0].close()
    assert server.stop(signal.SIGINT) in CLEAN
    assert b"lifespan: down" in server.output


def test_large_answer(server: Program) -> None:
    sock, answer = server.get("/large")
    sock.close()
    assert answer.endswith(bytes(range(256)) * (1 << 15))


def test_upload(server: Program) -> None:
    sock, _ = server.get("/")
    body = bytes(range(256)) * (1 << 14)
    with sock:
        head = (
            f"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        sock.sendall(head.encode() + body)
        expected = hashlib.sha256(body).hexdigest().encode()
        answer = b""
        while not answer.endswith(expected):
            piece = sock.recv(1 << 16)
            assert piece, answer
            answer += piece


def test_pipelined_requests(server: Program) -> None:
    sock, _ = server.get("/")
    with sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        answers = b""
        while answers.count(b"hello") < 50:
            piece = sock.recv(1 << 16)
            assert piece, answers
            answers += piece
    assert answers.count(b"HTTP/1.1 200 OK") == 50


def test_client_that_leaves(server: Program) -> None:
    for _ in range(20):
        sock, _ = server.get("/")
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.recv(100)
        sock.close()
    server.get("/")[0].close()
    assert server.stop() in CLEAN
    assert b"Traceback" not in server.output


def test_websocket(server: Program) -> None:
    with connect(server.url.replace("http", "ws") + "/ws") as socket:
        for message in ("text", b"binary", "x" * 1_000_000):
            socket.send(message)
            assert socket.recv(timeout=20) == message


def test_workers(loop_name: str) -> None:
    ready = READY + 2 * ".*startup complete"
    with uvicorn(loop_name, "auto", "--workers", "2", ready=ready) as server:
        assert load(server, "/") > 50
        assert server.stop() in CLEAN
        assert server.output.count(b"lifespan: up") == 2
        assert server.output.count(b"lifespan: down") == 2
