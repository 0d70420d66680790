"""The cases: what is run with each of two commits, and what of it must be equal.

A case runs in a folder of its own. What it leaves there is compared; what it leaves under ``kept`` (journals,
reference models, stages of a grid) is what a later run of the same case goes on from. Only published names are used.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import labelleaks as ll
from benchmarks.same_bytes.worlds import binary, digits, pictures, service, tabular
from labelleaks.attacks import Boundary, Calibrated, Chameleon, DHAttack, Guided, Noise, Oslo, Transfer, Yoqo

KEPT = Path("kept")
SENT = KEPT / "rows.sent"
"""How many rows the target of a case with a journal was asked about."""
DONE = KEPT / "done"
"""Says that a case ran to its end."""

SHORT = ll.Recipe(epochs=8)
PREDICT = "benchmarks.same_bytes.worlds:predict"
MADE_BY = ("stage", "key", "version", "commit", "revision")
"""What the rows of a grid say of their making; it does not decide their order."""
GRID = """
about: tiny
worlds:
  digits:
    model: mlp
    sizes: [200, 100]
    protocols: [authors, clean]
    epochs: 4
    shadow_rows: 150
    shadow_epochs: 3
    references: 2
measures:
  - {attack: gap}
  - {attack: loss_threshold, candidates: 100}
  - {attack: transfer, candidates: 60}
  - {attack: lira_offline, candidates: 60, sizes: [100]}
  - {attack: boundary, variant: hopskipjump, labels: 60, read: [20, 60], norms: true, candidates: 5, sizes: [200]}
studies:
  - {study: radius, rows: images, candidates: 2, draws: 20, sizes: [100]}
  - {study: percentile, of: hopskipjump, inputs: 2}
  - {study: memguard, of: transfer, sizes: [100]}
"""


def audit(target: Any, **arguments: Any) -> None:
    """An audit that leaves its run in the folder of the case."""
    ll.audit(target, **arguments, out=".", overwrite=True, show_progress=False)


def demo() -> None:
    """``labelleaks demo`` as it is."""
    cli("demo", "--out", ".", "--quiet", "--threads", "1")


def guided() -> None:
    """Guided with its own references, kept in a folder; thresholds from held-out rows and from a stand-in."""
    audit(
        digits().target, **digits().rows(50), attacks=["gap", Guided(recipe=SHORT)], references=4, budget=50, seed=3,
        references_dir=KEPT / "references", thresholds=[ll.FixedFPR(0.1), ll.ShadowCalibrated(recipe=SHORT, most=20)],
        name="guided",
    )  # fmt: skip


def boundary() -> None:
    """Boundary, noise and gap of a local target with a journal; a threshold from random inputs."""
    target = digits().target
    target.rows = 0
    audit(
        target, **digits().rows(40), attacks=["gap", "noise", "boundary"], budget=120, seed=1,
        journal=KEPT / "answers.journal", thresholds=[ll.RandomInputs(n=20)], ids=[f"row {i}" for i in range(80)],
    )  # fmt: skip
    SENT.write_text(str(target.rows))


def http() -> None:
    """The same behind HTTP, which always has a journal, asked with votes and noise measured."""
    with service() as (target, seen):
        audit(
            target, **digits().rows(12), attacks=["gap", Boundary(votes=3, max_iterations=3)], budget=120, seed=2,
            journal=KEPT / "answers.journal", thresholds=[], classes=10, allow_noisy=True,
        )  # fmt: skip
    SENT.write_text(str(sum(seen)))


def searches() -> None:
    """Every boundary search, two norms."""
    audit(
        digits().target, **digits().rows(10), budget=80, thresholds=[], seed=4, keep_inputs=False,
        attacks=[
            Boundary(search="surfree"), Boundary(search="rays", norm="linf"), Boundary(search="signopt"),
            Boundary(search="tangent"), Boundary(norm="linf"),
        ],
    )  # fmt: skip


def sharded() -> None:
    """Six shards, references trained by two processes; votes, and a boundary next to references'."""
    from labelleaks.engine import Local

    audit(
        digits().target, **digits().rows(30), shard_rows=10, engine=Local(2, eager=True), budget=120, seed=5,
        attacks=["gap", Boundary(votes=3), Calibrated(recipe=SHORT), Guided(votes=3, recipe=SHORT)], references=3,
        references_dir=KEPT / "references", thresholds=[],
    )  # fmt: skip


