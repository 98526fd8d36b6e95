"""run(), install() and the policy, on Pythons with and without policies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from asyncio import unix_events
from collections.abc import Iterator

import pytest

import asynccore
from asynccore import _policy

HAS_POLICY = hasattr(unix_events, "_UnixDefaultEventLoopPolicy")
WARNS = sys.version_info >= (3, 14)  # Python itself, about policies

needs_policy = pytest.mark.skipif(not HAS_POLICY, reason="Python has no policies")


@pytest.fixture(autouse=True, scope="module")
def first_loop(both_factories: object) -> None:
    """What a process opens with its first loop is open before the first test."""


@pytest.fixture
def policy() -> Iterator[None]:
    """The policy of before is back after the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        before = asyncio.get_event_loop_policy()
        yield
        asyncio.set_event_loop_policy(before)


async def running() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


class TestRun:
    def test_result(self) -> None:
        loop = asynccore.run(running())
        assert type(loop) is asynccore.Loop
        assert loop.is_closed()

    @pytest.mark.parametrize("debug", [True, False, None])
    def test_debug(self, debug: bool | None) -> None:
        async def main() -> bool:
            return asyncio.get_running_loop().get_debug()

        assert asynccore.run(main(), debug=debug) == asyncio.run(main(), debug=debug)

    @pytest.mark.parametrize("main", [None, 1, "x", running])
    def test_wrong_main(self, main: object) -> None:
        texts = []
        for run in (asyncio.run, asynccore.run):
            with pytest.raises((TypeError, ValueError)) as caught:
                run(main)  # type: ignore[arg-type]
            texts.append((type(caught.value), str(caught.value)))
        assert texts[0] == texts[1]

    def test_wrong_arguments(self) -> None:
        for arguments in ((), (1, True)):
            with pytest.raises(TypeError):
                asynccore.run(*arguments)  # type: ignore[call-arg, arg-type]

    def test_inside_a_loop(self) -> None:
        async def main(run: object) -> tuple[type, str]:
            coro = running()
            with pytest.raises(RuntimeError) as caught:
                run(coro)  # type: ignore[operator]
            coro.close()
            return type(caught.value), str(caught.value)

        assert asynccore.run(main(asynccore.run)) == asyncio.run(main(asyncio.run))

    def test_leaves_no_current_loop(self) -> None:
        """As with asyncio.run(loop_factory=...), the current loop is not touched."""
        code = """
import asyncio, asynccore
async def main(): pass
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
asynccore.run(main())
assert asyncio.get_event_loop() is loop
loop.close()
"""
        command = [sys.executable, "-W", "error", "-c", code]
        subprocess.run(command, check=True, timeout=30)

    def test_exception(self) -> None:
        async def main() -> None:
            raise LookupError("text")

        with pytest.raises(LookupError, match="text"):
            asynccore.run(main())

    def test_cleans_up(self) -> None:
        seen: list[str] = []

        async def main() -> None:
            async def left() -> None:
                try:
                    await asyncio.Event().wait()
                finally:
                    seen.append("cancelled")

            main.task = asyncio.create_task(left())  # type: ignore[attr-defined]
            await asyncio.sleep(0)

        asynccore.run(main())
        assert seen == ["cancelled"]


class TestNewEventLoop:
    def test_new(self) -> None:
        one, two = asynccore.new_event_loop(), asynccore.new_event_loop()
        assert type(one) is type(two) is asynccore.Loop
        assert one is not two
        one.close()
        two.close()

    def test_runner(self) -> None:
        with asyncio.Runner(loop_factory=asynccore.new_event_loop) as runner:
            assert type(runner.run(running())) is asynccore.Loop

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="3.12")
    def test_loop_factory(self) -> None:
        for factory in (asynccore.new_event_loop, asynccore.Loop):
            loop = asyncio.run(running(), loop_factory=factory)
            assert type(loop) is asynccore.Loop


@needs_policy
@pytest.mark.usefixtures("policy")
class TestPolicy:
    def test_loops(self) -> None:
        asyncio.set_event_loop_policy(asynccore.EventLoopPolicy())
        assert type(asyncio.run(running())) is asynccore.Loop
        with asyncio.Runner() as runner:
            assert type(runner.run(running())) is asynccore.Loop
        loop = asyncio.new_event_loop()
        assert type(loop) is asynccore.Loop
        asyncio.set_event_loop(loop)
        assert asyncio.get_event_loop() is loop
        asyncio.set_event_loop(None)
        loop.close()

    def test_is_the_standard_one(self) -> None:
        base = unix_events._UnixDefaultEventLoopPolicy
        assert issubclass(asynccore.EventLoopPolicy, base)
        assert asynccore.EventLoopPolicy is asynccore.EventLoopPolicy
        own = set(vars(asynccore.EventLoopPolicy)) - {"__module__", "__doc__"}
        own = {name for name in own if not name.startswith("__")}
        assert own == {"_loop_factory"}

    def test_subprocess(self) -> None:
        """The policy has the child watcher that asyncio needs up to 3.13."""

        async def main() -> int:
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
            return await process.wait()

        asyncio.set_event_loop_policy(asynccore.EventLoopPolicy())
        assert asyncio.run(main()) == 0

    def test_subclass(self) -> None:
        class Own(asynccore.EventLoopPolicy):
            def new_event_loop(self) -> asyncio.AbstractEventLoop:
                loop = super().new_event_loop()
                loop.set_debug(True)
                return loop

        asyncio.set_event_loop_policy(Own())
        loop = asyncio.new_event_loop()
        assert type(loop) is asynccore.Loop
        assert loop.get_debug()
        loop.close()


@needs_policy
@pytest.mark.usefixtures("policy")
class TestInstall:
    def test_installs(self) -> None:
        asynccore.install()
        policy = asyncio.get_event_loop_policy()
        assert type(policy) is asynccore.EventLoopPolicy
        assert type(asyncio.run(running())) is asynccore.Loop

    def test_warns_its_caller(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            asynccore.install()
        assert len(caught) == (1 if WARNS else 0)
        for warning in caught:
            assert warning.category is DeprecationWarning
            assert warning.filename == __file__
            assert "asynccore.run()" in str(warning.message)


class TestWithoutPolicies:
    """Python 3.16, as far as an earlier one can stand for it."""

    def test_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 16, 0, "final", 0))
        with pytest.raises(RuntimeError, match=r"Python 3\.16 does not have.*run\(\)"):
            _policy.install()

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 needs its own run()")
    def test_names(self) -> None:
        code = """
import asyncio, sys
from asyncio import unix_events
del unix_events._UnixDefaultEventLoopPolicy
sys.version_info = (3, 16, 0, "final", 0)
import asynccore
async def main(): return 5
assert asynccore.run(main()) == 5
assert not hasattr(asynccore, "EventLoopPolicy")
asynccore.install
from asynccore._default import replace_default_loop
replace_default_loop()
loop = asyncio.SelectorEventLoop()
assert type(loop) is asynccore.Loop
loop.close()
"""
        command = [sys.executable, "-W", "error", "-c", code]
        subprocess.run(command, check=True, timeout=30)
