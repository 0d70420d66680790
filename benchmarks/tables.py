"""Where results go: ``benchmarks/results/NAME.json`` with every figure, ``NAME.md`` with the table made from it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

__all__ = ["RESULTS", "environment", "markdown", "write"]

RESULTS = Path(__file__).parent / "results"


def environment() -> dict[str, Any]:
    """Return the versions and the machine that a measurement depends on."""
    versions = {}
    for package in ("labelleaks", "torch", "numpy", "adversarial-robustness-toolbox", "foolbox"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "versions": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is aligned left, the others right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write(name: str, result: dict[str, Any], page: str, *, folder: Path = RESULTS) -> None:
    """Write ``name``.json and ``name``.md, and print the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    (folder / f"{name}.md").write_text(page)
    print(page)
