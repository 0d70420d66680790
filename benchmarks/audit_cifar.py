"""A real audit: a CNN trained on 2,000 CIFAR-10 images, 500 members and 500 non-members, every attack.

    LABELLEAKS_DATA=../shared/data python -m benchmarks.audit_cifar [--budget 500]

Needs ``cifar10.npz`` (keys ``images`` uint8 (n, 32, 32, 3) and ``labels``) in the folder that LABELLEAKS_DATA names.
Writes the run with its report to ``runs/cifar`` and the figures to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import labelleaks as ll
from benchmarks.tables import environment, markdown, write
from labelleaks.models import architectures, training

TRAINED, CANDIDATES, SHADOW = 2_000, 500, 3_000
RECIPE = ll.Recipe(epochs=40)


@dataclass(frozen=True, eq=False)
class CifarRows:
    """CIFAR-10 images in 8-bit steps of [0, 1], channels first, and their labels."""

    x: Tensor
    y: Tensor

    def part(self, rows: slice) -> CifarRows:
        return CifarRows(self.x[rows], self.y[rows])


def cifar(folder: Path, *, seed: int) -> CifarRows:
    """Load all rows, shuffled: the file is in source order."""
    file = folder / "cifar10.npz"
    if not file.is_file():
        sys.exit(f"{file} is missing: set LABELLEAKS_DATA to the folder that holds cifar10.npz")
    with np.load(file, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    order = np.random.default_rng(seed).permutation(len(images))
    x = torch.from_numpy(images[order].astype(np.float32) / 255).permute(0, 3, 1, 2).contiguous()
    return CifarRows(x, torch.from_numpy(labels[order].astype(np.int64)))


def accuracy(model: nn.Module, rows: CifarRows) -> float:
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).sum() for x, y in zip(rows.x.split(500), rows.y.split(500), strict=True)]
    return int(sum(right)) / len(rows.y)


def figures(record: ll.AuditRecord, run: dict[str, Any]) -> dict[str, Any]:
    """Return what is worth keeping of each attack."""
    found = {}
    for name, result in record.attacks.items():
        found[name] = {
            "auc": asdict(result.auc),
            "auc_given_correct": asdict(result.given_correct.auc),
            "tpr_at_fpr": {str(fpr): asdict(estimate) for fpr, estimate in result.tpr_at_fpr.items()},
            "balanced_accuracy": asdict(result.balanced_accuracy),
            "labels_per_candidate": {"mean": float(result.queries.mean()), "most": int(result.queries.max())},
            "status": {s.name: int((result.status == s).sum()) for s in ll.Status},
            "auc_by_labels": {point.labels: point.ranking.auc.value for point in result.curve},
            "seconds": run["attack_seconds"].get(name),
        }
    return found


def page(result: dict[str, Any]) -> str:
    lines = []
    for name, r in result["attacks"].items():
        auc, tpr = r["auc"], r["tpr_at_fpr"]["0.01"]
        lines.append(
            [
                name,
                f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})",
                f"{r['auc_given_correct']['value']:.3f}" if r["auc_given_correct"]["value"] is not None else "-",
                f"{tpr['value']:.3f} ({tpr['low']:.3f} to {tpr['high']:.3f})" if tpr["value"] is not None else "-",
                f"{r['balanced_accuracy']['value']:.3f}",
                f"{r['labels_per_candidate']['mean']:.0f}",
                f"{r['seconds']:.1f}",
            ]
        )
    header = ["attack", "AUC", "AUC given correct", "TPR at 1 % FPR", "balanced accuracy", "labels each", "seconds"]
    return (
        "# An audit of a CNN trained on 2,000 CIFAR-10 images\n\n"
        f"32-64-128 CNN, {RECIPE.epochs} epochs; accuracy {result['train_accuracy']:.3f} on its training images, "
        f"{result['test_accuracy']:.3f} on others. {CANDIDATES} members, {CANDIDATES} non-members, {SHADOW:,} shadow "
        f"images, at most {result['budget']} labels each; {result['rows']:,} labels in all, of which "
        f"{result['setup_rows']:,} for set-up. 95 % intervals. Written by `python -m benchmarks.audit_cifar`.\n\n"
        + markdown(header, lines)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/cifar"))
    arguments = parser.parse_args()

    rows = cifar(Path(os.environ.get("LABELLEAKS_DATA", "../shared/data")), seed=arguments.seed)
    trained, rest = rows.part(slice(TRAINED)), rows.part(slice(TRAINED, None))
    outside, shadow = rest.part(slice(CANDIDATES)), rest.part(slice(CANDIDATES, CANDIDATES + SHADOW))
    began = time.perf_counter()
    model = architectures.build("cnn", tuple(rows.x.shape[1:]), 10, seed=arguments.seed)
    training.train(model, trained.x, trained.y, RECIPE, seed=arguments.seed)
    trained_in = time.perf_counter() - began

    began = time.perf_counter()
    record = ll.audit(
        model,
        members=(trained.x[:CANDIDATES], trained.y[:CANDIDATES]),
        nonmembers=(outside.x, outside.y),
        attacks=["gap", "noise", "augmentation", "boundary", "transfer"],
        shadow=(shadow.x, shadow.y),
        domain=ll.Box(0, 1, levels=256),
        budget=arguments.budget,
        seed=arguments.seed,
        name="cifar",
        out=arguments.out,
        overwrite=True,
    )
    seconds = time.perf_counter() - began
    result = {
        "environment": environment(),
        "budget": arguments.budget,
        "train_accuracy": accuracy(model, trained),
        "test_accuracy": accuracy(model, rest.part(slice(CANDIDATES + SHADOW, CANDIDATES + SHADOW + 5_000))),
        "training_seconds": round(trained_in, 1),
        "audit_seconds": round(seconds, 1),
        "rows": record.ledger.rows,
        "setup_rows": record.ledger.setup_rows,
        "attacks": figures(record, json.loads((arguments.out / "run.json").read_text())),
        "flags": [flag.name for flag in record.flags],
    }
    write("audit_cifar", result, page(result))


if __name__ == "__main__":
    main()
