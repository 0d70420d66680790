"""Candidates as pictures, where an input is one: PNG, inlined."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.core.domains import WORDS, Layout, Word, image_layout, image_size

__all__ = ["Triple", "is_image", "picture", "triple"]

_LARGEST = 160  # pixels on the longer side of an inlined picture
_SHOWN = (1, 3)  # channels


@dataclass(frozen=True)
class Triple:
    """A candidate, the perturbed one that gets another label, and the change, as data addresses of PNGs."""

    original: str
    perturbed: str | None = None
    change: str | None = None
    gain: int = 1
    """How many times the change was amplified around mid-grey."""


def is_image(shape: Sequence[int], domain: Mapping[str, Any]) -> bool:
    """Whether rows of this shape can be shown: pictures with 1 or 3 channels, in the layout of the record's domain."""
    return _layout(shape, domain) is not None


def triple(x: NDArray[Any], perturbed: NDArray[Any] | None, domain: Mapping[str, Any]) -> Triple:
    """Draw one candidate. ``x`` and ``perturbed``: (*shape), in the domain's units."""
    low, span = _range(x, domain)
    original = _unit(x, low, span, domain)
    if perturbed is None:
        return Triple(_png(original))
    other = _unit(perturbed, low, span, domain)
    change = other - original
    most = float(np.abs(change).max())
    gain = 1 if most == 0 else max(1, min(32, int(0.5 / most)))
    return Triple(_png(original), _png(other), _png(0.5 + gain * change), gain)


def picture(x: NDArray[Any], domain: Mapping[str, Any]) -> str:
    """Return one input as the data address of a PNG."""
    return _png(_unit(x, *_range(x, domain), domain))


def _layout(shape: Sequence[int], domain: Mapping[str, Any]) -> Layout | None:
    layout = image_layout(shape, _word(domain.get("layout"), len(shape)))
    return layout if layout is not None and image_size(shape, layout)[0] in _SHOWN else None


def _word(given: object, axes: int) -> Word | None:
    """The user's word; None where a domain of the user's own says something else there."""
    return next((word for word in WORDS if word == given and (word == "none" or len(word) == axes)), None)


def _range(x: NDArray[Any], domain: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Lower bound and span of the domain, broadcastable to a row; of the row itself where the domain has no box."""
    if domain.get("kind") == "binary":
        return np.asarray(0.0), np.asarray(1.0)
    low, high = domain.get("low"), domain.get("high")
    if low is None or high is None:
        low, high = float(x.min()), float(x.max())
    bottom, top = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if bottom.size not in (1, x.size) or top.size not in (1, x.size):  # bounds per channel, say: broadcast as they can
        try:
            bottom, top = np.broadcast_to(bottom, x.shape), np.broadcast_to(top, x.shape)
        except ValueError:
            bottom, top = np.asarray(float(x.min())), np.asarray(float(x.max()))
    bottom = bottom.reshape(x.shape) if bottom.size == x.size else bottom.reshape(()) if bottom.size == 1 else bottom
    top = top.reshape(x.shape) if top.size == x.size else top.reshape(()) if top.size == 1 else top
    return bottom, np.where(top > bottom, top - bottom, 1.0)


def _unit(x: NDArray[Any], low: NDArray[Any], span: NDArray[Any], domain: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return (H, W) or (H, W, 3) in [0, 1] units of the domain."""
    layout = _layout(x.shape, domain)
    image: NDArray[np.float64] = (x.astype(np.float64) - low) / span
    if layout == "chw":
        image = image.transpose(1, 2, 0)
    return image[..., 0] if layout in ("chw", "hwc") and image.shape[-1] == 1 else image


def _png(image: NDArray[np.float64]) -> str:
    from PIL import Image

    step = -(-max(image.shape[:2]) // _LARGEST)
    pixels = np.clip(np.rint(image[::step, ::step] * 255), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
