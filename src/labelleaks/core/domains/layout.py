"""Image layout of a row: one decision, from its shape and, where it was given, the user's word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from labelleaks.errors import InputError

__all__ = [
    "LEAST_SIDE",
    "SIDES",
    "WORDS",
    "Layout",
    "Word",
    "check_word",
    "image_layout",
    "image_size",
    "is_ambiguous",
    "why_no_layout",
]

Layout = Literal["chw", "hw", "hwc"]
"""Channels first, no channels, channels last."""
Word = Literal["chw", "hw", "hwc", "none"]
"""What a user may say of rows; ``"none"``: they are no pictures, whatever their shape."""
WORDS: tuple[Word, ...] = get_args(Word)
SIDES: dict[Layout, tuple[int, int]] = {"chw": (1, 2), "hw": (0, 1), "hwc": (0, 1)}
"""The axes of a row that are height and width."""

LEAST_SIDE = 4
"""Pixels: below this a row of two or three axes is a table, not a picture, unless the user says so."""
_COLOURS = (1, 3, 4)


def image_layout(shape: Sequence[int], word: Word | None = None) -> Layout | None:
    """Return how a row of ``shape`` is a picture, or None where it is not one or its shape does not tell.

    The user's ``word`` decides where there is one. Else two axes are a picture without channels, and three axes are
    the first of these that fits one end only, both sides of the picture having 4 pixels at least:

    1. 1, 3 or 4 channels: the colours that pictures have;
    2. a square and any number of bands: (13, 16, 16), (16, 16, 13);
    3. at most half as many bands as pixels on either side: (5, 48, 64), (48, 64, 5).

    Where channels could as well be first as last, as in (4, 32, 4) or (32, 32, 32), nothing is guessed.

    Raises:
        InputError: a word that needs another number of axes.
    """
    shape = tuple(shape)
    if word is not None:
        return _named(shape, word)
    if len(shape) == 2:
        return "hw" if min(shape) >= LEAST_SIDE else None
    fits = _fitting(shape)
    for rule in (_coloured, _square, _thin):
        found = [layout for layout in fits if rule(shape, layout)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def image_size(shape: Sequence[int], layout: Layout) -> tuple[int, int, int]:
    """Return (C, H, W) of a row of ``shape`` in ``layout``; one channel where it has no axis for them."""
    shape = tuple(shape)
    if layout == "hw":
        return (1, shape[0], shape[1])
    return (shape[2], shape[0], shape[1]) if layout == "hwc" else (shape[0], shape[1], shape[2])


def why_no_layout(shape: Sequence[int], word: Word | None = None) -> str:
    """Return why :func:`image_layout` finds no picture, and what to do about it: ends a message."""
    shape = tuple(shape)
    if is_ambiguous(shape, word):
        return (
            f"rows of shape {shape} may have channels first or last, their shape does not tell: say "
            'Box(…, layout="chw") or layout="hwc"'
        )
    return f"rows of shape {shape} are no pictures" + (f' (layout="{word}")' if word is not None else "")


def is_ambiguous(shape: Sequence[int], word: Word | None = None) -> bool:
    """Whether rows of ``shape`` would be pictures if it were known where their channels are."""
    return image_layout(shape, word) is None and word is None and len(_fitting(tuple(shape))) == 2


def check_word(word: object, what: str) -> None:
    """Raise InputError where ``word`` is neither a :data:`Word` nor None; ``what`` names the domain."""
    if word is not None and word not in WORDS:
        known = ", ".join(f'"{known}"' for known in WORDS)
        raise InputError(f"{what}: layout={word!r}: one of {known} or None is needed")


def _named(shape: tuple[int, ...], word: Word) -> Layout | None:
    if word == "none":
        return None
    if len(shape) != len(word):
        raise InputError(
            f'layout="{word}": rows have shape {shape}, not {len(word)} axes: give the layout of these rows, or none'
        )
    return word


def _fitting(shape: tuple[int, ...]) -> list[Layout]:
    """The layouts of three axes in which the sides are long enough."""
    if len(shape) != 3:
        return []
    layouts: tuple[Layout, ...] = ("chw", "hwc")
    return [layout for layout in layouts if min(image_size(shape, layout)[1:]) >= LEAST_SIDE]


def _coloured(shape: tuple[int, ...], layout: Layout) -> bool:
    return image_size(shape, layout)[0] in _COLOURS


def _square(shape: tuple[int, ...], layout: Layout) -> bool:
    _, height, width = image_size(shape, layout)
    return height == width


def _thin(shape: tuple[int, ...], layout: Layout) -> bool:
    bands, height, width = image_size(shape, layout)
    return 2 * bands <= min(height, width)
