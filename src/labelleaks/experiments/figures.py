"""The page's figures: AUC against the size of the training set, and against labels. SVG with its own colours."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from labelleaks.auditing.report.svg import Axis, Chart
from labelleaks.experiments.findings import Mean

__all__ = ["COLOURS", "document", "lines", "panels", "ticks"]

COLOURS = ("#c1272d", "#0b6e99", "#b35c00", "#3a7d34", "#7b4fa3", "#8a6d1d", "#c2579a", "#4b5d67")
_ROOM = 0.1
"""Share of an axis that the name of a tick needs."""
_SIZE = re.compile(r'viewBox="0 0 (\d+) (\d+)"')
_STYLE = (
    "<style>text{font:11px system-ui,sans-serif;fill:#333}.label{font-size:12px}.grid{stroke:#ddd}"
    ".axis,.mark{stroke:#333}.line,.guide{fill:none;stroke-width:1.8}.guide{stroke:#999;stroke-dasharray:5 4}"
    + "".join(
        f".s{i}{{stroke:{c}}}.dot.s{i},.bar.s{i}{{fill:{c}}}.whisker.s{i}{{stroke-width:1}}text.s{i}{{stroke:none;fill:{c}}}"
        for i, c in enumerate(COLOURS)
    )
    + ".d1{stroke-dasharray:4 3}.bar{stroke:none;fill-opacity:.45}.note{font-size:10px}</style>"
)


def lines(title: str, label: str, curves: Mapping[str, Sequence[tuple[int, Mean]]]) -> str:
    """Return a chart of AUCs with intervals, x on a logarithmic scale.

    Args:
        label: of the x axis.
        curves: for each name its points, x above 0.
    """
    xs = sorted({x for points in curves.values() for x, _ in points})
    means = [mean for points in curves.values() for _, mean in points]
    low, high = min(0.45, *(m.low for m in means)), min(1.0, max(m.high for m in means) + 0.02)
    ticks = [step / 10 for step in range(11) if low <= step / 10 <= high]
    chart = Chart(
        Axis(xs[0] * 0.9, xs[-1] * 1.1, label, _apart(xs), log=True),
        Axis(low, high, "AUC", [(tick, f"{tick:.1f}") for tick in ticks]),
        title,
        width=660,
        height=360,
        right=220,
        top=24,
    )
    chart.text(chart.left, 14, title, "label", "start")
    chart.rule(y=0.5)
    for i, (name, points) in enumerate(curves.items()):
        css = f"s{i % len(COLOURS)}" + (" d1" if i >= len(COLOURS) else "")
        chart.line([(x, mean.value) for x, mean in points], css)
        for x, mean in points:
            chart.whisker(x, mean.low, mean.high, css)
            chart.dot((x, mean.value), css, f"{name}, {x:,}: {mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f})")
        right, down = chart.width - chart.right + 12, chart.top + 12 + 16 * i
        chart.stroke(right, down - 4, 18, css)
        chart.text(right + 24, down, name, css, "start")
    return document(chart)


def _apart(xs: Sequence[int]) -> list[tuple[float, str]]:
    """A tick for each of xs, increasing; named where the name does not run into the next one's."""
    named: list[tuple[float, str]] = []
    whole, last = math.log(xs[-1] * 1.1) - math.log(xs[0] * 0.9), math.inf
    for x in reversed(xs):
        room = (last - math.log(x)) / whole
        named.append((x, f"{x:,}" if room > _ROOM else ""))
        last = math.log(x) if room > _ROOM else last
    return named[::-1]


def document(chart: Chart) -> str:
    """Return a chart as a file of its own: with its colours, on white whatever page it stands on."""
    drawn = str(chart.render())
    end = drawn.index(">")
    paper = f'<rect width="{chart.width}" height="{chart.height}" fill="#fff"/>'
    return f'{drawn[:end]} xmlns="http://www.w3.org/2000/svg">{_STYLE}{paper}{drawn[end + 1 :]}\n'


def panels(rows: Sequence[Sequence[str]]) -> str:
    """Return figures, each an SVG file of its own, as one file: those of a row beside one another."""
    width, top, parts = 0, 0, []
    for row in rows:
        left, below = 0, top
        for figure in row:
            size = _SIZE.search(figure)
            assert size is not None, "a figure has a viewBox"
            wide, high = int(size[1]), int(size[2])
            place = f'<svg x="{left}" y="{top}" width="{wide}" height="{high}" '
            parts.append(figure.strip().replace("<svg ", place, 1))
            left, below = left + wide, max(below, top + high)
        width, top = max(width, left), below
    return "\n".join([f'<svg viewBox="0 0 {width} {top}" xmlns="http://www.w3.org/2000/svg">', *parts, "</svg>\n"])


def ticks(low: float, high: float, steps: int = 5) -> list[tuple[float, str]]:
    """Return round numbers from ``low`` to ``high``, about ``steps`` of them, with their names."""
    width = (high - low) / steps
    unit = 10.0 ** math.floor(math.log10(width))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= width)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, f"{k * step:.10g}") for k in range(first, last + 1)]
