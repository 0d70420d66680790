"""Tiny-ImageNet: 200 classes of 64 x 64 pictures; 100,000 to train, and the 10,000 of the validation part as test part.

Its own test part has no labels and is left out. Classes are in the order of their WordNet numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from labelleaks.data.archive import members, names
from labelleaks.data.cards import Card, FileSet, ParsedRows, RemoteFile, Sizes
from labelleaks.data.pixels import decoded
from labelleaks.errors import InputError

__all__ = ["CARD"]

_FILE = RemoteFile(
    name="tiny-imagenet-200.zip",
    urls=("https://cs231n.stanford.edu/tiny-imagenet-200.zip",),
    checksum="md5:90528d7ca1a48142e341f4ef8d21d0de",
    source="avalanche/benchmarks/datasets/tiny_imagenet/tiny_imagenet.py of ContinualAI/avalanche",
)
_ROOT = "tiny-imagenet-200"
_TRAIN = re.compile(rf"{_ROOT}/train/(n\d{{8}})/images/[^/]+\.JPEG")
_TEST = re.compile(rf"{_ROOT}/val/images/([^/]+\.JPEG)")
_TEXTS = tuple(f"{_ROOT}/{name}" for name in ("wnids.txt", "words.txt", "val/val_annotations.txt"))
_MOST = 1 << 24
"""bytes of a member that is read"""


def _read(paths: Mapping[str, Path], side: int | None) -> ParsedRows:
    path = paths[_FILE.name]
    wnids, words, truth = _texts(path)
    number = {wnid: label for label, wnid in enumerate(wnids)}
    every = names(path)
    train = sorted(name for name in every if _TRAIN.fullmatch(name))
    test = sorted(name for name in every if _TEST.fullmatch(name))
    wnid_of = {name: match[1] for name in train if (match := _TRAIN.fullmatch(name))}
    wnid_of |= {name: truth.get(Path(name).name, "") for name in test}
    order = [*train, *test]
    wrong = next((name for name in order if wnid_of[name] not in number), None)
    if wrong is not None:
        raise InputError(f"{path}: {wrong} belongs to no class of wnids.txt")
    place = {name: row for row, name in enumerate(order)}
    x = np.empty((len(order), 3, 64, 64), dtype=np.uint8)
    for name, stream in members(path, lambda name: name in place):
        x[place[name]] = decoded(stream.read(_MOST), f"{path}: {name}", kind="JPEG", side=64)
    return ParsedRows(
        x=x,
        y=np.array([number[wnid_of[name]] for name in order], dtype=np.int64),
        split=np.repeat(np.array([0, 1], dtype=np.uint8), [len(train), len(test)]),
        class_names=tuple(f"{wnid} {words.get(wnid, '')}".strip() for wnid in wnids),
    )


def _texts(path: Path) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """(WordNet numbers in order, words by number, number by picture of the validation part)."""
    texts = {name: stream.read(_MOST).decode("utf-8", "replace") for name, stream in members(path, _TEXTS.__contains__)}
    missing = [name for name in _TEXTS if name not in texts]
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} is not in it")
    wnids, words, truth = (texts[name].splitlines() for name in _TEXTS)
    by_tab = [dict(line.split("\t")[:2] for line in lines if "\t" in line) for lines in (words, truth)]
    return sorted(line.strip() for line in wnids if line.strip()), by_tab[0], by_tab[1]


CARD = Card(
    name="tiny_imagenet",
    title="Tiny-ImageNet",
    home="https://cs231n.stanford.edu/",
    cite="Le, Yang, Tiny ImageNet visual recognition challenge, Stanford CS 231N, 2015",
    licence="none stated; ImageNet's terms",
    evidence="likely",
    why="in leftovers of the authors' older code: at most 30,000 rows to train, 2,000 to test",
    rows=(100_000, 10_000),
    shape=(3, 64, 64),
    classes=200,
    sizes=Sizes(
        (30_000, 25_000, 20_000, 15_000, 10_000, 5_000),
        2000,
        "M-0 and test: authors' older code; M-1 … M-5: ours",
    ),
    sets=(FileSet((_FILE,), _read),),
    npz=("tiny_imagenet.npz",),
)
