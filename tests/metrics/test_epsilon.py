"""Lower bounds on ε: equal to an outside implementation's, and above the true ε no more often than they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from labelleaks.errors import InputError
from labelleaks.metrics import (
    CorrectedGuesses,
    FixedGuesses,
    SplitGuesses,
    epsilon_many_runs,
    epsilon_of_scores,
    epsilon_one_run,
)

JAX_PRIVACY = [
    # canaries, guesses, right, δ, level, ε of 2305.08846, ε of 2410.22235 with the Gaussian curve
    (1000, 1000, 600, 1e-5, 0.95, 0.2972269575896595, 0.5835403679569234),
    (1000, 1000, 990, 1e-5, 0.95, 4.0592471247040365, 7.833052519146709),
    (1000, 400, 400, 1e-5, 0.95, 4.8636111606557435, 9.223148191015763),
    (1000, 400, 380, 1e-3, 0.95, 1.9902914027225396, 3.1684468353974453),
    (5000, 200, 199, 1e-5, 0.99, 3.1051769398376163, 4.417841089653987),
    (100, 50, 25, 1e-5, 0.95, 0.0, 0.0),
    (100, 100, 80, 1e-6, 0.95, 0.9583614825951835, 2.406712185717024),
    (2000, 1500, 1400, 1e-4, 0.90, 2.494801330660052, 4.262045270861223),
]
"""What ``_epsilon_one_run`` and ``_epsilon_one_run_fdp`` of jax_privacy 2.0.0's auditing.py return for these counts."""

SIMULATIONS, ALLOWED = 1000, 64
"""True ε below the 95 % bound: 50 times expected at most; more than 64 times has a chance of 2 %."""


@pytest.mark.parametrize(("canaries", "guesses", "right", "delta", "level", "any_", "gaussian"), JAX_PRIVACY)
def test_one_run_agrees_with_jax_privacy(canaries, guesses, right, delta, level, any_, gaussian):
    ours = epsilon_one_run(right, guesses, canaries, delta=delta, level=level)
    assert ours.epsilon == pytest.approx(any_, abs=1e-5)
    ours = epsilon_one_run(right, guesses, canaries, delta=delta, level=level, mechanism="gaussian")
    assert ours.epsilon == pytest.approx(gaussian, abs=1e-5)


def gaussian_epsilon(mu, delta):
    """ε of a μ-Gaussian mechanism at δ (Balle & Wang 2018)."""
    gap = lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e + norm.logcdf(-mu / 2 - e / mu)) - delta  # noqa: E731
    return brentq(gap, 0, 60)


def flipped(coins, random):
    """Randomised response at ε = 1, with ties broken at random."""
    return np.where(random.random(len(coins)) < 1 / (1 + math.e), ~coins, coins) + 1e-6 * random.random(len(coins))


NOISE = {
    "randomised response": (1.0, 0.0, "any", flipped),
    "laplace": (2.0, 0.0, "any", lambda coins, random: coins + random.laplace(size=len(coins)) / 2),
    "gaussian": (gaussian_epsilon(1, 1e-5), 1e-5, "any", lambda coins, random: coins + random.normal(size=len(coins))),
    "gaussian, known to be": (
        gaussian_epsilon(1, 1e-2),
        1e-2,
        "gaussian",
        lambda coins, random: coins + random.normal(size=len(coins)),
    ),
}
PLANS = {
    "counts": FixedGuesses(40, 40),
    "split": SplitGuesses(0.3, seed=1),
    "corrected": CorrectedGuesses((FixedGuesses(20, 20), FixedGuesses(60, 60), FixedGuesses(100, 100))),
}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("noise", NOISE)
def test_bound_holds_on_mechanisms_of_known_epsilon(noise, plan):
    true, delta, mechanism, scores_of = NOISE[noise]
    random = np.random.default_rng(2305)
    above, largest = 0, 0.0
    for _ in range(SIMULATIONS):
        coins = random.random(200) < 0.5
        bound = epsilon_of_scores(scores_of(coins, random), coins, PLANS[plan], delta=delta, mechanism=mechanism)
        above += bound.epsilon > true
        largest = max(largest, bound.epsilon)
    assert above <= ALLOWED
    assert largest > 0  # it does find something


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_bound_of_many_runs_holds_for_randomised_response(epsilon):
    random = np.random.default_rng(7)
    honest = 1 / (1 + math.exp(-epsilon))
    trials = random.binomial(300, [honest, 1 - honest], size=(SIMULATIONS, 2)).tolist()
    bounds = [epsilon_many_runs(tp, 300, fp, 300).epsilon for tp, fp in trials]
    assert sum(bound > epsilon for bound in bounds) <= ALLOWED
    assert np.median(bounds) > 0.4 * epsilon


