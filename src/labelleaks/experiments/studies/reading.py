"""Committed studies, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.store import Results

__all__ = ["Study", "read_studies"]


@dataclass(frozen=True, eq=False)
class Study:
    """One study of one world: what came out, and the points of its figure."""

    head: Row
    points: Sequence[Row]

    @property
    def name(self) -> str:
        return str(self.head["study"])

    @property
    def world(self) -> tuple[str, str, int, int]:
        """Data set, protocol, size of the training set, seed."""
        return self.head["dataset"], self.head["protocol"], self.head["target_size"], self.head["seed"]


def read_studies(folder: Path, profile: str) -> list[Study]:
    """Return the studies of a profile, those of one data set and protocol together, larger targets first."""
    studies = [Study(row, row["points"]) for row in Results(folder, profile).rows()]
    return sorted(studies, key=lambda one: (*one.world[:2], -one.world[2], one.world[3], one.name, one.head["of"]))
