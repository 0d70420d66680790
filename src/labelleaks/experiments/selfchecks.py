"""A self-check that rows alone can make: the gap attack is half and half the gap."""

from __future__ import annotations

from collections.abc import Sequence

from labelleaks.experiments.jsonl import Row

__all__ = ["gap_identity"]


def gap_identity(rows: Sequence[Row]) -> str:
    """Return a section that says how far AUCs of the gap attack are from 0.5 + (train - test accuracy) / 2."""
    off = [
        abs(row["auc"]["value"] - 0.5 - (row["train_accuracy"] - row["test_accuracy"]) / 2)
        for row in rows
        if row["attack"] == "gap" and row["auc"] is not None
    ]
    if not off:
        return ""
    inside = sum(difference < 1e-4 for difference in off)
    return (
        "## Self-check: the gap attack\n\n"
        "Its AUC is its balanced accuracy, which is 0.5 + (train − test accuracy) / 2 on the same rows. The accuracies "
        "here are those of all members and all non-members, the attack's candidates may be fewer. "
        f"In {inside} of {len(off)} rows both are equal to four digits; the largest difference is {max(off):.4f}.\n"
    )
