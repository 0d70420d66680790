"""Read files inside archives. Nothing is unpacked to disk: no path can escape, no link can be followed.

Names, numbers and sizes are still checked, and what comes out is counted while it is read, whatever a header claims.
"""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from labelleaks.errors import InputError, in_a_line

__all__ = ["Limits", "gunzip", "members", "names"]

_DAMAGED = (
    EOFError,
    ValueError,
    OSError,
    lzma.LZMAError,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
)
"""What the standard library raises over a damaged archive (RuntimeError: an encrypted one)."""


@dataclass(frozen=True)
class Limits:
    """More than this, and an archive is refused."""

    members: int = 300_000
    member: int = 4 << 30
    """bytes of one file, unpacked"""
    total: int = 12 << 30
    """bytes of all files, unpacked"""


class _Bounded(io.RawIOBase):
    """A stream that stops at ``most`` bytes and speaks of damage in one line."""

    def __init__(self, stream: IO[bytes], what: str, most: int) -> None:
        self._stream, self._what, self._left, self._most = stream, what, most, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._stream.read(len(buffer))
        except _DAMAGED as error:
            raise _damaged(self._what, error) from None
        self._left -= len(block)
        if self._left < 0:
            raise InputError(f"{self._what}: unpacks to more than {self._most:,} bytes: refused as a zip bomb")
        buffer[: len(block)] = block
        return len(block)


def members(path: Path, wanted: Callable[[str], bool], limits: Limits = Limits()) -> Iterator[tuple[str, IO[bytes]]]:
    """Go through the regular files in a .zip, .tar.gz or .tgz whose names are wanted, in the archive's order.

    Args:
        wanted: name (with /, no leading ./) -> whether it is read.

    Yields:
        The name and a stream of the content, which is good until the next step.

    Raises:
        InputError: damaged or cut short; a name that leads out of the archive; a wanted file that is a link; more files
            or bytes than ``limits`` allow.
    """
    if path.name.endswith(".zip"):
        yield from _zip_members(path, wanted, limits)
    else:
        yield from _tar_members(path, wanted, limits)


def names(path: Path, limits: Limits = Limits()) -> list[str]:
    """Return the names of all regular files. Raises as :func:`members`."""
    listed: list[str] = []

    def note(name: str) -> bool:
        listed.append(name)
        return False

    for _ in members(path, note, limits):
        pass
    return listed


def gunzip(path: Path, most: int) -> bytes:
    """Return the content of a .gz of at most ``most`` bytes. Raises InputError as :func:`members`."""
    with gzip.open(path) as packed:
        return io.BufferedReader(_Bounded(cast(IO[bytes], packed), str(path), most)).read()


def _zip_members(path: Path, wanted: Callable[[str], bool], limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise _damaged(str(path), error) from None
    with archive:
        entries = archive.infolist()
        _check_count(path, len(entries), limits)
        if sum(entry.file_size for entry in entries) > limits.total:
            raise InputError(f"{path}: unpacks to more than {limits.total:,} bytes: refused as a zip bomb")
        for entry in entries:
            name = _safe(path, entry.filename)
            if entry.is_dir() or not wanted(name):
                continue
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise InputError(f"{path}: {name} is a link; the official archive holds plain files")
            try:
                stream = archive.open(entry)
            except _DAMAGED as error:
                raise _damaged(f"{path}: {name}", error) from None
            with stream:
                yield name, io.BufferedReader(_Bounded(stream, f"{path}: {name}", limits.member))


def _tar_members(path: Path, wanted: Callable[[str], bool], limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    with gzip.open(path) as packed:
        counted = io.BufferedReader(_Bounded(cast(IO[bytes], packed), str(path), limits.total), 1 << 16)
        try:
            archive = tarfile.open(fileobj=counted, mode="r|")  # noqa: SIM115
        except _DAMAGED as error:
            raise _damaged(str(path), error) from None
        with archive:
            for number, entry in enumerate(_entries(path, archive), 1):
                _check_count(path, number, limits)
                name = _safe(path, entry.name)
                if not (entry.isreg() or entry.issym() or entry.islnk()) or not wanted(name):
                    continue
                stream = archive.extractfile(entry) if entry.isreg() else None
                if stream is None:
                    raise InputError(f"{path}: {name} is a link; the official archive holds plain files")
                yield name, io.BufferedReader(_Bounded(stream, f"{path}: {name}", limits.member))
        while counted.read(1 << 16):  # to the end: only there is the checksum of the .gz
            pass


def _entries(path: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The entries of a tar that is read as a stream; the list that tarfile keeps of them is emptied on the way."""
    while True:
        try:
            entry = archive.next()
        except InputError:
            raise
        except _DAMAGED as error:
            raise _damaged(str(path), error) from None
        if entry is None:
            return
        archive.members.clear()  # type: ignore[attr-defined]
        yield entry


def _check_count(path: Path, count: int, limits: Limits) -> None:
    if count > limits.members:
        raise InputError(f"{path}: holds more than {limits.members:,} files: refused")


def _safe(path: Path, name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name:
        raise InputError(f"{path}: holds {name!r}, a path that leads out of the archive: refused")
    return "/".join(part for part in parts if part not in ("", "."))


def _damaged(what: str, error: BaseException) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError(f"{what}: damaged or cut short ({in_a_line(error)})")
