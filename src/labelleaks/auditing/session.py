"""One run on one target: everything checked and planned, the target open, and what is then asked of it.

The way of a run: :func:`open_session` checks everything that can be checked without the target, ``probe`` asks at most
16 billed rows, ``score`` runs one attack, ``thresholds`` fits its rules. A session knows no membership.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labelleaks.auditing.calibration import calibrated
from labelleaks.auditing.forecast import Forecast, forecast_of
from labelleaks.auditing.options import AuditOptions, describe, name_of
from labelleaks.auditing.plan import Plan, Planned, plan
from labelleaks.auditing.rows import RunRows, gather
from labelleaks.auditing.sharding import SHARD_ROWS, Course, Reach, Shards, Used
from labelleaks.auditing.thresholds import Setting, Threshold
from labelleaks.core.attack import Knowledge, prepared
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.journal import Journal, default_path
from labelleaks.core.oracle.remote import Remote
from labelleaks.core.progress import stage
from labelleaks.core.types import Candidates, Scores
from labelleaks.engine import Engine, choose
from labelleaks.errors import InputError
from labelleaks.targets import Target, is_identified, is_target, opened, wrap
from labelleaks.targets.probe import NoiseResult, ProbeResult, canaries, measure_noise, probe

__all__ = ["Session", "open_session"]

Progress = Callable[[str, int], None]


@dataclass(frozen=True, eq=False)
class Session:
    """Everything that a run needs, checked; the target is open."""

    given: Any
    """The target as the user brought it."""
    target: Target
    gate: Gate
    rows: RunRows
    plan: Plan
    options: AuditOptions
    engine: Engine
    journal: Journal | None = None
    shards: Shards | None = None
    """Where there are more candidates than a shard holds; None: all are attacked at once."""
    prepared: dict[str, Knowledge] = field(default_factory=dict)
    """What each attack knows once its set-up is done, by the attack's planned name."""

    @property
    def candidates(self) -> Candidates:
        return self.rows.candidates

    @property
    def knowledge(self) -> Knowledge:
        """Knowledge of the adversary before any set-up."""
        return self.plan.knowledge

    def probe(self) -> ProbeResult:
        """Ask at most 16 billed rows; faults of the target show here."""
        return probe(self.gate.setup_oracle("target"), self.candidates, allow_noisy=self.options.allow_noisy)

    def noise(self) -> NoiseResult | None:
        """Measure how often labels change, with at most 128 billed rows; None where noise is not allowed."""
        if not self.options.allow_noisy:
            return None
        return measure_noise(self.gate.setup_oracle("target"), self.candidates)

    def check_unchanged(self) -> tuple[str, ...]:
        """Ask at most 8 billed rows that the journal knows, and refuse a target that answers otherwise now.

        Asked are services, and functions and code that are known by their names only.

        Returns:
            A sentence for the record where the change was accepted.

        Raises:
            InputError: the target changed; what there is to choose from.
        """
        if self.journal is None or self.options.replay_only or is_identified(self.target):
            return ()
        asked, changed = canaries(self.gate.setup_oracle("target"), self.candidates, self.journal.answers)
        if changed <= (asked // 2 if self.options.allow_noisy else 0):
            return ()
        difference = (
            f"the target changed since the journal {self.journal.path} was begun: {changed} of {asked} rows that it "
            "had labelled got another label now"
        )
        if not self.options.accept_changed:
            raise InputError(
                f"{difference}. Give a new journal (journal=, --set journal=FILE) to begin anew, go back to the former "
                "model, or mix old and new answers all the same: accept_changed=True (--accept-changed)"
            )
        return (f"{difference[0].upper()}{difference[1:]}; old and new answers are mixed, as accept_changed allows.",)

    def score(self, planned: Planned) -> Scores:
        """Run one attack on all candidates."""
        budgets = planned.budgets or (self.plan.budget,)
        course = Course(planned.attack, planned.name, budgets, bool(planned.budgets), self.options.seed)
        knowledge = self.prepare(planned)
        if self.shards is not None and not planned.attack.whole:
            most = None if self.options.budget_total is None else planned.cost.most
            return self.shards.score(course, knowledge, most=most)
        accounts = len(self.candidates)
        stage(planned.name)
        return course.score(lambda b: self.gate.oracle(planned.name, accounts, b), self.candidates, knowledge)

    def prepare(self, planned: Planned) -> Knowledge:
        """Do one attack's set-up, the first time; return what it knows then."""
        if planned.name not in self.prepared:
            stage(f"{planned.name}: set-up")
            given = replace(self._given(planned), store=Used(self.knowledge.store))
            ready = prepared(planned.attack, given, self.candidates, seed=self.options.seed)
            self.prepared[planned.name] = ready
        return self.prepared[planned.name]

    def _given(self, planned: Planned) -> Knowledge:
        """Return the knowledge of one attack before its set-up."""
        return replace(self.knowledge, setup=self.gate.setup_oracle(planned.name))

    def described_engine(self) -> dict[str, Any]:
        """Return the engine for run.json: name, workers, shards, and why attacks were not cut into shards."""
        described = self.engine.describe() | {"shards": 1 if self.shards is None else len(self.shards.parts)}
        return described if self.stays is None else described | {"attacks_stay_here": self.stays}

    @property
    def stays(self) -> str | None:
        """Reason why no attack of this run is cut into shards; None where all may be."""
        if isinstance(self.target, Remote):
            return "a service is asked from one place, where its pace, its journal and its bill are kept"
        if self.journal is not None:
            return "the answers are kept in a journal, which has one writer"
        devices = {self.candidates.device.type, str(self.options.device or "cpu")}
        if isinstance(self.given, nn.Module):
            devices |= {p.device.type for p in self.given.parameters()}
        return None if devices == {"cpu"} else "the target is not on a CPU"

    def thresholds(self, planned: Planned) -> tuple[Threshold, ...]:
        """Fit the attack's threshold rules; the candidates' scores have no part in it."""
        setting = Setting(
            attack=planned.attack,
            name=planned.name,
            gate=self.gate,
            candidates=self.candidates,
            knowledge=self._given(planned),
            prepared=self.prepare(planned),
            holdout=self.plan.holdout,
            budget=self.plan.budget,
            seed=self.options.seed,
            encode=lambda y: self.rows.classes.encode(y, "hold-out rows"),
        )
        found = []
        for rule, _ in planned.rules:
            stage(f"{planned.name}: {rule.name.replace('_', ' ')}")
            found.append(rule.fit(setting))
        return tuple(found)

    def forecast(self, probed: ProbeResult | None = None, *, calibrate: bool = False) -> Forecast:
        """Say what the run will cost at most, and with ``calibrate`` how long it takes here beside the target."""
        noise, rows = self.options.allow_noisy, self.candidates
        local = calibrated(self.plan, rows, seed=self.options.seed) if calibrate else None
        return forecast_of(self.plan, len(rows), self.target, noise=noise, probed=probed, local=local)

    def spec(self) -> dict[str, Any]:
        """Return what was asked for, as JSON types: equal for equal runs."""
        options = self.options
        rungs = {p.name: list(p.budgets) for p in self.plan.planned if p.budgets}
        return {
            "attacks": [{"name": p.name, "attack": p.attack.name, **describe(p.attack)} for p in self.plan.planned],
            "thresholds": {p.name: [rule.describe() for rule, _ in p.rules] for p in self.plan.planned},
            "budget": self.plan.budget,
            "budget_asked": options.budget,
            "budget_total": options.budget_total,
            "references": options.references,
            "family": name_of(_shown_family(options.family, self.knowledge.family)),
            "preprocess": name_of(options.preprocess),
            "starts": 0 if self.knowledge.starts is None else len(self.knowledge.starts),
            "groups": dict(self.rows.sizes),
            "candidates": self.digest,
            **({} if self.rows.form.plain else {"rows": self.rows.form.describe()}),
            **({"ladder": rungs} if rungs else {}),
        }

    @cached_property
    def digest(self) -> str:
        """A hash of all candidates, whatever their order."""
        return f"{int(torch.sum(self.candidates.keys)) & ((1 << 64) - 1):016x}"


@contextmanager
def open_session(
    target: Any, groups: Mapping[str, Any], options: AuditOptions, *, progress: Progress | None = None
) -> Iterator[Session]:
    """Check what was given, plan the run and open its target; on leaving, the target is as it was.

    Args:
        target: as the user brought it.
        groups: name of the group -> its rows; the candidates are these rows in this order.
        progress: described (phase, rows answered) after each call of the target.

    Raises:
        InputError: and its kinds, for whatever is wrong with what was given. Nothing was sent.
    """
    stage("reading rows")
    rows = gather(target, groups, options)
    stage("opening the target")
    wrapped = partial(
        wrap,
        form=rows.form,
        classes=rows.classes,
        preprocess=options.preprocess,
        device=options.device,
        batch_rows=options.batch_rows,
        width=rows.candidates.width,
    )
    with (
        choose(options.engine) as engine,
        opened(wrapped(target), check=is_target(target)) as ready,
        _journal(options.journal, ready, replay_only=options.replay_only) as journal,
    ):
        gate = Gate(
            ready,
            batch_rows=ready.batch_rows,
            total=options.budget_total,
            journal=journal,
            progress=progress,
            replay_only=options.replay_only,
        )
        found = plan(options, rows, gate.setup_oracle("setup"))
        found = replace(found, knowledge=replace(found.knowledge, engine=engine))
        session = Session(target, ready, gate, rows, found, options, engine, journal)
        size = options.shard_rows or SHARD_ROWS
        if len(rows.candidates) > size and session.stays is None:
            reach = Reach(ready.name, target, ready, wrapped)
            session = replace(session, shards=Shards(engine, gate, reach, rows.candidates, size, progress))
        yield session


@contextmanager
def _journal(path: str | Path | None, target: Target, *, replay_only: bool) -> Iterator[Journal | None]:
    if path is None and isinstance(target, Remote):  # what was paid for is kept, whatever happens
        path = default_path(target.fingerprint)
    if path is None and replay_only:
        raise InputError("replay_only needs the journal of an earlier run: journal=FILE (--set journal=FILE)")
    if path is None:
        yield None
        return
    with Journal(path, fingerprint=target.fingerprint, must_exist=replay_only) as journal:
        yield journal


def _shown_family(asked: Any, used: Any) -> Any:
    """Return the family as asked for; where nothing was and a table has boosted trees, these."""
    return used if asked is None and used == "trees" else asked
