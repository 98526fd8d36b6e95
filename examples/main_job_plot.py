"""Draws the figures of main_job.py as an SVG file: bars of medians, dots of rounds."""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import escape

COLOURS = {"asyncio": "#8a94a6", "uvloop": "#d98a2b", "asynccore": "#1f77b4"}
WIDTH, PANEL, LABEL, BAR, GAP = 760, 300, 96, 26, 14


class Panel(NamedTuple):
    title: str
    medians: dict[str, float]
    rounds: dict[str, list[float]]
    form: str  # of a value, for format()


def text(x: float, y: float, words: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def draw_panel(panel: Panel, left: float, top: float) -> list[str]:
    most = max(max(panel.medians.values()), *map(max, panel.rounds.values()))
    scale = (PANEL - 70) / most  # the values stand in a column behind
    parts = [text(left, top, panel.title, 'font-weight="bold"')]
    for row, (name, median) in enumerate(panel.medians.items()):
        y = top + 16 + row * (BAR + GAP)
        length = median * scale
        colour = COLOURS.get(name, "#555555")
        parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{length:.1f}" height="{BAR}"'
            f' rx="2" fill="{colour}"/>'
        )
        parts += [
            f'<circle cx="{left + value * scale:.1f}" cy="{y + BAR / 2:.1f}" r="2.5"'
            ' fill="#ffffff" stroke="#333333" stroke-width="0.8"/>'
            for value in panel.rounds[name]
        ]
        value = format(median, panel.form)
        parts.append(text(left + most * scale + 10, y + BAR / 2 + 5, value))
    return parts


def draw(title: str, note: str, panels: list[Panel]) -> str:
    names = list(panels[0].medians)
    top = 84
    height = top + 16 + len(names) * (BAR + GAP) + 36
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}"'
        ' font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="14">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(16, 32, title, 'font-size="18" font-weight="bold"'),
    ]
    for row, name in enumerate(names):
        y = top + 16 + row * (BAR + GAP) + BAR / 2 + 5
        parts.append(text(LABEL, y, name, 'text-anchor="end"'))
    for column, panel in enumerate(panels):
        left = LABEL + 12 + column * (PANEL + 24)
        parts += draw_panel(panel, left, top)
    parts.append(text(16, height - 14, note, 'font-size="12" fill="#555555"'))
    return "\n".join([*parts, "</svg>", ""])
