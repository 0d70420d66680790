"""Attacks that see every posterior of the target: what a label costs is measured against them.

Source: loss threshold, Yeom et al. 2018 (1709.01604); offline LiRA with fixed or per-candidate variance, Carlini et al.
2022 (2112.03570); offline RMIA, Zarifzadeh et al. 2024 (2312.03262); BASE, Lassila et al. 2025 (2506.23711); the
Student t of a normal-inverse-gamma prior, conjugate Bayes after an idea of BaVarIA (2603.11799); and guided's own
formula, with the target's log-odds known in place of inferred: what labels cost, and nothing else. References, and the
labels that these were trained on, are those of the label-only attacks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from benchmarks.power.worlds import OpenWorld
from labelleaks.attacks import guided
from labelleaks.attacks._guided.posterior import saturated
from labelleaks.core.attack import Knowledge
from labelleaks.core.types import Candidates
from labelleaks.models import reference_models
from labelleaks.models.shadow_model import log_posteriors
from labelleaks.models.training import Recipe

__all__ = ["REVISION", "RMIA_A", "StudentT", "base", "ceiling", "lira", "logit_of", "rmia"]

REVISION = 1
"""Raise it where a score changes."""
RMIA_A = 0.3
"""How an average of IN and OUT models is guessed from OUT ones alone: ((1 + a) p_out + (1 - a)) / 2; their default."""
OTHER_A = (0.0, 0.1, 0.5, 0.7, 1.0)
"""Tried as well; the best of them is read off afterwards, which flatters RMIA. References that all trained on the same
rows cannot play each other's target, so there is nothing to choose it by."""
BASE_TEMPERATURE, BASE_WEIGHT = 2.0, 0.33
_ROWS = 512


def ceiling(
    name: str, world: OpenWorld, candidates: Candidates, knowledge: Knowledge, recipe: Recipe | None = None
) -> dict[str, Tensor]:
    """Return the scores of each variant of this attack: float64 (n,), higher = more likely a member."""
    target = _target_logits(world, candidates.x)
    if name == "loss_threshold":
        return {"": log_posteriors(target).gather(1, candidates.y[:, None])[:, 0]}
    confidence = logit_of(target, candidates.y)
    if name == "logit":
        return {"": confidence}
    found = reference_models.references(knowledge, candidates.classes, seed=world.seed, recipe=recipe)
    outside = torch.stack([reference_models.logits(model, candidates.x) for model in found.models])
    of_references = torch.stack([logit_of(of_one, candidates.y) for of_one in outside])
    if name == "lira_offline":
        return lira(confidence, of_references)
    if name == "student_t":
        return {"": StudentT.fitted(_held_out(found, knowledge)).score(confidence, of_references)}
    if name == "guided_formula":
        return {"": _formula(confidence, of_references, found, knowledge)}
    p_out = torch.stack([log_posteriors(of_one).gather(1, candidates.y[:, None])[:, 0].exp() for of_one in outside])
    if name == "base":
        return {"": base(log_posteriors(target / BASE_TEMPERATURE).gather(1, candidates.y[:, None])[:, 0], p_out)}
    p = log_posteriors(target).gather(1, candidates.y[:, None])[:, 0].exp()
    return {"": rmia(p, p_out)} | {f"a={a:g}": rmia(p, p_out, a) for a in OTHER_A}


def lira(confidence: Tensor, outside: Tensor) -> dict[str, Tensor]:
    """Offline LiRA: how far a confidence (n,) lies above those of models that never saw the candidate, (R, n).

    Above their mean, as the paper writes; its code takes their median, which makes no difference worth the name.
    One variance for all candidates does not change the order, so ``fixed`` is the plain difference.
    """
    above = confidence - outside.mean(0)
    return {"fixed": above, "per_candidate": above / (outside.std(0) + 1e-6)}


def rmia(p: Tensor, p_out: Tensor, a: float = RMIA_A) -> Tensor:
    """Offline RMIA: p(x) over its guessed average over models, (n,).

    The published score is the share of population rows z whose ratio is below this one by a factor: the same order for
    any population, but for ties.
    """
    return p / (((1 + a) * p_out.mean(0) + (1 - a)) / 2)


