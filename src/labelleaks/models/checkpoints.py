"""Trained shadow models on disk: weights as safetensors, a JSON sidecar that says what they are. No pickle.

A file's name is the content key of its training, so a folder may be shared by audits: what it holds was trained on the
same rows with the same labels, from the same initial weights, by the same recipe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from labelleaks.core import serialization
from labelleaks.errors import InputError

__all__ = ["Training", "check_folder", "load", "save"]


@dataclass(frozen=True)
class Training:
    """Cost of training a model."""

    rows: int
    """Rows of one epoch."""
    epochs: int
    """That were run; 0 where the model is not trained in epochs."""
    seconds: float
    """Wall time when it was trained, other models beside it; differs between two equal runs."""
    reused: bool = False
    """Taken from a folder, not trained now."""


def check_folder(folder: str | Path) -> Path:
    """Make the folder where models are kept, and return it.

    Raises:
        InputError: it cannot be made.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"references_dir={str(folder)!r} cannot be a folder: {error}; name another place") from error
    return path


def save(folder: Path, key: str, module: nn.Module, training: Training, about: Mapping[str, Any]) -> None:
    """Write ``key``.safetensors and ``key``.json; each as a whole or not at all, the sidecar last.

    Args:
        about: what a person wants to know: family, recipe, classes, shape; JSON types.
    """
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in module.state_dict().items()}
    content = safetensors.torch.save(weights)
    sidecar = {**about, **asdict(training), "blake2b": _digest(content)}
    serialization.write_atomic(folder / f"{key}.safetensors", content, private=True)
    serialization.write_atomic(folder / f"{key}.json", json.dumps(sidecar, indent=2) + "\n", private=True)


def load(folder: Path, key: str, module: nn.Module) -> Training | None:
    """Fill ``module`` with the weights kept under ``key`` and return what they cost; None where there are none.

    Raises:
        InputError: a file is damaged or does not fit; ``module`` is as it was.
    """
    path, beside = folder / f"{key}.safetensors", folder / f"{key}.json"
    if not (path.is_file() and beside.is_file()):
        return None
    try:
        content, sidecar = path.read_bytes(), json.loads(beside.read_text("utf-8"))
        if _digest(content) != sidecar["blake2b"]:
            raise ValueError("its content is not what was written")
        weights = safetensors.torch.load(content)
        training = Training(int(sidecar["rows"]), int(sidecar["epochs"]), float(sidecar["seconds"]), reused=True)
        _fits(weights, module)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error})") from error
    module.load_state_dict(weights)
    return training


def _fits(weights: Mapping[str, torch.Tensor], module: nn.Module) -> None:
    wanted = {name: (value.shape, value.dtype) for name, value in module.state_dict().items()}
    if {name: (value.shape, value.dtype) for name, value in weights.items()} != wanted:
        raise ValueError("its weights are not those of this family")


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
