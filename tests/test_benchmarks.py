"""What the benchmark makes of its figures, and the limit in C."""

from __future__ import annotations

import glob
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("benchmarks")

from benchmarks import clients, report, scale_report
from benchmarks.client import build
from benchmarks.limit import can_run
from benchmarks.measure import child, environment_of, measure
from benchmarks.report import Results
from benchmarks.scale import SERIES, SIZES
from benchmarks.suite import EVERY, SCALE, WORKLOADS
from support.interpreter import FREE_THREADED

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "performance.md"
LOOPS = ("asyncio", "uvloop", "asynccore")


def results(costs: dict[str, dict[str, list[float]]]) -> Results:
    """As if each workload had cost so much on each loop, round by round."""
    found = Results(
        base="uvloop",
        columns={name: name for name in LOOPS},
        about={
            "python": "3.13.0",
            "system": "Linux",
            "versions": dict.fromkeys(LOOPS, "1.0"),
            "quick": False,
        },
    )
    for name, by_loop in costs.items():
        for i in range(len(next(iter(by_loop.values())))):
            row = {loop: {"cost": rounds[i]} for loop, rounds in by_loop.items()}
            found.add(SCALE[name], row)
    return found


def everything() -> Results:
    """Each workload once; what it costs grows with the digits of its size."""
    costs = {}
    for kind in SERIES:
        for size, workload in kind.workloads.items():
            cost = 2.0 * len(str(size))
            costs[workload.name] = {loop: [cost] for loop in LOOPS}
    return results(costs)


def test_a_name_is_one_workload() -> None:
    assert not set(SCALE) & set(WORKLOADS)
    assert not set(clients.PEERS) & set(SCALE | WORKLOADS)
    assert len(EVERY) == len(SCALE) + len(WORKLOADS) + len(clients.PEERS)
    assert len(SCALE) == sum(len(SIZES[kind.things]) for kind in SERIES)


def test_rows_are_medians_and_their_growth() -> None:
    found = results(
        {
            "scale-step-1": {"uvloop": [5, 1000, 4], "asynccore": [2, 1, 3]},
            "scale-step-10": {"uvloop": [1234.5]},
            "scale-step-1000": {"uvloop": [7.5], "asynccore": [3]},
        }
    )
    (kind,) = (
        kind for kind in SERIES if SCALE["scale-step-1"] in kind.workloads.values()
    )
    heading, *rows = scale_report.rows_of(found, kind)
    assert heading == ["step of a task, sleep(0): ns per operation"]
    assert rows == [
        ["uvloop", "5", "1,234", "-", "7.5", "1.50"],
        ["asynccore", "2", "-", "-", "3", "1.50"],
    ]


def test_table_has_all_that_ran_and_what_did_not() -> None:
    found = everything()
    found.failed = {"scale-echo-10": {"uvloop": "Boom: no"}}
    text = scale_report.table(found, plain=False)
    for things, sizes in SIZES.items():
        head = [things, *(f"{size:,}" for size in sizes)]
        pattern = r" *\| *".join(map(re.escape, head))
        assert re.search(rf"^\| {pattern} \|", text, re.MULTILINE), text
    for kind in SERIES:
        assert f"**{kind.title}: {kind.unit}**" in text
    assert text.count("| asynccore ") == len(SERIES)
    assert "Protocol echo 1 KiB, TCP, 10: does not run on uvloop: Boom: no" in text
    assert scale_report.table(results({}), plain=False) == ""


