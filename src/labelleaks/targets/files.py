"""Targets from files: models by their ending, recorded answers.

Nothing here unpickles anything unless it was told ``trust_pickle=True``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.core.imports import import_object
from labelleaks.errors import InputError, SpecError
from labelleaks.inputs.files import LABEL_COLUMNS, FileRows, ImageFormat, as_labels, read_columns, read_rows
from labelleaks.targets import exported
from labelleaks.targets.onnx import Onnx
from labelleaks.targets.recorded import Recorded

__all__ = ["load_target", "read_answers"]

_MODELS = (".safetensors", ".onnx", *exported.TORCHSCRIPT, *exported.EXPORTED, ".joblib")


def read_answers(path: str | Path, given: Sequence[FileRows], images: ImageFormat | None = None) -> Recorded:
    """Read answers that a target gave before: rows with their labels, or ``id`` and ``label`` alone.

    Args:
        path: a file as :func:`read_rows` takes it. A table of nothing but an id and a label column answers for the rows
            of ``given`` that have these ids.
        given: the rows of the run, with their ids.
        images: how 8-bit pictures are turned into inputs, as for the rows of the run.

    Raises:
        InputError: the file has no labels, or none of its ids is an id of the run.
    """
    path = Path(path)
    if path.suffix.lower() in (".csv", ".parquet") and path.is_file():
        columns = read_columns(path)
        label = next((name for name in LABEL_COLUMNS if name in columns), None)
        if label is not None and set(columns) == {"id", label}:
            return _by_id(path, [str(i) for i in columns["id"]], columns[label], given)
    rows = read_rows(path, images=images)
    if rows.y is None:
        raise InputError(f"{path}: recorded answers need labels: a column label, or y in an .npz")
    return _recorded(path, rows.x, rows.y)


def _recorded(path: Path, x: NDArray[Any], y: NDArray[Any]) -> Recorded:
    try:
        return Recorded(x, y)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _by_id(path: Path, ids: list[str], answers: list[Any], given: Sequence[FileRows]) -> Recorded:
    labels = dict(zip(ids, answers, strict=True))
    if len(labels) < len(ids):
        raise InputError(f"{path}: {len(ids) - len(labels)} ids are there twice")
    found = [(x, labels[i]) for rows in given for x, i in zip(rows.x, rows.ids or (), strict=False) if i in labels]
    if not found:
        raise InputError(f"{path}: none of its {len(ids)} ids is an id of the rows (give them an id column)")
    return _recorded(path, np.stack([x for x, _ in found]), as_labels([label for _, label in found]))


def load_target(path: str, *, factory: str | None = None, output: str | None = None, trust_pickle: bool = False) -> Any:
    """Load what a spec or a flag calls the target.

    Args:
        path: ``module:function``; a .safetensors file with ``factory`` (``module:function`` that builds the
            ``nn.Module``); an ONNX file (.onnx); a TorchScript file (.pt, .ts, .torchscript); with ``trust_pickle`` a
            program of ``torch.export`` (.pt2) or a .joblib file.
        output: of an ONNX file with several, the one that holds labels or scores.

    Raises:
        SpecError: it cannot be loaded; says why and what is missing.
    """
    suffix = Path(path).suffix.lower()
    if ":" in path and suffix not in _MODELS:
        found = import_object(path)
        if isinstance(found, type):
            raise SpecError(
                f"target {path!r} is a class, not a function or a model: name an instance or a function, or give the "
                f"class with its settings as target: {{kind: {path!r}, …}}"
            )
        return found
    if not Path(path).is_file():
        raise SpecError(f"target {path!r}: no such file, and not of the form module:function")
    if suffix == ".safetensors":
        return _from_safetensors(path, factory)
    if output is not None and suffix != ".onnx":
        raise SpecError(f"target {path!r}: output: belongs to .onnx files")
    if suffix == ".onnx":
        return Onnx(path, output=output)
    if suffix in exported.TORCHSCRIPT:
        return exported.load_torchscript(path)
    if suffix in exported.EXPORTED:
        return exported.load_exported(path, trust_pickle=trust_pickle)
    if suffix == ".joblib":
        if not trust_pickle:
            raise SpecError(f"target {path!r}: a .joblib file can run any code when it is loaded; say --trust-pickle")
        import joblib

        try:
            return joblib.load(path)
        except Exception as error:  # unpickling somebody's file can raise anything
            raise SpecError(f"target {path!r} cannot be loaded: {type(error).__name__}: {error}") from error
    raise SpecError(f"target {path!r}: unknown ending {suffix!r}; known: {', '.join(_MODELS)}")


def _from_safetensors(path: str, factory: str | None) -> Any:
    if factory is None:
        raise SpecError(
            f"target {path!r} holds weights only: name the factory of the module (factory: module:function)"
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_model
    from torch import nn

    try:
        module = import_object(factory)()
    except SpecError:
        raise
    except Exception as error:  # the factory is the user's
        raise SpecError(f"factory {factory!r} raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise SpecError(f"factory {factory!r} returned {type(module).__name__}, not a torch nn.Module")
    try:
        load_model(module, path)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise SpecError(
            f"the weights in {path!r} do not fit the module of {factory!r}: {str(error).splitlines()[0]}"
        ) from None
    return module
