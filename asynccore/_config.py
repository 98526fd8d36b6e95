"""What asynccore is made of and how it works here: show_config()."""

from __future__ import annotations

import os
import platform
import ssl
import sys
import sysconfig
from typing import Literal, overload

from . import _core, _mode, _tls
from ._loop import Loop
from ._version import __version__

RINGS = "anon_inode:[io_uring]"
FDS = "/proc/self/fd"


def io_uring_rings() -> set[str]:
    """This process's io_uring descriptors; OSError where they can not be seen."""
    rings = set()
    for fd in os.listdir(FDS):
        try:
            if os.readlink(f"{FDS}/{fd}") == RINGS:
                rings.add(fd)
        except OSError:
            continue  # closed meanwhile, as the descriptor of listdir itself
    return rings


def opens_io_uring() -> str:
    """Whether a loop that waits opens an io_uring ring: looked at, not derived."""
    try:
        before = io_uring_rings()
    except OSError:
        return "no" if sys.platform != "linux" else "unknown: no /proc"
    loop = Loop()
    ends = os.pipe()
    try:
        loop.add_reader(ends[0], int)  # now it takes what descriptors it needs
        return "yes" if io_uring_rings() - before else "no"
    finally:
        loop.close()
        for fd in ends:
            os.close(fd)


def gil() -> str:
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "enabled"
    # a free-threaded build, where an extension or PYTHON_GIL can bring the GIL back
    enabled = getattr(sys, "_is_gil_enabled", bool)()
    return "enabled, in a free-threaded build" if enabled else "disabled"


def streams() -> str:
    """How streams run."""
    if _mode.streams() == "stdlib":
        return "asyncio's"
    if not _core.streams_are_stock():
        return "asyncio's, which was patched"
    return "in C"


def config() -> dict[str, str]:
    return {
        "asynccore": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{sys.platform} {platform.machine()}",
        "gil": gil(),
        "libuv compiled": _core.libuv_version_compiled,
        "libuv running": _core.libuv_version_running,
        "io_uring": opens_io_uring(),
        "cork": _mode.cork(),
        "streams": streams(),
        "tls": f"{_tls.describe()}, {ssl.OPENSSL_VERSION}",
    }


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dict"]) -> dict[str, str]: ...


def show_config(mode: str = "stdout") -> dict[str, str] | None:
    """Print the versions and how asynccore works here, or return that as a dict.

    "io_uring" tells whether a new loop opened a ring, as libuv 1.50 and later do where
    the system lets them.
    """
    if mode not in ("stdout", "dict"):
        raise ValueError(f"mode must be 'stdout' or 'dict', not {mode!r}")
    values = config()
    if mode == "dict":
        return values
    width = max(map(len, values))
    for name, value in values.items():
        print(f"{name:{width}}  {value}")
    return None
