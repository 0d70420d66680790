"""README.md and the curves, made from the result rows alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.power.attacks import ROBUST_AGAINST, ROBUST_TARGETS
from benchmarks.power.bars import EASY, bars
from benchmarks.power.curves import curve
from benchmarks.power.rows import RESULTS, read_pairs, read_rows
from benchmarks.power.summary import AttackKey, MeanOverSeeds, Row, Summary, best_ceiling, difference, summaries
from benchmarks.power.worlds import SEEDS
from benchmarks.tables import markdown
from labelleaks.core import serialization
from labelleaks.experiments import provenance
from labelleaks.experiments.figures import panels

__all__ = ["page", "write"]

FOLDER = Path(__file__).parent
NAMES = {
    "cifar10": "CIFAR-10",
    "faces": "Face (LFW, 19 people, 32 pixels)",
    "gtsrb": "GTSRB",
    "location30": "Location-30",
    "mnist": "MNIST",
    "digits": "Digits (scikit-learn, 64 numbers a row)",
}
BRACKETS = ((1, 1), (2, 5), (6, 10), (11, 20), (21, 50), (51, 200), (201, 1000), (1001, 2500))
"""Labels that compete with each other, (fewest, most)."""


def write(results: Path = RESULTS, folder: Path = FOLDER) -> None:
    """Write README.md and the curves."""
    rows, compared = read_rows(results), read_pairs(results)
    found = summaries(main_rows(rows))
    drawn = [
        [curve([s for s in found if s.dataset == dataset], measure, NAMES[dataset]) for measure in ("auc", "0.01")]
        for dataset in _datasets(found)
    ]
    serialization.write_atomic(folder / "curves.svg", panels(drawn), private=False)
    serialization.write_atomic(folder / "README.md", page(rows, compared), private=False)


def page(rows: Sequence[Row], pairs: Sequence[Row]) -> str:
    """Return the page as Markdown."""
    main = main_rows(rows)
    found = summaries(main)
    apart = [row for row in rows if _apart(row)]
    parts = [_HEAD, _bars(main, pairs, apart), _CURVES]
    for dataset in _datasets(found):
        parts.append(_leaderboard(dataset, rows, [s for s in found if s.dataset == dataset], pairs))
    parts += [_robustness(apart, main), _FOOT, provenance.words(rows) if rows else ""]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def main_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the leaderboard: the plain target, the plain adversary."""
    return [row for row in rows if not _apart(row)]


def _apart(row: Row) -> bool:
    words = row["variant"].split(", ")
    return row["attack"] != "transfer" and any(word in ROBUST_AGAINST + ROBUST_TARGETS for word in words)


def _datasets(found: Sequence[Summary]) -> list[str]:
    return [dataset for dataset in NAMES if any(s.dataset == dataset for s in found)]


def _bars(rows: Sequence[Row], pairs: Sequence[Row], apart: Sequence[Row]) -> str:
    lines = [[bar.statement, f"**{bar.verdict}**", bar.figures or "-"] for bar in bars(rows, pairs, apart)]
    table = markdown(["statement", "as measured", "figures"], lines).replace("--:", ":--")
    return f"## What was promised\n\n{_coverage(rows)}\n\n{table}"


def _coverage(rows: Sequence[Row]) -> str:
    """Which worlds stand behind the verdicts."""
    measured = {(row["dataset"], row["seed"]) for row in rows if row["attack"] == "guided"}
    promised = [name for name in NAMES if name not in EASY]
    told = [f"{NAMES[d]} {sum((d, s) in measured for s in SEEDS)} of {len(SEEDS)} seeds" for d in promised]
    return f"Measured so far, for guided: {', '.join(told)}. A verdict is about what is measured."


