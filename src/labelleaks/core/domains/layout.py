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
    "shifted_axes",
    "why_no_layout",
]

Layout = Literal["chw", "hw", "hwc"]
"""Channels first, no channels, channels last."""
Word = Literal["chw", "hw", "hwc", "tc", "ct", "dhw", "dhwc", "cdhw", "dchw", "none"]
"""What a user may say of rows: pictures; sequences, time first or last; volumes and video, depth or time called ``d``;
``"none"``: neither, whatever their shape."""
WORDS: tuple[Word, ...] = get_args(Word)
SIDES: dict[Layout, tuple[int, int]] = {"chw": (1, 2), "hw": (0, 1), "hwc": (0, 1)}
"""The axes of a row that are height and width."""

LEAST_SIDE = 4
"""Pixels: below this a row of two or three axes is a table, not a picture, unless the user says so."""
_COLOURS = (1, 3, 4)
_SHIFTED: dict[Word, tuple[int, ...]] = {
    "tc": (0,), "ct": (1,), "dhw": (0, 1, 2), "dhwc": (0, 1, 2), "cdhw": (1, 2, 3), "dchw": (0, 2, 3)
}  # fmt: skip
"""The axes of sequences and volumes along which neighbours belong together."""
_CHANNELS: dict[Word, int] = {"dhwc": 3, "cdhw": 0, "dchw": 1}
_LONG = 4
"""How many times longer than the other an axis of two is at least that is time, not the side of a picture."""


def image_layout(shape: Sequence[int], word: Word | None = None) -> Layout | None:
    """Return how a row of ``shape`` is a picture, or None where it is not one or its shape does not tell.

    The user's ``word`` decides where there is one. Else two axes are a picture without channels, unless one is more
    than four times as long as the other (a sequence, see :func:`shifted_axes`), and three axes are the first of these
    that fits one end only, both sides of the picture having 4 pixels at least:

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
        return "hw" if min(shape) >= LEAST_SIDE and not _is_long(shape) else None
    fits = _fitting(shape)
    for rule in (_coloured, _square, _thin):
        found = [layout for layout in fits if rule(shape, layout)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def shifted_axes(shape: Sequence[int], word: Word | None = None) -> tuple[int, ...] | None:
    """Return the axes along which a row that is no picture can be shifted, or None where nothing tells.

    The user's ``word`` decides where there is one: time of a sequence, ``"tc"`` or ``"ct"``, and the three sides of a
    volume or video. Else two axes are a sequence where one is more than four times as long as the other (a lone
    channel may as well be a table: the word tells), and four axes a volume or video whose channels are 1, 3 or 4 at one
    place only: last, first or second.

    Raises:
        InputError: a word that needs another number of axes.
    """
    shape = tuple(shape)
    if word is not None:
        _named(shape, word)
        return _SHIFTED.get(word)
    if len(shape) == 2 and _is_long(shape):
        return (0,) if shape[0] > shape[1] else (1,)
    if len(shape) == 4:
        fits = [_SHIFTED[name] for name, place in _CHANNELS.items() if shape[place] in _COLOURS]
        return fits[0] if len(fits) == 1 else None
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


def _is_long(shape: tuple[int, ...]) -> bool:
    return min(shape) > 1 and max(shape) > max(_LONG * min(shape), 2 * _LONG)


def _named(shape: tuple[int, ...], word: Word) -> Layout | None:
    if word == "none":
        return None
    if len(shape) != len(word):
        raise InputError(
            f'layout="{word}": rows have shape {shape}, not {len(word)} axes: give the layout of these rows, or none'
        )
    return None if word in _SHIFTED else word  # type: ignore[return-value]  # those that are left are pictures


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
