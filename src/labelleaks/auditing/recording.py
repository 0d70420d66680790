"""An audit's results as they come in: attack after attack, each evaluated, recorded and saved when it is done."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labelleaks.auditing import evaluation, flags
from labelleaks.auditing.options import describe
from labelleaks.auditing.plan import Planned
from labelleaks.auditing.record import AttackResult, AuditRecord, LedgerSummary, RunLog
from labelleaks.auditing.session import Session
from labelleaks.auditing.thresholds import Threshold
from labelleaks.core import progress
from labelleaks.core.oracle.label_oracle import CANARY
from labelleaks.core.types import Candidates, Scores
from labelleaks.models.reference_models import trainings
from labelleaks.targets.probe import NoiseResult, ProbeResult

__all__ = ["Recording", "as_numpy"]

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")


def as_numpy(values: torch.Tensor, dtype: Any) -> NDArray[Any]:
    """Return a tensor as an array on the host."""
    return values.detach().cpu().numpy().astype(dtype)


@dataclass(eq=False)
class Recording:
    """The results of one audit as they come in: attacks one after the other, each saved when it is done."""

    session: Session
    name: str
    keep_inputs: bool
    out: Path | None
    results: dict[str, AttackResult] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    probed: ProbeResult | None = None
    noise: NoiseResult | None = None
    notes: tuple[str, ...] = ()
    began: float = field(default_factory=time.monotonic)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def finish(self) -> AuditRecord:
        """Run every attack that is planned; what was finished is saved, whatever happens."""
        try:
            self.notes = self.session.check_unchanged()
            self.probed = self.session.probe()
            self.noise = self.session.noise()
            for planned in self.session.plan.planned:
                began = time.monotonic()
                self.results[planned.name] = self._attack(planned)
                self.seconds[planned.name] = round(time.monotonic() - began, 3)
                if self.out is not None and len(self.results) < len(self.session.plan.planned):
                    self._save(self._record(complete=False))
        except BaseException as error:  # Ctrl-C among them: what was finished stays, and the error goes on its way
            if self.results:
                partial = self._record(complete=False, note=_why(error))
                if self.out is not None:
                    self._save(partial)
                    error.add_note(f"finished before: {', '.join(self.results)}; saved in {self.out}")
                else:
                    error.partial_record = partial  # type: ignore[attr-defined]
            raise
        finished = self._record(complete=True)
        if self.out is not None:
            self._save(finished)
        return finished

    def _attack(self, planned: Planned) -> AttackResult:
        scores = self.session.score(planned)
        thresholds = tuple(replace(t, nonmember_scores=None) for t in self.session.thresholds(planned))
        trajectory = scores.trajectory
        return AttackResult(
            name=planned.name,
            spec={"attack": planned.attack.name, **describe(planned.attack)},
            scores=as_numpy(scores.value, np.float64),
            status=as_numpy(scores.status, np.int64),
            queries=as_numpy(scores.queries, np.int64),
            evaluation=self._evaluate(scores, thresholds),
            checkpoints=() if trajectory is None else trajectory.checkpoints,
            trajectory=None if trajectory is None else as_numpy(trajectory.value, np.float64),
            details={key: detail.detach().cpu().numpy() for key, detail in scores.details.items()},
            about=planned.attack.about,
        )

    def _evaluate(self, scores: Scores, thresholds: Sequence[Threshold]) -> evaluation.Evaluation:
        progress.stage("figures and intervals")
        keys = self.session.candidates.keys.cpu().numpy()
        return evaluation.evaluate(scores, self._member(), keys=keys, thresholds=thresholds)

    def _member(self) -> NDArray[np.bool_]:
        return np.arange(len(self.session.candidates)) < self.session.rows.sizes["members"]

    def _evidence(self, comparisons: Sequence[evaluation.PairComparison]) -> flags.Evidence:
        """Results, counts and candidates that flags are raised on."""
        session, names = self.session, self._class_names()
        return flags.Evidence(
            candidates=session.candidates,
            member=self._member(),
            attacks=self.results,
            comparisons=comparisons,
            class_names=names,
            probed=0 if self.probed is None else len(self.probed.labels),
            changed=0 if self.probed is None else self.probed.changed,
            noise_asked=0 if self.noise is None else self.noise.asked,
            noise_changed=0 if self.noise is None else self.noise.changed,
            one_label=self.probed is not None and self.probed.constant,
            seed=session.options.seed,
            shadow=flags.ShadowEvidence.of(session.knowledge, len(names)),
        )

    def _class_names(self) -> tuple[str, ...]:
        return tuple(str(label) for label in self.session.rows.classes.names)

    def _record(self, *, complete: bool, note: str | None = None) -> AuditRecord:
        session, member = self.session, self._member()
        comparisons = evaluation.compare({name: r.scores for name, r in self.results.items()}, member)
        record = AuditRecord(
            name=self.name,
            spec=session.spec(),
            seed=session.options.seed,
            versions=_versions(),
            target=session.target.describe(),
            domain=_domain(session.candidates),
            classes=self._class_names(),
            member=member,
            y=as_numpy(session.candidates.y, np.int64),
            ids=tuple(session.candidates.ids),
            attacks=dict(self.results),
            ledger=LedgerSummary.of(session.gate.ledger, len(member)),
            inputs=as_numpy(session.candidates.x, np.float32),
            comparisons=tuple(comparisons),
            # flags take seconds, which an interrupted user would wait for
            flags=flags.find_flags(self._evidence(comparisons)) if complete else (),
            shadow={
                "given": 0 if session.rows.shadow is None else len(session.rows.shadow),
                "dropped": session.plan.shadow_dropped,
                "held_out": 0 if session.plan.holdout is None else len(session.plan.holdout),
                "models": [{"rows": t.rows, "epochs": t.epochs} for t in trainings(session.knowledge.store)],
            },
            complete=complete,
            notes=(*session.plan.notes, *self.notes, *([note] if note else [])),
        )
        return record if self.keep_inputs else record.without_inputs()

    def _save(self, record: AuditRecord) -> None:
        from labelleaks.auditing.report import write_report

        assert self.out is not None
        progress.stage("writing the report")
        record.save(self.out, overwrite=True)
        ledger = self.session.gate.ledger
        models = trainings(self.session.knowledge.store)
        log = RunLog(
            started=self.started,
            seconds=round(time.monotonic() - self.began, 3),
            target_seconds=round(ledger.seconds, 3),
            calls=ledger.calls,
            cached=ledger.cached,
            retries=ledger.retries,
            maybe_repaid=ledger.maybe_repaid,
            canary_rows=ledger.setup.get(CANARY, 0),
            cost=round(ledger.cost, 9),
            host=platform.node(),
            platform=platform.platform(),
            attack_seconds=dict(self.seconds),
            models_reused=sum(t.reused for t in models),
            engine=self.session.described_engine(),
            training_seconds=round(sum(t.seconds for t in models if not t.reused), 3),
        )
        log.save(self.out)
        write_report(record, self.out / "report.html")


def _domain(candidates: Candidates) -> dict[str, Any]:
    """Description of the domain, with the words of the candidates' texts."""
    described = candidates.domain.describe()
    groups = [group for group in candidates.domain.groups(candidates.shape) if group.vocabulary is not None]
    parts = [part for part in described.get("parts", [described]) if part.get("kind") == "text"]
    for part, group in zip(parts, groups, strict=False):
        assert group.vocabulary is not None
        part["vocabulary"] = group.vocabulary.used(candidates.x.flatten(1)[:, group.columns].cpu().numpy())
    return described


def _why(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "The run was interrupted; only finished attacks are here."
    return f"The run stopped early ({error}); only finished attacks are here."


def _versions() -> dict[str, str]:
    from labelleaks import __version__

    ours = {"labelleaks": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    return ours | {package: metadata.version(package) for package in _PACKAGES}
