"""Shadow rows and shadow models: drop what is a candidate, hold some out, relabel, train, keep and reuse.

A trained model is kept in ``knowledge.store`` under a hash of all that made it: rows, labels, the untrained model (its
structure and its initial weights) and the recipe. So attacks of one run share models, and nothing stale is ever reused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from labelleaks import models, rng, shadowmodel
from labelleaks.errors import InputError, NeedsError
from labelleaks.near import nearly_equal
from labelleaks.shadowmodel import BLOCK, Fitted, Network, ShadowModel
from labelleaks.training import Augment, Label, Recipe, train
from labelleaks.types import Candidates, Knowledge, Predict, ShadowRows

__all__ = [
    "SHADOW_RECIPE",
    "drop_near_duplicates",
    "reference_seed",
    "relabelled_models",
    "split_shadow",
    "stand_in",
    "train_shadow",
    "usable",
]

SHADOW_RECIPE = Recipe(stop_at_interpolation=True)
"""How a torch shadow is trained unless told otherwise. On 3,000 CIFAR-10 images its agreement with the target rose to
0.665 until it fitted all of its rows, after 15 epochs, and stood at 0.664 after 20."""


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

    Sends and bills len(shadow) x epochs x count rows, always: ``stop_at_interpolation`` is not obeyed here, so
    that the cost is known before. Not kept in the store, since the labels are not known before the training.
    """
    shadow = usable(knowledge)
    recipe = replace(recipe or SHADOW_RECIPE, stop_at_interpolation=False)

    def label(rows: Tensor) -> Tensor:
        owner = torch.full((len(rows),), -1, dtype=torch.int64, device=rows.device)
        return knowledge.setup.query(rows, owner, phase="relabel")

    def changed(rows: Tensor, generator: torch.Generator) -> Tensor:
        return project(augment(rows, generator))

    found: list[ShadowModel] = []
    for r in range(count):
        own = reference_seed(seed, r)
        model = models.build(knowledge.family, shadow.x.shape[1:], classes, seed=own)
        if not isinstance(model, nn.Module):
            raise InputError(
                f"relabelling in every epoch needs a shadow family that is trained in epochs, "
                f"{type(model).__name__} is not: use a torch family, or relabel_each_epoch=False"
            )
        trained = train(model, shadow.x, None, recipe, seed=own, augment=changed, label=_checked(label, classes))
        found.append(Network(trained, classes, tuple(shadow.x.shape[1:])))
    return tuple(found)


def train_shadow(
    x: Tensor,
    y: Tensor,
    classes: int,
    family: Any,
    recipe: Recipe | None = None,
    *,
    seed: int,
    store: MutableMapping[str, Any] | None = None,
) -> ShadowModel:
    """Train one model on (x, y), or take it from ``store`` where the same training was done before.

    Args:
        x: float32 (s, *shape), s >= 1; y: int64 (s,), 0 … K - 1. Not every class needs to occur; one is enough.
        classes: number of classes K; the model gets more where the target's labels are larger.
        family: as for :func:`labelleaks.models.build`.
        recipe: for torch families; None: SHADOW_RECIPE. A scikit-learn classifier has its own settings.
        seed: decides initial weights, shuffles and every ``random_state``.
        store: trained models by content key.

    Raises:
        NeedsError: no rows. InputError: labels out of range, or a family that cannot be built or trained.
    """
    if len(x) == 0:
        raise NeedsError("no shadow rows to train on")
    if len(y):
        classes = max(classes, int(y.max()) + 1)  # a target may know classes that no candidate has
    untrained = models.build(family, x.shape[1:], classes, seed=seed)
    _checked(lambda _: y, classes)(x)
    recipe = recipe or SHADOW_RECIPE
    key = _content_key(x, y, classes, untrained, recipe, seed)
    if store is not None and key in store:
        kept: ShadowModel = store[key]
        return kept
    if isinstance(untrained, nn.Module):
        model: ShadowModel = Network(train(untrained, x, y, recipe, seed=seed), classes, tuple(x.shape[1:]))
    else:
        some = torch.arange(BLOCK, device=x.device) % len(x)
        model = Fitted(_fit(untrained, x, y), classes, x[some])
    if store is not None:
        store[key] = model
    return model


def stand_in(
    x: Tensor, y: Tensor, classes: int, knowledge: Knowledge, *, seed: int, recipe: Recipe | None = None
) -> Predict:
    """Train a model of the shadow family on (x, y) and return it as a target that answers labels only."""
    own = rng.seed_from(seed, "stand-in")
    return train_shadow(x, y, classes, knowledge.family, recipe, seed=own, store=knowledge.store).labels


