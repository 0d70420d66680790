"""Ask a target a handful of billed questions before a run: faults of the target show here, not an hour later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from labelleaks.core.types import Candidates
from labelleaks.errors import InputError, TargetError

if TYPE_CHECKING:
    from labelleaks.core.oracle.label_oracle import LabelOracle

__all__ = ["NOISE_ROWS", "PROBE_ROWS", "NoiseResult", "ProbeResult", "canaries", "measure_noise", "probe"]

PROBE_ROWS = 16
"""Rows that a probe sends at most."""
NOISE_ROWS = 128
"""Rows that a measurement of noise sends at most."""


@dataclass(frozen=True)
class ProbeResult:
    """Observations of the probe."""

    rows: int
    """Labels that it asked for, at most :data:`PROBE_ROWS`; all billed to set-up."""
    labels: tuple[int, ...]
    """The codes answered first, one for each distinct row that was asked about."""
    changed: int
    """How many of these rows got another label when they were sent again in another batch."""
    call_seconds: float | None
    """Time of the target for one row alone; None where a journal answered."""
    batch_seconds: float | None
    """Time of the target for a batch of ``batch`` rows; None where a journal answered."""
    batch: int

    @property
    def constant(self) -> bool:
        """Whether several rows all got the same label."""
        return len(self.labels) > 1 and len(set(self.labels)) == 1

    def seconds(self, rows: int, batch_rows: int) -> tuple[float, float] | None:
        """Forecast the target's time for ``rows`` rows, (at least, at most) in seconds; None where it is not known.

        At most: every row at the speed of the small batch. At least: a fixed cost for each call of ``batch_rows`` rows
        and the cost of a further row, both from the row alone and the small batch.
        """
        if self.call_seconds is None or self.batch_seconds is None:
            return None
        most = rows * self.batch_seconds / self.batch
        if self.batch == 1:
            return most, most
        further = max((self.batch_seconds - self.call_seconds) / (self.batch - 1), 0.0)
        fixed = max(self.call_seconds - further, 0.0)
        calls = -(-rows // max(batch_rows, 1))
        return min(calls * fixed + rows * further, most), most


def probe(setup: LabelOracle, candidates: Candidates, *, allow_noisy: bool = False) -> ProbeResult:
    """Ask about up to 8 candidates, then about them again: one of them alone, the others in reverse order.

    Catches a target that raises, answers the wrong number of labels, floats or unknown labels, or changes its label for
    the same input (dropout, batch normalisation in training mode, randomised answers). The candidates asked about are
    chosen by class and content, never by position.

    Args:
        setup: a view of the gate that bills to set-up (``gate.setup_oracle("target")``).
        candidates: the rows to choose from, n >= 1.
        allow_noisy: accept a target that changes its label; the result still counts the changes.

    Raises:
        InputError: a fault of the target, with what it answered and the mend.
        BudgetExceeded: the total budget cannot pay for the probe.
    """
    x = candidates.domain.project(candidates.x[_choose(candidates, PROBE_ROWS // 2)])
    k = len(x)
    sent = setup.ledger.rows
    first, _ = _ask(setup, x)
    alone = torch.tensor([k - 1], device=x.device)
    others = torch.arange(k - 2, -1, -1, device=x.device) if k > 1 else alone.repeat(2)
    again_alone, call_seconds = _ask(setup, x[alone])
    again_others, batch_seconds = _ask(setup, x[others])
    order = torch.cat([alone, others])
    replayed = setup.ledger.rows < sent + k + len(order)
    again = torch.cat([again_alone, again_others])
    differs = again != first[order]
    changed = len(set(order[differs].tolist()))
    if changed and not allow_noisy:
        at = int(differs.nonzero()[0])
        raise InputError(
            f"the target changed its label for {changed} of {k} inputs when they were sent again in another batch "
            f"(class {int(first[order[at]])}, then {int(again[at])}): put the model into evaluation mode "
            "(model.eval()) or fix its randomness; allow_noisy=True accepts randomised answers"
            + ("; these answers are the journal's: a target that was mended needs a new one" if replayed else "")
        )
    return ProbeResult(
        rows=k + len(order),
        labels=tuple(first.tolist()),
        changed=changed,
        call_seconds=None if replayed else call_seconds,
        batch_seconds=None if replayed else batch_seconds,
        batch=len(others),
    )


@dataclass(frozen=True)
class NoiseResult:
    """Share of labels that changed when the same input was sent again."""

    asked: int
    """Inputs that were sent twice."""
    changed: int
    """How many of them got two different labels."""


def measure_noise(setup: LabelOracle, candidates: Candidates) -> NoiseResult:
    """Ask about up to 64 candidates twice; billed to set-up.

    One pair of answers for each input, so that ``changed`` is binomial over candidates: its interval is exact however
    much the noise differs between inputs. The candidates are chosen by class and content, never by position.
    """
    x = candidates.domain.project(candidates.x[_choose(candidates, NOISE_ROWS // 2)])
    owner = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
    first, second = (setup.query(x, owner, phase="noise") for _ in range(2))
    return NoiseResult(len(x), int((first != second).sum()))


def canaries(setup: LabelOracle, candidates: Candidates, recorded: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """Ask afresh about candidates of the probe whose labels a journal holds.

    Args:
        setup: a view of the gate that bills to set-up (``gate.setup_oracle("target")``).
        candidates: the rows of the run; those that its probe asked about are asked again.
        recorded: given rows, int64 (m, answers): what the journal holds for them, -1 where nothing.

    Returns:
        How many were asked, and how many got a label that the journal never saw for them.
    """
    x = candidates.domain.project(candidates.x[_choose(candidates, PROBE_ROWS // 2)])
    held = recorded(x)
    rows = (held[:, 0] >= 0).nonzero().reshape(-1)
    if len(rows) == 0:
        return 0, 0
    owner = torch.full((len(rows),), -1, dtype=torch.int64, device=x.device)
    labels = setup.query(x[rows.to(x.device)], owner, phase="canary", fresh=True)
    return len(rows), int((held[rows] != labels.cpu()[:, None]).all(1).sum())


def _choose(candidates: Candidates, most: int) -> Tensor:
    """Up to ``most`` distinct rows of as many classes as there are: by their rank within the class, then by content."""
    keys, labels = candidates.keys.tolist(), candidates.y.tolist()
    place = {key: i for i, key in enumerate(keys)}
    seen: dict[int, int] = {}
    ranked = []
    for key in sorted(place):
        label = labels[place[key]]
        ranked.append((seen.setdefault(label, 0), key))
        seen[label] += 1
    chosen = [place[key] for _, key in sorted(ranked)[:most]]
    return torch.tensor(chosen, dtype=torch.int64, device=candidates.device)


def _ask(setup: LabelOracle, x: Tensor) -> tuple[Tensor, float]:
    """Labels of the rows, and the seconds that the target took."""
    owner = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
    before = setup.ledger.seconds
    try:
        labels = setup.query(x, owner, phase="probe")
    except TargetError as error:
        raise InputError(f"the target failed its probe of {len(x)} rows: {error}") from error
    return labels, setup.ledger.seconds - before
