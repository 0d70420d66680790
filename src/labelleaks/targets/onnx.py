"""An ONNX file as a target, through onnxruntime (``pip install 'labelleaks[onnx]'``)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from labelleaks.core.classes import Classes, to_numpy
from labelleaks.errors import InputError, MissingExtra, TargetError
from labelleaks.inputs.row_format import RowFormat
from labelleaks.targets.answers import read_answer
from labelleaks.targets.base import scope

__all__ = ["Onnx", "OnnxTarget"]

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_LABELS = ("tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)")


@dataclass(frozen=True)
class Onnx:
    """A classifier in an ONNX file that answers labels (m,) or scores (m, K).

    Args:
        path: the file; weights that it keeps in files beside it are found by onnxruntime.
        output: name of the output that holds labels or scores; None: the only one, or the only one that holds labels.
        providers: of onnxruntime, in the order of preference.

    Raises:
        InputError: no such file.
    """

    path: str | Path
    output: str | None = None
    providers: Sequence[str] = ("CPUExecutionProvider",)

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            raise InputError(f"target {str(self.path)!r}: no such file")
        if isinstance(self.providers, str):
            raise InputError(f"providers={self.providers!r}: a list is needed, providers=[{self.providers!r}]")


class OnnxTarget:
    """The target that :class:`Onnx` describes. Rows come to the model in its own floating type.

    A model that was exported for one row at a time is asked row by row. Its session works on as many threads as torch.

    Raises:
        InputError: not ONNX, several inputs, an output that cannot be chosen, a fixed number of rows, no such provider.
        MissingExtra: onnxruntime is not installed.
    """

    kind = "onnx"

    def __init__(self, onnx: Onnx, *, form: RowFormat, classes: Classes, batch_rows: int) -> None:
        self.classes = classes
        self.batch_rows = batch_rows
        self.name = Path(onnx.path).name
        self._onnx = onnx
        self._form = form
        self._session = _session(onnx)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1:
            raise InputError(f"{self._place}: the model has {len(inputs)} inputs, one is needed: {_names(inputs)}")
        if inputs[0].type not in _TYPES:
            raise InputError(f"{self._place}: its input is {inputs[0].type}, floating numbers are needed")
        self._input = inputs[0].name
        self._dtype = _TYPES[inputs[0].type]
        self._output = _chosen(outputs, onnx.output, self._place)
        rows = inputs[0].shape[0] if inputs[0].shape else None
        if isinstance(rows, int) and rows > 1:
            raise InputError(
                f"{self._place}: the model was exported for {rows} rows at a time; export it with a dynamic first axis"
            )
        self._singly = rows == 1

    @property
    def _place(self) -> str:
        return f"target {str(self._onnx.path)!r}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, x: Tensor) -> Tensor:
        rows = np.asarray(to_numpy(self._form.decode(x))).astype(self._dtype)
        if self._singly:
            return torch.cat([self._labels(rows[i : i + 1]) for i in range(len(rows))]).to(x.device)
        return self._labels(rows).to(x.device)

    def _labels(self, rows: Any) -> Tensor:
        try:
            answer = self._session.run([self._output], {self._input: rows})[0]
        except Exception as error:  # onnxruntime has an exception for each of its statuses, below no common one
            raise TargetError(f"{self._place}: {str(error).splitlines()[0]}") from None
        return read_answer(answer, len(rows), self.classes, kind="onnx")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the file, of weights beside it whose names begin with its own, and of the output that is read."""
        digest = hashlib.blake2b(digest_size=16)
        path = Path(self._onnx.path)
        for file in [path, *sorted(f for f in path.parent.glob(f"{path.name}[._]*") if f.is_file())]:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "blake2b").digest())
        digest.update(self._output.encode())
        return scope(f"onnx:{digest.hexdigest()}", self.classes, None, self._form)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "input": self._input,
            "output": self._output,
            "dtype": np.dtype(self._dtype).name,
            "providers": self._session.get_providers(),
            "fingerprint": self.fingerprint,
            "fingerprint_of": "the file",
        }


def _session(onnx: Onnx) -> Any:
    try:
        import onnxruntime as ort
    except ImportError:
        raise MissingExtra(
            f"target {str(onnx.path)!r}: ONNX needs onnxruntime: pip install 'labelleaks[onnx]'"
        ) from None
    unknown = [name for name in onnx.providers if name not in ort.get_available_providers()]
    if unknown:
        raise InputError(
            f"providers: {unknown[0]!r} is not in this onnxruntime; it has {', '.join(ort.get_available_providers())}"
        )
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    try:
        return ort.InferenceSession(str(onnx.path), settings, providers=list(onnx.providers))
    except Exception as error:  # onnxruntime has an exception for each of its statuses, below no common one
        raise InputError(f"target {str(onnx.path)!r} cannot be loaded ({str(error).splitlines()[0]})") from None


def _names(nodes: Sequence[Any]) -> str:
    return ", ".join(f"{node.name} ({node.type})" for node in nodes)


def _chosen(outputs: Sequence[Any], wanted: str | None, place: str) -> str:
    if wanted is not None:
        if wanted not in [node.name for node in outputs]:
            raise InputError(f"{place}: no output {wanted!r} but {_names(outputs)}")
        return wanted
    labels = [node for node in outputs if node.type in _LABELS and len(node.shape or [0]) == 1]
    found = list(outputs) if len(outputs) == 1 else labels
    if len(found) != 1:
        raise InputError(f"{place}: several outputs ({_names(outputs)}): say which one, Onnx(path, output=NAME)")
    return str(found[0].name)
