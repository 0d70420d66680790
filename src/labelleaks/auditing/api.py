"""The five-line entry: :func:`audit` with the truth at hand, :func:`infer` without it, :func:`forecast` before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelleaks.auditing.decisions import Decisions
from labelleaks.auditing.flags import Flag, ShadowEvidence, of_decisions, of_shadow
from labelleaks.auditing.forecast import Forecast
from labelleaks.auditing.ladder import LADDER
from labelleaks.auditing.options import describe, shared_options
from labelleaks.auditing.record import AuditRecord
from labelleaks.auditing.recording import Recording, as_numpy
from labelleaks.auditing.run_folder import check_folder
from labelleaks.auditing.session import open_session
from labelleaks.auditing.thresholds import Threshold, ThresholdRule
from labelleaks.core import progress
from labelleaks.core.attack import Attack
from labelleaks.core.domains import Domain, Text
from labelleaks.engine import Engine
from labelleaks.errors import DoubtWarning, InputError, NeedsError
from labelleaks.inputs.row_format import Table
from labelleaks.targets import Http

__all__ = ["audit", "forecast", "infer"]


def audit(
    target: Any,
    *,
    members: Any,
    nonmembers: Any,
    attacks: Sequence[str | Attack] | None = None,
    shadow: Any = None,
    starts: Any = None,
    domain: Domain | Table | Text | None = None,
    budget: int = 500,
    budget_total: int | None = None,
    seed: int = 0,
    thresholds: Sequence[str | ThresholdRule] | None = None,
    family: Any = None,
    references: int | None = None,
    references_dir: str | Path | None = None,
    classes: int | Sequence[Any] | None = None,
    threshold: float | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    device: str | torch.device | None = None,
    batch_rows: int | None = None,
    ids: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    allow_noisy: bool = False,
    replay_only: bool = False,
    accept_changed: bool = False,
    engine: str | Engine | None = None,
    shard_rows: int | None = None,
    keep_inputs: bool = True,
    name: str = "audit",
    out: str | Path | None = None,
    overwrite: bool = False,
    show_progress: bool | None = None,
) -> AuditRecord:
    """Measure how well label-only attacks tell the target's members from its non-members.

    Args:
        target: a torch ``nn.Module``, a scikit-learn estimator or pipeline, any callable that answers labels (or
            scores, which are reduced to the label), a service (:class:`labelleaks.targets.Http`), or
            :class:`labelleaks.Recorded` answers.
        members, nonmembers: (x, y) with x (n, *shape) arrays, tensors or a DataFrame, in the domain's units, and y (n,)
            true labels; or a torch Dataset or DataLoader of such pairs. Left untouched.
        attacks: names or configured attacks; default: gap, noise, augmentation, boundary, and with shadow rows transfer
            and guided, where these inputs allow them. ``"ladder"``: all that these inputs and the budget allow, with a
            curve of power against labels for each; those that plan for their budget are run once for each of 1, 2, 5,
            10, … labels (:mod:`labelleaks.auditing.ladder`).
        shadow: (x,) or (x, y): further rows from the distribution of the training data, neither members nor candidates.
        starts: (x,) inputs to start a boundary search from; default: shadow rows, else random ones.
        domain: which inputs exist; default ``Box(0, 1)``, of texts :class:`Text`.
        budget: labels per candidate and attack.
        budget_total: rows of the whole run, set-up included; the budget is lowered until the worst case fits.
        seed: equal seeds and inputs give equal results.
        thresholds: further threshold rules, each shown beside the one that is cross-fitted on the audited rows;
            default: random inputs for attacks whose score is a distance.
        family: the shadow models' family: a name, a factory of ``nn.Module`` or a scikit-learn estimator; default: a
            small CNN for images, boosted trees (``"trees"``) for tables, an MLP for other rows.
            ``references``: how many shadow models; default: the attack's own, 1 for transfer and 8 for those that
            compare with several.
        references_dir: a folder where trained torch shadow models are kept by content: what is there is not trained
            again. They are trained by as many processes as torch has threads.
        classes: number of classes or their labels; default: what the target says, else the largest label + 1.
        threshold: of a target that answers one number a row: the second class lies above it (0.5 of probabilities, 0 of
            logits).
        preprocess: applied to each query before a torch target, e.g. normalisation.
        device: where the target's inputs live; default: where its parameters are.
        batch_rows: rows per call of the target.
        ids: (n,) names of the candidates, members first; default: member-0, …, non-member-0, …
        journal: a file of recorded answers: nothing in it is asked again, and new answers are added. A service always
            has one: this, else ``answers.journal`` in ``out``, else a file for each service in the user's cache.
        allow_noisy: go on where the target gives one input different labels, and measure how often it does (at most
            128 rows of set-up).
        replay_only: take every answer from the journal and send nothing; an answer that is missing is an error.
        accept_changed: go on where a service no longer answers as its journal says. At most 8 rows find that out,
            billed to set-up in ``run.json``.
        engine: who trains the shadow models and attacks the shards: ``"local"``, ``"ray"`` or an engine
            (:class:`labelleaks.engine.Ray`); the record is the same. A service, a target on a GPU and a run with a
            journal are attacked from this process by every engine.
        shard_rows: candidates of a shard; default 1,024. All are attacked at once where there are no more.
        keep_inputs: False leaves the candidates and their perturbed copies out of the record.
        out: folder to write to: record.json, arrays.npz, candidates.csv, run.json, report.html. After every attack, so
            that an interrupted run keeps what was finished.
        overwrite: replace another run in ``out``.
        show_progress: None: where standard error is a terminal and in notebooks, or as the environment variable
            LABELLEAKS_PROGRESS (0, 1) says; True: elsewhere a line for each stage; False: nothing.

    Returns:
        the record; rows = members as given, then non-members as given.

    Raises:
        InputError: what was given cannot be used; no attack query was sent.
        TargetError: the target failed midway; with ``out``, what was finished is on disk.
    """
    options = shared_options(locals())
    if out is not None:
        check_folder(out, overwrite=overwrite)
        if journal is None and isinstance(target, Http):
            options = replace(options, journal=Path(out) / "answers.journal")
    with (
        progress.meter(show_progress) as (note, expect),
        open_session(target, {"members": members, "nonmembers": nonmembers}, options, progress=note) as session,
    ):
        expect(session.forecast().rows)
        made = Recording(session, name, keep_inputs, None if out is None else Path(out)).finish()
    _warn(made.flags, name)
    return made


def infer(
    target: Any,
    x: Any,
    y: Any,
    *,
    attack: str | Attack = "boundary",
    threshold: str | ThresholdRule | Threshold | float | None = None,
    shadow: Any = None,
    starts: Any = None,
    domain: Domain | Table | Text | None = None,
    budget: int = 500,
    budget_total: int | None = None,
    seed: int = 0,
    family: Any = None,
    references: int | None = None,
    references_dir: str | Path | None = None,
    classes: int | Sequence[Any] | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    device: str | torch.device | None = None,
    batch_rows: int | None = None,
    ids: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    allow_noisy: bool = False,
    replay_only: bool = False,
    accept_changed: bool = False,
    engine: str | Engine | None = None,
    shard_rows: int | None = None,
    show_progress: bool | None = None,
) -> Decisions:
    """Decide for each candidate whether the target was trained on it, without any known member.

    Args:
        x, y: (n, *shape) candidates in the domain's units and their (n,) true labels.
        attack: one attack.
        threshold: a rule, a number (member iff score > it), or None: random inputs for an attack whose score is a
            distance, 0.5 for gap, a 1 % false-positive rate on held-out shadow rows for the others.

    The other arguments are those of :func:`audit`.

    Raises:
        InputError: what was given cannot be used, or no threshold can be had for this attack with this knowledge.
    """
    if attack == LADDER:
        raise InputError("attack='ladder': infer runs one attack; audit shows which serves, give that one's name")
    rule, fixed = _threshold_for(attack, threshold, shadow is not None)
    rules = [] if rule is None else [rule]
    options = shared_options({**locals(), "attacks": [attack], "thresholds": rules, "threshold": None})
    with (
        progress.meter(show_progress) as (note, expect),
        open_session(target, {"candidates": (x, y)}, options, progress=note) as session,
    ):
        expect(session.forecast().rows)
        session.check_unchanged()
        session.probe()
        (planned,) = session.plan.planned
        chosen = fixed if fixed is not None else session.thresholds(planned)[0]
        scores = session.score(planned)
        value = as_numpy(scores.value, np.float64)
        shadow_seen = ShadowEvidence.of(session.knowledge, session.candidates.classes)
        decided = Decisions(
            member=value > chosen.tau,
            scores=value,
            status=as_numpy(scores.status, np.int64),
            queries=as_numpy(scores.queries, np.int64),
            threshold=chosen,
            ids=tuple(session.candidates.ids),
            attack={"name": planned.name, **describe(planned.attack)},
            ledger=session.gate.ledger,
            details={key: detail.detach().cpu().numpy() for key, detail in scores.details.items()},
            flags=(
                *(() if shadow_seen is None else of_shadow(shadow_seen)),
                *of_decisions(planned.name, chosen, value > chosen.tau),
            ),
        )
    _warn(decided.flags, planned.name)
    return decided


def forecast(
    target: Any,
    *,
    members: Any,
    nonmembers: Any,
    probe: bool = True,
    calibrate: bool = True,
    attacks: Sequence[str | Attack] | None = None,
    shadow: Any = None,
    starts: Any = None,
    domain: Domain | Table | Text | None = None,
    budget: int = 500,
    budget_total: int | None = None,
    seed: int = 0,
    thresholds: Sequence[str | ThresholdRule] | None = None,
    family: Any = None,
    references: int | None = None,
    references_dir: str | Path | None = None,
    classes: int | Sequence[Any] | None = None,
    threshold: float | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    device: str | torch.device | None = None,
    batch_rows: int | None = None,
    ids: Sequence[Any] | None = None,
    journal: str | Path | None = None,
    allow_noisy: bool = False,
) -> Forecast:
    """Say how many rows an audit with these arguments sends at most, and how long the whole of it takes.

    Args:
        probe: ask the target at most 16 rows to measure its speed; False sends nothing and gives no time of the target.
        calibrate: train and attack for a few seconds against a free stand-in, to estimate the time of the run on this
            machine; sends nothing.

    The other arguments are those of :func:`audit`.
    """
    options = shared_options(locals())
    with open_session(target, {"members": members, "nonmembers": nonmembers}, options) as session:
        return session.forecast(session.probe() if probe else None, calibrate=calibrate)


def _warn(flags: Sequence[Flag], whose: str) -> None:
    """Warn of serious flags, where the user called."""
    for flag in flags:
        if flag.severity == "serious":
            text = f"{whose}: {flag.name}: {flag.raised_because}. {flag.what_to_do}"
            warnings.warn(text, DoubtWarning, stacklevel=3)


def _threshold_for(
    attack: str | Attack, threshold: str | ThresholdRule | Threshold | float | None, has_shadow: bool
) -> tuple[str | ThresholdRule | None, Threshold | None]:
    """Either a rule to fit or a threshold that needs no fitting."""
    from labelleaks import attacks as registry

    if isinstance(threshold, Threshold):
        return None, threshold
    if isinstance(threshold, int | float) and not isinstance(threshold, bool):
        if not np.isfinite(threshold):
            raise InputError(f"threshold={threshold}: a finite number is needed")
        return None, Threshold(float(threshold), objective="given", source="a number given by the user")
    if threshold is not None:
        return threshold, None  # type: ignore[return-value]  # a bool is refused as a rule
    resolved = registry.resolve(attack)
    if resolved.name == "gap":
        return None, Threshold(0.5, objective="correct or not", source="the attack's definition")
    if resolved.is_distance:
        return "random_inputs", None
    if has_shadow:
        return "fixed_fpr", None
    raise NeedsError(
        f"{resolved.name}: a threshold needs shadow=(x,), or threshold= a number, HoldOut(...) or FixedFPR(...); "
        "only a distance can take one from random inputs"
    )
