"""Shadow rows and shadow models: drop what is a candidate, hold some out, relabel, train, keep and reuse.

A trained model is kept in ``knowledge.store``, and in ``knowledge.references_dir`` where one is given, under a hash of
all that made it: rows, labels, the untrained model (its structure and its initial weights), the recipe and torch's
version. So attacks of one run share models, later runs find them again, and nothing stale is ever reused.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelleaks.core import progress, rng
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.names import module_of
from labelleaks.core.near_duplicates import nearly_equal
from labelleaks.core.types import Candidates, Predict
from labelleaks.engine import Engine
from labelleaks.errors import InputError, NeedsError
from labelleaks.models import architectures, checkpoints, shadow_model
from labelleaks.models.boosted_trees import BoostedTrees
from labelleaks.models.checkpoints import Training
from labelleaks.models.parallel_training import Job, train_all
from labelleaks.models.shadow_model import BLOCK, Fitted, Network, ShadowModel
from labelleaks.models.text_models import PreparedTexts, TextPipeline, UntrainedText
from labelleaks.models.training import Label, Recipe

__all__ = [
    "SHADOW_RECIPE",
    "checked",
    "drop_near_duplicates",
    "reference_seed",
    "split_shadow",
    "stand_in",
    "train_shadow",
    "train_shadows",
    "usable",
]

SHADOW_RECIPE = Recipe(stop_at_interpolation=True)
"""How a torch shadow is trained unless told otherwise. On 3,000 CIFAR-10 images its agreement with the target rose to
0.665 until it fitted all of its rows, after 15 epochs, and stood at 0.664 after 20."""


def train_shadow(
    x: Tensor,
    y: Tensor,
    classes: int,
    family: Any,
    recipe: Recipe | None = None,
    *,
    seed: int,
    store: MutableMapping[str, Any] | None = None,
    folder: Path | None = None,
    engine: Engine | None = None,
) -> ShadowModel:
    """Train one model on (x, y): :func:`train_shadows` with one seed."""
    return train_shadows(x, y, classes, family, recipe, seeds=[seed], store=store, folder=folder, engine=engine)[0]


def train_shadows(
    x: Tensor,
    y: Tensor,
    classes: int,
    family: Any,
    recipe: Recipe | None = None,
    *,
    seeds: Sequence[int],
    store: MutableMapping[str, Any] | None = None,
    folder: Path | None = None,
    engine: Engine | None = None,
) -> tuple[ShadowModel, ...]:
    """Train a model on (x, y) for each seed, or take it from where the same training was kept.

    Args:
        x: float32 (s, *shape), s >= 1; y: int64 (s,), 0 … K - 1. Not every class needs to occur; one is enough.
        classes: number of classes K; the models get more where the target's labels are larger.
        family: as for :func:`labelleaks.models.architectures.build`.
        recipe: for torch families; None: SHADOW_RECIPE. A scikit-learn classifier has its own settings.
        seeds: each decides initial weights, shuffles and every ``random_state`` of its model. Families with a name have
            the same bytes whatever torch's number of threads.
        store: trained models by content key. folder: where torch models are kept between runs; a damaged file is
            trained again, with a warning.
        engine: who trains models of a named family; None: this machine.

    Raises:
        NeedsError: no rows. InputError: labels out of range, or a family that cannot be built or trained.
    """
    if len(x) == 0:
        raise NeedsError("no shadow rows to train on")
    if len(y):
        classes = max(classes, int(y.max()) + 1)  # a target may know classes that no candidate has
    recipe, store = recipe or SHADOW_RECIPE, {} if store is None else store
    checked(lambda _: y, classes)(x)
    data = _digest(x, y)
    keys: list[str] = []
    new: dict[str, Job] = {}
    texts: PreparedTexts | None = None
    for seed in seeds:
        untrained = architectures.build(family, x.shape[1:], classes, seed=seed)
        key = _content_key(data, classes, untrained, recipe, seed)
        keys.append(key)
        if key in store or key in new:
            continue
        if isinstance(untrained, UntrainedText):
            texts = texts or PreparedTexts.of(untrained.groups, x)
            store[key] = untrained.train(texts, y, classes)
        elif isinstance(untrained, BoostedTrees):
            store[key] = untrained.fit(x, y, classes)
        elif not isinstance(untrained, nn.Module):
            store[key] = _fitted(untrained, x, y, classes)
        elif (training := _kept(folder, key, untrained.to(x.device))) is not None:
            store[key] = Network(untrained.eval(), classes, tuple(x.shape[1:]), training)
        else:
            new[key] = Job(untrained, seed)
    _train_new(new, x, y, classes, family, recipe, store, folder, engine)
    return tuple(store[key] for key in keys)


def _train_new(
    new: Mapping[str, Job],
    x: Tensor,
    y: Tensor,
    classes: int,
    family: Any,
    recipe: Recipe,
    store: MutableMapping[str, Any],
    folder: Path | None,
    engine: Engine | None,
) -> None:
    shape = tuple(x.shape[1:])
    name = architectures.default_family(shape) if family is None else family
    if not isinstance(name, str):
        name = None
    try:
        train_all(list(new.values()), x, y, recipe, family=name, classes=classes, engine=engine)
    finally:
        for key, job in new.items():  # those that an interrupted run has trained are kept
            if job.training is None:
                continue
            store[key] = Network(job.module, classes, shape, job.training)
            if folder is not None:
                about = {"family": name or type(job.module).__name__, "classes": classes, "shape": shape}
                about |= {"seed": job.seed, "recipe": asdict(recipe)}
                checkpoints.save(folder, key, job.module, job.training, about)


def _kept(folder: Path | None, key: str, module: nn.Module) -> Training | None:
    """Fill ``module`` from the folder, if it is there and whole."""
    if folder is None:
        return None
    try:
        return checkpoints.load(folder, key, module)
    except InputError as error:
        warnings.warn(f"{error}; the model is trained again", stacklevel=2)
        return None


def _fitted(estimator: Any, x: Tensor, y: Tensor, classes: int) -> Fitted:
    progress.stage(f"shadow model {type(estimator).__name__}")
    began = time.monotonic()
    fitted = _fit(estimator, x, y)
    some = torch.arange(BLOCK, device=x.device) % len(x)
    return Fitted(fitted, classes, x[some], Training(len(x), 0, round(time.monotonic() - began, 3)))


def stand_in(
    x: Tensor, y: Tensor, classes: int, knowledge: Knowledge, *, seed: int, recipe: Recipe | None = None
) -> Predict:
    """Train a model of the shadow family on (x, y) and return it as a target that answers labels only."""
    return train_shadow(
        x, y, classes, knowledge.family, recipe, seed=rng.seed_from(seed, "stand-in"),
        store=knowledge.store, folder=knowledge.references_dir, engine=knowledge.engine,
    ).labels  # fmt: skip


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
    inside = rng.uniform(streams, 1)[:, 0] < fraction
    return _subset(shadow, ~inside), _subset(shadow, inside)


def drop_near_duplicates(shadow: ShadowRows, candidates: Candidates) -> tuple[ShadowRows, int]:
    """Drop the shadow rows that are a candidate, or nearly one; return the others and how many were dropped.

    What nearly equal means: :func:`labelleaks.core.near_duplicates.nearly_equal`. Sends nothing.
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


