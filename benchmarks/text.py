"""Attacks on text classifiers beside attacks that read the target's confidence: ``python -m benchmarks.text``.

Movie-review snippets and SMS (``shared/data``), scikit-learn targets, three seeds, 1,000 + 1,000 candidates, 8
references. ``python -m benchmarks.text --page`` writes the table in ``benchmarks/results/text.md`` from the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.power.ceilings import lira, logit_of, rmia
from labelleaks import metrics
from labelleaks.attacks import Boundary, Gap, Guided, Noise
from labelleaks.core.attack import Knowledge, ShadowRows, run
from labelleaks.core.domains import Text, Tokens
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores
from labelleaks.models import reference_models, text_models
from labelleaks.models.shadow_model import log_posteriors

DATA = Path(os.environ.get("LABELLEAKS_DATA", Path(__file__).parents[2] / "shared" / "data"))
RESULTS = Path(__file__).parent / "results" / "text.jsonl"
SETS = {"movie_snippets": (2000, 2500), "sms_spam": (1500, 2000)}
"""Rows that the target trains on, and shadow rows."""
TARGETS = ("lr-1", "lr-100", "svm")
EACH = 1000


@dataclass(frozen=True, eq=False)
class TextWorld:
    """A trained target, its candidates (members first) and the adversary's rows."""

    domain: Tokens
    pipeline: Any
    x: Tensor
    y: Tensor
    shadow: Tensor

    @property
    def member(self) -> NDArray[np.bool_]:
        """Which candidates are members: the first half."""
        return np.arange(len(self.y)) < len(self.y) // 2

    def labels(self, x: Tensor) -> Tensor:
        """The target's labels of rows of codes."""
        return torch.from_numpy(self.pipeline.predict(self.domain.vocabulary.decode(x.numpy())).astype(np.int64))

    def logits(self) -> Tensor:
        """Scores of the candidates, float64 (n, 2): what an adversary with confidences sees."""
        scores = self.pipeline.decision_function(self.domain.vocabulary.decode(self.x.numpy()))
        return torch.stack([torch.zeros(len(scores), dtype=torch.float64), torch.from_numpy(scores)], 1)


def make_pipeline(target: str) -> Any:
    """Return the untrained target of this name."""
    from sklearn import pipeline
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    kind, _, strength = target.partition("-")
    model = LinearSVC() if kind == "svm" else LogisticRegression(C=float(strength), max_iter=2000)
    return pipeline.make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), model)


def make_world(name: str, target: str, seed: int) -> TextWorld:
    """Deal out the rows of a set and train the target."""
    with np.load(DATA / f"{name}.npz") as held:
        texts, labels = held["texts"].tolist(), held["labels"].astype(np.int64)
    train, shadow = SETS[name]
    order = np.random.default_rng(seed).permutation(len(texts))
    parts = [order[:train], order[train : train + EACH], order[train + EACH : train + EACH + shadow]]
    pipeline = make_pipeline(target).fit([texts[i] for i in parts[0]], labels[parts[0]])
    domain = Text().learn([texts[i] for part in parts for i in part])
    candidates = np.concatenate([parts[0][:EACH], parts[1]])
    codes = [domain.vocabulary.encode([texts[i] for i in part], domain.width) for part in (candidates, parts[2])]
    x, others = map(torch.from_numpy, codes)
    return TextWorld(domain, pipeline, x, torch.from_numpy(labels[candidates]), others)


ATTACKS: dict[str, Callable[[], Any]] = {
    "gap": Gap, "noise": lambda: Noise(copies=49), "boundary": Boundary, "guided": Guided,
}  # fmt: skip
BUDGET = 50
READ_AT = (1, 2, 5, 10, 50)


def measure(world: TextWorld, *, seed: int, attacks: tuple[str, ...] = tuple(ATTACKS)) -> list[dict[str, Any]]:
    """Return a row for each attack and number of labels, and for each attack that reads confidences."""
    candidates = Candidates(world.x, world.y, world.domain, 2)
    gate = Gate(world.labels, batch_rows=4096)
    family = text_models.for_texts(None, world.domain, candidates.shape)
    knowledge = Knowledge(gate.setup_oracle("setup"), ShadowRows(world.shadow), family=family, references=8)
    began = time.perf_counter()
    references = reference_models.references(knowledge, 2, seed=seed)
    trained = time.perf_counter() - began
    rows = []
    for name in attacks:
        began, inside = time.perf_counter(), gate.ledger.seconds
        scores = run(ATTACKS[name](), gate.oracle(name, len(candidates), BUDGET), candidates, knowledge, seed=seed)
        seconds = time.perf_counter() - began - (gate.ledger.seconds - inside)
        rows += [{**row, "seconds": round(seconds + trained, 2)} for row in _read(name, scores, world.member)]
    return rows + _ceilings(world, references)


