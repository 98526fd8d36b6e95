"""What `python -m asynccore` starts in the program and in its Python children.

Its folder is at the head of PYTHONPATH, so that every interpreter imports this module
as it starts: also one that has no asynccore, or is of another version. There, and where
the variable ASYNCCORE does not ask for it, nothing happens. Otherwise asyncio's default
loop is replaced when the program imports asyncio, not before: a child without asyncio
pays next to nothing.
"""

import os
import sys

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader as AnyLoader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

FOLDER = os.path.dirname(__file__)
PACKAGE = os.path.dirname(FOLDER)


class Finder:
    """Finds asyncio, to replace its default loop, and perhaps uvloop, to be it."""

    def __init__(self, site: "str | None", as_uvloop: bool) -> None:
        self.site = site  # where asynccore is, or None: wherever this Python finds it
        self.as_uvloop = as_uvloop

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None" = None,
        target: "ModuleType | None" = None,
    ) -> "ModuleSpec | None":
        if name == "asyncio":
            return self.find_asyncio(path, target)
        if name == "asynccore" and self.site is not None:
            from importlib.machinery import PathFinder

            return PathFinder.find_spec(name, [self.site], target)
        if name == "uvloop" and self.as_uvloop:
            from importlib.util import spec_from_file_location

            return spec_from_file_location(name, os.path.join(PACKAGE, "_uvloop.py"))
        return None

    def find_asyncio(
        self, path: "Sequence[str] | None", target: "ModuleType | None"
    ) -> "ModuleSpec | None":
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec("asyncio", path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = Loader(spec.loader)  # type: ignore[assignment]
                    return spec
        return None


class Loader:
    """Loads asyncio as `loader` does, then replaces its default loop."""

    def __init__(self, loader: "AnyLoader") -> None:
        self.loader = loader

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        return self.loader.create_module(spec)

    def exec_module(self, module: "ModuleType") -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        vars(module)["__loader__"] = self.loader  # checkers differ on its type
        self.loader.exec_module(module)
        replace()

    def __getattr__(self, name: str) -> object:
        return getattr(self.loader, name)  # for who asks a loader for the source


def replace() -> None:
    try:
        from asynccore._default import replace_default_loop
    except ImportError as error:
        if error.name != "asynccore":
            # also a subinterpreter that can not load the extension
            import warnings

            text = "asynccore can not run this program, the standard loop does: %s"
            warnings.warn(text % error, RuntimeWarning, stacklevel=2)
    else:
        replace_default_loop()


def loads_here() -> bool:
    """Whether the C module beside this file is one of this very Python's."""
    from _imp import extension_suffixes

    module = os.path.join(PACKAGE, "_core")
    return any(os.path.exists(module + suffix) for suffix in extension_suffixes())


def start() -> None:
    # The program is to see the path, and the sitecustomize, that it has without us.
    sys.path[:] = [entry for entry in sys.path if entry != FOLDER]
    del sys.modules[__name__]
    wanted = os.environ.get("ASYNCCORE")
    if wanted in ("1", "uvloop") and sys.version_info >= (3, 11):
        site = os.path.dirname(PACKAGE) if loads_here() else None
        sys.meta_path.insert(0, Finder(site, wanted == "uvloop"))
        if "asyncio" in sys.modules:
            replace()
    __import__("sitecustomize")  # the next one, if there is one


if __name__ == "sitecustomize":
    start()
