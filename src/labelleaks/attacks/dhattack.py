"""DHAttack: how far a candidate keeps its label on a fixed straight way, compared with models that never saw it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from labelleaks.attacks.words import refuse_texts
from labelleaks.core import rng
from labelleaks.core.attack import About, Cost, Knowledge
from labelleaks.core.batch_invariant import mean_of
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.core.validation import choice, flag, number, optional, whole
from labelleaks.errors import InputError
from labelleaks.models import reference_models
from labelleaks.models.shadow_model import ShadowModel
from labelleaks.models.training import Recipe

__all__ = ["DHAttack"]

_ENDS = ("white", "black")


@dataclass(frozen=True)
class Tuning:
    """Constants of the score."""

    epsilon: float = 1e-8
    """In b = exp(-d) + 1e-8, of the authors' code: what makes u saturate."""
    rounding: float = 12**-0.5
    """Standard deviation of what is lost where a distance is read in whole steps, in steps."""


TUNING = Tuning()


Ask = Callable[[Tensor, int], Tensor]
"""(rows (k,), j) -> int64 (k,): the labels of these candidates' points x_j."""


@dataclass(frozen=True)
class DHAttack:
    """A member keeps its label farther on the straight way to a white picture than models that never saw it expect.

    1. fixedBD: x_j = x + (j / n) (white - x), j = 0 … n - 1. d is the j of the first label that is not y, n where there
       is none. Above n = 100 a run of n // 100 wrong labels is needed. Where x itself is misclassified, d is
       max(n // 100, 1) exp(-c), c the number of wrong labels before the first right one: these are ordered, too.
    2. The same d of every reference model (relabelled shadow rows, ``knowledge.references`` of them, by default 8).
    3. u = log(exp(-b) / (1 - exp(-b))), b = exp(-d) + 1e-8: about d where d is small, saturating at 18.4.
    4. Score z = (u - mean) / sd, mean and sd over the references' u. The authors' relScore, details["relscore"], is
       Φ(z), in [0, 1]: the same order, but everything beyond 8 standard deviations rounds to a tie. Status
       MISCLASSIFIED is noted, and such a candidate is not ranked last: it is compared like all others.

    Labels: one for each point up to the first wrong one (for the misclassified: the first right one), n at most; the
    rest of the walk does not change d. ``early_stop=False`` asks and bills all n points, as the authors do.

    Domains: in a Box the way is straight. A binary feature or a one-hot group cannot move a little: it takes its end
    value when j / n passes its own threshold; the thresholds are spread evenly over (0, 1), in an order drawn from the
    seed, the same for all candidates. Integer features round. Every point is projected to the domain.

    Args:
        queries: n; a smaller budget plans a shorter walk with as many points as it can pay for.
        towards: ``"white"``: for an image in a Box the candidate's own largest value in all features, else the domain's
            largest (one-hot groups: the first category); ``"black"``: the smallest; or an input, (*shape), in the
            domain, float32.
        early_stop: stop where d is known.
        sd_floor: smallest sd, in units of u. The authors have none and divide by 1e-30 where all references agree; 0.29
            is what reading d in whole steps loses.
        recipe: how torch references are trained; None: the shared default.

    ``details``: ``distance``, ``relscore``, ``reference_mean``, ``reference_sd`` (before the floor), float64 (n,).

    Raises:
        InputError: queries below 2, an sd_floor that is not positive, an end that is not a point of the domain.

    The authors train 256 references; here the count is the adversary's choice.

    Source: Li, Li et al., "DHAttack" (USENIX Security 2025), fixedBD and relScore, and the authors' code.
    """

    name: ClassVar[str] = "dhattack"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About(
        "Walks straight to a white input; members keep their label longer than models that never saw them would.",
        "distance, beside that of reference models",
        relabels=True,
    )

    queries: int = 30
    towards: Literal["white", "black"] | Tensor = "white"
    early_stop: bool = True
    sd_floor: float = TUNING.rounding
    recipe: Recipe | None = None

    def __post_init__(self) -> None:
        whole(self, "queries", 2)
        if not isinstance(self.towards, Tensor):
            choice(self, "towards", _ENDS, "an input")
        flag(self, "early_stop")
        number(self, "sd_floor", "(0, inf)")
        optional(self, "recipe", Recipe)

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        """Two labels at least, ``queries`` or the budget at most; set-up: a label per shadow row, bought once a run.

        Raises:
            NeedsError: there are no shadow rows. InputError: the end of the walk is not a point of the domain.
        """
        refuse_texts(self.name, candidates, "it walks towards a white or black input, and there is none")
        _end(candidates, self.towards)
        return Cost(least=2, most=max(2, min(budget, self.queries)), setup=reference_models.setup_cost(knowledge))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        """Relabel the shadow rows and train the reference models, unless that was done."""
        self.cost(candidates, knowledge, 1)
        reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe)
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        """Walk with the target, walk with every reference, compare."""
        steps = min([self.queries, *oracle.remaining().tolist()])
        path = _StraightPath(candidates, _end(candidates, self.towards), steps, seed)
        models = reference_models.references(knowledge, candidates.classes, seed=seed, recipe=self.recipe).models

        def target(rows: Tensor, j: int) -> Tensor:
            return oracle.query(path.points(rows, j), rows, phase="way")

        d, asked, wrong_at_once = _walk(target, candidates.y, steps, early_stop=self.early_stop)
        distances = [_walk(path.labels_of(model), candidates.y, steps, early_stop=True)[0] for model in models]
        u = _transformed(torch.stack(distances))  # (R, n)
        mean = mean_of(u)
        sd = mean_of((u - mean).square()).sqrt()
        z = (_transformed(d) - mean) / sd.clamp_min(self.sd_floor)
        return Scores(
            value=z,
            status=torch.where(wrong_at_once, int(Status.MISCLASSIFIED), int(Status.DONE)),
            queries=asked,
            details={
                "distance": d,
                "relscore": torch.special.ndtr(z),
                "reference_mean": mean,
                "reference_sd": sd,
            },
        )


