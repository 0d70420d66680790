"""A torch ``nn.Module`` as a target."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from labelleaks.core.classes import Classes
from labelleaks.errors import InputError, TargetError
from labelleaks.inputs.row_format import RowFormat
from labelleaks.targets.answers import read_answer
from labelleaks.targets.base import Preprocess, gets, hash_module, is_identified, qualified_name, says_all, scope

__all__ = ["ModuleTarget"]


def as_given(module: nn.Module, form: RowFormat, preprocess: Preprocess | None) -> bool:
    """Whether a module gets rows as they were given, not as numbers in its floating dtype.

    Whole numbers do: where something is applied first, which may ask for their dtype (8-bit pixels are scaled, others
    are not), and where the module looks them up (token ids). So do rows with missing values, dicts of numbers, and
    pictures, of which what is applied first makes tensors.

    Raises:
        InputError: rows that are no tensor.
    """
    described = form.describe()
    if described["kind"] == "dict" or (described["kind"] == "pictures" and preprocess is not None):
        return True
    if described["kind"] == "pictures":
        raise InputError(
            "a torch module gets a tensor, and the rows are Pillow pictures: give preprocess=, for example the image "
            "processor that the model was trained with"
        )
    if described["kind"] != "array" or "sparse" in described:
        if form.numeric:
            return False
        raise InputError(
            "a torch module gets a tensor, and texts are none: give a transformers model with its tokenizer, (model, "
            "tokenizer), or a function from a list of strings to labels"
            if gets(form) == "texts"
            else f"a torch module gets a tensor, and rows of {gets(form)} are not carried as such: give a function "
            "that turns such rows into labels, or the rows as arrays"
        )
    if "columns" in described and not form.numeric:
        return True
    whole = not described["dtype"].startswith(("float", "bfloat"))
    looked_up = any(isinstance(part, (nn.Embedding, nn.EmbeddingBag)) for part in module.modules())
    return whole and (preprocess is not None or looked_up)


class ModuleTarget:
    """A module that answers scores (m, K) or labels (m,).

    While open (``with target:``) every submodule is in evaluation mode; closing gives each its own mode back, whatever
    happened. A call outside does so for that call. With ``device`` the module lives there while open and is moved back.
    No gradient is recorded. Rows come to the module as a copy, on its device and in its floating dtype.

    Raises:
        InputError: the module has parameters that were never initialised.
    """

    kind = "torch"

    def __init__(
        self,
        module: nn.Module,
        *,
        form: RowFormat,
        classes: Classes,
        batch_rows: int,
        preprocess: Preprocess | None = None,
        device: torch.device | None = None,
    ) -> None:
        tensors = list(itertools.chain(module.parameters(), module.buffers()))
        if any(is_lazy(tensor) for tensor in tensors):
            raise InputError(
                f"{qualified_name(module)} has lazy parameters that no input has shaped yet: train it first"
            )
        self.classes = classes
        self.batch_rows = batch_rows
        self.name = qualified_name(module)
        self._module = module
        self._preprocess = preprocess
        self._form = form
        self._as_given = as_given(module, form, preprocess)
        self._home = tensors[0].device if tensors else None
        self._device = device
        self._dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
        self._modes: list[tuple[nn.Module, bool]] = []
        self._opened = 0
        self._part: str | None = None

    def __enter__(self) -> Self:
        self._opened += 1
        if self._opened > 1:
            return self
        parts = [self._module, self._preprocess] if isinstance(self._preprocess, nn.Module) else [self._module]
        self._modes = [(m, m.training) for part in parts for m in part.modules()]
        try:
            for part in parts:
                part.eval()
            if self._device is not None:
                self._module.to(self._device)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened -= 1
        if self._opened:
            return
        for module, training in self._modes:
            module.training = training
        self._modes = []
        if self._device is not None and self._home is not None:
            self._module.to(self._home)

    def __call__(self, x: Tensor) -> Tensor:
        if not self._opened:
            with self:
                return self(x)
        device = self._device or self._home or x.device
        with torch.no_grad():
            batch = self._batch(x, device)
            answer = self._module(**batch) if isinstance(batch, dict) else self._module(batch)
            answer, self._part = _part(answer, len(self.classes))
            return read_answer(answer, len(x), self.classes, kind="torch").to(x.device)

    def _batch(self, x: Tensor, device: torch.device) -> Tensor | dict[str, Tensor]:
        """Return what the module gets: rows as they were given, or their numbers in the module's floating dtype."""
        if self._as_given:
            batch: Any = _tensors(self._form.decode(x), device)
        else:
            batch = x.detach().to(device=device, dtype=self._dtype, copy=True, memory_format=torch.contiguous_format)
        if self._preprocess is not None:
            batch = _tensors(self._preprocess(batch), device)
        if isinstance(batch, dict):
            return {name: self._floating(part) for name, part in batch.items()}
        looked_up = self._preprocess is not None and not self._as_given
        ready: Tensor = batch if looked_up else self._floating(batch)
        return ready

    def _floating(self, batch: Any) -> Any:
        """Fractions in the module's own dtype."""
        return batch.to(self._dtype) if isinstance(batch, Tensor) and batch.is_floating_point() else batch

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the module's printed structure and of every parameter and buffer."""
        return scope(
            f"torch:{hash_module(self._module)}", self.classes, self._preprocess, self._form if self._as_given else None
        )

    @property
    def identified(self) -> bool:
        """Whether the fingerprint says all that decides an answer: not of code of the user's own."""
        return says_all(self._module) and is_identified(self._preprocess)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "parameters": sum(p.numel() for p in self._module.parameters()),
            "dtype": str(self._dtype).removeprefix("torch."),
            "preprocess": None if self._preprocess is None else qualified_name(self._preprocess),
            "fingerprint": self.fingerprint,
            "fingerprint_of": "structure and weights",
        } | ({} if self._part is None else {"answer": self._part})


