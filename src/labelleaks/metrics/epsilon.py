"""Lower bounds on the ε of differential privacy, from guesses at which canaries a model was trained on.

A canary is in or out of the training set by the toss of a fair coin. Whoever is right about more coins than an (ε, δ)
private training allows has shown that the training is not (ε, δ) private. How many coins are guessed must not depend on
the truth: :class:`FixedGuesses`, :class:`SplitGuesses` or :class:`CorrectedGuesses` says how that was chosen, and the
bound pays for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from labelleaks.errors import InputError
from labelleaks.metrics.estimates import (
    Bools,
    Floats,
    checked_scores,
    checked_truth,
    error_of,
    lower_limit,
    upper_limit,
)

__all__ = [
    "CorrectedGuesses",
    "EpsilonBound",
    "FixedGuesses",
    "Guesses",
    "Mechanism",
    "SplitGuesses",
    "epsilon_many_runs",
    "epsilon_of_scores",
    "epsilon_one_run",
]

Mechanism = Literal["any", "gaussian"]
"""Which private trainings the bound speaks of: all, or those whose trade-off curve is a Gaussian mechanism's."""

_LARGEST = 64.0
_STEPS = 32  # of bisection: 64 / 2^32


@dataclass(frozen=True)
class FixedGuesses:
    """Guess "in" for this many canaries of highest score and "out" for this many of lowest; fixed beforehand.

    Args:
        inside, outside: at least 0, not both 0.
    """

    inside: int
    outside: int = 0

    def __post_init__(self) -> None:
        for name in ("inside", "outside"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"FixedGuesses: {name}={value!r}: a whole number of at least 0 is needed")
        if self.total == 0:
            raise InputError("FixedGuesses: nothing is guessed; give inside= or outside= a number above 0")

    @property
    def total(self) -> int:
        """Number of guesses."""
        return self.inside + self.outside


@dataclass(frozen=True)
class SplitGuesses:
    """Choose two thresholds on a random part of the canaries; guess on the others alone, those that lie beyond them.

    Above the higher one the guess is "in", below the lower one "out". Those are taken beyond which the share of right
    guesses, on the part that they are chosen on, has the largest lower limit (Wilson's).

    Args:
        share: of the canaries that the thresholds are chosen on, above 0 and below 1.
        seed: of the random parting.
    """

    share: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"SplitGuesses: share={self.share!r}: a part above 0 and below 1 is needed")


@dataclass(frozen=True)
class CorrectedGuesses:
    """Try all of these counts on all canaries and take the best, each at level 1 - (1 - level) / len(counts).

    The correction is Bonferroni's, so the bound holds whichever is taken.
    """

    counts: tuple[FixedGuesses, ...]

    def __post_init__(self) -> None:
        if not self.counts:
            raise InputError("CorrectedGuesses: no counts; give at least one FixedGuesses(inside, outside)")


