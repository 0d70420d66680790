"""ε of a CIFAR-10 network from 1,000 canaries in one training run: what labels show, beside what posteriors show.

    python -m benchmarks.canaries [--seeds 0 1 2] [--kinds mislabelled natural]

A row for each seed, kind of canary and score goes to ``benchmarks/results/canaries.jsonl``. The network is trained
without differential privacy on 2,500 rows and on those of 1,000 canaries that a coin put in; 3,000 further rows, which
the target labels, train the references. Every bound is at δ = 1e-5 with 95 % confidence; how many coins are guessed is
chosen on 30 % of the canaries, and the others are guessed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.power import ceilings
from benchmarks.power.worlds import Rows, split
from labelleaks.auditing.canaries import Canaries, audit_canaries, make_canaries
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.oracle.gate import Gate
from labelleaks.metrics import SplitGuesses, auc, epsilon_of_scores
from labelleaks.models import architectures, reference_models, training
from labelleaks.models.training import Recipe

RESULTS = Path(__file__).parent / "results" / "canaries.jsonl"
CANARIES, OTHERS, LABELS, DELTA = 1000, 2500, 20, 1e-5
RECIPE = Recipe(epochs=60)


def measured(kind: str, seed: int) -> list[dict[str, Any]]:
    """Train one target and return a row for each score of its canaries."""
    parts, classes = split("cifar10", seed=seed)
    pool = Rows(torch.cat([parts.members.x, parts.nonmembers.x]), torch.cat([parts.members.y, parts.nonmembers.y]))
    pool = pool.part(0, CANARIES + OTHERS)
    made = make_canaries(pool.x, pool.y, count=CANARIES, kind=kind, seed=seed)  # type: ignore[arg-type]
    module = architectures.build("cnn", tuple(pool.x.shape[1:]), classes, seed=seed)
    x, y = made.training
    training.train(module, x, torch.as_tensor(y), RECIPE, seed=seed)
    known = {"kind": kind, "seed": seed, "inside": int(made.inside.sum()), "right_on_training": accuracy(module, x, y)}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for attack in ("gap", "guided"):
            began = time.monotonic()
            found = audit_canaries(
                module, made, attack=attack, shadow=(parts.shadow.x,), delta=DELTA, budget=LABELS, seed=seed,
                references_dir=folder, classes=classes, show_progress=False,
            )  # fmt: skip
            labels = (found.ledger.rows - found.ledger.setup_rows) / CANARIES
            rows.append(row(made, attack, torch.as_tensor(found.scores), labels, time.monotonic() - began))
        for name, scores in posteriors(module, made, parts.shadow, classes, seed, folder).items():
            rows.append(row(made, name, scores, None, None))
    return [known | each for each in rows]


def accuracy(module: nn.Module, x: Tensor, y: Any) -> float:
    with torch.inference_mode():
        answers = torch.cat([module(part).argmax(1) for part in x.split(500)])
    return float((answers == torch.as_tensor(y)).double().mean())


def posteriors(
    module: nn.Module, made: Canaries, shadow: Rows, classes: int, seed: int, folder: str
) -> dict[str, Tensor]:
    """Scores of attacks that see every posterior, with the same references."""
    x, y = made.x, torch.as_tensor(made.y)

    def labels(rows: Tensor) -> Tensor:
        with torch.inference_mode():
            return module(rows).argmax(1)

    setup = Gate(labels, batch_rows=500).setup_oracle("posteriors")
    knowledge = Knowledge(setup=setup, shadow=ShadowRows(shadow.x, None), references_dir=Path(folder))
    models = reference_models.references(knowledge, classes, seed=seed).models
    with torch.inference_mode():
        confidence = ceilings.logit_of(torch.cat([module(part) for part in x.split(500)]), y)
    outside = torch.stack([ceilings.logit_of(reference_models.logits(model, x), y) for model in models])
    of_lira = ceilings.lira(confidence, outside)
    return {"posterior: log-odds": confidence} | {f"posterior: lira {name}": scores for name, scores in of_lira.items()}


def row(made: Canaries, name: str, scores: Tensor, labels: float | None, seconds: float | None) -> dict[str, Any]:
    bounds = {
        mechanism: epsilon_of_scores(scores, made.inside, SplitGuesses(), delta=DELTA, mechanism=mechanism)  # type: ignore[arg-type]
        for mechanism in ("any", "gaussian")
    }
    return {
        "score": name,
        "labels": labels,
        "auc": round(auc(scores.numpy(), made.inside).value or 0, 4),
        "epsilon": {mechanism: round(bound.epsilon, 3) for mechanism, bound in bounds.items()},
        "guesses": {mechanism: [bound.right, bound.guesses, bound.canaries] for mechanism, bound in bounds.items()},
        "seconds": None if seconds is None else round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", default=["mislabelled", "natural"])
    options = parser.parse_args()
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    rows = {(r["kind"], r["seed"], r["score"]): r for r in map(json.loads, lines)}
    for seed in options.seeds:
        for kind in options.kinds:
            for each in measured(kind, seed):
                print(json.dumps(each), flush=True)
                rows[each["kind"], each["seed"], each["score"]] = each
            text = "".join(json.dumps(rows[key], sort_keys=True) + "\n" for key in sorted(rows))
            RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
