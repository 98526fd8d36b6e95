"""Compiles the programs in C, and drives client.c."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from benchmarks.harness import Load


@functools.cache
def build(name: str = "client") -> Path:
    """The program of this name, compiled; from a cache if its source has not changed.
    One without TLS is not kept: OpenSSL's headers may be there the next time."""
    source = Path(__file__).with_name(f"{name}.c")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    program = cache / "asynccore" / f"bench-{name}-{digest}"
    if program.exists():
        return program
    compiler = os.environ.get("CC") or shutil.which("cc")
    if not compiler:
        raise SystemExit(f"{source.name} needs a C compiler (cc)")
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
        output = Path(scratch) / name
        command = [*compiler.split(), "-O2", "-std=c11", "-o", str(output), str(source)]
        tls = [*command, "-DAC_TLS", "-lssl", "-lcrypto"]
        if subprocess.run(tls, capture_output=True).returncode:
            subprocess.run(command, check=True)
            program = program.with_name(f"{program.name}-without-tls")
        output.replace(program)
    return program


class Client:
    """A client process that has connected, warmed the server up, and waits."""

    def __init__(
        self,
        load: Load,
        where: str,
        cpu: int | None = None,
        *extra: str,
    ) -> None:
        address = f"--port={where}" if where.isdigit() else f"--unix={where}"
        command = [str(build()), address, *load.arguments(), *extra]
        if cpu is not None:
            command = ["taskset", "-c", str(cpu), *command]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._expect_line("ready")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def _expect_line(self, start: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(start):
            self._process.wait()
            raise RuntimeError("the load client failed; see above")
        return line

    def run(self) -> dict[str, int]:
        """Load the server; the connections stay open until the context ends."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer: dict[str, int] = json.loads(self._expect_line("{"))
        return answer


def cpus() -> tuple[int | None, int | None]:
    """A CPU for the server and one for the client, if there are two."""
    if not hasattr(os, "sched_getaffinity") or not shutil.which("taskset"):
        return None, None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[-1], usable[0]) if len(usable) > 1 else (None, None)


__all__ = ["Client", "build", "cpus"]
