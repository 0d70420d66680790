"""Lists of Pillow pictures, as Hugging Face data sets and pipelines have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.domains import Box, Domain
from labelleaks.errors import InputError

__all__ = ["PictureFormat", "Pictures", "is_pictures", "learn_pictures"]

_MODES = ("L", "RGB", "RGBA", "LA", "CMYK", "HSV", "YCbCr", "I;16")


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pixels of pictures of one mode and size."""

    pixels: NDArray[Any]
    """uint8 or uint16 (n, H, W) or (n, H, W, C)"""
    mode: str
    """of Pillow"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the pixels."""
        return self.pixels.shape

    @classmethod
    def read(cls, images: Sequence[Any], what: str) -> Pictures:
        """Return the pixels of a list of Pillow pictures.

        Raises:
            InputError: pictures of several modes or sizes, or of a mode whose pixels NumPy does not give back.
        """
        modes = sorted({image.mode for image in images})
        if set(modes) & {"I", "F"}:
            raise InputError(
                f"{what}: pictures of mode {' and '.join(modes)}, of 32 bits; give their numbers: "
                "np.stack([np.asarray(image) for image in images])"
            )
        if len(modes) > 1 or modes[0] not in _MODES:
            raise InputError(
                f"{what}: pictures of mode {' and '.join(modes)}; bring all to one of {', '.join(_MODES[:3])}: "
                '[image.convert("RGB") for image in images]'
            )
        sizes = sorted({image.size for image in images})
        if len(sizes) > 1:
            raise InputError(
                f"{what}: pictures of {len(sizes)} sizes, {sizes[0]} and {sizes[-1]} among them; resize all to one: "
                f"[image.resize({sizes[-1]}) for image in images]"
            )
        return cls(np.stack([np.asarray(image) for image in images]), modes[0])


class PictureFormat:
    """Pictures of one mode and size; made by :func:`learn_pictures`. The target gets a list of Pillow pictures."""

    kind = "pictures"
    torch = False
    plain = False
    numeric = True

    def __init__(self, mode: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.mode, self.shape, self.dtype = mode, shape, dtype

    def encode(self, rows: Pictures, what: str) -> Tensor:
        """Return float32 (n, H, W) or (n, H, W, C), 0 … 255 or 0 … 65,535."""
        _check(self, rows, what)
        return torch.from_numpy(rows.pixels.astype(np.float32))

    def decode(self, x: Tensor) -> list[Any]:
        """Return codes (m, H, W[, C]) as Pillow pictures: the nearest pixels."""
        from PIL import Image

        most = np.iinfo(self.dtype).max
        pixels = x.detach().double().round().clamp(0, most).cpu().numpy().astype(self.dtype)
        if self.mode in ("HSV", "YCbCr", "CMYK", "LA"):
            return [Image.frombytes(self.mode, (self.shape[1], self.shape[0]), row.tobytes()) for row in pixels]
        return [Image.fromarray(row) for row in pixels]

    def domain(self) -> Domain:
        """Return every value of every pixel."""
        most = np.iinfo(self.dtype).max
        return Box(0, most, levels=most + 1, layout="hw" if len(self.shape) == 2 else "hwc")

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "library": "pillow", "dtype": self.mode, "shape": list(self.shape)}

    def digest(self) -> str:
        """Return everything that decides what a code stands for."""
        return f"pillow {self.mode}"


def is_pictures(rows: Any) -> bool:
    """Whether rows are a list of Pillow pictures. Imports nothing."""
    return (
        isinstance(rows, (list, tuple))
        and len(rows) > 0
        and all(any(c.__module__.partition(".")[0] == "PIL" for c in type(row).__mro__) for row in rows)
    )


def learn_pictures(groups: Mapping[str, Pictures]) -> PictureFormat:
    """Learn the mode and size of pictures that belong together.

    Raises:
        InputError: they differ.
    """
    first = next(iter(groups.values()))
    form = PictureFormat(first.mode, first.shape[1:], first.pixels.dtype)
    for what, rows in groups.items():
        _check(form, rows, what)
    return form


def _check(form: PictureFormat, rows: Pictures, what: str) -> None:
    if (rows.mode, rows.shape[1:]) != (form.mode, form.shape):
        raise InputError(
            f"{what}: {rows.mode} pictures of shape {rows.shape[1:]}, but others are {form.mode} of {form.shape}: "
            "bring all to one mode (convert) and size (resize)"
        )
