"""Programs in processes of their own, and what loads them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from support.children import SITE

APPS = pathlib.Path(__file__).resolve().parent / "apps"

# What makes the loop of a test's parameter, for programs that take an import string.
FACTORIES = {
    "asyncio": "asyncio:SelectorEventLoop",
    "asynccore": "asynccore:new_event_loop",
}

START_LIMIT = 30.0  # seconds until a program must have written that it serves
# Seconds from SIGTERM to the end. Users expect 2; a server that waits for its idle
# clients would take the 60 of the keep-alive, so a busy machine may have some more.
STOP_LIMIT = 10.0


class Program:
    """A started program that serves on `port`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.port = 0  # until it tells
        self.output = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A connection; some programs tell their port before they listen."""
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                return socket.create_connection(
                    ("127.0.0.1", self.port), timeout=START_LIMIT
                )
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise

    def get(self, path: str = "/", **kwargs: float) -> tuple[socket.socket, bytes]:
        """Sends a request; returns its still open connection and the whole answer."""
        sock = self.connect()
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        data = b""
        while True:
            head, found, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if found and length and len(body) >= int(length[1]):
                return sock, data
            piece = sock.recv(1 << 16)
            if not piece:
                sock.close()
                raise ConnectionError(f"end of the stream after {data!r}")
            data += piece

    def body(self, path: str = "/") -> bytes:
        """The body of an answer, on a connection of its own."""
        sock, answer = self.get(path)
        sock.close()
        return answer.partition(b"\r\n\r\n")[2]

    def kill(self) -> None:
        """Ends the program and the workers that it has."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop(
        self, sig: signal.Signals = signal.SIGTERM, limit: float = STOP_LIMIT
    ) -> int:
        """Sends the signal; returns the exit status, negative for a signal's."""
        self.process.send_signal(sig)
        return self.wait(limit)

    def wait(self, limit: float = STOP_LIMIT) -> int:
        """The exit status of a program that ends."""
        try:
            self.output += self.process.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            self.kill()
            self.output += self.process.communicate()[0]
            text = self.output.decode(errors="replace")
            raise AssertionError(f"goes on after the signal:\n{text}") from None
        return self.process.returncode


@contextlib.contextmanager
def program(
    *args: str,
    ready: str = r"http://127\.0\.0\.1:(\d+)",
    prefix: tuple[str, ...] = (),
) -> Iterator[Program]:
    """Starts `PREFIX python ARGS` and waits for the line that tells the port."""
    path = os.pathsep.join([SITE, *filter(None, [os.environ.get("PYTHONPATH")])])
    switches = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    environ = {**os.environ, **switches, "PYTHONPATH": path}
    process = subprocess.Popen(
        [*prefix, sys.executable, *args],
        cwd=APPS,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that its workers end with it
    )
    with process:
        assert process.stdout is not None
        started = Program(process)
        try:
            data = b""
            deadline = time.monotonic() + START_LIMIT
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while (match := re.search(ready.encode(), data)) is None:
                    if not selector.select(deadline - time.monotonic()):
                        raise AssertionError(f"not ready in time:\n{data.decode()}")
                    piece = os.read(process.stdout.fileno(), 1 << 16)
                    if not piece:
                        raise AssertionError(f"ended early:\n{data.decode()}")
                    data += piece
            started.port = int(match[1])
            started.output = data
            yield started
        finally:
            if process.poll() is None:
                started.kill()


def wrk(url: str, connections: int = 32, seconds: int = 1) -> int:
    """Loads `url`; returns the number of answers. Any error fails."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Socket errors" not in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    match = re.search(r"(\d+) requests in", done.stdout)
    assert match is not None, done.stdout
    return int(match[1])


def load(started: Program, path: str) -> int:
    """Sends many requests at once by wrk or, without it, from here in sequence."""
    if shutil.which("wrk"):
        return wrk(started.url + path)
    count = 0
    socks = []
    for _ in range(200):
        sock, answer = started.get(path)
        assert answer.startswith(b"HTTP/1.1 200")
        socks.append(sock)
        count += 1
    for sock in socks:
        sock.close()
    return count
