"""Store of finished stages. Targets, shadows and scores: a folder outside git. Evaluations: JSON Lines to commit.

Every file is written whole or not at all, and what says that a stage is finished is written last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.core import serialization
from labelleaks.core.cache import cache_folder
from labelleaks.errors import InputError
from labelleaks.experiments import jsonl
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.provenance import FIRST, UNKNOWN, Made
from labelleaks.experiments.stages import Stage
from labelleaks.models.checkpoints import check_folder

__all__ = ["Reading", "Results", "Scored", "Store", "default_folder"]

_WORLD = {"dataset", "target_size", "seed", "protocol"}
_EVERY_KEY = _WORLD | {"stage", "key", "version", "commit", "revision"}
"""What every row says."""
_DIGITS = 16
"""Of a key."""


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
    """Result of a scores stage."""

    member: NDArray[np.bool_]
    """(n,), members first"""
    readings: tuple[Reading, ...]
    train_accuracy: float
    test_accuracy: float
    made: Made
    """what scored them"""


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

    def keep(self, stage: Stage, scored: Scored) -> None:
        """Keep scores."""
        arrays: serialization.Arrays = {"member": scored.member}
        about = []
        for i, reading in enumerate(scored.readings):
            arrays |= {f"path.{i}": reading.path, f"kept.{i}": reading.kept}
            about.append({"variant": reading.variant, "checkpoints": list(reading.checkpoints)})
        document = {"readings": about, "train_accuracy": scored.train_accuracy, "test_accuracy": scored.test_accuracy}
        content = serialization.npz_bytes(arrays, json.dumps({**document, "made": dict(scored.made)}))
        serialization.write_atomic(self.place("scores") / f"{stage.key}.npz", content, private=False)

    def scored(self, stage: Stage) -> Scored:
        """Return scores that were kept."""
        arrays, text = serialization.read_npz(self.folder / "scores" / f"{stage.key}.npz")
        about = json.loads(text)
        readings = [
            Reading(one["variant"], tuple(one["checkpoints"]), arrays[f"path.{i}"], arrays[f"kept.{i}"])
            for i, one in enumerate(about["readings"])
        ]
        accuracies = about["train_accuracy"], about["test_accuracy"]
        return Scored(arrays["member"], tuple(readings), *accuracies, made=about.get("made", UNKNOWN))


@dataclass(frozen=True)
class Results:
    """Rows of finished evaluations, or studies: ``PROFILE/DATASET.jsonl``. A stage that has rows there is finished.

    A row names its stage, the stage's key and what made it; rows are sorted by stage. Former versions wrote a file for
    each stage, ``PROFILE-STAGE-KEY.json``: these are read where they lie, and taken over with the next write.
    """

    folder: Path
    profile: str

    def keys(self, dataset: str) -> frozenset[str]:
        """Return the keys of the stages that are finished."""
        return frozenset(row["key"] for row in self._rows(dataset))

    def rows(self) -> list[Row]:
        """Return all rows of the profile, data set by data set."""
        names = {path.stem for path in (self.folder / self.profile).glob("*.jsonl")}
        former = self.folder.glob(f"{self.profile}-*-*.json")
        names |= {path.name[len(self.profile) + 1 :].partition("-")[0] for path in former}
        return [row for name in sorted(names) for row in self._rows(name)]

    def elsewhere(self, dataset: str, stage: Stage) -> list[Row] | None:
        """Return the rows of this stage where another profile has measured them."""
        for path in sorted(self.folder.glob(f"*/{dataset}.jsonl")):
            rows = [row for row in read_rows(path) if row["key"] == stage.key]
            if rows:
                return rows
        for path in sorted(self.folder.glob(f"*-{stage.key}.json")):
            return former_rows(path, stage.name)
        return None

    def write(self, dataset: str, stage: Stage, rows: Sequence[Row]) -> None:
        """Keep rows, in place of what an older version or another setting left under this stage's name."""
        path = self._file(dataset)
        with jsonl.locked(path):
            former = list(self._former(dataset))
            kept = [row for row in self._rows(dataset) if row["stage"] != stage.name]
            named = [{"stage": stage.name, "key": stage.key} | row for row in rows]
            jsonl.write(path, _sorted([*kept, *named]))
            for _, old in former:
                old.unlink()

    def _rows(self, dataset: str) -> list[Row]:
        """Of one data set, sorted by stage; where a former file was taken over already, it does not count."""
        former = {stage: former_rows(path, stage) for stage, path in self._former(dataset)}
        rows = read_rows(self._file(dataset))  # later: what is taken over meanwhile is in here
        for stage in {row["stage"] for row in rows}:
            former.pop(stage, None)
        return _sorted([*rows, *(row for old in former.values() for row in old)])

    def _former(self, dataset: str) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.folder.glob(f"{self.profile}-{dataset}-*-{'[0-9a-f]' * _DIGITS}.json")):
            yield path.stem[len(self.profile) + 1 : -_DIGITS - 1], path

    def _file(self, dataset: str) -> Path:
        return self.folder / self.profile / f"{dataset}.jsonl"


def read_rows(path: Path) -> list[Row]:
    """Return the rows of one file; none where it is not there. Raises InputError where a line is no row."""
    rows = jsonl.read(path)
    for number, row in enumerate(rows, 1):
        if not row.keys() >= _EVERY_KEY:
            lacking = ", ".join(sorted(_EVERY_KEY - row.keys()))
            raise InputError(f"{path}, line {number}: no row of a grid, it has no {lacking}; {jsonl.MEND}")
    return rows


def former_rows(path: Path, stage: str) -> list[Row]:
    """Return what a file of a former version holds, a stage's rows or a study, as rows are now."""
    try:
        rows: list[Row] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:  # another process has just taken it over
        return []
    except ValueError as error:  # no JSON, or no UTF-8
        raise InputError(f"{path}: damaged ({error}); delete it and run again, which measures it anew") from None
    is_list_of_rows = isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) for row in rows)
    if not is_list_of_rows or not rows[0].keys() >= _WORLD:
        raise InputError(f"{path}: no measured rows of a grid; delete it and run again, or keep it elsewhere")
    if "study" in rows[0]:
        rows = [rows[0] | {"points": rows[1:]}]
    named = {"stage": stage, "key": path.stem[-_DIGITS:]}
    return [{**named, **row, **UNKNOWN, "revision": FIRST} for row in rows]


def _sorted(rows: Iterable[Row]) -> list[Row]:
    """By stage; those of a stage in the order in which they were measured."""
    return sorted(rows, key=lambda row: str(row["stage"]))
