"""A small line chart in SVG: axes, steps, bands, bars. Colours and fonts are the page's (CSS classes), so that a chart
follows dark mode and print; the text is text. Equal input gives equal bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

__all__ = ["Axis", "Chart"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A scale with its ticks. ``log`` needs low > 0; values outside are clipped to the ends."""

    low: float
    high: float
    label: str
    ticks: Sequence[tuple[float, str]]
    log: bool = False
    minor: Sequence[float] = ()

    def place(self, value: float) -> float:
        """Return where ``value`` stands: 0 at ``low``, 1 at ``high``."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)


@dataclass
class Chart:
    """Collects marks in data coordinates; :meth:`render` gives an ``<svg>`` that scales with its column."""

    x: Axis
    y: Axis
    title: str
    width: int = 440
    height: int = 330
    left: int = 62
    bottom: int = 46
    top: int = 10
    right: int = 24
    _marks: list[str] = field(default_factory=list)

    def at(self, point: Point) -> Point:
        """Data to pixels."""
        inner_w, inner_h = self.width - self.left - self.right, self.height - self.top - self.bottom
        return self.left + inner_w * self.x.place(point[0]), self.top + inner_h * (1 - self.y.place(point[1]))

    def line(self, points: Iterable[Point], css: str, *, step: bool = False) -> None:
        """A polyline; ``step``: level until the next point's x, then straight up (no interpolation)."""
        placed = _thin([self.at(p) for p in points])
        if len(placed) < 2:
            return
        path = [f"M{_n(placed[0][0])} {_n(placed[0][1])}"]
        for px, py in placed[1:]:
            path.append(f"H{_n(px)}V{_n(py)}" if step else f"L{_n(px)} {_n(py)}")
        self._marks.append(f'<path class="line {css}" d="{"".join(path)}"/>')

    def band(self, low: Sequence[Point], high: Sequence[Point], css: str) -> None:
        """The area between two lines."""
        ring = [self.at(p) for p in (*low, *reversed(high))]
        self._marks.append(f'<path class="band {css}" d="M{"L".join(f"{_n(a)} {_n(b)}" for a, b in ring)}Z"/>')

    def dot(self, point: Point, css: str, tip: str) -> None:
        """A point with a text that appears under the mouse."""
        px, py = self.at(point)
        self._marks.append(
            f'<circle class="dot {css}" cx="{_n(px)}" cy="{_n(py)}" r="3"><title>{escape(tip)}</title></circle>'
        )

    def whisker(self, x: float, low: float, high: float, css: str) -> None:
        """A vertical interval."""
        (px, bottom), (_, top) = self.at((x, low)), self.at((x, high))
        self._marks.append(f'<path class="whisker {css}" d="M{_n(px)} {_n(bottom)}V{_n(top)}"/>')

    def bar(self, x0: float, x1: float, height: float, css: str, tip: str, *, inset: float = 0.5) -> None:
        """A bar from the foot of the chart."""
        (left, foot), (right, top) = self.at((x0, self.y.low)), self.at((x1, height))
        if foot - top < 0.05:
            return
        self._marks.append(
            f'<rect class="bar {css}" x="{_n(left + inset)}" y="{_n(top)}" '
            f'width="{_n(max(right - left - 2 * inset, 0.6))}" height="{_n(foot - top)}">'
            f"<title>{escape(tip)}</title></rect>"
        )

    def rule(self, *, x: float | None = None, y: float | None = None, css: str = "guide", text: str = "") -> None:
        """A straight line across the chart."""
        if x is not None:
            (px, bottom), (_, top) = self.at((x, self.y.low)), self.at((x, self.y.high))
            self._marks.append(f'<path class="{css}" d="M{_n(px)} {_n(bottom)}V{_n(top)}"/>')
            if text:
                end = px > self.width * 0.7
                self.text(px + (-4 if end else 4), self.top + 9, text, "note", "end" if end else "start")
        if y is not None:
            (left, py), (right, _) = self.at((self.x.low, y)), self.at((self.x.high, y))
            self._marks.append(f'<path class="{css}" d="M{_n(left)} {_n(py)}H{_n(right)}"/>')
            if text:
                self.text(right - 3, py - 4, text, "note", "end")

    def stroke(self, px: float, py: float, length: float, css: str) -> None:
        """A level line from a pixel on, for a legend."""
        self._marks.append(f'<path class="line {css}" d="M{_n(px)} {_n(py)}h{_n(length)}"/>')

    def text(self, px: float, py: float, text: str, css: str, anchor: str = "middle") -> None:
        """Words at a pixel."""
        self._marks.append(
            f'<text class="{css}" x="{_n(px)}" y="{_n(py)}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def render(self) -> Markup:
        """Return the chart."""
        return Markup(
            f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.title)}">'
            f"{self._frame()}{''.join(self._marks)}</svg>"
        )

    def _frame(self) -> str:
        foot, right = self.height - self.bottom, self.width - self.right
        parts = []
        for value in self.y.minor:
            parts.append(f'<path class="grid faint" d="M{self.left} {_n(self.at((self.x.low, value))[1])}H{right}"/>')
        for value in self.x.minor:
            parts.append(f'<path class="grid faint" d="M{_n(self.at((value, self.y.low))[0])} {foot}V{self.top}"/>')
        for value, name in self.y.ticks:
            py = self.at((self.x.low, value))[1]
            parts.append(f'<path class="grid" d="M{self.left} {_n(py)}H{right}"/>')
            parts.append(
                f'<text class="tick" x="{self.left - 7}" y="{_n(py + 4)}" text-anchor="end">{escape(name)}</text>'
            )
        for value, name in self.x.ticks:
            px = self.at((value, self.y.low))[0]
            parts.append(f'<path class="mark" d="M{_n(px)} {foot}v4"/>')
            parts.append(f'<text class="tick" x="{_n(px)}" y="{foot + 17}" text-anchor="middle">{escape(name)}</text>')
        parts.append(f'<path class="axis" d="M{self.left} {foot}H{right}"/>')
        middle = (self.left + right) / 2
        parts.append(
            f'<text class="label" x="{_n(middle)}" y="{self.height - 6}" text-anchor="middle">'
            f"{escape(self.x.label)}</text>"
        )
        if self.y.label:
            up = (self.top + foot) / 2
            parts.append(
                f'<text class="label" transform="translate(14 {_n(up)}) rotate(-90)" text-anchor="middle">'
                f"{escape(self.y.label)}</text>"
            )
        return "".join(parts)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _thin(points: list[Point]) -> list[Point]:
    """Drop points that a pixel's tenth cannot tell from their neighbours, and the inner ones of a straight run."""
    kept: list[Point] = []
    for px, py in points:
        p = (round(px, 1), round(py, 1))
        if kept and p == kept[-1]:
            continue
        straight = len(kept) > 1 and (kept[-2][0] == kept[-1][0] == p[0] or kept[-2][1] == kept[-1][1] == p[1])
        if straight:
            kept[-1] = p
        else:
            kept.append(p)
    return kept
