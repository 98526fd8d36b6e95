"""`python -m asynccore`: any program runs on our loop and sees no other difference.

Each program here runs as a real process. What must not differ is compared with what
plain Python does with the same words: standard output, standard error and exit status.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

import asynccore
from support.children import SITE

START = os.path.join(os.path.dirname(os.path.abspath(asynccore.__file__)), "_start")
OURS = ("-m", "asynccore")
LIMIT = 50.0

Done = subprocess.CompletedProcess[str]

# whose loop runs: "asynccore", "asyncio" or another module's
WHOSE = """
def whose(loop):
    return type(loop).__module__.partition(".")[0]
"""


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment with asynccore importable, and `changes`."""
    found = {**os.environ, "PYTHONPATH": SITE, **changes}
    return {name: value for name, value in found.items() if value is not None}


def python(*words: str | Path, input: str | None = None, **env: str | None) -> Done:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(
        command,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env=environment(**env),
    )


def out(done: Done) -> str:
    """What a program printed that was to end well and say nothing else."""
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.strip()


def same(
    *words: str | Path, options: tuple[str, ...] = (), input: str | None = None
) -> Done:
    """Runs a program with and without us, and returns what both of them did."""
    plain = python(*options, *words, input=input)
    ours = python(*options, *OURS, *words, input=input)
    assert ours.stdout == plain.stdout
    assert ours.stderr == plain.stderr
    assert ours.returncode == plain.returncode
    return ours


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder for the programs of a test."""
    for name in ("ASYNCCORE", "PYTHONSAFEPATH", "PYTHONHOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, code: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(code))
    return path


# Everything that a program can see of how it was started.
LOOK = """
import sys
main = sys.modules["__main__"]
print(sys.argv, sys.orig_argv, sys.path, sys.flags, sys.warnoptions, sys._xoptions)
print(__name__, __package__, __spec__ and __spec__.name, globals().get("__file__"))
print(sorted(globals()), vars(main) is globals(), "sitecustomize" in sys.modules)
import os, traceback, asyncio
traceback.print_stack()
print(asyncio.__spec__.origin, type(asyncio.__loader__), type(asyncio.__spec__.loader))
print(sys.stdin.read())
raise ValueError("at the end")
"""


class TestSeen:
    """What the program sees is what it sees without us."""

    @pytest.mark.parametrize(
        "options",
        [
            (),
            ("-X", "dev", "-W", "error", "-Wignore::ImportWarning"),
            ("-OuB",),
            ("-P", "-Xutf8", "-s"),
            ("--check-hash-based-pycs", "always", "-q"),
        ],
        ids=" ".join,
    )
    def test_script(self, here: Path, options: tuple[str, ...]) -> None:
        program = write(here / "folder" / "look.py", LOOK)
        ours = same(program, "-a", "b c", "", "--version", options=options, input="in")
        assert ours.returncode == 1
        assert "ValueError: at the end" in ours.stderr

    def test_script_beside(self, here: Path) -> None:
        write(here / "look.py", LOOK)
        same("look.py", input="in")

    def test_module(self, here: Path) -> None:
        write(here / "pkg" / "__init__.py", "")
        write(here / "pkg" / "look.py", LOOK)
        write(here / "pkg" / "__main__.py", LOOK)
        same("-m", "pkg.look", "-m", "x", input="in")
        same("-m", "pkg", "x", input="in")

    def test_code(self) -> None:
        same("-c", LOOK, "-c", "x", input="in")

    def test_in_one_word(self, here: Path) -> None:
        code = LOOK.replace("sys.orig_argv, ", "")
        write(here / "look.py", code)
        same(f"-c{code}", "-c", "x", input="in")
        same("-mlook", "-m", "x", input="in")

    def test_standard_input(self) -> None:
        same("-", "-a", input=LOOK.replace("sys.stdin.read()", "0"))

    def test_folder_and_zip(self, here: Path) -> None:
        program = write(here / "folder" / "__main__.py", LOOK)
        same("folder", "x", input="in")
        with zipfile.ZipFile("packed.zip", "w") as archive:
            archive.write(program, "__main__.py")
        same("packed.zip", "x", input="in")

    def test_missing(self) -> None:
        assert same("none.py").returncode == 2
        assert same("-m", "none").returncode == 1
        assert same("-m", "json").returncode == 1

    def test_syntax_error(self, here: Path) -> None:
        same(write(here / "program.py", "print('x')\nx = = 2\n"))

    def test_error_in_coroutine(self, here: Path) -> None:
        program = """
            import asyncio
            async def main():
                try:
                    {}["x"]
                except KeyError as error:
                    raise ValueError("text") from error
            main()
            asyncio.new_event_loop().close()
            raise RuntimeError("last")
            """
        same(write(here / "program.py", program))

    def test_no_frame_of_ours(self, here: Path) -> None:
        program = """
            import asyncio
            async def main():
                1 / 0
            asyncio.run(main())
            """
        done = python(*OURS, write(here / "program.py", program))
        assert done.stderr.splitlines()[1].startswith(f'  File "{here}/program.py"')
        assert done.stderr.count("asynccore") == done.stderr.count("asynccore/_loop.py")
        assert done.returncode == 1

    def test_interactive(self) -> None:
        done = python("-i", "-q", *OURS, "-c", "x = 6", input="print(x * 7)\n")
        assert done.stdout == "42\n"

    @pytest.mark.parametrize("words", [("-masynccore",), ("-Bm", "asynccore")])
    def test_options_in_one_word(self, words: tuple[str, ...]) -> None:
        code = "import sys; print(sys.argv, sys.orig_argv[1:])"
        rest = [*(["-B"] if "B" in words[0] else []), "-c", code, "x"]
        assert out(python(*words, "-c", code, "x")) == f"['-c', 'x'] {rest}"

    def test_process_stays(self, here: Path) -> None:
        program = write(here / "program.py", "import os; print(os.getpid())")
        command = [sys.executable, *OURS, str(program)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment()
        ) as process:
            assert process.stdout is not None
            assert int(process.stdout.read()) == process.pid

    def test_pickle_of_main(self, here: Path) -> None:
        program = """
            import asyncio, pickle
            class Point: pass
            print(type(pickle.loads(pickle.dumps(Point()))) is Point)
            """
        assert out(same(write(here / "program.py", program))) == "True"


class TestEnd:
    """Exit status and last words are Python's."""

    @pytest.mark.parametrize(
        "code",
        [
            "sys.exit()",
            "sys.exit(3)",
            "sys.exit('text')",
            "sys.exit(-1)",
            "sys.exit((1, 2))",
            "raise SystemExit(None)",
            "raise KeyboardInterrupt",
            "raise ValueError('text')",
            "os._exit(7)",
            "os.abort()",
            "os.kill(os.getpid(), signal.SIGTERM)",
            "atexit.register(print, 'late'); sys.exit(4)",
            "sys.excepthook = lambda *args: print(args[:2]); 1 / 0",
            "asyncio.run(exits(5))",
            "asyncio.run(exits('text'))",
            "threading.Thread(target=lambda: 1 / 0).start()",
        ],
    )
    def test_same(self, here: Path, code: str) -> None:
        start = """
            import asyncio, atexit, os, signal, sys, threading
            async def exits(code):
                sys.exit(code)
            """
        program = write(here / "program.py", dedent(start) + code + "\n")
        plain, ours = python(program), python(*OURS, program)
        assert ours.returncode == plain.returncode
        assert ours.stdout == plain.stdout
        if "thread" not in code:  # its traceback names the id of the thread's function
            assert ours.stderr == plain.stderr

    def test_interrupt(self, here: Path) -> None:
        program = """
            import asyncio
            async def main():
                print("ready", flush=True)
                try:
                    await asyncio.Event().wait()
                finally:
                    print("cleaned", flush=True)
            asyncio.run(main())
            """
        write(here / "program.py", program)
        for words in ([], OURS):
            with subprocess.Popen(
                [sys.executable, *words, "program.py"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
            ) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                process.send_signal(signal.SIGINT)
                stdout, stderr = process.communicate(timeout=LIMIT)
            assert process.returncode == -signal.SIGINT
            assert stdout == "cleaned\n"
            assert stderr.splitlines()[-1] == "KeyboardInterrupt"


MAKES = {
    "run": "asyncio.run(main())",
    "run_debug": "asyncio.run(main(), debug=True)",
    "runner": """
with asyncio.Runner() as runner:
    runner.run(main())
""",
    "new_event_loop": """
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
""",
    "get_event_loop": """
try:
    loop = asyncio.get_event_loop()
except RuntimeError:  # 3.14 and later: none is made
    loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
""",
    "policy": """
loop = asyncio.get_event_loop_policy().new_event_loop()
loop.run_until_complete(main())
loop.close()
""",
    "own_policy": """
class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return super().new_event_loop()
asyncio.set_event_loop_policy(Policy())
asyncio.run(main())
""",
    "selector_loop": """
loop = asyncio.SelectorEventLoop()
loop.run_until_complete(main())
loop.close()
""",
    "selector_loop_from": """
from asyncio.unix_events import SelectorEventLoop
loop = SelectorEventLoop()
loop.run_until_complete(main())
loop.close()
""",
    "event_loop": """
loop = getattr(asyncio, "EventLoop", asyncio.SelectorEventLoop)()
loop.run_until_complete(main())
loop.close()
""",
    "factory_named": """
with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
    runner.run(main())
""",
    "thread": """
import threading
def target():
    asyncio.run(main())
thread = threading.Thread(target=target)
thread.start()
thread.join()
""",
    "submodule_first": "asyncio.run(main())",
}

MAIN = """
async def main():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert issubclass(type(loop), asyncio.SelectorEventLoop)
    assert isinstance(loop, asyncio.AbstractEventLoop)
    print(whose(loop))
"""


OWN = {
    "factory": """
from asyncio.unix_events import _UnixSelectorEventLoop
class Own(_UnixSelectorEventLoop):
    pass
with asyncio.Runner(loop_factory=Own) as runner:
    runner.run(main())
""",
    "policy": """
from asyncio.unix_events import _UnixSelectorEventLoop
class Own(_UnixSelectorEventLoop):
    pass
class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = Own
asyncio.set_event_loop_policy(Policy())
asyncio.run(main())
""",
    "subclass": """
class Own(asyncio.SelectorEventLoop):
    def __init__(self):
        super().__init__(selectors.SelectSelector())
        assert type(self._selector) is selectors.SelectSelector
with asyncio.Runner(loop_factory=Own) as runner:
    runner.run(main())
""",
    "subclass_abc": """
class Other(abc.ABC):
    def __init_subclass__(cls, tag):
        cls.tag = tag
class Own(Other, asyncio.SelectorEventLoop, tag=5):
    def run_forever(self):
        return super().run_forever()
assert Own.tag == 5 and type(Own) is abc.ABCMeta
with asyncio.Runner(loop_factory=Own) as runner:
    runner.run(main())
""",
    "selector": """
loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
assert type(loop._selector) is selectors.SelectSelector
loop.run_until_complete(main())
loop.close()
""",
}


class TestLoops:
    """Every way to make the default loop makes ours, and no other way does."""

    @pytest.mark.parametrize("way", MAKES)
    def test_default(self, here: Path, way: str) -> None:
        first = "import asyncio.events\n" if way == "submodule_first" else ""
        code = f"{first}import asyncio\n{WHOSE}{MAIN}{MAKES[way]}"
        program = write(here / "program.py", code)
        ignore = ("-W", "ignore::DeprecationWarning")
        assert out(python(*ignore, *OURS, program)) == "asynccore"

    @pytest.mark.parametrize("way", OWN)
    def test_own(self, here: Path, way: str) -> None:
        code = f"import asyncio, selectors, abc\n{WHOSE}{MAIN}{OWN[way]}"
        program = write(here / "program.py", code)
        ignore = ("-W", "ignore::DeprecationWarning")
        whose = "asyncio" if way == "selector" else "__main__"
        assert out(python(*ignore, *OURS, program)) == whose

    def test_silent(self, here: Path) -> None:
        code = f"import asyncio\n{WHOSE}{MAIN}asyncio.run(main())"
        program = write(here / "program.py", code)
        assert out(python("-X", "dev", "-W", "error", *OURS, program)) == "asynccore"

    def test_asyncio_stays_unloaded(self) -> None:
        code = "import sys; print({'asyncio', 'asynccore', 'typing'} & {*sys.modules})"
        assert (
            out(python("-I", "-c", code)) == out(python(*OURS, "-c", code)) == "set()"
        )

    def test_spec_of_asyncio(self) -> None:
        code = """
            from importlib.util import find_spec
            spec = find_spec("asyncio")
            assert spec.loader.is_package("asyncio")
            assert "PEP 3156" in spec.loader.get_source("asyncio")
            assert not hasattr(spec.loader, "nothing")
            """
        assert out(same("-c", dedent(code))) == ""

    def test_python_m_asyncio(self) -> None:
        """The interactive asyncio of Python itself, which makes its loop by name."""
        code = "print(type(asyncio.get_running_loop()))\nexit()\n"
        done = python(*OURS, "-m", "asyncio", input=code, TERM="dumb")
        assert "asynccore._loop.Loop" in done.stdout

    def test_found_only_in_the_current_folder(self, here: Path) -> None:
        """A checkout that is not installed: no path of the program leads to it."""
        code = f"import asyncio\n{WHOSE}{MAIN}asyncio.run(main())"
        program = write(here / "elsewhere" / "program.py", code)
        os.chdir(SITE)
        assert out(python(*OURS, program, PYTHONPATH=None)) == "asynccore"


PRINT = f"""
import asyncio
{WHOSE}
async def main():
    return whose(asyncio.get_running_loop())
"""


class TestChildren:
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_multiprocessing(self, here: Path, method: str) -> None:
        program = f"""
{PRINT}
import multiprocessing, os
class Point:
    def __init__(self, x):
        self.x = x
def work(pipe, point):
    pipe.send((Point(point.x + 1), asyncio.run(main()), os.getpid()))
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    mine, its = context.Pipe()
    process = context.Process(target=work, args=(its, Point(1)))
    process.start()
    point, loop, pid = mine.recv()
    process.join()
    assert pid == process.pid != os.getpid()
    print(type(point) is Point, point.x, loop, asyncio.run(main()))
"""
        done = python(
            "-W", "ignore::DeprecationWarning", *OURS, write(here / "p.py", program)
        )
        assert out(done) == "True 2 asynccore asynccore"

    def test_process_pool(self, here: Path) -> None:
        program = f"""
{PRINT}
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
def work(_):
    return asyncio.run(main())
if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        print(*pool.map(work, range(2)))
"""
        done = python(*OURS, write(here / "p.py", program))
        assert out(done) == "asynccore asynccore"

    def children(self, here: Path, environment: str) -> Done:
        write(here / "child.py", f"{PRINT}print(asyncio.run(main()), flush=True)")
        program = f"""
{PRINT}
import os, subprocess, sys
environment = {environment}
command = [sys.executable, "child.py"]
subprocess.run(command, env=environment, check=True)
async def spawn():
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    assert await process.wait() == 0
asyncio.run(spawn())
print(asyncio.run(main()))
"""
        return python(*OURS, write(here / "program.py", program))

    def test_subprocess(self, here: Path) -> None:
        assert out(self.children(here, "None")).split() == ["asynccore"] * 3

    def test_forbidden(self, here: Path) -> None:
        done = self.children(here, "{**os.environ, 'ASYNCCORE': '0'}")
        assert out(done).split() == ["asyncio", "asyncio", "asynccore"]

    def test_environment_dropped(self, here: Path) -> None:
        done = self.children(here, "{'PATH': os.environ['PATH']}")
        assert out(done).split() == ["asyncio", "asyncio", "asynccore"]

    @pytest.mark.parametrize("option", ["-I", "-E", "-S"])
    def test_isolated_child(self, here: Path, option: str) -> None:
        write(here / "child.py", f"{PRINT}print(asyncio.run(main()))")
        program = write(
            here / "program.py",
            "import subprocess, sys\n"
            f"subprocess.run([sys.executable, {option!r}, 'child.py'], check=True)",
        )
        assert out(python(*OURS, program)) == "asyncio"

    def other_python(self, here: Path) -> Path:
        """A Python of this version that has no asynccore installed."""
        venv = here / "venv"
        out(python("-m", "venv", "--without-pip", venv))
        return venv / "bin" / "python"

    def test_other_environment(self, here: Path) -> None:
        write(here / "child.py", f"{PRINT}print(asyncio.run(main()))")
        other = str(self.other_python(here))
        code = f"import subprocess; subprocess.run([{other!r}, 'child.py'])"
        assert out(python(*OURS, "-c", code)) == "asynccore"

    def child_of(self, package: Path, here: Path, *options: str) -> Done:
        """What a Python without asynccore does as a child of one that has `package`."""
        write(here / "folder" / "child.py", f"{PRINT}print(asyncio.run(main()))")
        return subprocess.run(
            [self.other_python(here), "-X", "dev", *options, "folder/child.py"],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env=environment(PYTHONPATH=str(package / "_start"), ASYNCCORE="1"),
        )

    def test_python_that_has_no_such_module(self, here: Path) -> None:
        hook = here / "asynccore" / "_start"
        hook.mkdir(parents=True)
        shutil.copy(os.path.join(START, "sitecustomize.py"), hook)
        assert out(self.child_of(hook.parent, here, "-W", "error")) == "asyncio"

    def test_python_that_can_not_load_it(self, here: Path) -> None:
        package = here / "asynccore"
        shutil.copytree(os.path.dirname(START), package)
        for module in package.glob("_core.*.so"):
            module.write_bytes(b"no library")
        done = self.child_of(package, here)
        assert (done.stdout, done.returncode) == ("asyncio\n", 0)
        assert "RuntimeWarning: asynccore can not run this program, the" in done.stderr

    def test_subinterpreter(self, here: Path) -> None:
        interpreters = pytest.importorskip("_interpreters")
        assert interpreters.create
        program = f"""
import _interpreters
inner = _interpreters.create()
_interpreters.exec(inner, {PRINT + "print(asyncio.run(main()))"!r})
_interpreters.destroy(inner)
"""
        done = python(*OURS, write(here / "program.py", program))
        assert out(done) == "asynccore"


class TestVariable:
    CODE = f"{PRINT}print(asyncio.run(main()))"

    def test_forbids(self) -> None:
        code = "import os; print(os.environ.get('PYTHONPATH'))" + self.CODE
        assert out(python(*OURS, "-c", code, ASYNCCORE="0")).split() == [
            SITE,
            "asyncio",
        ]

    def test_alone_does_nothing(self) -> None:
        assert out(python("-c", self.CODE, ASYNCCORE="1")) == "asyncio"

    def test_hook_alone_does_nothing(self) -> None:
        assert out(python("-c", self.CODE, PYTHONPATH=START)) == "asyncio"

    def test_unknown(self) -> None:
        done = python(*OURS, "-c", self.CODE, ASYNCCORE="yes")
        assert done.returncode == 2
        assert "ASYNCCORE must be 0, 1 or uvloop, not 'yes'" in done.stderr

    def test_nested(self) -> None:
        code = "import os; print(os.environ['PYTHONPATH'], os.environ['ASYNCCORE'])"
        done = python(*OURS, *OURS, "-c", code + self.CODE)
        assert out(done).split() == [os.pathsep.join([START, SITE]), "1", "asynccore"]

    def test_no_path_before(self, here: Path) -> None:
        os.chdir(SITE)
        code = "import os; print(os.environ['PYTHONPATH'])"
        assert out(python(*OURS, "-c", code, PYTHONPATH=None)) == START


class TestSitecustomize:
    """A sitecustomize of the user's own runs as it does without us."""

    def test_is_imported(self, here: Path) -> None:
        write(here / "site" / "sitecustomize.py", "import asyncio\nprint(__file__)\n")
        code = "import sitecustomize; print(sitecustomize.__file__)"
        path = os.pathsep.join([str(here / "site"), SITE])
        plain = python("-c", code, PYTHONPATH=path)
        # once in the interpreter that is asked, once in the one of the program
        ours = python(*OURS, "-c", code, PYTHONPATH=path)
        assert ours.stdout == plain.stdout.splitlines(True)[0] + plain.stdout

    def test_may_import_asyncio(self, here: Path) -> None:
        write(here / "site" / "sitecustomize.py", "import asyncio\n")
        path = os.pathsep.join([str(here / "site"), SITE])
        code = f"{PRINT}print(asyncio.run(main()))"
        assert out(python(*OURS, "-c", code, PYTHONPATH=path)) == "asynccore"

    def test_may_fail(self, here: Path) -> None:
        write(here / "site" / "sitecustomize.py", "1 / 0\n")
        path = os.pathsep.join([str(here / "site"), SITE])
        plain = python("-c", "print('x')", PYTHONPATH=path)
        ours = python(*OURS, "-c", "print('x')", PYTHONPATH=path)
        assert ours.stderr == plain.stderr * 2
        assert "ZeroDivisionError" in plain.stderr
        assert ours.stdout == plain.stdout

    def test_may_miss_a_module(self, here: Path) -> None:
        write(here / "site" / "sitecustomize.py", "import missing_module\n")
        path = os.pathsep.join([str(here / "site"), SITE])
        plain = python("-c", "print('x')", PYTHONPATH=path)
        ours = python(*OURS, "-c", "print('x')", PYTHONPATH=path)
        assert ours.stderr == plain.stderr * 2
        assert ours.stdout == plain.stdout


class TestAsUvloop:
    def test_answers(self, here: Path) -> None:
        program = f"""
import uvloop
import asyncio
import asynccore
import importlib.util
{WHOSE}{MAIN}
assert uvloop.__name__ == "uvloop" and importlib.util.find_spec("uvloop") is not None
assert uvloop.Loop is asynccore.Loop
assert tuple(map(int, uvloop.__version__.split("."))) >= (0, 20)
uvloop.run(main())
uvloop.run(main(), debug=True, loop_factory=uvloop.new_event_loop)
asyncio.run(main())
loop = uvloop.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
        done = python(
            "-W", "error", *OURS, "--as-uvloop", write(here / "p.py", program)
        )
        assert out(done).split() == ["asynccore"] * 4

    def test_run_takes_what_can_be_awaited(self, here: Path) -> None:
        program = f"""
import asyncio, uvloop
{WHOSE}{MAIN}
class Thing:
    def __await__(self):
        return main().__await__()
uvloop.run(Thing())
async def inside():
    coro = main()
    try:
        uvloop.run(coro)
    finally:
        coro.close()
try:
    uvloop.run(inside())
except RuntimeError as exc:
    print(exc)
"""
        strict = ("-W", "error")
        done = python(*strict, *OURS, "--as-uvloop", write(here / "p.py", program))
        error = "asyncio.run() cannot be called from a running event loop"
        assert out(done).splitlines() == ["asynccore", error]

    def test_classes(self, here: Path) -> None:
        """Programs compare with those of the extension module."""
        program = """
import asyncio
import uvloop.loop
from uvloop.loop import SSLProtocol, TCPTransport, UDPTransport, UnixTransport
loop = uvloop.loop

async def main():
    running = asyncio.get_running_loop()
    assert isinstance(running, loop.Loop)
    assert isinstance(running.call_soon(int), loop.Handle)
    assert isinstance(running.call_later(0, int), loop.TimerHandle)
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    assert isinstance(server, loop.Server)
    async with server:
        name = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*name)
        assert isinstance(writer.transport, TCPTransport)
        assert isinstance(writer.transport, UnixTransport)
        writer.close()
        await writer.wait_closed()
    udp, _ = await running.create_datagram_endpoint(
        asyncio.DatagramProtocol, ("127.0.0.1", 0)
    )
    assert isinstance(udp, UDPTransport)
    udp.close()

