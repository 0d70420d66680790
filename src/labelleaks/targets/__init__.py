"""Targets of every kind behind one protocol: rows in, class codes out.

A torch module, a scikit-learn classifier, a function, or recorded answers become a :class:`Target`. Scores are reduced
to the label here, at the door, and never reach an attack.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from labelleaks.core.classes import Classes
from labelleaks.core.domains import Domain
from labelleaks.core.oracle.remote import Remote
from labelleaks.errors import InputError
from labelleaks.inputs.row_format import RowFormat, float32_rows, learn
from labelleaks.targets.base import (
    Preprocess,
    Target,
    default_batch_rows,
    gets,
    is_nearly_target,
    is_target,
    lacking,
    opened,
)
from labelleaks.targets.classes import is_estimator, resolve_classes
from labelleaks.targets.estimator import EstimatorTarget
from labelleaks.targets.function import FunctionTarget
from labelleaks.targets.http import Http, HttpTarget
from labelleaks.targets.module import ModuleTarget
from labelleaks.targets.onnx import Onnx, OnnxTarget
from labelleaks.targets.pipelines import PipelineFunction, is_image_pipeline
from labelleaks.targets.probe import ProbeResult, probe
from labelleaks.targets.recorded import Recorded, RecordedTarget
from labelleaks.targets.text import TextClassifier, adapted

__all__ = [
    "Classes",
    "Http",
    "Onnx",
    "Preprocess",
    "ProbeResult",
    "Recorded",
    "Target",
    "default_batch_rows",
    "is_identified",
    "is_target",
    "lacking",
    "opened",
    "probe",
    "resolve_classes",
    "sendable",
    "usable_device",
    "wrap",
]


def wrap(
    target: Any,
    *,
    numpy: bool = False,
    form: RowFormat | None = None,
    classes: Classes | int | Sequence[Any] | None = None,
    preprocess: Preprocess | None = None,
    device: torch.device | str | None = None,
    batch_rows: int | None = None,
    width: int | None = None,
) -> Target:
    """Make a target of what the user brought. Sends nothing.

    Args:
        target: ``nn.Module``; fitted classifier or pipeline; function; transformers pipeline or (model, tokenizer);
            spaCy pipeline; :class:`Http`; :class:`Onnx`; :class:`Recorded`; or a Target, returned as is.
        numpy: whether the target gets float32 NumPy arrays or float32 torch tensors, where no ``form`` is given.
        form: how the run's rows were encoded: each query becomes rows of the user's own kind again.
        classes: what :func:`labelleaks.core.classes.resolve_classes` found, or the user's ``classes=``; None: its own.
        preprocess: applied to each batch just before the target, in the kind of array that the target gets (images of
            their own shape also where a scikit-learn target gets them flattened afterwards).
        device: where a torch target works; None: where its parameters are.
        batch_rows: rows in one call (of a service: in one request) at most; None: by ``width``, the number of features
            of a row.

    Raises:
        InputError: not something that answers labels, classes unknown, or an option that does not fit the target.
    """
    if form is None and isinstance(target, Recorded):
        form = learn({"Recorded": target.rows})
    form = form or float32_rows("numpy" if numpy else "torch")
    if is_target(target):
        _refuse(preprocess=preprocess, device=device, batch_rows=batch_rows)
        _only_numbers("a target of your own", form)
        ready: Target = target
        return ready
    target = adapted(target)
    if isinstance(target, TextClassifier) and form.describe()["kind"] != "text":
        raise InputError(f"{target.what} takes texts, and these rows are {gets(form)}: give a list of strings")
    kind = _kind(target)
    found = classes if isinstance(classes, Classes) else resolve_classes(target, classes, {})
    place = _device(device, kind, numpy=not form.torch)
    if batch_rows is not None and batch_rows < 1:
        raise InputError(f"batch_rows must be at least 1, got {batch_rows}")
    if preprocess is not None and not callable(preprocess):
        raise InputError(f"preprocess must be a function of a batch, got {type(preprocess).__name__}")
    rows = batch_rows or _batch_rows(target, kind, width, place)
    if kind == "torch":
        return ModuleTarget(target, form=form, classes=found, batch_rows=rows, preprocess=preprocess, device=place)
    if kind == "estimator":
        return EstimatorTarget(target, form=form, classes=found, batch_rows=rows, preprocess=preprocess)
    if kind == "onnx":
        if preprocess is not None:
            raise InputError("preprocess does not apply to an ONNX file: make it part of the model")
        return OnnxTarget(target, form=form, classes=found, batch_rows=rows)
    if kind == "http":
        return _http(target, found, form, preprocess, batch_rows, width)
    if kind == "recorded":
        if preprocess is not None:
            raise InputError("preprocess does not apply to recorded answers: record the rows as the candidates are")
        return RecordedTarget(target, form=form, classes=found, batch_rows=rows)
    if kind == "pipeline":
        target = PipelineFunction(target, form)
    return FunctionTarget(target, form=form, classes=found, batch_rows=rows, preprocess=preprocess, device=place)


def _only_numbers(who: str, form: RowFormat) -> None:
    """Refuse rows that are not carried as their own numbers to a target that gets nothing else."""
    if not form.numeric:
        raise InputError(
            f"{who} gets float32 numbers, and these rows are not carried as such ({gets(form)}): encode them first and "
            "give arrays of numbers, or give a function that turns such rows into labels"
        )


def _refuse(**given: Any) -> None:
    """Options of the kinds of targets that are wrapped here."""
    for option, value in given.items():
        if value is not None:
            shown = option if callable(value) else f"{option}={value if isinstance(value, int) else str(value)!r}"
            raise InputError(f"{shown} does not apply to a target of your own: let it see to that itself")


def is_identified(target: Target) -> bool:
    """Whether a target's fingerprint says all that decides its answers; if not, some are asked for again.

    A service may change behind its address, a function or the code of a module behind its name.
    """
    if isinstance(target, (ModuleTarget, EstimatorTarget, FunctionTarget)):
        return target.identified
    return not isinstance(target, Remote)


def sendable(target: Any, domain: Domain) -> Domain:
    """Return the inputs of ``domain`` that this target can really be sent: of pictures, 256 levels a pixel.

    Raises:
        InputError: the target cannot be sent inputs of this domain.
    """
    return target.narrow(domain) if isinstance(target, Http) else domain


def _kind(target: Any) -> str:
    if isinstance(target, nn.Module):
        return "torch"
    if isinstance(target, Recorded):
        return "recorded"
    if isinstance(target, Http):
        return "http"
    if isinstance(target, Onnx):
        return "onnx"
    if inspect.isclass(target):
        raise InputError(f"target: {target.__name__} is a class; give a fitted or trained instance of it")
    if is_image_pipeline(target):
        return "pipeline"
    if is_estimator(target):
        return "estimator"
    if is_nearly_target(target):
        raise InputError(
            f"target: {type(target).__name__} is nearly a target: it lacks {', '.join(lacking(target))} "
            "(labelleaks.targets.Target says what they are)"
        )
    if callable(target):
        return "callable"
    raise InputError(
        f"target: a {type(target).__name__} does not answer labels; give a torch nn.Module, a fitted scikit-learn "
        "classifier, a function of rows, targets.Http(url=...), targets.Onnx(path) or Recorded(x, labels)"
    )


def _http(
    options: Http,
    classes: Classes,
    form: RowFormat,
    preprocess: Preprocess | None,
    batch_rows: int | None,
    width: int | None,
) -> Target:
    if preprocess is not None:
        raise InputError("preprocess does not apply to a service: give rows in its units, or change them in template:")
    if batch_rows is not None:
        options = replace(options, batch_rows=batch_rows)
    return HttpTarget(options, form=form, classes=classes, width=width)


def _device(device: torch.device | str | None, kind: str, *, numpy: bool) -> torch.device | None:
    if device is None:
        return None
    if kind in ("estimator", "recorded", "http", "onnx", "pipeline") or (kind == "callable" and numpy):
        raise InputError(f"device={str(device)!r} applies to torch targets only, not to this {kind} target")
    return usable_device(device)


def usable_device(device: torch.device | str) -> torch.device:
    """Return the device that is named.

    Raises:
        InputError: there is no such device here.
    """
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={str(device)!r} cannot be used: {str(error).splitlines()[0]}") from None
    return place


def _batch_rows(target: Any, kind: str, width: int | None, device: torch.device | None) -> int:
    if kind == "estimator":
        return 1 << 12  # a call of a forest or a pipeline costs milliseconds before its first row
    if kind == "torch" and device is None:
        device = next((p.device for p in target.parameters()), None)
    return 1024 if width is None else default_batch_rows(width, device=device)
