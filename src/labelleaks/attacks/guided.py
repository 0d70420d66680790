"""The guided attack: infers the target's log-odds of a candidate from a few labels along ascent directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from labelleaks.attacks._guided.directions import StartPoints, ensemble_log_odds, feature_scale, perturb_to, splits
from labelleaks.attacks._guided.label_account import LabelAccount
from labelleaks.attacks._guided.likelihood import LikelihoodRatios, single_changes_of
from labelleaks.attacks._guided.posterior import Posterior, ScoreScale, saturated
from labelleaks.attacks._guided.tuning import TUNING
from labelleaks.attacks._guided.word_paths import some_words
from labelleaks.attacks.single_changes import SingleChanges, need_directions
from labelleaks.core import rng
from labelleaks.core.attack import About, Cost, Knowledge, ShadowRows
from labelleaks.core.batch_invariant import mean_of
from labelleaks.core.domains import Domain, token_columns
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Trajectory, checkpoints_up_to
from labelleaks.core.validation import optional, whole
from labelleaks.models import reference_models
from labelleaks.models.shadow_model import ShadowModel
from labelleaks.models.training import Recipe

__all__ = ["Guided"]

_VALUES_AT_A_TIME, _ROWS_AT_A_TIME = 1 << 22, 1 << 14
"""Candidates' features that are held at a time (16 MB; as much for each reference's gradient), and rows."""


@dataclass(frozen=True)
class Guided:
    """Membership score from the target's log-odds, inferred from labels along a reference-model ensemble's directions.

    1. Reference models r are trained on relabelled shadow rows; none has seen a candidate (x, y).
    2. Half of them direct a *way*: an ascent direction of their loss, away from x. The other half measure each point
       on it by their mean *log-odds drop* from x, in nats (:mod:`labelleaks.attacks._guided.directions`).
    3. The target is asked once along each way. Its own log-odds at x, h, are about the drop at which its label gives
       way, up to an error of the way. Each answer updates a posterior over u = tanh(h / s) by Bayes' rule; the next
       way, of another split of the references, is asked at the drop of the posterior's median. A label that holds on
       the first way holds at x but for accidents, and x itself is asked for at the end. Where it gives way there, x
       is asked for next.
    4. Score: s E[u] - 2 a s tanh((μ + σ) / 2 s), with the mean μ and standard deviation σ of the references' log-odds
       of y at x. A member is a row on which the target is as confident as on a training row, while models that never
       saw it, even the most confident of them, are not.

    s = 1.25 times the references' median log-odds on their own training rows: beyond what a model gives to rows that it
    was trained on, more confidence says "easy", not "member". a = 0.3 where the references agree with up to 65 % of the
    target's labels on held-out shadow rows, 0.0075 more for each per cent beyond, at most 0.6: the better such models
    predict the target, the more of its confidence they explain. A misclassified candidate takes ways in the opposite
    direction: h is minus the gain that makes its label right, and the score lies s lower, so such candidates are
    ordered among themselves, mostly below the others.

    One label is enough for a score, so ``trajectory`` starts at 1: a candidate whose label gave way before x was asked
    for (``Status.UNASKED``) lies between its scores as a right and as a wrong one.

    Domains: in a continuous one (Box) a way is straight; in others features change one after the other (a bit flips, a
    category is chosen, a number goes two standard deviations), each way within a random quarter of them, some 16 at
    least. Steps are measured in the features' standard deviations over the shadow rows: a feature that never varies
    there stays.

    References without gradients (trees, the default of tables; rows of at most 1,024 features) answer in steps, as the
    target of a table mostly does. With them x is asked for first, then x with one feature changed, those changes first
    at which half of the references are least sure of y. Where the other half keep y with probability p, a label that
    holds adds -log p, one that gives way log(1 - p). Score: that of x, plus the mean of those of its changes
    (:mod:`labelleaks.attacks._guided.likelihood`); there is no h.

    Args:
        labels: labels per candidate at most, 1 to 1,000.
        ways: ways per candidate, 1 to 64: one question each and one for x, so it stops by itself after ``ways`` + 1.
            None: 12 in a continuous domain, where more tell next to nothing new, and 19 elsewhere.
        votes: odd, at most ``labels``; for a target whose labels change. Each question is asked (votes + 1) / 2 times,
            and ``votes`` times where the answers differ, within the budget; the majority counts. Raise ``labels`` too.
        recipe: how torch references are trained; None: the shared default.

    ``details``, float64 (n,): ``target_log_odds`` (h), ``reference_log_odds`` (μ) and
    ``reference_spread`` (σ). With several votes ``agreement``, too: the share of answers that were the majority's to
    their question; 1 where no label ever changed. ``trajectory`` then starts at ``votes``.

    Needs shadow rows; ``knowledge.references`` references, by default 8.

    Source: ours; see docs/guided.md. It joins the two adversaries of Li & Zhang (2007.15528).

    Raises:
        InputError: labels, ways or votes out of range, or an even number of votes.
    """

    name: ClassVar[str] = "guided"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Goes where models that never saw the record lose confidence in it, and asks how far the label holds; members "
        "hold on longer than such models would.",
        "how sure the model is, beside reference models",
        relabels=True,
    )

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

    def _ways_in(self, domain: Domain, shape: Sequence[int]) -> int:
        if self.ways is not None or domain.continuous:
            return self.ways or TUNING.ways
        texts = all(group.kind == "token" for group in domain.groups(shape))
        return TUNING.ways_of_text if texts else TUNING.ways_of_table

    def _most(self, candidates: Candidates) -> int:
        """Labels that a candidate can take: for each way and for itself, as often as there are votes."""
        return min(self.labels, (self._ways_in(candidates.domain, candidates.shape) + 1) * self.votes)

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """``votes`` at least; set-up: a label per shadow row, bought once a run.

        Raises:
            NeedsError: there are no shadow rows, or rows too wide for a family of references without gradients.
        """
        setup = reference_models.setup_cost(knowledge)
        need_directions(self.name, candidates, knowledge)
        return Cost(least=self.votes, most=max(self.votes, min(budget, self._most(candidates))), setup=setup)

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Relabel the shadow rows and train the reference models, unless that was done."""
        self.cost(candidates, knowledge, 1)
        reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Ask along each candidate's ways, one way after the other, and once for it itself."""
        references = reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        scale = fitted_scale(references, knowledge.setup)
        features = feature_scale(references.rows.x, candidates.domain).to(candidates.device)
        most = min([self._most(candidates), *oracle.remaining().tolist()])
        log_odds = ensemble_log_odds(references.models, candidates.x, candidates.y)
        mean, deviation, upper = _summary(log_odds)
        details = {"reference_log_odds": mean, "reference_spread": deviation}
        if _in_steps(references.models, candidates):
            changes = SingleChanges.of(candidates.domain, features)
            parts = [
                self._by_changes(oracle, candidates, rows, references.models, changes, mean, most)
                for rows in _batches(candidates)
            ]
            return _scores(parts, most, details)
        posteriors = []
        for rows in _batches(candidates):
            x, y = candidates.x[rows], candidates.y[rows]
            start = StartPoints(references.models, x, y, candidates.domain, log_odds[:, rows], features)
            account = LabelAccount(oracle, rows, y, candidates.domain, most, self.votes)
            posterior = Posterior(account, start, upper[rows], scale)
            self._ask_all(posterior, candidates.streams, seed)
            posteriors.append(posterior)
        details = {"target_log_odds": torch.cat([p.log_odds() for p in posteriors]), **details}
        return _scores(posteriors, most, details)

    def _by_changes(
        self,
        oracle: LabelOracle,
        candidates: Candidates,
        rows: Tensor,
        models: tuple[ShadowModel, ...],
        changes: SingleChanges,
        log_odds: Tensor,
        most: int,
    ) -> LikelihoodRatios:
        """Ask for each candidate, then for its single changes, one after the other."""
        questions = single_changes_of(
            candidates, rows, models, changes, self._ways_in(candidates.domain, candidates.shape)
        )
        account = LabelAccount(oracle, rows, candidates.y[rows], candidates.domain, most, self.votes)
        ratios = LikelihoodRatios(account, candidates.x[rows], log_odds[rows])
        for number in range(questions.log_odds.shape[1]):
            ratios.ask(questions, number)
        return ratios

    def _ask_all(self, posterior: Posterior, streams: Callable[[int, str], Tensor], seed: int) -> None:
        """One label along each way; for the candidate second, if its label gave way on the first one, or last."""
        away, towards = -1, +1
        self._ask_along(posterior, 0, away, streams, seed)
        posterior.ask_candidates(~posterior.settled)
        for number in range(1, self._ways_in(posterior.start.domain, posterior.start.x.shape[1:])):
            for sign in (away, towards):  # away from a label that holds, towards one that does not
                self._ask_along(posterior, number, sign, streams, seed)
        posterior.ask_candidates(~posterior.asked)

    def _ask_along(
        self, posterior: Posterior, number: int, sign: int, streams: Callable[[int, str], Tensor], seed: int
    ) -> None:
        rows = posterior.open_rows(sign)
        if len(rows) == 0:
            return
        start = posterior.start
        available = splits(len(start.models))
        turn, place = divmod(number, len(available))
        smoothing = TUNING.smoothing[(place // 2 + turn) % len(TUNING.smoothing)]  # each turn pairs them anew
        allowed = None
        if not start.straight:
            allowed = _allowed(start, rows, streams(seed, f"guided way {number}")[posterior.account.owner[rows]])
        drop = posterior.drop_at(posterior.next_u(rows, first=number == 0))
        points, reached = perturb_to(
            start, available[place], rows, drop, sign=sign, smoothing=smoothing, allowed=allowed
        )
        posterior.ask_along(rows, points, reached)


def _in_steps(models: tuple[ShadowModel, ...], candidates: Candidates) -> bool:
    """Whether references answer a table in steps, as trees do, so that one feature is changed at a time."""
    without = not all(model.differentiable for model in models)
    return without and not bool(token_columns(candidates.domain, candidates.shape).any())


def _allowed(start: StartPoints, rows: Tensor, streams: Tensor) -> Tensor:
    """Return the features that one way may change in a table: bool (k, *shape), a random part."""
    x = start.x[rows]
    width = x[0].numel()
    if start.words is not None:
        return some_words(x.flatten(1), start.words, rng.uniform(streams, width)).reshape(x.shape)
    share = max(TUNING.feature_share, TUNING.fewest_features / width)
    return (rng.uniform(streams, width) < share).reshape(x.shape)


def fitted_scale(references: reference_models.References, setup: LabelOracle) -> ScoreScale:
    """Fit s, a and the usual confidence on shadow rows that the references trained on, and on those held out."""
    trained, held_out = (_log_odds_of(rows, references, setup) for rows in (references.rows, references.held))
    count = held_out.shape[1]
    saturation = TUNING.saturation * max(TUNING.least_log_odds, float(trained.median()))
    agreement = _shrunk(int((held_out > 0).sum()) / len(held_out), count, TUNING.agreement)
    confidence = float(saturated(_summary(held_out)[2], saturation).sum())
    weight = min(TUNING.largest_weight, TUNING.weight + TUNING.weight_slope * max(0.0, agreement - TUNING.agreement))
    return ScoreScale(saturation, weight, _shrunk(confidence, count, TUNING.usual_confidence * saturation))


def _shrunk(total: float, count: int, prior: float) -> float:
    """Return the mean of ``count`` values and of ``TUNING.prior_rows`` more that equal ``prior``."""
    return (total + TUNING.prior_rows * prior) / (count + TUNING.prior_rows)


def _summary(log_odds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return μ, σ and μ + σ of the models' log-odds (R, n): float64 (n,) each."""
    mean = mean_of(log_odds)
    deviation = mean_of((log_odds - mean).square()).sqrt()
    return mean, deviation, mean + TUNING.deviations * deviation


def _log_odds_of(rows: ShadowRows, references: reference_models.References, setup: LabelOracle) -> Tensor:
    """Return the references' log-odds of the target's labels for the first of these rows: float64 (R, n)."""
    x, y = rows.x[: TUNING.rows_measured], rows.labels(setup)[: TUNING.rows_measured]
    return ensemble_log_odds(references.models, x, y.to(x.device))


def _batches(candidates: Candidates) -> tuple[Tensor, ...]:
    """Return the candidates' places, int64, in parts that fit the memory."""
    everyone = torch.arange(len(candidates), device=candidates.device)
    return tuple(everyone.split(max(1, min(_ROWS_AT_A_TIME, _VALUES_AT_A_TIME // max(1, candidates.width)))))


def _scores(scored: Sequence[Posterior | LikelihoodRatios], most: int, details: dict[str, Tensor]) -> Scores:
    accounts = [part.account for part in scored]
    votes = accounts[0].votes if accounts else 1
    checkpoints = tuple(c for c in checkpoints_up_to(most) if c >= votes)
    at = torch.tensor(checkpoints) - 1
    spent = torch.cat([account.spent for account in accounts])
    if votes > 1:
        agreeing = torch.cat([account.agreeing for account in accounts])
        details = {**details, "agreement": agreeing.double() / spent.clamp_min(1).double()}
    return Scores(
        value=torch.cat([part.value() for part in scored]),
        status=torch.cat([part.status() for part in scored]),
        queries=spent,
        trajectory=Trajectory(checkpoints, torch.cat([a.history[at.to(a.history.device)] for a in accounts], 1)),
        details=details,
    )
