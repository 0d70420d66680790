from __future__ import annotations

from pathlib import Path


def write_page(found, out):
    return Path(out)
