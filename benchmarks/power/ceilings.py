"""Attacks that see every posterior of the target: what a label costs is measured against them.

Source: loss threshold, Yeom et al. 2018 (1709.01604); offline LiRA with fixed or per-candidate variance, Carlini et al.
2022 (2112.03570); offline RMIA, Zarifzadeh et al. 2024 (2312.03262). References, and the labels that these were trained
on, are those of the label-only attacks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.power.worlds import World
from labelleaks.core.attack import Knowledge
from labelleaks.core.types import Candidates
from labelleaks.models import reference_models
from labelleaks.models.shadow_model import log_posteriors
from labelleaks.models.training import Recipe

__all__ = ["REVISION", "RMIA_A", "ceiling", "lira", "logit_of", "rmia"]

REVISION = 1
"""Raise it where a score changes."""
RMIA_A = 0.3
"""How an average of IN and OUT models is guessed from OUT ones alone: ((1 + a) p_out + (1 - a)) / 2; their default."""
_ROWS = 512


def ceiling(
    name: str, world: World, candidates: Candidates, knowledge: Knowledge, recipe: Recipe | None = None
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
    if name == "lira_offline":
        return lira(confidence, torch.stack([logit_of(of_one, candidates.y) for of_one in outside]))
    p_out = torch.stack([log_posteriors(of_one).gather(1, candidates.y[:, None])[:, 0].exp() for of_one in outside])
    return {"": rmia(log_posteriors(target).gather(1, candidates.y[:, None])[:, 0].exp(), p_out)}


def lira(confidence: Tensor, outside: Tensor) -> dict[str, Tensor]:
    """Offline LiRA: how far a confidence (n,) lies above those of models that never saw the candidate, (R, n).

    Above their mean, as the paper writes; its code takes their median, which makes no difference worth the name.
    One variance for all candidates does not change the order, so ``fixed`` is the plain difference.
    """
    above = confidence - outside.mean(0)
    return {"fixed": above, "per_candidate": above / (outside.std(0) + 1e-6)}


def rmia(p: Tensor, p_out: Tensor) -> Tensor:
    """Offline RMIA: p(x) over its guessed average over models, (n,).

    The published score is the share of population rows z whose ratio is below this one by a factor: the same order for
    any population, but for ties.
    """
    return p / (((1 + RMIA_A) * p_out.mean(0) + (1 - RMIA_A)) / 2)


def logit_of(logits: Tensor, y: Tensor) -> Tensor:
    """Return log(p_y / (1 - p_y)) in float64 (n,): z_y minus the logarithm of the others' sum of exponentials."""
    z = logits.to(torch.float64)
    others = z.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    return z.gather(1, y[:, None])[:, 0] - others


def _target_logits(world: World, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([world.module(part) for part in x.split(_ROWS)])
