"""A record as an audit would leave it, made of synthetic scores and real digits, without any target."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from labelleaks.auditing.evaluation import compare, evaluate
from labelleaks.auditing.flags import Flag
from labelleaks.auditing.record import AttackResult, AuditRecord
from labelleaks.auditing.run_log import LedgerSummary
from labelleaks.auditing.thresholds import Threshold
from labelleaks.core.types import Status, checkpoints_up_to

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass
class Trajectory:
    checkpoints: tuple[int, ...]
    value: np.ndarray


@dataclass
class Scores:
    value: np.ndarray
    status: np.ndarray
    trajectory: Trajectory | None


def make_record(*, n: int = 300, leak: float = 0.9, images: bool = True, seed: int = 0, **changes: Any) -> AuditRecord:
    """``n`` members and ``n`` non-members; ``leak`` shifts the members' scores, 0 = none."""
    return replace(_made(n, leak, images, seed), **changes)


@cache
def _made(n: int, leak: float, images: bool, seed: int) -> AuditRecord:
    rng = np.random.default_rng(seed)
    digits = load_digits()
    order = rng.permutation(len(digits.data))
    rows = order[np.arange(2 * n) % len(order)]
    x, y = (digits.images[rows] / 16).astype(np.float32), digits.target[rows].astype(np.int64)
    x = x[:, None] if images else x.reshape(2 * n, -1)
    member = np.arange(2 * n) < n
    keys = rng.permutation(2 * n).astype(np.int64) * 7919 + 13
    wrong = rng.random(2 * n) < np.where(member, 0.02, 0.02 + 0.18 * leak)
    depth = np.abs(rng.normal(1.2, 0.45, 2 * n)) + leak * member * rng.gamma(1.2, 0.5, 2 * n)  # the shared truth
    makers = (_gap, _noise, _augmentation, _boundary, _transfer)
    results = [make(rng, depth, wrong, member, keys, x, x[rng.permutation(2 * n)]) for make in makers]
    by_candidate = np.sum([r.queries for r in results], axis=0)
    return AuditRecord(
        name="digits-mlp",
        spec={"attacks": [r.name for r in results], "budget": 500, "thresholds": ["cross-fit", "random_inputs"]},
        seed=seed,
        versions={"labelleaks": "0.1.0", "python": "3.11.7", "numpy": "2.4.6", "torch": "2.13.0"},
        target={"kind": "torch", "name": "examples.digits.MLP", "parameters": 17226, "fingerprint": "9f2c0d1be77a4410"},
        domain={"kind": "box", "low": 0.0, "high": 1.0, "levels": 17},
        classes=CLASSES,
        member=member,
        y=y,
        ids=tuple(f"{'train' if m else 'test'}-{i % n:04d}" for i, m in enumerate(member)),
        inputs=x,
        attacks={r.name: r for r in results},
        comparisons=compare({r.name: r.scores for r in results}, member),
        flags=_FLAGS,
        ledger=LedgerSummary(
            setup={"probe.labels": 16, "transfer.relabel": 800, "boundary.random_inputs.label": 100},
            candidates=_phases(results),
            by_candidate=by_candidate,
        ),
        shadow={"given": 812, "dropped": 12},
        notes=("12 shadow rows were equal or nearly equal to a candidate and were dropped.",),
    )


_FLAGS = (
    Flag(
        "near_duplicates",
        "serious",
        "7 non-members lie within 0.02 of a member (L2 per pixel).",
        "The target has all but seen them; they count as non-members and pull every figure down.",
        "Remove one of each pair, or say that the figures are a lower bound.",
    ),
    Flag(
        "audited_threshold",
        "warning",
        "The reported decisions of 5 attacks use a threshold fitted on the audited data.",
        "Cross-fitting keeps it honest, yet an attacker without members cannot do it.",
        "Read balanced accuracy as an upper bound, or give a hold-out.",
    ),
    Flag(
        "fpr_out_of_reach",
        "info",
        "With 300 non-members a false-positive rate of 0.1 % cannot be seen.",
        "The harm to single people may be greater than this audit can show.",
        "Give at least 1,000 non-members.",
    ),
)


