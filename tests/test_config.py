"""show_config(): what it tells is what is so."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import ssl
import subprocess
import sys

import pytest

import asynccore
from asynccore import _config

SYS_IO_URING_SETUP = 425  # the same on every architecture

KEYS = [
    "asynccore",
    "python",
    "platform",
    "gil",
    "libuv compiled",
    "libuv running",
    "io_uring",
    "cork",
    "streams",
    "tls",
]


@pytest.fixture(autouse=True, scope="module")
def first_loop(both_factories: object) -> None:
    """What a process opens with its first loop is open before the first test."""


def version(text: str) -> tuple[int, ...]:
    assert re.fullmatch(r"\d+\.\d+\.\d+", text)
    return tuple(map(int, text.split(".")))


def test_dict() -> None:
    found = asynccore.show_config("dict")
    assert list(found) == KEYS
    assert found["asynccore"] == asynccore.__version__
    assert found["python"] == f"CPython {platform.python_version()}"
    assert ssl.OPENSSL_VERSION in found["tls"]
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert found["gil"].startswith("enabled" if enabled else "disabled")


def test_libuv() -> None:
    found = asynccore.show_config("dict")
    assert version(found["libuv compiled"]) >= (1, 44)
    assert version(found["libuv running"]) >= version(found["libuv compiled"])[:2]


def test_prints(capsys: pytest.CaptureFixture[str]) -> None:
    asynccore.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(r"\s{2,}", line)[0] for line in lines] == KEYS
    width = max(map(len, KEYS))
    values = [line[width + 2 :] for line in lines]
    assert values == list(asynccore.show_config("dict").values())


def test_mode() -> None:
    with pytest.raises(ValueError, match="mode must be 'stdout' or 'dict', not 'x'"):
        asynccore.show_config("x")  # type: ignore[call-overload]


def test_inside_a_running_loop() -> None:
    async def main() -> dict[str, str]:
        return asynccore.show_config("dict")

    assert asynccore.run(main()) == asynccore.show_config("dict")


@pytest.mark.skipif(not os.path.isdir(_config.FDS), reason="needs /proc/self/fd")
class TestIoUring:
    def test_is_what_a_loop_opens(self) -> None:
        """Compared with every descriptor that the first loop of a process opens."""
        code = """
import os
import asynccore
def links():
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    return found
loop = asynccore.new_event_loop()
loop.call_later(0.001, loop.stop)
loop.run_forever()
print(int(len([link for link in links() if "io_uring" in link]) > 0))
loop.close()
print(asynccore.show_config("dict")["io_uring"])
"""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        opened, told = done.stdout.split()
        assert told == ("yes" if opened == "1" else "no")

    def test_finds_a_ring(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        parameters = ctypes.create_string_buffer(120)  # struct io_uring_params
        before = _config.io_uring_rings()
        fd = libc.syscall(SYS_IO_URING_SETUP, 1, parameters)
        if fd < 0:
            pytest.skip(f"io_uring_setup: {os.strerror(ctypes.get_errno())}")
        try:
            assert _config.io_uring_rings() - before == {str(fd)}
        finally:
            os.close(fd)

    def test_unknown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_config, "FDS", "/nonexistent")
        monkeypatch.setattr(sys, "platform", "linux")
        assert _config.opens_io_uring() == "unknown: no /proc"
        monkeypatch.setattr(sys, "platform", "darwin")
        assert _config.opens_io_uring() == "no"
