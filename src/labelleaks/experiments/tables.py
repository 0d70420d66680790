"""The page's tables: AUC at every label count, TPR at 1 % FPR, shadow models, and a check of the gap attack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from labelleaks import data
from labelleaks.experiments.findings import Mean, mean_of
from labelleaks.experiments.jsonl import Row
from labelleaks.experiments.spec import POSTERIORS

__all__ = [
    "Key",
    "ablations",
    "at_most_sizes",
    "cell",
    "gap_identity",
    "keys_of",
    "labels_seen",
    "low_fpr_table",
    "main_table",
    "mean_at",
    "measured_at",
    "name_of_attack",
]


Key = tuple[str, str, int]
"""attack, variant, labels"""
_ORDER = ("gap", "loss_threshold", "salem", "lira_offline", "transfer", "augmentation", "noise", "boundary")
_FPR = "0.01"


def main_table(dataset: str, protocol: str, rows: Sequence[Row], *, ablated: bool) -> str:
    """Return the table of AUCs with its heading.

    Args:
        rows: of one data set and protocol.
        ablated: leave out what other shadow models and fewer shadow rows make: it has a table of its own.
    """
    sizes = _sizes(rows)
    models = ", ".join(sorted({row["model"] for row in rows}))
    head = " | ".join(f"{size:,} members" for size in sizes)
    lines = [
        f"## {data.card(dataset).title}, protocol `{protocol}`, model `{models}`\n",
        f"| AUC of | labels | scored; seeds | {head} |",
        f"| --- | ---: | ---: | {' | '.join('---:' for _ in sizes)} |",
        f"| *accuracy: train / test* | | | {' | '.join(_accuracies(rows, size) for size in sizes)} |",
    ]
    for key in keys_of(rows):
        if ablated and ("shadow=" in key[1] or "model=" in key[1]):
            continue
        cells = [cell(mean_at(rows, key, size)) for size in sizes]
        lines.append(
            f"| {name_of_attack(*key[:2])} | {labels_seen(key)} | {_scored(rows, key)} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def low_fpr_table(rows: Sequence[Row]) -> str:
    """Return the table of TPRs at 1 % FPR, each attack at the labels of :func:`at_most_sizes`; "" where none is known.

    Args:
        rows: of one data set and protocol.
    """
    sizes, lines = _sizes(rows), []
    for pair, labels in at_most_sizes(rows).items():
        cells = [_low_fpr(measured_at(rows, (*pair, labels), size)) for size in sizes]
        if "=" not in pair[1] and any(cells):
            lines.append(f"| {name_of_attack(*pair)} | {labels_seen((*pair, labels))} | {' | '.join(cells)} |")
    if not lines:
        return ""
    head = [
        "TPR at 1 % FPR: mean over seeds, from the lowest end to the highest of the seeds' 95 % intervals; none where "
        "fewer than 100 non-members were scored.\n",
        f"| TPR of | labels | {' | '.join(f'{size:,} members' for size in sizes)} |",
        f"| --- | ---: | {' | '.join('---:' for _ in sizes)} |",
    ]
    return "\n".join([*head, *lines]) + "\n"


def keys_of(rows: Sequence[Row]) -> list[Key]:
    """Return what was measured, in the page's order."""
    keys = {(row["attack"], row["variant"], row["labels"]) for row in rows}
    return sorted(keys, key=lambda key: (_ORDER.index(key[0]), key[1], key[2]))


def at_most_sizes(rows: Sequence[Row]) -> Mapping[tuple[str, str], int]:
    """Return for each attack and variant the most labels at which it was read at the most sizes."""
    reached = {key: len({row["target_size"] for row in rows if _key(row) == key}) for key in keys_of(rows)}
    most: dict[tuple[str, str], int] = {}
    for key, count in reached.items():
        best = most.get(key[:2])
        if best is None or count >= reached[*key[:2], best]:
            most[key[:2]] = key[2]
    return most


def mean_at(rows: Sequence[Row], key: Key, size: int) -> Mean | None:
    """Return the mean AUC over seeds at one size of the training set; None: not measured."""
    mine = [row for row in measured_at(rows, key, size) if row["auc"]]
    return mean_of(mine) if mine else None


