"""Cache of data sets and its lock file of checksums: trust on first use where nobody published one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labelleaks.core.cache import cache_folder
from labelleaks.core.serialization import write_atomic
from labelleaks.data.cards import RemoteFile
from labelleaks.errors import InputError

__all__ = ["Sums", "check_sums", "dataset_folder", "recorded", "remember", "sums_of"]

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
        held = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(entry["sha256"]) for name, entry in held.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{path} is damaged: delete it to record the checksums again") from None


def remember(folder: Path, checksums: Mapping[str, Sums]) -> None:
    """Record the checksums of files that were downloaded or given, checked as far as possible, and parsed."""
    held = recorded(folder)
    new = {name: {"sha256": sums.sha256, "bytes": sums.size} for name, sums in checksums.items() if name not in held}
    if not new:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _LOCK
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_atomic(path, json.dumps({**entries, **new}, indent=1, sort_keys=True) + "\n", private=False)


def check_sums(remote: RemoteFile, sums: Sums, known: Mapping[str, str]) -> str | None:
    """Compare with the published checksum, and with the one recorded at first use.

    Returns:
        None where all is well, else what is wrong.
    """
    if remote.checksum is not None:
        kind, _, wanted = remote.checksum.partition(":")
        got = {"md5": sums.md5, "sha256": sums.sha256}[kind]
        if got != wanted:
            return f"its {kind} is {got}, but {wanted} is published ({remote.source})"
    first = known.get(remote.name)
    if first is not None and first != sums.sha256:
        return f"its sha256 is {sums.sha256}, but {first} was recorded when it first came here"
    return None