def checked(label: Label, classes: int) -> Label:
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
        estimator.fit(shadow_model.table(x), y.cpu().numpy())
    except Exception as error:  # the classifier is the user's choice: whatever it raises gets our name and its text
        raise InputError(f"shadow family {name} could not be trained on {len(x)} rows: {error}") from error
    # Threads add up a forest's votes in any order: one thread, one answer.
    jobs = [p for p in estimator.get_params() if p.rpartition("__")[2] == "n_jobs"]
    return estimator.set_params(**dict.fromkeys(jobs, 1))


def _digest(x: Tensor, y: Tensor) -> bytes:
    digest = hashlib.blake2b(f"{x.device.type} ".encode(), digest_size=16)
    for rows in (x, y):
        digest.update(f"{tuple(rows.shape)} {rows.dtype} ".encode())
        digest.update(rows.detach().contiguous().cpu().numpy().reshape(-1).data)
    return digest.digest()


def _content_key(data: bytes, classes: int, untrained: Any, recipe: Recipe, seed: int) -> str:
    """Hash all that makes a trained model: rows and labels (``data``), the untrained model, recipe and library."""
    digest = hashlib.blake2b(data, digest_size=16)
    digest.update(f"{classes} {seed} {torch.__version__} ".encode())
    if isinstance(untrained, nn.Module):
        digest.update(f"{module_of(type(untrained))} {untrained!r} {recipe!r}".encode())
        for name, weights in untrained.state_dict().items():
            digest.update(f"{name} {tuple(weights.shape)} {weights.dtype} ".encode())
            digest.update(weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(untrained, BoostedTrees):
        digest.update(f"{untrained!r} {version('scikit-learn')}".encode())
    else:
        import joblib  # comes with scikit-learn, only needed with it

        made_of = untrained.identity if isinstance(untrained, (UntrainedText, TextPipeline)) else untrained
        digest.update(joblib.hash(made_of).encode())
    return f"shadow-{digest.hexdigest()}"
