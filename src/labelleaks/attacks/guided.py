"""The guided attack: a few labels along ways that models point out tell how sure the target is of a candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from labelleaks import references, rng
from labelleaks.crafting import need_gradients
from labelleaks.domain import Box
from labelleaks.errors import InputError
from labelleaks.guidance import Ground, all_log_odds, councils, lead
from labelleaks.oracle import LabelOracle
from labelleaks.search.exact import mean_of, row_sums
from labelleaks.training import Recipe
from labelleaks.types import Candidates, Cost, Knowledge, Scores, Status, Trajectory, checkpoints_up_to

__all__ = ["Guided"]

_GROUP, _MOST_ROWS = 1 << 22, 1 << 14
"""Numbers in the candidates that are held at a time (16 MB; as much for each reference's gradient), and rows."""
_SCALE_ROWS = 512
_LEAST_SCALE = 1.0  # nats: models that learned nothing
SATURATION = 1.25
"""How sure the target can seem before more says nothing, in scales."""
DIFFICULTY = 0.3
"""Weight of what the references say themselves."""
SPREAD = 1.0
"""What counts of them is their mean plus so many standard deviations: the surest of those that never saw it."""
GRID = 64
"""Values of u that the belief tells apart."""
OPENING = 0.75
"""u at the first probe: between what members and others come to; later ones ask where it is as likely as not."""
DOUBT = 0.06
"""How far a way may mislead about u: scale of a logistic distribution."""
MISSED = 0.3
"""Chance that a label holds however far its way goes: the way leads past what would change it."""
LAPSE = 0.01
"""Chance that it gives way for no reason."""
GRAINS = (3 / 32, 6 / 32)
"""How smooth the ways of pictures are (:func:`labelleaks.guidance.lead`), two by two."""
SHARE_OF_TABLE, FEWEST = 0.25, 16
"""Share of the features that one way may change, where features cannot move a little; and about how many at least."""


@dataclass(frozen=True)
class Guided:
    """Some reference models say where to push, the others what a label there means, the target only whether it holds.

    1. Reference models r are trained on relabelled shadow rows; none has seen a candidate (x, y).
    2. Half of them are guides: their gradient leads x away from y, along a way whose *level* at each point is what the
       other half loses there on average, in nats of log-odds of y (:mod:`labelleaks.guidance`).
    3. The target is asked for x, then once along each way: the level h at which its label gives way is the target's own
       log-odds at x, which no label tells, but for what the way misleads. Each answer moves a belief about
       u = tanh(h / s) by Bayes' rule; the next way, which other halves lead, is asked at the level where the label is
       as likely as not to hold.
    4. Score: s E[u] - a (μ + σ), μ and σ the references' mean log-odds of y at x and their standard deviation. A member
       is one of which the target is sure, as of a training row, while models that never saw it, even the surest of
       them, are not.

    s = 1.25 times the references' median log-odds on their own training rows: beyond what a model gives to rows that it
    knows, more confidence says "easy", not "member". a = 0.3. A misclassified candidate takes the opposite ways: h is
    minus what has to be won before its label becomes right, and the score lies s lower: such candidates are ordered
    among themselves, mostly below the others.

    One label is enough for a score (x itself and the references' opinion), so ``trajectory`` starts at 1.

    Domains: in a Box a way is straight; in Binary and Mixed domains features change one after the other
    (a bit flips, a category is chosen, a number goes a quarter of its span), each way within a random quarter of them,
    some 16 at least.

    Args:
        labels: labels per candidate at most, 1 to 1,000.
        ways: ways per candidate, 1 to 64: one question each, so it stops by itself after ``ways`` + 1.
        votes: odd, at most ``labels``; for a target whose labels change. Each question is asked (votes + 1) / 2 times,
            and ``votes`` times where the answers differ, within the budget; the majority counts. Raise ``labels`` too.
        recipe: how torch references are trained; None: the shared default.

    ``details``, float64 (n,): ``target_log_odds`` (h), ``reference_log_odds`` (μ) and
    ``reference_spread`` (σ). With several votes ``agreement``, too: the share of answers that were the majority's to
    their question; 1 where no label ever changed. ``trajectory`` then starts at ``votes``.

    Needs shadow rows and references with gradients; ``knowledge.references`` of them, by default 8.

    Source: ours; see docs/guided.md. It joins the two adversaries of Li & Zhang (2007.15528).

    Raises:
        InputError: labels, ways or votes out of range, or an even number of votes.
    """

    name: ClassVar[str] = "guided"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False

    labels: int = 50
    ways: int = 12
    votes: int = 1
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        for name, most in (("labels", 1000), ("ways", 64), ("votes", self.labels)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise InputError(f"guided: {name} must be a whole number from 1 to {most}, got {value!r}")
        if self.votes % 2 == 0:
            raise InputError(f"guided: votes must be odd, for a majority, got {self.votes}")

    @property
    def _most(self) -> int:
        """Labels that a candidate can take: for itself and for each way, as often as there are votes."""
        return min(self.labels, (self.ways + 1) * self.votes)

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """``votes`` at least; set-up: a label per shadow row, bought once a run.

        Raises:
            NeedsError: there are no shadow rows, or the references' family has no gradients.
        """
        setup = references.setup_cost(knowledge)
        need_gradients(self.name, candidates, knowledge)
        return Cost(least=self.votes, most=max(self.votes, min(budget, self._most)), setup=setup)

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Ask for each candidate, then along its ways, one way after the other."""
        known = references.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        scale = _scale(known, knowledge.setup)
        most = min([self._most, *oracle.remaining().tolist()])
        said = all_log_odds(known.models, candidates.x, candidates.y)
        mean = mean_of(said)
        spread = mean_of((said - mean).square()).sqrt()
        sure = mean + SPREAD * spread
        readings = []
        for rows in _groups(candidates):
            x, y = candidates.x[rows], candidates.y[rows]
            ground = Ground(known.models, x, y, candidates.domain, said[:, rows])
            reading = _Reading(oracle, rows, ground, sure[rows], most, scale, self.votes)
            self._read(reading, candidates.streams, seed)
            readings.append(reading)
        return _scores(readings, most, {"reference_log_odds": mean, "reference_spread": spread})

    def _read(self, reading: _Reading, streams: Callable[[int, str], Tensor], seed: int) -> None:
        """One label for the candidates, then one along each way."""
        ground = reading.ground
        leading = councils(len(ground.models))
        reading.ask_for_candidates()
        for number in range(self.ways):
            council, turn = leading[number % len(leading)], number // len(leading)
            grain = GRAINS[(number // 2 + turn) % len(GRAINS)]
            for sign in (-1, +1):  # away from a label that holds, towards one that does not
                rows = reading.open(sign)
                if len(rows) == 0:
                    continue
                level = reading.level_of(reading.even(rows, first=number == 0))
                allowed = None
                if not isinstance(ground.domain, Box):
                    allowed = _allowed(ground, rows, streams(seed, f"guided way {number}")[reading.owner[rows]])
                reading.ask_along(rows, *lead(ground, council, rows, level, sign=sign, grain=grain, allowed=allowed))


def _allowed(ground: Ground, rows: Tensor, streams: Tensor) -> Tensor:
    """The features that one way may change where they cannot move a little: bool (k, *shape), a random part."""
    x = ground.x[rows]
    width = x[0].numel()
    return (rng.uniform(streams, width) < max(SHARE_OF_TABLE, FEWEST / width)).reshape(x.shape)


@dataclass(eq=False)
class _Reading:
    """What is known of some candidates: a belief about each one's u = tanh(h / s), the labels spent."""

    oracle: LabelOracle
    owner: Tensor
    """int64 (m,): which candidates"""
    ground: Ground
    """these candidates"""
    expected: Tensor
    """float64 (m,): how sure a model that never saw it may be of it, log-odds"""
    most: int
    scale: float
    votes: int
    right: Tensor = field(init=False)
    belief: Tensor = field(init=False)
    """float64 (m, GRID): weight of each value of |u|, at first all alike; a row's sum is 1"""
    spent: Tensor = field(init=False)
    agreeing: Tensor = field(init=False)
    """int64 (m,): answers that were the majority's to their question"""
    path: Tensor = field(init=False)

    def __post_init__(self) -> None:
        m, device = len(self.owner), self.owner.device
        self.right = torch.zeros(m, dtype=torch.bool, device=device)
        self.belief = torch.full((m, GRID), 1 / GRID, dtype=torch.float64, device=device)
        self.spent = torch.zeros(m, dtype=torch.int64, device=device)
        self.agreeing = torch.zeros(m, dtype=torch.int64, device=device)
        self.path = torch.zeros(self.most, m, dtype=torch.float64, device=device)

    @property
    def saturation(self) -> float:
        return SATURATION * self.scale

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
        shift = torch.where(self.right, 0.0, -self.saturation)
        return shift + self.saturation * self.u() - DIFFICULTY * self.expected

    def open(self, sign: int) -> Tensor:
        """Rows with labels left for a question that go this way."""
        return ((self.spent + self.votes <= self.most) & (self.right == (sign < 0))).nonzero().reshape(-1)

    def ask_for_candidates(self) -> None:
        rows = torch.arange(len(self.owner), device=self.owner.device)
        self.right = self._ask(rows, self.ground.x, "correct")
        self._note(rows)

    def even(self, rows: Tensor, *, first: bool) -> Tensor:
        """|u| where the label is as likely as not to give way before: float64 (k,)."""
        if first:
            return torch.full((len(rows),), OPENING, dtype=torch.float64, device=rows.device)
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
        self.belief[rows] = weight / row_sums(weight)[:, None]
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
        return torch.tanh(level.clamp_min(0) / self.saturation)

    def level_of(self, u: Tensor) -> Tensor:
        """The level h with tanh(h / s) = u, nats."""
        u = u.clamp(0, 1 - 1e-12)
        return self.saturation * (torch.log1p(u) - torch.log1p(-u)) / 2  # torch.atanh rounds by the batch


def _scale(known: references.References, setup: LabelOracle) -> float:
    """Return the references' median log-odds on rows that they were trained on, in nats: how sure such models get."""
    x, y = known.rows.x[:_SCALE_ROWS], known.rows.labels(setup)[:_SCALE_ROWS]
    return max(_LEAST_SCALE, float(all_log_odds(known.models, x, y.to(x.device)).median()))


def _groups(candidates: Candidates) -> tuple[Tensor, ...]:
    everyone = torch.arange(len(candidates), device=candidates.device)
    return tuple(everyone.split(max(1, min(_MOST_ROWS, _GROUP // max(1, candidates.width)))))


def _scores(readings: list[_Reading], most: int, details: dict[str, Tensor]) -> Scores:
    votes = readings[0].votes if readings else 1
    checkpoints = tuple(c for c in checkpoints_up_to(most) if c >= votes)
    at = torch.tensor(checkpoints) - 1
    right = torch.cat([r.right for r in readings])
    if votes > 1:
        spent = torch.cat([r.spent for r in readings]).clamp_min(1)
        details = {**details, "agreement": torch.cat([r.agreeing for r in readings]).double() / spent.double()}
    return Scores(
        value=torch.cat([r.value() for r in readings]),
        status=torch.where(right, int(Status.DONE), int(Status.MISCLASSIFIED)),
        queries=torch.cat([r.spent for r in readings]),
        trajectory=Trajectory(checkpoints, torch.cat([r.path[at.to(r.path.device)] for r in readings], 1)),
        details={"target_log_odds": torch.cat([r.log_odds() for r in readings]), **details},
    )
