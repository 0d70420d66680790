"""The cache of data sets: checksums of accepted files (trust on first use where nobody published one), and parsed rows.

Rows lie in plain .npy files that are read from disk as they are needed: a folder for each data set and picture size,
written whole or not at all. It says which files it was made of, so that another file, or another version of the parser,
makes it anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelleaks.core.cache import cache_folder
from labelleaks.core.serialization import write_atomic
from labelleaks.data.cards import Card, ParsedRows, RemoteFile
from labelleaks.data.dataset import Dataset
from labelleaks.errors import InputError

__all__ = ["Sums", "check_sums", "dataset_folder", "files_of", "keep", "kept", "recorded", "remember", "sums_of"]


_LOCK = "checksums.json"


@dataclass(frozen=True)
class Sums:
    """Hashes of a file."""

    md5: str
    sha256: str
    size: int
    """bytes"""


def dataset_folder(name: str) -> Path:
    """Return the folder of the data set ``name`` in the cache. Makes nothing."""
    return cache_folder() / "data" / name


def sums_of(path: Path) -> Sums:
    """Hash a file once. MD5 serves only to compare with published sums: it finds damage, not malice."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            md5.update(block)
            sha256.update(block)
            size += len(block)
    return Sums(md5.hexdigest(), sha256.hexdigest(), size)


def recorded(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that was once accepted into ``folder``, by file name."""
    path = folder / _LOCK
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(entry["sha256"]) for name, entry in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path} is damaged: delete it to record the checksums again") from None


def remember(folder: Path, checksums: Mapping[str, Sums]) -> None:
    """Record the checksums of files that were downloaded or given, checked as far as possible, and parsed."""
    before = recorded(folder)
    new = {name: {"sha256": sums.sha256, "bytes": sums.size} for name, sums in checksums.items() if name not in before}
    if not new:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOCK
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_atomic(path, json.dumps({**entries, **new}, indent=1, sort_keys=True) + "\n", private=False)


def check_sums(remote: RemoteFile, sums: Sums, first_sums: Mapping[str, str]) -> str | None:
    """Compare with the published checksum, and with the one recorded at first use.

    Returns:
        None where all is well, else what is wrong.
    """
    if remote.checksum is not None:
        kind, _, wanted = remote.checksum.partition(":")
        got = {"md5": sums.md5, "sha256": sums.sha256}[kind]
        if got != wanted:
            return f"its {kind} is {got}, but {wanted} is published ({remote.source})"
    first = first_sums.get(remote.name)
    if first is not None and first != sums.sha256:
        return f"its sha256 is {sums.sha256}, but {first} was recorded when it first came here"
    return None


_VERSION = 1
"""of the parsers: raised when one of them makes other rows of the same files"""
_ABOUT = "about.json"


def kept(card: Card, folder: Path, side: int | None, variant: str = "") -> Dataset | None:
    """Return the data set as it was parsed earlier, None where it was not. Values stay on disk until they are used."""
    place = _place(folder, side, variant)
    try:
        about = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
        if about["version"] != _VERSION:
            return None
        return Dataset(
            name=card.name,
            x=np.load(place / "x.npy", mmap_mode="r", allow_pickle=False),
            y=np.load(place / "y.npy", allow_pickle=False),
            class_names=tuple(about["class_names"]),
            split=np.load(place / "split.npy", allow_pickle=False),
            groups=np.load(place / "groups.npy", allow_pickle=False) if about["groups"] else None,
            source_index=np.arange(about["rows"], dtype=np.int64),
            domain=card.inputs,
            scale=card.scale,
            whole=True,
            origin=", ".join(sorted(about["files"])),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place} is damaged ({error}): delete it, and it is made again") from None


def keep(card: Card, folder: Path, side: int | None, variant: str, rows: ParsedRows, files: Mapping[str, str]) -> None:
    """Put parsed rows into the cache. ``files``: SHA-256 by name of the files that they were read from."""
    place = _place(folder, side, variant)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder, prefix=f".{place.name}."))
    try:
        np.save(unfinished / "x.npy", rows.x, allow_pickle=False)
        np.save(unfinished / "y.npy", rows.y, allow_pickle=False)
        np.save(unfinished / "split.npy", rows.split, allow_pickle=False)
        if rows.groups is not None:
            np.save(unfinished / "groups.npy", rows.groups, allow_pickle=False)
        about: dict[str, Any] = {
            "version": _VERSION,
            "dataset": card.name,
            "rows": len(rows.x),
            "class_names": rows.class_names,
            "groups": rows.groups is not None,
            "files": dict(files),
        }
        (unfinished / _ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        unfinished.chmod(0o755)
        shutil.rmtree(place, ignore_errors=True)
        try:
            unfinished.rename(place)
        except OSError:
            if not (place / _ABOUT).exists():  # else another process was faster, and made the same
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def files_of(folder: Path, side: int | None, variant: str = "") -> dict[str, str]:
    """Return the SHA-256 by name of the files that the kept data set was made of; empty where there is none."""
    try:
        about = json.loads((_place(folder, side, variant) / _ABOUT).read_text(encoding="utf-8"))
        return dict(about["files"]) if about["version"] == _VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _place(folder: Path, side: int | None, variant: str) -> Path:
    return folder / "-".join(["rows", *([] if side is None else [str(side)]), *([variant] if variant else [])])