def _read(name: str, scores: Scores, member: NDArray[np.bool_]) -> list[dict[str, Any]]:
    path = scores.trajectory
    if path is None:
        return [_figures(name, int(scores.queries.max()), scores.value, member)]
    last = path.checkpoints[-1]
    at = [c for c in path.checkpoints if c in READ_AT or c == last]
    return [_figures(name, c, path.value[path.checkpoints.index(c)], member) for c in at]


def _ceilings(world: TextWorld, references: Any) -> list[dict[str, Any]]:
    target = world.logits()
    own = logit_of(target, world.y)
    outside = reference_models.all_logits(references.models, world.x)
    confidences = torch.stack([logit_of(one, world.y) for one in outside])
    p = log_posteriors(target).gather(1, world.y[:, None])[:, 0].exp()
    p_out = torch.stack([log_posteriors(one).gather(1, world.y[:, None])[:, 0].exp() for one in outside])
    made = {f"lira_offline {name}": score for name, score in lira(own, confidences).items()}
    made["rmia"] = rmia(p, p_out)
    return [_figures(name, 0, score, world.member) for name, score in made.items()]


def _figures(name: str, labels: int, score: Tensor, member: NDArray[np.bool_]) -> dict[str, Any]:
    values = score.numpy()
    auc = metrics.auc(values, member).value
    tpr = metrics.tpr_at_fpr(values, member, 0.01).value
    return {"attack": name, "labels": labels, "auc": auc, "tpr_at_1": tpr}


def main() -> None:
    """Measure what is missing, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--page", action="store_true", help="write the table from the rows")
    chosen = parser.parse_args()
    if chosen.page:
        RESULTS.with_suffix(".md").write_text(page(), encoding="utf-8")
        return
    known = {(row["set"], row["target"], row["seed"]) for row in _rows()}
    for name in SETS:
        for target in TARGETS:
            for seed in chosen.seeds:
                if (name, target, seed) in known:
                    continue
                world = make_world(name, target, seed)
                what = {"set": name, "target": target, "seed": seed, "revision": Guided.revision}
                with RESULTS.open("a", encoding="utf-8") as stream:
                    stream.writelines(json.dumps({**what, **row}) + "\n" for row in measure(world, seed=seed))


def _rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


SHOWN = (
    ("gap", 1), ("noise", 50), ("boundary", 50), ("guided", 1), ("guided", 5), ("guided", 10),
    ("lira_offline fixed", 0), ("lira_offline per_candidate", 0), ("rmia", 0),
)  # fmt: skip


def page() -> str:
    """Return the table: AUC / TPR at 1 % FPR, means over seeds."""
    cells: dict[tuple[str, int, str, str], list[tuple[float, float]]] = {}
    for row in _rows():
        key = (row["attack"], row["labels"], row["set"], row["target"])
        cells.setdefault(key, []).append((row["auc"], row["tpr_at_1"]))
    worlds = [(name, target) for name in SETS for target in TARGETS]
    head = " | ".join(f"{name.partition('_')[0]} {target}" for name, target in worlds)
    lines = [f"| attack | labels | {head} | mean |", "| --- |" + " --- |" * (len(worlds) + 2)]
    for attack, labels in SHOWN:
        means = [np.mean(cells.get((attack, labels, *world), [(np.nan, np.nan)]), axis=0) for world in worlds]
        shown = " | ".join(f"{auc:.3f} / {tpr:.3f}" for auc, tpr in [*means, np.mean(means, axis=0)])
        lines.append(f"| {attack} | {labels or 'confidences'} | {shown} |")
    return (
        "AUC / TPR at 1 % FPR, means over seeds 0 to 2; 1,000 + 1,000 candidates, 8 references "
        "(`python -m benchmarks.text`).\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    main()