def test_guessing_at_random_shows_nothing_and_all_right_shows_what_so_few_can():
    assert epsilon_one_run(500, 1000, 1000).epsilon == 0
    assert epsilon_one_run(1000, 1000, 1000).epsilon == pytest.approx(-math.log(0.05 ** (-1 / 1000) - 1))
    assert epsilon_many_runs(100, 100, 0, 100).epsilon == pytest.approx(math.log(0.025**0.01 / (1 - 0.025**0.01)))


def test_more_delta_and_more_abstentions_show_less():
    epsilons = [epsilon_one_run(380, 400, 1000, delta=delta).epsilon for delta in (0, 1e-6, 1e-4, 1e-2)]
    assert epsilons == sorted(epsilons, reverse=True)
    assert len(set(epsilons)) == 4
    assert epsilon_one_run(380, 400, 5000, delta=1e-3).epsilon < epsilon_one_run(380, 400, 400, delta=1e-3).epsilon


def test_split_guesses_on_canaries_that_it_did_not_choose_on():
    coins = np.arange(1000) % 2 == 0
    bound = epsilon_of_scores(coins.astype(float), coins, SplitGuesses(0.4))
    assert bound.canaries == 600
    assert bound.guesses <= 600
    assert bound.epsilon == epsilon_one_run(bound.right, bound.guesses, 600).epsilon > 3


def test_correction_is_paid_for():
    coins = np.arange(1000) % 2 == 0
    alone = epsilon_of_scores(coins.astype(float), coins, FixedGuesses(500, 500))
    among = epsilon_of_scores(
        coins.astype(float), coins, CorrectedGuesses(tuple(FixedGuesses(k, k) for k in (100, 300, 500)))
    )
    assert among.guesses == alone.guesses
    assert 0 < among.epsilon < alone.epsilon
    assert (among.level, alone.level) == (0.95, 0.95)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: FixedGuesses(0, 0), "nothing is guessed"),
        (lambda: FixedGuesses(-1), "inside=-1"),
        (lambda: SplitGuesses(1.0), "share=1.0"),
        (lambda: CorrectedGuesses(()), "no counts"),
        (lambda: epsilon_one_run(3, 2, 10), "3 right of 2 guesses"),
        (lambda: epsilon_one_run(2, 20, 10), "20 guesses at 10 canaries"),
        (lambda: epsilon_one_run(2, 2, 10, delta=1.0), "delta=1.0"),
        (lambda: epsilon_one_run(2, 2, 10, mechanism="gaussian"), "delta=0"),
        (lambda: epsilon_of_scores([1.0, 2.0], [True, False], FixedGuesses(2, 1)), "3 guesses at 2 canaries"),
        (lambda: epsilon_of_scores([1.0, 2.0], [True, False], SplitGuesses(0.1)), "2 canaries cannot be parted"),
        (lambda: epsilon_of_scores([1.0], [True, False], FixedGuesses(1)), "1 canaries but inside has 2"),
        (lambda: epsilon_many_runs(3, 2, 0, 1), "3 of 2 positives"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()
