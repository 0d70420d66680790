"""Which references suit a table that is served by a random forest or by LightGBM? Attacks and ceilings, paired.

    python -m benchmarks.table_targets           about fifteen minutes; needs lightgbm
    python -m benchmarks.table_targets --page    the page again from the figures that are there

The rows are made by :func:`people`: nine columns of text and numbers like those of a census, some missing, with a label
that nobody can know for sure. 2,000 rows train the target, 200 of them and 200 others are judged, 3,000 more are the
adversary's. Differences are DeLong's on the same candidates, pooled over the seeds, which are none of those that the
attack's settings were chosen on.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import labelleaks as ll
from benchmarks.power.ceilings import lira, logit_of, rmia
from benchmarks.tables import RESULTS, environment, markdown, write
from labelleaks import metrics
from labelleaks.inputs import arrays
from labelleaks.models.boosted_trees import BoostedTrees

SEEDS = (10, 11, 12)
TARGETS = ("random forest", "lightgbm")
PAIRS = (
    ("guided, trees", "guided, mlp"),
    ("guided, trees", "gap"),
    ("guided, trees", "boundary"),
    ("transfer, trees", "transfer, mlp"),
)
TRAINED, JUDGED, SHADOW, REFERENCES = 2000, 200, 3000, 8

_EDUCATION = {
    "1st-8th": 4,
    "9th-12th": 8,
    "HS-grad": 9,
    "Some-college": 10,
    "Bachelors": 13,
    "Masters": 14,
    "Doctorate": 16,
}
_JOBS = {
    "Adm-clerical": 0.0, "Craft-repair": 0.1, "Exec-managerial": 0.9, "Farming-fishing": -1.1, "Other-service": -0.9,
    "Prof-specialty": 0.5, "Sales": 0.3, "Tech-support": 0.5, "Transport-moving": -0.2, "Machine-op": -0.3,
}  # fmt: skip
_PLACES = ("United-States", "Mexico", "Philippines", "Germany", "Canada", "India")


def people(n: int, seed: int) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Make ``n`` rows of a census-like table, with text and missing values, and whether each earns much."""
    r = np.random.default_rng(seed)
    age = np.clip(17 + r.gamma(2.2, 10, n), 17, 90).astype(int)
    education = r.choice(list(_EDUCATION), n, p=[0.05, 0.1, 0.33, 0.25, 0.18, 0.07, 0.02])
    years = np.array([_EDUCATION[name] for name in education])
    job = r.choice(list(_JOBS), n)
    married = r.random(n) < np.clip((age - 18) / 25, 0.02, 0.62)
    sex = np.where(r.random(n) < 0.67, "Male", "Female")
    hours = np.clip(np.where(r.random(n) < 0.47, 40, np.rint(r.normal(41, 12, n))), 1, 99).astype(int)
    gain = np.where(r.random(n) < 0.06, np.rint(np.exp(r.normal(8.3, 1, n))), 0).clip(0, 99_999).astype(int)
    weight = np.rint(np.exp(r.normal(12, 0.5, n))).astype(int)
    place = r.choice(_PLACES, n, p=[0.9, 0.03, 0.02, 0.02, 0.02, 0.01])
    merit = (
        -4.6 + 0.35 * (years - 9) + 2.3 * married + 0.05 * np.minimum(age - 17, 33) + 0.03 * (hours - 40).clip(-25, 25)
        + np.array([_JOBS[name] for name in job]) + 4.0 * (gain > 5000) + 0.3 * (sex == "Male")
    )  # fmt: skip
    rich = (r.random(n) < 1 / (1 + np.exp(-1.25 * merit))).astype(np.int64)
    frame = pd.DataFrame(
        {"age": age, "education": education, "marital": np.where(married, "Married", "Single"), "occupation": job,
         "sex": sex, "capital_gain": gain, "hours_per_week": hours, "weight": weight, "country": place}
    )  # fmt: skip
    for name, share in (("occupation", 0.06), ("country", 0.02)):
        frame[name] = frame[name].where(r.random(n) > share)
    return frame, rich


def fitted(kind: str, frame: pd.DataFrame, y: NDArray[np.int64], seed: int) -> Any:
    """Train a target as its user would."""
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    if kind == "lightgbm":
        import lightgbm

        return lightgbm.LGBMClassifier(verbose=-1, n_jobs=1, random_state=seed).fit(frame, y)
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), texts), remainder="passthrough")
    return make_pipeline(columns, RandomForestClassifier(n_jobs=1, random_state=seed)).fit(frame, y)


def world(kind: str, seed: int) -> tuple[Any, list[tuple[pd.DataFrame, NDArray[np.int64]]]]:
    """Return a target, its members, its non-members and the adversary's rows."""
    frame, y = people(TRAINED + JUDGED + SHADOW, seed)
    if kind == "lightgbm":
        texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
        frame = frame.assign(**{name: frame[name].astype("category") for name in texts})
    ends = (slice(0, JUDGED), slice(TRAINED, TRAINED + JUDGED), slice(TRAINED + JUDGED, None))
    model = fitted(kind, frame[:TRAINED], y[:TRAINED], seed)
    return model, [(frame[part].reset_index(drop=True), y[part]) for part in ends]