def _phases(results: list[AttackResult]) -> dict[str, int]:
    found: dict[str, int] = {}
    for r in results:
        total, first = int(r.queries.sum()), len(r.queries)
        found[f"{r.name}.correct"] = first
        if r.name == "boundary":
            rest = total - first
            found |= {"boundary.start": rest // 20, "boundary.gradient": rest - rest // 20 - rest // 6}
            found["boundary.bisect"] = rest // 6
        elif total > first:
            found[f"{r.name}.copies"] = total - first
    return found


def _result(
    name: str,
    spec: dict[str, Any],
    scores: np.ndarray,
    status: np.ndarray,
    queries: np.ndarray,
    member: np.ndarray,
    keys: np.ndarray,
    *,
    trajectory: Trajectory | None = None,
    thresholds: tuple[Threshold, ...] = (),
    details: dict[str, np.ndarray] | None = None,
) -> AttackResult:
    scores = scores.astype(np.float64)
    return AttackResult(
        name=name,
        spec={"name": name, **spec},
        scores=scores,
        status=status.astype(np.int64),
        queries=queries.astype(np.int64),
        evaluation=evaluate(Scores(scores, status, trajectory), member, keys=keys, thresholds=thresholds),
        checkpoints=trajectory.checkpoints if trajectory else (),
        trajectory=trajectory.value if trajectory else None,
        details=details or {},
    )


def _status(wrong: np.ndarray) -> np.ndarray:
    return np.where(wrong, int(Status.MISCLASSIFIED), int(Status.DONE)).astype(np.int64)


def _gap(rng: Any, depth: Any, wrong: Any, member: Any, keys: Any, x: Any, other: Any) -> AttackResult:
    return _result("gap", {}, (~wrong).astype(float), _status(wrong), np.ones(len(wrong)), member, keys)


def _copies(
    name: str, most: int, blur: float, rng: Any, depth: Any, wrong: Any, member: Any, keys: Any
) -> AttackResult:
    chance = 1 / (1 + np.exp(-(depth - 0.6 + rng.normal(0, blur, len(depth))) * 2))
    kept = (rng.random((most - 1, len(depth))) < chance).cumsum(0)
    checkpoints = checkpoints_up_to(most)
    path = np.stack([np.ones(len(depth)) if c == 1 else (1 + kept[c - 2]) / c for c in checkpoints])
    path = np.where(wrong, 0.0, path)
    trajectory = Trajectory(checkpoints, path)
    return _result(
        name, {"copies": most}, path[-1], _status(wrong), np.where(wrong, 1, most), member, keys, trajectory=trajectory
    )


def _noise(rng: Any, depth: Any, wrong: Any, member: Any, keys: Any, x: Any, other: Any) -> AttackResult:
    return _copies("noise", 500, 0.3, rng, depth, wrong, member, keys)


def _augmentation(rng: Any, depth: Any, wrong: Any, member: Any, keys: Any, x: Any, other: Any) -> AttackResult:
    return _copies("augmentation", 21, 0.5, rng, depth, wrong, member, keys)


def _boundary(rng: Any, depth: Any, wrong: Any, member: Any, keys: Any, x: Any, other: Any) -> AttackResult:
    checkpoints = checkpoints_up_to(500)
    noise = rng.normal(0, 1, (len(checkpoints), len(depth)))
    path = np.stack(
        [
            8.0 * np.ones(len(depth)) if c < 20 else depth * np.exp(np.abs(noise[i]) * 6 / c**0.8) + 1.5 / np.sqrt(c)
            for i, c in enumerate(checkpoints)
        ]
    )
    path = np.minimum.accumulate(np.where(wrong, 0.0, path), axis=0)
    status = _status(wrong)
    status[np.flatnonzero(~wrong & member)[:3]] = int(Status.NO_START)
    status[np.flatnonzero(~wrong & ~member)[:1]] = int(Status.NO_START)
    path[:, status == int(Status.NO_START)] = 8.0
    final = path[-1]
    step = (other - x).reshape(len(x), -1)
    moved = x.reshape(len(x), -1) + step * (final / np.maximum(np.linalg.norm(step, axis=1), 1e-6))[:, None]
    change = np.abs(moved - x.reshape(len(x), -1)).astype(np.float64)
    return _result(
        "boundary",
        {"norm": "l2", "max_iterations": 50},
        final,
        status,
        np.where(wrong, 1, np.where(status == int(Status.NO_START), 130, 500)),
        member,
        keys,
        trajectory=Trajectory(checkpoints, path),
        thresholds=(
            Threshold(1.55, "percentile 50", "boundary distances of 100 random inputs, percentile 50"),
            Threshold(
                2.1, "FPR of at most 0.1", "conformal quantile of 200 held-out shadow rows with their true labels"
            ),
        ),
        details={
            "adversarial": moved.clip(0, 1).reshape(x.shape).astype(np.float32),
            "distance_l2": final,
            "distance_linf": change.max(1),
            "distance_l1": change.sum(1),
        },
    )


def _transfer(rng: Any, depth: Any, wrong: Any, member: Any, keys: Any, x: Any, other: Any) -> AttackResult:
    loss = np.exp(-1.1 * depth + rng.normal(0, 0.9, len(depth)))
    scores = np.where(wrong, -100.0, -np.minimum(loss, 99))
    return _result("transfer", {"statistic": "loss"}, scores, _status(wrong), np.ones(len(depth)), member, keys)