uvloop.run(main())
assert issubclass(SSLProtocol, asyncio.BufferedProtocol)
print("ok")
"""
        assert (
            out(
                python(
                    "-W", "error", *OURS, "--as-uvloop", write(here / "p.py", program)
                )
            )
            == "ok"
        )

    @pytest.mark.skipif(sys.version_info >= (3, 16), reason="Python has no policies")
    def test_policy(self, here: Path) -> None:
        program = f"""
import asyncio, uvloop
{WHOSE}{MAIN}
uvloop.install()
asyncio.run(main())
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
asyncio.run(main())
"""
        ignore = ("-W", "ignore::DeprecationWarning")
        done = python(*ignore, *OURS, "--as-uvloop", write(here / "p.py", program))
        assert out(done).split() == ["asynccore"] * 2

    def test_children(self, here: Path) -> None:
        child = f"import uvloop\n{PRINT}print(uvloop.run(main()))"
        code = (
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
        )
        assert out(python(*OURS, "--as-uvloop", "-c", code)) == "asynccore"

    def test_not_otherwise(self) -> None:
        code = "import importlib.util; print(importlib.util.find_spec('uvloop'))"
        assert "_uvloop" not in out(python(*OURS, "-c", code))


class TestInThisInterpreter:
    """Where Python reads no environment, or where a tool runs us as its program."""

    CODE = f"{PRINT}import sys\nprint(asyncio.run(main()), sys.argv, __name__)"

    @pytest.fixture(params=["-S", "-E", "-I"])
    def option(self, request: pytest.FixtureRequest) -> str:
        """An option with which Python does not import our sitecustomize."""
        option: str = request.param
        if option != "-S":
            done = python(option, "-c", "import sys; del sys.path[0]; import asynccore")
            if done.returncode != 0:
                pytest.skip("asynccore is not installed in this Python")
        return option

    def test_runs(self, here: Path, option: str) -> None:
        program = write(here / "program.py", self.CODE)
        done = python(option, *OURS, program, "x")
        assert out(done) == f"asynccore {[str(program), 'x']} __main__"
        done = python(option, *OURS, "-c", self.CODE, "x")
        assert out(done) == "asynccore ['-c', 'x'] __main__"
        done = python(option, *OURS, "-", "x", input=self.CODE)
        assert out(done) == "asynccore ['-', 'x'] __main__"

    def test_forbidden(self, option: str) -> None:
        done = python(option, *OURS, "-c", self.CODE, "x", ASYNCCORE="0")
        assert out(done) == "asyncio ['-c', 'x'] __main__"

    def test_status(self, option: str) -> None:
        assert python(option, *OURS, "-c", "import sys; sys.exit(3)").returncode == 3
        done = python(option, *OURS, "-c", "1 / 0")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("ZeroDivisionError")

    def test_as_uvloop(self, option: str) -> None:
        code = f"import uvloop\n{PRINT}print(uvloop.run(main()), uvloop.__name__)"
        done = python(option, *OURS, "--as-uvloop", "-c", code)
        assert out(done) == "asynccore uvloop"


class TestUnderTools:
    CODE = TestInThisInterpreter.CODE

    def test_profiler(self, here: Path) -> None:
        program = write(here / "program.py", self.CODE)
        done = python("-m", "cProfile", "-o", "profile", *OURS, program, "x")
        assert out(done) == f"asynccore {[str(program), 'x']} __main__"
        assert (here / "profile").exists()

    def test_module(self, here: Path) -> None:
        write(here / "pkg" / "__main__.py", self.CODE)
        done = python("-m", "cProfile", "-o", "profile", *OURS, "-m", "pkg", "x")
        assert (
            out(done)
            == f"asynccore {[str(here / 'pkg' / '__main__.py'), 'x']} __main__"
        )

    def test_children(self, here: Path) -> None:
        child = f"{PRINT}print(asyncio.run(main()))"
        code = (
            f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
        )
        program = write(here / "program.py", code)
        done = python("-m", "cProfile", "-o", "profile", *OURS, program)
        assert out(done) == "asynccore"

    def test_tool_inside(self, here: Path) -> None:
        program = write(here / "program.py", self.CODE)
        done = python(*OURS, "-m", "cProfile", "-o", "profile", program, "x")
        assert out(done) == f"asynccore {[str(program), 'x']} __main__"


class TestCommandLine:
    def test_version(self) -> None:
        text = out(python(*OURS, "--version"))
        first = text.splitlines()[0].split()
        assert first == ["asynccore", asynccore.__version__]
        assert "libuv running" in text

    def test_help(self) -> None:
        text = out(python(*OURS, "--help"))
        assert text.startswith("usage: python -m asynccore")
        assert "ASYNCCORE=0" in text

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ((), "no program given"),
            (("--as-uvloop",), "no program given"),
            (("-m",), "argument expected for the -m option"),
            (("-c",), "argument expected for the -c option"),
            (("--nonsense", "x.py"), "unknown option --nonsense"),
            (("-x", "x.py"), "unknown option -x"),
        ],
    )
    def test_wrong(self, words: tuple[str, ...], says: str) -> None:
        done = python(*OURS, *words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"asynccore: {says}\nusage: python -m asynccore")
        assert done.stdout == ""


APP = f"""
import asyncio, os
{WHOSE}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        # in one piece: workers share the pipe, and may write unbuffered
        line = f"started {{os.getpid()}} {{whose(asyncio.get_running_loop())}}\\n"
        print(line, end="", flush=True)
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
    else:
        body = whose(asyncio.get_running_loop()).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": body}})
