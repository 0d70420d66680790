"""Rows as a request's body, and the labels or scores in its answer, for each protocol. Nothing here touches a network.

Sources: Open Inference Protocol 2.0 (HTTP/REST); TensorFlow Serving, RESTful API (row format); MLflow, "Inference
server specification" (``/invocations``).
"""

from __future__ import annotations

import csv
import io
import math
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from labelleaks.core.classes import Classes
from labelleaks.errors import InputError
from labelleaks.targets.http.answers import chosen, csv_fields, per_row, searched
from labelleaks.targets.http.body import Body, Breach, dump, entry, kind, parse
from labelleaks.targets.http.options import Http
from labelleaks.targets.http.rows import Rows, Sendable, float64, in_order, named
from labelleaks.targets.http.template import JsonLines, Template, compiled

__all__ = ["Format", "address_of", "format_of"]

_KINDS = {"BYTES": "strings", "BOOL": "booleans", **{f"{u}INT{b}": "whole" for u in ("", "U") for b in (8, 16, 32, 64)}}
_FLOATS = ("FP16", "FP32", "FP64", "BF16")
_DTYPES = {
    "FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool",
    **{f"{u.upper()}INT{bits}": f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
_DATATYPES = {dtype: datatype for datatype, dtype in _DTYPES.items()}
_OF_KINDS: dict[type, str] = {int: "INT64", float: "FP64", bool: "BOOL"}
"""Of a column with missing values or of none but objects."""


class Format(Protocol):
    """One protocol: how rows are asked about and where the answer has the labels."""

    def body(self, rows: Rows) -> Body:
        """Return the body for rows. InputError where rows or options do not allow one."""
        ...

    def parse(self, content: bytes) -> Any:
        """Return a parsed answer. ValueError: it cannot be; Breach: it holds what no label is."""
        ...

    def read(self, answer: Any, rows: int, classes: Classes | None) -> Any:
        """Return the labels (m,) or scores (m, K) in a parsed answer to ``rows`` rows, not yet checked.

        Args:
            classes: those of the run; None: not known yet.

        Raises:
            Breach: there are none, or not for ``rows`` rows.
        """
        ...


def format_of(options: Http) -> Format:
    """Return the format that the options name.

    Raises:
        InputError: a template or a JMESPath that cannot be read.
        MissingExtra: a template is asked for and its library is not installed.
    """
    makers: dict[str | None, type[Format]] = {
        "v2": OpenInference, "tensorflow": TensorFlowServing, "mlflow": MLflow, "csv": CsvLines, "jsonl": JsonLines,
    }  # fmt: skip
    return makers.get(options.protocol, Template)(options)  # type: ignore[call-arg]


def address_of(options: Http) -> str:
    """Return the address that requests are posted to."""
    parts = urlsplit(options.url)
    path = parts.path.rstrip("/")
    version = "" if options.version is None else f"/versions/{quote(str(options.version), safe='')}"
    model = quote(options.model or "", safe="")
    if options.protocol == "v2" and not path.endswith("/infer"):
        if "/models/" not in path:
            path = f"{path.removesuffix('/v2')}/v2/models/{model}"
        path = f"{path}{'' if '/versions/' in path else version}/infer"
    elif options.protocol == "tensorflow" and not path.endswith(":predict"):
        if "/models/" not in path:
            path = f"{path.removesuffix('/v1')}/v1/models/{model}"
        path = f"{path}{'' if '/versions/' in path or '/labels/' in path else version}:predict"
    elif options.protocol == "mlflow" and not path.endswith("/invocations"):
        path = f"{path}/invocations"
    elif options.protocol in ("template", "csv", "jsonl"):
        path = parts.path
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


class OpenInference:
    """Open Inference Protocol v2: KServe, Triton, MLServer, OpenVINO model server and others.

    Rows are one tensor where they are one array of numbers, else one tensor for each column, as MLServer takes tables.
    """

    def __init__(self, options: Http) -> None:
        self._input = options.input or "input-0"
        self._output = options.output
        self._datatype = options.datatype
        self._columns = options.columns
        self._reading = options

    parse = staticmethod(parse)

    def body(self, rows: Rows) -> Body:
        one = None if self._columns and rows.parts else rows.one_array()
        if one is not None:
            document: dict[str, Any] = {"inputs": [self._tensor(self._input, one)]}
        else:
            parts = in_order(rows, self._columns).parts
            document = {"inputs": [self._tensor(str(name), part) for name, part in parts.items()]}
            if rows.columns:
                document["parameters"] = {"content_type": "pd"}
        if self._output is not None:
            document["outputs"] = [{"name": self._output}]
        return dump(document)

    def _tensor(self, name: str, part: Sendable) -> dict[str, Any]:
        shape = list(part.shape) if isinstance(part, np.ndarray) and part.ndim > 1 else [len(part), 1]
        if isinstance(part, np.ndarray) and part.dtype != object:
            datatype = self._datatype if self._datatype and part.dtype.kind in "iuf" else _DATATYPES[part.dtype.name]
            return {"name": name, "shape": shape, "datatype": datatype, "data": as_datatype(part, datatype).reshape(-1)}
        values = part.reshape(-1).tolist() if isinstance(part, np.ndarray) else list(part)
        there = {type(value) for value in values if value is not None}
        datatype = "FP64" if there == {int, float} else _OF_KINDS.get(next(iter(there), str)) or "BYTES"
        if len(there) > 1 and datatype != "FP64":
            kinds = " and ".join(sorted(kind_of.__name__ for kind_of in there))
            raise InputError(f"{name!r} holds {kinds}: a tensor is of one kind; give it as text")
        text = {"parameters": {"content_type": "str"}} if datatype == "BYTES" else {}
        return {"name": name, "shape": shape, "datatype": datatype, "data": values, **text}

    def read(self, answer: Any, rows: int, classes: Classes | None) -> Any:
        tensor = self._chosen(entry(answer, "outputs", "an object"))
        shape, datatype, data = (entry(tensor, key, "an output") for key in ("shape", "datatype", "data"))
        if not isinstance(data, list) or not _is_shape(shape):
            raise Breach("its output has no list of data or no shape")
        flat = _flat(data)
        if len(flat) != math.prod(shape):
            raise Breach(f"its output has {len(flat)} values and says shape {shape}")
        if not shape or shape[0] != rows:
            raise Breach(f"its output has shape {shape} for {rows} rows")
        typed = _typed(flat, str(datatype)).reshape(shape)
        if typed.dtype == object:
            return per_row(typed.tolist(), rows, self._reading, classes)
        return chosen(typed, self._reading, classes)

    def _chosen(self, outputs: Any) -> Any:
        if not isinstance(outputs, list) or not all(isinstance(o, dict) for o in outputs):
            raise Breach("its outputs are no list of tensors")
        names = [str(o.get("name")) for o in outputs]
        if self._output is not None:
            if names.count(self._output) != 1:
                raise Breach(f"it has no output {self._output!r} but {', '.join(map(repr, names[:5]))}")
            return outputs[names.index(self._output)]
        if len(outputs) != 1:
            raise Breach(f"it has {len(outputs)} outputs ({', '.join(map(repr, names[:5]))}): say output: NAME")
        return outputs[0]


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)


def _flat(data: list[Any]) -> list[Any]:
    """A tensor's values in order: the protocol allows them nested row by row."""
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) and len(part) == len(data[0]) for part in data):
            raise Breach("its data are nested unevenly")
        data = [value for part in data for value in part]
    return data


