"""The shadow ablation: AUC of the transfer attack by rows and architecture of the shadow model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from labelleaks.experiments.findings import mean_of
from labelleaks.experiments.jsonl import Row

__all__ = ["ablations"]

_STATISTIC = "loss"
_PLAIN = re.compile(rf"{_STATISTIC}(, shadow=\d+)?(, model=\w+)?")
"""Variants of the table: other ways to train the shadow model are not in it."""


def ablations(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table for each target with more than one architecture: shadow rows down, architecture across.

    Args:
        rows: of one data set and protocol.
    """
    mine = [row for row in rows if row["attack"] == "transfer" and _PLAIN.fullmatch(row["variant"])]
    for size in sorted({row["target_size"] for row in mine}, reverse=True):
        here = [row for row in mine if row["target_size"] == size and row["auc"]]
        models = sorted({_model(row) for row in here}, key=_by_number)
        if len(models) > 1:
            yield _table(here, size, models)


def _table(rows: Sequence[Row], size: int, models: Sequence[str]) -> str:
    counts = sorted({_shadow(row) for row in rows}, key=lambda n: n or 1 << 62)
    lines = [
        f"Transfer attack by shadow model, target of {size:,} rows (AUC of the {_STATISTIC}):\n",
        f"| shadow rows | {' | '.join(models)} |",
        f"| ---: |{' ---: |' * len(models)}",
    ]
    for count in counts:
        cells = []
        for model in models:
            found = [row for row in rows if (_shadow(row), _model(row)) == (count, model)]
            mean = mean_of(found) if found else None
            cells.append("" if mean is None else f"{mean.value:.3f} ({mean.low:.3f}–{mean.high:.3f})")
        lines.append(f"| {f'{count:,}' if count else 'all'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shadow(row: Row) -> int:
    """Shadow rows; 0: all of the world's."""
    found = re.search(r"shadow=(\d+)", row["variant"])
    return int(found[1]) if found else 0


def _model(row: Row) -> str:
    """Architecture of the shadow model: the target's own where none is named."""
    found = re.search(r"model=(\w+)", row["variant"])
    return found[1] if found else str(row["model"])


def _by_number(model: str) -> tuple[str, int]:
    digits = re.search(r"\d+$", model)
    return re.sub(r"\d+$", "", model), int(digits[0]) if digits else 0
