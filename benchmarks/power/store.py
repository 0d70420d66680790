"""Trained models and scores on disk, outside the repository, under a hash of what made them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from labelleaks import models, shadowmodel, storage

__all__ = ["FolderStore", "cache_folder", "digest_of"]


def cache_folder() -> Path:
    """Return the folder that LABELLEAKS_POWER_CACHE names, or ``~/.cache/labelleaks-power``."""
    return Path(os.environ.get("LABELLEAKS_POWER_CACHE", "~/.cache/labelleaks-power")).expanduser()


def digest_of(x: Tensor, y: Tensor, settings: Any) -> str:
    """Hash rows, labels and JSON settings: 16 hexadecimal digits."""
    found = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8)
    for array in (x, y):
        found.update(array.contiguous().numpy().tobytes())
    return found.hexdigest()


class FolderStore(MutableMapping[str, Any]):
    """Shadow models by content key, one safetensors file each; what is there is never trained again.

    The keys are labelleaks' own (rows, labels, untrained weights and recipe), so a changed recipe trains anew.
    """

    def __init__(self, family: str, shape: tuple[int, ...], classes: int) -> None:
        self._made_of = (family, shape, classes)
        self._folder = cache_folder() / "references"
        self._loaded: dict[str, Any] = {}

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"

    def __getitem__(self, key: str) -> Any:
        if key not in self._loaded:
            if not self._file(key).is_file():
                raise KeyError(key)
            family, shape, classes = self._made_of
            module = models.build(family, shape, classes, seed=0)
            module.load_state_dict(load_file(self._file(key)))
            self._loaded[key] = shadowmodel.Network(module.eval(), classes, shape)
        return self._loaded[key]

    def __setitem__(self, key: str, model: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in model.module.state_dict().items()}
        storage.write_atomic(self._file(key), save(weights), private=False)
        self._loaded[key] = model

    def __delitem__(self, key: str) -> None:
        self._loaded.pop(key, None)
        self._file(key).unlink()

    def __iter__(self) -> Iterator[str]:
        return (file.stem for file in sorted(self._folder.glob("*.safetensors")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return key in self._loaded or self._file(str(key)).is_file()
