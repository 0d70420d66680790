"""CIFAR-100: 60,000 colour pictures of 100 classes (the fine labels)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
from labelleaks.data.cifar import read_binary, read_python

__all__ = ["CARD"]

_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
_BINARY = RemoteFile(
    name="cifar-100-binary.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
    checksum="sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    source="tensorflow_datasets/url_checksums/cifar100.txt of tensorflow/datasets",
)
_PYTHON = RemoteFile(
    name="cifar-100-python.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
    checksum="md5:eb9058c3a382ffc7106e4002c42a8d85",
    source="torchvision/datasets/cifar.py of pytorch/vision",
)


def _read_binary(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    folder = "cifar-100-binary"
    return read_binary(
        paths[_BINARY.name],
        train=[f"{folder}/train.bin"],
        test=f"{folder}/test.bin",
        names=f"{folder}/fine_label_names.txt",
        label_bytes=2,
    )


def _read_python(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    folder = "cifar-100-python"
    return read_python(
        paths[_PYTHON.name],
        train=[f"{folder}/train"],
        test=f"{folder}/test",
        meta=f"{folder}/meta",
        labels="fine_labels",
        names="fine_label_names",
    )


CARD = Card(
    name="cifar100",
    title="CIFAR-100",
    home=_HOME,
    cite="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    licence="none stated",
    evidence="certain",
    why="in every version of the authors' code",
    rows=(50_000, 10_000),
    shape=(3, 32, 32),
    classes=100,
    sizes=Sizes((7000, 6000, 5000, 4000, 3000, 2000), 1000, "authors' code"),
    sets=(FileSet((_BINARY,), _read_binary), FileSet((_PYTHON,), _read_python)),
    npz=("cifar100.npz", "cifar100_mini.npz"),
)
