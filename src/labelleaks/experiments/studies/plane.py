"""The picture of decision regions: coloured background, members as dots, non-members as crosses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from markupsafe import escape

from labelleaks.experiments.figures import COLOURS
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.studies.figures import title_of
from labelleaks.experiments.studies.reading import Study

__all__ = ["regions"]

_SIDE, _LEFT, _TOP, _BETWEEN = 360, 30, 52, 40
PANELS = {"sorted": "t-SNE of the 9 largest posteriors, sorted (authors' code)", "all": "t-SNE of all posteriors"}


def regions(study: Study) -> str:
    """Draw a study of regions as a file of its own: a panel for each way to look at posteriors."""
    words = title_of(study)
    width, height = _LEFT + len(PANELS) * (_SIDE + _BETWEEN), _TOP + _SIDE + 64
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(words)}" xmlns="http://www.w3.org/2000/svg">',
        "<style>text{font:11px system-ui,sans-serif;fill:#333}.dot{fill:#0b3d91;stroke:#fff;stroke-width:.6}"
        ".cross{stroke:#b00020;stroke-width:1.5}.label{font-size:12px}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text class="label" x="{_LEFT}" y="16">{escape(words)}</text>',
    ]
    for i, (by, name) in enumerate(PANELS.items()):
        left = _LEFT + i * (_SIDE + _BETWEEN)
        parts += _panel([point for point in study.points if point["by"] == by], left, name)
    foot = _TOP + _SIDE + 46
    for x, member, text in ((_LEFT + 6, True, "member"), (_LEFT + 90, False, "non-member")):
        parts += [_mark(x, foot - 4, member), f'<text x="{x + 10}" y="{foot}">{text}</text>']
    parts.append(f'<text x="{_LEFT + 200}" y="{foot}">background: the target\'s label, a colour a class</text>')
    return "".join(parts) + "</svg>\n"


def _panel(points: Sequence[Row], left: int, name: str) -> Iterator[str]:
    middle, foot = left + _SIDE / 2, _TOP + _SIDE
    yield f'<text x="{left}" y="{_TOP - 8}">{escape(name)}</text>'
    yield from _background([point["classes"] for point in points if "classes" in point], left)
    for dot in (point for point in points if "classes" not in point):
        yield _mark(left + _SIDE * dot["x"], foot - _SIDE * dot["y"], dot["member"])
    yield f'<rect x="{left}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#333"/>'
    yield f'<text x="{middle}" y="{foot + 16}" text-anchor="middle">t-SNE 1 (no unit)</text>'
    yield f'<text transform="translate({left - 8} {foot - _SIDE / 2}) rotate(-90)" text-anchor="middle">t-SNE 2</text>'


def _background(cells: Sequence[str], left: int) -> Iterator[str]:
    """Runs of equal cells, one path for each class."""
    size = _SIDE / len(cells)
    paths: dict[str, list[str]] = {}
    for i, row in enumerate(cells):
        at, top = 0, _TOP + _SIDE - (i + 1) * size
        for letter, run in groupby(row):
            width = len(list(run))
            cell = f"M{left + at * size:.1f} {top:.1f}h{width * size:.1f}v{size:.1f}h-{width * size:.1f}z"
            paths.setdefault(letter, []).append(cell)
            at += width
    for n, letter in enumerate(sorted(paths)):
        colour, shade = COLOURS[n % len(COLOURS)], 0.28 if n < len(COLOURS) else 0.12
        yield f'<path fill="{colour}" fill-opacity="{shade}" d="{"".join(paths[letter])}"/>'


def _mark(x: float, y: float, member: bool) -> str:
    if member:
        return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    return f'<path class="cross" d="M{x - 2.5:.1f} {y - 2.5:.1f}l5 5m0-5l-5 5"/>'
