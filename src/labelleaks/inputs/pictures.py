"""Pictures from folders and arrays: which pixels a file holds, and how they become a model's inputs."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labelleaks.core.domains import Word
from labelleaks.errors import InputError, in_a_line

__all__ = ["ImageFormat", "read_folder", "scaled"]

Mode = Literal["grey", "rgb", "rgba"]

_ENDINGS = {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".tif", ".tiff"}
_COLOURS = (1, 3, 4)
_PIL: dict[Mode, str] = {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}
_AS = {
    ("1", True): "L",
    ("1", False): "LA",
    ("L", False): "LA",
    ("RGB", False): "RGBA",
    ("P", True): "RGB",
    ("P", False): "RGBA",
}
"""What Pillow turns its own modes into, by whether nothing is transparent, without changing a pixel."""
_MEND = "bring all pictures to one kind, or say data.images.mode: grey, rgb or rgba"


@dataclass(frozen=True)
class ImageFormat:
    """Conversion of stored pictures of whole numbers to a model's inputs.

    Args:
        layout: of a row that the model gets: ``"chw"`` (torch) or ``"hwc"``.
        scale: what pixel values are divided by, which makes them float32; 1 keeps whole numbers and their dtype. None:
            the largest value, 255 of 8-bit pictures and 65,535 of 16-bit ones: [0, 1].
        stored: of a row in the file, ``"chw"``, ``"hwc"``, ``"hw"``, or ``"none"``: no picture, kept as it is. None: by
            evidence, and refused where there is none.
        mode: what pictures of a folder are converted to, ``"grey"``, ``"rgb"`` or ``"rgba"``; None: they stay as they
            are, and all must be of one mode.
    """

    layout: str = "chw"
    scale: float | None = None
    stored: Word | None = None
    mode: Mode | None = None

    def apply(self, images: NDArray[Any], stored: Word) -> NDArray[Any]:
        """Return whole-number pictures (N, *row) that are ``stored`` so, in the layout and units asked for."""
        axes = {("hwc", "chw"): (0, 3, 1, 2), ("chw", "hwc"): (0, 2, 3, 1)}.get((stored, self.layout))
        x = images if axes is None else np.ascontiguousarray(images.transpose(axes))
        scale = float(np.iinfo(images.dtype).max) if self.scale is None else self.scale
        return x if scale == 1 else x.astype(np.float32) / np.float32(scale)


def scaled(path: Path, x: NDArray[Any], images: ImageFormat, *, named_images: bool) -> NDArray[Any]:
    """Return rows of an array file: 8-bit pictures in the model's layout and units, all else as it is.

    8-bit rows of three axes are a picture with 1, 3 or 4 channels at their end only, or 1 or 3 at their front only.

    Args:
        named_images: the file calls the rows ``images``: two axes are a grey picture.

    Raises:
        InputError: 8-bit rows that may be pictures or not, or of which the layout does not tell; says how to say it.
    """
    if images.stored == "none" or (images.stored is None and (x.dtype != np.uint8 or x.ndim not in (3, 4))):
        return x
    if images.stored is not None:
        if x.dtype.kind not in "iu" or x.ndim != len(images.stored) + 1:
            raise InputError(
                f"{path}: {x.dtype} rows of shape {x.shape[1:]}, but data.images.stored: {images.stored} needs whole "
                f"numbers in {len(images.stored)} axes"
            )
        return images.apply(x, images.stored)
    shape = x.shape[1:]
    word = _evidence(shape, named_images or images.scale is not None)
    bits = images.scale is None and x.max(initial=0) <= 1
    if word is not None and not bits:
        return images.apply(x, word)
    if word is None and (bits or not _maybe_picture(shape)):
        return x
    why = "hold 0 and 1 only" if bits else "may be pictures or not" if len(shape) == 2 else "fit several layouts"
    words = "hw" if len(shape) == 2 else "chw or hwc"
    raise InputError(
        f"{path}: 8-bit rows of shape {shape} {why}: say data.images.stored: {words} (pixels, divided by "
        "data.images.scale, 255 where it is not said) or none (kept as they are)"
    )


def _evidence(shape: Sequence[int], pictures: bool) -> Word | None:
    if len(shape) == 2:
        return "hw" if pictures else None
    first, last = shape[0] in _COLOURS, shape[-1] in _COLOURS
    if last and not first:
        return "hwc"
    return "chw" if first and not last and shape[0] != 4 else None


def _maybe_picture(shape: Sequence[int]) -> bool:
    """Whether rows without evidence could be pictures all the same; bands and volumes have other axes."""
    return len(shape) == 2 or shape[0] in _COLOURS or shape[-1] in _COLOURS


# --- folders ----------------------------------------------------------------------------------------------------------


def read_folder(folder: Path, images: ImageFormat) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]:
    """Return pictures in the model's layout and units, their folders as labels, and ``folder/file`` as ids.

    Raises:
        InputError: no pictures, a picture that is no row of a class, one that cannot be read or whose pixels would
            change, or pictures of several sizes or modes; names the file.
    """
    files = _files(folder)
    if not files:
        raise InputError(
            f"{folder}: no pictures in folders below it; one folder for each class is expected (cat/1.png, dog/1.png)"
        )
    arrays = []
    for file in files:
        arrays.append(_pixels(file, images))
        if arrays[-1].shape != arrays[0].shape or arrays[-1].dtype != arrays[0].dtype:
            raise InputError(
                f"{file}: {_kind(arrays[-1])}, but {files[0]} is {_kind(arrays[0])}; bring all pictures to one size "
                "and kind (of colours, data.images.mode: rgb does so)"
            )
    stacked = np.stack(arrays)
    stacked = stacked[..., None] if stacked.ndim == 3 else stacked
    labels = np.array([file.parent.name for file in files])
    return images.apply(stacked, "hwc"), labels, tuple(f"{file.parent.name}/{file.name}" for file in files)


def _files(folder: Path) -> list[Path]:
    """The pictures of the class folders; hidden files and folders, and those that macOS adds, are none."""
    found = []
    for file in sorted(Path(root, name) for root, _, names in os.walk(folder, followlinks=True) for name in names):
        inside = file.relative_to(folder).parts
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in inside)
        if hidden or file.suffix.lower() not in _ENDINGS:
            continue
        if len(inside) != 2:
            raise InputError(
                f"{file}: is not in a folder of its class right below {folder} (cat/1.png): move it, or name the "
                "folder whose folders are the classes"
            )
        found.append(file)
    return found


def _pixels(file: Path, images: ImageFormat) -> NDArray[Any]:
    """One picture (H, W) or (H, W, C), uint8 or uint16, every pixel as stored."""
    from PIL import Image

    _check_depth(file)
    try:
        with Image.open(file) as picture:
            frames, mode = getattr(picture, "n_frames", 1), picture.mode
            opaque = "A" not in mode and "transparency" not in picture.info
            convert = _PIL.get(images.mode) if images.mode else _AS.get((mode, opaque), mode)
            array = np.asarray(picture if mode.startswith("I") else picture.convert(convert))
    except Exception as error:  # a decoder raises anything over damaged bytes
        raise InputError(f"{file}: not a readable picture ({in_a_line(error)})") from None
    if frames > 1:
        raise InputError(f"{file}: holds {frames} pictures; save each as a file of its own")
    if mode.startswith("I"):
        if images.mode not in (None, "grey"):
            raise InputError(
                f"{file}: is grey of 16 bits, of which data.images.mode: {images.mode} would keep 8: say grey"
            )
        return _sixteen_bits(file, array)
    if images.mode is None and mode not in ("1", "L", "P", "RGB", "RGBA", "LA"):
        raise InputError(f"{file}: is of mode {mode}, grey, RGB or RGBA are read: {_MEND}")
    if images.mode is None and not opaque:
        return _without_opacity(file, array)
    return array


def _without_opacity(file: Path, array: NDArray[Any]) -> NDArray[Any]:
    if (array[..., -1] != 255).any():
        raise InputError(f"{file}: is transparent in places; say data.images.mode: rgba to keep that, rgb to drop it")
    return array[..., 0] if array.shape[-1] == 2 else array[..., :-1]


def _sixteen_bits(file: Path, array: NDArray[Any]) -> NDArray[np.uint16]:
    if array.min() < 0 or array.max() > 65535:
        raise InputError(f"{file}: grey values from {array.min()} to {array.max()}; 8 or 16 bits are read")
    return array.astype(np.uint16)


def _check_depth(file: Path) -> None:
    """Refuse what Pillow would round: colours of 16 bits, grey maps with a largest value of their own."""
    with file.open("rb") as stream:
        head = stream.read(64)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 26:
        depth, kind = struct.unpack(">BB", head[24:26])
        if depth == 16 and kind != 0:
            raise InputError(
                f"{file}: 16 bits a colour, of which Pillow reads 8; save the pictures as 8 bits, or as an .npz of "
                "images (uint16) with data.images.stored: hwc"
            )
    if head[:2] in (b"P2", b"P3", b"P5", b"P6"):
        words = [word for line in head.splitlines() if not line.startswith(b"#") for word in line.split()]
        known = (b"255",) if head[:2] in (b"P3", b"P6") else (b"255", b"65535")
        if len(words) > 3 and words[3] not in known:
            raise InputError(
                f"{file}: its largest value is {words[3].decode('ascii', 'replace')[:9]}, which Pillow rescales; save "
                "it as a .png"
            )


def _kind(array: NDArray[Any]) -> str:
    channels = {2: "grey"}.get(array.ndim) or {3: "RGB", 4: "RGBA"}.get(array.shape[-1], str(array.shape[-1]))
    return f"{array.shape[0]} x {array.shape[1]} {channels} {array.dtype.itemsize * 8}-bit"
