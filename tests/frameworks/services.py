"""Servers of the system's packages: private instances in folders of their own."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import certificates, refused_port

START_LIMIT = 30.0
TRIES = 5  # somebody else may take a port between our look and the server's bind


@contextlib.contextmanager
def folder(user: int | None = None) -> Iterator[Path]:
    """A folder of the user, where no component of the path is root's alone."""
    path = Path(tempfile.mkdtemp(prefix="asynccore-", dir="/tmp"))
    try:
        if user is not None:
            os.chown(path, user, -1)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Postgres:
    """A PostgreSQL on a port of 127.0.0.1 and a socket, where everyone is trusted."""

    def __init__(self, programs: Path, path: Path, account: dict[str, Any]) -> None:
        self.programs = programs
        self.path = path
        self.account = account
        self.port = 0
        self.command("initdb", "-U", "postgres", "-A", "trust", "-N", "--no-locale")
        certificate = path / "data" / "server.pem"
        shutil.copy(certificates().server, certificate)
        certificate.chmod(0o600)
        if account:
            os.chown(certificate, account["user"], -1)

    def command(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.programs / program), "-D", str(self.path / "data"), *words],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_LIMIT,
            check=True,
            **self.account,
        )

    def start(self) -> None:
        options = f"-k {self.path} -c listen_addresses=127.0.0.1 -c fsync=off"
        options += " -c ssl=on -c ssl_cert_file=server.pem -c ssl_key_file=server.pem"
        for left in reversed(range(TRIES)):
            port = self.port or refused_port()
            words = ["-l", str(self.path / "log"), "-o", f"-p {port} {options}"]
            try:
                self.command("pg_ctl", "start", "-w", *words)
            except subprocess.CalledProcessError:
                if not left:
                    pytest.fail((self.path / "log").read_text())
            else:
                self.port = port
                return

    def stop(self) -> None:
        self.command("pg_ctl", "stop", "-w", "-m", "immediate")


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    found = shutil.which("initdb")
    places = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    places.sort(key=lambda place: float(Path(place).parts[4]))
    if not found and not places:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    account = {}
    if os.geteuid() == 0:  # which PostgreSQL refuses
        entry = next(e for name in ("postgres", "nobody") if (e := entry_of(name)))
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    programs = Path(places[-1] if places else found or "").parent
    with folder(account.get("user")) as path:
        server = Postgres(programs, path, account)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def entry_of(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


class Redis:
    """A Redis on a port of 127.0.0.1 and a socket, without a file of its data.

    If it was built with TLS, it serves on `tls_port` whoever has a certificate.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = str(path / "socket")
        self.port = 0
        self.tls_port = 0
        program = shutil.which("redis-server")
        assert program is not None
        self.tls = b"Failed to configure TLS" in Path(program).read_bytes()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for left in reversed(range(TRIES)):
            port = self.port or refused_port()
            words = ["--bind", "127.0.0.1", "--port", str(port), "--save", ""]
            words += ["--unixsocket", self.socket, "--dir", str(self.path)]
            tls_port = self.tls_port or refused_port()
            if self.tls:
                own = str(certificates().server)
                words += ["--tls-port", str(tls_port), "--tls-cert-file", own]
                words += ["--tls-key-file", own, "--tls-auth-clients", "yes"]
                words += ["--tls-ca-cert-file", str(certificates().authority)]
            with (self.path / "log").open("wb") as log:
                process = subprocess.Popen(
                    ["redis-server", *words, "--daemonize", "no"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            if self.wait(process, port):
                self.process, self.port, self.tls_port = process, port, tls_port
                return
            if not left:
                pytest.fail((self.path / "log").read_text())

    def wait(self, process: subprocess.Popen[bytes], port: int) -> bool:
        """Whether the server serves; False when it has ended."""
        deadline = time.monotonic() + START_LIMIT
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.socket() as sock:
                sock.settimeout(START_LIMIT)
                sock.connect(("127.0.0.1", port))
                sock.sendall(b"PING\r\n")
                if sock.recv(7) == b"+PONG\r\n":
                    return True
            time.sleep(0.01)
        return False

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(sig)
            self.process.wait(START_LIMIT)
            self.process = None


@contextlib.contextmanager
def redis() -> Iterator[Redis]:
    if not shutil.which("redis-server"):
        pytest.skip("Redis is not installed (Debian: apt-get install redis-server)")
    with folder() as path:
        server = Redis(path)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Nginx:
    """An nginx with one `server` block, on a port of 127.0.0.1."""

    def __init__(self, path: Path, block: str) -> None:
        self.path = path
        self.block = block
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for left in reversed(range(TRIES)):
            port = refused_port()
            temporary = " ".join(
                f"{kind}_temp_path {self.path}/{kind};"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            (self.path / "conf").write_text(
                f"daemon off; master_process off; pid {self.path}/pid;"
                f"error_log {self.path}/log; events {{}}"
                f"http {{ access_log off; {temporary}"
                f"server {{ {self.block.replace('PORT', str(port))} }} }}"
            )
            process = subprocess.Popen(
                ["nginx", "-p", self.path, "-c", "conf", "-e", self.path / "log"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if self.wait(process, port):
                self.process, self.port = process, port
                return
            process.kill()
            process.wait(START_LIMIT)
            if not left:
                pytest.fail((self.path / "log").read_text())

    def wait(self, process: subprocess.Popen[bytes], port: int) -> bool:
        """Whether the server listens; False when it has ended."""
        deadline = time.monotonic() + START_LIMIT
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.socket() as sock:
                sock.connect(("127.0.0.1", port))
                return True
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(START_LIMIT)
            self.process = None


@contextlib.contextmanager
def nginx(block: str) -> Iterator[Nginx]:
    """`block` is the inside of `server`; PORT in it is the port."""
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    with folder() as path:
        server = Nginx(path, block)
        server.start()
        try:
            yield server
        finally:
            server.stop()