def _leaderboard(dataset: str, rows: Sequence[Row], found: Sequence[Summary], pairs: Sequence[Row]) -> str:
    text = [f"## {NAMES[dataset]}", _target_words(dataset, rows)]
    ceiling = best_ceiling(found, dataset)
    gap_words = f"AUC − LiRA ({ceiling.key[1].replace('_', ' ')})" if ceiling else "AUC − LiRA"
    header = ["attack", "labels", "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", gap_words, "set-up labels",
              "references", "members + others", "seeds"]  # fmt: skip
    lines = [["*sees every posterior*", *[""] * (len(header) - 1)]]
    lines += [_line(s, None) for s in _ranked(found, "posteriors")]
    for fewest, most in BRACKETS:
        here = [s for s in _ranked(found, "labels") if fewest <= s.labels <= most]
        if here:
            words = f"{most} label" if most == 1 else f"{fewest:,} to {most:,} labels"
            lines.append([f"**{words}**", *[""] * (len(header) - 1)])
            lines += [_line(s, _gap(pairs, s, ceiling)) for s in here]
    return "\n\n".join([*text, markdown(header, lines)])


def _target_words(dataset: str, rows: Sequence[Row]) -> str:
    worlds = {r["seed"]: (r["train_accuracy"], r["test_accuracy"]) for r in main_rows(rows) if r["dataset"] == dataset}
    told = ", ".join(f"{train:.3f} / {test:.3f}" for _, (train, test) in sorted(worlds.items()))
    return f"Target's accuracy on its training rows / on others, by seed: {told}."


def _ranked(found: Sequence[Summary], sees: str) -> list[Summary]:
    return sorted((s for s in found if s.sees == sees), key=lambda s: (-s.auc.value, s.labels, s.name))


def _gap(pairs: Sequence[Row], summary: Summary, ceiling: Summary | None) -> MeanOverSeeds | None:
    if ceiling is None:
        return None
    return difference(pairs, summary.key, ceiling.key, lambda pair: pair["dataset"] == summary.dataset)


def _line(s: Summary, gap: MeanOverSeeds | None) -> list[str]:
    seeds = ", ".join(map(str, s.seeds))
    return [
        s.name,
        "-" if s.sees == "posteriors" else f"{s.labels:,}",
        str(s.auc),
        *("-" if s.rates[rate] is None else str(s.rates[rate]) for rate in s.rates),
        _signed(gap),
        f"{s.setup_labels:,}",
        str(s.references),
        f"{s.n_members:,} + {s.n_nonmembers:,}",
        seeds,
    ]


def _signed(gap: MeanOverSeeds | None) -> str:
    if gap is None:
        return "-"
    return f"**{gap.signed}**" if gap.low > 0 or gap.high < 0 else gap.signed


