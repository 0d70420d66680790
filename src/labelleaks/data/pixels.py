"""Picture files to 8-bit arrays, channels first."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from labelleaks.data.cards import Pixels
from labelleaks.errors import InputError

__all__ = ["decoded", "resized"]

_SIDE = 4096
"""pixels; no data set here has larger pictures"""


def decoded(
    content: bytes,
    what: str,
    *,
    kind: Literal["JPEG", "PPM"],
    side: int,
    centre: int | None = None,
    sharp: bool = False,
) -> Pixels:
    """Decode a picture of the one kind expected, as uint8 (3, side, side).

    Args:
        centre: the square of that many pixels in the middle is cut out first.
        sharp: scale by Lanczos instead of bilinear (antialiased both).

    Raises:
        InputError: not such a picture, damaged, or too large or too small.
    """
    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as picture:
            if max(picture.size) > _SIDE:
                raise InputError(f"{what}: {picture.size[0]} x {picture.size[1]} pixels: refused")
            colours = picture.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what}: not a readable {kind} picture ({error})") from None
    if centre is not None:
        left, top = ((length - centre) // 2 for length in colours.size)
        if left < 0 or top < 0:
            raise InputError(f"{what}: {colours.size[0]} x {colours.size[1]} pixels, at least {centre} are expected")
        colours = colours.crop((left, top, left + centre, top + centre))
    if colours.size != (side, side):
        colours = colours.resize((side, side), _filter(sharp))
    return np.ascontiguousarray(np.asarray(colours).transpose(2, 0, 1))


def resized(x: Pixels, side: int) -> Pixels:
    """Scale uint8 pictures (n, channels, height, width) to (n, channels, side, side), bilinear with antialiasing."""
    out = np.empty((*x.shape[:2], side, side), dtype=np.uint8)
    for row, picture in enumerate(x):
        for channel, plane in enumerate(picture):
            out[row, channel] = np.asarray(Image.fromarray(plane).resize((side, side), _filter(False)))
    return out


def _filter(sharp: bool) -> Image.Resampling:
    return Image.Resampling.LANCZOS if sharp else Image.Resampling.BILINEAR
