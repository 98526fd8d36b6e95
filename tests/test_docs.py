"""What the documentation says is true: its programs run, what it names exists."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asynccore
from asynccore import _core
from support.children import SITE

TOP = Path(__file__).resolve().parent.parent
DOCS = TOP / "docs"
LIMIT = 50.0

if not DOCS.is_dir():
    pytest.skip("the documentation is not here", allow_module_level=True)

PAGES = sorted([*DOCS.rglob("*.md"), TOP / "README.md"])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[Any]:
    """The code blocks of a language, as parameters with the place as their name."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                name = f"{page.relative_to(TOP)}:{line}"
                found.append(pytest.param(match[2], id=name))
    return found


def environment() -> dict[str, str]:
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    changes = {"PYTHONPATH": SITE, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    found = {**os.environ, **changes}
    for name in ("ASYNCCORE", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE"):
        found.pop(name, None)
    return found


def python(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def need(code: str) -> None:
    """Skips the test if a package that the program imports is not installed."""
    for name in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def file_of(code: str) -> str | None:
    """The name of the file that a block is, if it tells one."""
    found = re.match(r"# (\w+\.py)\n", code)
    return found[1] if found else None


PROGRAMS = [param for param in blocks("python") if not file_of(param.values[0])]
FILES = [param.values[0] for param in blocks("python") if file_of(param.values[0])]


@pytest.mark.parametrize("code", PROGRAMS)
def test_program(code: str, tmp_path: Path) -> None:
    need(code)
    (tmp_path / "program.py").write_text(code)
    done = python("program.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_files(tmp_path: Path) -> None:
    """The files of the guide, as a folder with tests."""
    named = {file_of(code): code for code in FILES}
    assert set(named) == {"conftest.py", "test_it.py"}
    for name, code in named.items():
        need(code)
        (tmp_path / str(name)).write_text(code)
    if importlib.util.find_spec("anyio") is None:
        pytest.skip("anyio is not installed")
    words = ["-m", "pytest", "-q", "--rootdir", ".", "-p", "no:cacheprovider"]
    done = python(*words, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("session", blocks("console"))
def test_commands(session: str, tmp_path: Path) -> None:
    """`$ COMMAND` prints the lines after it; `...` stands for anything."""
    parts = re.split(r"^\$ ", session, flags=re.MULTILINE)
    assert parts[0] == ""
    for part in parts[1:]:
        command, _, expected = part.partition("\n")
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        pattern = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
        assert re.fullmatch(pattern, done.stdout.strip(), re.DOTALL), done.stdout


def test_commands_of_ours_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"\b((?:tools/|\.ci/)\w[\w.-]*)", page.read_text()):
            assert (TOP / name).exists(), f"{page.name}: {name}"


def test_variables_are_documented() -> None:
    found: set[str] = set()
    for path in (*TOP.glob("asynccore/**/*.py"), TOP / "setup.py"):
        found |= set(re.findall(r"\bASYNCCORE(?:_[A-Z]+)*\b", path.read_text()))
    for path in (TOP / "tools").glob("*.sh"):  # their heads
        found |= set(re.findall(r"^# (ASYNCCORE_\w+) ", path.read_text(), re.MULTILINE))
    assert len(found) > 10
    text = "".join(page.read_text() for page in PAGES)
    assert [name for name in sorted(found) if not re.search(rf"\b{name}\b", text)] == []


def names_of(path: Path) -> set[str]:
    """The tests of a file: `test_x`, `TestClass::test_x`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.add(f"{node.name}::{inner.name}")
    return found


NO_TESTS = {"test_it.py", "test_x.py"}  # of examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_exist(page: Path) -> None:
    pattern = r"\b(?:tests/)?((?:\w+/)?test_\w+\.py)(?:::([\w:]+))?"
    for file, name in set(re.findall(pattern, page.read_text())):
        if file not in NO_TESTS:
            path = TOP / "tests" / file
            assert path.exists(), file
            assert not name or name in names_of(path), f"{file}::{name}"


def test_each_difference_has_its_test() -> None:
    text = (DOCS / "compatibility.md").read_text()
    differences = text[text.index("## Differences") : text.index("## Not supported")]
    rows = [line for line in differences.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| Standard loop")]
    assert len(rows) > 20
    for row in rows:
        assert "::test_" in row or "not relied upon" in row, row
    listed = set(re.findall(r"test_differences\.py::(\w+)", differences))
    written = names_of(TOP / "tests" / "test_differences.py")
    assert listed == {name for name in written if name.startswith("test_")}


def test_every_loop_method_is_listed() -> None:
    text = (DOCS / "compatibility.md").read_text()
    table = text[text.index("## Loop methods") : text.index("### Left to later")]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    listed = set(re.findall(r"`(\w+)`", "".join(rows)))
    methods = {name for name in dir(asyncio.AbstractEventLoop) if name[0] != "_"}
    assert methods - listed == set()
    for name in methods:  # `C` in the table means C
        row = next(row for row in rows if f"`{name}`" in row)
        is_c = not inspect.isfunction(getattr(asynccore.Loop, name))
        if name not in ("get_debug", "set_debug"):
            assert is_c == (row.split("|")[2].strip() == "C"), row


def test_numbers_of_the_differences_are_in_their_order() -> None:
    text = (DOCS / "compatibility.md").read_text()
    headings = re.findall(r"^### (.*)", text, re.MULTILINE)
    anchors = [heading.lower().replace(" ", "-") for heading in headings]
    links = set(re.findall(r"\[(\d+)\]\(#([\w-]+)\)", text))
    used = sorted({anchor for _, anchor in links}, key=anchors.index)
    assert links == {(str(i), anchor) for i, anchor in enumerate(used, 1)}


def test_limits_of_the_turn_are_those_of_the_source() -> None:
    header = (TOP / "csrc" / "loop" / "loop.h").read_text()
    turns = re.search(r"AC_TURNS_WITHOUT_POLL (\d+)", header)
    nanoseconds = re.search(r"AC_NS_WITHOUT_POLL ([\d.]+)", header)
    assert turns is not None and nanoseconds is not None
    microseconds = float(nanoseconds[1]) / 1000
    text = (DOCS / "compatibility.md").read_text()
    assert f"at most {turns[1]} turns and {microseconds:.0f} microseconds" in text
    flood = (TOP / "csrc" / "loop" / "flood.h").read_text()
    calls = re.search(r"AC_FLOOD_CALLS (\d+)", flood)
    assert calls is not None and f"every {calls[1]}th call of a turn" in text


def test_every_seam_is_listed() -> None:
    text = (DOCS / "internals" / "architecture.md").read_text()
    part = text[text.index("## The seams") : text.index("## Layers")]
    listed = set(re.findall(r"`(_\w+)`", part))
    standard = asyncio.SelectorEventLoop
    for kind in (_core.Loop, asynccore.Loop):
        for name in vars(kind):
            private = name.startswith("_") and not name.startswith("__")
            if private and hasattr(standard, name):
                assert name in listed, name


def test_every_source_is_in_its_layer() -> None:
    text = (DOCS / "internals" / "architecture.md").read_text()
    part = text[text.index("## Layers") : text.index("## The poller")]
    block = part.split("```")[1].removeprefix("text\n")
    layers = re.split(r"^(\w+) +\(L\d\) ", block, flags=re.MULTILINE)
    listed = dict(zip(layers[1::2], layers[2::2], strict=True))
    for path in (TOP / "csrc").glob("*/*.c"):
        assert path.stem in re.findall(r"\w+", listed[path.parent.name]), path


def test_api_has_every_public_name() -> None:
    text = " ".join((DOCS / "api.md").read_text().split())
    for name in asynccore.__all__:
        heading = re.sub("_", r"\\_", name) if name.startswith("__") else name
        assert f"## {heading} " in text, name
        value = getattr(asynccore, name)
        if callable(value):
            first = (inspect.getdoc(value) or "").split("\n\n")[0]
            assert " ".join(first.split()) in text, name
    for option in shlex.split("--as-uvloop --version --help"):
        assert option in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http:", "https:", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target
