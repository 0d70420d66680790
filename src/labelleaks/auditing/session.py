"""What `audit`, `infer` and `forecast` share: inputs checked, target opened, costs planned, and nothing sent yet.

The way of a run: :func:`open_case` checks everything that can be checked without the target, ``probe`` asks at most 16
billed rows, ``score`` runs one attack, ``thresholds`` fits its rules. A :class:`Case` knows no membership.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labelleaks.auditing.forecast import Forecast, ForecastLine, Planned
from labelleaks.auditing.options import Request, Rows, check_numbers, describe, gather, name_of
from labelleaks.auditing.plan import plan
from labelleaks.auditing.sharding import SHARD_ROWS, Course, Reach, Shards, Used
from labelleaks.auditing.thresholds import Setting, Threshold
from labelleaks.core.attack import Knowledge, ShadowRows, prepared
from labelleaks.core.domains import Box, need_domain
from labelleaks.core.oracle.journal import Journal, default_path
from labelleaks.core.oracle.label_oracle import Gate
from labelleaks.core.oracle.remote import Remote
from labelleaks.core.types import Candidates, Scores
from labelleaks.engine import Engine, choose
from labelleaks.errors import InputError
from labelleaks.targets import Target, is_target, opened, sendable, wrap
from labelleaks.targets.probe import (
    NOISE_ROWS,
    NoiseResult,
    ProbeResult,
    canaries,
    measure_noise,
    probe,
)

__all__ = ["Case", "open_case"]


@dataclass(frozen=True, eq=False)
class Case:
    """Everything that a run needs, checked."""

    target: Target
    gate: Gate
    rows: Rows
    candidates: Candidates
    knowledge: Knowledge
    holdout: ShadowRows | None
    planned: tuple[Planned, ...]
    budget: int
    request: Request
    shadow_given: int
    shadow_dropped: int
    engine: Engine
    notes: tuple[str, ...] = field(default=())
    journal: Journal | None = None
    shards: Shards | None = None
    """Where there are more candidates than a shard holds; None: all are attacked at once."""
    prepared: dict[str, Knowledge] = field(default_factory=dict)
    """What each attack knows once its set-up is done, by the attack's planned name."""

    def probe(self) -> ProbeResult:
        """Ask at most 16 billed rows; faults of the target show here."""
        return probe(self.gate.setup_oracle("target"), self.candidates, allow_noisy=self.request.allow_noisy)

    def noise(self) -> NoiseResult | None:
        """Measure how often labels change, with at most 128 billed rows; None where noise is not allowed."""
        if not self.request.allow_noisy:
            return None
        return measure_noise(self.gate.setup_oracle("target"), self.candidates)

    def check_unchanged(self) -> tuple[str, ...]:
        """Ask a service at most 8 billed rows that its journal knows, and refuse one that answers otherwise now.

        Returns:
            A sentence for the record where the change was accepted.

        Raises:
            InputError: the target changed; what there is to choose from.
        """
        if self.journal is None or self.request.replay_only or not isinstance(self.target, Remote):
            return ()
        asked, changed = canaries(self.gate.setup_oracle("target"), self.candidates, self.journal.answers)
        if changed <= (asked // 2 if self.request.allow_noisy else 0):
            return ()
        said = (
            f"the target changed since the journal {self.journal.path} was begun: {changed} of {asked} rows that it "
            "had labelled got another label now"
        )
        if not self.request.accept_changed:
            raise InputError(
                f"{said}. Give a new journal (journal=, --set journal=FILE) to begin anew, go back to the former "
                "model, or mix old and new answers all the same: accept_changed=True (--accept-changed)"
            )
        return (f"{said[0].upper()}{said[1:]}; old and new answers are mixed, as accept_changed allows.",)

    def score(self, planned: Planned) -> Scores:
        """Run one attack on all candidates."""
        budgets = planned.budgets or (self.budget,)
        course = Course(planned.attack, planned.name, budgets, bool(planned.budgets), self.request.seed)
        knowledge = self.prepare(planned)
        if self.shards is not None and not planned.attack.whole:
            most = None if self.request.budget_total is None else planned.cost.most
            return self.shards.score(course, knowledge, most=most)
        accounts = len(self.candidates)
        return course.score(lambda b: self.gate.oracle(planned.name, accounts, b), self.candidates, knowledge)

    def prepare(self, planned: Planned) -> Knowledge:
        """Do one attack's set-up, the first time; return what it knows then."""
        if planned.name not in self.prepared:
            given = replace(self._given(planned), store=Used(self.knowledge.store))
            ready = prepared(planned.attack, given, self.candidates, seed=self.request.seed)
            self.prepared[planned.name] = ready
        return self.prepared[planned.name]

    def _given(self, planned: Planned) -> Knowledge:
        """What one attack knows before its set-up."""
        return replace(self.knowledge, setup=self.gate.setup_oracle(planned.name))

    def described_engine(self) -> dict[str, Any]:
        """Return what run.json says of who did the work."""
        told = self.engine.describe() | {"shards": 1 if self.shards is None else len(self.shards.parts)}
        return told if self.stays is None else told | {"attacks_stay_here": self.stays}

    @property
    def stays(self) -> str | None:
        """Why no attack of this run is cut into shards; None where all may be."""
        if isinstance(self.target, Remote):
            return "a service is asked from one place, where its pace, its journal and its bill are kept"
        if self.journal is not None:
            return "the answers are kept in a journal, which has one writer"
        devices = {self.candidates.device.type, str(self.request.device or "cpu")}
        if isinstance(self.request.target, nn.Module):
            devices |= {p.device.type for p in self.request.target.parameters()}
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
            holdout=self.holdout,
            budget=self.budget,
            seed=self.request.seed,
            encode=lambda y: self.rows.classes.encode(y, "hold-out rows"),
        )
        return tuple(rule.fit(setting) for rule, _ in planned.rules)

    def forecast(self, probed: ProbeResult | None = None) -> Forecast:
        """Say what the run will cost at most."""
        n = len(self.candidates)
        lines = [
            ForecastLine(
                p.name, p.cost.most, n * p.cost.most, p.cost.setup + sum(rows for _, rows in p.rules), p.budgets
            )
            for p in self.planned
        ]
        found = Forecast(
            tuple(lines),
            self.budget,
            probe_rows=0 if probed is None else probed.rows,
            notes=self.notes,
            noise_rows=NOISE_ROWS if self.request.allow_noisy else 0,
        )
        remote = self.target if isinstance(self.target, Remote) else None
        if remote is not None:
            found = replace(found, cost=remote.price(found.rows))
        if probed is None:
            return found
        if remote is None:
            return replace(found, seconds=probed.seconds(found.rows, self.target.batch_rows))
        alone = probed.call_seconds
        return found if alone is None else replace(found, seconds=remote.seconds(found.rows, alone))

    def spec(self) -> dict[str, Any]:
        """Return what was asked for, as JSON types: equal for equal runs."""
        request = self.request
        rungs = {p.name: list(p.budgets) for p in self.planned if p.budgets}
        return {
            "attacks": [{"name": p.name, "attack": p.attack.name, **describe(p.attack)} for p in self.planned],
            "thresholds": {p.name: [rule.describe() for rule, _ in p.rules] for p in self.planned},
            "budget": self.budget,
            "budget_asked": request.budget,
            "budget_total": request.budget_total,
            "references": request.references,
            "family": name_of(request.family),
            "preprocess": name_of(request.preprocess),
            "starts": 0 if self.knowledge.starts is None else len(self.knowledge.starts),
            "groups": dict(zip(request.groups, self.rows.sizes, strict=True)),
            "candidates": self.digest,
            **({"ladder": rungs} if rungs else {}),
        }

    @cached_property
    def digest(self) -> str:
        """A hash of all candidates, whatever their order."""
        return f"{int(torch.sum(self.candidates.keys)) & ((1 << 64) - 1):016x}"


