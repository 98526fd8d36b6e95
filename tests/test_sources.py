"""What must hold of the C sources and of the built module, read from them."""

from __future__ import annotations

import functools
import itertools
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CSRC = ROOT / "csrc"

# A layer includes itself and those below it.
LAYERS = {
    "core": {"core"},
    "loop": {"core", "loop"},
    "io": {"core", "loop", "io"},
    "stream": {"core", "loop", "stream"},
    "sock": {"core", "loop", "io", "sock"},
    "datagram": {"core", "loop", "datagram"},
    "reader": {"core", "loop", "stream", "reader"},
    "tls": {"core", "loop", "stream", "tls"},
}

pytestmark = pytest.mark.skipif(
    not CSRC.is_dir(), reason="the sources are not beside the tests"
)


def sources():
    return sorted(path for path in CSRC.rglob("*") if path.suffix in (".c", ".h"))


def each_source():
    return pytest.mark.parametrize(
        "path", sources(), ids=lambda path: str(path.relative_to(CSRC))
    )


@functools.cache
def code_of(path):
    """The text without comments and without the contents of strings."""
    text = path.read_text()
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match):
        if match[0].startswith("/"):
            return re.sub(r"[^\n]", " ", match[0])
        return match[0]

    return re.sub(pattern, blank, text, flags=re.DOTALL)


def includes(path):
    return re.findall(r'^\s*#\s*include\s+(["<])([^">]+)[">]', code_of(path), re.M)


def layer_of(path):
    parts = path.relative_to(CSRC).parts
    return parts[0] if len(parts) > 1 else None


def test_layers_are_known():
    assert {layer_of(path) for path in sources()} - {None} <= LAYERS.keys()
    assert len(sources()) > 20


@each_source()
def test_include_direction(path):
    layer = layer_of(path)
    if layer is None:
        assert path.name == "module.c"
        return
    own = [name for quote, name in includes(path) if quote == '"']
    for name in own:
        assert "/" in name, f"{name}: with its folder, please"
        assert name.split("/")[0] in LAYERS[layer]
        assert (CSRC / name).is_file()


@each_source()
def test_no_source_is_included(path):
    assert [name for _, name in includes(path) if not name.endswith(".h")] == []


@each_source()
def test_python_h_comes_first(path):
    found = [name for _, name in includes(path)]
    if path == CSRC / "core" / "python.h":
        assert "Python.h" in found
        return
    assert "Python.h" not in found
    if path.suffix == ".c":
        assert found[0] == "core/python.h"


@each_source()
def test_no_internal_headers(path):
    assert [name for _, name in includes(path) if "internal" in name] == []


@each_source()
def test_versions_are_told_apart_in_one_header(path):
    if path == CSRC / "core" / "python.h":
        return
    assert "PY_VERSION_HEX" not in code_of(path)
    assert "PY_MAJOR_VERSION" not in code_of(path)


@each_source()
def test_thread_state_calls(path):
    assert "PyGILState_" not in code_of(path)
    waits = ("poller.c", "flood.c", "owner.c")
    if path not in [CSRC / "loop" / name for name in waits]:
        # only the poll lets go of the thread state, and a thread that waits for another
        assert "Py_BEGIN_ALLOW_THREADS" not in code_of(path)
        assert "PyEval_SaveThread" not in code_of(path)


@each_source()
def test_guards(path):
    if path.suffix == ".h":
        guard = f"AC_{path.stem.upper()}_H"
        code = code_of(path)
        assert re.search(rf"^#ifndef {guard}\n#define {guard}$", code, re.M)
        assert code.rstrip().endswith("#endif")


def test_guards_are_unique():
    stems = [path.stem for path in sources() if path.suffix == ".h"]
    assert len(stems) == len(set(stems))


@each_source()
def test_no_macro_hides_a_jump(path):
    code = code_of(path).replace("\\\n", " ")
    macros = re.findall(r"^#\s*define\s+(\w+)\(.*$", code, re.M)
    bodies = re.findall(r"^#\s*define\s+\w+\([^)]*\)(.*)$", code, re.M)
    undefined = set(re.findall(r"^#\s*undef\s+(\w+)", code, re.M))
    for macro, body in itertools.zip_longest(macros, bodies):
        if macro not in undefined:
            assert not re.search(r"\b(return|goto)\b", body or ""), macro


