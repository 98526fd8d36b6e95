"""pytest's plug-in: async tests on asynccore, or on several loops in turn.

--asynccore          asyncio's default loop is asynccore's in the whole run, and so is
                     a loop that pytest-asyncio or anyio's plug-in were told to use;
                     test ids stay
--asynccore-loops=A,B
                     every async test runs once on each of these loops:
                     `test_x[asyncio]`, `test_x[asynccore]`

Where no plug-in for async tests is loaded, coroutine functions are run from here.

Without these options nothing happens. This module is outside of the package because
pytest imports it in every run: the package would load the extension.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Mapping
    from typing import Any

    Factory = Callable[[], asyncio.AbstractEventLoop]

LOOP = "_asynccore_loop"  # the fixture that is a test's loop
POLICY = "event_loop_policy"  # pytest-asyncio's fixture, the only way before 1.4
BACKEND = "anyio_backend"
OURS = "asynccore"

# Plug-ins that run coroutine functions without telling by an option or a marker.
OTHERS = ("trio", "tornado", "tornasync", "twisted", "curio", "alt_pytest_asyncio")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("asynccore")
    group.addoption(
        "--asynccore",
        action="store_true",
        default=False,
        help="run all async tests on asynccore",
    )
    group.addoption(
        "--asynccore-loops",
        metavar="LOOPS",
        default=None,
        help="run each async test on each of these loops: a list, with commas, of "
        "asyncio, asynccore, uvloop and MODULE:CALLABLE",
    )


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # before a conftest.py makes a loop or takes asyncio.SelectorEventLoop
    if early_config.known_args_namespace.asynccore:
        replace_default_loop()


def pytest_configure(config: pytest.Config) -> None:
    replaced: bool = config.getoption("asynccore")
    listed: str | None = config.getoption("asynccore_loops")
    if replaced:
        replace_default_loop()
    if replaced or listed is not None:
        loops = named_loops(listed) if listed is not None else {}
        config.pluginmanager.register(Loops(config, replaced, loops), "asynccore-loops")


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    # This module is loaded before a conftest.py and its plug-ins, so theirs come first.
    loops = pyfuncitem.config.pluginmanager.get_plugin("asynccore-loops")
    return loops.run(pyfuncitem) if loops is not None else None


def replace_default_loop() -> None:
    from asynccore import _default

    _default.replace_default_loop()


def named_loops(listed: str) -> dict[str, Factory]:
    names = [name.strip() for name in listed.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise pytest.UsageError(f"--asynccore-loops: no list of loops: {listed!r}")
    return {name: factory_of(name) for name in names}


def factory_of(name: str) -> Factory:
    if name == "asyncio":
        # its public name may have been replaced by --asynccore
        from asyncio import unix_events

        return unix_events._UnixSelectorEventLoop
    if name in (OURS, "uvloop"):
        module, attribute = name, "new_event_loop"
    else:
        module, _, attribute = name.partition(":")
    if not attribute:
        raise pytest.UsageError(
            f"--asynccore-loops: {name!r} is not asyncio, asynccore, uvloop or "
            "MODULE:CALLABLE"
        )
    from importlib import import_module

    try:
        factory: Factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise pytest.UsageError(f"--asynccore-loops: no loop {name!r}: {exc}") from exc
    return factory


def policy_of(factory: Factory) -> object:
    """A policy whose new loops are `factory`'s; its class's name warns from 3.14 on."""
    from asyncio import unix_events

    policy = unix_events._UnixDefaultEventLoopPolicy()
    policy._loop_factory = factory  # type: ignore[attr-defined]
    return policy


@pytest.fixture(name=LOOP, scope="session")
def loop(request: pytest.FixtureRequest) -> str | None:
    return getattr(request, "param", None)


def is_async(function: object) -> bool:
    hypothesis = getattr(function, "hypothesis", None)
    function = getattr(hypothesis, "inner_test", function)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


class Loops:
    """The plug-in of a run that asked for us."""

    def __init__(
        self, config: pytest.Config, replaced: bool, loops: dict[str, Factory]
    ) -> None:
        self.config = config
        self.replaced = replaced
        self.loops = loops
        self.ours = factory_of(OURS)
        self.tied: set[object] = set()  # the fixtures that got LOOP as an argument
        hook = getattr(config.hook, Factories.HOOK, None)
        self.has_factories = hook is not None and hook.spec is not None
        if loops and self.has_factories:
            self.register_factories()

    def pytest_report_header(self) -> str:
        import asynccore

        default = ["default loop: asynccore"] if self.replaced else []
        loops = [f"loops: {', '.join(self.loops)}"] if self.loops else []
        return f"asynccore: {', '.join([asynccore.__version__, *default, *loops])}"

    # pytest-asyncio from 1.4 on

    def register_factories(self) -> None:
        manager = self.config.pluginmanager
        if not manager.has_plugin("asynccore-factories"):
            manager.register(Factories(self), "asynccore-factories")

    def pytest_plugin_registered(self, plugin: object) -> None:
        # An implementation of this hook gives ids to tests, so with the default loop
        # alone there is one only to overrule another, of a conftest.py.
        if hasattr(plugin, Factories.HOOK) and not isinstance(plugin, Factories):
            self.register_factories()

    # Parameters

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if not self.loops:
            return
        if BACKEND in metafunc.fixturenames:
            self.parametrize_backend(metafunc)
        elif not is_async(metafunc.function):
            return
        elif self.is_asyncio(metafunc.definition):
            if POLICY in metafunc.fixturenames and not self.has_factories:
                self.parametrize(metafunc, POLICY, "session")
        elif self.is_unclaimed(metafunc.definition):
            metafunc.fixturenames.insert(0, LOOP)
            self.parametrize(metafunc, LOOP, "function")

    def parametrize(self, metafunc: pytest.Metafunc, name: str, scope: Any) -> None:
        loops = list(self.loops)
        metafunc.parametrize(name, loops, ids=loops, indirect=True, scope=scope)

    def parametrize_backend(self, metafunc: pytest.Metafunc) -> None:
        chosen = metafunc.definition.iter_markers("parametrize")
        if any(BACKEND in str(mark.args[:1]) for mark in chosen):
            return
        fixture: Any = metafunc._arg2fixturedefs[BACKEND][-1]
        if fixture.params is not None:
            self.expand_backends(fixture)
        elif is_async(metafunc.function):
            if LOOP not in fixture.argnames:  # so that it ends when that changes
                self.tied.add(fixture)
                fixture.argnames = (*fixture.argnames, LOOP)
            metafunc.fixturenames.insert(0, LOOP)
            self.parametrize(metafunc, LOOP, fixture.scope)

    def expand_backends(self, fixture: Any) -> None:
        """Give the fixture each of our loops where it has asyncio, once."""
        if getattr(fixture, "_asynccore_expanded", False):
            return
        fixture._asynccore_expanded = True
        old = ids_of(fixture)
        params: list[object] = []
        ids: list[str] = []
        for index, param in enumerate(fixture.params):
            marks, value = (), param
            if hasattr(param, "marks"):  # pytest.param()
                marks, value = param.marks, param.values[0]
            backend, options = backend_of(value)
            if backend != "asyncio":
                params.append(param)
                ids.append(old[index])
                continue
            for name, factory in self.loops.items():
                new = name if not options else f"{old[index]}-{name}"
                if new not in ids:  # asyncio and asyncio with uvloop are the same here
                    changed = (backend, {**options, "loop_factory": factory})
                    params.append(pytest.param(changed, marks=marks, id=new))
                    ids.append(new)
        fixture.params = tuple(params)
        fixture.ids = tuple(ids)

    def is_asyncio(self, item: pytest.Item) -> bool:
        """Whether pytest-asyncio runs the test."""
        if not hasattr(self.config.option, "asyncio_mode"):
            return False
        mode = self.config.getoption("asyncio_mode")
        auto = (mode or self.config.getini("asyncio_mode")) == "auto"
        return auto or item.get_closest_marker("asyncio") is not None

    def is_unclaimed(self, item: pytest.Item) -> bool:
        """Whether no other plug-in runs the coroutine function of the test."""
        option = self.config.option
        plugins = map(self.config.pluginmanager.has_plugin, OTHERS)
        fixtures: list[str] = getattr(item, "fixturenames", [])
        return not (
            hasattr(option, "asyncio_mode")
            or hasattr(option, "aiohttp_loop")  # aiohttp.pytest_plugin
            or any(plugins)
            or item.get_closest_marker("anyio")
            or BACKEND in fixtures
        )

    # What the other plug-ins' fixtures are

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: Any, request: Any
    ) -> Generator[None, object, object]:
        tied = fixturedef in self.tied
        if tied:  # its function knows nothing of that
            names = fixturedef.argnames
            fixturedef.argnames = tuple(name for name in names if name != LOOP)
        try:
            value = yield
        finally:
            if tied:  # of others, another plug-in may have changed them for good
                fixturedef.argnames = names
        if fixturedef.argname == BACKEND:
            new = self.backend(value, request)
        elif fixturedef.argname == POLICY:
            new = self.policy(value, request)
        else:
            if self.loops and is_async(inspect.unwrap(fixturedef.func)):
                self.end_before_runner(fixturedef, request)
            return value
        if new is not value and fixturedef.cached_result is not None:
            fixturedef.cached_result = (new, *fixturedef.cached_result[1:])
        return new

    def end_before_runner(self, fixturedef: Any, request: Any) -> None:
        """Lets a cached async fixture end when the policy changes, on its own loop."""
        if not self.has_factories and POLICY in request.fixturenames:
            policy = request._get_active_fixturedef(POLICY)
            policy.addfinalizer(partial(fixturedef.finish, request=request))

    def backend(self, value: object, request: Any) -> object:
        backend, options = backend_of(value)
        name = loop_of(request._pyfuncitem)
        if backend != "asyncio":
            return value
        if name is not None:
            return backend, {**options, "loop_factory": self.loops[name]}
        if self.replaced and options_differ(value) and not self.is_ours(value):
            return backend, {**options, "loop_factory": self.ours}
        return value

    def is_ours(self, value: Any) -> bool:
        return value[1].get("loop_factory") in self.loops.values()

    def policy(self, value: object, request: Any) -> object:
        param = getattr(request, "param", None)
        if isinstance(param, str) and param in self.loops:
            return policy_of(self.loops[param])
        if self.replaced and sys.version_info < (3, 16):
            return policy_of(self.ours)
        return value

    # Where nothing else runs a coroutine function

    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        # before a conftest.py's, which knows nothing of the parameter
        return self.run(pyfuncitem) if loop_of(pyfuncitem) is not None else None

    def run(self, pyfuncitem: pytest.Function) -> bool | None:
        function = pyfuncitem.obj
        if not inspect.iscoroutinefunction(function):
            return None
        if not self.is_unclaimed(pyfuncitem):
            return None
        import asyncio

        names = pyfuncitem._fixtureinfo.argnames
        arguments = {name: pyfuncitem.funcargs[name] for name in names}
        name = loop_of(pyfuncitem)
        factory = self.ours if name is None else self.loops[name]
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(function(**arguments))
        return True


class Factories:
    """The hook by which pytest-asyncio from 1.4 on asks for loops."""

    HOOK = "pytest_asyncio_loop_factories"

    def __init__(self, loops: Loops) -> None:
        self.factories = loops.loops or {OURS: loops.ours}

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_asyncio_loop_factories(
        self, item: pytest.Item
    ) -> Mapping[str, Factory] | None:
        marker = item.get_closest_marker("asyncio")
        chosen = marker.kwargs.get("loop_factories") if marker is not None else None
        others = len(getattr(item.ihook, self.HOOK).get_hookimpls()) > 1
        if others and chosen and not set(chosen) <= set(self.factories):
            return None  # the test itself asks for loops of the tests' own hook
        return self.factories


def backend_of(value: object) -> tuple[object, dict[str, object]]:
    """A backend of anyio, and its options without those that choose the loop."""
    if not isinstance(value, tuple):
        return value, {}
    chooses = ("use_uvloop", "loop_factory", "policy")
    return value[0], {k: v for k, v in value[1].items() if k not in chooses}


def options_differ(value: object) -> bool:
    """Whether the options of anyio's backend choose a loop."""
    return isinstance(value, tuple) and len(backend_of(value)[1]) < len(value[1])


def ids_of(fixture: Any) -> list[str]:
    """The ids of a parametrized fixture, as pytest makes them."""
    found = []
    given = fixture.ids
    for index, param in enumerate(fixture.params):
        value = param.values[0] if hasattr(param, "marks") else param
        own = getattr(param, "id", None)
        if own is None and given is not None:
            own = given(value) if callable(given) else given[index]
        if own is None:
            own = value if isinstance(value, str) else f"{BACKEND}{index}"
        found.append(str(own))
    return found


def loop_of(item: object) -> str | None:
    """The loop of a test that has the parameter LOOP."""
    params: dict[str, str] = getattr(getattr(item, "callspec", None), "params", {})
    return params.get(LOOP)
