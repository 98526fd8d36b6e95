"""CPython's test_asyncio on asynccore, one pytest test for each of its modules.

The modules of the subset run always, the others when `-m` names the marker:
`pytest tests/conformance -m conformance`.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from .runner import HERE, MODULES, SUBSET, Outcome, read_exempt, run_module


def _param(name: str) -> object:
    marks = [pytest.mark.conformance]
    if name not in SUBSET:
        marks.append(pytest.mark.conformance_full)
    return pytest.param(name, marks=marks)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [_param(name) for name in MODULES])
def test_module(name: str) -> None:
    exempt = read_exempt(HERE / "exempt.txt", sys.version_info[:2])
    module = run_module(name, exempt=exempt)
    if module.absent:
        pytest.skip(module.absent)
    assert not module.failures, "\n\n".join(module.failures)
    assert any(test.loops for test in module.tests.values())


DATAGRAMS = """
import unittest
import test.test_asyncio.test_selector_events as module
from asynccore._datagram import DatagramTransport

module._SelectorDatagramTransport = DatagramTransport
tests = unittest.defaultTestLoader.loadTestsFromTestCase(
    module.SelectorDatagramTransportTests
)
result = unittest.TextTestRunner().run(tests)
assert result.wasSuccessful() and result.testsRun > 20
"""


@pytest.mark.conformance
def test_datagram_transport() -> None:
    """CPython's tests of the standard datagram transport, on ours."""
    done = subprocess.run(
        [sys.executable, "-c", DATAGRAMS], capture_output=True, text=True, timeout=60
    )
    if "No module named 'test.test_asyncio'" in done.stderr:
        pytest.skip("this Python comes without its tests")
    assert done.returncode == 0, done.stderr


def test_exempt_names_modules_that_run() -> None:
    for version in ((3, minor) for minor in range(11, 16)):
        for exemption in read_exempt(HERE / "exempt.txt", version):
            assert exemption.pattern.startswith(tuple(f"{name}." for name in MODULES))


@pytest.fixture
def probe(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A module of tests, each of which goes wrong in its own way."""
    path = tmp_path / "probe_tests.py"
    path.write_text(PROBE)
    monkeypatch.syspath_prepend(tmp_path)
    return path


PROBE = """
import asyncio, os, time, unittest

new_event_loop = asyncio.SelectorEventLoop

class Probe(unittest.TestCase):
    def test_1_pass(self):
        asyncio.new_event_loop().close()
    def test_2_fail(self):
        self.fail("as it should")
    def test_3_crash(self):
        os.abort()
    def test_4_hang(self):
        time.sleep(60)
    def test_5_after(self):
        pass
    @unittest.skip("no reason")
    def test_6_skip(self):
        pass
"""


def test_runner_sees_what_goes_wrong(probe: pathlib.Path) -> None:
    exempt = probe.parent / "exempt.txt"
    exempt.write_text(
        "probe_tests.Probe.test_2*  # fails\n"
        "probe_tests.Probe.test_9*  # is not there\n"
        "[3.1-3.2] probe_tests.Probe.test_8*  # for another Python\n"
    )
    module = run_module(
        "probe_tests",
        "probe_tests:new_event_loop",
        exempt=read_exempt(exempt, sys.version_info[:2]),
        timeout=2.0,
    )
    if module.absent:
        pytest.skip(module.absent)
    found = {name.rpartition(".")[2]: test for name, test in module.tests.items()}
    assert {name: test.outcome for name, test in found.items()} == {
        "test_1_pass": "pass",
        "test_2_fail": "fail",
        "test_3_crash": "crash",
        "test_4_hang": "hang",
        "test_5_after": "pass",
        "test_6_skip": "skip",
    }
    assert found["test_1_pass"].loops == 1
    assert "as it should" in found["test_2_fail"].text
    assert "Fatal Python error: Aborted" in found["test_3_crash"].text
    assert "in test_4_hang" in found["test_4_hang"].text
    assert [text.partition("\n")[0] for text in module.failures] == [
        "CRASH probe_tests.Probe.test_3_crash",
        "HANG probe_tests.Probe.test_4_hang",
        "exempt.txt: no test is called probe_tests.Probe.test_9*",
    ]


def test_exempt_needs_a_reason(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "exempt.txt"
    path.write_text("test_events.*.test_x\n")
    with pytest.raises(ValueError, match=r"exempt\.txt:1: no pattern or no reason"):
        read_exempt(path, (3, 13))


def test_only_failures_that_are_not_exempt_count() -> None:
    assert Outcome("fail").bad
    assert not Outcome("fail", exempt=True).bad
    assert not Outcome("skip").bad