def split_shadow(shadow: ShadowRows, fraction: float, seed: int) -> tuple[ShadowRows, ShadowRows]:
    """Split into (rows to train on, rows that no model trains on).

    Each row's content decides its side, so equal rows share one, and more rows do not reshuffle the others. Nothing is
    sent; labels that were already bought stay with their rows.

    Args:
        shadow: the rows.
        fraction: share of the held-out part, 0 to below 1, met on average.
        seed: another one makes another split.

    Raises:
        InputError: fraction out of range.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"split_shadow: the held-out fraction must be 0 to below 1, got {fraction}")
    if len(shadow) == 0:
        return shadow, shadow
    streams = rng.streams(rng.content_keys(shadow.x), seed, "shadow split")
    held = rng.uniform(streams, 1)[:, 0] < fraction
    return _subset(shadow, ~held), _subset(shadow, held)


def drop_near_duplicates(shadow: ShadowRows, candidates: Candidates) -> tuple[ShadowRows, int]:
    """Drop the shadow rows that are a candidate, or nearly one; return the others and how many were dropped.

    What nearly equal means: :func:`labelleaks.near.nearly_equal`. Sends nothing.
    """
    near = nearly_equal(shadow.x, candidates.x, candidates.domain)
    dropped = int(near.sum())
    return (shadow, 0) if dropped == 0 else (_subset(shadow, ~near), dropped)


def _subset(shadow: ShadowRows, keep: Tensor) -> ShadowRows:
    y, labels = shadow.y, shadow._labels
    return ShadowRows(
        shadow.x[keep],
        None if y is None else y[keep.to(y.device)],
        None if labels is None else labels[keep.to(labels.device)],
    )


def usable(knowledge: Knowledge) -> ShadowRows:
    """Return the shadow rows.

    Raises:
        NeedsError: there are none.
    """
    if knowledge.shadow is None or len(knowledge.shadow) == 0:
        raise NeedsError("a shadow model needs shadow rows: give shadow=(x,), rows like the target's training data")
    return knowledge.shadow


def reference_seed(seed: int, r: int) -> int:
    """Return the seed of reference model ``r``: the first ones are the same, however many there are."""
    return rng.seed_from(seed, f"reference {r}")


def _checked(label: Label, classes: int) -> Label:
    """Refuse labels outside 0 … classes - 1: cross-entropy would crash, or worse on a GPU."""

    def checked(rows: Tensor) -> Tensor:
        y = label(rows)
        if len(y) != len(rows) or bool(((y < 0) | (y >= classes)).any()):
            raise InputError(
                f"shadow labels must be one of 0 to {classes - 1} for each of {len(rows)} rows, got {len(y)} labels "
                f"from {int(y.min())} to {int(y.max())}: where the target knows more classes, give classes="
            )
        return y

    return checked


def _fit(estimator: Any, x: Tensor, y: Tensor) -> Any:
    """Fit a scikit-learn classifier; where all labels are one class, which many refuse, a constant answer is exact."""
    name = type(estimator).__name__
    if bool((y == y[0]).all()):
        from sklearn.dummy import DummyClassifier  # scikit-learn is slow to import

        estimator = DummyClassifier(strategy="most_frequent")
    try:
        estimator.fit(shadowmodel.table(x), y.cpu().numpy())
    except Exception as error:  # the classifier is the user's choice: whatever it raises gets our name and its text
        raise InputError(f"shadow family {name} could not be trained on {len(x)} rows: {error}") from error
    # Threads add up a forest's votes in any order: one thread, one answer.
    jobs = [p for p in estimator.get_params() if p.rpartition("__")[2] == "n_jobs"]
    return estimator.set_params(**dict.fromkeys(jobs, 1))


def _content_key(x: Tensor, y: Tensor, classes: int, untrained: Any, recipe: Recipe, seed: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for rows in (x, y):
        digest.update(f"{tuple(rows.shape)} {rows.dtype} ".encode())
        digest.update(rows.detach().contiguous().cpu().numpy().reshape(-1).data)
    digest.update(f"{classes} {seed} ".encode())
    if isinstance(untrained, nn.Module):
        digest.update(f"{type(untrained).__module__} {untrained!r} {recipe!r}".encode())
        for name, weights in untrained.state_dict().items():
            digest.update(f"{name} {tuple(weights.shape)} {weights.dtype} ".encode())
            digest.update(weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    else:
        import joblib  # comes with scikit-learn, only needed with it

        digest.update(joblib.hash(untrained).encode())
    return f"shadow-{digest.hexdigest()}"
