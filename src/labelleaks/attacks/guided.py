"""The guided attack: a few labels along ways that models point out tell how sure the target is of a candidate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from labelleaks import references, rng
from labelleaks.crafting import need_gradients
from labelleaks.domain import Box
from labelleaks.errors import InputError
from labelleaks.guidance import Council, Way, all_log_odds, councils, follow
from labelleaks.oracle import LabelOracle
from labelleaks.search.exact import mean_of
from labelleaks.training import Recipe
from labelleaks.types import Candidates, Cost, Knowledge, Scores, Status, Trajectory, checkpoints_up_to

__all__ = ["Guided"]

_GROUP = 1 << 22
"""Numbers in the candidates whose ways are held at a time (16 MB); a way has some ten stations."""
_SCALE_ROWS = 512
_LEAST_SCALE = 1.0  # nats: models that learned nothing
SATURATION = 1.25
"""How sure the target can seem before more says nothing, in scales."""
FAR = 2.0
"""Where the first way may end, in scales: tanh has all but reached its end."""
DIFFICULTY = 0.3
"""Weight of what the references say themselves."""
SPREAD = 1.0
"""What counts of them is their mean plus so many standard deviations: the surest of those that never saw it."""
OPENING = 0.75
"""tanh(h / s) at the first probe: between what members and others come to."""
FIRST = 3
"""Halvings on the first way after that."""
NEXT = 2
"""Halvings on a later way, where its one probe gave way."""
SHARE_OF_TABLE, FEWEST = 0.25, 16
"""Share of the features that one way may change, where features cannot move a little; and about how many at least."""


@dataclass(frozen=True)
class Guided:
    """Some reference models say where to push, the others what a label there means, the target only whether it holds.

    1. Reference models r are trained on relabelled shadow rows; none has seen a candidate (x, y).
    2. Half of them are guides: their gradient leads x away from y, along a way whose *level* at each point is what the
       other half loses there on average, in nats of log-odds of y (:mod:`labelleaks.guidance`).
    3. The target is asked for x, then along the way: the level h at which its label gives way estimates the target's
       own log-odds at x, which no label tells. Halving goes by tanh(h / s), which is what the score makes of it.
    4. Other halves lead other ways. The smallest h counts, so a way costs one label where it does not go lower.
    5. Score: s tanh(h / s) - a (μ + σ), μ and σ the references' mean log-odds of y at x and their standard
       deviation. A member is one of which the target is sure, as of a training row, while models that never saw it,
       even the surest of them, are not.

    s = 1.25 times the references' median log-odds on their own training rows: beyond what a model gives to rows that it
    knows, more confidence says "easy", not "member". a = 0.3. A misclassified candidate takes the opposite ways: h is
    minus what has to be won before its label becomes right, and the score lies s lower: such candidates are ordered
    among themselves, mostly below the others.

    One label is enough for a score (x itself and the references' opinion), so ``trajectory`` starts at 1.

    Domains: in a Box a way bends with the gradient; in Binary and Mixed domains features change one after the other
    (a bit flips, a category is chosen, a number goes a quarter of its span), each way within a random quarter of them,
    some 16 at least.

    Args:
        labels: labels per candidate at most, 1 to 1,000; it stops by itself after some dozen.
        ways: ways per candidate at most.
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
    ways: int = 6
    votes: int = 1
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        for name, most in (("labels", 1000), ("ways", 64), ("votes", self.labels)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise InputError(f"guided: {name} must be a whole number from 1 to {most}, got {value!r}")
        if self.votes % 2 == 0:
            raise InputError(f"guided: votes must be odd, for a majority, got {self.votes}")

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """``votes`` at least, ``labels`` or the budget at most; set-up: a label per shadow row, bought once a run.

        Raises:
            NeedsError: there are no shadow rows, or the references' family has no gradients.
        """
        setup = references.setup_cost(knowledge)
        need_gradients(self.name, candidates, knowledge)
        return Cost(least=self.votes, most=max(self.votes, min(budget, self.labels)), setup=setup)

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Ask for each candidate, then along its ways, one way after the other."""
        known = references.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        scale = _scale(known, knowledge.setup)
        leading = councils(known.models, self.ways)
        most = min([self.labels, *oracle.remaining().tolist()])
        said = all_log_odds(known.models, candidates.x, candidates.y)
        mean = mean_of(said)
        spread = mean_of((said - mean).square()).sqrt()
        sure = mean + SPREAD * spread
        readings = [
            _Reading(oracle, candidates, rows, sure[rows], most, scale, self.votes) for rows in _groups(candidates)
        ]
        for reading in readings:
            self._read(reading, leading, seed)
        return _scores(readings, most, {"reference_log_odds": mean, "reference_spread": spread})

    def _read(self, reading: _Reading, leading: tuple[Council, ...], seed: int) -> None:
        reading.ask_for_candidates()
        for number, council in enumerate(leading):
            for sign in (-1, +1):  # away from a label that holds, towards one that does not
                rows = reading.open(sign)
                if len(rows) == 0:
                    continue
                stream = f"guided way {number}"
                if number == 0:
                    reading.halve(rows, reading.way(rows, council, sign, reading.far(rows), seed, stream))
                else:
                    reading.undercut(rows, reading.way(rows, council, sign, reading.believed(rows), seed, stream))


@dataclass(eq=False)
class _Reading:
    """What is known of some candidates: the bracket of u = tanh(h / s), ever narrower and lower, the labels spent."""

    oracle: LabelOracle
    candidates: Candidates
    owner: Tensor
    """int64 (m,): which candidates"""
    expected: Tensor
    """float64 (m,): how sure a model that never saw it may be of it, log-odds"""
    most: int
    scale: float
    votes: int
    right: Tensor = field(init=False)
    low: Tensor = field(init=False)
    high: Tensor = field(init=False)
    spent: Tensor = field(init=False)
    agreeing: Tensor = field(init=False)
    """int64 (m,): answers that were the majority's to their question"""
    path: Tensor = field(init=False)

    def __post_init__(self) -> None:
        m, device = len(self.owner), self.owner.device
        self.right = torch.zeros(m, dtype=torch.bool, device=device)
        self.low = torch.zeros(m, dtype=torch.float64, device=device)
        self.high = torch.ones(m, dtype=torch.float64, device=device)
        self.spent = torch.zeros(m, dtype=torch.int64, device=device)
        self.agreeing = torch.zeros(m, dtype=torch.int64, device=device)
        self.path = torch.zeros(self.most, m, dtype=torch.float64, device=device)

    @property
    def saturation(self) -> float:
        return SATURATION * self.scale

    def u(self) -> Tensor:
        """The middle of the bracket: negative where the label is wrong."""
        middle = (self.low + self.high) / 2
        return torch.where(self.right, middle, -middle)

    def log_odds(self) -> Tensor:
        """h, float64 (m,)."""
        u = self.u()
        return u.sign() * self._level_of(u.abs())

    def value(self) -> Tensor:
        """The score, float64 (m,)."""
        shift = torch.where(self.right, 0.0, -self.saturation)
        return shift + self.saturation * self.u() - DIFFICULTY * self.expected

    def open(self, sign: int) -> Tensor:
        """Rows with labels left for a question that go this way."""
        return ((self.spent + self.votes <= self.most) & (self.right == (sign < 0))).nonzero().reshape(-1)

    def ask_for_candidates(self) -> None:
        rows = torch.arange(len(self.owner), device=self.owner.device)
        self.right = self._ask(rows, self.candidates.x[self.owner], "correct")
        self._note(rows)

    def far(self, rows: Tensor) -> Tensor:
        """The level where the first way may end: float64 (k,)."""
        return torch.full((len(rows),), FAR * self.scale, dtype=torch.float64, device=rows.device)

    def believed(self, rows: Tensor) -> Tensor:
        """The level at which the label is believed to give way: float64 (k,)."""
        return self._level_of((self.low[rows] + self.high[rows]) / 2)

    def way(self, rows: Tensor, council: Council, sign: int, end: Tensor, seed: int, stream: str) -> Way:
        owner, domain = self.owner[rows], self.candidates.domain
        x = self.candidates.x[owner]
        allowed = torch.ones_like(x, dtype=torch.bool)
        if not isinstance(domain, Box):
            width = self.candidates.width
            draws = rng.uniform(self.candidates.streams(seed, stream)[owner], width)
            allowed = (draws < max(SHARE_OF_TABLE, FEWEST / width)).reshape(x.shape)
        y = self.candidates.y[owner]
        return follow(council, x, y, domain, allowed, sign=sign, scale=self.scale, end=end)

    def halve(self, rows: Tensor, way: Way) -> None:
        """The first way: bring the bracket down to its end, probe once where it tells most, then halve it."""
        self.high[rows] = self._u_of(way.end())
        self._probe(rows, way, OPENING * self.high[rows])
        for _ in range(FIRST):
            self._probe(rows, way, (self.low[rows] + self.high[rows]) / 2)

    def undercut(self, rows: Tensor, way: Way) -> None:
        """A later way: does the label give way where it is believed to? Then the bracket starts at 0 again."""
        middle = (self.low[rows] + self.high[rows]) / 2
        there = (middle <= self._u_of(way.end())).nonzero().reshape(-1)
        rows, way = rows[there], way.of(there)
        gave_way = self._probe(rows, way, middle[there], falls_to=0.0).nonzero().reshape(-1)
        rows, way = rows[gave_way], way.of(gave_way)
        for _ in range(NEXT):
            self._probe(rows, way, (self.low[rows] + self.high[rows]) / 2)

    def _probe(self, rows: Tensor, way: Way, u: Tensor, *, falls_to: float | None = None) -> Tensor:
        """Ask at these heights of the ways of these rows, while there are labels left; return where the label gave way.

        ``falls_to``: a probe of another way says nothing about where this one gives way, but that it does so by then;
        so where it held nothing is learned of the bracket, and where it gave way the bracket reaches down to this.
        """
        can = (self.spent[rows] + self.votes <= self.most).nonzero().reshape(-1)
        asked, level = way.at(can, self._level_of(u[can]))
        reached = self._u_of(level)
        held = self._ask(rows[can], asked, "way") == self.right[rows[can]]
        held_rows, broke_rows = rows[can[held]], rows[can[~held]]
        self.high[broke_rows] = torch.minimum(self.high[broke_rows], reached[~held])
        if falls_to is None:
            self.low[held_rows] = torch.minimum(torch.maximum(self.low[held_rows], reached[held]), self.high[held_rows])
        else:
            self.low[broke_rows] = falls_to
        self._note(rows[can])
        gave_way = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        gave_way[can[~held]] = True
        return gave_way

    def _ask(self, rows: Tensor, x: Tensor, phase: str) -> Tensor:
        """Return whether the target gives these rows' candidates' labels to these inputs, by majority."""
        x, majority = self.candidates.domain.project(x), self.votes // 2 + 1
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
        owner = self.owner[rows]
        answers = [self.oracle.query(x, owner, phase=phase) == self.candidates.y[owner] for _ in range(times)]
        return torch.stack(answers).sum(0)

    def _note(self, rows: Tensor) -> None:
        """Enter the score of these rows, whose last label is number ``spent``, from there to the end of the path."""
        after = torch.arange(1, self.most + 1, device=rows.device)[:, None] >= self.spent[rows]
        self.path[:, rows] = torch.where(after, self.value()[rows], self.path[:, rows])

    def _u_of(self, level: Tensor) -> Tensor:
        return torch.tanh(level.clamp_min(0) / self.saturation)

    def _level_of(self, u: Tensor) -> Tensor:
        u = u.clamp(0, 1 - 1e-12)
        return self.saturation * (torch.log1p(u) - torch.log1p(-u)) / 2  # torch.atanh rounds by the batch


def _scale(known: references.References, setup: LabelOracle) -> float:
    """Return the references' median log-odds on rows that they were trained on, in nats: how sure such models get."""
    x, y = known.rows.x[:_SCALE_ROWS], known.rows.labels(setup)[:_SCALE_ROWS]
    return max(_LEAST_SCALE, float(all_log_odds(known.models, x, y.to(x.device)).median()))


def _groups(candidates: Candidates) -> tuple[Tensor, ...]:
    everyone = torch.arange(len(candidates), device=candidates.device)
    return tuple(everyone.split(max(1, _GROUP // max(1, candidates.width))))


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
