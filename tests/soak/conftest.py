"""The marker of the long runs."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    text = "soak: hundreds of loops with traffic, only with `-m soak`"
    config.addinivalue_line("markers", text)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if "soak" in config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("soak")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