def base(log_p: Tensor, p_out: Tensor) -> Tensor:
    """BASE: the target's log-posterior (n,) less a part of the logarithm of the references' mean posterior (R, n)."""
    return log_p - BASE_WEIGHT * p_out.mean(0).clamp_min(1e-30).log()


@dataclass(frozen=True)
class StudentT:
    """Predictive distribution of one more reference's log-odds, given those of K, under a normal-inverse-gamma prior.

    With few references a candidate's own variance is a guess; the prior, of rows that no reference saw, steadies it.
    """

    mean: float
    """m₀: mean of the rows' means"""
    variance: float
    """s₀²: mean of the rows' variances"""
    strength: float
    """κ₀: references that m₀ is worth"""
    degrees: float
    """ν₀: references that s₀² is worth"""

    @classmethod
    def fitted(cls, log_odds: Tensor) -> StudentT:
        """Fit to held-out rows (K, n): κ₀ and ν₀ by the likelihood of each reference, given the others."""
        mean, variance = float(log_odds.mean()), float(log_odds.var(0).mean())
        left_out = [(log_odds[k], torch.cat([log_odds[:k], log_odds[k + 1 :]])) for k in range(len(log_odds))]

        def likelihood(prior: StudentT) -> float:
            return sum(float(prior._log_density(one, others).sum()) for one, others in left_out)

        grid = (0.03, 0.1, 0.3, 1.0, 3.0), (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
        return max((cls(mean, variance, k, v) for k in grid[0] for v in grid[1]), key=likelihood)

    def predictive(self, log_odds: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return degrees of freedom, location (n,) and scale (n,) given log-odds (K, n)."""
        count, mu = len(log_odds), log_odds.mean(0)
        kappa, nu = self.strength + count, self.degrees + count - 1
        place = (self.strength * self.mean + count * mu) / kappa
        squares = (log_odds - mu).square().sum(0) + self.strength * count * (mu - self.mean).square() / kappa
        variance = (self.degrees * self.variance + squares) / nu
        return nu, place, (variance * (1 + 1 / kappa)).sqrt()

    def score(self, confidence: Tensor, log_odds: Tensor) -> Tensor:
        """Return -log P[another reference is surer than ``confidence``], float64 (n,)."""
        nu, place, scale = self.predictive(log_odds)
        return torch.from_numpy(-stats.t.logsf(((confidence - place) / scale).numpy(), nu))

    def _log_density(self, one: Tensor, others: Tensor) -> Tensor:
        nu, place, scale = self.predictive(others)
        return torch.from_numpy(stats.t.logpdf(((one - place) / scale).numpy(), nu)) - scale.log()


def _held_out(found: reference_models.References, knowledge: Knowledge) -> Tensor:
    """Return the references' log-odds of the target's labels on rows that none trained on: float64 (K, n)."""
    x, y = found.held.x, found.held.labels(knowledge.setup)
    return torch.stack([logit_of(reference_models.logits(model, x), y) for model in found.models])


def _formula(confidence: Tensor, outside: Tensor, found: reference_models.References, knowledge: Knowledge) -> Tensor:
    """Guided's score with the target's log-odds known, float64 (n,); s and a as guided fits them."""
    scale = guided.fitted_scale(found, knowledge.setup)
    upper = outside.mean(0) + outside.std(0, correction=0)
    u = torch.tanh(confidence / scale.saturation)
    wrong = (confidence < 0).to(torch.float64)
    return scale.saturation * (u - wrong) - scale.weight * saturated(upper, scale.saturation)


def logit_of(logits: Tensor, y: Tensor) -> Tensor:
    """Return log(p_y / (1 - p_y)) in float64 (n,): z_y minus the logarithm of the others' sum of exponentials."""
    z = logits.to(torch.float64)
    others = z.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    return z.gather(1, y[:, None])[:, 0] - others


def _target_logits(world: OpenWorld, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([world.module(part) for part in x.split(_ROWS)])