"""


@contextmanager
def uvicorn(
    *words: str, options: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *OURS, *options, "-m", "uvicorn", "app:app"]
    command += ["--uds", "socket", "--log-level", "warning", *words]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(LIMIT / 5)
            except BaseException:
                process.kill()
                raise
            # a supervisor ends with its signal, and all its workers end with it
            assert process.stdout is not None
            process.stdout.read()


def started(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The next worker that starts: its process and whose loop it runs on."""
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("started "))
    _, pid, whose = line.split()
    return int(pid), whose


def ask() -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT)
        client.connect("socket")
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    return body.decode()


class TestUvicorn:
    @pytest.fixture(autouse=True)
    def app(self, here: Path) -> Path:
        pytest.importorskip("uvicorn")
        return write(here / "app.py", APP)

    def test_loop_asyncio(self) -> None:
        with uvicorn("--loop", "asyncio") as process:
            assert started(process) == (process.pid, "asynccore")

    def test_loop_uvloop(self) -> None:
        with uvicorn("--loop", "uvloop", options=("--as-uvloop",)) as process:
            assert started(process) == (process.pid, "asynccore")

    def test_answers(self) -> None:
        with uvicorn("--loop", "asyncio", "--log-level", "info") as process:
            assert process.stdout is not None
            assert any("Uvicorn running on" in line for line in process.stdout)
            assert ask() == "asynccore"

    def test_workers(self) -> None:
        with uvicorn("--loop", "asyncio", "--workers", "2") as process:
            workers = [started(process), started(process)]
            assert [whose for _, whose in workers] == ["asynccore"] * 2
            assert len({process.pid, *(pid for pid, _ in workers)}) == 3

    def test_reload(self, app: Path) -> None:
        with uvicorn("--loop", "asyncio", "--reload") as process:
            first, whose = started(process)
            assert whose == "asynccore"
            assert process.stdout is not None
            time = os.stat(app).st_mtime_ns
            # the supervisor compares with what its first look finds, some time after
            while not select.select([process.stdout], [], [], 0.2)[0]:
                time += 1_000_000_000
                os.utime(app, ns=(time, time))
            second, whose = started(process)
            assert whose == "asynccore"
            assert first != second
