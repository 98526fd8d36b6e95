"""setup.py: how libuv is found, and the one sentence that says what is missing.

Each build here ends before anything is compiled. And a libuv that is too old when the
extension is loaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("setuptools")

TOP = Path(__file__).resolve().parent.parent
COMPILER = str(sysconfig.get_config_var("CC") or "cc").split()[0]

pytestmark = [
    pytest.mark.skipif(not (TOP / "setup.py").exists(), reason="no source tree"),
    pytest.mark.skipif(shutil.which(COMPILER) is None, reason="no C compiler"),
]

ADVICE = (
    "Debian: apt-get install gcc libc6-dev python3-dev libuv1-dev; "
    "Fedora: dnf install gcc python3-devel libuv-devel; "
    "Alpine: apk add gcc musl-dev python3-dev libuv-dev; "
    "macOS: xcode-select --install and brew install libuv; "
)


def refusal(folder: Path, **variables: str) -> str:
    """The last line of a build that fails: its reason, without the advice."""
    command = [sys.executable, "setup.py", "-q", "build_ext"]
    command += ["--build-temp", str(folder / "temp"), "--build-lib", str(folder)]
    names = ("CC", "CFLAGS", "CPPFLAGS", "PKG_CONFIG", "ASYNCCORE_LIBUV")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    done = subprocess.run(
        command,
        cwd=TOP,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1, done
    error = done.stderr.splitlines()[-1]
    reason, advice = error.split("; install ", 1)
    assert ADVICE in advice
    assert "Traceback" not in done.stderr
    return reason.removeprefix("error: asynccore cannot be built: ")


def headers(folder: Path, minor: int) -> str:
    (folder / "include").mkdir()
    (folder / "include" / "uv.h").write_text(
        f"#define UV_VERSION_MAJOR 1\n#define UV_VERSION_MINOR {minor}\n"
        "#define UV_VERSION_PATCH 0\nunsigned uv_version(void);\n"
    )
    return str(folder)


def executable(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return str(path)


class TestMissing:
    def test_compiler(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, CC="no-such-cc") == (
            "the C compiler no-such-cc was not found"
        )

    def test_compiler_that_does_not_work(self, tmp_path: Path) -> None:
        compiler = executable(tmp_path / "cc", "exit 1")
        assert refusal(tmp_path, CC=compiler) == (
            f"the C compiler {compiler} does not compile"
        )

    @pytest.mark.parametrize(
        ("header", "reason"),
        [
            ("stdlib.h", "the C library's headers were not found"),
            ("Python.h", "Python.h was not found in"),
            ("uv.h", "uv.h, the header of libuv, was not found"),
        ],
    )
    def test_header(self, tmp_path: Path, header: str, reason: str) -> None:
        """The compiler, but a source that includes the header is refused."""
        script = (
            'source=$(cat)\ncase "$source" in\n'
            f"*'<{header}>'*) exit 1 ;;\nesac\n"
            f"""printf '%s\\n' "$source" | exec {shutil.which(COMPILER)} "$@"\n"""
        )
        compiler = executable(tmp_path / "cc", script)
        assert refusal(tmp_path, CC=compiler).startswith(reason)


class TestLibuv:
    def test_prefix_is_honoured(self, tmp_path: Path) -> None:
        prefix = headers(tmp_path, 43)
        (tmp_path / "lib64").mkdir()
        (tmp_path / "lib64" / "libuv.so").touch()
        assert refusal(tmp_path, ASYNCCORE_LIBUV=prefix) == (
            f"libuv 1.43.0 (ASYNCCORE_LIBUV={prefix}) is too old"
        )

    def test_prefix_without_headers(self, tmp_path: Path) -> None:
        assert refusal(tmp_path, ASYNCCORE_LIBUV=str(tmp_path)) == (
            f"{tmp_path}/include/uv.h was not found"
        )

    def test_prefix_without_library(self, tmp_path: Path) -> None:
        """Not the library that is elsewhere, behind another version's headers."""
        prefix = headers(tmp_path, 44)
        assert refusal(tmp_path, ASYNCCORE_LIBUV=prefix) == (
            f"no libuv.* was found in {prefix}/lib"
        )

    def test_library_that_does_not_link(self, tmp_path: Path) -> None:
        prefix = headers(tmp_path, 44)
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "libuv.so").touch()
        assert refusal(tmp_path, ASYNCCORE_LIBUV=prefix) == (
            f"libuv 1.44.0 (ASYNCCORE_LIBUV={prefix}) has headers but no library"
        )

    def test_pkg_config_is_honoured(self, tmp_path: Path) -> None:
        prefix = headers(tmp_path, 43)
        script = (
            '[ "$2" = libuv ] || exit 1\ncase $1 in\n'
            f"--cflags) echo '-I{prefix}/include' ;;\n--libs) echo -luv ;;\nesac\n"
        )
        program = executable(tmp_path / "pkg-config", script)
        assert refusal(tmp_path, PKG_CONFIG=program) == (
            "libuv 1.43.0 (pkg-config) is too old"
        )


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD")
def test_too_old_when_loaded(tmp_path: Path) -> None:
    source = tmp_path / "old.c"
    source.write_text(
        "unsigned uv_version(void) { return 0x012B00; }\n"
        'const char *uv_version_string(void) { return "1.43.0"; }\n'
    )
    library = str(tmp_path / "old.so")
    first = os.environ.get("LD_PRELOAD", "")  # a sanitizer's runtime
    build = [COMPILER, "-shared", "-fPIC", "-o", library, str(source)]
    subprocess.run(build, check=True, timeout=50)
    done = subprocess.run(
        [sys.executable, "-c", "import asynccore"],
        env=os.environ | {"LD_PRELOAD": f"{first} {library}".strip()},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: asynccore needs libuv 1.44 or newer, "
        "but 1.43.0 is what was loaded"
    )
