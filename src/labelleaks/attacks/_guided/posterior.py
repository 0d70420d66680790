"""What a few answers along ways tell of a target's log-odds: a belief for each candidate, moved by Bayes' rule."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from labelleaks.attacks._guided.directions import Ground
from labelleaks.core.batch_invariant import mean_of, row_sums
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Status

__all__ = ["Measure", "Reading", "dulled"]

EASY = 2.0
"""How sure the references can seem before more says nothing, in s."""
GRID = 64
"""Values of u that the belief tells apart."""
OPENING = 0.72
"""u at the first probe, between what members and others come to, where the references are as sure as they are of any
row; more where they are surer. Later ones ask at the belief's median."""
DOUBT = 0.06
"""How far a way may mislead about u: scale of a logistic distribution."""
MISSED = 0.3
"""Chance that a label holds however far its way goes: the way leads past what would change it."""
LAPSE = 0.01
"""Chance that it gives way for no reason."""
_OPENINGS = (0.3, 0.95)


def dulled(sure: Tensor, saturation: float) -> Tensor:
    """How sure the references are as far as it counts, nats: 2 s tanh(x / 2 s)."""
    easy = EASY * saturation
    return easy * torch.tanh(sure / easy)


@dataclass(frozen=True)
class Measure:
    """What answers are held against in this run."""

    saturation: float
    """s, nats: how sure the target can seem before more says nothing; above 0"""
    weight: float
    """a: how much counts how sure the references are"""
    usual: float
    """how sure they are, dulled, of rows that no model saw, on average; nats"""

    def opening(self, sure: Tensor) -> Tensor:
        """|u| at the first probe: it rises with how sure the references are, half as steeply as the score does."""
        farther = (dulled(sure, self.saturation) - self.usual) / (2 * self.saturation)
        return (OPENING + self.weight * farther).clamp(*_OPENINGS)