@each_source()
def test_no_crash_by_design(path):
    code = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', code_of(path))
    for word in ("abort(", "Py_FatalError", "exit(", "printf(", "alloca("):
        assert not re.search(r"(?<![\w])" + re.escape(word), code), word


@each_source()
def test_pipes_are_made_in_one_place(path):
    """So that no child inherits one that another thread has just made."""
    made = re.search(r"(?<![\w>.])pipe2?\(", code_of(path)) is not None
    assert made == (path.name == "selfpipe.c")


@each_source()
def test_functions_fit_on_a_screen(path):
    bodies = re.findall(r"^(\w+)\([^;]*?\)\n\{\n(.*?)^\}", code_of(path), re.M | re.S)
    long = [name for name, body in bodies if body.count("\n") > 60]
    assert long == []


def test_interned_names_are_used():
    text = "\n".join(map(code_of, sources()))
    names = re.findall(
        r"^    X\((\w+)\) *\\?$", code_of(CSRC / "core" / "state.h"), re.M
    )
    assert len(names) > 50
    assert [name for name in names if not re.search(rf"\bstr_{name}\b", text)] == []


@each_source()
def test_headers_declare_what_others_use(path):
    if path.suffix != ".h":
        return
    code = code_of(path)
    text = "\n".join(
        code_of(other) for other in sources() if other.with_suffix(".h") != path
    )
    for name in re.findall(r"^(ac_\w+)\(", code, re.M):
        used = rf"\b{name}\b"
        # by an inline function of the header itself, at least
        assert re.search(used, text) or len(re.findall(used, code)) > 1, name


# -- the built module


@pytest.fixture(scope="module")
def module():
    """The path of the extension module that the tests run on."""
    from asynccore import _core

    return _core.__file__


def nm(*options):
    """What nm prints; it comes with the compiler."""
    program = shutil.which("nm")
    if program is None:
        pytest.skip("nm (binutils) is not installed")
    done = subprocess.run(
        [program, *options], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def objects(path):
    """(name, section) of each variable."""
    found = []
    for line in nm("--format=sysv", path):
        columns = [column.strip() for column in line.split("|")]
        if len(columns) == 7 and columns[3] == "OBJECT":
            found.append((columns[0], columns[6]))
    if not found:
        pytest.skip("the module is stripped: it has no symbols to read")
    return found


def test_only_the_init_function_is_exported(module):
    names = {line.split()[-1] for line in nm("-D", "--defined-only", module)}
    ours = {name for name in names if not name.startswith(("_init", "_fini", "__"))}
    assert ours - {"_edata", "_end", "_bss_start"} == {"PyInit__core"}


# Tables that CPython's API wants writable.
TABLES = re.compile(
    r".*(_methods|_method|_getset|_members|_slots|_spec|_functions|_module|_def|_list"
    r"|_kwlist|names|_doc)(\.\d+)?$|.*module.*"
)
TOOLCHAIN = re.compile(
    r"^(_|completed\.|data_start|force_to_data|__|frame_dummy|deregister)|.*asan.*|.*gcov.*"
)


def test_no_writable_data(module):
    # .data.rel.ro is written by the dynamic linker only
    strange = [
        name
        for name, section in objects(module)
        if section in (".data", ".tdata") and not TABLES.match(name)
    ]
    assert [name for name in strange if not TOOLCHAIN.match(name)] == []


def test_no_zeroed_data(module):
    # .bss is where forgotten globals land
    found = [name for name, section in objects(module) if section in (".bss", ".tbss")]
    assert [name for name in found if not TOOLCHAIN.match(name)] == []


@each_source()
def test_static_data_is_constant(path):
    # tables of CPython's API apart, every static object is const
    wanted = r"Py(MethodDef|GetSetDef|MemberDef|ModuleDef|ModuleDef_Slot|Type_Slot"
    wanted += r"|Type_Spec|StructSequence_\w+)\b"
    for match in re.finditer(
        r"^static\s+([^;{}()=]+?)(\[\w*\])?\s*(=|;)", code_of(path), re.M
    ):
        declaration = " ".join(match[1].split())
        if not re.search(wanted, declaration) and "inline" not in declaration:
            assert "const" in declaration, declaration