def _typed(values: list[Any], datatype: str) -> NDArray[Any]:
    """Sendable of one tensor as an array of the type that it says, and nothing else."""
    kind_of = "floats" if datatype in _FLOATS else _KINDS.get(datatype)
    fits = {
        "floats": lambda v: type(v) in (int, float),
        "whole": lambda v: type(v) is int and abs(v) < 2**63,
        "booleans": lambda v: type(v) is bool or (type(v) is int and v in (0, 1)),
        "strings": lambda v: type(v) is str,
    }.get(kind_of or "")
    if fits is None:
        raise Breach(f"its output is of datatype {datatype!r}, which is none of the protocol's")
    wrong = [value for value in values if not fits(value)]
    if wrong:
        raise Breach(f"its {datatype} output holds {kind(wrong[0])}")
    if kind_of == "strings":
        return np.array(values, dtype=object)
    return np.array(values, dtype=np.float64 if kind_of == "floats" else np.int64)


def as_datatype(array: NDArray[Any], datatype: str) -> NDArray[Any]:
    """Return numbers of a tensor's type: whole ones exactly, fractions rounded to it.

    Raises:
        InputError: a whole number that the type does not hold, or a fraction in a type of whole numbers.
    """
    dtype = np.dtype(_DTYPES[datatype])
    with np.errstate(invalid="ignore", over="ignore"):
        made = array.astype(dtype)
        back = made.astype(array.dtype)
    if array.dtype.kind in "biu" or dtype.kind in "biu":
        wrong = np.flatnonzero((back != array).reshape(-1))
        if len(wrong):
            raise InputError(
                f"datatype: {datatype} does not hold {array.reshape(-1)[wrong[0]]}; say what the model takes"
            )
    return float64(made)


