"""The marker of the leak scripts."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    text = "leaks: a leak script that runs only with `-m leaks`"
    config.addinivalue_line("markers", text)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if "leaks" in config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("leaks")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
