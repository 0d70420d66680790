"""Result rows, and where they, the scores behind them, targets and references are kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from labelleaks import metrics
from labelleaks.core import serialization
from labelleaks.experiments import jsonl
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.provenance import FIRST, UNKNOWN, made_by
from labelleaks.metrics import Estimate

__all__ = [
    "BEFORE",
    "RESULTS",
    "Measurement",
    "cache_folder",
    "comparison",
    "digest_of",
    "kept_scores",
    "made",
    "read_pairs",
    "read_rows",
    "row",
    "save_rows",
    "save_scores",
]

RESULTS = Path(__file__).parent / "results"
BEFORE = {**UNKNOWN, "revision": FIRST}
"""What made rows and scores that were kept before they said it."""
FPRS = (0.01, 0.001)
LEAST_NONMEMBERS = {0.01: 100, 0.001: 2000}
"""Below these a TPR is not judged."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """The scores of one attack as they stood at one budget."""

    attack: str
    variant: str
    implementation: str
    labels: int
    labels_mean: float
    scores: np.ndarray
    """float64 (n,)"""
    member: np.ndarray
    """bool (n,), members first"""
    made: Mapping[str, Any] = field(default_factory=lambda: dict(BEFORE))
    """version of labelleaks, commit of its code and the benchmarks', revision of the attack"""


def row(place: dict[str, Any], reading: Measurement, costs: dict[str, Any]) -> dict[str, Any]:
    """Return a result row: ``place`` (dataset, seed), what was run, what it cost, and what it found with intervals."""
    members, nonmembers = int(reading.member.sum()), int((~reading.member).sum())
    rates = {
        str(fpr): _plain(metrics.tpr_at_fpr(reading.scores, reading.member, fpr))
        if nonmembers >= LEAST_NONMEMBERS[fpr]
        else None
        for fpr in FPRS
    }
    return {
        **place,
        "attack": reading.attack,
        "variant": reading.variant,
        "implementation": reading.implementation,
        "labels": reading.labels,
        "labels_mean": round(reading.labels_mean, 2),
        **costs,
        "n_members": members,
        "n_nonmembers": nonmembers,
        "auc": _plain(metrics.auc(reading.scores, reading.member)),
        "tpr_at_fpr": rates,
        **reading.made,
    }


def made(revision: int) -> dict[str, Any]:
    """Return what makes a row now, with an attack of this revision."""
    return {**made_by(Path(__file__).parents[1]), "revision": revision}


def comparison(a: Measurement, b: Measurement) -> dict[str, Any]:
    """Compare two attacks on the candidates that both have: the first so many of each side."""
    sides = [min(int(s(a.member)), int(s(b.member))) for s in (np.sum, lambda m: (~m).sum())]
    first, second = (_first(reading, *sides) for reading in (a, b))
    member = np.arange(sum(sides)) < sides[0]
    found = metrics.compare_auc(first, second, member)
    names = {
        f"{side}_{key}": getattr(reading, key)
        for side, reading in (("a", a), ("b", b))
        for key in ("attack", "variant", "implementation", "labels")
    }
    revisions = {f"{side}_revision": reading.made["revision"] for side, reading in (("a", a), ("b", b))}
    return {
        **names,
        "n_members": sides[0],
        "n_nonmembers": sides[1],
        "difference": _plain(found.difference),
        "p_value": float(f"{found.p_value:.3g}"),
        **made_by(Path(__file__).parents[1]),
        **revisions,
    }


def _first(reading: Measurement, members: int, others: int) -> np.ndarray:
    return np.concatenate([reading.scores[reading.member][:members], reading.scores[~reading.member][:others]])


def _plain(estimate: Estimate) -> dict[str, float] | None:
    if estimate.value is None:
        return None
    return {key: round(float(value), 5) for key, value in asdict(estimate).items() if key in ("value", "low", "high")}


def save_rows(
    run: str, rows: Sequence[dict[str, Any]], folder: Path = RESULTS, *, stays: Callable[[Row], bool] = lambda _: False
) -> None:
    """Write the rows of a run into the file of their data set, sorted by run, in place of those that it had.

    Args:
        stays: whether an old row of the run stays, before the new ones.
    """
    path = folder / f"{rows[0]['dataset']}.jsonl"
    with jsonl.locked(path):
        kept = [one for one in jsonl.read(path) if one["run"] != run or stays(one)]
        jsonl.write(path, sorted([*kept, *({"run": run} | one for one in rows)], key=lambda one: str(one["run"])))


def read_rows(folder: Path = RESULTS) -> list[Row]:
    """Return the measurements in a folder: by data set, then by run."""
    return [one for one in _read(folder) if "attack" in one]


def read_pairs(folder: Path = RESULTS) -> list[Row]:
    """Return the comparisons of two measurements in a folder: by data set, then by seed."""
    return [one for one in _read(folder) if "a_attack" in one]


def _read(folder: Path) -> Iterator[Row]:
    for file in sorted(folder.glob("*.jsonl")):
        yield from jsonl.read(file)


def save_scores(name: str, readings: Sequence[Measurement]) -> None:
    """Keep the scores behind a file of rows, outside the repository."""
    file = cache_folder() / "scores" / f"{name}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = ("attack", "variant", "implementation", "labels", "labels_mean")
    arrays = {f"scores.{i}": reading.scores for i, reading in enumerate(readings)}
    arrays["member"] = readings[0].member
    named = [{key: getattr(reading, key) for key in keys} | {"made": dict(reading.made)} for reading in readings]
    serialization.write_atomic(file, serialization.npz_bytes(arrays, json.dumps(named)), private=False)


def kept_scores(world: str) -> Iterator[Measurement]:
    """Yield the scores of a world that are kept."""
    for file in sorted((cache_folder() / "scores").glob(f"{world.replace('/', '-')}_*.npz")):
        arrays, document = serialization.read_npz(file)
        for i, named in enumerate(json.loads(document)):
            yield Measurement(**named, scores=arrays[f"scores.{i}"], member=arrays["member"])


def cache_folder() -> Path:
    """Return the folder that LABELLEAKS_POWER_CACHE names, or ``~/.cache/labelleaks-power``."""
    return Path(os.environ.get("LABELLEAKS_POWER_CACHE", "~/.cache/labelleaks-power")).expanduser()


def digest_of(x: Tensor, y: Tensor, settings: Any) -> str:
    """Hash rows, labels and JSON settings: 16 hexadecimal digits."""
    digest = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8)
    for array in (x, y):
        digest.update(array.contiguous().numpy().tobytes())
    return digest.hexdigest()
