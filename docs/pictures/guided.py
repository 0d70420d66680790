"""Draw docs/pictures/guided.svg: ways with their log-odds drops, and the posterior that four labels leave.

Run ``python docs/pictures/guided.py``. The curves come from the attack's own likelihood and constants; the target of
the picture has log-odds h with tanh(h / s) = 0.8 and errs by what ``ERRORS`` says along each way.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

from labelleaks.attacks._guided.tuning import TUNING

SATURATION = 4.0  # s, nats
TRUTH = 0.8  # u of the picture's target
ERRORS = (0.02, -0.03, 0.03, -0.02)  # in u, of the four ways
ANGLES = (33, 11, -11, -33)  # degrees
NAT = 42  # pixels
X, Y = 50, 200  # of the candidate
LEFT, RIGHT, TOP, BASE = 490, 850, 70, 340  # of the posterior's panel
INK, SOFT, HELD, GAVE = "#222", "#8a8a8a", "#1b6ca8", "#c2571a"

GRID = [(i + 0.5) / TUNING.grid for i in range(TUNING.grid)]


def updated(weights: list[float], asked: float, held: bool) -> list[float]:
    """Return the posterior after one label at a drop of ``asked``, in u."""
    holds = [
        TUNING.miss + (1 - TUNING.lapse - TUNING.miss) / (1 + math.exp((asked - u) / TUNING.error_scale)) for u in GRID
    ]
    joint = [w * (p if held else 1 - p) for w, p in zip(weights, holds, strict=True)]
    return [w / sum(joint) for w in joint]


def median(weights: list[float]) -> float:
    """Return the first value of the grid at which half of the probability is reached."""
    total = 0.0
    for u, w in zip(GRID, weights, strict=True):
        total += w
        if total >= 0.5:
            return u
    return GRID[-1]


def questions() -> tuple[list[tuple[float, bool]], list[list[float]]]:
    """Return each question's u and answer, and the posterior before the first and after each."""
    posteriors, asked = [[1 / TUNING.grid] * TUNING.grid], []
    for error in ERRORS:
        u = TUNING.first_u if not asked else median(posteriors[-1])
        asked.append((u, u < TRUTH + error))
        posteriors.append(updated(posteriors[-1], *asked[-1]))
    return asked, posteriors


def place(angle: float, u: float) -> tuple[float, float]:
    """Return the pixel on the way at ``angle`` whose drop is s atanh(u)."""
    drop = SATURATION * math.atanh(u)
    return X + NAT * drop * math.cos(math.radians(angle)), Y - NAT * drop * math.sin(math.radians(angle))


def text(x: float, y: float, words: str, *, color: str = INK, size: int = 13, anchor: str = "start") -> str:
    """Return a line of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{color}" font-size="{size}" text-anchor="{anchor}">{words}</text>'


def ways(asked: list[tuple[float, bool]]) -> list[str]:
    """Return the left panel: four ways, a tick for each nat, the target's decision boundary, the points asked."""
    crossings = [place(a, TRUTH + e) for a, e in zip(ANGLES, ERRORS, strict=True)]
    ends = [place(50, TRUTH + 0.04), *crossings, place(-50, TRUTH + 0.01)]
    curve = f"M{ends[0][0]:.1f},{ends[0][1]:.1f} " + " ".join(
        f"Q{b[0]:.1f},{b[1]:.1f} {(b[0] + c[0]) / 2:.1f},{(b[1] + c[1]) / 2:.1f}" for b, c in pairwise(ends[1:])
    )
    drawn = [f'<path d="{curve} L{ends[-1][0]:.1f},{ends[-1][1]:.1f}" fill="none" stroke="{INK}" stroke-width="2"/>']
    for number, (angle, (u, held)) in enumerate(zip(ANGLES, asked, strict=True), 1):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        far = 6.4 * NAT
        drawn.append(
            f'<line x1="{X}" y1="{Y}" x2="{X + far * cos:.1f}" y2="{Y - far * sin:.1f}" stroke="{SOFT}" '
            'stroke-dasharray="4 3"/>'
        )
        for nat in range(1, 7):
            a, b = X + nat * NAT * cos, Y - nat * NAT * sin
            drawn.append(
                f'<line x1="{a - 4 * sin:.1f}" y1="{b - 4 * cos:.1f}" x2="{a + 4 * sin:.1f}" y2="{b + 4 * cos:.1f}" '
                f'stroke="{SOFT}"/>'
            )
        a, b = place(angle, u)
        fill, stroke = (HELD, HELD) if held else ("white", GAVE)
        drawn.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="6" fill="{fill}" stroke="{stroke}" stroke-width="2"/>')
        drawn.append(text(X + (far + 10) * cos, Y - (far + 10) * sin + 4, str(number)))
    drawn.append(f'<circle cx="{X}" cy="{Y}" r="5" fill="{INK}"/>')
    drawn.append(text(X - 14, Y + 5, "x", anchor="end"))
    drawn.append(text(crossings[1][0] + 24, Y + 5, "from here on the target does not say y", size=12))
    drawn.append(f'<line x1="240" y1="369" x2="240" y2="381" stroke="{SOFT}"/>')
    drawn.append(text(250, 379, "one more nat lost by the measuring"))
    drawn.append(text(250, 396, "half of the references"))
    drawn.append(f'<circle cx="30" cy="375" r="6" fill="{HELD}" stroke="{HELD}" stroke-width="2"/>')
    drawn.append(text(42, 379, "label held"))
    drawn.append(f'<circle cx="130" cy="375" r="6" fill="white" stroke="{GAVE}" stroke-width="2"/>')
    drawn.append(text(142, 379, "label gave way"))
    return drawn


