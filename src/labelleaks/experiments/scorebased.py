"""The baselines that see every posterior of the target, and the same ones when it gives labels only.

Pure functions of log-posteriors, float64 (n, K), and labels, int64 (n,). All return float64 (n,), higher = more likely
a member. A target that gives labels only is one whose posterior is 1 for its label: :func:`one_hot`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from labelleaks.core.rng import seed_from
from labelleaks.models.architectures import seeded
from labelleaks.models.checkpoints import Training
from labelleaks.models.shadow_model import LOG_FLOOR, Network
from labelleaks.models.training import Recipe, train

__all__ = ["REVISIONS", "TOP", "lira_offline", "loss_threshold", "one_hot", "salem"]

REVISIONS: Mapping[str, int] = {"salem": 1, "loss_threshold": 1, "lira_offline": 1}
"""Raise a number where the scores of that baseline change."""
TOP = 3
"""Posteriors that Salem's attack net sees, largest first."""
_RECIPE = Recipe(epochs=50)
_CONFIDENT = 30.0
"""Where log(p / (1 - p)) is cut off: beyond it a float32 posterior is 1."""


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return the log-posteriors of a target that says ``labels`` (n,) and nothing else: 0 and LOG_FLOOR."""
    found = torch.full((len(labels), classes), LOG_FLOOR, dtype=torch.float64, device=labels.device)
    return found.scatter(1, labels[:, None], 0.0)


def loss_threshold(log_p: Tensor, y: Tensor) -> Tensor:
    """Minus the cross-entropy of the true label. Source: Yeom et al. 2018 (1709.01604), section 3."""
    return log_p.gather(1, y[:, None])[:, 0]


def lira_offline(log_p: Tensor, outside: Sequence[Tensor], y: Tensor) -> Tensor:
    """Distance of log(p_y / (1 - p_y)) above its mean over shadow models that never saw the candidate.

    One variance for all candidates, which does not change their order: right for few shadow models. Source: Carlini et
    al. 2022 (2112.03570), offline attack, fixed variance.
    """
    return _confidence(log_p, y) - torch.stack([_confidence(of_one, y) for of_one in outside]).mean(0)


def salem(log_p: Tensor, inside: Tensor, outside: Tensor, *, seed: int) -> Tensor:
    """Train an attack net on a shadow model's rows and ask it about the candidates.

    Args:
        log_p: of the candidates, by the target.
        inside, outside: of rows that the shadow model did, and did not, train on, by the shadow model.
        seed: decides the attack net.

    The net is 3-128-128-2 with tanh, as in the code of Li & Zhang's baselines. Its training is not in that code: here
    50 epochs of Adam at 1e-3. Source: Salem et al. 2019 (1806.01246), adversary 1.
    """
    x = torch.cat([_top(inside), _top(outside)])
    y = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))]).to(torch.int64)
    with seeded(seed_from(seed, "salem net")):
        net = nn.Sequential(nn.Linear(TOP, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 2))
    train(net, x, y, _RECIPE, seed=seed_from(seed, "salem"))
    z = Network(net, 2, (TOP,), Training(len(x), _RECIPE.epochs, 0.0)).logits(_top(log_p)).to(torch.float64)
    return z[:, 1] - z[:, 0]


def _top(log_p: Tensor) -> Tensor:
    """The largest posteriors, float32 (n, TOP), 0 where there are fewer classes."""
    found = log_p.exp().sort(1, descending=True).values[:, :TOP].to(torch.float32)
    return nn.functional.pad(found, (0, TOP - found.shape[1]))


def _confidence(log_p: Tensor, y: Tensor) -> Tensor:
    own = loss_threshold(log_p, y)
    others = log_p.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    return (own - others).clamp(-_CONFIDENT, _CONFIDENT)
