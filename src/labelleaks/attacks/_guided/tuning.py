"""Tuned constants of the guided attack, each with the data it was chosen on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TUNING", "Tuning"]


@dataclass(frozen=True)
class Tuning:
    """Constants of the guided attack.

    Chosen on CIFAR-10 and Location-30, seed 0, with 8 reference models; where a comment names other data, on those as
    well. The figures are in design/0005-guided.md. GTSRB, of the leaderboard, was used for none of them.
    """

    # -- score --------------------------------------------------------------------------------------------------------
    deviations: float = 1.0
    """Standard deviations σ added to the references' mean log-odds μ. 0 and 1.5 were tried (CIFAR-10)."""
    saturation: float = 1.25
    """s, in medians of the references' log-odds on their training rows. 1 to 1.75 on CIFAR-10, Face, Location-30."""
    least_log_odds: float = 1.0
    """That median at least, nats: references that learned nothing still give a scale."""
    reference_saturation: float = 2.0
    """Where the references' log-odds saturate, in s. A straight line had the lower AUC on both sets."""
    weight: float = 0.3
    """a, where the references agree with the target on up to ``agreement`` of held-out rows."""
    agreement: float = 0.65
    """That share on Location-30, Face and CIFAR-10 (0.62 to 0.64)."""
    weight_slope: float = 0.75
    """Gain of a per unit of agreement beyond: a line through MNIST, Fashion-MNIST, digits and made-up purchases."""
    largest_weight: float = 0.6
    """The most that a comes to, where the references agree with the target on nearly all rows."""
    usual_confidence: float = 0.4
    """Mean saturated log-odds of the references on held-out rows, in s, on CIFAR-10, Face and Location-30."""
    prior_rows: int = 10
    """Held-out rows that ``agreement`` and ``usual_confidence`` are worth."""
    rows_measured: int = 512
    """Shadow rows at most that the references are evaluated on, of each kind: trained on, and held out."""

    # -- directions ---------------------------------------------------------------------------------------------------
    ways: int = 12
    """Ways in a continuous domain: power is flat from some ten labels on (CIFAR-10)."""
    ways_of_table: int = 19
    """Ways elsewhere: 0.812 to 0.841 AUC on made-up purchases, 0.954 to 0.957 on Location-30, against 12."""
    smoothing: tuple[float, ...] = (3 / 32, 6 / 32)
    """Three standard deviations of the Gaussian over a picture's gradient, in sides; ways alternate (CIFAR-10)."""
    ways_of_text: int = 9
    """Ways of texts: ten labels with x itself; not tuned."""
    word_share: float = 0.5
    """Share of its words that one way may leave out of a text; not tuned."""
    feature_share: float = 0.25
    """Share of the features that one way may change in tables. A quarter was better than half or all of the bits."""
    fewest_features: int = 16
    """Features in that share at least, about: for narrow tables; not tuned."""
    evaluations: int = 2
    """Evaluations of the measuring models to find a point with the wanted drop."""
    largest_correction: float = 4.0
    """How many times farther or nearer the next of them may be; a bound, not tuned."""
    tolerance: float = 0.3
    """Error of the drop that is good enough, as a part of it. Three evaluations and 0.1: same power, more time."""
    largest_curvature: float = 16.0
    """How many times farther or nearer than the gradient predicts a drop may be taken to lie; a bound, not tuned."""
    most_changes: int = 48
    """Features that a way changes at most in tables; a bound, not tuned."""
    changes_per_gradient: int = 2
    """Features that are changed by one gradient."""

    # -- references without gradients ---------------------------------------------------------------------------------
    least_probability: float = 0.02
    """Of a label, in its likelihood ratio: what one label may tell at most. 0.02 and 0.1 were alike (design/0005)."""
    rows_at_a_time: int = 1 << 14
    """Changed rows that are held at a time."""

    # -- posterior ----------------------------------------------------------------------------------------------------
    grid: int = 64
    """Values of |u| that the posterior tells apart; not tuned."""
    first_u: float = 0.72
    """|u| at the first question where the references' confidence is as usual. Face, digits, Fashion-MNIST as well."""
    first_bounds: tuple[float, float] = (0.3, 0.95)
    """Least and largest |u| at the first question."""
    error_scale: float = 0.06
    """τ: scale of the logistic error of u along one way. 0.04 to 0.09 were alike."""
    miss: float = 0.3
    """m: chance that a label holds however large the drop. 0.01 to 0.4 were tried; tables need it."""
    lapse: float = 0.01
    """e: chance that a label gives way for no reason; not tuned."""


TUNING = Tuning()
