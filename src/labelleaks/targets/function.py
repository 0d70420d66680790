"""Any Python callable as a target."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from labelleaks.core.classes import Classes
from labelleaks.errors import LabelLeaksError, TargetError
from labelleaks.inputs.row_format import RowFormat
from labelleaks.targets.answers import read_answer
from labelleaks.targets.base import Preprocess, gets, is_identified, qualified_name, scope
from labelleaks.targets.text import TextClassifier

__all__ = ["FunctionTarget"]

_MENDS = {
    "float64": "its rows are float64: let it cast them (.float(), .astype('float32')), or give float32 (in a spec "
    "data.as: float32)",
    "pandas": "its rows are a DataFrame: let it take one, or give an array of numbers (in a spec data.as: array)",
}


class FunctionTarget:
    """A function from rows to labels (m,) or scores (m, K).

    It gets a copy of the rows as ``form`` makes them: of the user's own kind and dtype; tensors are on the candidates'
    device (or on ``device``). Its fingerprint is its qualified name, or its own ``fingerprint`` attribute (a string,
    for example a model's version). Functions of one name are told apart by asking again about rows of a journal.
    """

    kind = "callable"

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        form: RowFormat,
        classes: Classes,
        batch_rows: int,
        preprocess: Preprocess | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.classes = classes
        self.batch_rows = batch_rows
        self.name = function.what if isinstance(function, TextClassifier) else qualified_name(function)
        self._function = function
        self._form = form
        self._preprocess = preprocess
        self._device = device
        own = getattr(function, "fingerprint", None)
        self._own = own if isinstance(own, str) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, x: Tensor) -> Tensor:
        rows: Any = self._form.decode(x if self._device is None else x.to(self._device))
        with torch.no_grad():
            if self._preprocess is not None:
                rows = self._preprocess(rows)
            return read_answer(self._ask(rows, len(x)), len(x), self.classes).to(x.device)

    def _ask(self, rows: Any, count: int) -> Any:
        """The answer of the function. Where it raises over a kind of rows that it may not expect, the mend is named."""
        try:
            return self._function(rows)
        except LabelLeaksError:
            raise
        except Exception as error:
            mend = _MENDS.get(gets(self._form).removeprefix("numpy ").removeprefix("torch "))
            if mend is None:
                raise
            raise TargetError(f"the target raised {type(error).__name__} on {count} rows: {error}; {mend}") from error

    @property
    def fingerprint(self) -> str:
        own = "" if self._own is None else ":" + self._own
        return scope(f"callable:{self.name}{own}", self.classes, self._preprocess, self._form)

    @property
    def identified(self) -> bool:
        """Whether the fingerprint says all that decides an answer: the function has one of its own."""
        return self._own is not None and is_identified(self._preprocess)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "gets": gets(self._form),
            "preprocess": None if self._preprocess is None else qualified_name(self._preprocess),
            "fingerprint": self.fingerprint,
            "fingerprint_of": "its name only" if self._own is None else "its name and what it says of itself",
        }
