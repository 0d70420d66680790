"""Curves of a record as one SVG that stands by itself: in notebooks, in a file, in a paper."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from labelleaks.auditing.report import asset, charts
from labelleaks.errors import InputError

if TYPE_CHECKING:  # a record shows itself by its report
    from labelleaks.auditing.record import AuditRecord

__all__ = ["Plot", "plot"]

_WIDTH, _HEIGHT, _LEGEND = 440, 330, 34


@dataclass(frozen=True)
class Plot:
    """An SVG, with its own style. Notebooks show it; ``str(plot)`` is its text."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __str__(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write it to a .svg file; return the file.

        Raises:
            InputError: another suffix: converters (Inkscape, ``rsvg-convert``) make PDF and PNG of it.
        """
        file = Path(path)
        if file.suffix.lower() != ".svg":
            raise InputError(f"{file}: a plot is an SVG, give a name that ends with .svg")
        file.write_text(self.svg, encoding="utf-8")
        return file


def plot(record: AuditRecord) -> Plot:
    """Return the ROC on logarithmic and on linear axes, and AUC against labels where there is such a curve.

    Raises:
        InputError: the record has no finished attack.
    """
    if not record.attacks:
        raise InputError("plot() needs a finished attack, and this record has none")
    drawn = [one for one in (charts.roc_log(record), charts.roc_linear(record), charts.power(record)) if one]
    width, height = _WIDTH * len(drawn), _HEIGHT + _LEGEND
    placed = "".join(
        one.replace("<svg ", f'<svg x="{i * _WIDTH}" y="0" width="{_WIDTH}" height="{_HEIGHT}" ', 1)
        for i, one in enumerate(map(str, drawn))
    )
    return Plot(
        f'<svg xmlns="http://www.w3.org/2000/svg" class="labelleaks-plot" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(record.name)}"><style>{_style()}</style>'
        f'<rect class="ground" width="{width}" height="{height}"/>{placed}{_legend(record, width)}</svg>'
    )


def _legend(record: AuditRecord, width: int) -> Markup:
    """A stretch of line and a name for each attack, in as many places as there are attacks."""
    names = charts.colours(record.attacks)
    step = width / len(names)
    y = _HEIGHT + _LEGEND // 2
    return Markup("").join(
        Markup('<path class="line {}" d="M{:.0f} {}h24"/><text class="label" x="{:.0f}" y="{}">{}</text>').format(
            css, 12 + i * step, y, 42 + i * step, y + 4, name
        )
        for i, (name, css) in enumerate(names.items())
    )


def _style() -> str:
    """The page's rules for charts, each inside the plot's own class, with its light colours."""
    css = asset("report.css")
    colours = re.search(r":root \{(.*?)\}", css, re.DOTALL)
    assert colours is not None
    rules = re.findall(r"^\.(?:chart|line|chance|threshold|band|whisker|dot|s\d+|d\d)\b.*$", css, re.MULTILINE)
    inside = "".join(
        f".labelleaks-plot {rule.strip()}" for line in rules for rule in re.findall(r"[^{}]+\{[^{}]*\}", line)
    )
    listed = inside.replace(", .", ", .labelleaks-plot .")
    return f".labelleaks-plot {{{colours[1].strip()} font: 12.5px sans-serif}} .ground {{fill: #fff}} {listed}"
