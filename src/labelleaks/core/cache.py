"""Folders of things kept between runs: data sets and journals of services."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "usual_cache_folder"]


def cache_folder() -> Path:
    """Return LABELLEAKS_CACHE, else labelleaks in XDG_CACHE_HOME, else ~/.cache/labelleaks. Makes nothing."""
    own = os.environ.get("LABELLEAKS_CACHE")
    return Path(own).expanduser() if own else usual_cache_folder()


def usual_cache_folder() -> Path:
    """Return the cache of a user who did not say LABELLEAKS_CACHE. Makes nothing."""
    shared = os.environ.get("XDG_CACHE_HOME")
    base = Path(shared) if shared and Path(shared).is_absolute() else Path.home() / ".cache"
    return base / "labelleaks"
