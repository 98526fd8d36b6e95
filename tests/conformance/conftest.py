"""The markers of the conformance tests."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    for marker in (
        "conformance: a module of CPython's test_asyncio",
        "conformance_full: a module that runs only with `-m conformance`",
    ):
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if "conformance" in config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("conformance_full")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
