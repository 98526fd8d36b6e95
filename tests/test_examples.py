"""The programs of examples/ run, as the user runs them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.children import SITE

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
LIMIT = 30.0


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": SITE, "PYTHONDEVMODE": "1"}


@contextmanager
def serving(example: str) -> Iterator[int]:
    """Starts a server example and gives its port; Ctrl-C ends it without a word."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / example)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on port "), line
            yield int(line.split()[-1])
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=LIMIT)
            assert (said, process.returncode) == ("bye\n", 0)
        finally:
            process.kill()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LIMIT)


def receive(client: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size and (part := client.recv(65536)):
        parts += part
    return bytes(parts)


class TestEcho:
    def test_clients(self) -> None:
        with serving("echo.py") as port:
            clients = [connect(port) for _ in range(3)]
            for number, client in enumerate(clients):
                client.sendall(b"%d" % number * 1000)
            for number, client in reversed(list(enumerate(clients))):
                assert receive(client, 1000) == b"%d" % number * 1000
                client.close()

    def test_client_that_reads_late(self) -> None:
        """More than the socket buffers hold: the server must stop reading meanwhile."""
        data = os.urandom(1 << 20) * 24
        with serving("echo.py") as port, connect(port) as client:
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            assert receive(client, len(data)) == data
            sender.join(LIMIT)

    def test_half_close(self) -> None:
        with serving("echo.py") as port, connect(port) as client:
            client.sendall(b"last words")
            client.shutdown(socket.SHUT_WR)
            assert receive(client, 1 << 20) == b"last words"


class TestChat:
    def test_three(self) -> None:
        with serving("chat.py") as port:
            sockets = [connect(port) for _ in range(3)]
            files = [client.makefile("rw", newline="\n") for client in sockets]
            ann, bob, eve = files

            def says(who: int, line: str) -> None:
                files[who].write(line + "\n")
                files[who].flush()

            for client in files:
                assert client.readline() == "your name?\n"
            says(0, "ann")
            assert ann.readline() == "* ann is here\n"
            says(1, "ann")
            assert bob.readline() == "another name?\n"
            says(1, "bob")
            for client in (ann, bob):
                assert client.readline() == "* bob is here\n"
            says(2, "eve")
            for client in files:
                assert client.readline() == "* eve is here\n"
            says(0, "hello, \u00e9\u4e16")
            for client in (bob, eve):
                assert client.readline() == "ann: hello, \u00e9\u4e16\n"
            bob.close()
            sockets[1].close()
            for client in (ann, eve):
                assert client.readline() == "* bob left\n"
            ann.close()
            sockets[0].close()
            assert eve.readline() == "* ann left\n"
            # with nobody left there is nothing to cancel, of which 3.11 would complain
            sockets[2].shutdown(socket.SHUT_WR)
            assert eve.readline() == ""
            eve.close()
            sockets[2].close()


def main_job(
    *words: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, str(EXAMPLES / "main_job.py"), *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": SITE},
    )


class TestMainJob:
    SHORT = ("--rounds", "1", "--seconds", "0.3", "--connections", "4")

    @pytest.mark.parametrize("server", ["aiohttp", "uvicorn"])
    def test_runs(self, tmp_path: Path, server: str) -> None:
        for name in (server, "uvloop", "httptools"):
            pytest.importorskip(name)
        plot = tmp_path / "folder" / "plot.svg"
        words = ("--client", "built-in", "--server", server, "--plot", str(plot))
        done = main_job(*self.SHORT, *words)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("round 1") == 3
        loops = ["asyncio", "uvloop", "asynccore"]
        ratios = ["asynccore / asyncio", "asynccore / uvloop"]
        rows = done.stdout.splitlines()[3:8]
        names = [row.split("  ")[0] for row in rows]
        assert names == [*loops, *ratios]
        for row, name in zip(rows, names, strict=True):
            values = [float(word.replace(",", "")) for word in row[len(name) :].split()]
            assert len(values) == 5
            assert min(values) > 0
        drawn = ElementTree.parse(plot).getroot()
        words_drawn = [element.text for element in drawn.iter() if element.text]
        assert set(loops) <= set(words_drawn)

    def test_missing_packages(self) -> None:
        done = main_job(*self.SHORT, options=("-S", "-E"))
        assert done.returncode == 1
        assert "main_job: missing packages: asynccore aiohttp" in done.stderr
        assert "Traceback" not in done.stderr

    def test_wrong_numbers(self) -> None:
        done = main_job("--rounds", "-1")
        assert done.returncode == 2
        assert "must be positive" in done.stderr
