"""From figures to ratios: the table, the plot, the page in docs/.

python -m benchmarks.report FILE.json    print the table of a saved run
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.harness import Workload
from benchmarks.limit import LIMIT
from benchmarks.suite import BASES, SHORT, WORKLOADS, goal_of

# The column of the A/A control: the base loop, measured as if it were another one.
CONTROL = "A/A"
OURS = "asynccore"
# Groups that are told in microseconds more than on the standard loop.
DIFFERENCES = ("fairness",)


@dataclass
class Results:
    """What a run measured: for each workload the rounds, each with a figure a loop."""

    base: str
    columns: dict[str, str]  # column: loop
    about: dict[str, Any]
    rounds: dict[str, list[dict[str, dict[str, float]]]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, workload: Workload, row: dict[str, dict[str, float]]) -> None:
        """Keep a round, with five digits of each figure."""
        for column, figures in row.items():
            row[column] = {key: float(f"{n:.5g}") for key, n in figures.items()}
        self.rounds.setdefault(workload.name, []).append(row)

    def base_of(self, workload: str) -> str:
        """The loop that counts as 1 in a row."""
        base = BASES.get(workload, self.base)
        return base if base in self.columns else self.base

    def ratios(
        self, workload: str, column: str, base: str | None = None
    ) -> list[float]:
        """How many times better than the base, round by round."""
        base = base or self.base_of(workload)
        pairs = ((row.get(base), row.get(column)) for row in self.rounds[workload])
        return [a["cost"] / b["cost"] for a, b in pairs if a and b and b["cost"] > 0]

    def ratio(
        self, workload: str, column: str, base: str | None = None
    ) -> float | None:
        """The median of the rounds' ratios."""
        ratios = self.ratios(workload, column, base)
        return median(ratios) if ratios else None

    def noise(self, workload: str) -> float:
        """How far from 1 a ratio comes when nothing differs: the median of the A/A
        control, or half of the middle half of its rounds, whichever is more. Where the
        base does not run, half of the middle half of our own ratios."""
        ratios = self.ratios(workload, CONTROL, self.base)
        off = abs(median(ratios) - 1) if ratios else 0.0
        if not ratios:
            ratios = self.ratios(workload, OURS)
        if len(ratios) < 3:
            return off
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        return max(off, (high - low) / 2)

    def difference(self, workload: str, column: str) -> float | None:
        """The median of how much more the cost is than on the standard loop."""
        pairs = ((r.get("asyncio"), r.get(column)) for r in self.rounds[workload])
        more = [b["cost"] - a["cost"] for a, b in pairs if a and b]
        return median(more) if more else None

    def goal(self, workload: str) -> float | None:
        """The workload's goal on the Python of these results."""
        return goal_of(workload, self.about["python"])

    def as_dict(self) -> dict[str, Any]:
        return {
            "about": self.about,
            "base": self.base,
            "columns": self.columns,
            "rounds": self.rounds,
            "failed": self.failed,
        }

    @classmethod
    def load(cls, path: Path) -> Results:
        data = json.loads(path.read_text())
        return cls(**{**data, "failed": data.get("failed", {})})


def number(value: float | None) -> str:
    """A ratio with about three digits."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def loops_of(results: Results) -> list[str]:
    """The columns that are loops: not the limit."""
    return [c for c in results.columns if c != LIMIT]


def others_of(results: Results) -> list[str]:
    """The loops beside the base."""
    return [c for c in loops_of(results) if c not in (results.base, CONTROL)]


def verdict(results: Results, workload: str) -> str:
    """Whether the goal is reached, within the noise."""
    goal = results.goal(workload)
    ratio = results.ratio(workload, OURS) if OURS in results.columns else None
    if goal is None or ratio is None or results.base != "uvloop":
        return ""
    if ratio >= goal:
        return "yes"
    return "within noise" if ratio >= goal * (1 - results.noise(workload)) else "no"


def title_of(results: Results, workload: Workload) -> str:
    """What the row is called; it tells if another loop counts as 1 there."""
    base = results.base_of(workload.name)
    return workload.title + ("" if base == results.base else f" ({base} = 1)")


def rows_of(results: Results) -> list[tuple[str, list[str]]]:
    """The table's cells by group: a row's first cell is the workload's title."""
    others = others_of(results)
    rows = []
    for name, workload in WORKLOADS.items():
        if name not in results.rounds:
            continue
        if workload.group in DIFFERENCES:
            continue
        goal = results.goal(name)
        cells = [
            title_of(results, workload),
            *(number(results.ratio(name, column)) for column in others),
            f"±{results.noise(name) * 100:.1f} %",
            number(goal) if goal else "",
            verdict(results, name),
        ]
        rows.append((workload.group, cells))
    return rows


def heading(results: Results) -> list[str]:
    return [f"{results.base} = 1", *others_of(results), "noise", "goal", "reached"]


