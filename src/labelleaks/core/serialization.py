"""Files of a run: dataclasses as JSON and arrays, an .npz with equal bytes for equal content, whole writes."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import os
import tempfile
import types
import typing
import zipfile
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelleaks.core.names import module_of
from labelleaks.errors import InputError

__all__ = [
    "Arrays",
    "check_writable",
    "decode",
    "digest",
    "encode",
    "npz_bytes",
    "parse_json",
    "read_npz",
    "to_json",
    "write_atomic",
]

Arrays = dict[str, NDArray[Any]]
"""Arrays by the path of the field that holds them."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold: a clock would make equal runs differ
_DOCUMENT = "record.json"  # rides along in the .npz, so that this one file is a whole run too


def check_writable(folder: str | Path) -> None:
    """Check that files can be made in ``folder``, which need not be there yet. Leaves nothing behind.

    Raises:
        InputError: they cannot, and why.
    """
    there = next(parent for parent in (Path(folder).absolute(), *Path(folder).absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return
    except OSError as error:
        raise InputError(f"{folder}: nothing can be written there ({error.strerror or error})") from None


OMIT_NONE = {"omit none": True}
"""Metadata of a dataclass's field that is written only where it holds something: records of before read and look the
same."""


def encode(value: Any, arrays: Arrays, path: str) -> Any:
    """Return ``value`` as JSON types; arrays move to ``arrays`` and leave their path behind.

    Args:
        value: a dataclass, mapping, sequence, array, or scalar. A callable is written as its qualified name, any other
            foreign object as the name of its class: never with a memory address.
        arrays: filled in place.
        path: where ``value`` stands, dotted.

    Raises:
        InputError: a NaN or an infinity; the message names its place.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Enum):
        return encode(value.value, arrays, path)
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise InputError(f"a record holds no NaN and no infinity, but {path} is {float(value)}")
        return float(value)
    if isinstance(value, np.bool_):
        return bool(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        stored = [f for f in dataclasses.fields(value) if f.init]
        stored = [f for f in stored if not (f.metadata.get("omit none") and getattr(value, f.name) is None)]
        return {f.name: encode(getattr(value, f.name), arrays, f"{path}.{f.name}") for f in stored}
    if isinstance(value, Mapping):
        return {_key(key): encode(item, arrays, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return encode(sorted(value), arrays, path)
    if isinstance(value, list | tuple):
        return [encode(item, arrays, f"{path}.{i}") for i, item in enumerate(value)]
    return _name_of(value)


def decode(kind: Any, data: Any, arrays: Arrays) -> Any:
    """Turn what :func:`encode` returned back into a ``kind`` (a type, as annotations write it)."""
    if data is None or kind is Any:
        return data
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is np.ndarray or kind is np.ndarray:
        return arrays[data["array"]]
    if origin in (typing.Union, types.UnionType):
        return decode(next(k for k in inside if k is not type(None)), data, arrays)
    if origin is tuple:
        return tuple(decode(inside[0], item, arrays) for item in data)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {inside[0](key): decode(inside[1], item, arrays) for key, item in data.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: decode(hints[name], item, arrays) for name, item in data.items()})
    return data


def to_json(data: Any) -> str:
    """Return JSON text with a line for each entry and a final newline; refuses NaN and infinity."""
    return json.dumps(data, allow_nan=False, ensure_ascii=True, indent=1) + "\n"


def parse_json(text: str, path: Path) -> dict[str, Any]:
    """Return the object that ``text``, the content of ``path``, holds. InputError where it is none."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} is not the record of an audit: it holds a {type(data).__name__}")
    return data


def digest(arrays: Arrays) -> str:
    """Hash names, types, shapes and contents: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def npz_bytes(arrays: Arrays, document: str) -> bytes:
    """Return an .npz that ``numpy.load`` reads, with ``document`` beside the arrays. Equal content, equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            with archive.open(_entry(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)
        archive.writestr(_entry(_DOCUMENT), document.encode())
    return buffer.getvalue()


def read_npz(path: Path) -> tuple[Arrays, str]:
    """Return the arrays and the document of an .npz written here.

    Raises:
        InputError: not there, or not such a file.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if name != _DOCUMENT}
            return arrays, stored[_DOCUMENT].decode()
    except FileNotFoundError:
        raise InputError(f"{path} is not there; a record needs the arrays beside its record.json") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(f"{path} is not the arrays of a record, or is damaged: {error}") from error


def write_atomic(path: Path, content: bytes | str, *, private: bool) -> None:
    """Write a whole file or nothing: a kill leaves the old one. ``private``: for the owner's eyes only (0600)."""
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o600 if private else 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=_EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # as on Unix, everywhere
    info.external_attr = 0o600 << 16
    return info


def _key(key: Any) -> str:
    return repr(key) if isinstance(key, float) else str(key)


def _name_of(value: Callable[..., Any] | object) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{module_of(named)}:{named.__qualname__}"


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
