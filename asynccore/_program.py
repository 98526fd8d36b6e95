"""Runs any program on asynccore: `python -m asynccore script.py args...`.

The interpreter is started anew in the same process (exec) with the command line that
the program has without us. What differs is the environment: `_start`, which holds a
sitecustomize.py, leads PYTHONPATH, and the variable ASYNCCORE asks that module to
replace asyncio's default loop when asyncio is imported. So the program's `sys.argv`,
`sys.path`, `sys.flags`, `__main__`, tracebacks and exit status are Python's own, and
the Pythons that it spawns inherit all this.

ASYNCCORE   1         replace the default loop
            uvloop    likewise, and be what `import uvloop` finds
            0         do not: the program runs as it does without us

Python does not read PYTHONPATH under -E, -I and -S; and a debugger or profiler that
runs us as its program would be lost by an exec. Then the program is run in this
interpreter, as runpy does: on asynccore, but with our frames at the bottom of its
tracebacks.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple, NoReturn

from ._default import replace_default_loop

VARIABLE = "ASYNCCORE"
START = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_start")

USAGE = """\
usage: python -m asynccore [--as-uvloop] SCRIPT | - [ARGUMENT...]
       python -m asynccore [--as-uvloop] -m MODULE [ARGUMENT...]
       python -m asynccore [--as-uvloop] -c CODE [ARGUMENT...]
       python -m asynccore --version
"""

HELP = (
    USAGE
    + """
Runs a program, and the Python processes that it starts, on asynccore: wherever it uses
asyncio's default loop it gets asynccore's. A loop factory or a policy of its own stays.

  --as-uvloop  be what `import uvloop` finds, for programs that insist on uvloop
  --version    tell the versions and how asynccore works here
  --help       tell this

With ASYNCCORE=0 in the environment a program, or a child of it, runs without asynccore.
"""
)


class Program(NamedTuple):
    """A program as on Python's command line."""

    kind: str  # "-m", "-c", "-" or "" for a script
    name: str  # the module, the code, "-" or the script
    arguments: list[str]

    def words(self) -> list[str]:
        kind = [self.kind] if self.kind in ("-m", "-c") else []
        return [*kind, self.name, *self.arguments]


def main(arguments: list[str]) -> int:
    """Run the program that `arguments` name; returns, if at all, an exit status."""
    as_uvloop = False
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "--as-uvloop":
            as_uvloop = True
        elif option in ("--version", "-V"):
            from ._config import show_config

            show_config()
            return 0
        elif option in ("--help", "-h"):
            print(HELP, end="")
            return 0
        elif option[:2] in ("-m", "-c"):
            kind, value = option[:2], option[2:]
            words = [value, *rest] if value else rest
            if not words:
                return fail(f"argument expected for the {kind} option")
            return start(Program(kind, words[0], words[1:]), as_uvloop)
        elif option == "-":
            return start(Program("-", "-", rest), as_uvloop)
        else:
            return fail(f"unknown option {option}")
    if not rest:
        return fail("no program given")
    return start(Program("", rest[0], rest[1:]), as_uvloop)


def fail(message: str) -> int:
    print(f"asynccore: {message}\n{USAGE}", end="", file=sys.stderr)
    return 2


def start(program: Program, as_uvloop: bool) -> int:
    wanted = os.environ.get(VARIABLE, "1")
    if wanted not in ("0", "1", "uvloop"):
        return fail(f"{VARIABLE} must be 0, 1 or uvloop, not {wanted!r}")
    if wanted != "0":
        wanted = "uvloop" if as_uvloop else wanted
        paths = os.environ.get("PYTHONPATH", "")
        if paths.split(os.pathsep)[0] != START:
            os.environ["PYTHONPATH"] = f"{START}{os.pathsep}{paths}" if paths else START
        os.environ[VARIABLE] = wanted
    options = interpreter_options()
    hooked = not (sys.flags.ignore_environment or sys.flags.no_site)
    if options is None or not sys.executable or not (hooked or wanted == "0"):
        run_here(program, wanted)
        return 0
    return run_anew(options, program)


def run_anew(options: list[str], program: Program) -> NoReturn:
    command = [sys.executable, *options, *program.words()]
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.execv(sys.executable, command)


def interpreter_options() -> list[str] | None:
    """Python's own options on our command line; None if it was not Python that ran us.

    That is when a program such as pdb or coverage did, given us as its program.
    """
    words = iter(sys.orig_argv[1:])
    options: list[str] = []
    for word in words:
        if not word.startswith("-") or word == "-":
            return None
        if word == "--check-hash-based-pycs":
            options += [word, next(words, "")]
            continue
        letters = "" if word.startswith("--") else word
        # of several letters in a word only the last takes a value
        at = next((i for i, letter in enumerate(letters) if letter in "cmWX"), None)
        if at is None:
            options.append(word)
            continue
        value = word[at + 1 :]
        if letters[at] in "WX":
            options += [word] if value else [word, next(words, "")]
            continue
        ours = (value or next(words, "")) in ("asynccore", "asynccore.__main__")
        if letters[at] == "c" or not ours:
            return None
        return options if at == 1 else [*options, word[:at]]
    return None


def run_here(program: Program, wanted: str) -> None:
    import runpy
    from types import ModuleType

    if wanted != "0":
        replace_default_loop()
        if wanted == "uvloop":
            from ._start.sitecustomize import Finder

            sys.meta_path.insert(0, Finder(None, True))
    safe_path: bool = sys.flags.safe_path
    sys.argv = [program.kind or program.name, *program.arguments]
    if program.kind == "-m":
        runpy.run_module(program.name, run_name="__main__", alter_sys=True)
    elif program.kind:
        if not safe_path:
            sys.path[0] = ""
        code = program.name if program.kind == "-c" else sys.stdin.read()
        name = "<string>" if program.kind == "-c" else "<stdin>"
        module = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(code, name, "exec"), module.__dict__)
    else:
        if not safe_path:
            sys.path[0] = os.path.dirname(os.path.realpath(program.name))
        runpy.run_path(program.name, run_name="__main__")
