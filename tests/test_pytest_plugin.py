"""The pytest plug-in, in runs of pytest of their own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asynccore
from support.children import SITE

LIMIT = 50.0

WHOSE = """
import asyncio, pytest

def whose(loop=None):
    return type(loop or asyncio.get_running_loop()).__module__.partition(".")[0]
"""


def needs(name: str) -> Any:
    found = importlib.util.find_spec(name) is not None
    return pytest.mark.skipif(not found, reason=f"{name} is not installed")


class Folder:
    """A folder with tests and what runs them with the plug-ins that are named."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("whose.py", WHOSE)

    def write(self, name: str, code: str) -> None:
        (self.path / name).write_text(code)

    def run(self, *words: str, plugins: tuple[str, ...] = ("pytest_asynccore",)) -> Run:
        named = [word for plugin in plugins for word in ("-p", plugin)]
        command = [sys.executable, "-W", "error::DeprecationWarning", "-m", "pytest"]
        command += ["-v", "--rootdir=.", "-p", "no:cacheprovider", *named, *words]
        if "pytest_asyncio.plugin" in plugins:  # it asks everyone to decide
            command += ["-o", "asyncio_default_fixture_loop_scope=function"]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([SITE, str(self.path)])}
        for name in ("ASYNCCORE", "PYTHONASYNCIODEBUG", "PYTEST_ADDOPTS"):
            environ.pop(name, None)
        environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
        return Run(
            subprocess.run(
                command,
                cwd=self.path,
                env=environ,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
        )


class Run:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status = done.returncode
        self.text = done.stdout + done.stderr
        words = [line.split() for line in done.stdout.splitlines()]
        verdicts = ("PASSED", "FAILED", "ERROR", "SKIPPED")
        tests = [line for line in words if len(line) > 1 and line[1] in verdicts]
        # the ids without the file, in their order, and their results
        self.results = {line[0].partition("::")[2]: line[1] for line in tests}

    def report(self) -> list[str]:
        """All lines (verdicts, warnings, counts), but for what pytest itself tells of
        the plug-ins' distributions, and times and addresses."""
        text = re.sub(r"=+ (.*) in \d.*s =+\n", r"\1\n", self.text)
        lines = re.sub(r" 0x[0-9a-f]+", "", text).splitlines()
        return [line for line in lines if not line.startswith("plugins: ")]

    def passed(self) -> list[str]:
        """The ids, when all have passed."""
        assert self.status == 0, self.text
        assert set(self.results.values()) == {"PASSED"}, self.text
        return list(self.results)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_import_loads_nothing(folder: Folder) -> None:
    """Each run of pytest imports the plug-in."""
    code = """
import sys
import pytest
before = set(sys.modules)
import pytest_asynccore
print(sorted(set(sys.modules) - before))
"""
    environ = {**os.environ, "PYTHONPATH": SITE}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.stdout == "['pytest_asynccore']\n", done.stderr


PLAIN = """
import asyncio, sys, unittest
from whose import pytest, whose

def test_sync():
    async def main():
        return whose()
    assert asyncio.run(main()) == LOOP

async def test_async():
    assert whose() == LOOP

class TestInClass:
    @pytest.fixture
    def value(self):
        return 1

    @pytest.mark.parametrize("other", [2, 3])
    async def test_arguments(self, value, other):
        assert (whose(), value) == (LOOP, 1)

class Case(unittest.IsolatedAsyncioTestCase):
    async def test_case(self):
        assert whose() == LOOP
"""
PLAIN_IDS = [
    "test_sync",
    "test_async",
    "TestInClass::test_arguments[2]",
    "TestInClass::test_arguments[3]",
    "Case::test_case",
]


class TestWithoutOtherPlugins:
    def test_asynccore(self, folder: Folder) -> None:
        folder.write("test_it.py", f"LOOP = 'asynccore'\n{PLAIN}")
        run = folder.run("--asynccore")
        assert run.passed() == PLAIN_IDS
        version = asynccore.__version__
        assert f"asynccore: {version}, default loop: asynccore\n" in run.text

    def test_loops(self, folder: Folder) -> None:
        code = """
async def test_async(request):
    print(request.node.name, whose())
"""
        folder.write("test_it.py", f"from whose import *\n{code}")
        run = folder.run("-s", "--asynccore-loops=asyncio, asynccore")
        assert run.status == 0
        assert "test_async[asyncio] asyncio\n" in run.text
        assert "test_async[asynccore] asynccore\n" in run.text
        assert "loops: asyncio, asynccore\n" in run.text

    def test_without_options_nothing_changes(self, folder: Folder) -> None:
        code = PLAIN + "\ndef test_end():\n    assert 'asynccore' not in sys.modules\n"
        folder.write("test_it.py", f"LOOP = 'asyncio'\n{code}")
        without, with_it = folder.run(plugins=()), folder.run()
        assert with_it.results == without.results
        assert with_it.results["test_end"] == with_it.results["test_sync"] == "PASSED"
        assert with_it.results["test_async"] != "PASSED"  # pytest cannot run it
        assert with_it.report() == without.report()

    def test_loop_of_the_users(self, folder: Folder) -> None:
        code = """
from whose import *

class Loop(asyncio.SelectorEventLoop):
    pass

async def test_async():
    assert whose() == "test_it"
"""
        folder.write("test_it.py", code)
        run = folder.run("--asynccore-loops=test_it:Loop")
        assert run.passed() == ["test_async[test_it:Loop]"]

    def test_standard_loop_beside_the_replaced_one(self, folder: Folder) -> None:
        """`asyncio` in the list is the standard loop, whatever the default is."""
        code = """
from whose import *

async def test_async(request):
    assert f"[{whose()}]" in request.node.name

def test_sync():
    loop = asyncio.new_event_loop()
    loop.close()
    assert whose(loop) == "asynccore"
"""
        folder.write("test_it.py", code)
        run = folder.run("--asynccore", "--asynccore-loops=asynccore,asyncio")
        assert run.passed() == [
            "test_async[asynccore]",
            "test_async[asyncio]",
            "test_sync",
        ]

    @pytest.mark.parametrize(
        ("listed", "says"),
        [
            ("", "no list of loops: ''"),
            ("asyncio,", "no list of loops: 'asyncio,'"),
            ("asyncio,asyncio", "no list of loops: 'asyncio,asyncio'"),
            ("nonsense", "'nonsense' is not asyncio, asynccore, uvloop or MODULE:"),
            ("no_such:loop", "no loop 'no_such:loop': No module named 'no_such'"),
            ("asyncio:nothing", "no loop 'asyncio:nothing': module 'asyncio' has no"),
        ],
    )
    def test_wrong_lists(self, folder: Folder, listed: str, says: str) -> None:
        folder.write("test_it.py", "def test_it(): pass")
        run = folder.run(f"--asynccore-loops={listed}")
        assert run.status == pytest.ExitCode.USAGE_ERROR
        assert f"ERROR: --asynccore-loops: {says}" in run.text


class TestOthersThatRunCoroutines:
    """Their fixtures and the coroutine functions belong on one loop, theirs."""

    CONFTEST = """
import inspect
from whose import *

@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()

@pytest.fixture
def future(loop):
    return loop.create_future()

def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        call = pyfuncitem.obj(pyfuncitem.funcargs["future"])
        pyfuncitem.funcargs["loop"].run_until_complete(call)
        return True
"""

    def test_conftest(self, folder: Folder) -> None:
        code = """
from whose import *

async def test_async(future):
    assert whose() == "asynccore"
    assert future.get_loop() is asyncio.get_running_loop()
"""
        folder.write("conftest.py", self.CONFTEST)
        folder.write("test_it.py", code)
        assert folder.run("--asynccore").passed() == ["test_async"]

    def test_conftest_and_loops(self, folder: Folder) -> None:
        """It knows nothing of the loops, so this plug-in runs what has them."""
        code = """
from whose import *

async def test_async(request):
    assert f"[{whose()}]" in request.node.name
"""
        folder.write("conftest.py", self.CONFTEST)
        folder.write("test_it.py", code)
        run = folder.run("--asynccore-loops=asyncio,asynccore")
        assert run.passed() == ["test_async[asyncio]", "test_async[asynccore]"]

    @needs("aiohttp")
    @pytest.mark.parametrize("option", ["--asynccore", "--asynccore-loops=asynccore"])
    def test_aiohttp(self, folder: Folder, option: str) -> None:
        code = """
from whose import *

@pytest.fixture
async def seen(loop):
    return asyncio.get_running_loop()

@pytest.mark.parametrize("again", [1, 2])
async def test_async(seen, loop, again):
    assert whose() == DEFAULT
    assert seen is loop is asyncio.get_running_loop()
"""
        default = "asynccore" if option == "--asynccore" else "asyncio"
        folder.write("test_it.py", f"DEFAULT = {default!r}\n{code}")
        words = (option, "-W", "ignore::DeprecationWarning")
        plugins = ("pytest_asynccore", "aiohttp.pytest_plugin")
        assert folder.run(*words, plugins=plugins).passed() == [
            "test_async[pyloop-1]",
            "test_async[pyloop-2]",
        ]


@needs("pytest_asyncio")
class TestPytestAsyncio:
    PLUGINS = ("pytest_asynccore", "pytest_asyncio.plugin")

    CODE = """
import pytest_asyncio
from whose import *

@pytest_asyncio.fixture
async def short():
    return whose()

@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def long():
    yield whose()

@pytest.mark.asyncio
async def test_async(short):
    assert SEEN(short, whose())

@pytest.mark.asyncio(loop_scope="module")
async def test_module(long):
    assert SEEN(long, whose())

@pytest.mark.asyncio(loop_scope="module")
async def test_module_again(long):
    assert SEEN(long, whose())

def test_sync():
    pass
"""
    IDS = ("test_async", "test_module", "test_module_again")

    @pytest.fixture(params=["strict", "auto"])
    def mode(self, request: pytest.FixtureRequest) -> str:
        return f"--asyncio-mode={request.param}"

    def code(self, *seen: str) -> str:
        return f"{self.CODE}\nSEEN = lambda *loops: set(loops) == {set(seen)}\n"

    def test_asynccore(self, folder: Folder, mode: str) -> None:
        folder.write("test_it.py", self.code("asynccore"))
        run = folder.run("--asynccore", mode, plugins=self.PLUGINS)
        assert run.passed() == [*self.IDS, "test_sync"]

    def test_loops(self, folder: Folder, mode: str) -> None:
        code = f"""{self.CODE}
seen = set()

def SEEN(*loops):
    seen.update(loops)
    return len(set(loops)) == 1

def test_both():
    assert seen == {{"asyncio", "asynccore"}}
"""
        folder.write("test_it.py", code)
        loops = "--asynccore-loops=asyncio,asynccore"
        run = folder.run(loops, mode, plugins=self.PLUGINS)
        both = [f"{name}[{loop}]" for name in self.IDS for loop in LOOPS]
        assert sorted(run.passed()) == sorted([*both, "test_sync", "test_both"])

    def test_without_options_nothing_changes(self, folder: Folder, mode: str) -> None:
        folder.write("test_it.py", self.code("asyncio"))
        run = folder.run(mode, plugins=self.PLUGINS)
        assert run.passed() == [*self.IDS, "test_sync"]

    def test_policy_of_the_users(self, folder: Folder) -> None:
        if sys.version_info >= (3, 14):
            pytest.skip("Python 3.14 deprecates policies")
        code = """
from whose import *

class Policy(asyncio.DefaultEventLoopPolicy):
    pass

@pytest.fixture(scope="session")
def event_loop_policy():
    return Policy()
"""
        folder.write("conftest.py", code)
        folder.write("test_it.py", self.code("asynccore"))
        words = ["--asynccore", "-W", "ignore::pytest.PytestDeprecationWarning"]
        run = folder.run(*words, plugins=self.PLUGINS)
        assert run.passed() == [*self.IDS, "test_sync"]

    HOOK = """
from whose import *

class Other(asyncio.SelectorEventLoop):
    pass

def pytest_asyncio_loop_factories(config, item):
    return {"other": Other, "same": Other}
"""

    def test_factories_of_the_users(self, folder: Folder) -> None:
        need_factories()
        folder.write("conftest.py", self.HOOK)
        folder.write("test_it.py", self.code("asynccore"))
        names = [
            name.partition("[")[0]
            for name in folder.run("--asynccore", plugins=self.PLUGINS).passed()
        ]
        assert names == [*self.IDS, "test_sync"]

    def test_factories_that_a_test_chooses(self, folder: Folder) -> None:
        need_factories()
        folder.write("conftest.py", self.HOOK)
        code = """
from whose import *

@pytest.mark.asyncio(loop_factories=["other", "same"])
async def test_chosen():
    assert whose() == "conftest"
"""
        folder.write("test_it.py", code)
        for options in (["--asynccore"], ["--asynccore-loops=asyncio,asynccore"], []):
            run = folder.run(*options, plugins=self.PLUGINS)
            assert run.passed() == ["test_chosen[other]", "test_chosen[same]"]


@needs("anyio")
class TestAnyio:
    PLUGINS = ("pytest_asynccore", "anyio.pytest_plugin")

    CODE = """
from whose import *

pytestmark = pytest.mark.anyio

@pytest.fixture
async def short(anyio_backend):
    return whose()

@pytest.fixture(scope="module")
async def long(anyio_backend):
    yield whose()

async def test_async(short, long):
    assert SEEN(short, long, whose())

async def test_again(long):
    assert SEEN(long, whose())
"""
    SEEN = """
seen = set()

def SEEN(*loops):
    seen.update(loops)
    return len(set(loops)) == 1

@pytest.mark.parametrize("x", [1])
def test_seen(x):
    assert seen == {"asyncio", "asynccore"}
"""
    ASYNCCORE = "\nSEEN = lambda *loops: set(loops) == {'asynccore'}\n"

    def conftest(self, folder: Folder, body: str, arguments: str = "") -> None:
        code = f"""
from whose import *

@pytest.fixture(scope="module"{arguments})
def anyio_backend(request):
    return {body}
"""
        folder.write("conftest.py", code)

    def test_asynccore(self, folder: Folder) -> None:
        folder.write("test_it.py", self.CODE + self.ASYNCCORE)
        run = folder.run("--asynccore", "-k", "not trio", plugins=self.PLUGINS)
        assert run.passed() == ["test_async[asyncio]", "test_again[asyncio]"]

    def test_loops(self, folder: Folder) -> None:
        folder.write("test_it.py", self.CODE + self.SEEN)
        loops = "--asynccore-loops=asyncio,asynccore"
        run = folder.run(loops, "-k", "not trio", plugins=self.PLUGINS)
        both = [f"{name}[{loop}]" for loop in LOOPS for name in self.NAMES]
        assert run.passed() == [*both, "test_seen[1]"]

    NAMES = ("test_async", "test_again")

    def test_backend_without_parameters(self, folder: Folder) -> None:
        """The usual conftest.py of those who do not want trio."""
        self.conftest(folder, "'asyncio'")
        folder.write("test_it.py", self.CODE + self.SEEN)
        loops = "--asynccore-loops=asyncio,asynccore"
        both = [f"{name}[{loop}]" for loop in LOOPS for name in self.NAMES]
        assert folder.run(loops, plugins=self.PLUGINS).passed() == [
            *both,
            "test_seen[1]",
        ]

    def test_backend_with_a_loop(self, folder: Folder) -> None:
        factory = "{'loop_factory': asyncio.SelectorEventLoop, 'debug': True}"
        self.conftest(folder, f"'asyncio', {factory}")
        folder.write("test_it.py", self.CODE + self.ASYNCCORE)
        run = folder.run("--asynccore", plugins=self.PLUGINS)
        assert run.passed() == list(self.NAMES)

    PARAMS = (
        ", params=['asyncio', pytest.param(('asyncio', {'use_uvloop': True}), id='uv'),"
        " pytest.param(('asyncio', {'debug': True}), id='debug')]"
    )

    def test_parameters_of_the_users(self, folder: Folder) -> None:
        self.conftest(folder, "request.param", self.PARAMS)
        folder.write("test_it.py", self.CODE + self.SEEN)
        loops = "--asynccore-loops=asyncio,asynccore"
        run = folder.run(loops, plugins=self.PLUGINS)
        ids = [*LOOPS, *(f"debug-{loop}" for loop in LOOPS)]
        both = [f"{name}[{loop}]" for loop in ids for name in self.NAMES]
        assert run.passed() == [*both, "test_seen[1]"]

    def test_parameters_of_the_users_stay(self, folder: Folder) -> None:
        self.conftest(folder, "request.param", self.PARAMS)
        folder.write("test_it.py", self.CODE + self.ASYNCCORE)
        run = folder.run("--asynccore", plugins=self.PLUGINS)
        ids = ("asyncio", "uv", "debug")
        assert run.passed() == [f"{n}[{i}]" for i in ids for n in self.NAMES]

    def test_without_options_nothing_changes(self, folder: Folder) -> None:
        code = self.CODE + "\nSEEN = lambda *loops: set(loops) == {'asyncio'}\n"
        folder.write("test_it.py", code)
        run = folder.run("-k", "not trio", plugins=self.PLUGINS)
        assert run.passed() == [f"{name}[asyncio]" for name in self.NAMES]

    def test_other_coroutines(self, folder: Folder) -> None:
        """What is not marked for anyio is run by nobody else."""
        code = "from whose import *\nasync def test_it():\n    assert whose() == '{}'\n"
        folder.write("test_it.py", code.format("asynccore"))
        run = folder.run("--asynccore", plugins=self.PLUGINS)
        assert run.passed() == ["test_it"]


def test_installed_as_an_entry_point(folder: Folder) -> None:
    """pytest finds the plug-in by itself where asynccore is installed."""
    info = folder.path / "asynccore-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: asynccore\n")
    text = (Path(SITE) / "pyproject.toml").read_text()
    assert 'pytest_asynccore = "pytest_asynccore"' in text
    entry = "[pytest11]\npytest_asynccore = pytest_asynccore\n"
    (info / "entry_points.txt").write_text(entry)
    (info / "RECORD").write_text(
        "asynccore/__init__.py,,\npytest_asynccore.py,,\nasynccore/_loop.py,,\n"
    )
    folder.write("test_it.py", f"LOOP = 'asynccore'\n{PLAIN}")
    main = "import asynccore, sys, pytest; sys.exit(pytest.main())"
    command = [sys.executable, "-c", main, "-W", "error", "-q"]
    command += ["-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:anyio"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder.path), SITE])}
    for words in (["--asynccore"], ["--asynccore", "-p", "pytest_asynccore"]):
        done = subprocess.run(
            [*command, *words],
            cwd=folder.path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "5 passed" in done.stdout


LOOPS = ("asyncio", "asynccore")


def need_factories() -> None:
    plugin = pytest.importorskip("pytest_asyncio.plugin")
    if not hasattr(plugin, "PytestAsyncioSpecs"):
        pytest.skip("this pytest-asyncio has no pytest_asyncio_loop_factories")
