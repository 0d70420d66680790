"""``labelleaks canaries``: put canaries into a file of training data, and bound ε from a trained model's labels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from labelleaks.cli.options import (
    BudgetTotal,
    Commands,
    Factory,
    Json,
    Quiet,
    ReferencesDir,
    Seed,
    Set,
    Shadow,
    SpecPath,
    TargetFlag,
    Threads,
    TrustPickle,
    set_threads,
    spec_of,
)

__all__ = ["ABOUT", "COMMANDS"]

ABOUT = "Bound ε from below by labels alone: make canaries before a training, audit them after it."

_MANIFEST = "manifest.json"


def make(
    data: Annotated[Path, typer.Argument(help="Training data: .npz, .csv or .parquet.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder to write to.", show_default=False)],
    count: Annotated[int, typer.Option(min=1, help="Canaries; a coin puts each in or out.")] = 1000,
    kind: Annotated[str, typer.Option(help="mislabelled or natural.")] = "mislabelled",
    label_column: Annotated[str | None, typer.Option(help="Default: label, y, target or class.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default: the system's randomness, as a secret should be.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write the data to train on, the canaries, and the sealed manifest that says which are inside.

    Train on training.*; keep manifest.json from whoever attacks; publish the seal before the training.
    """
    from dataclasses import replace

    from labelleaks.auditing.canaries import make_canaries
    from labelleaks.core import serialization
    from labelleaks.errors import InputError
    from labelleaks.inputs.files import check_pickable, read_rows, write_picked

    rows = read_rows(data, label_column=label_column)
    check_pickable(data)
    if rows.y is None:
        raise InputError(f"{data}: holds no labels; name their column: --label-column NAME")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already; canaries are made once, so give another folder")
    made = make_canaries(rows.x, rows.y, count=count, kind=kind, seed=seed)  # type: ignore[arg-type]
    assert made.training is not None
    serialization.check_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    chosen = set(made.places.tolist())
    inside = dict(zip(made.places.tolist(), made.inside.tolist(), strict=True))
    kept = [place for place in range(len(rows)) if inside.get(place, True)]
    labels = dict(zip(made.places.tolist(), made.y.tolist(), strict=True))
    file = out / f"canaries{data.suffix.lower()}"
    write_picked(data, out / f"training{data.suffix.lower()}", kept, labels, label_column=label_column)
    write_picked(data, file, sorted(chosen), labels, label_column=label_column)
    made = replace(made, content=_sha256(file))
    made.save(out / _MANIFEST)
    if not quiet:
        typer.echo(
            f"{out}: training{data.suffix.lower()} ({len(kept):,} rows, {int(made.inside.sum()):,} canaries among "
            f"them), {file.name} ({len(made):,} rows), {_MANIFEST} (secret)\nseal: {made.seal}"
        )


def audit(
    folder: Annotated[Path, typer.Argument(help="Folder that `canaries make` wrote.", show_default=False)],
    spec: SpecPath = None,
    target: TargetFlag = None,
    factory: Factory = None,
    shadow: Shadow = None,
    attack: Annotated[str | None, typer.Option(help="One attack; default: guided with shadow rows, else gap.")] = None,
    delta: Annotated[float, typer.Option(help="δ of the statement.")] = 1e-5,
    level: Annotated[float, typer.Option(help="Confidence of the bound.")] = 0.95,
    guesses: Annotated[
        str, typer.Option(help="split (chosen on 30 % of the canaries), or IN,OUT: so many, fixed beforehand.")
    ] = "split",
    budget: Annotated[int, typer.Option(min=1, help="Labels per canary.")] = 20,
    budget_total: BudgetTotal = None,
    seed: Seed = None,
    references_dir: ReferencesDir = None,
    set_: Set = None,
    trust_pickle: TrustPickle = False,
    as_json: Json = False,
    quiet: Quiet = False,
    threads: Threads = None,
) -> None:
    """Attack each canary by labels, guess which were trained on, and say what ε that proves."""
    from labelleaks.auditing.canaries import audit_canaries, load_canaries
    from labelleaks.cli import from_spec
    from labelleaks.cli.spec import InferSpec
    from labelleaks.errors import InputError

    plan = _guesses(guesses)
    set_threads(threads)
    files = sorted(folder.glob("canaries.*")) if folder.is_dir() else []
    if len(files) != 1 or not (folder / _MANIFEST).is_file():
        raise InputError(f"{folder}: holds no canaries; give a folder that `labelleaks canaries make` wrote")
    loaded = spec_of(InferSpec, spec, set_, {
        "target.path": target, "target.factory": factory, "data.candidates": files[0], "data.shadow": shadow,
        "attack": attack, "budget": budget, "budget_total": budget_total, "seed": seed,
        "references_dir": references_dir,
    })  # fmt: skip
    arguments = from_spec.infer_arguments(loaded, trust_pickle=trust_pickle)
    made = load_canaries(folder / _MANIFEST, arguments.pop("x"), arguments.pop("y"), content=_sha256(files[0]))
    for unused in ("threshold", "ids"):
        arguments.pop(unused)
    if attack is None and "attack" not in loaded.model_fields_set:
        arguments["attack"] = None
    found = audit_canaries(
        canaries=made,
        guesses=plan,
        delta=delta,
        level=level,
        show_progress=False if quiet or as_json else None,
        **arguments,
    )
    if as_json:
        typer.echo(json.dumps(found.describe(), indent=2, sort_keys=True))
        return
    typer.echo(str(found.bound))
    if found.gaussian_bound is not None:
        typer.echo(str(found.gaussian_bound))
    if not quiet:
        typer.echo(
            f"{found.attack['name']}: AUC {found.auc.value:.3f} ({found.auc.low:.3f} to {found.auc.high:.3f}), "
            f"{found.ledger.rows:,} labels, {found.ledger.setup_rows:,} of them set-up; {found.kind} canaries, "
            f"{int(found.inside.sum()):,} of {len(made):,} inside; seal {found.seal}"
        )


def _guesses(text: str) -> Any:
    from labelleaks.errors import InputError
    from labelleaks.metrics import FixedGuesses, SplitGuesses

    if text == "split":
        return SplitGuesses()
    try:
        inside, outside = map(int, text.split(","))
    except ValueError:
        raise InputError(
            f"--guesses {text!r}: split, or two whole numbers IN,OUT are needed, such as 200,200"
        ) from None
    return FixedGuesses(inside, outside)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


COMMANDS: Commands = {"make": make, "audit": audit}