def _tensors(batch: Any, device: torch.device) -> Any:
    """Arrays as tensors on a device, and those of a dict (or what image processors and tokenizers return) by name."""
    if isinstance(batch, Mapping):
        return {str(name): _tensors(part, device) for name, part in batch.items()}
    if isinstance(batch, list) and batch and isinstance(batch[0], (np.ndarray, Tensor)):
        batch = torch.stack([torch.as_tensor(row) for row in batch])
    return torch.as_tensor(batch).to(device) if isinstance(batch, (np.ndarray, Tensor)) else batch


def _part(answer: Any, classes: int) -> tuple[Any, str | None]:
    """Return the tensor that holds labels or scores, and which of several it is; None: the answer is no collection.

    It is ``logits``, else the only tensor, else the first one of a tuple or list where it has a score for each class.

    Raises:
        TargetError: no tensor, several under other names, or a first one of another shape.
    """
    if not isinstance(answer, (tuple, list, dict)) or hasattr(answer, "logits"):
        return answer, None
    named = isinstance(answer, dict)
    parts: dict[Any, Any] = dict(answer) if isinstance(answer, dict) else dict(enumerate(answer))
    tensors = {key: part for key, part in parts.items() if isinstance(part, Tensor)}
    if isinstance(answer, list) and not any(part.ndim for part in tensors.values()):
        return answer, None  # labels
    held = ", ".join(f"{key!r} {tuple(part.shape)}" for key, part in tensors.items()) or "no tensor"
    seen = f"the module answered a {type(answer).__name__} with {held}"
    if "logits" in tensors:
        return tensors["logits"], "'logits' of a dict"
    first = next(iter(tensors), None)
    if first is None or (named and len(tensors) > 1):
        raise TargetError(f"{seen}: give a function that returns one, lambda x: model(x)['NAME'], in evaluation mode")
    if len(tensors) > 1 and (tensors[first].ndim != 2 or tensors[first].shape[1] != classes):
        raise TargetError(
            f"{seen}, and the first has no score for each of the {classes} classes: give a function that returns the "
            "right one, for example lambda x: model(x)[1], in evaluation mode"
        )
    return tensors[first], f"tensor {first!r} of a {type(answer).__name__}"