Guesses = FixedGuesses | SplitGuesses | CorrectedGuesses


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on ε at δ, with what it rests on."""

    epsilon: float
    """Training is not (ε', δ) private for any ε' below this, with confidence ``level``; 0 where nothing was shown."""
    delta: float
    level: float
    canaries: int
    """How many coins were tossed among which the guesses were made."""
    guesses: int
    right: int
    """How many guesses were."""
    mechanism: Mechanism = "any"

    def __str__(self) -> str:
        of = "" if self.mechanism == "any" else " (if the mechanism is Gaussian)"
        return (
            f"ε >= {self.epsilon:.2f} at δ = {self.delta:g} with {100 * self.level:g} % confidence{of}: "
            f"{self.right:,} of {self.guesses:,} guesses right among {self.canaries:,} canaries"
        )


def epsilon_one_run(
    right: int, guesses: int, canaries: int, *, delta: float = 0.0, level: float = 0.95, mechanism: Mechanism = "any"
) -> EpsilonBound:
    """Return a lower bound on ε from one training run on canaries that were each in or out by a coin.

    Args:
        right: guesses that were right, 0 … ``guesses``.
        guesses: coins guessed, 1 … ``canaries``; how many must not depend on the truth.
        canaries: coins tossed, those that nobody guessed included.
        delta: δ, 0 <= δ < 1.
        level: confidence, above 0 and below 1.
        mechanism: ``"any"``: Steinke, Nasr & Jagielski (2305.08846), theorem 5.2. ``"gaussian"``: Mahloujifar, Melis &
            Chaudhuri (2410.22235), tighter, and only about trainings whose trade-off curve is a Gaussian mechanism's;
            needs δ > 0.

    Raises:
        InputError: counts that do not fit each other, or a δ or level out of range.
    """
    _check(right, guesses, canaries, delta)
    error = error_of(level)
    if mechanism == "gaussian":
        if delta == 0:
            raise InputError("delta=0: a Gaussian mechanism has no ε at δ = 0; give a δ above 0, such as 1e-5")
        epsilon = _gaussian_bound(right, guesses, canaries, delta, error)
    else:
        epsilon = _any_bound(right, guesses, canaries, delta, error)
    return EpsilonBound(epsilon, delta, level, canaries, guesses, right, mechanism)


def epsilon_of_scores(
    scores: Any,
    inside: Any,
    guesses: Guesses,
    *,
    delta: float = 0.0,
    level: float = 0.95,
    mechanism: Mechanism = "any",
) -> EpsilonBound:
    """Return a lower bound on ε from the canaries' scores in one training run.

    Ties are broken by the canaries' order, which must not depend on the truth.

    Args:
        scores: (n,) real, finite, higher = more likely in the training set.
        inside: (n,) bool: whether the canary was, by the coin.
        guesses: how many coins are guessed, and how that was chosen.
        delta, level, mechanism: as for :func:`epsilon_one_run`.

    Raises:
        InputError: arrays that do not match, or more guesses than canaries.
    """
    real, truth = checked_scores(scores, "scores"), checked_truth(inside, "inside")
    if len(real) != len(truth):
        raise InputError(f"scores has {len(real)} canaries but inside has {len(truth)}")

    def judged(right: int, total: int, canaries: int, at: float = level) -> EpsilonBound:
        return epsilon_one_run(right, total, canaries, delta=delta, level=at, mechanism=mechanism)

    if isinstance(guesses, FixedGuesses):
        return judged(_right(real, truth, guesses), guesses.total, len(real))
    if isinstance(guesses, CorrectedGuesses):
        corrected = 1 - error_of(level) / len(guesses.counts)
        bounds = [judged(_right(real, truth, each), each.total, len(real), corrected) for each in guesses.counts]
        return replace(max(bounds, key=lambda bound: bound.epsilon), level=level)
    chosen = np.zeros(len(real), dtype=np.bool_)
    chosen[np.random.default_rng(guesses.seed).permutation(len(real))[: round(guesses.share * len(real))]] = True
    if not 0 < chosen.sum() < len(real):
        raise InputError(
            f"SplitGuesses: {len(real)} canaries cannot be parted by share={guesses.share}; more are needed"
        )
    low, high = _thresholds(real[chosen], truth[chosen], error_of(level))
    others, coins = real[~chosen], truth[~chosen]
    right = int((coins & (others > high)).sum() + (~coins & (others < low)).sum())
    total = int((others > high).sum() + (others < low).sum())
    if total == 0:  # nothing lies beyond the thresholds: nothing was shown
        return EpsilonBound(0.0, delta, level, len(others), 0, 0, mechanism)
    return judged(right, total, len(others))


def epsilon_many_runs(
    true_positives: int,
    positives: int,
    false_positives: int,
    negatives: int,
    *,
    delta: float = 0.0,
    level: float = 0.95,
) -> EpsilonBound:
    """Return a lower bound on ε from many trainings, each with or without the canary, and one decision each.

    ln((TPR - δ) / FPR) and ln((TNR - δ) / FNR), at Clopper & Pearson's limits of TPR and FPR, each with half of the
    error (Nasr et al. 2021, 2101.04535).

    Args:
        true_positives, positives: trainings with the canary that were called so, and all of them.
        false_positives, negatives: trainings without it that were called "with", and all of them.
        delta, level: as for :func:`epsilon_one_run`.

    Raises:
        InputError: counts that do not fit each other, or a δ or level out of range.
    """
    total = positives + negatives
    right = true_positives + negatives - false_positives
    for name, part, whole in (("positives", true_positives, positives), ("negatives", false_positives, negatives)):
        if whole < 1 or not 0 <= part <= whole:
            raise InputError(f"{part} of {whole} {name}: give at least one training, and no more decisions than those")
    _check(right, total, total, delta)
    half = np.array([error_of(level) / 2])
    tpr = float(lower_limit(np.array([true_positives]), positives, half)[0])
    fpr = float(upper_limit(np.array([false_positives]), negatives, half)[0])
    epsilon = max(_log_ratio(tpr - delta, fpr), _log_ratio(1 - fpr - delta, 1 - tpr), 0.0)
    return EpsilonBound(epsilon, delta, level, total, total, right)


def _log_ratio(over: float, under: float) -> float:
    return math.log(over / under) if over > 0 and under > 0 else 0.0


def _check(right: int, guesses: int, canaries: int, delta: float) -> None:
    if not 1 <= guesses <= canaries:
        raise InputError(f"{guesses} guesses at {canaries} canaries: at least one and at most one a canary are needed")
    if not 0 <= right <= guesses:
        raise InputError(f"{right} right of {guesses} guesses: 0 to {guesses} can be")
    if not 0 <= delta < 1:
        raise InputError(f"delta={delta!r}: at least 0 and below 1 is needed")


def _right(scores: Floats, inside: Bools, counts: FixedGuesses) -> int:
    """Return how many guesses are right."""
    if counts.total > len(scores):
        raise InputError(f"{counts.total} guesses at {len(scores)} canaries: at most one a canary; guess fewer")
    order = np.argsort(-scores, kind="stable")
    called_in, called_out = order[: counts.inside], order[len(order) - counts.outside :]
    return int(inside[called_in].sum()) + int((~inside[called_out]).sum())


def _thresholds(scores: Floats, inside: Bools, error: float) -> tuple[float, float]:
    """Return the thresholds, low <= high, beyond which the share of right guesses has the largest lower limit."""
    from scipy.special import ndtri

    levels, place = np.unique(scores, return_inverse=True)
    ins, outs = np.bincount(place, weights=inside), np.bincount(place, weights=~inside)
    # Cut c lies below level c and above level c - 1.
    called_in, right_in = (np.append(np.cumsum(each[::-1])[::-1], 0.0) for each in (ins + outs, ins))
    called_out, right_out = (np.append(0.0, np.cumsum(each)) for each in (ins + outs, outs))
    total, right = called_out[:, None] + called_in[None, :], right_out[:, None] + right_in[None, :]
    allowed = np.triu(np.ones_like(total, dtype=np.bool_)) & (right > 0)  # low cut <= high cut
    limit = np.where(allowed, _wilson(right, np.maximum(total, 1), -float(ndtri(error))), -1.0)
    low, high = np.unravel_index(int(limit.argmax()), limit.shape)
    cuts = np.concatenate([[-np.inf], levels[:-1] / 2 + levels[1:] / 2, [np.inf]])
    return float(cuts[low]), float(cuts[high])


def _wilson(right: Floats, total: Floats, z: float) -> Floats:
    """Return the lower limits of right / total (Wilson 1927); quick, and near enough to choose by."""
    share = right / total
    spread = z * np.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    return np.asarray((share + z * z / (2 * total) - spread) / (1 + z * z / total), dtype=np.float64)


@lru_cache(maxsize=1 << 16)
def _any_bound(right: int, guesses: int, canaries: int, delta: float, error: float) -> float:
    return _largest_refuted(lambda epsilon: _p_value(right, guesses, canaries, epsilon, delta) < error)


def _p_value(right: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """Return the most that (ε, δ) privacy allows for the chance of so many right guesses (theorem 5.2)."""
    from scipy.stats import binom

    q = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(right - 1, guesses, q))
    if delta == 0 or right == 0:
        return beta
    fewer = np.arange(1, right + 1)
    alpha = float(np.max((binom.sf(right - fewer - 1, guesses, q) - beta) / fewer))
    return min(1.0, beta + 2 * canaries * delta * max(0.0, alpha))


@lru_cache(maxsize=1 << 16)
def _gaussian_bound(right: int, guesses: int, canaries: int, delta: float, error: float) -> float:
    from scipy.stats import norm

    def delta_at(epsilon: float, mu: float) -> float:
        """Return δ of a μ-Gaussian mechanism at ε (Dong, Roth & Su 2019, corollary 2.13)."""
        above = float(norm.cdf(mu / 2 - epsilon / mu))
        return above - math.exp(epsilon + float(norm.logcdf(-mu / 2 - epsilon / mu)))

    mu = _largest_refuted(lambda mu: _gaussian_refuted(right, guesses, canaries, mu, error))
    return 0.0 if mu == 0 else _largest_refuted(lambda epsilon: delta_at(epsilon, mu) > delta, largest=2 * _LARGEST)


def _gaussian_refuted(right: int, guesses: int, canaries: int, mu: float, error: float) -> bool:
    """Whether so many right guesses refute μ-Gaussian privacy (2410.22235, theorem 10 and algorithm 2).

    From ``right`` downwards: ``reached`` is the probability of at least so many right guesses, weighted by them, and
    ``wrong`` what the trade-off curve then demands of the wrong ones.
    """
    from scipy.special import ndtr, ndtri

    reached, wrong = error * right / canaries, error * (guesses - right) / canaries
    for i in range(right - 1, -1, -1):
        demanded = max(wrong, float(ndtr(ndtri(reached) - mu)))
        if demanded == wrong:
            break
        reached = min(1.0, reached + i / (guesses - i) * (demanded - wrong))
        wrong = demanded
    return reached + wrong > guesses / canaries


def _largest_refuted(refuted: Callable[[float], bool], largest: float = _LARGEST) -> float:
    """Return the largest value, from 0, that is refuted along with all smaller ones: by bisection, from below."""
    if not refuted(0.0):
        return 0.0
    low, high = 0.0, largest
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
