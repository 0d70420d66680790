"""An ONNX file as a target, through onnxruntime (``pip install 'labelleaks[onnx]'``)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.classes import Classes, to_numpy
from labelleaks.errors import InputError, MissingExtra, TargetError, nearest
from labelleaks.inputs.row_format import RowFormat, is_frame
from labelleaks.targets.answers import read_answer
from labelleaks.targets.base import scope

__all__ = ["Onnx", "OnnxTarget"]

_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32), "tensor(double)": np.dtype(np.float64), "tensor(string)": np.dtype(object),
    **{f"tensor({name})": np.dtype(name) for name in ("float16", "bool", "int8", "int16", "int32", "int64")},
    **{f"tensor({name})": np.dtype(name) for name in ("uint8", "uint16", "uint32", "uint64")},
}  # fmt: skip
"""Types of inputs, as arrays that onnxruntime takes for them."""
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

    def takes_columns(self) -> bool:
        """Whether the model has an input for each column of a table, or one of text.

        Raises:
            InputError: not ONNX; MissingExtra: onnxruntime is not installed.
        """
        inputs = _session(self).get_inputs()
        return len(inputs) > 1 or any(node.type == "tensor(string)" for node in inputs)


@dataclass(frozen=True)
class Input:
    """One input of a model."""

    name: str
    dtype: np.dtype[Any]
    axes: int
    place: str
    """The file, for messages."""

    def cast(self, values: Any) -> NDArray[Any]:
        """Return rows or a column in the input's own dtype and number of axes.

        Raises:
            TargetError: values that would change; says which, and the mend.
        """
        array = np.asarray(to_numpy(values.toarray() if hasattr(values, "toarray") else values))
        if array.ndim == 1 and self.axes == 2:
            array = array[:, None]
        texts = array.dtype.kind in "US" or (
            array.dtype == object and all(isinstance(value, str) for value in array.reshape(-1).tolist())
        )
        if texts and self.dtype == object:
            return array.astype(object)
        kinds = "biuf" if self.dtype.kind == "f" else "biu"
        if texts or self.dtype == object or array.dtype.kind not in kinds:
            needs = "text" if self.dtype == object else f"{self.dtype}"
            mend = "x.astype(str)" if self.dtype == object else f"x.astype({self.dtype.name!r})"
            raise TargetError(f"{self.place}: its input {self.name!r} takes {needs}, not {array.dtype}: give {mend}")
        cast = array.astype(self.dtype)
        if self.dtype.kind != "f" and bool((cast != array).any()):
            raise TargetError(
                f"{self.place}: its input {self.name!r} takes {self.dtype}, and {array[cast != array][0]} is beyond: "
                "say a domain whose bounds it holds"
            )
        return cast


class OnnxTarget:
    """The target that :class:`Onnx` describes. Rows come to the model in the types of its inputs.

    A model with several inputs gets the columns of a table, or the arrays of a dict, that are called as they are.

    A model that was exported for one row at a time is asked row by row. Its session works on as many threads as torch.

    Raises:
        InputError: not ONNX, rows that its inputs do not take, an output that cannot be chosen, a fixed number of rows,
            no such provider.
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
        odd = [node for node in inputs if node.type not in _TYPES]
        if odd:
            raise InputError(
                f"{self._place}: its input {odd[0].name!r} is {odd[0].type}, which NumPy has not: convert it"
            )
        self._inputs = [Input(n.name, _TYPES[n.type], len(n.shape or []), self._place) for n in inputs]
        self._output = _chosen(outputs, onnx.output, self._place)
        self._check_rows()
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

    def _check_rows(self) -> None:
        """Refuse rows that the inputs do not take, before any are sent."""
        if not self._form.shape:
            return
        try:
            self._feed(torch.zeros(1, *self._form.shape))
        except TargetError as error:
            raise InputError(str(error)) from None

    def _feed(self, x: Tensor) -> dict[str, NDArray[Any]]:
        """Return an array for each input."""
        rows = self._form.decode(x)
        columns = _columns(rows)
        if len(self._inputs) == 1:
            only = self._inputs[0]
            if columns is None:
                return {only.name: only.cast(rows)}
            if len(columns) > 1:
                return {only.name: only.cast(np.stack([np.asarray(column) for column in columns.values()], 1))}
            return {only.name: only.cast(next(iter(columns.values())))}
        if columns is None:
            raise TargetError(
                f"{self._place}: the model has {len(self._inputs)} inputs ({', '.join(i.name for i in self._inputs)}): "
                "give a DataFrame with columns of these names, or a dict of arrays"
            )
        lacking = [given.name for given in self._inputs if given.name not in columns]
        if lacking:
            raise TargetError(
                f"{self._place}: the model has an input {lacking[0]!r}, which the rows lack"
                f"{nearest(lacking[0], list(columns))}"
            )
        return {given.name: given.cast(columns[given.name]) for given in self._inputs}

    def __call__(self, x: Tensor) -> Tensor:
        feed = self._feed(x)
        if self._singly:
            each = [{name: rows[i : i + 1] for name, rows in feed.items()} for i in range(len(x))]
            return torch.cat([self._labels(one, 1) for one in each]).to(x.device)
        return self._labels(feed, len(x)).to(x.device)

    def _labels(self, feed: dict[str, NDArray[Any]], rows: int) -> Tensor:
        try:
            answer = self._session.run([self._output], feed)[0]
        except Exception as error:  # onnxruntime has an exception for each of its statuses, below no common one
            raise TargetError(f"{self._place}: {str(error).splitlines()[0]}") from None
        return read_answer(answer, rows, self.classes, kind="onnx")

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
            "input": ", ".join(given.name for given in self._inputs),
            "output": self._output,
            "dtype": ", ".join("string" if given.dtype == object else given.dtype.name for given in self._inputs),
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


def _columns(rows: Any) -> dict[str, Any] | None:
    """The columns of a table, or the arrays of a dict, by name; None: rows are one array."""
    if isinstance(rows, Mapping) and not hasattr(rows, "toarray"):
        return {str(name): column for name, column in rows.items()}
    if not is_frame(rows):
        return None
    if hasattr(rows, "column_names"):
        return {name: rows.column(name).to_numpy() for name in rows.column_names}
    return {str(name): rows[name].to_numpy() for name in rows.columns}


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
