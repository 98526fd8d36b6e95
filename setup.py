"""Build of the extension module `asynccore._core`; the metadata is in pyproject.toml.

Environment:

    ASYNCCORE_DEBUG=1                     no optimisation, assertions on
    ASYNCCORE_SANITIZE=address,undefined  what goes to -fsanitize=
    ASYNCCORE_COVERAGE=1                  gcov's counters
    ASYNCCORE_WERROR=1                    warnings are errors
    ASYNCCORE_LIBUV=PREFIX                libuv in PREFIX/include and PREFIX/lib,
                                          PREFIX/lib64 or Debian's PREFIX/lib/TRIPLET
    PKG_CONFIG                            the pkg-config program that finds it otherwise
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

MIN_LIBUV = (1, 44)
# Where libuv sits when pkg-config does not say: the compiler's own directories, then
# those of the package managers of macOS.
PREFIXES = ("", "/usr/local", "/opt/homebrew", "/opt/local")

INSTALL = (
    "install a C compiler, the headers of this Python and libuv >= 1.44 "
    "(Debian: apt-get install gcc libc6-dev python3-dev libuv1-dev; "
    "Fedora: dnf install gcc python3-devel libuv-devel; "
    "Alpine: apk add gcc musl-dev python3-dev libuv-dev; "
    "macOS: xcode-select --install and brew install libuv; "
    "or name libuv's prefix in ASYNCCORE_LIBUV)"
)


def fail(reason: str) -> PlatformError:
    return PlatformError(f"asynccore cannot be built: {reason}; {INSTALL}.")


def switch(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def library_folder(prefix: str) -> str | None:
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    for name in ("lib", "lib64", os.path.join("lib", triplet)):
        folder = os.path.join(prefix, name)
        if glob(os.path.join(folder, "libuv.*")):
            return folder
    return None


@dataclass
class Libuv:
    """Where a libuv is, in the compiler's words."""

    origin: str
    cflags: list[str] = field(default_factory=list)
    ldflags: list[str] = field(default_factory=lambda: ["-luv"])

    @classmethod
    def in_prefix(cls, prefix: str, origin: str) -> Libuv:
        lib = library_folder(prefix) or os.path.join(prefix, "lib")
        return cls(
            origin,
            ["-I" + os.path.join(prefix, "include")],
            ["-L" + lib, "-Wl,-rpath," + lib, "-luv"],
        )

    @classmethod
    def from_pkg_config(cls) -> Libuv | None:
        command = shlex.split(os.environ.get("PKG_CONFIG") or "pkg-config")

        def ask(option: str) -> list[str]:
            run = subprocess.run(
                [*command, option, "libuv"], capture_output=True, text=True, check=True
            )
            return shlex.split(run.stdout)

        try:
            return cls("pkg-config", ask("--cflags"), ask("--libs"))
        except (OSError, subprocess.CalledProcessError):
            return None