@dataclass(eq=False)
class Reading:
    """What is known of some candidates: a belief about each one's u = tanh(h / s), the labels spent."""

    oracle: LabelOracle
    owner: Tensor
    """int64 (m,): which candidates"""
    ground: Ground
    """these candidates"""
    expected: Tensor
    """float64 (m,): how sure a model that never saw it may be of it, log-odds"""
    most: int
    measure: Measure
    votes: int
    right: Tensor = field(init=False)
    """bool (m,): whether the target gives the label to the candidate; presumed until ``known``"""
    known: Tensor = field(init=False)
    """bool (m,): whether it has been asked for, or the label held on the way, where a wrong one hardly ever would"""
    asked: Tensor = field(init=False)
    """bool (m,): whether it has been asked for"""
    chance: Tensor = field(init=False)
    """float64 (m,): that it does"""
    belief: Tensor = field(init=False)
    """float64 (m, GRID): weight of each value of |u|, at first all alike; a row's sum is 1"""
    spent: Tensor = field(init=False)
    agreeing: Tensor = field(init=False)
    """int64 (m,): answers that were the majority's to their question"""
    path: Tensor = field(init=False)

    def __post_init__(self) -> None:
        m, device = len(self.owner), self.owner.device
        self.right = torch.ones(m, dtype=torch.bool, device=device)
        self.known = torch.zeros(m, dtype=torch.bool, device=device)
        self.asked = torch.zeros(m, dtype=torch.bool, device=device)
        self.chance = (
            1 + mean_of(torch.sigmoid(self.ground.said))
        ) / 2  # a member's is right, another's as often as theirs
        self.belief = torch.full((m, GRID), 1 / GRID, dtype=torch.float64, device=device)
        self.spent = torch.zeros(m, dtype=torch.int64, device=device)
        self.agreeing = torch.zeros(m, dtype=torch.int64, device=device)
        self.path = torch.zeros(self.most, m, dtype=torch.float64, device=device)

    @property
    def grid(self) -> Tensor:
        """The values of |u|: float64 (GRID,)."""
        return (torch.arange(GRID, dtype=torch.float64, device=self.owner.device) + 0.5) / GRID

    def u(self) -> Tensor:
        """E[u], float64 (m,): negative where the label is wrong."""
        mean = row_sums(self.belief * self.grid)
        return torch.where(self.right, mean, -mean)

    def log_odds(self) -> Tensor:
        """h, float64 (m,)."""
        u = self.u()
        return u.sign() * self.level_of(u.abs())

    def value(self) -> Tensor:
        """The score, float64 (m,)."""
        as_wrong = torch.where(self.known, self.u(), -0.5) - 1  # in between: u and -1/2, weighed by the chances
        u = self.chance * self.u() + (1 - self.chance) * as_wrong
        s = self.measure.saturation
        return s * u - self.measure.weight * dulled(self.expected, s)

    def status(self) -> Tensor:
        ended = torch.where(self.right, int(Status.DONE), int(Status.MISCLASSIFIED))
        return torch.where(self.known, ended, int(Status.UNASKED))

    def open(self, sign: int) -> Tensor:
        """Rows with labels left for a question that go this way."""
        return ((self.spent + self.votes <= self.most) & (self.right == (sign < 0))).nonzero().reshape(-1)

    def ask_for_candidates(self, among: Tensor) -> None:
        """Ask whether the label of these is right, bool (m,), where labels are left for the question."""
        rows = (among & (self.spent + self.votes <= self.most)).nonzero().reshape(-1)
        right = self._ask(rows, self.ground.x[rows], "correct")
        self.belief[rows[~right]] = 1 / GRID  # what was asked so far was asked of a right one
        self.asked[rows] = True
        self._settle(rows, right)
        self._note(rows)

    def _settle(self, rows: Tensor, right: Tensor) -> None:
        self.right[rows], self.known[rows], self.chance[rows] = right, True, right.to(torch.float64)

    def even(self, rows: Tensor, *, first: bool) -> Tensor:
        """|u| to ask at, float64 (k,): the belief's median, as likely exceeded as not; at first there is none."""
        if first:
            return self.measure.opening(self.expected[rows])
        below = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        place = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        for column in self.belief[rows].unbind(1):
            below = below + column
            place = place + (below < 0.5)
        return self.grid[place.clamp_max(GRID - 1)]

    def ask_along(self, rows: Tensor, points: Tensor, level: Tensor) -> None:
        """Ask at these points, of these levels, of these rows' ways; weigh what each |u| says of the answer."""
        held = self._ask(rows, points, "way") == self.right[rows]
        farther = (self.grid - self._u_of(level)[:, None]) / DOUBT  # by how much each value lies beyond
        holds = MISSED + (1 - LAPSE - MISSED) / (1 + (-farther).exp())
        weight = self.belief[rows] * torch.where(held[:, None], holds, 1 - holds)
        expected = row_sums(weight)
        self.belief[rows] = weight / expected[:, None]
        likely = self.chance[rows] * expected
        self.chance[rows] = likely / (likely + (1 - self.chance[rows]) * (1 - LAPSE))
        self._settle(rows[held], self.right[rows[held]])
        self._note(rows)

    def _ask(self, rows: Tensor, x: Tensor, phase: str) -> Tensor:
        """Return whether the target gives these rows' candidates' labels to these inputs, by majority."""
        x, majority = self.ground.domain.project(x), self.votes // 2 + 1
        right = self._count(rows, x, majority, phase)
        asked = torch.full_like(right, majority)
        torn = ((right > 0) & (right < majority)).nonzero().reshape(-1)
        if len(torn):
            right[torn] += self._count(rows[torn], x[torn], self.votes - majority, phase)
            asked[torn] = self.votes
        self.spent[rows] += asked
        self.agreeing[rows] += torch.maximum(right, asked - right)
        return 2 * right > asked

    def _count(self, rows: Tensor, x: Tensor, times: int, phase: str) -> Tensor:
        """Ask ``times`` times; return how many answers were the candidate's label, int64 (k,)."""
        owner, y = self.owner[rows], self.ground.y[rows]
        answers = [self.oracle.query(x, owner, phase=phase) == y for _ in range(times)]
        return torch.stack(answers).sum(0)

    def _note(self, rows: Tensor) -> None:
        """Enter the score of these rows, whose last label is number ``spent``, from there to the end of the path."""
        after = torch.arange(1, self.most + 1, device=rows.device)[:, None] >= self.spent[rows]
        self.path[:, rows] = torch.where(after, self.value()[rows], self.path[:, rows])

    def _u_of(self, level: Tensor) -> Tensor:
        return torch.tanh(level.clamp_min(0) / self.measure.saturation)

    def level_of(self, u: Tensor) -> Tensor:
        """The level h with tanh(h / s) = u, nats."""
        u = u.clamp(0, 1 - 1e-12)
        return self.measure.saturation * (torch.log1p(u) - torch.log1p(-u)) / 2  # torch.atanh rounds by the batch
