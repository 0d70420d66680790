"""Power against labels, as an SVG file that brings its own colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.power.summary import MeanOverSeeds, Summary
from labelleaks.auditing.report.svg import Axis, Chart

__all__ = ["curve"]

COLOURS = ("#c1272d", "#0b6e99", "#b35c00", "#3a7d34", "#7b4fa3", "#8a6d1d", "#c2579a", "#4b5d67")
MOST_LABELS = 2500
TICKS = [(1, "1"), (2, "2"), (5, "5"), (10, "10"), (20, "20"), (50, "50"), (200, "200"), (1000, "1,000"),
         (2500, "2,500")]  # fmt: skip
_STYLE = (
    "<style>svg{background:#fff}text{font:11px system-ui,sans-serif;fill:#333}.label{font-size:12px}"
    ".grid{stroke:#ddd}.axis,.mark{stroke:#333}"
    ".line,.guide{fill:none;stroke-width:1.8}.guide{stroke:#333;stroke-dasharray:5 4;stroke-width:1.2}.note{fill:#555}"
    + "".join(
        f".s{i}{{stroke:{c}}}.dot.s{i}{{fill:{c}}}.whisker.s{i}{{stroke-width:1}}text.s{i}{{stroke:none;fill:{c}}}"
        for i, c in enumerate(COLOURS)
    )
    + ".d1{stroke-dasharray:4 3}</style>"
)


def curve(found: Sequence[Summary], measure: str, name: str) -> str:
    """Return an SVG: each attack's mean over seeds at each budget, with intervals; LiRA's better variance as a rule.

    Args:
        found: summaries of one data set.
        measure: ``"auc"``, or a false-positive rate as in the rows.
        name: of the data set.
    """
    lines = list(_lines(found, measure))
    marks = [mean for s in found if s.key[0] == "lira_offline" and (mean := _of(s, measure))]
    low, high = _range([*marks, *(mean for _, points in lines for _, mean in points)], measure)
    words = "AUC" if measure == "auc" else f"TPR at {100 * float(measure):g} % FPR"
    chart = Chart(
        Axis(1, MOST_LABELS, "labels per candidate", TICKS, log=True),
        Axis(low, high, words, [(t, f"{t:.2f}") for t in _ticks(low, high)]),
        f"{name}: {words} against labels per candidate",
        width=640,
        height=380,
        right=180,
        top=24,
    )
    chart.text(chart.left, 14, name, "label", "start")
    ceilings = [(mean.value, s.key[1]) for s in found if s.key[0] == "lira_offline" and (mean := _of(s, measure))]
    if ceilings:
        best, variant = max(ceilings)
        chart.rule(y=best, text=f"posterior LiRA, {variant.replace('_', ' ')} variance")
    for i, (attack, points) in enumerate(lines):
        css = f"s{i % len(COLOURS)}" + (" d1" if i >= len(COLOURS) else "")
        chart.line([(labels, mean.value) for labels, mean in points], css)
        for labels, mean in points:
            chart.whisker(labels, mean.low, mean.high, css)
            chart.dot((labels, mean.value), css, f"{attack}, {labels} labels: {mean}")
        chart.text(chart.width - chart.right + 12, chart.top + 12 + 16 * i, attack, f"s{i % len(COLOURS)}", "start")
    drawn = str(chart.render())
    end = drawn.index(">")
    return f'{drawn[:end]} xmlns="http://www.w3.org/2000/svg">{_STYLE}{drawn[end + 1 :]}\n'


def _lines(found: Sequence[Summary], measure: str) -> Iterator[tuple[str, list[tuple[int, MeanOverSeeds]]]]:
    """Attacks by their best point, each with its points in the order of labels."""
    lines: dict[str, list[tuple[int, MeanOverSeeds]]] = {}
    for summary in found:
        mean = _of(summary, measure)
        if summary.sees == "labels" and mean is not None:
            lines.setdefault(summary.name, []).append((summary.labels, mean))
    for name in sorted(lines, key=lambda n: -max(mean.value for _, mean in lines[n])):
        yield name, sorted(lines[name], key=lambda point: point[0])


def _of(summary: Summary, measure: str) -> MeanOverSeeds | None:
    return summary.auc if measure == "auc" else summary.rates[measure]


def _range(means: Sequence[MeanOverSeeds], measure: str) -> tuple[float, float]:
    if not means:
        return 0.0, 1.0
    step = 0.05
    low = 0.0 if measure != "auc" else step * int(min(m.low for m in means) / step)
    return low, min(1.0, step * (int(max(m.high for m in means) / step) + 1))


def _ticks(low: float, high: float) -> list[float]:
    step = 0.05 if high - low <= 0.55 else 0.1
    return [low + step * i for i in range(round((high - low) / step) + 1)]