def test_plot_has_a_line_for_each_loop_and_series() -> None:
    root = ElementTree.fromstring(scale_report.plot(everything()))
    lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == len(LOOPS) * len(SERIES)
    assert {len(line.attrib["points"].split()) for line in lines} == {3, 4}


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")
def test_docs_are_written_between_their_marks(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copy(PAGE, docs)
    scale_report.write_docs(everything(), docs)
    page = (docs / PAGE.name).read_text()
    begin, end = "<!-- scale 3.13 -->", "<!-- end of scale 3.13 -->"
    assert page.count(begin) == page.count(end) == 1
    assert page[: page.index(begin)] == PAGE.read_text().partition(begin)[0]
    assert page[page.index(end) :] == end + PAGE.read_text().partition(end)[2]
    part = page[page.index(begin) : page.index(end)]
    assert scale_report.table(everything(), plain=False) in part
    assert "(assets/scale-3.13.svg)" in part
    assert (docs / "assets" / "scale-3.13.svg").exists()


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")
def test_docs_keep_what_does_not_run_now(tmp_path: Path) -> None:
    shutil.copy(PAGE, tmp_path)
    scale_report.write_docs(everything(), tmp_path)
    again = results({"scale-task-1": {loop: [77.0] for loop in LOOPS}})
    scale_report.write_docs(again, tmp_path, merge=True)
    kept = Results.load(tmp_path / "assets" / "scale-3.13.json")
    assert set(kept.rounds) == set(SCALE)
    assert kept.rounds["scale-task-1"] == [{n: {"cost": 77.0} for n in LOOPS}]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
@pytest.mark.parametrize("name", ["scale-cancel-10", "scale-step-10", "scale-timer-10"])
@pytest.mark.parametrize("loop", ["asyncio", "asynccore"])
def test_workload_runs(name: str, loop: str) -> None:
    sanitized = "LD_PRELOAD" in os.environ
    glibc = platform.libc_ver()[0] == "glibc"
    if name == "scale-timer-10" and (sanitized or not glibc or FREE_THREADED):
        pytest.skip("the malloc() of a sanitizer, or none of glibc's, does not tell")
    done = subprocess.run(
        [sys.executable, "benchmarks/child.py", "time", loop, name, "--repeat=1"],
        cwd=TOP,
        env=environment_of(SCALE[name]),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0


PACKAGE = {"aiohttp-client": "aiohttp"}
SERVER = {"asyncpg": "postgres", "redis": "redis-server"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
@pytest.mark.parametrize("name", ["aiohttp-client", "asyncpg", "redis", "websockets"])
def test_client_runs(name: str) -> None:
    for package in (PACKAGE.get(name, name), "uvicorn", "httptools", "uvloop"):
        pytest.importorskip(package)
    server = SERVER.get(name)
    if server and not (
        shutil.which(server) or glob.glob(f"/usr/lib/postgresql/*/bin/{server}")
    ):
        pytest.skip(f"{server} is not installed")
    command = child("count", "asynccore", name, "--number=20")
    run = subprocess.run(
        command, env=environment_of(WORKLOADS[name]), capture_output=True, timeout=50
    )
    assert run.returncode == 0, run.stderr.decode()
    assert float(run.stdout) > 0


def table_of_limits() -> Results:
    """Two rows that the limit runs, one that it does not."""
    found = results({})
    found.columns["limit"] = "limit"
    for name, limit in ("tcp-connect", 4.0), ("cat-64k", 5.0), ("turn", None):
        row = {"uvloop": {"cost": 10.0}, "asynccore": {"cost": 8.0}}
        if limit:
            row["limit"] = {"cost": limit}
        found.add(WORKLOADS[name], row)
    return found


def test_limit_has_a_table_of_its_own() -> None:
    found = table_of_limits()
    assert report.limits(found) == [
        [WORKLOADS["tcp-connect"].title, "1.25", "2.50", "50 %", "±0.0 %"],
        [WORKLOADS["cat-64k"].title, "1.25", "2.00", "62 %", "±0.0 %"],
    ]
    assert "limit" not in report.heading(found)
    assert "limit" not in report.plot(found)
    main, limits = report.table(found, plain=True).split("\n\nin C, ")
    assert "limit" not in main
    assert "limit" in limits


def test_limit_is_left_out_of_other_rows() -> None:
    rows = [name for name, w in WORKLOADS.items() if can_run("limit", w)]
    assert {"tcp-1k-10", "tls-connect", "cat-lines"} <= set(rows)
    assert not {"memory-connection", "streams-1k-10", "turn", "late-echo"} & set(rows)
    assert all(can_run("asynccore", workload) for workload in WORKLOADS.values())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The limit, compiled where nothing stays."""
    if not sys.platform.startswith("linux") or not shutil.which("cc"):
        pytest.skip("Linux and a compiler only")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        build.cache_clear()
        yield build("limit")
        build.cache_clear()


@pytest.mark.parametrize(
    "name",
    [
        "tcp-1k-10",
        "tcp-64k",
        "tcp-connect",
        "tcp-bulk",
        "unix-1k",
        "udp-1k",
        "tls-1k-10",
        "tls-100k",
        "tls-bulk",
        "tls-connect",
        "cat-64k",
        "cat-64k-turns",
        "cat-lines",
    ],
)
def test_limit_does_the_work(name: str, compiled: Path) -> None:
    if name.startswith("tls") and compiled.name.endswith("without-tls"):
        pytest.skip("OpenSSL's headers are not here")
    assert measure("limit", WORKLOADS[name], quick=True)["cost"] > 0
