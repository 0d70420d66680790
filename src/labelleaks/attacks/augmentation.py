"""The augmentation attack: a member keeps its label when it is moved, turned or respelt a little."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from labelleaks.attacks.words import Words
from labelleaks.core import rng
from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.domains import Layout, Spelling, image_size, shifted_axes, why_no_layout
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory, checkpoints_up_to
from labelleaks.core.validation import numbers
from labelleaks.errors import InputError, NeedsError

__all__ = ["Augmentation", "rotate", "translate"]

_BLOCK = 1 << 22
"""Pixels held at a time, 16 MB of float32: memory does not grow with candidates x transforms."""

_SPELLINGS: tuple[Spelling, ...] = ("spaced", "lower", "bare", "upper")
"""Of a text, the smallest change first."""
_EXCHANGES = 6
"""Of a text: further copies, each with two neighbouring words exchanged."""
_IN_TIME = (1, 2, 4)
"""Of a sequence: multiples of a shift; as many labels as a picture's four directions need."""

Transform = Callable[[Tensor], Tensor]
"""Images (m, C, H, W) -> the same images, moved."""


@dataclass(frozen=True)
class Augmentation:
    """Share of moved copies that keep the true label, the candidate itself counted as one of them.

    The transforms are the same for every candidate and go from small to large, so that a prefix of them is a smaller
    attack of the same kind: translations by all (i, j) with |i| + |j| = d pixels (4 d of them), rotations by -r and
    +r degrees. With k of n transforms still classified as y, a correctly classified candidate scores
    (k + 1) / (n + 1), in (0, 1]; a misclassified one scores 0 after one label. So the best threshold on this score
    never falls behind the gap attack, as one on a plain count of all copies can.

    Args:
        rotations: angles r in degrees, each used in both directions.
        translations: shift lengths d in pixels (sum of both axes). What a shift uncovers is filled with the edge.

    Texts, alone or in a table, are written another way instead: with one more space between words, in small letters,
    without punctuation, in capitals, and six times with one word and its neighbour exchanged, at a place drawn for each
    candidate. Sequences are shifted in time, to and fro, by d, 2 d and 4 d steps, volumes and video by d along each of
    their sides (:func:`labelleaks.core.domains.shifted_axes` tells which they are). Other rows must be images,
    (C, H, W), (H, W) or (H, W, C) with any number of channels, whose layout their shape or the domain tells
    (:mod:`labelleaks.core.domains.layout`): nothing is moved from one channel to another.

    Raises:
        InputError: no transform, a rotation outside (0, 180], a translation below 1.
        NeedsError: rows that are not images, or may be channels first or last; a translation as wide as the image.

    In the paper 1 <= r <= 8 and 1 <= d <= 2 beat the gap attack; its classifier is a net for each class, trained on a
    source model, and this one needs no source model. The defaults (11 labels) had the best mean AUC of seven sets on
    development splits of CIFAR-10, MNIST and digits; shifts by 2 or 3 pixels and rotations above 8 degrees lowered it,
    and weights by size changed it by less than 0.01.

    Source: Choquette-Choo, Tramèr, Carlini, Papernot, "Label-Only Membership Inference Attacks", ICML 2021, rotation
    and translation attacks.
    """

    name: ClassVar[str] = "augmentation"
    needs: ClassVar[frozenset[str]] = frozenset()
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Asks about shifted and rotated copies; members keep their label more often.",
        "share of changed copies kept",
    )

    rotations: tuple[float, ...] = (2.0, 4.0, 6.0)
    translations: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        numbers(self, "rotations", "(0, 180]")
        numbers(self, "translations", "[1, inf)", wholes=True)
        if not self.rotations and not self.translations:
            raise InputError("augmentation: give at least one of rotations and translations, got neither")
        for name in ("rotations", "translations"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    def transforms(self, height: int, width: int) -> list[Transform]:
        """Return the transforms for images of this size, smallest first.

        The size of a rotation is the arc that it moves a pixel halfway between the centre and the edge.
        """
        radius = (height + width) / 8
        sized: list[tuple[float, Transform]] = []
        for d in self.translations:
            sized += [(float(d), _shift(i, j)) for i, j in _diamond(d)]
        for r in self.rotations:
            sized += [(math.radians(r) * radius, _turn(sign * r)) for sign in (-1, 1)]
        return [transform for _, transform in sorted(sized, key=lambda pair: pair[0])]

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """Two labels at least (the candidate and one transform); 1 + 2 per rotation + 4 d per translation at most, 11
        of a text."""
        return Cost(least=2, most=min(budget, 1 + self.count(candidates)))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Nothing to set up."""
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Ask once for each candidate, then for the moved copies of those that are classified correctly.

        BUDGET where the budget cut the list of transforms short. ``details["kept"]``: bool (n, transforms), whether
        each transform that was asked for kept the label.
        """
        y, device = candidates.y, candidates.device
        count = self.count(candidates)
        labels = min([count + 1, *oracle.remaining().tolist()])
        everyone = torch.arange(len(candidates), device=device)
        correct = oracle.query(candidates.x, everyone, phase="correct") == y

        kept = torch.zeros(len(candidates), labels - 1, dtype=torch.bool, device=device)
        block = max(1, _BLOCK // (labels * candidates.width))
        for rows in torch.split(everyone[correct], block) if labels > 1 and bool(correct.any()) else ():
            copies = self._copies(candidates, rows, labels - 1, seed)
            owner = rows.repeat_interleave(labels - 1)
            answers = oracle.query(candidates.domain.project(copies), owner, phase="copies")
            kept[rows] = answers.reshape(len(rows), labels - 1) == y[rows, None]

        checkpoints = checkpoints_up_to(labels)
        so_far = torch.cat([correct[:, None], kept], 1).cumsum(1)  # (n, labels): labels still right
        at = torch.tensor(checkpoints, device=device)
        share = (so_far[:, at - 1] / at.to(torch.float64)).T.contiguous()
        ended = Status.DONE if labels > count else Status.BUDGET
        return Scores(
            value=share[-1],
            status=torch.where(correct, int(ended), int(Status.MISCLASSIFIED)),
            queries=torch.where(correct, labels, 1),
            trajectory=Trajectory(checkpoints, share),
            details={"kept": kept},
        )

    def count(self, candidates: Candidates) -> int:
        """Return the number of changed copies of a candidate.

        Raises:
            NeedsError: rows that are neither images nor texts, or images too small to be moved so far.
        """
        if Words.of(candidates.domain, candidates.shape) is not None:
            return len(_SPELLINGS) + _EXCHANGES
        if (axes := shifted_axes(candidates.shape, candidates.domain.layout)) is not None:
            return len(self._shifts(candidates.shape, axes))
        return len(self.transforms(*self._size(candidates)))

    def _copies(self, candidates: Candidates, rows: Tensor, count: int, seed: int) -> Tensor:
        """Return the first ``count`` copies of these candidates, a row's side by side: (k * count, *shape)."""
        x = candidates.x[rows]
        words = Words.of(candidates.domain, candidates.shape)
        axes = shifted_axes(candidates.shape, candidates.domain.layout)
        if words is None and axes is not None:
            shifts = self._shifts(candidates.shape, axes)[:count]
            return torch.stack([_rolled(x, axis, step) for axis, step in shifts], 1).reshape(-1, *candidates.shape)
        if words is None:
            return _moved(x, self.transforms(*self._size(candidates))[:count], candidates.layout)
        flat = x.flatten(1)
        draws = rng.uniform(candidates.streams(seed, "augmentation: exchanges")[rows], _EXCHANGES)
        copies = [words.spelt(flat, spelling) for spelling in _SPELLINGS[:count]]
        copies += [words.exchanged(flat, draws[:, i]) for i in range(count - len(copies))]
        return torch.stack(copies, 1).reshape(-1, *candidates.shape)

    def _shifts(self, shape: tuple[int, ...], axes: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return (axis of a row, steps) of each shift of a sequence or volume, the smallest first.

        Raises:
            NeedsError: no translation, or one as long as the row.
        """
        times = _IN_TIME if len(axes) == 1 else (1,)
        steps = sorted({d * k for d in self.translations for k in times})
        short = min(shape[axis] for axis in axes)
        steps = [step for step in steps if step < short]
        if not steps:
            raise NeedsError(
                f"augmentation: sequences and volumes are shifted, and none of translations={self.translations} is "
                f"below {short}, their length: give smaller ones, or use noise"
            )
        return [(axis, sign * step) for step in steps for axis in axes for sign in (-1, 1)]

    def _size(self, candidates: Candidates) -> tuple[int, int]:
        """Return (H, W) of the candidates' images.

        Raises:
            NeedsError: rows that are not images, or images too small to be moved so far.
        """
        shape, layout = candidates.shape, candidates.layout
        if layout is None:
            raise NeedsError(
                "augmentation needs images, sequences, volumes or texts: "
                f"{why_no_layout(shape, candidates.domain.layout)}; use noise, or give the rows as images"
            )
        _, height, width = image_size(shape, layout)
        if self.translations and self.translations[-1] >= min(height, width):
            raise NeedsError(
                f"augmentation: a translation by {self.translations[-1]} pixels is too far for images of "
                f"{height} x {width}; give smaller translations"
            )
        return height, width


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Turn images counter-clockwise about their centre; bilinear, what comes from outside is the nearest edge.

    Args:
        images: float32 (m, C, H, W).
        degrees: the angle.

    Returns:
        float32 (m, C, H, W), a new tensor.
    """
    height, width = images.shape[2:]
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    # Where each output pixel comes from, in coordinates that run from -1 to 1 along each axis.
    theta = torch.tensor([[[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]], device=images.device)
    grid = functional.affine_grid(theta, [1, 1, height, width], align_corners=False)
    grid = grid.expand(len(images), -1, -1, -1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def translate(images: Tensor, down: int, right: int) -> Tensor:
    """Shift images by whole pixels; what is uncovered is filled with the nearest edge.

    Args:
        images: (m, C, H, W), any dtype.
        down, right: pixels, negative for up and left.

    Returns:
        (m, C, H, W), a new tensor.
    """
    height, width = images.shape[2:]
    rows = (torch.arange(height, device=images.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - right).clamp(0, width - 1)
    return images[:, :, rows[:, None], columns]


def _shift(down: int, right: int) -> Transform:
    return lambda images: translate(images, down, right)


def _turn(degrees: float) -> Transform:
    return lambda images: rotate(images, degrees)


def _diamond(d: int) -> list[tuple[int, int]]:
    """Return all (i, j) with |i| + |j| = d, going round in steps that keep a prefix of 4 balanced."""
    quarter = [(d - k, k) for k in range(d)]
    return [turned for i, j in quarter for turned in ((i, j), (-i, -j), (j, -i), (-j, i))]


def _rolled(x: Tensor, axis: int, step: int) -> Tensor:
    """Shift rows (m, *shape) by ``step`` along an axis of a row; what is uncovered is filled with the edge."""
    length = x.shape[axis + 1]
    places = (torch.arange(length, device=x.device) - step).clamp(0, length - 1)
    return x.index_select(axis + 1, places)


def _moved(x: Tensor, transforms: list[Transform], layout: Layout | None) -> Tensor:
    """Apply every transform to every row: (m, *shape) -> (m * transforms, *shape), a row's copies side by side."""
    images = x[:, None] if layout == "hw" else x.movedim(3, 1).contiguous() if layout == "hwc" else x
    moved = torch.stack([transform(images) for transform in transforms], 1)
    if layout == "hwc":
        moved = moved.movedim(2, 4)
    return moved.reshape(-1, *x.shape[1:])
