"""The guided attack: a few labels along ways that models point out tell how sure the target is of a candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from labelleaks.attacks._guided.directions import Ground, all_log_odds, councils, lead, spread_of
from labelleaks.attacks._guided.posterior import Measure, Reading, dulled
from labelleaks.attacks.surrogate_gradients import need_gradients
from labelleaks.core import rng
from labelleaks.core.attack import Cost, Knowledge, ShadowRows
from labelleaks.core.batch_invariant import mean_of
from labelleaks.core.domains import Box, Domain
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Trajectory, checkpoints_up_to
from labelleaks.core.validation import optional, whole
from labelleaks.models import reference_models
from labelleaks.models.training import Recipe

__all__ = ["Guided"]

_GROUP, _MOST_ROWS = 1 << 22, 1 << 14
"""Numbers in the candidates that are held at a time (16 MB; as much for each reference's gradient), and rows."""
_SHADOW_ROWS = 512
"""Rows that the references are asked about, of those that they know and of those that they do not."""
_LEAST_SCALE = 1.0  # nats: models that learned nothing
DEVIATIONS = 1.0
"""What counts of the references is their mean plus so many standard deviations: the surest that never saw it."""
GRAINS = (3 / 32, 6 / 32)
"""How smooth the ways of pictures are (:func:`labelleaks.attacks._guided.directions.lead`), two by two."""
SATURATION = 1.25
"""s, in the references' median log-odds on rows that they know."""
FORETOLD, WEIGHT, USUAL = 0.65, 0.3, 0.4
"""The share of labels that references foretell of rows that no model saw, as on development data; a where they do;
and how sure they are of such rows there, in s."""
SLOPE, MOST = 0.75, 0.6
"""What a gains with that share where it is larger, and the most."""
PRIOR_ROWS = 10
"""Held-out rows that these values are worth."""
WAYS, WAYS_OF_TABLE = 12, 19
SHARE_OF_TABLE, FEWEST = 0.25, 16
"""Share of the features that one way may change, where features cannot move a little; and about how many at least."""


@dataclass(frozen=True)
class Guided:
    """Some reference models say where to push, the others what a label there means, the target only whether it holds.

    1. Reference models r are trained on relabelled shadow rows; none has seen a candidate (x, y).
    2. Half of them are guides: their gradient leads x away from y, along a way whose *level* at each point is what the
       other half loses there on average, in nats of log-odds of y (:mod:`labelleaks.attacks._guided.directions`).
    3. The target is asked once along each way: the level h at which its label gives way is the target's own log-odds
       at x, which no label tells, but for what the way misleads. Each answer moves a belief about u = tanh(h / s) by
       Bayes' rule; the next way, which other halves lead, is asked at the level of the belief's median. A
       label that holds on the first way holds at x, but for accidents: x itself is asked for at the end. Where it gives
       way there, x is asked for next.
    4. Score: s E[u] - 2 a s tanh((μ + σ) / 2 s), with the references' mean log-odds of y at x, μ, and their standard
       deviation σ. A member is one of which the target is sure, as of a training row, while models that never saw it,
       even the surest of them, are not.

    s = 1.25 times the references' median log-odds on their own training rows: beyond what a model gives to rows that it
    knows, more confidence says "easy", not "member". a = 0.3 where the references foretell up to 65 % of the target's
    labels for rows that no model saw (the held-out shadow rows), 0.0075 more for each per cent beyond, at most 0.6: the
    better such models know what the target will say, the more of its confidence they explain. A misclassified candidate
    takes the opposite ways: h is minus what has to be won before its label becomes right, and the score lies s lower:
    such candidates are ordered among themselves, mostly below the others.

    One label is enough for a score, so ``trajectory`` starts at 1: a candidate whose label gave way before x was asked
    for (``Status.UNASKED``) lies between its scores as a right and as a wrong one.

    Domains: in a Box a way is straight; in Binary and Mixed domains features change one after the other
    (a bit flips, a category is chosen, a number goes two standard deviations), each way within a random quarter of
    them, some 16 at least. All is measured in what the features vary by in the shadow rows: one that never varies there
    stays.

    Args:
        labels: labels per candidate at most, 1 to 1,000.
        ways: ways per candidate, 1 to 64: one question each and one for x, so it stops by itself after ``ways`` + 1.
            None: 12 in a Box, where more tell next to nothing new, and 19 elsewhere.
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
    ways: int | None = None
    votes: int = 1
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        whole(self, "labels", 1, 1000)
        if self.ways is not None:
            whole(self, "ways", 1, 64)
        whole(self, "votes", 1, "labels", odd=True)
        optional(self, "recipe", Recipe)

    def _ways_in(self, domain: Domain) -> int:
        return self.ways or (WAYS if isinstance(domain, Box) else WAYS_OF_TABLE)

    def _most(self, domain: Domain) -> int:
        """Labels that a candidate can take: for each way and for itself, as often as there are votes."""
        return min(self.labels, (self._ways_in(domain) + 1) * self.votes)

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """``votes`` at least; set-up: a label per shadow row, bought once a run.

        Raises:
            NeedsError: there are no shadow rows, or the references' family has no gradients.
        """
        setup = reference_models.setup_cost(knowledge)
        need_gradients(self.name, candidates, knowledge)
        return Cost(least=self.votes, most=max(self.votes, min(budget, self._most(candidates.domain))), setup=setup)

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Ask along each candidate's ways, one way after the other, and once for it itself."""
        known = reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        measure = _measure(known, knowledge.setup)
        spread = spread_of(known.rows.x, candidates.domain).to(candidates.device)
        most = min([self._most(candidates.domain), *oracle.remaining().tolist()])
        said = all_log_odds(known.models, candidates.x, candidates.y)
        mean, deviation, sure = _summary(said)
        readings = []
        for rows in _groups(candidates):
            x, y = candidates.x[rows], candidates.y[rows]
            ground = Ground(known.models, x, y, candidates.domain, said[:, rows], spread)
            reading = Reading(oracle, rows, ground, sure[rows], most, measure, self.votes)
            self._read(reading, candidates.streams, seed)
            readings.append(reading)
        return _scores(readings, most, {"reference_log_odds": mean, "reference_spread": deviation})

    def _read(self, reading: Reading, streams: Callable[[int, str], Tensor], seed: int) -> None:
        """One label along each way; for the candidate second, if its label gave way on the first one, or last."""
        away, towards = -1, +1
        self._ask_along(reading, 0, away, streams, seed)
        reading.ask_for_candidates(~reading.known)
        for number in range(1, self._ways_in(reading.ground.domain)):
            for sign in (away, towards):  # away from a label that holds, towards one that does not
                self._ask_along(reading, number, sign, streams, seed)
        reading.ask_for_candidates(~reading.asked)

    def _ask_along(
        self, reading: Reading, number: int, sign: int, streams: Callable[[int, str], Tensor], seed: int
    ) -> None:
        rows = reading.open(sign)
        if len(rows) == 0:
            return
        ground = reading.ground
        leading = councils(len(ground.models))
        turn, place = divmod(number, len(leading))
        council, grain = leading[place], GRAINS[(place // 2 + turn) % len(GRAINS)]  # each turn pairs them anew
        allowed = None
        if not isinstance(ground.domain, Box):
            allowed = _allowed(ground, rows, streams(seed, f"guided way {number}")[reading.owner[rows]])
        level = reading.level_of(reading.even(rows, first=number == 0))
        reading.ask_along(rows, *lead(ground, council, rows, level, sign=sign, grain=grain, allowed=allowed))


def _allowed(ground: Ground, rows: Tensor, streams: Tensor) -> Tensor:
    """The features that one way may change where they cannot move a little: bool (k, *shape), a random part."""
    x = ground.x[rows]
    width = x[0].numel()
    return (rng.uniform(streams, width) < max(SHARE_OF_TABLE, FEWEST / width)).reshape(x.shape)


def _measure(known: reference_models.References, setup: LabelOracle) -> Measure:
    """Learn s, a and how sure is usual from shadow rows: those that the references know, and those that they do not."""
    own, fresh = (_said_of(rows, known, setup) for rows in (known.rows, known.held))
    saturation = SATURATION * max(_LEAST_SCALE, float(own.median()))
    foretold = _tempered(int((fresh > 0).sum()) / len(fresh), fresh.shape[1], FORETOLD)
    sure = float(dulled(_summary(fresh)[2], saturation).sum())
    weight = min(MOST, WEIGHT + SLOPE * max(0.0, foretold - FORETOLD))
    return Measure(saturation, weight, _tempered(sure, fresh.shape[1], USUAL * saturation))


def _tempered(total: float, count: int, usual: float) -> float:
    """The mean of ``count`` values and of ``PRIOR_ROWS`` more that are as usual."""
    return (total + PRIOR_ROWS * usual) / (count + PRIOR_ROWS)


def _summary(said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """μ, σ and what counts of them, of the models' log-odds (R, n): float64 (n,) each."""
    mean = mean_of(said)
    deviation = mean_of((said - mean).square()).sqrt()
    return mean, deviation, mean + DEVIATIONS * deviation


def _said_of(rows: ShadowRows, known: reference_models.References, setup: LabelOracle) -> Tensor:
    """The references' log-odds of the target's labels for the first of these rows: float64 (R, n)."""
    x, y = rows.x[:_SHADOW_ROWS], rows.labels(setup)[:_SHADOW_ROWS]
    return all_log_odds(known.models, x, y.to(x.device))


def _groups(candidates: Candidates) -> tuple[Tensor, ...]:
    everyone = torch.arange(len(candidates), device=candidates.device)
    return tuple(everyone.split(max(1, min(_MOST_ROWS, _GROUP // max(1, candidates.width)))))


def _scores(readings: list[Reading], most: int, details: dict[str, Tensor]) -> Scores:
    votes = readings[0].votes if readings else 1
    checkpoints = tuple(c for c in checkpoints_up_to(most) if c >= votes)
    at = torch.tensor(checkpoints) - 1
    if votes > 1:
        spent = torch.cat([r.spent for r in readings]).clamp_min(1)
        details = {**details, "agreement": torch.cat([r.agreeing for r in readings]).double() / spent.double()}
    return Scores(
        value=torch.cat([r.value() for r in readings]),
        status=torch.cat([r.status() for r in readings]),
        queries=torch.cat([r.spent for r in readings]),
        trajectory=Trajectory(checkpoints, torch.cat([r.path[at.to(r.path.device)] for r in readings], 1)),
        details={"target_log_odds": torch.cat([r.log_odds() for r in readings]), **details},
    )
