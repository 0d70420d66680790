"""Rows as 8-bit pictures, for services that take images. What cannot be sent is not asked: see ``Http.narrow``."""

from __future__ import annotations

import base64
import io
import secrets
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelleaks.errors import InputError
from labelleaks.targets.http.body import Body

__all__ = ["encode", "form_body", "pixels", "text"]


def pixels(row: NDArray[np.float32], *, layout: str, low: float, high: float) -> NDArray[np.uint8]:
    """Turn a row into pixels 0 … 255: the nearest level of each.

    Args:
        row: (H, W), (1 or 3, H, W) where ``layout`` is ``"chw"``, (H, W, 1 or 3) where it is ``"hwc"``; ``low`` is
            black.

    Returns:
        uint8 (H, W) or (H, W, 3).

    Raises:
        InputError: a row of another shape.
    """
    if row.ndim == 3 and layout == "chw":
        row = row.transpose(1, 2, 0)
    if row.ndim == 3 and row.shape[2] == 1:
        row = row[:, :, 0]
    if row.ndim != 2 and not (row.ndim == 3 and row.shape[2] == 3):
        raise InputError(
            f"a row of shape {row.shape} is no picture: (H, W), or 1 or 3 colours in the layout {layout!r} are needed"
        )
    levels = (row.astype(np.float64) - low) / (high - low) * 255.0
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def encode(picture: NDArray[np.uint8], kind: str, quality: int) -> bytes:
    """Return the file: PNG, or JPEG without colour subsampling."""
    buffer = io.BytesIO()
    if kind == "png":
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    else:
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def text(file: bytes) -> str:
    """Return a file as base64."""
    return base64.b64encode(file).decode("ascii")


def form_body(name: str, files: Sequence[bytes], kind: str, form: Mapping[str, str]) -> Body:
    """Return a multipart form: each file under ``name``, then the other fields."""
    boundary = secrets.token_hex(16)
    parts = [
        f'Content-Disposition: form-data; name="{_quoted(name)}"; filename="{i}.{kind}"\r\n'
        f"Content-Type: image/{kind}\r\n\r\n".encode()
        + file
        for i, file in enumerate(files)
    ]
    parts += [
        f'Content-Disposition: form-data; name="{_quoted(key)}"\r\n\r\n{value}'.encode() for key, value in form.items()
    ]
    content = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return Body(content + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}")


def _quoted(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
