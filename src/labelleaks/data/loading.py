"""From a card to a :class:`~labelleaks.data.dataset.Dataset`: from the cache, a user's folder, the official source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from labelleaks.core import progress
from labelleaks.core.serialization import check_writable
from labelleaks.data import cache
from labelleaks.data.cards import Card, FileSet, ParsedRows
from labelleaks.data.dataset import Dataset
from labelleaks.data.download import Policy, fetch
from labelleaks.data.npz import read_npz
from labelleaks.engine import Note
from labelleaks.errors import InputError

__all__ = ["is_kept", "load_card"]

_KILO = 1000


def is_kept(card: Card) -> bool:
    """Whether the data set is in the cache, at its default size, or needs none."""
    return not card.sets[0].files or bool(cache.files_of(cache.dataset_folder(card.name), card.side))


def load_card(
    card: Card,
    *,
    folder: str | Path | None = None,
    side: int | None = None,
    show_progress: bool | None = None,
    policy: Policy = Policy(),  # noqa: B008
) -> Dataset:
    """Load the data set of ``card``. Arguments and errors: :func:`labelleaks.data.load`."""
    kept_in = cache.dataset_folder(card.name)
    if folder is not None:
        return _from_folder(card, Path(folder), kept_in, side)
    side = _side(card, side)
    there = cache.kept(card, kept_in, side)
    if there is not None:
        return there
    chosen = card.sets[0]
    if not chosen.files:
        return _inside(card, chosen)
    check_writable(kept_in)
    _download(card, chosen, kept_in, show_progress, policy)
    return _read(card, chosen, {file.name: kept_in / file.name for file in chosen.files}, kept_in, side, ours=True)


def _inside(card: Card, chosen: FileSet) -> Dataset:
    """A data set that comes with an installed package: nothing to download or keep."""
    rows = chosen.read({}, None)
    _check_complete(card, rows)
    return Dataset(
        name=card.name,
        x=rows.x,
        y=rows.y,
        class_names=rows.class_names,
        split=rows.split,
        groups=rows.groups,
        source_index=np.arange(len(rows.x), dtype=np.int64),
        domain=card.inputs,
        scale=card.scale,
        whole=True,
        origin=card.home,
    )


def _side(card: Card, side: int | None) -> int | None:
    if side is None:
        return card.side
    if card.side is None:
        raise InputError(f"{card.title} has rows of {card.shape}: a size cannot be chosen; leave it out")
    if not 8 <= side <= 512:
        raise InputError(f"size: pictures of 8 to 512 pixels a side, got {side}")
    return side


def _download(card: Card, chosen: FileSet, folder: Path, show_progress: bool | None, policy: Policy) -> None:
    for number, file in enumerate(chosen.files, 1):
        if (folder / file.name).exists():
            continue
        with progress.meter(show_progress, unit="kB") as (note, expect):
            phase = f"{card.name} {number}/{len(chosen.files)}"
            sent = 0

            def arrived(size: int, note: Note | None = note, phase: str = phase) -> None:
                nonlocal sent
                sent += size
                if note is not None and sent >= _KILO:
                    note(phase, sent // _KILO)
                    sent %= _KILO

            def total(size: int, expect: progress.Expect = expect) -> None:
                expect(size // _KILO)

            fetch(file, folder, cache.recorded(folder), note=arrived, expect=total, policy=policy)


def _from_folder(card: Card, folder: Path, kept_in: Path, side: int | None) -> Dataset:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder that holds the files of {card.title}")
    for candidate in card.sets:
        paths = {file.name: _find(folder, card, file.name) for file in candidate.files}
        complete = {name: path for name, path in paths.items() if path is not None}
        if candidate.files and len(complete) == len(paths):
            return _read(card, candidate, complete, kept_in, _side(card, side), ours=False)
    for name in card.npz:
        path = _find(folder, card, name)
        if path is not None:
            return read_npz(path, card, None if side is None else _side(card, side))
    if not any(s.files for s in card.sets):
        raise InputError(f"{card.title} comes with {card.home}: leave the folder out")
    wanted = [" + ".join(file.name for file in s.files) for s in card.sets if s.files]
    raise InputError(
        f"{folder} holds no complete copy of {card.title}: one of these is needed: {'; '.join([*wanted, *card.npz])}"
    )


def _find(folder: Path, card: Card, name: str) -> Path | None:
    """A file in the user's folder, or in a folder of the data set's name below it."""
    return next((path for path in (folder / name, folder / card.name / name) if path.is_file()), None)


def _read(
    card: Card, chosen: FileSet, paths: Mapping[str, Path], kept_in: Path, side: int | None, *, ours: bool
) -> Dataset:
    """Check, parse and keep. ``ours``: the files lie in the cache, and a bad one is deleted there."""
    accepted = cache.recorded(kept_in)
    found = {}
    for file in chosen.files:
        found[file.name] = cache.sums_of(paths[file.name])
        wrong = cache.check_sums(file, found[file.name], accepted)
        if wrong is not None:
            raise InputError(f"{paths[file.name]} is not the file that it should be: {wrong}{_mend(paths, ours)}")
    made_of = {name: sums.sha256 for name, sums in found.items()}
    if cache.files_of(kept_in, side, chosen.variant) == made_of:
        there = cache.kept(card, kept_in, side, chosen.variant)
        assert there is not None
        return there
    try:
        rows = chosen.read(paths, side)
        _check_complete(card, rows)
    except InputError as error:
        raise InputError(f"{error}{_mend(paths, ours)}") from None
    cache.remember(kept_in, found)
    cache.keep(card, kept_in, side, chosen.variant, rows, made_of)
    there = cache.kept(card, kept_in, side, chosen.variant)
    assert there is not None
    return there


def _mend(paths: Mapping[str, Path], ours: bool) -> str:
    if not ours:
        return "; get it again from the official source"
    for path in paths.values():
        path.unlink(missing_ok=True)
    return "; it was deleted from the cache: get it again"


def _check_complete(card: Card, rows: ParsedRows) -> None:
    got = (int((rows.split == 0).sum()), int((rows.split == 1).sum()))
    if got != card.rows:
        raise InputError(
            f"{card.title} has {card.rows[0]:,} + {card.rows[1]:,} rows, the files hold {got[0]:,} + {got[1]:,}"
        )
    if card.side is None and rows.x.shape[1:] != card.shape:
        raise InputError(f"{card.title} has rows of {card.shape}, the files hold {rows.x.shape[1:]}")
    if card.domain is not None and len(rows.x):
        card.domain.check(torch.from_numpy(np.asarray(rows.x, dtype=np.float32)), card.title)
    if len(rows.class_names) != card.classes:
        raise InputError(f"{card.title} has {card.classes} classes, the files hold {len(rows.class_names)}")