def cell(mean: Mean | None) -> str:
    """Return a mean with its interval; "" for None."""
    return "" if mean is None else f"{mean.value:.3f} ({mean.low:.3f}–{mean.high:.3f})"


def name_of_attack(attack: str, variant: str) -> str:
    """Return both in words."""
    return f"{attack.replace('_', ' ')} ({variant.replace('_', ' ')})" if variant else attack.replace("_", " ")


def measured_at(rows: Sequence[Row], key: Key, size: int) -> list[Row]:
    """Return a row for each seed; of two the one with more candidates."""
    mine = [row for row in rows if _key(row) == key and row["target_size"] == size]
    return list({row["seed"]: row for row in sorted(mine, key=lambda row: row["n_members"])}.values())


def labels_seen(key: Key) -> str:
    """Return the labels of a measurement in words: posteriors where the attack sees those."""
    return "posteriors" if key[0] in POSTERIORS and key[1] != "one_hot" else f"{key[2]:,}"


def _key(row: Row) -> Key:
    return row["attack"], row["variant"], row["labels"]


def _sizes(rows: Sequence[Row]) -> list[int]:
    return sorted({row["target_size"] for row in rows}, reverse=True)


def _scored(rows: Sequence[Row], key: Key) -> str:
    """Members and non-members, where there were most; seeds, of the size with fewest and with most."""
    mine = [row for row in rows if _key(row) == key]
    most = max(mine, key=lambda row: (row["n_members"], row["n_nonmembers"]))
    seeds = sorted({len(measured_at(mine, key, size)) for size in _sizes(mine)})
    return f"{most['n_members']:,} + {most['n_nonmembers']:,}; {' to '.join(map(str, seeds[:1] + seeds[1:][-1:]))}"


def _accuracies(rows: Sequence[Row], size: int) -> str:
    by_seed = {row["seed"]: (row["train_accuracy"], row["test_accuracy"]) for row in rows if row["target_size"] == size}
    means = [sum(pair[i] for pair in by_seed.values()) / len(by_seed) for i in (0, 1)]
    return f"{means[0]:.3f} / {means[1]:.3f}"


def _low_fpr(rows: Sequence[Row]) -> str:
    rates = [row["tpr_at_fpr"][_FPR] for row in rows if row["tpr_at_fpr"].get(_FPR)]
    if not rates:
        return ""
    value = sum(one["value"] for one in rates) / len(rates)
    return f"{value:.3f} ({min(one['low'] for one in rates):.3f}–{max(one['high'] for one in rates):.3f})"


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
        models = sorted({_shadow_model(row) for row in here}, key=_by_number)
        if len(models) > 1:
            yield _ablation(here, size, models)


def _ablation(rows: Sequence[Row], size: int, models: Sequence[str]) -> str:
    counts = sorted({_shadow_rows(row) for row in rows}, key=lambda n: n or 1 << 62)
    lines = [
        f"Transfer attack by shadow model, target of {size:,} rows (AUC of the {_STATISTIC}):\n",
        f"| shadow rows | {' | '.join(models)} |",
        f"| ---: |{' ---: |' * len(models)}",
    ]
    for count in counts:
        cells = []
        for model in models:
            cell_rows = [row for row in rows if (_shadow_rows(row), _shadow_model(row)) == (count, model)]
            mean = mean_of(cell_rows) if cell_rows else None
            cells.append("" if mean is None else f"{mean.value:.3f} ({mean.low:.3f}–{mean.high:.3f})")
        lines.append(f"| {f'{count:,}' if count else 'all'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shadow_rows(row: Row) -> int:
    """Shadow rows; 0: all of the world's."""
    match = re.search(r"shadow=(\d+)", row["variant"])
    return int(match[1]) if match else 0


def _shadow_model(row: Row) -> str:
    """Architecture of the shadow model: the target's own where none is named."""
    match = re.search(r"model=(\w+)", row["variant"])
    return match[1] if match else str(row["model"])


def _by_number(model: str) -> tuple[str, int]:
    digits = re.search(r"\d+$", model)
    return re.sub(r"\d+$", "", model), int(digits[0]) if digits else 0


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
