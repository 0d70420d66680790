"""Reference models: several shadow models of the target, trained once, shared by all attacks of a run.

A tenth of the shadow rows is held out by content: no reference trains on them, so whatever an attack fits (a scale, a
null distribution) is fitted there, with the target's labels already bought.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from labelleaks.core import rng
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.errors import InputError
from labelleaks.models import architectures, shadow_training
from labelleaks.models.boosted_trees import TreeEnsemble
from labelleaks.models.checkpoints import Training
from labelleaks.models.shadow_model import BLOCK, Fitted, Network, Objective, ShadowModel
from labelleaks.models.text_models import TextModel, logits_of_all
from labelleaks.models.training import Augment, Recipe, train

__all__ = [
    "BLOCK",
    "DEFAULT_COUNT",
    "HELD_OUT",
    "References",
    "all_logits",
    "gradient",
    "logits",
    "margins",
    "references",
    "relabelled_models",
    "setup_cost",
    "trainings",
]

_TRAINED = (Network, Fitted, TextModel, TreeEnsemble)

DEFAULT_COUNT = 8
"""Reference models, where neither the user nor the attack says how many."""

HELD_OUT = 0.1
"""Share of the shadow rows that no reference trains on."""


@dataclass(frozen=True, eq=False)
class References:
    """Trained reference models and the shadow rows that they did and did not train on, with the target's labels."""

    models: tuple[ShadowModel, ...]
    rows: ShadowRows
    """Those that all models trained on."""
    held: ShadowRows
    """Those that none of the models trained on; none of them where there are too few rows to part."""


def references(
    knowledge: Knowledge, classes: int, *, seed: int, count: int | None = None, recipe: Recipe | None = None
) -> References:
    """Relabel the shadow rows (billed to set-up, once a run), hold some out, train models on the others.

    Args:
        knowledge: its shadow rows, family and store; models in the store are not trained again.
        classes: number of classes K of the candidates; the models get more where the target's labels are larger.
        seed: equal seeds make equal models, so all attacks of a run share them; the first ones do not depend on how
            many there are.
        count: how many models, at least 1; None: ``knowledge.references``, or DEFAULT_COUNT.
        recipe: how torch models are trained; None: ``shadows.SHADOW_RECIPE``.

    Raises:
        NeedsError: there are no shadow rows. InputError: count below 1, or a family that cannot be built or trained.
        BudgetExceeded: the run's total cannot pay for the labels; nothing was sent.
    """
    count = next((n for n in (count, knowledge.references) if n is not None), DEFAULT_COUNT)
    if count < 1:
        raise InputError(f"references must be at least 1, got {count}")
    shadow = shadow_training.usable(knowledge)
    y = shadow.labels(knowledge.setup)
    rows, held = shadow_training.split_shadow(shadow, HELD_OUT, rng.seed_from(seed, "references held out"))
    if len(rows) == 0:  # a handful of rows, all drawn
        rows, held = held, rows
    classes = max(classes, int(y.max()) + 1)  # those that only a held-out row has among them
    trained = shadow_training.train_shadows(
        rows.x,
        rows.labels(knowledge.setup),
        classes,
        knowledge.family,
        recipe,
        seeds=[shadow_training.reference_seed(seed, r) for r in range(count)],
        store=knowledge.store,
        folder=knowledge.references_dir,
        engine=knowledge.engine,
    )
    return References(trained, rows, held)


