"""Families of shadow models: a network by name, any factory of an ``nn.Module``, any scikit-learn classifier.

Images may be (C, H, W), (H, W) or (H, W, C), as their shape tells (:mod:`labelleaks.core.domains.layout`) or the name
says: ``"cnn/hwc"``. The names are those of :mod:`labelleaks.models.networks`, and ``"trees"``
(:mod:`labelleaks.models.boosted_trees`), the default of tables.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from labelleaks.core.domains import WORDS, Domain, Word, image_layout
from labelleaks.errors import InputError, nearest
from labelleaks.models.boosted_trees import BoostedTrees
from labelleaks.models.networks import FAMILIES
from labelleaks.models.text_models import TextFamily, TextPipeline, UntrainedText

__all__ = ["build", "default_family", "family_for", "in_layout", "is_estimator", "seeded"]

MOST_COLUMNS = 1024
"""Features of a table up to which boosted trees are the default: beyond, no feature can be changed at a time."""

_NAMES = ("trees", *FAMILIES)


def default_family(shape: Sequence[int], word: Word | None = None) -> str:
    """Return the family for rows of ``shape`` when the user names none: ``"cnn"`` for images, else ``"mlp"``."""
    return "mlp" if image_layout(shape, word) is None else "cnn"


def family_for(family: Any, shape: Sequence[int], domain: Domain) -> Any:
    """Return the family for rows of a domain: ``"trees"`` for a table of mixed columns, where the user names none.

    Elsewhere as :func:`in_layout`.
    """
    if family is None and not domain.continuous:
        kinds = {group.kind for group in domain.groups(shape)}
        if kinds != {"binary"} and "token" not in kinds and math.prod(shape) <= MOST_COLUMNS:
            return "trees"
    return in_layout(family, shape, domain.layout)


def in_layout(family: Any, shape: Sequence[int], word: Word | None) -> Any:
    """Return the family for rows in the user's layout: its name with ``/chw``, ``/hwc``, … where shape alone misleads.

    Any other family is the user's own and stays.
    """
    if word is None or image_layout(shape, word) == image_layout(shape):
        return family
    name = default_family(shape, word) if family is None else family
    return name if not isinstance(name, str) or name == "mlp" or "/" in name else f"{name}/{word}"


def build(family: Any, shape: Sequence[int], classes: int, *, seed: int) -> Any:
    """Return an untrained model of ``family``, its initial weights drawn from ``seed``. No global seed is touched.

    Args:
        family: ``"trees"``, or a name of :data:`labelleaks.models.networks.FAMILIES` with ``/chw``, ``/hwc`` or ``/hw``
            behind it where rows are images in another layout than their shape tells; None for the default of this
            shape; ``factory(shape, classes)`` or ``factory()`` that returns an ``nn.Module`` with ``classes`` outputs
            (logits); or a scikit-learn classifier with ``predict_proba``, which is cloned and gets ``seed`` for every
            ``random_state``.
        shape: shape of one row.
        classes: number of classes K.
        seed: 0 or more.

    Returns:
        An ``nn.Module`` on the CPU, (m, *shape) float32 -> (m, K), or an unfitted scikit-learn classifier.

    Raises:
        InputError: an unknown name (the nearest is named), a module or class where a factory is needed, a classifier
            without probabilities, or a module whose output is not (m, K).
    """
    shape = tuple(int(side) for side in shape)
    if isinstance(family, TextFamily):
        inner = None if family.inner is None else build(family.inner, shape, classes, seed=seed)
        if isinstance(inner, nn.Module):
            return inner
        return UntrainedText(family.groups, seed) if inner is None else TextPipeline(inner, family.groups, seed)
    if family is None:
        family = default_family(shape)
    if isinstance(family, str):
        name, _, layout = family.partition("/")
        word = next((word for word in WORDS if word == layout), None)
        if name not in _NAMES or (layout and word is None):
            raise InputError(f"unknown shadow family {family!r}{nearest(name, _NAMES)}")
        if name == "trees":
            return BoostedTrees(seed)
        with seeded(seed):
            return FAMILIES[name](shape, classes, image_layout(shape, word))
    if isinstance(family, nn.Module):
        raise InputError(
            f"family= got a {type(family).__name__} that is already built: every shadow model needs fresh weights, "
            f"so give a function that makes one, for example family=lambda: {type(family).__name__}(...)"
        )
    if is_estimator(family) and not inspect.isclass(family):
        return _clone(family, seed)
    if not callable(family):
        raise InputError(
            f"family= must be a name, a function that makes an nn.Module, or a scikit-learn classifier; got "
            f"{type(family).__name__}{_without_probabilities(family)}"
        )
    with seeded(seed):
        return _from_factory(family, shape, classes, seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with torch's global generators at ``seed``, and put them back as they were.

    Inference mode is off inside: a module built in it could not be trained.
    """
    with torch.inference_mode(False), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if torch.cuda.is_available() or torch.backends.mps.is_available() or torch.xpu.is_available():
            torch.manual_seed(seed)
        else:  # the CPU's alone: the other notes its caller's stack for every kind of device that is not there
            torch.default_generator.manual_seed(seed)
        yield


def is_estimator(thing: object) -> bool:
    """Whether ``thing`` is a classifier in scikit-learn's manner that gives probabilities."""
    return all(hasattr(thing, verb) for verb in ("fit", "predict_proba", "get_params"))


def _without_probabilities(thing: object) -> str:
    if hasattr(thing, "fit") and not hasattr(thing, "predict_proba"):
        return " without predict_proba: wrap it in sklearn.calibration.CalibratedClassifierCV, or set probability=True"
    return ""


def _from_factory(factory: Callable[..., Any], shape: tuple[int, ...], classes: int, seed: int) -> Any:
    name = getattr(factory, "__qualname__", type(factory).__name__)
    try:
        signature = inspect.signature(factory)
        signature.bind(shape, classes)
        wants_arguments = True
    except TypeError:
        wants_arguments = False
    except ValueError:  # built without a signature that Python can read
        wants_arguments = True
    model = factory(shape, classes) if wants_arguments else factory()
    if is_estimator(model):
        return _clone(model, seed)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"shadow family {name} made a {type(model).__name__}, not an nn.Module{_without_probabilities(model)}"
        )
    _check_outputs(model, name, shape, classes)
    return model


def _check_outputs(model: nn.Module, name: str, shape: tuple[int, ...], classes: int) -> None:
    """Ask for the logits of two empty rows: a module that does not fit the data is found before any label is bought."""
    training = model.training
    model.eval()
    parameter = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            out = model(torch.zeros(2, *shape, device=parameter.device))
    except RuntimeError as error:
        raise InputError(f"shadow family {name} cannot take rows of shape {shape}: {error}") from error
    finally:
        model.train(training)
    if not isinstance(out, Tensor) or tuple(out.shape) != (2, classes):
        answer = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise InputError(f"shadow family {name} answers {answer} to 2 rows; logits of shape (2, {classes}) are needed")


def _clone(estimator: Any, seed: int) -> Any:
    from sklearn.base import clone  # scikit-learn is slow to import

    fresh = clone(copy.deepcopy(estimator))
    states = [name for name in fresh.get_params() if name.rpartition("__")[2] == "random_state"]
    return fresh.set_params(**dict.fromkeys(states, seed % (1 << 32)))
