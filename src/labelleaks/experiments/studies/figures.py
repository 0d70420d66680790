"""Figures of studies, each from one committed file. Members are blue, non-members red, in all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import escape
from numpy.typing import NDArray

from labelleaks import data
from labelleaks.auditing.report.svg import Axis, Chart
from labelleaks.experiments.figures import COLOURS, document, ticks
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.studies.base import Interval, Study
from labelleaks.experiments.studies.percentile import Called, balanced_accuracy, f1

__all__ = ["KINDS", "called", "distribution", "mean_radius", "percentiles", "radii", "regions", "title_of"]


SIDES = (("members", "members", "s1"), ("nonmembers", "non-members", "s0"))
"""Key of a side's counts, its name, its colour."""
KINDS = {"fakedata": ("FakeData images", "s2"), "uniform": ("uniform inputs", "s4")}
"""Random inputs, and their colour."""


def title_of(study: Study) -> str:
    """Data set, size, seed and protocol, for people."""
    dataset, protocol, size, seed = study.world
    return f"{data.card(dataset).title}, target of {size:,} rows, seed {seed}, protocol {protocol}"


def radii(study: Study) -> str:
    """Share of the candidates that are certified beyond r, against r."""
    radius_of = {key: _radii(study.points, key == "members") for key, _, _ in SIDES}
    most = max(0.05, *(float(values.max(initial=0)) for values in radius_of.values())) * 1.03
    axis = Axis(0, most, "certified radius r (L2; pixels from 0 to 1)", ticks(0, most))
    chart = _chart(study, axis, Axis(0, 1, "share of candidates beyond r", ticks(0, 1)))
    for i, (key, name, css) in enumerate(SIDES):
        values, mean = radius_of[key], mean_radius(study, key)
        beyond = [(float(r), float((values > r).mean())) for r in np.unique([0.0, *values])]
        chart.line(beyond, css, step=True)
        _legend(chart, 2 * i, name, css)
        _legend(chart, 2 * i + 1, f"mean {mean['value']:.3f} ({mean['low']:.3f} to {mean['high']:.3f})", "note")
    return document(chart)


def mean_radius(study: Study, side: str) -> Interval:
    """Return the mean radius of ``"members"`` or ``"nonmembers"``; no interval reaches below 0, as no radius does."""
    interval = study.head["radius"][side]
    return {key: max(0.0, number) for key, number in interval.items()}


def _radii(points: Sequence[Row], member: bool) -> NDArray[np.float64]:
    return np.array([p["radius"] if p["correct"] else 0.0 for p in points if p["member"] is member], dtype=np.float64)


def distribution(study: Study) -> str:
    """Share of each side in each bin, and beside them those that are in no bin."""
    head, loss = study.head, study.head["quantity"] == "loss"
    edges = [point["low"] for point in study.points] + [study.points[-1]["high"]]
    places = [math.log10(edge) for edge in edges] if loss else edges
    columns = _columns(study, places[0], places[-1])
    marks = [(math.log10(v), f"{v:g}") for v in (1e-4, 1e-3, 1e-2, 0.1, 1)] if loss else ticks(places[0], places[-1])
    marks += [((column.low + column.high) / 2, column.name) for column in columns]
    bars = {
        key: [
            (a, b, point[key] / head[f"n_{key}"]) for a, b, point in zip(places, places[1:], study.points, strict=False)
        ]
        + [(column.low, column.high, head[column.key][side] / head[f"n_{key}"]) for column in columns]
        for side, (key, _, _) in enumerate(SIDES)
    }
    top = max(0.01, 1.08 * max(share for found in bars.values() for _, _, share in found))
    ends = [*places, *(end for column in columns for end in (column.low, column.high))]
    pad = 0.02 * (max(ends) - min(ends))
    loss_words = "cross-entropy of the true label on the shadow model, nats"
    words = loss_words if loss else f"L2 distance to the nearest other label found, {head['labels']:,} labels"
    axis = Axis(min(ends) - pad, max(ends) + pad, words, marks)
    chart = _chart(study, axis, Axis(0, top, "share of the side", ticks(0, top)))
    for i, (key, name, css) in enumerate(SIDES):
        for a, b, share in bars[key]:
            chart.bar(a, b, share, css, f"{name}: {share:.3f}")
        _legend(chart, i, f"{head[f'n_{key}']:,} {name}", css)
    return document(chart)


@dataclass(frozen=True)
class _Column:
    """A bar beside a histogram."""

    key: str
    name: str
    low: float
    high: float


def _columns(study: Study, low: float, high: float) -> list[_Column]:
    """Return the columns of candidates in no bin: wrong labels left of the rest, or right of losses; no start right."""
    gap, width = 0.08 * (high - low), 0.1 * (high - low)
    right = (high + gap, high + gap + width)
    if study.head["quantity"] == "loss":
        return [_Column("misclassified", "wrong label", *right)]
    columns = [_Column("misclassified", "wrong label", low - gap - width, low - gap)]
    return columns + ([_Column("no_start", "none found", *right)] if any(study.head["no_start"]) else [])


def percentiles(study: Study) -> str:
    """Balanced accuracy and F1 of the percentile thresholds, against t."""
    lines = []
    for kind, (name, css) in KINDS.items():
        rows = [point for point in study.points if point["inputs"] == kind]
        for dashes, of, words in (("", balanced_accuracy, "balanced accuracy"), (" d1", f1, "F1, dashed")):
            line = [(float(row["t"]), of(called(study, row))["value"]) for row in rows]
            lines += [(line, css + dashes, name, words)] if rows else []
    best = balanced_accuracy(called(study, study.head["best"]))["value"]
    values = [best, *(value for line, _, _, _ in lines for _, value in line)]
    low, high = min(0.45, *values) - 0.02, min(1.0, max(values) + 0.04)
    words = "percentile t of random inputs' distances (larger: fewer members)"
    chart = _chart(
        study, Axis(1, 99, words, ticks(0, 100)[1:-1]), Axis(low, high, "balanced accuracy, F1", ticks(low, high))
    )
    chart.rule(y=best)
    for i, (line, css, name, words) in enumerate(lines):
        chart.line(line, css)
        _legend(chart, 2 * i, name, css.split()[0])
        _legend(chart, 2 * i + 1, words, "note")
    _legend(chart, 2 * len(lines) + 1, f"grey: {best:.3f}, balanced accuracy of the", "note")
    _legend(chart, 2 * len(lines) + 2, "best threshold, which needs members", "note")
    return document(chart)


def called(study: Study, row: Row) -> Called:
    """Return whom a threshold of a percentile study calls members."""
    return Called(row["tp"], row["fp"], study.head["n_members"], study.head["n_nonmembers"])


def _chart(study: Study, x: Axis, y: Axis) -> Chart:
    chart = Chart(x, y, title_of(study), width=700, height=340, right=210, top=26)
    chart.text(chart.left, 15, title_of(study), "label", "start")
    return chart


def _legend(chart: Chart, line: int, text: str, css: str) -> None:
    chart.text(chart.width - chart.right + 12, chart.top + 12 + 16 * line, text, css, "start")


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
