"""Committed studies, read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelleaks.experiments.store import Row, read_rows

__all__ = ["Study", "read_studies"]


@dataclass(frozen=True, eq=False)
class Study:
    """One file: its head and its points."""

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
    found = [read_rows(path) for path in sorted(folder.glob(f"{profile}-*.json"))]
    studies = [Study(head, points) for head, *points in found]
    return sorted(studies, key=lambda one: (*one.world[:2], -one.world[2], one.world[3], one.name, one.head["of"]))
