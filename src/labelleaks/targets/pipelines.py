"""Image classification pipelines of Hugging Face ``transformers``, asked with pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from labelleaks.core.classes import to_numpy
from labelleaks.errors import InputError, TargetError
from labelleaks.inputs.row_format import RowFormat
from labelleaks.inputs.row_format.pictures import is_pictures
from labelleaks.targets.base import gets, hash_module

__all__ = ["PipelineFunction", "is_image_pipeline", "pipeline_classes"]

_BATCH = 32
"""Pictures that the model sees at a time."""


def is_image_pipeline(thing: Any) -> bool:
    """Whether ``thing`` is a pipeline for image classification. Imports nothing."""
    ours = any(c.__name__ == "Pipeline" and c.__module__.startswith("transformers.") for c in type(thing).__mro__)
    return ours and getattr(thing, "task", None) == "image-classification"


def pipeline_classes(pipeline: Any) -> list[str]:
    """Return the names of the classes in the order of the model's outputs."""
    names = pipeline.model.config.id2label
    return [str(names[code]) for code in sorted(names)]


class PipelineFunction:
    """A pipeline as a function from pictures to the names of their classes.

    It gets Pillow pictures. 8-bit arrays (m, H, W) and (m, H, W, 3 or 4) become such, pixel by pixel.

    Args:
        form: how the run's rows were encoded.

    Raises:
        InputError: rows that are no pictures.
    """

    def __init__(self, pipeline: Any, form: RowFormat) -> None:
        self._pipeline = pipeline
        described = form.describe()
        shape, whole = form.shape, described.get("dtype") == "uint8"
        flat = len(shape) == 2 or (len(shape) == 3 and shape[-1] in (3, 4))
        if described["kind"] != "pictures" and not (whole and flat):
            raise InputError(
                f"an image pipeline takes pictures, not {gets(form)} of shape {tuple(shape)}: give a list "
                "of Pillow pictures, or 8-bit arrays (n, H, W, 3): (x * 255).round().astype('uint8') of [0, 1], "
                "x.transpose(0, 2, 3, 1) where channels are first"
            )
        self.__qualname__ = type(pipeline).__qualname__
        self.__module__ = type(pipeline).__module__
        self.fingerprint = _fingerprint(pipeline)

    def __call__(self, rows: Any) -> Sequence[Any]:
        """Return what the pipeline answers: for each picture its classes with their scores."""
        from PIL import Image

        pictures = rows if is_pictures(rows) else [Image.fromarray(np.ascontiguousarray(row)) for row in to_numpy(rows)]
        answers: Any = self._pipeline(pictures, batch_size=_BATCH)
        if len(answers) != len(pictures):
            raise TargetError(f"the pipeline answered {len(answers)} pictures of {len(pictures)}")
        found: Sequence[Any] = answers
        return found


def _fingerprint(pipeline: Any) -> str:
    """Hash of the model's structure and weights, and of what its image processor does."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(hash_module(pipeline.model).encode())
    for part in ("image_processor", "feature_extractor"):
        settings = getattr(getattr(pipeline, part, None), "to_json_string", None)
        digest.update(b"" if settings is None else settings().encode())
    return digest.hexdigest()