def images() -> None:
    """Pictures of three bands and 256 levels; every attack with references, a CNN as the shadow family."""
    recipe = ll.Recipe(epochs=3)
    audit(
        pictures().target, **pictures().rows(30), budget=32, budget_total=20_000, seed=6, references=3,
        references_dir=KEPT / "references", thresholds=[],
        attacks=[
            "gap", "augmentation", Noise(copies=40), Transfer(recipe=recipe), Yoqo(recipe=recipe, rounds=10),
            Oslo(recipe=recipe, budgets=8), DHAttack(recipe=recipe), Chameleon(recipe=recipe, copies=16),
            Guided(recipe=recipe), Boundary(subspace="dct"), Boundary(subspace="resize"),
        ],
    )  # fmt: skip


def bits() -> None:
    """Binary rows: their own moves, noise and search."""
    audit(
        binary().target, **binary().rows(30), budget=40, seed=7, references=3, thresholds=[],
        attacks=["gap", "noise", "boundary", Guided(recipe=SHORT), Calibrated(recipe=SHORT)],
    )  # fmt: skip


def table() -> None:
    """A scikit-learn target on continuous, integer and one-hot columns; forests as shadow models."""
    from sklearn.ensemble import RandomForestClassifier

    world = tabular()
    held = tuple((x[60:], y[60:]) for x, y in (world.members, world.nonmembers))
    audit(
        world.target, **world.rows(40), budget=60, seed=8, family=RandomForestClassifier(5, random_state=0),
        attacks=["gap", "noise", "boundary", "transfer"], thresholds=[ll.HoldOut(*held)],
        classes=["benign", "malignant"],
    )  # fmt: skip


def ladder() -> None:
    """All attacks that the rows and the budget allow, one run for each number of labels where that is needed."""
    audit(
        digits().target, **digits().rows(12), attacks="ladder", budget=10, references=2, seed=9, thresholds=[],
        family="mlp", references_dir=KEPT / "references",
    )  # fmt: skip


def stopped() -> None:
    """A run that its total ends: the budget is lowered and the record says so."""
    audit(
        digits().target, **digits().rows(15), attacks=["gap", "noise", "boundary"], budget=200, budget_total=9000,
        seed=10, thresholds=["random_inputs"],
    )  # fmt: skip


def spec() -> None:
    """An audit and a forecast by spec, from files."""
    files = _files(30)
    _yaml("audit.yaml", {
        "target": {"path": PREDICT, "classes": 10}, "data": files, "domain": {"kind": "box", "levels": 256},
        "budget": 40, "seed": 11, "references": 2, "out": ".", "name": "by spec",
        "attacks": ["gap", {"name": "boundary", "norm": "linf", "search": "rays"},
                    {"name": "transfer", "recipe": {"epochs": 5}}],
        "thresholds": [{"name": "random_inputs", "n": 10, "percentile": 40}],
    })  # fmt: skip
    cli("audit", "kept/audit.yaml", "--quiet", "--threads", "1", "--overwrite")
    found = cli("forecast", "kept/audit.yaml", "--no-probe", "--json", "--threads", "1")
    Path("forecast.json").write_text(found)


def decisions() -> None:
    """``infer`` with each threshold rule; two of them by spec on the command line, as JSON and as CSV."""
    world = digits()
    held = ll.HoldOut(*((x[:30], y[:30]) for x, y in (world.members, world.nonmembers)))
    files = _files(30)
    runs: dict[str, tuple[Any, Any]] = {
        "fixed_fpr": (Guided(recipe=SHORT), ll.FixedFPR(0.1)),
        "shadow_calibrated": (Transfer(recipe=SHORT), ll.ShadowCalibrated(recipe=SHORT, most=20)),
        "hold_out": ("noise", held),
        "number": (Yoqo(recipe=SHORT, rounds=5), 0.25),
        "default": ("boundary", None),
    }
    for name, (attack, threshold) in runs.items():
        with np.load(files["candidates"]) as rows:
            found = ll.infer(
                world.target, rows["x"], rows["y"], attack=attack, threshold=threshold, shadow=(world.shadow,),
                budget=40, seed=12, references=2, show_progress=False,
            )  # fmt: skip
        _write_decisions(Path(f"{name}.json"), found)
    _yaml("infer.yaml", {
        "target": {"path": PREDICT, "classes": 10}, "attack": {"name": "boundary", "max_iterations": 3}, "budget": 40,
        "data": {"candidates": files["candidates"], "shadow": files["shadow"]}, "seed": 12,
        "threshold": {"name": "random_inputs", "n": 10},
    })  # fmt: skip
    options = ("infer", "kept/infer.yaml", "--quiet", "--threads", "1", "--out")
    cli(*options, "random_inputs.json", "--json")
    cli(*options, "gap.csv", "--attack", "gap", "--threshold", "0.5")