@contextmanager
def open_case(
    request: Request, *, default_attacks: Callable[[Candidates, bool], list[str]], progress: Any = None
) -> Iterator[Case]:
    """Check a request and open its target; on leaving, the target is as it was.

    Raises:
        InputError: and its kinds, for whatever is wrong with what was given. Nothing was sent.
    """
    check_numbers(request)
    domain = need_domain(request.domain if request.domain is not None else Box(0, 1))
    domain = sendable(request.target, domain)
    rows = gather(request, domain)
    candidates = Candidates(rows.x, rows.y, domain, len(rows.classes), rows.ids)
    wrapped = partial(
        wrap,
        numpy=rows.numpy,
        classes=rows.classes,
        preprocess=request.preprocess,
        device=request.device,
        batch_rows=request.batch_rows,
        width=candidates.width,
    )
    with (
        choose(request.engine) as engine,
        opened(wrapped(request.target), check=is_target(request.target)) as target,
        _journal(request.journal, target, replay_only=request.replay_only) as journal,
    ):
        gate = Gate(
            target,
            batch_rows=target.batch_rows,
            total=request.budget_total,
            journal=journal,
            progress=progress,
            replay_only=request.replay_only,
        )
        found = plan(request, rows, candidates, gate.setup_oracle("setup"), default_attacks)
        case = Case(
            target=target,
            gate=gate,
            rows=rows,
            candidates=candidates,
            knowledge=replace(found.knowledge, engine=engine),
            holdout=found.holdout,
            planned=found.planned,
            budget=found.budget,
            request=request,
            shadow_given=0 if rows.shadow is None else len(rows.shadow),
            shadow_dropped=found.shadow_dropped,
            engine=engine,
            notes=found.notes,
            journal=journal,
        )
        size = request.shard_rows or SHARD_ROWS
        if len(candidates) > size and case.stays is None:
            reach = Reach(target.name, request.target, target, wrapped)
            case = replace(case, shards=Shards(engine, gate, reach, candidates, size, progress))
        yield case


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