class TensorFlowServing:
    """TensorFlow Serving's REST API in row format: ``instances`` in, ``predictions`` out.

    An instance is a row where rows are one array of numbers, else an object with the value of each input.
    """

    def __init__(self, options: Http) -> None:
        self._input = options.input
        self._columns = options.columns
        self._reading = options

    parse = staticmethod(parse)

    def body(self, rows: Rows) -> Body:
        one = None if self._columns else rows.one_array()
        if one is None:
            return dump({"instances": named(rows, self._columns).records()})
        values = float64(one)
        return dump({"instances": values if self._input is None else [{self._input: row} for row in values]})

    def read(self, answer: Any, rows: int, classes: Classes | None) -> Any:
        return per_row(entry(answer, "predictions", "an object"), rows, self._reading, classes)


class MLflow:
    """MLflow's scoring server: ``inputs``, or a data frame where the columns have names; ``predictions`` out."""

    def __init__(self, options: Http) -> None:
        self._columns = options.columns
        self._reading = options

    parse = staticmethod(parse)

    def body(self, rows: Rows) -> Body:
        given = named(rows, self._columns)
        if given.columns:
            return dump({"dataframe_split": {"columns": list(given.names), "data": given.lists()}})
        if given.array is not None:
            return dump({"inputs": float64(given.array)})
        return dump({"inputs": {name: float64(np.asarray(part)) for name, part in given.parts.items()}})

    def read(self, answer: Any, rows: int, classes: Classes | None) -> Any:
        predictions = answer if isinstance(answer, list) else entry(answer, "predictions", "an object")
        return per_row(predictions, rows, self._reading, classes)


class CsvLines:
    """Lines of CSV without a header, as the containers of SageMaker take them; CSV or JSON out."""

    def __init__(self, options: Http) -> None:
        self._columns = options.columns
        self._reading = options
        self._path = compiled(options.label or "@")

    def body(self, rows: Rows) -> Body:
        given = in_order(rows, self._columns)
        if given.array is not None and given.array.ndim > 2:
            raise InputError(f"rows of shape {given.array.shape[1:]} are no lines of CSV: flatten them")
        lines = io.StringIO(newline="")
        fields = [row if isinstance(row, list) else [row] for row in given.lists()]  # of None: an empty one
        csv.writer(lines, lineterminator="\n").writerows(fields)
        return Body(lines.getvalue().encode(), "text/csv")

    def parse(self, content: bytes) -> Any:
        try:
            return parse(content)
        except ValueError:
            return csv_fields(content)

    def read(self, answer: Any, rows: int, classes: Classes | None) -> Any:
        return per_row(searched(self._path, answer, rows), rows, self._reading, classes)