def _transformed(d: Tensor) -> Tensor:
    """u = log(exp(-b) / (1 - exp(-b))) with b = exp(-d) + 1e-8: float64, rises with d, -0.6 … 18.5."""
    b = torch.exp(-d) + TUNING.epsilon
    return -b - torch.log(-torch.expm1(-b))


def _walk(ask: Ask, y: Tensor, steps: int, *, early_stop: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return fixedBD, float64 (n,), the points asked for, int64 (n,), and where x_0 was wrong, bool (n,)."""
    window = max(steps // 100, 1)
    wrong = torch.zeros(len(y), steps, dtype=torch.bool, device=y.device)
    asked = torch.zeros(len(y), dtype=torch.int64, device=y.device)
    active = torch.arange(len(y), device=y.device)
    for j in range(steps):
        wrong[active, j] = ask(active, j) != y[active]
        asked[active] += 1
        if early_stop:
            far = wrong[active, max(0, j + 1 - window) : j + 1].all(1) & (j + 1 >= window)
            ended = torch.where(wrong[active, 0], ~wrong[active, j], far)
            active = active[~ended]
            if len(active) == 0:
                break
    return _distance(wrong, window), asked, wrong[:, 0]


def _distance(wrong: Tensor, window: int) -> Tensor:
    """fixedBD of answers (n, steps), True = wrong; rows that started right may be cut after their first run."""
    steps = wrong.shape[1]
    run = wrong.unfold(1, window, 1).all(2)
    first = torch.where(run.any(1), run.to(torch.int8).argmax(1), steps).to(torch.float64)
    leading = wrong.to(torch.int64).cumprod(1).sum(1).to(torch.float64)
    return torch.where(wrong[:, 0], window * torch.exp(-leading), first)


def _end(candidates: Candidates, towards: str | Tensor) -> Tensor:
    """Return where every candidate's walk ends: float32, (n, *shape) or (1, *shape).

    Raises:
        InputError: a given end of another shape, or outside the domain.
    """
    shape, domain = candidates.shape, candidates.domain
    if isinstance(towards, Tensor):
        if tuple(towards.shape) != shape:
            raise InputError(f"dhattack: towards has shape {tuple(towards.shape)}, the candidates' rows {shape}")
        end = towards.to(candidates.device, torch.float32)[None]
        if not bool(torch.isfinite(end).all()):
            raise InputError("dhattack: towards has NaN or infinity: give finite numbers of the domain")
        domain.check(end, "dhattack: towards")
        return end
    if domain.continuous and candidates.layout is not None:
        flat = candidates.x.reshape(len(candidates), candidates.width)
        own = flat.amax(1) if towards == "white" else flat.amin(1)
        return own.reshape(-1, *[1] * len(shape)).expand_as(candidates.x)
    low, high = domain.bounds(shape)
    return domain.project((high if towards == "white" else low)[None].to(candidates.device))


class _StraightPath:
    """The points x_j of all candidates."""

    def __init__(self, candidates: Candidates, end: Tensor, steps: int, seed: int) -> None:
        self._x = candidates.x
        self._end = end.expand_as(candidates.x)
        self._steps = steps
        self._domain = candidates.domain
        self._thresholds = _thresholds(candidates, seed)

    def points(self, rows: Tensor, j: int) -> Tensor:
        """Return x_j of the given candidates: float32 (k, *shape), in the domain."""
        x, end = self._x[rows], self._end[rows]
        share = j / self._steps
        moved = x + share * (end - x)
        if self._thresholds is not None:
            flat = torch.where(self._thresholds < share, end.flatten(1), x.flatten(1)).reshape(moved.shape)
            whole = (~self._thresholds.isnan()).reshape(1, *moved.shape[1:])
            moved = torch.where(whole, flat, moved)
        return self._domain.project(moved)

    def labels_of(self, model: ShadowModel) -> Ask:
        """Return how ``model`` labels the points."""
        return lambda rows, j: reference_models.logits(model, self.points(rows, j)).argmax(1)


def _thresholds(candidates: Candidates, seed: int) -> Tensor | None:
    """Share of the walk at which each feature takes its end value: float32 (width,), NaN where it moves gradually."""
    groups: list[slice] = []
    for group in candidates.domain.groups(candidates.shape):
        if group.kind == "one_hot":
            groups.append(group.columns)
        elif group.kind == "binary":
            groups += [slice(i, i + 1) for i in range(group.columns.start, group.columns.stop)]
    if not groups:
        return None
    thresholds = torch.full((candidates.width,), math.nan)
    generator = torch.Generator().manual_seed(rng.seed_from(seed, "dhattack: order"))
    for place, group in enumerate(torch.randperm(len(groups), generator=generator).tolist()):
        thresholds[groups[group]] = (place + 0.5) / len(groups)
    return thresholds.to(candidates.device)
