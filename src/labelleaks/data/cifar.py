"""CIFAR-10 and CIFAR-100: 60,000 colour pictures each, of 10 classes and of 100 (the fine labels).

They share two formats, the binary version, and the Python version, which is read without running its pickles.

Binary: for each picture one label byte (CIFAR-100: the coarse one, then the fine one) and 3,072 bytes, red plane, green
plane, blue plane, row by row. Python: a dict with ``data`` (n, 3072) in that order and ``labels`` or ``fine_labels``.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labelleaks.data.archive import members
from labelleaks.data.cards import Card, FileSet, Labels, ParsedRows, Pixels, RemoteFile, Sizes
from labelleaks.data.pickles import read_pickle
from labelleaks.errors import InputError

__all__ = ["CIFAR10", "CIFAR100"]

_PIXELS = 3 * 32 * 32
_MOST = 1 << 29
"""bytes of a member; the largest official one has 154 MB"""


def _read_binary(
    path: Path, *, folder: str, train: Sequence[str], test: str, names: str, label_bytes: int
) -> ParsedRows:
    """Read the binary version: uint8 (n, 3, 32, 32). Raises InputError where the archive is not that."""
    batches, listing = [f"{folder}/{name}" for name in [*train, test]], f"{folder}/{names}"
    contents = _contents(path, [*batches, listing])
    class_names = tuple(
        line.strip() for line in contents[listing].decode("ascii", "replace").splitlines() if line.strip()
    )
    return _joined([_records(contents[name], f"{path}: {name}", label_bytes) for name in batches], class_names)


def _read_python(
    path: Path, *, folder: str, train: Sequence[str], test: str, meta: str, labels: str, names: str
) -> ParsedRows:
    """Read the Python version: uint8 (n, 3, 32, 32). Raises InputError where the archive is not that."""
    batches, about = [f"{folder}/{name}" for name in [*train, test]], f"{folder}/{meta}"
    contents = _contents(path, [*batches, about])
    parts = [_batch(read_pickle(contents[name], f"{path}: {name}"), labels, f"{path}: {name}") for name in batches]
    listed = read_pickle(contents[about], f"{path}: {about}").get(names)
    if not isinstance(listed, list) or not all(isinstance(name, bytes | str) for name in listed):
        raise InputError(f"{path}: {about} holds no list {names!r}")
    return _joined(
        parts, tuple(name.decode("ascii", "replace") if isinstance(name, bytes) else name for name in listed)
    )


def _contents(path: Path, wanted: Sequence[str]) -> Mapping[str, bytes]:
    contents = {name: stream.read(_MOST) for name, stream in members(path, lambda name: name in wanted)}
    missing = [name for name in wanted if name not in contents]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} is not in it")
    return contents


def _records(content: bytes, what: str, label_bytes: int) -> tuple[Pixels, Labels]:
    width = label_bytes + _PIXELS
    if not content or len(content) % width:
        raise InputError(f"{what}: {len(content):,} bytes, a multiple of {width:,} is expected")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, width)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].astype(np.int64)


def _batch(batch: Mapping[str, Any], labels: str, what: str) -> tuple[Pixels, Labels]:
    data, listed = batch.get("data"), batch.get(labels)
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != _PIXELS:
        raise InputError(f"{what}: data is no array (n, {_PIXELS})")
    if not isinstance(listed, list) or not all(isinstance(label, int) for label in listed) or len(listed) != len(data):
        raise InputError(f"{what}: {labels} is no list of {len(data)} numbers")
    return data.reshape(-1, 3, 32, 32), np.array(listed, dtype=np.int64)


def _joined(parts: Sequence[tuple[Pixels, Labels]], class_names: tuple[str, ...]) -> ParsedRows:
    """All parts in order; the last one is the test part."""
    test = len(parts) - 1
    return ParsedRows(
        x=np.concatenate([x for x, _ in parts]),
        y=np.concatenate([y for _, y in parts]),
        split=np.concatenate([np.full(len(y), part == test, dtype=np.uint8) for part, (_, y) in enumerate(parts)]),
        class_names=class_names,
    )


def _archive(name: str, checksum: str, source: str, read: Callable[[Path], ParsedRows]) -> FileSet:
    file = RemoteFile(name, (f"https://www.cs.toronto.edu/~kriz/{name}",), checksum, source)
    return FileSet((file,), lambda paths, side: read(paths[name]))


_TORCHVISION = "torchvision/datasets/cifar.py of pytorch/vision"
_COMMON: Mapping[str, Any] = {
    "home": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cite": "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    "licence": "none stated",
    "evidence": "certain",
    "why": "in every version of the authors' code",
    "rows": (50_000, 10_000),
    "shape": (3, 32, 32),
}

CIFAR10 = Card(
    name="cifar10",
    title="CIFAR-10",
    classes=10,
    sizes=Sizes((3000, 2000, 1500, 1000, 500, 100), 1000, "authors' code"),
    sets=(
        _archive(
            "cifar-10-binary.tar.gz",
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            "tensorflow_datasets/url_checksums/cifar10.txt of tensorflow/datasets",
            partial(
                _read_binary,
                folder="cifar-10-batches-bin",
                train=[f"data_batch_{number}.bin" for number in range(1, 6)],
                test="test_batch.bin",
                names="batches.meta.txt",
                label_bytes=1,
            ),
        ),
        _archive(
            "cifar-10-python.tar.gz",
            "md5:c58f30108f718f92721af3b95e74349a",
            _TORCHVISION,
            partial(
                _read_python,
                folder="cifar-10-batches-py",
                train=[f"data_batch_{number}" for number in range(1, 6)],
                test="test_batch",
                meta="batches.meta",
                labels="labels",
                names="label_names",
            ),
        ),
    ),
    npz=("cifar10.npz",),
    **_COMMON,
)

CIFAR100 = Card(
    name="cifar100",
    title="CIFAR-100",
    classes=100,
    sizes=Sizes((7000, 6000, 5000, 4000, 3000, 2000), 1000, "authors' code"),
    sets=(
        _archive(
            "cifar-100-binary.tar.gz",
            "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            "tensorflow_datasets/url_checksums/cifar100.txt of tensorflow/datasets",
            partial(
                _read_binary,
                folder="cifar-100-binary",
                train=["train.bin"],
                test="test.bin",
                names="fine_label_names.txt",
                label_bytes=2,
            ),
        ),
        _archive(
            "cifar-100-python.tar.gz",
            "md5:eb9058c3a382ffc7106e4002c42a8d85",
            _TORCHVISION,
            partial(
                _read_python,
                folder="cifar-100-python",
                train=["train"],
                test="test",
                meta="meta",
                labels="fine_labels",
                names="fine_label_names",
            ),
        ),
    ),
    npz=("cifar100.npz", "cifar100_mini.npz"),
    **_COMMON,
)
