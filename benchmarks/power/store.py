"""Where targets, references and scores are kept: outside the repository, targets under a hash of what made them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["cache_folder", "digest_of"]


def cache_folder() -> Path:
    """Return the folder that LABELLEAKS_POWER_CACHE names, or ``~/.cache/labelleaks-power``."""
    return Path(os.environ.get("LABELLEAKS_POWER_CACHE", "~/.cache/labelleaks-power")).expanduser()


def digest_of(x: Tensor, y: Tensor, settings: Any) -> str:
    """Hash rows, labels and JSON settings: 16 hexadecimal digits."""
    found = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8)
    for array in (x, y):
        found.update(array.contiguous().numpy().tobytes())
    return found.hexdigest()
