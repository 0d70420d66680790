"""Where results go: a line of ``benchmarks/results/figures.jsonl`` with every figure, README.md with tables of them."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from labelleaks.experiments import jsonl

__all__ = ["RESULTS", "environment", "figures_of", "keep", "markdown", "with_section", "write"]

RESULTS = Path(__file__).parent / "results"
_HEAD = (
    "# Results\n\nOf the benchmarks, each made by its command from its line of figures.jsonl beside this page; do not "
    "edit.\n"
)
_SECTION = re.compile(r"^<!-- (\w+) -->\n", re.MULTILINE)


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


def figures_of(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Return what an earlier run of a benchmark has measured; empty where none has."""
    rows = jsonl.read(folder / "figures.jsonl")
    return next(({key: row[key] for key in row if key != "benchmark"} for row in rows if row["benchmark"] == name), {})


def keep(name: str, result: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write the figures of a benchmark in place of those that it had."""
    path = folder / "figures.jsonl"
    with jsonl.locked(path):
        others = [row for row in jsonl.read(path) if row["benchmark"] != name]
        jsonl.write(path, sorted([*others, {"benchmark": name} | result], key=lambda row: str(row["benchmark"])))


def write(name: str, result: dict[str, Any], page: str, *, folder: Path = RESULTS) -> None:
    """Keep a benchmark's figures, write its section of README.md, and print the page.

    Args:
        result: every figure.
        page: Markdown with one heading of the first level.
    """
    keep(name, result, folder)
    path = folder / "README.md"
    path.write_text(with_section(path.read_text() if path.is_file() else "", name, page))
    print(page)


def with_section(text: str, name: str, page: str) -> str:
    """Return the page of all results with ``page`` as its section ``name``, in place of the one that it had."""
    _, *parts = _SECTION.split(text)
    sections = dict(zip(parts[0::2], parts[1::2], strict=True))
    sections[name] = re.sub(r"^(#+ )", r"#\1", page, flags=re.MULTILINE).strip() + "\n"
    told = (f"<!-- {one} -->\n{sections[one].strip()}\n" for one in sorted(sections))
    return "\n".join([_HEAD, *told])