def fairness(results: Results) -> list[list[str]]:
    """Cells of the second table: microseconds at p99 more than the standard loop."""
    rows = []
    for name, workload in WORKLOADS.items():
        if name in results.rounds and workload.group in DIFFERENCES:
            cells = [workload.title]
            for column in loops_of(results):
                more = results.difference(name, column)
                cells.append("-" if more is None else f"{more:+.0f} us")
            rows.append(cells)
    return rows


def limits(results: Results) -> list[list[str]]:
    """Cells of the third table: what C reaches without Python, and which part of our
    cost that is."""
    rows = []
    for name, workload in WORKLOADS.items():
        if name not in results.rounds or not results.ratio(name, LIMIT):
            continue
        ours = results.ratio(name, LIMIT, OURS)
        cells = [
            title_of(results, workload),
            number(results.ratio(name, OURS)),
            number(results.ratio(name, LIMIT)),
            f"{100 / ours:.0f} %" if ours else "-",
            f"±{results.noise(name) * 100:.1f} %",
        ]
        rows.append(cells)
    return rows


def lay_out(head: list[str], rows: list[list[str]], plain: bool) -> str:
    """A table for the terminal, or in Markdown; a row of one cell is a heading."""
    widths = [
        max(len(line[i]) for line in [head, *rows] if len(line) > 1)
        for i in range(len(head))
    ]

    def line(cells: list[str]) -> str:
        if len(cells) == 1:
            if plain:
                return f"\n{cells[0]}"
            cells = [f"**{cells[0]}**", *[""] * (len(head) - 1)]
        padded = [
            f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded) if plain else f"| {' | '.join(padded)} |"

    rule = [] if plain else ["|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([line(head), *rule, *map(line, rows)])


def by_reason(failed: dict[str, str]) -> dict[str, list[str]]:
    """The loops of each reason."""
    reasons: dict[str, list[str]] = {}
    for loop, why in failed.items():
        reasons.setdefault(why, []).append(loop)
    return reasons


def table(results: Results, plain: bool) -> str:
    """All tables."""
    rows: list[list[str]] = []
    group = ""
    for this, cells in rows_of(results):
        if this != group:
            rows.append([this])
            group = this
        rows.append(cells)
    parts = [lay_out(heading(results), rows, plain)] if rows else []
    late = fairness(results)
    if late:
        head = ["beside endless work, p99", *loops_of(results)]
        parts.append(lay_out(head, late, plain))
    least = limits(results)
    if least:
        head = [f"in C, {results.base} = 1", OURS, LIMIT, "its part", "noise"]
        parts.append(lay_out(head, least, plain))
    broken = [
        f"{WORKLOADS[name].title}: does not run on {' and '.join(loops)}: {why}"
        for name, failed in results.failed.items()
        for why, loops in by_reason(failed).items()
    ]
    if broken:
        parts.append("\n".join(broken if plain else [f"- {b}" for b in broken]))
    return "\n\n".join(parts)


# The plot ---------------------------------------------------------------------------

COLOURS = {
    "asynccore": "#d4552a",
    "uvloop": "#888888",
    "asyncio": "#3a78b4",
    "zuvloop": "#7a5ab5",
    "rloop": "#3d9455",
    "rsloop": "#b08a1e",
    "talyn": "#c4568f",
}
STYLE = """\
text { font: 12px sans-serif; fill: #333 }
.grid { stroke: #8886; stroke-width: 1 }
.one { stroke: #888; stroke-width: 2 }
.group { font-weight: bold }
.goal { stroke: #333; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .goal { stroke: #ccc } }"""
LEFT, WIDTH, ROW = 300, 900, 20


def plot(results: Results) -> str:
    """An SVG of all ratios, on a logarithmic scale; a tick marks the goal."""
    shown = others_of(results)
    lowest, highest = 1 / 3, 16.0

    def x(ratio: float) -> float:
        share = math.log(min(max(ratio, lowest), highest) / lowest)
        return LEFT + share / math.log(highest / lowest) * (WIDTH - LEFT - 30)

    parts: list[str] = []
    y = 40
    for i, column in enumerate(shown):
        left = LEFT + i * 100
        parts.append(f'<circle cx="{left}" cy="14" r="5" fill="{COLOURS[column]}"/>')
        parts.append(f'<text x="{left + 10}" y="18">{column}</text>')
    group = ""
    for name, workload in WORKLOADS.items():
        if name not in results.rounds or workload.group in DIFFERENCES:
            continue
        if workload.group != group:
            group = workload.group
            y += ROW + 6
            parts.append(f'<text class="group" x="8" y="{y}">{escape(group)}</text>')
        y += ROW
        parts.append(
            f'<text x="16" y="{y}">{escape(title_of(results, workload))}</text>'
        )
        goal = results.goal(name)
        if goal and results.base == "uvloop":
            at = f"{x(goal):.1f}"
            parts.append(
                f'<line class="goal" x1="{at}" x2="{at}" y1="{y - 11}" y2="{y + 2}"/>'
            )
        for column in shown:
            ratio = results.ratio(name, column)
            if ratio is not None:
                parts.append(
                    f'<circle cx="{x(ratio):.1f}" cy="{y - 4}" r="5" '
                    f'fill="{COLOURS[column]}" fill-opacity="0.85">'
                    f"<title>{column}: {number(ratio)}</title></circle>"
                )
    bottom = y + 14
    grid = []
    for ratio in (0.5, 1, 2, 4, 8, 16):
        at = f"{x(ratio):.1f}"
        kind = "one" if ratio == 1 else "grid"
        grid.append(f'<line class="{kind}" x1="{at}" x2="{at}" y1="40" y2="{bottom}"/>')
        grid.append(
            f'<text x="{at}" y="{bottom + 18}" text-anchor="middle">{ratio:g}</text>'
        )
    grid.append(
        f'<text x="{LEFT}" y="{bottom + 38}">times as good as {results.base} '
        "(logarithmic; right is better; tick: goal)</text>"
    )
    size = f'width="{WIDTH}" height="{bottom + 50}" viewBox="0 0 {WIDTH} {bottom + 50}"'
    body = "\n".join([*grid, *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


# The page ---------------------------------------------------------------------------


def caption(results: Results) -> str:
    about = results.about
    loops = ", ".join(
        f"{name} {version}".strip() for name, version in about["versions"].items()
    )
    rounds = sorted({len(r) for r in results.rounds.values()})
    return (
        f"CPython {about['python']}, {about['system']}; {loops}; medians of "
        f"{' or '.join(map(str, rounds))} rounds"
        f"{', some of them short (--quick)' if about['quick'] else ''}."
    )


def replace_marked(page: Path, name: str, text: str) -> bool:
    """Put a text between the two marks of a page; False where it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    marked = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    new, count = marked.subn(lambda _: f"{begin}\n\n{text}\n\n{end}", page.read_text())
    page.write_text(new)
    return count > 0


def short(results: Results) -> str:
    """The table of the README: a few rows, asynccore and the standard loop."""
    columns = [c for c in (OURS, "asyncio") if c in results.columns]
    rows = [
        [
            title_of(results, WORKLOADS[name]),
            *(number(results.ratio(name, column)) for column in columns),
            f"±{results.noise(name) * 100:.1f} %",
        ]
        for name in SHORT
        if name in results.rounds
    ]
    head = [f"{results.base} = 1", *columns, "noise"]
    return f"{caption(results)}\n\n{lay_out(head, rows, plain=False)}"


def version_of(results: Results) -> str:
    """3.13"""
    return ".".join(results.about["python"].split(".")[:2])


def save(results: Results, docs: Path, kind: str, merge: bool) -> Path:
    """Write docs/assets/KIND-X.Y.json, with `merge` after adding what it had; the
    file's path."""
    assets = docs / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    saved = assets / f"{kind}-{version_of(results)}.json"
    if merge and saved.exists():
        old = Results.load(saved)
        results.rounds = {**old.rounds, **results.rounds}
        results.failed = {**old.failed, **results.failed}
        results.columns = {**old.columns, **results.columns}
        results.about["quick"] |= old.about["quick"]
        results.about["versions"] = old.about["versions"] | results.about["versions"]
    saved.write_text(json.dumps(results.as_dict(), indent=1) + "\n")
    return saved


def replace_in_page(
    results: Results, docs: Path, mark: str, heading: str, text: str
) -> None:
    """Put a text between the marks of this Python, in a new section if need be."""
    version = version_of(results)
    name = f"{mark} {version}"
    page = docs / "performance.md"
    if not replace_marked(page, name, text):
        marks = f"<!-- {name} -->\n<!-- end of {name} -->\n"
        page.write_text(f"{page.read_text()}\n## {heading} {version}\n\n{marks}")
        replace_marked(page, name, text)


def write_docs(results: Results, docs: Path, merge: bool = False) -> None:
    """docs/assets/performance-X.Y.json and .svg, and the marked parts of the page and,
    for the version that it shows, of the README."""
    svg = save(results, docs, "performance", merge).with_suffix(".svg")
    svg.write_text(plot(results))
    text = "\n\n".join(
        [
            caption(results),
            f"![Ratios to {results.base}](assets/{svg.name})",
            table(results, plain=False),
        ]
    )
    replace_in_page(results, docs, "results", "Python", text)
    figures = f"figures {version_of(results)}"
    replace_marked(docs.parent / "README.md", figures, short(results))


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    print(table(Results.load(Path(sys.argv[1])), plain=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
