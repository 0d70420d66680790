"""Posterior over the target's log-odds of each candidate, updated by Bayes' rule after each label."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from labelleaks.attacks._guided.directions import StartPoints
from labelleaks.attacks._guided.label_account import LabelAccount
from labelleaks.attacks._guided.tuning import TUNING
from labelleaks.core.batch_invariant import mean_of, row_sums
from labelleaks.core.types import Status

__all__ = ["Posterior", "ScoreScale", "saturated"]


def saturated(log_odds: Tensor, saturation: float) -> Tensor:
    """Return 2 s tanh(x / 2 s): references' log-odds as far as they count, nats, with s = ``saturation``."""
    limit = TUNING.reference_saturation * saturation
    return limit * torch.tanh(log_odds / limit)


@dataclass(frozen=True)
class ScoreScale:
    """Parameters of the score that are fitted on shadow rows, once a run."""

    saturation: float
    """s, nats: the target's log-odds beyond which more says nothing; above 0"""
    weight: float
    """a: weight of the references' log-odds"""
    usual_confidence: float
    """mean saturated log-odds of the references on rows that no model saw, nats"""

    def first_u(self, confidence: Tensor) -> Tensor:
        """Return |u| at the first question: it rises with the references' log-odds, half as steeply as the score."""
        excess = (saturated(confidence, self.saturation) - self.usual_confidence) / (2 * self.saturation)
        return (TUNING.first_u + self.weight * excess).clamp(*TUNING.first_bounds)


@dataclass(eq=False)
class Posterior:
    """Posterior over u = tanh(h / s) of some candidates, with h the target's log-odds."""

    account: LabelAccount
    start: StartPoints
    """these candidates"""
    confidence: Tensor
    """float64 (m,): upper log-odds of the references, μ + σ"""
    scale: ScoreScale
    right: Tensor = field(init=False)
    """bool (m,): whether the target gives the label to the candidate; presumed until ``settled``"""
    settled: Tensor = field(init=False)
    """bool (m,): whether x has been asked for, or the label held on a way, where a wrong one hardly ever would"""
    asked: Tensor = field(init=False)
    """bool (m,): whether x has been asked for"""
    p_right: Tensor = field(init=False)
    """float64 (m,): probability that the label is right"""
    weights: Tensor = field(init=False)
    """float64 (m, grid): probability of each value of |u|, at first uniform; a row's sum is 1"""

    def __post_init__(self) -> None:
        m, device = len(self.account.owner), self.account.owner.device
        self.right = torch.ones(m, dtype=torch.bool, device=device)
        self.settled = torch.zeros(m, dtype=torch.bool, device=device)
        self.asked = torch.zeros(m, dtype=torch.bool, device=device)
        nonmembers = mean_of(torch.sigmoid(self.start.log_odds))  # right as often as the references say; members always
        self.p_right = (1 + nonmembers) / 2
        self.weights = torch.full((m, TUNING.grid), 1 / TUNING.grid, dtype=torch.float64, device=device)

    @property
    def grid(self) -> Tensor:
        """The values of |u|: float64 (grid,)."""
        return (torch.arange(TUNING.grid, dtype=torch.float64, device=self.account.owner.device) + 0.5) / TUNING.grid

    def mean_u(self) -> Tensor:
        """Return E[u], float64 (m,): negative where the label is wrong."""
        mean = row_sums(self.weights * self.grid)
        return torch.where(self.right, mean, -mean)

    def log_odds(self) -> Tensor:
        """Return the target's log-odds h at E[u], nats: float64 (m,)."""
        u = self.mean_u()
        return u.sign() * self.drop_at(u.abs())

    def value(self) -> Tensor:
        """Return the score, float64 (m,): where the label is not settled, expected over its being right or wrong."""
        if_wrong = torch.where(self.settled, self.mean_u(), -0.5) - 1
        u = self.p_right * self.mean_u() + (1 - self.p_right) * if_wrong
        s = self.scale.saturation
        return s * u - self.scale.weight * saturated(self.confidence, s)

    def status(self) -> Tensor:
        """Return each candidate's :class:`Status`, int64 (m,)."""
        ended = torch.where(self.right, int(Status.DONE), int(Status.MISCLASSIFIED))
        return torch.where(self.settled, ended, int(Status.UNASKED))

    def open_rows(self, sign: int) -> Tensor:
        """Return the rows with labels left for a question along a way of this sign: int64 (k,)."""
        return (self.account.can_ask & (self.right == (sign < 0))).nonzero().reshape(-1)

    def ask_candidates(self, among: Tensor) -> None:
        """Ask whether the label of these is right, bool (m,), where labels are left for the question."""
        rows = (among & self.account.can_ask).nonzero().reshape(-1)
        right = self.account.ask(rows, self.start.x[rows], "correct")
        self.weights[rows[~right]] = 1 / TUNING.grid  # the labels so far were asked of a right one
        self.asked[rows] = True
        self._settle(rows, right)
        self.account.record(rows, self.value())

    def _settle(self, rows: Tensor, right: Tensor) -> None:
        self.right[rows], self.settled[rows], self.p_right[rows] = right, True, right.to(torch.float64)

    def next_u(self, rows: Tensor, *, first: bool) -> Tensor:
        """Return |u| to ask at, float64 (k,): the posterior's median; at first :meth:`ScoreScale.first_u`."""
        if first:
            return self.scale.first_u(self.confidence[rows])
        below = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        place = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        for column in self.weights[rows].unbind(1):
            below = below + column
            place = place + (below < 0.5)
        return self.grid[place.clamp_max(TUNING.grid - 1)]

    def ask_along(self, rows: Tensor, points: Tensor, drop: Tensor) -> None:
        """Ask at ``points`` of these rows' ways and update the posterior by the likelihood of the answers."""
        held = self.account.ask(rows, points, "way") == self.right[rows]
        excess = (self.grid - self._u_at(drop)[:, None]) / TUNING.error_scale
        holds = TUNING.miss + (1 - TUNING.lapse - TUNING.miss) / (1 + (-excess).exp())
        joint = self.weights[rows] * torch.where(held[:, None], holds, 1 - holds)
        evidence = row_sums(joint)
        self.weights[rows] = joint / evidence[:, None]
        likely = self.p_right[rows] * evidence
        self.p_right[rows] = likely / (likely + (1 - self.p_right[rows]) * (1 - TUNING.lapse))
        self._settle(rows[held], self.right[rows[held]])
        self.account.record(rows, self.value())

    def _u_at(self, drop: Tensor) -> Tensor:
        return torch.tanh(drop.clamp_min(0) / self.scale.saturation)

    def drop_at(self, u: Tensor) -> Tensor:
        """Return the log-odds drop h with tanh(h / s) = u, nats."""
        u = u.clamp(0, 1 - 1e-12)
        return self.scale.saturation * (torch.log1p(u) - torch.log1p(-u)) / 2  # torch.atanh rounds by the batch
