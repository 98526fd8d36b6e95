"""Puts another loop under the tests of test.test_asyncio.

Most of them ask asyncio for a loop, and get the one under test once asyncio's names for
a new loop give it. A few classes make a bare BaseEventLoop with mocks for a selector:
their set-up is replaced, so that the tests say something about the loop under test.
"""

from __future__ import annotations

import asyncio
import types
from asyncio import unix_events
from collections.abc import Callable
from typing import Any

selector_loop = asyncio.SelectorEventLoop

Factory = Callable[[], asyncio.AbstractEventLoop]


class Counter:
    """The loop factory given to the tests; counts the loops that were asked for."""

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self.made = 0

    def __call__(self, *_: object) -> asyncio.AbstractEventLoop:
        self.made += 1
        return self.factory()


def install(new_loop: Counter) -> None:
    """Makes every way to a new loop in asyncio give one of `new_loop`."""
    probe = new_loop.factory()
    loop_type = type(probe)
    probe.close()

    class Names(type):
        # the tests call the class, with a selector or without, and ask isinstance
        def __call__(cls, *_: object) -> asyncio.AbstractEventLoop:
            return new_loop()

        def __instancecheck__(cls, obj: object) -> bool:
            return isinstance(obj, loop_type)

    class SelectorEventLoop(metaclass=Names):
        pass

    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, SelectorEventLoop)
    # tests set the policy to None, which makes a new one of this class
    policy = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
    if policy is not None:
        policy._loop_factory = staticmethod(new_loop)
    else:
        asyncio.new_event_loop = asyncio.events.new_event_loop = new_loop  # type: ignore


def adapt(name: str, module: types.ModuleType, new_loop: Counter) -> None:
    """Replaces the set-up of those classes of `module` that bypass asyncio's names."""
    from test.test_asyncio import utils

    fake_clock_loop = utils.TestCase.new_test_loop

    def new_test_loop(self: Any, gen: Any = None) -> Any:
        # `gen` scripts the time of utils.TestLoop: nothing for a loop with a clock
        if gen is not None:
            return fake_clock_loop(self, gen)
        self.loop = new_loop()
        self.set_event_loop(self.loop)
        return self.loop

    utils.TestCase.new_test_loop = new_test_loop
    close_standard = utils.TestCase.close_loop

    def close_loop(loop: Any) -> None:
        if hasattr(loop, "_default_executor"):
            close_standard(loop)
        else:  # a loop that does not derive from BaseEventLoop
            loop.close()

    utils.TestCase.close_loop = staticmethod(close_loop)

    def set_up(self: Any) -> None:
        utils.TestCase.setUp(self)
        new_test_loop(self)

    if new_loop.factory is selector_loop:
        return  # the control: these classes pass as they are
    if name == "test_base_events":
        module.BaseEventLoopTests.setUp = set_up
        set_up_file = module.BaseLoopSockSendfileTests.setUp

        def set_up_sendfile(self: Any) -> None:
            set_up_file(self)
            new_test_loop(self)

        module.BaseLoopSockSendfileTests.setUp = set_up_sendfile
    elif name == "test_pep492":
        module.BaseTest.setUp = set_up
    elif name == "test_runners":

        def runner_loop(self: Any) -> Any:
            loop: Any = new_loop()
            loop.shutdown_ag_run = False
            shutdown = loop.shutdown_asyncgens

            async def shutdown_asyncgens() -> None:
                loop.shutdown_ag_run = True
                await shutdown()

            loop.shutdown_asyncgens = shutdown_asyncgens
            return loop

        module.BaseTest.new_loop = runner_loop
    elif name == "test_tasks":

        def run_idle(self: Any, loop: Any) -> None:
            # the original runs while loop._ready is not empty
            for _ in range(10):
                utils.run_briefly(loop)

        module.GatherTestsBase._run_loop = run_idle
