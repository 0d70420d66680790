"""Rows as a request's body, and the labels or scores in its answer, for each protocol. Nothing here touches a network.

Sources: Open Inference Protocol 2.0 (HTTP/REST); TensorFlow Serving, RESTful API (row format); MLflow, "Inference
server specification" (``/invocations``).
"""

from __future__ import annotations

import math
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from labelleaks.errors import InputError
from labelleaks.targets.http.body import Body, Breach, dump, entry, kind, numbers, rectangular
from labelleaks.targets.http.options import Http

__all__ = ["Format", "address_of", "format_of"]

_KINDS = {"BYTES": "strings", "BOOL": "booleans", **{f"{u}INT{b}": "whole" for u in ("", "U") for b in (8, 16, 32, 64)}}
_FLOATS = ("FP16", "FP32", "FP64", "BF16")


class Format(Protocol):
    """One protocol: how rows are asked about and where the answer has the labels."""

    def body(self, rows: NDArray[np.float32]) -> Body:
        """Return the body for (m, *shape) rows. InputError where rows or options do not allow one."""
        ...

    def read(self, answer: Any, rows: int) -> Any:
        """Return the labels (m,) or scores (m, K) in a parsed answer to ``rows`` rows, not yet checked.

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
    if options.protocol == "v2":
        return OpenInference(options)
    if options.protocol == "tensorflow":
        return TensorFlowServing(options)
    if options.protocol == "mlflow":
        return MLflow(options)
    from labelleaks.targets.http.template import Template

    return Template(options)


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
    elif options.protocol == "template":
        path = parts.path
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


class OpenInference:
    """Open Inference Protocol v2: KServe, Triton, MLServer, OpenVINO model server and others."""

    def __init__(self, options: Http) -> None:
        self._input = options.input or "input-0"
        self._output = options.output
        self._datatype = options.datatype

    def body(self, rows: NDArray[np.float32]) -> Body:
        tensor = {"name": self._input, "shape": list(rows.shape), "datatype": self._datatype}
        document: dict[str, Any] = {"inputs": [{**tensor, "data": numbers(rows).reshape(-1)}]}
        if self._output is not None:
            document["outputs"] = [{"name": self._output}]
        return dump(document)

    def read(self, answer: Any, rows: int) -> Any:
        tensor = self._chosen(entry(answer, "outputs", "an object"))
        shape, datatype, data = (entry(tensor, key, "an output") for key in ("shape", "datatype", "data"))
        if not isinstance(data, list) or not _is_shape(shape):
            raise Breach("its output has no list of data or no shape")
        flat = _flat(data)
        if len(flat) != math.prod(shape):
            raise Breach(f"its output has {len(flat)} values and says shape {shape}")
        if not shape or shape[0] != rows:
            raise Breach(f"its output has shape {shape} for {rows} rows")
        return _typed(flat, str(datatype)).reshape(shape)

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
    """Values of one tensor as an array of the type that it says, and nothing else."""
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


def _one_output(predictions: Any, output: str | None) -> Any:
    """Predictions of a model with several outputs are objects: take the one output that is named."""
    if not isinstance(predictions, list) or not predictions or not isinstance(predictions[0], dict):
        return predictions
    names = list(predictions[0])
    if output is None and len(names) != 1:
        raise Breach(f"its predictions have {', '.join(map(repr, names[:5]))}: say output: NAME")
    return [entry(one, output or names[0], "a prediction") for one in predictions]


class TensorFlowServing:
    """TensorFlow Serving's REST API in row format: ``instances`` in, ``predictions`` out."""

    def __init__(self, options: Http) -> None:
        self._input = options.input
        self._output = options.output

    def body(self, rows: NDArray[np.float32]) -> Body:
        values = numbers(rows)
        return dump({"instances": values if self._input is None else [{self._input: row} for row in values]})

    def read(self, answer: Any, rows: int) -> Any:
        return rectangular(_one_output(entry(answer, "predictions", "an object"), self._output), rows)


class MLflow:
    """MLflow's scoring server: ``inputs``, or a data frame where the columns are named; ``predictions`` out."""

    def __init__(self, options: Http) -> None:
        self._columns = options.columns
        self._output = options.output

    def body(self, rows: NDArray[np.float32]) -> Body:
        if not self._columns:
            return dump({"inputs": numbers(rows)})
        data = rows.reshape(len(rows), -1)
        if data.shape[1] != len(self._columns):
            raise InputError(
                f"columns: {len(self._columns)} names for rows of {data.shape[1]} features; name each feature"
            )
        return dump({"dataframe_split": {"columns": list(self._columns), "data": numbers(data)}})

    def read(self, answer: Any, rows: int) -> Any:
        predictions = answer if isinstance(answer, list) else entry(answer, "predictions", "an object")
        return rectangular(_one_output(predictions, self._output), rows)