def relabelled_models(
    knowledge: Knowledge,
    classes: int,
    recipe: Recipe | None = None,
    *,
    count: int,
    seed: int,
    augment: Augment,
    project: Callable[[Tensor], Tensor],
) -> tuple[ShadowModel, ...]:
    """Train ``count`` models on augmented shadow rows with fresh labels of the target in every epoch.

    One after the other, as torch is set. Sends and bills len(shadow) x epochs x count rows, always:
    ``stop_at_interpolation`` is not obeyed here, so that the cost is known before. Not kept in the store, since the
    labels are not known before the training.
    """
    shadow = shadow_training.usable(knowledge)
    recipe = replace(recipe or shadow_training.SHADOW_RECIPE, stop_at_interpolation=False)

    def label(rows: Tensor) -> Tensor:
        owner = torch.full((len(rows),), -1, dtype=torch.int64, device=rows.device)
        return knowledge.setup.query(rows, owner, phase="relabel")

    def changed(rows: Tensor, generator: torch.Generator) -> Tensor:
        return project(augment(rows, generator))

    models: list[ShadowModel] = []
    for r in range(count):
        own = shadow_training.reference_seed(seed, r)
        model = architectures.build(knowledge.family, shadow.x.shape[1:], classes, seed=own)
        if not isinstance(model, nn.Module):
            raise InputError(
                f"relabelling in every epoch needs a shadow family that is trained in epochs, "
                f"{type(model).__name__} is not: use a torch family, or relabel_each_epoch=False"
            )
        began = time.monotonic()
        trained = train(
            model, shadow.x, None, recipe, seed=own, augment=changed, label=shadow_training.checked(label, classes)
        )
        training = Training(len(shadow), recipe.epochs, round(time.monotonic() - began, 3))
        models.append(Network(trained, classes, tuple(shadow.x.shape[1:]), training))
    return tuple(models)


def setup_cost(knowledge: Knowledge) -> int:
    """Return the set-up labels that :func:`references` will buy: one a shadow row, 0 where they were bought before.

    Raises:
        NeedsError: there are no shadow rows.
    """
    shadow = shadow_training.usable(knowledge)
    return 0 if shadow.labelled else len(shadow)


def trainings(store: Mapping[str, object]) -> list[Training]:
    """Return what each model of a store cost, in an order that equal runs share."""
    trainings = [model.training for model in store.values() if isinstance(model, _TRAINED)]
    return sorted(trainings, key=lambda training: (training.rows, training.epochs))


def logits(model: ShadowModel, x: Tensor) -> Tensor:
    """Return float32 (n, K) logits of rows (n, *shape); log-probabilities where the model has no logits.

    A row's bits do not depend on the rows beside it, here and below.
    """
    return model.logits(x)


def all_logits(models: Sequence[ShadowModel], x: Tensor) -> Tensor:
    """Return the logits of several models, R >= 1: (R, n, K). Models that share their features compute these once."""
    shared = [model for model in models if isinstance(model, TextModel) and model.features is _features(models[0])]
    if len(shared) == len(models):
        return logits_of_all(shared, x)
    return torch.stack([model.logits(x) for model in models])


def _features(model: ShadowModel) -> object:
    return model.features if isinstance(model, TextModel) else None


def margins(models: Sequence[ShadowModel], x: Tensor, y: Tensor) -> Tensor:
    """Return float32 (R, n): each model's logit of y minus its largest other one; above 0 where it predicts y.

    Args:
        models: R of them, R >= 1.
        x: float32 (n, *shape). y: int64 (n,), 0 … K - 1.
    """
    return torch.stack([_margin(z.to(torch.float32), y) for z in all_logits(models, x)])


def gradient(models: Sequence[ShadowModel], x: Tensor, y: Tensor, of: Objective) -> Tensor:
    """Return float32 (n, *shape): d/dx of the mean over ``models`` of ``of``(logits, y).

    Args:
        models: R of them, R >= 1.
        x: float32 (n, *shape). y: int64 (n,), 0 … K - 1.
        of: (logits (m, K), y (m,)) -> (m,), entry i made of row i alone.

    Raises:
        NeedsError: a model is not differentiable (scikit-learn); its family is named.
    """
    total = models[0].gradient(x, y, of)
    for model in models[1:]:
        total = total + model.gradient(x, y, of)
    return total / len(models)


def _margin(z: Tensor, y: Tensor) -> Tensor:
    own = z.gather(1, y[:, None])[:, 0]
    return own - z.scatter(1, y[:, None], torch.finfo(z.dtype).min).amax(1)