class BuildExt(build_ext):
    """Checks what the build needs, then compiles the changed sources side by side."""

    def build_extensions(self) -> None:
        self.command = list(self.compiler.compiler_so)
        self.check_compiler()
        self.check_python()
        libuv = self.find_libuv()
        for extension in self.extensions:
            extension.extra_compile_args += self.compile_flags() + libuv.cflags
            extension.extra_link_args += self.link_flags() + libuv.ldflags
        super().build_extensions()

    def check_compiler(self) -> None:
        if shutil.which(self.command[0]) is None:
            raise fail(f"the C compiler {self.command[0]} was not found")
        if self.probe("int main(void) { return 0; }\n") is None:
            raise fail(f"the C compiler {self.command[0]} does not compile")
        if self.probe("#include <stdlib.h>\n") is None:
            raise fail("the C library's headers were not found")

    def check_python(self) -> None:
        include = [f"-I{directory}" for directory in self.include_dirs]
        if self.probe("#include <Python.h>\n", include) is None:
            where = sysconfig.get_path("include")
            raise fail(f"Python.h was not found in {where}")

    def find_libuv(self) -> Libuv:
        prefix = os.environ.get("ASYNCCORE_LIBUV")
        if prefix:
            prefix = os.path.abspath(prefix)
            libuv = Libuv.in_prefix(prefix, f"ASYNCCORE_LIBUV={prefix}")
            if not os.path.exists(f"{prefix}/include/uv.h"):
                raise fail(f"{prefix}/include/uv.h was not found")
            if library_folder(prefix) is None:
                raise fail(f"no libuv.* was found in {prefix}/lib")
            version = self.libuv_version(libuv)
            if version is None:
                raise fail(f"{prefix}/include/uv.h does not compile")
            return self.check_libuv(libuv, version)
        candidates = [Libuv.from_pkg_config()]
        for prefix in PREFIXES:
            candidates.append(
                Libuv.in_prefix(prefix, prefix)
                if prefix
                else Libuv("the compiler's own directories")
            )
        for candidate in candidates:
            if candidate is None:
                continue
            version = self.libuv_version(candidate)
            if version is not None:
                return self.check_libuv(candidate, version)
        raise fail("uv.h, the header of libuv, was not found")

    def libuv_version(self, libuv: Libuv) -> tuple[int, ...] | None:
        text = self.probe(
            "#include <uv.h>\n"
            "ac_version UV_VERSION_MAJOR UV_VERSION_MINOR UV_VERSION_PATCH\n",
            libuv.cflags,
        )
        if text is None:
            return None
        words = text.rsplit("ac_version", 1)[1].split()
        return tuple(int(word) for word in words)

    def check_libuv(self, libuv: Libuv, version: tuple[int, ...]) -> Libuv:
        text = ".".join(map(str, version))
        if version < MIN_LIBUV:
            raise fail(f"libuv {text} ({libuv.origin}) is too old")
        if not self.links(libuv):
            raise fail(f"libuv {text} ({libuv.origin}) has headers but no library")
        self.announce(f"libuv {text} ({libuv.origin})", logging.INFO)
        return libuv

    def probe(self, source: str, flags: list[str] | None = None) -> str | None:
        """The preprocessed text, or None if the compiler refuses the source."""
        run = subprocess.run(
            [*self.command, *(flags or []), "-E", "-P", "-x", "c", "-"],
            input=source,
            capture_output=True,
            text=True,
        )
        return run.stdout if run.returncode == 0 else None

    def links(self, libuv: Libuv) -> bool:
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "probe.c")
            source.write_text(
                "#include <uv.h>\nunsigned probe(void) { return uv_version(); }\n"
                "int main(void) { return probe() == 0; }\n"
            )
            output = str(Path(directory, "probe"))
            run = subprocess.run(
                self.command
                + [*libuv.cflags, str(source), *libuv.ldflags, "-o", output],
                capture_output=True,
            )
            return run.returncode == 0

    def compile_flags(self) -> list[str]:
        flags = ["-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra"]
        # {NULL} ends CPython's tables, and its signatures have arguments to ignore.
        flags += ["-Wno-missing-field-initializers", "-Wno-unused-parameter"]
        if not any(word.startswith("-O") for word in self.command):
            flags.append("-O2")
        if switch("ASYNCCORE_WERROR"):
            flags.append("-Werror")
        if switch("ASYNCCORE_DEBUG"):
            flags += ["-O0", "-g", "-UNDEBUG"]
        if switch("ASYNCCORE_COVERAGE"):
            flags += ["-O0", "-g", "--coverage"]
        sanitizers = os.environ.get("ASYNCCORE_SANITIZE")
        if sanitizers:
            flags += ["-g", "-fno-omit-frame-pointer", f"-fsanitize={sanitizers}"]
            flags.append("-fno-sanitize-recover=all")
        return flags

    def link_flags(self) -> list[str]:
        # dlsym() has a library of its own before glibc 2.34
        flags = ["-ldl"] if sys.platform == "linux" else []
        if switch("ASYNCCORE_COVERAGE"):
            flags.append("--coverage")
        sanitizers = os.environ.get("ASYNCCORE_SANITIZE")
        if sanitizers:
            flags.append(f"-fsanitize={sanitizers}")
            if "clang" in self.command[0]:
                flags.append("-shared-libsan")
        return flags

    def build_extension(self, extension: Extension) -> None:
        """Compile what is older than its inputs, then let the base class link."""
        build_temp = Path(self.build_temp)
        build_temp.mkdir(parents=True, exist_ok=True)
        recipe = shlex.join(self.command + extension.extra_compile_args)
        recipe += "\n" + shlex.join(extension.extra_link_args) + "\n"
        record = build_temp / "recipe.txt"
        if not record.exists() or record.read_text() != recipe:
            record.unlink(missing_ok=True)
            self.force = True
        inputs = [Path(name) for name in extension.depends]
        newest = max(path.stat().st_mtime for path in inputs)

        def compile_source(source: str) -> str:
            (name,) = self.compiler.object_filenames(
                [source], output_dir=self.build_temp
            )
            target = Path(name)
            mtime = max(newest, Path(source).stat().st_mtime)
            if self.force or not target.exists() or target.stat().st_mtime < mtime:
                self.compiler.compile(
                    [source],
                    output_dir=self.build_temp,
                    include_dirs=extension.include_dirs,
                    extra_postargs=extension.extra_compile_args,
                )
            return str(target)

        sources = extension.sources
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_source, sources))
        extension.sources, extension.extra_objects = [], objects
        extension.depends = [*extension.depends, *objects]
        try:
            super().build_extension(extension)
        finally:
            extension.sources, extension.extra_objects = sources, []
        record.write_text(recipe)


if sys.implementation.name != "cpython":
    raise SystemExit("asynccore needs CPython: it is built on its C API.")

setup(
    ext_modules=[
        Extension(
            "asynccore._core",
            sources=sorted(glob("csrc/**/*.c", recursive=True)),
            depends=[*sorted(glob("csrc/**/*.h", recursive=True)), "setup.py"],
            include_dirs=["csrc"],
        )
    ],
    cmdclass={"build_ext": BuildExt},
)
