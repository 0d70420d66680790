"""How long a whole guided audit takes: 1,000 + 1,000 candidates of CIFAR-10, 8 references trained from nothing.

    LABELLEAKS_DATA=../shared/data python -m benchmarks.guided_audit

The target is the leaderboard's (``benchmarks/power``, world cifar10/0) and is trained before the clock starts; the
references are not: they are trained in the audit, by as many processes as torch has threads. Writes the figures to
``benchmarks/results``. Two threads want two cores to themselves: whatever else runs costs them far
more than its share.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

import labelleaks as ll
from benchmarks.power.worlds import World, open_world
from benchmarks.tables import environment, markdown, write
from labelleaks.auditing.run_log import RunLog

EACH, BUDGET, BAR = 1_000, 20, 600.0
"""Candidates of each side; labels; seconds that the whole may take on two cores."""


def timed(world: World, out: Path) -> tuple[ll.AuditRecord, float]:
    """Audit; return the record and the seconds that it took, report included."""
    members, others, shadow = (
        world.split.members.part(0, EACH),
        world.split.nonmembers.part(0, EACH),
        world.split.shadow,
    )
    began = time.perf_counter()
    record = ll.audit(
        world.module,
        members=(members.x, members.y),
        nonmembers=(others.x, others.y),
        attacks=["guided"],
        shadow=(shadow.x,),
        budget=BUDGET,
        seed=world.seed,
        name="guided",
        out=out,
    )
    return record, time.perf_counter() - began


def main() -> None:
    world = open_world("cifar10/0")
    with tempfile.TemporaryDirectory() as folder:
        record, seconds = timed(world, Path(folder) / "run")
        run = RunLog.load(Path(folder) / "run")
    assert run is not None
    found = record.attacks["guided"]
    result = {
        "environment": environment(),
        "seconds": round(seconds, 1),
        "attack_seconds": round(run.attack_seconds["guided"], 1),
        "training_seconds_of_all_references": round(run.training_seconds, 1),
        "labels_per_candidate": float(found.queries.mean()),
        "setup_rows": record.ledger.setup_rows,
        "auc": asdict(found.auc),
        "tpr_at_fpr": {str(fpr): asdict(estimate) for fpr, estimate in found.tpr_at_fpr.items()},
    }
    row = [f"{seconds:.0f}", f"{run.training_seconds:.0f}", f"{found.queries.mean():.1f}", f"{found.auc.value:.3f}"]
    head = ["seconds, all of it", "of its 8 references, one added to the other", "labels a candidate", "AUC"]
    page = (
        f"# A whole guided audit: {EACH:,} + {EACH:,} candidates of CIFAR-10\n\n"
        f"32-64-128 CNN, {torch.get_num_threads()} threads; {record.ledger.setup_rows:,} shadow rows relabelled, 8 "
        f"references trained. The bar is {BAR:.0f} seconds on two cores: "
        f"{'holds' if seconds < BAR else 'does not hold'}. Written by `python -m benchmarks.guided_audit`.\n\n"
    )
    write("guided_audit", result, page + markdown(head, [row]))


if __name__ == "__main__":
    main()
