"""The tables of the cost by size, their plot, and their part of the page in docs/.

python -m benchmarks.scale_report FILE.json    print the tables of a saved run
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

from benchmarks.harness import Workload
from benchmarks.report import (
    COLOURS,
    STYLE,
    Results,
    caption,
    lay_out,
    number,
    replace_in_page,
    save,
)
from benchmarks.scale import SERIES, SIZES, Series


def cost(results: Results, workload: Workload, column: str) -> float | None:
    """The median of the rounds."""
    rows = results.rounds.get(workload.name, [])
    costs = [row[column]["cost"] for row in rows if column in row]
    return median(costs) if costs else None


def costs_of(results: Results, kind: Series, column: str) -> dict[int, float]:
    """What was measured of a series on a loop, by size."""
    found = {n: cost(results, w, column) for n, w in kind.workloads.items()}
    return {n: value for n, value in found.items() if value is not None}


def growth(results: Results, kind: Series, column: str) -> float | None:
    """The cost of one among the most, divided by that of one among the fewest."""
    costs = costs_of(results, kind, column)
    sizes = list(kind.workloads)
    first, last = costs.get(sizes[0]), costs.get(sizes[-1])
    return last / first if first and last else None


def amount(value: float | None) -> str:
    """A cost with about three digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def rows_of(results: Results, kind: Series) -> list[list[str]]:
    """A heading, and a row for each loop; none where nothing was measured."""
    rows = []
    for column in results.columns:
        costs = costs_of(results, kind, column)
        if costs:
            cells = [amount(costs.get(size)) for size in kind.workloads]
            rows.append([column, *cells, number(growth(results, kind, column))])
    return [[f"{kind.title}: {kind.unit}"], *rows] if rows else []


def table(results: Results, plain: bool) -> str:
    """A table for connections, timers and tasks each, and what did not run."""
    parts = []
    for things, sizes in SIZES.items():
        kinds = [kind for kind in SERIES if kind.things == things]
        rows = [row for kind in kinds for row in rows_of(results, kind)]
        if rows:
            ends = f"{sizes[-1]:,} : {sizes[0]:,}"
            head = [things, *(f"{size:,}" for size in sizes), ends]
            parts.append(lay_out(head, rows, plain))
    titles = {w.name: w.title for kind in SERIES for w in kind.workloads.values()}
    broken = [
        f"{titles[name]}: does not run on {loop}: {why}"
        for name, loops in results.failed.items()
        for loop, why in loops.items()
    ]
    if broken:
        parts.append("\n".join(broken if plain else [f"- {b}" for b in broken]))
    return "\n\n".join(parts)


# The plot ---------------------------------------------------------------------------

PANEL, HEIGHT, ACROSS = 300, 230, 3
FRAME = (46, 30, PANEL - 16, HEIGHT - 30)  # of a panel: left, top, right, bottom
LINES = """
.panel { fill: none; stroke: #8886 }
.loop { fill: none; stroke-width: 2 }"""


def panel(results: Results, kind: Series) -> list[str]:
    """One series, cost over size, both logarithmic; equal cost is a level line."""
    left, top, right, bottom = FRAME
    lines = {c: costs_of(results, kind, c) for c in results.columns}
    values = [v for costs in lines.values() for v in costs.values() if v > 0]
    sizes = list(kind.workloads)
    # Whole powers of ten, so that a slope looks the same in each panel.
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)

    def x(size: int) -> float:
        share = math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])
        return left + share * (right - left)

    def y(value: float) -> float:
        return bottom - (math.log10(value) - low) / (high - low) * (bottom - top)

    parts = [
        f'<text class="group" x="{left}" y="14">{escape(kind.title)}</text>',
        f'<text x="{left}" y="26" font-size="10">{escape(kind.unit)}</text>',
        f'<rect class="panel" x="{left}" y="{top}" width="{right - left}" '
        f'height="{bottom - top}"/>',
    ]
    for power in range(low, high + 1):
        at = f"{y(10.0**power):.1f}"
        parts.append(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{at}" y2="{at}"/>'
            f'<text x="{left - 4}" y="{at}" text-anchor="end">{10.0**power:g}</text>'
        )
    for size in sizes:
        parts.append(
            f'<text x="{x(size):.1f}" y="{bottom + 16}" text-anchor="middle">'
            f"{size:,}</text>"
        )
    for column, costs in lines.items():
        points = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in costs.items() if v > 0)
        parts.append(
            f'<polyline class="loop" stroke="{COLOURS[column]}" points="{points}">'
            f"<title>{column}</title></polyline>"
        )
    return parts


def plot(results: Results) -> str:
    """An SVG with a panel for each series that was measured."""
    kinds = [kind for kind in SERIES if rows_of(results, kind)]
    body = []
    for i, column in enumerate(results.columns):
        left = FRAME[0] + i * 100
        body.append(f'<circle cx="{left}" cy="14" r="5" fill="{COLOURS[column]}"/>')
        body.append(f'<text x="{left + 10}" y="18">{column}</text>')
    for i, kind in enumerate(kinds):
        place = f"{i % ACROSS * PANEL},{30 + i // ACROSS * HEIGHT}"
        inner = "\n".join(panel(results, kind))
        body.append(f'<g transform="translate({place})">\n{inner}\n</g>')
    width, height = ACROSS * PANEL, 30 + math.ceil(len(kinds) / ACROSS) * HEIGHT
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n'
        f"<style>{STYLE}{LINES}</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


# The page ---------------------------------------------------------------------------


def write_docs(results: Results, docs: Path, merge: bool = False) -> None:
    """docs/assets/scale-X.Y.json and .svg, and the marked part of the page."""
    svg = save(results, docs, "scale", merge).with_suffix(".svg")
    svg.write_text(plot(results))
    text = "\n\n".join(
        [
            caption(results),
            f"![Cost by size, logarithmic](assets/{svg.name})",
            table(results, plain=False),
        ]
    )
    replace_in_page(results, docs, "scale", "Cost by size, Python", text)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    print(table(Results.load(Path(sys.argv[1])), plain=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