def _robustness(others: Sequence[Row], main: Sequence[Row]) -> str:
    if not others:
        return ""
    like = {_run(row) for row in others}
    apart, plain = summaries(others), summaries([row for row in main if _run(row) in like])
    header = ["what differs", "attack", "labels", "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "set-up labels"]
    text = ["## What if the adversary, or the target, is another one?", _ROBUST]
    for dataset in _datasets(apart):
        lines = []
        here = [s for s in apart if s.dataset == dataset]
        for words, group in _by_difference(here, [s for s in plain if s.dataset == dataset]):
            for s in group:
                rates = ["-" if s.rates[rate] is None else str(s.rates[rate]) for rate in s.rates]
                lines.append([words, s.key[0] + _kind(s.key, words), str(s.labels), str(s.auc), *rates,
                              f"{s.setup_labels:,}"])  # fmt: skip
        text += [f"### {NAMES[dataset]}", markdown(header, lines)]
    return "\n\n".join(text)


def _kind(key: AttackKey, words: str) -> str:
    left = [word for word in key[1].split(", ") if word and word != words]
    return f" ({', '.join(left)})" if left else ""


def _run(row: Row) -> tuple[str, int, str, int, int, int]:
    """What two rows share that differ in the adversary, or the target, alone."""
    return (row["dataset"], row["seed"], row["attack"], row["labels"], row["n_members"], row["n_nonmembers"])


def _by_difference(apart: Sequence[Summary], plain: Sequence[Summary]) -> Iterator[tuple[str, list[Summary]]]:
    yield "nothing", sorted((s for s in plain if s.key[0] != "transfer"), key=lambda s: -s.auc.value)
    for word in ROBUST_AGAINST + ROBUST_TARGETS:
        group = [s for s in apart if word in s.key[1].split(", ")]
        if group:
            yield word, sorted(group, key=lambda s: -s.auc.value)


_HEAD = """
# How much each attack finds at equal cost

Written by `python -m benchmarks.power page` from `results/*.jsonl` alone; `make power` runs what is missing.

Targets: the 32-64-128 CNN for images and the 256-256 network for tables (Location-30, digits), trained for 30 epochs,
some ten more than they take to fit all of their rows. Adversary: rows of its own from the same distribution,
relabelled by the target (*set-up labels*, bought once for all candidates); 8 reference models of the target's family,
the same ones for every attack that uses any, and for the attacks that see posteriors. Every figure is the mean over
seeds (of split, target and references) with a 95 % interval for the candidates that were drawn; **bold** differences
exclude 0 (paired DeLong test on the same candidates). A TPR is judged from 100 non-members at 1 % and from 2,000 at
0.1 %. Up to 50 labels all candidates are attacked, but of pictures the first 500 of each side by what works long on
each with its references (OSLO, YOQO, DHAttack, chameleon, calibrated); up to 200 at most 1,000 of each side, above
that the first 200 of each side. Rivals of other authors run at their defaults, cut at the budget. With one label gap,
OSLO and YOQO say yes or no: their curve is one point, their AUC that of two straight lines. What sees posteriors is
not a rival but a mark; that LiRA is the one that guided is held against does not make it the highest everywhere.

Promises are about CIFAR-10, Face, GTSRB and Location-30. On MNIST and digits the target does nearly as well on rows
that it never saw; they are here because guided was weak there until it was made to look at that.
"""

_CURVES = """
## Against labels

AUC, and TPR at 1 % FPR: a row of charts for each data set.

![AUC, and TPR at 1 % FPR, against labels per candidate](curves.svg)
"""

_ROBUST = """
One seed. The plain adversary ("nothing") has the family of the target, all shadow rows, relabelled, and 8 references,
each trained until it has learned its rows (*training=long*: for 30 epochs, as the target). Of pictures the first 1,000
of each side are attacked, 500 by DHAttack, by "nothing" as well.

LiRA-offline depends on its references far more than guided does. Labels of the target carry something of its members
into every model that is trained on them, the more the more rows there are and the longer they are trained on: the
references then find members easier than others, and LiRA subtracts just that. Fewer rows (*shadow=half*, *=third*: as
many as the target of Location-30 had) or the rows' own labels (*relabelled=none*) suit it better than what suits
guided.
"""

_FOOT = """
## Rows

`results/DATASET.jsonl` holds a row a line, sorted by `run`: `run, dataset, seed, target, attack, variant,
implementation, labels` (the budget), `labels_mean` (spent), `setup_labels, references, n_members, n_nonmembers, auc
{value, low, high}, tpr_at_fpr {"0.01", "0.001"}` (null where there are too few non-members), `seconds` (of processor
time, without training; null where none was kept), `train_accuracy, test_accuracy`, and what made it: `version` of
labelleaks, `commit` of the code (`-dirty` where code differed from it), `revision` of the attack; a row of another
revision than the attack's is run again. Rows with `a_attack` and `b_attack` are differences: AUC of `a` minus AUC of
`b` on the candidates of both.
GTSRB was kept for the final table: nothing was chosen by it (guided was run on it before and after two late changes);
its parts never share the frames of one sign. Its non-members hold several frames of each sign, which are not
independent draws: intervals there are too narrow.
"""
