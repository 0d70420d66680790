"""Where finished stages lie. Targets, shadows and scores: a folder outside git. Evaluations: small JSON to commit.

Every file is written whole or not at all, and what says that a stage is finished is written last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.core import serialization
from labelleaks.core.cache import cache_folder
from labelleaks.errors import InputError
from labelleaks.experiments.stages import Stage
from labelleaks.models.checkpoints import check_folder

__all__ = ["Reading", "Results", "Row", "Scored", "Store", "default_folder", "read_rows"]

Row = dict[str, Any]
_WORLD = {"dataset", "target_size", "seed", "protocol"}
"""What the first entry of any file says."""


def default_folder() -> Path:
    """Return the folder of stages in labelleaks' cache."""
    return cache_folder() / "experiments"


@dataclass(frozen=True, eq=False)
class Reading:
    """The scores of one variant of an attack."""

    variant: str
    checkpoints: tuple[int, ...]
    """Label counts, increasing; the last is the end."""
    path: NDArray[np.float64]
    """(checkpoints, n)"""
    kept: NDArray[np.bool_]
    """(n,): candidates that count; under the authors' protocol those whose search failed do not"""


@dataclass(frozen=True, eq=False)
class Scored:
    """What a scores stage leaves."""

    member: NDArray[np.bool_]
    """(n,), members first"""
    readings: tuple[Reading, ...]
    train_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class Store:
    """Stages that are not committed."""

    folder: Path

    def place(self, kind: str) -> Path:
        """Return the folder of a kind of stage, made where it is not there."""
        return check_folder(self.folder / kind)

    def has(self, stage: Stage) -> bool:
        """Whether a stage is finished."""
        return (self.folder / stage.kind / f"{stage.key}.{'npz' if stage.kind == 'scores' else 'json'}").is_file()

    def finish(self, stage: Stage, content: Mapping[str, Any]) -> None:
        """Say that a target or shadow stage is finished."""
        serialization.write_atomic(
            self.place(stage.kind) / f"{stage.key}.json", json.dumps(content, indent=1) + "\n", private=False
        )

    def keep(self, stage: Stage, found: Scored) -> None:
        """Keep scores."""
        arrays: serialization.Arrays = {"member": found.member}
        about = []
        for i, reading in enumerate(found.readings):
            arrays |= {f"path.{i}": reading.path, f"kept.{i}": reading.kept}
            about.append({"variant": reading.variant, "checkpoints": list(reading.checkpoints)})
        document = {"readings": about, "train_accuracy": found.train_accuracy, "test_accuracy": found.test_accuracy}
        content = serialization.npz_bytes(arrays, json.dumps(document))
        serialization.write_atomic(self.place("scores") / f"{stage.key}.npz", content, private=False)

    def scored(self, stage: Stage) -> Scored:
        """Return scores that were kept."""
        arrays, text = serialization.read_npz(self.folder / "scores" / f"{stage.key}.npz")
        about = json.loads(text)
        readings = [
            Reading(one["variant"], tuple(one["checkpoints"]), arrays[f"path.{i}"], arrays[f"kept.{i}"])
            for i, one in enumerate(about["readings"])
        ]
        return Scored(arrays["member"], tuple(readings), about["train_accuracy"], about["test_accuracy"])


@dataclass(frozen=True)
class Results:
    """Evaluations: ``PROFILE-WORLD-ATTACK-KEY.json``, a list of rows each. A file that is there is a finished stage."""

    folder: Path
    profile: str

    def has(self, stage: Stage) -> bool:
        return self._file(stage).is_file()

    def elsewhere(self, stage: Stage) -> list[Row] | None:
        """Return the rows of this stage where another profile has measured them."""
        for path in sorted(self.folder.glob(f"*-{stage.key}.json")):
            return read_rows(path)
        return None

    def write(self, stage: Stage, rows: Sequence[Row]) -> None:
        """Keep rows, one a line, in place of what an older version or another setting left under this name."""
        check_folder(self.folder)
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
        path = self._file(stage)
        for half in self.folder.glob(f".{path.name}.*"):  # what a kill in the middle of this write has left
            half.unlink(missing_ok=True)
        serialization.write_atomic(path, f"[\n{lines}\n]\n", private=False)
        stem = path.stem.removesuffix(stage.key)
        for old in self.folder.glob(f"{stem}{'[0-9a-f]' * len(stage.key)}.json"):
            if old != path:
                old.unlink()

    def _file(self, stage: Stage) -> Path:
        return self.folder / f"{self.profile}-{stage.name}-{stage.key}.json"


def read_rows(path: Path) -> list[Row]:
    """Return the rows of one file. Raises InputError where it holds none."""
    try:
        rows: list[Row] = json.loads(path.read_text("utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise InputError(f"{path}: damaged ({error}); delete it and run again, which measures it anew") from None
    known = isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) for row in rows)
    if not known or not rows[0].keys() >= _WORLD:
        raise InputError(f"{path}: no measured rows of a grid; delete it and run again, or keep it elsewhere")
    return rows