def grid() -> None:
    """A grid of experiments with its studies, by ``labelleaks reproduce``: rows, trained models, scores."""
    home = KEPT / "reproductions" / "tiny"
    (home / "profiles").mkdir(parents=True, exist_ok=True)
    (home / "profiles" / "smoke.yaml").write_text(GRID)
    label_leaks = Path(os.environ["SAME_BYTES_TREE"]) / "reproductions" / "label-leaks"
    (home / "expected.yaml").write_text((label_leaks / "expected.yaml").read_text())
    cli(
        "reproduce", "tiny", "--profile", "smoke", "--folder", str(home.parent), "--store", str(KEPT / "store"),
        "--out", "out", "--quiet",
    )  # fmt: skip
    rows = [row for file in sorted(Path("out").rglob("*.json*")) for row in _rows_of(file)]
    rows.sort(key=lambda row: json.dumps({k: v for k, v in row.items() if k not in MADE_BY}, sort_keys=True))
    Path("rows.json").write_text(json.dumps(rows, indent=1))
    Path("stages.json").write_text(json.dumps(_stages(KEPT / "store"), indent=1))


CASES: dict[str, Callable[[], None]] = {
    case.__name__: case
    for case in (
        demo, guided, boundary, sharded, searches, images, bits, table, http, ladder, stopped, spec, decisions, grid,
    )
}  # fmt: skip


JOURNALS = {"boundary": 0, "http": 8}
"""Cases with a journal, and how many rows a replay may send: a service is asked 8 again to see whether it changed."""
FOLDERS = {
    "guided": "references", "sharded": "references", "images": "references", "ladder": "references", "grid": "store",
}  # fmt: skip
"""Cases that keep trained models or stages, and where under ``kept``; a later run writes nothing there."""


def cli(*arguments: str) -> str:
    """Run the command line of this commit in the folder of the case; return what it says on standard output."""
    done = subprocess.run([sys.executable, "-m", "labelleaks", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"labelleaks {' '.join(arguments)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _files(n: int) -> dict[str, str]:
    """Write rows of :func:`digits` for a spec; return the files by what they hold."""
    world = digits()
    sides = {"members": world.members, "nonmembers": world.nonmembers}
    for side, (x, y) in sides.items():
        np.savez(KEPT / f"{side}.npz", x=x[:n].numpy(), y=y[:n].numpy())
    x, y = (torch.cat([pair[part][n : 2 * n] for pair in sides.values()]).numpy() for part in (0, 1))
    np.savez(KEPT / "candidates.npz", x=x, y=y)
    np.savez(KEPT / "shadow.npz", x=world.shadow.numpy())
    return {what: f"kept/{what}.npz" for what in (*sides, "candidates", "shadow")}


_THRESHOLD = ("tau", "objective", "source", "upper_bound")


def _write_decisions(path: Path, found: ll.Decisions) -> None:
    details = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in sorted(found.details.items())}
    content = {
        "attack": dict(found.attack), "threshold": {name: getattr(found.threshold, name) for name in _THRESHOLD},
        "ledger": found.ledger.describe(),
        "details": details, "candidates": found.rows(),
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1))


def _yaml(name: str, content: dict[str, Any]) -> None:
    (KEPT / name).write_text(json.dumps(content))  # JSON is YAML


def _rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of results or studies, whichever way this commit writes them.

    One object a line; or, before, a list of rows, which for a study were its summary and the points beside it.
    """
    text = file.read_text("utf-8")
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    rows: list[dict[str, Any]] = json.loads(text)
    return [rows[0] | {"points": rows[1:]}] if file.parent.name == "studies" else rows


def _stages(store: Path) -> dict[str, list[str]]:
    """A hash of the content of each trained model and each file of scores, whatever the files are called."""
    found: dict[str, list[str]] = {}
    for file in sorted(store.rglob("*")):
        if file.suffix == ".safetensors":
            content = file.read_bytes()
        elif file.suffix == ".npz":
            with np.load(file) as arrays:
                content = b"".join(
                    f"{n} {arrays[n].dtype} {arrays[n].shape} ".encode() + arrays[n].tobytes()
                    for n in sorted(arrays.files)
                    if isinstance(arrays[n], np.ndarray)
                )
        else:
            continue
        kind = f"{file.parent.relative_to(store)}{file.suffix}"
        found.setdefault(kind, []).append(hashlib.sha256(content).hexdigest())
    return {kind: sorted(hashes) for kind, hashes in sorted(found.items())}
