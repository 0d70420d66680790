"""Targets from files: models by their ending, recorded answers.

Nothing here unpickles anything unless it was told ``trust_pickle=True``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from labelleaks.core.names import import_object
from labelleaks.errors import InputError, SpecError
from labelleaks.inputs.csv_tables import read_texts
from labelleaks.inputs.files import LABEL_COLUMNS, FileRows, ImageFormat, as_labels, read_rows
from labelleaks.inputs.tables import column_names, join, pick, read_parquet
from labelleaks.targets import exported
from labelleaks.targets.onnx import Onnx
from labelleaks.targets.recorded import Recorded

__all__ = ["answers_by_id", "load_target", "read_answers", "recorded_by_id", "recorded_rows"]

_MODELS = (".safetensors", ".onnx", *exported.TORCHSCRIPT, *exported.EXPORTED, ".joblib")


def read_answers(path: str | Path, given: Sequence[FileRows], images: ImageFormat | None = None) -> Recorded:
    """Read answers that a target gave before: rows with their labels, or ``id`` and ``label`` alone.

    Args:
        path: a file as :func:`read_rows` takes it. A table of nothing but an id and a label column answers for the rows
            of ``given`` that have these ids.
        given: the rows of the run, with their ids.
        images: how 8-bit pictures are turned into inputs, as for the rows of the run.

    Raises:
        InputError: the file has no labels, none of its ids is an id of the run, or an id names more than one row.
    """
    listed = answers_by_id(path)
    if listed is not None:
        return recorded_by_id(path, listed, given)
    rows = read_rows(path, images=images)
    return recorded_rows(path, rows)


def recorded_rows(path: str | Path, rows: FileRows, threshold: float | None = None) -> Recorded:
    """Return answers that were read with their rows. Raises as :func:`read_answers`."""
    if rows.y is None:
        raise InputError(f"{path}: recorded answers need labels: a column label, or y in an .npz")
    return _recorded(path, rows.x, rows.y, threshold)


def _recorded(path: str | Path, x: Any, y: NDArray[Any], threshold: float | None) -> Recorded:
    try:
        return Recorded(x, y, threshold=threshold)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def answers_by_id(path: str | Path) -> dict[str, Any] | None:
    """Return a label by id, where a table has nothing but these two columns; else None.

    Raises:
        InputError: it cannot be read, or an id is there twice.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".parquet") or not path.is_file():
        return None
    if path.suffix.lower() == ".csv":
        columns: Mapping[str, Sequence[Any]] = read_texts(path)
    else:
        table, _ = read_parquet(path)
        columns = {name: list(table[name].to_numpy()) for name in column_names(table)}
    label = next((name for name in LABEL_COLUMNS if name in columns), None)
    if label is None or set(columns) != {"id", label}:
        return None
    labels = dict(zip(map(str, columns["id"]), columns[label], strict=True))
    if len(labels) < len(columns["id"]):
        raise InputError(f"{path}: {len(columns['id']) - len(labels)} ids are there twice")
    return labels


def recorded_by_id(
    path: str | Path, labels: Mapping[str, Any], given: Sequence[FileRows], threshold: float | None = None
) -> Recorded:
    """Return the answers for the rows that have these ids. Raises as :func:`read_answers`."""
    places = [[i for i, name in enumerate(rows.ids or ()) if name in labels] for rows in given]
    names = [(rows.ids or ())[i] for rows, mine in zip(given, places, strict=True) for i in mine]
    if not names:
        raise InputError(f"{path}: none of its {len(labels)} ids is an id of the rows (give them an id column)")
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(
            f"{path}: id {twice!r} names more than one of the rows, and which was answered is not said: give each row "
            "of all files an id of its own, or answers with the rows' own columns beside the label"
        )
    found = [pick(rows.x, mine) for rows, mine in zip(given, places, strict=True) if mine]
    return _recorded(path, join(found), as_labels([labels[name] for name in names]), threshold)


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