def measured(kind: str, seed: int) -> dict[str, Any]:
    """Return every attack's scores on one world, its labels and seconds, and those of the ceilings."""
    model, (members, others, shadow) = world(kind, seed)
    seconds: dict[str, float] = {}
    scores: dict[str, list[float]] = {}
    labels: dict[str, float] = {}
    for family, attacks in (
        ("mlp", ["gap", "noise", "boundary", "transfer", "guided"]), ("trees", ["transfer", "guided"])
    ):  # fmt: skip
        for name in attacks:
            began = time.monotonic()
            record = ll.audit(
                model, members=members, nonmembers=others, shadow=(shadow[0],), attacks=[name], family=family,
                references=REFERENCES, budget=200, seed=seed, thresholds=[], show_progress=False,
            )  # fmt: skip
            known = name if name in ("gap", "noise", "boundary") else f"{name}, {family}"
            seconds[known] = round(time.monotonic() - began, 1)
            scores[known] = record[name].scores.tolist()
            labels[known] = float(np.mean(record[name].queries))
    scores.update(ceilings(model, members, others, shadow))
    member = np.arange(2 * JUDGED) < JUDGED
    area = {name: metrics.auc(values, member).value for name, values in scores.items()}
    pairs = {f"{a} - {b}": _compared(scores[a], scores[b], member) for a, b in PAIRS}
    accuracy = [float((model.predict(x) == y).mean()) for x, y in (members, others)]
    return {
        "target": kind, "seed": seed, "accuracy": accuracy, "auc": area, "pairs": pairs, "labels": labels,
        "seconds": seconds,
    }  # fmt: skip


def _compared(a: list[float], b: list[float], member: NDArray[np.bool_]) -> dict[str, float]:
    found = metrics.compare_auc(a, b, member)
    half = (found.difference.high - found.difference.low) / 2
    return {"difference": found.difference.value, "half": half, "p": found.p_value}


def ceilings(model: Any, members: Any, others: Any, shadow: Any) -> dict[str, list[float]]:
    """Return the scores of offline LiRA and RMIA, which see posteriors and know the shadow rows' true labels."""
    groups = [
        arrays.take(group, what) for group, what in ((members, "members"), (others, "others"), (shadow, "shadow"))
    ]
    x = arrays.encode(groups).x
    y = torch.from_numpy(np.concatenate([members[1], others[1]]))
    own = np.concatenate([model.predict_proba(group[0]) for group in (members, others)])
    seen = torch.from_numpy(own).clamp(1e-4, 1 - 1e-4).log()
    outside = [BoostedTrees(seed).fit(x[2], torch.from_numpy(shadow[1]), 2) for seed in range(REFERENCES)]
    posteriors = [one.log_posteriors(torch.cat(x[:2])) for one in outside]
    p_out = torch.stack([one.gather(1, y[:, None])[:, 0].exp() for one in posteriors])
    return {
        "LiRA, offline": lira(logit_of(seen, y), torch.stack([logit_of(one, y) for one in posteriors]))[
            "fixed"
        ].tolist(),
        "RMIA, offline": rmia(seen.gather(1, y[:, None])[:, 0].exp(), p_out).tolist(),
    }


def page(result: dict[str, Any]) -> str:
    """Return the tables of all worlds."""
    text = "# Tables served by forests and boosted trees\n\n"
    text += (
        f"AUC on {JUDGED} members and {JUDGED} others of a target trained on {TRAINED:,} rows of a census-like "
        f"table with text and missing values; {SHADOW:,} rows of the adversary's, {REFERENCES} references, at most 200 "
        f"labels a candidate; seeds {', '.join(map(str, SEEDS))}. LiRA and RMIA see posteriors, and true labels of the "
        "adversary's rows.\n\n"
    )
    worlds = result["worlds"]
    for kind in TARGETS:
        mine = [world for world in worlds if world["target"] == kind]
        accuracy = [sum(world["accuracy"][i] for world in mine) / len(mine) for i in range(2)]
        text += f"## Target: {kind}, accuracy {accuracy[0]:.3f} on members, {accuracy[1]:.3f} on others\n\n"
        header = ["attack", *[f"seed {world['seed']}" for world in mine], "mean", "labels", "seconds"]
        text += markdown(header, [_row(name, mine) for name in mine[0]["auc"]]) + "\n"
        text += markdown(
            ["difference of AUC", "mean", "95 %", "p, seed by seed"], [_pair(n, mine) for n in mine[0]["pairs"]]
        )
        text += "\n"
    return text


def _row(name: str, worlds: list[dict[str, Any]]) -> list[str]:
    areas = [world["auc"][name] for world in worlds]
    means = [
        sum(world[key][name] for world in worlds) / len(worlds) if name in worlds[0][key] else None
        for key in ("labels", "seconds")
    ]
    shown = ["" if mean is None else f"{mean:.0f}" for mean in means]
    return [name, *[f"{area:.3f}" for area in areas], f"{sum(areas) / len(areas):.3f}", *shown]


def _pair(name: str, worlds: list[dict[str, Any]]) -> list[str]:
    pairs = [world["pairs"][name] for world in worlds]
    mean = sum(pair["difference"] for pair in pairs) / len(pairs)
    half = float(np.sqrt(sum(pair["half"] ** 2 for pair in pairs))) / len(pairs)
    return [
        name,
        f"{mean:+.3f}",
        f"{mean - half:+.3f} … {mean + half:+.3f}",
        ", ".join(f"{pair['p']:.2g}" for pair in pairs),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="make the page again, measure nothing")
    if parser.parse_args().page:
        result = json.loads((RESULTS / "table_targets.json").read_text())
    else:
        warnings.simplefilter("ignore")
        result = {"environment": environment(), "worlds": []}
        for kind in TARGETS:
            for seed in SEEDS:
                result["worlds"].append(measured(kind, seed))
                print(kind, seed, result["worlds"][-1]["auc"], flush=True)
    write("table_targets", result, page(result))


if __name__ == "__main__":
    main()
