"""Baselines that only the grid runs: salt and pepper, and the attacks that see every posterior of the target.

Those that see posteriors are pure functions of log-posteriors, float64 (n, K), and labels, int64 (n,). All return
float64 (n,), higher = more likely a member; the same ones serve a target that gives labels only, whose posterior is 1
for its label: :func:`one_hot`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from labelleaks.core import rng
from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.batch_invariant import distances
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status, Trajectory, checkpoints_up_to
from labelleaks.errors import InputError
from labelleaks.models.architectures import seeded
from labelleaks.models.checkpoints import Training
from labelleaks.models.shadow_model import LOG_FLOOR, Network
from labelleaks.models.training import Recipe, train

__all__ = ["REVISIONS", "TOP", "SaltAndPepper", "lira_offline", "loss_threshold", "one_hot", "salem"]


LEVELS = 100
REPETITIONS = 10
SLACK = 1.2
"""A further repetition gives up above this multiple of the best level so far."""


@dataclass(frozen=True)
class SaltAndPepper:
    """Distance (L2) to the nearest input with another label among salt-and-pepper copies of the candidate.

    In one repetition every value has a draw u of its own. At level p = 1/100 … 1, values with u < p / 2 go to the
    lowest of the domain, those with u > 1 - p / 2 to the highest, so a level changes all that the one below did. The
    first level with another label ends the repetition; a later one stops above 1.2 times the best level.

    Misclassified: one label, score 0. No level of any repetition works: NO_START, the domain's diameter. Up to 1,001
    labels. Images in a Box only.

    Source: Li & Zhang's code, ``SaltandPepperNoise`` of foolbox 2: 100 levels, 10 repetitions.
    """

    name: ClassVar[str] = "salt_and_pepper"
    needs: ClassVar[frozenset[str]] = frozenset()
    is_distance: ClassVar[bool] = True
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Sends more and more values to an end of their range until the label flips; members take more of them.",
        "distance to a salt-and-pepper copy with another label",
    )

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        if not candidates.domain.continuous:
            kind = type(candidates.domain).__name__
            raise InputError(f"salt_and_pepper needs a continuous domain, such as Box, not {kind}: use boundary")
        return Cost(least=2, most=max(2, min(budget, 1 + LEVELS * REPETITIONS)))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Nothing to set up."""
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        n = len(candidates)
        walk = _Walk(oracle, candidates, seed)
        for repetition in range(REPETITIONS):
            walk.repeat(repetition)
        none = walk.level > LEVELS
        status = torch.where(walk.broke, int(Status.BUDGET), torch.where(none, int(Status.NO_START), int(Status.DONE)))
        status = torch.where(walk.correct, status, int(Status.MISCLASSIFIED))
        return Scores(
            walk.best, status, walk.spent, Trajectory(walk.checkpoints, walk.path.reshape(len(walk.checkpoints), n))
        )


class _Walk:
    """All candidates in lockstep; what row i becomes depends on its own draws and answers."""

    def __init__(self, oracle: LabelOracle, candidates: Candidates, seed: int) -> None:
        self.oracle, self.candidates, self.seed = oracle, candidates, seed
        self.x = candidates.x.flatten(1)
        self.low, self.high = (
            end[None].to(candidates.device).flatten(1) for end in candidates.domain.bounds(candidates.shape)
        )
        n, device = len(candidates), candidates.device
        most = min(1 + LEVELS * REPETITIONS, int(oracle.remaining().max())) if n else 1
        self.checkpoints = checkpoints_up_to(most)
        diameter = candidates.domain.diameter(candidates.shape, "l2")
        self.best = torch.full((n,), diameter, dtype=torch.float64, device=device)
        self.path = self.best.expand(len(self.checkpoints), n).clone()
        self.level = torch.full((n,), LEVELS + 1, dtype=torch.int64, device=device)
        self.spent = torch.zeros(n, dtype=torch.int64, device=device)
        self.broke = torch.zeros(n, dtype=torch.bool, device=device)
        everyone = torch.arange(n, device=device)
        self.correct = torch.ones(n, dtype=torch.bool, device=device)
        self.correct = self._ask(candidates.x, everyone, "correct") == candidates.y
        self._note(everyone[~self.correct], torch.zeros(int((~self.correct).sum()), dtype=torch.float64, device=device))

    def repeat(self, repetition: int) -> None:
        draws = rng.uniform(self.candidates.streams(self.seed, f"salt {repetition}"), self.x.shape[1])
        most = (SLACK * self.level).floor().to(torch.int64).clamp_max(LEVELS)
        most[self.level > LEVELS] = LEVELS
        active = self.correct.clone()
        for level in range(1, LEVELS + 1):
            active &= level <= most
            poor = active & (self.oracle.remaining() < 1)
            self.broke |= poor
            active &= ~poor
            who = active.nonzero().reshape(-1)
            if len(who) == 0:
                return
            half = level / LEVELS / 2
            rows = torch.where(draws[who] < half, self.low, self.x[who])
            rows = torch.where(draws[who] > 1 - half, self.high, rows)
            labels = self._ask(rows.reshape(len(who), *self.candidates.shape), who, "salt")
            other = labels != self.candidates.y[who]
            changed = who[other]
            self.level[changed] = torch.minimum(self.level[changed], torch.tensor(level, device=changed.device))
            self._note(changed, distances(rows[other], self.x[changed], "l2"))
            active[changed] = False

    def _ask(self, rows: Tensor, who: Tensor, phase: str) -> Tensor:
        labels = self.oracle.query(rows, who, phase=phase)
        self.spent[who] += 1
        return labels

    def _note(self, who: Tensor, distance: Tensor) -> None:
        """Keep the nearer point, from the label on that found it."""
        self.best[who] = torch.minimum(self.best[who], distance)
        later = torch.tensor(self.checkpoints, device=who.device)[:, None] >= self.spent[who]
        self.path[:, who] = torch.where(later, self.best[who], self.path[:, who])


REVISIONS: Mapping[str, int] = {"salem": 1, "loss_threshold": 1, "lira_offline": 1}
"""Raise a number where the scores of that baseline change."""
TOP = 3
"""Posteriors that Salem's attack net sees, largest first."""
_RECIPE = Recipe(epochs=50)
_CONFIDENT = 30.0
"""Where log(p / (1 - p)) is cut off: beyond it a float32 posterior is 1."""


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return the log-posteriors of a target that says ``labels`` (n,) and nothing else: 0 and LOG_FLOOR."""
    floor = torch.full((len(labels), classes), LOG_FLOOR, dtype=torch.float64, device=labels.device)
    return floor.scatter(1, labels[:, None], 0.0)


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
    with seeded(rng.seed_from(seed, "salem net")):
        net = nn.Sequential(nn.Linear(TOP, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 2))
    train(net, x, y, _RECIPE, seed=rng.seed_from(seed, "salem"))
    z = Network(net, 2, (TOP,), Training(len(x), _RECIPE.epochs, 0.0)).logits(_top(log_p)).to(torch.float64)
    return z[:, 1] - z[:, 0]


def _top(log_p: Tensor) -> Tensor:
    """The largest posteriors, float32 (n, TOP), 0 where there are fewer classes."""
    largest = log_p.exp().sort(1, descending=True).values[:, :TOP].to(torch.float32)
    return nn.functional.pad(largest, (0, TOP - largest.shape[1]))


def _confidence(log_p: Tensor, y: Tensor) -> Tensor:
    own = loss_threshold(log_p, y)
    others = log_p.scatter(1, y[:, None], -torch.inf).logsumexp(1)
    return (own - others).clamp(-_CONFIDENT, _CONFIDENT)