def posterior(posteriors: list[list[float]]) -> list[str]:
    """Return the right panel: the posterior over u after 0, 1, 2 and 4 labels, and its mean."""
    top = 1.08 * max(map(max, posteriors))
    drawn = [f'<line x1="{LEFT}" y1="{BASE}" x2="{RIGHT}" y2="{BASE}" stroke="{INK}"/>']
    for tick in (0, 0.25, 0.5, 0.75, 1):
        a = LEFT + tick * (RIGHT - LEFT)
        drawn.append(f'<line x1="{a}" y1="{BASE}" x2="{a}" y2="{BASE + 5}" stroke="{INK}"/>')
        drawn.append(text(a, BASE + 19, f"{tick:g}", anchor="middle", size=12))
    colors = {0: "#c8c8c8", 1: "#9dbfd8", 2: "#5d97c2", 4: "#0f4c7a"}
    for labels, color in colors.items():
        line = " ".join(
            f"{LEFT + u * (RIGHT - LEFT):.1f},{BASE - w / top * (BASE - TOP):.1f}"
            for u, w in zip(GRID, posteriors[labels], strict=True)
        )
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2.5"/>')
    for row, (labels, color) in enumerate(colors.items()):
        y = TOP + 14 + 19 * row
        drawn.append(f'<line x1="{LEFT + 8}" y1="{y}" x2="{LEFT + 32}" y2="{y}" stroke="{color}" stroke-width="2.5"/>')
        drawn.append(text(LEFT + 40, y + 4, "before any label" if labels == 0 else f"after {labels}"))
    mean = sum(u * w for u, w in zip(GRID, posteriors[-1], strict=True))
    for u, color, words, rise in ((mean, colors[4], "E[u]", 0), (TRUTH, GAVE, "truth", 14)):
        a = LEFT + u * (RIGHT - LEFT)
        drawn.append(
            f'<line x1="{a:.1f}" y1="{BASE}" x2="{a:.1f}" y2="{TOP - rise}" stroke="{color}" stroke-dasharray="3 3"/>'
        )
        drawn.append(text(a, TOP - rise - 4, words, color=color, size=12, anchor="middle"))
    drawn.append(text((LEFT + RIGHT) / 2, BASE + 38, "u = tanh(h / s), the target’s log-odds at x", anchor="middle"))
    return drawn


def picture() -> str:
    """Return the whole picture as SVG."""
    asked, posteriors = questions()
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 410" font-family="sans-serif" role="img">',
        "<title>One label along each of four ways, and the posterior over the target’s log-odds</title>",
        '<rect width="880" height="410" fill="white"/>',
        text(24, 26, "One label along each way", size=15),
        text(LEFT, 26, "Posterior over the target’s log-odds", size=15),
        *ways(asked),
        *posterior(posteriors),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
