"""Data sets by name, and their splits."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import labelleaks.data as data
from labelleaks.core.domains import Binary, Box
from labelleaks.data import Dataset, card, label_leaks_split, load, names
from labelleaks.errors import InputError

REAL = Path(os.environ.get("LABELLEAKS_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_real = pytest.mark.skipif(
    not REAL.is_dir() and "LABELLEAKS_DATA" not in os.environ, reason="no real data: set LABELLEAKS_DATA"
)


def test_every_card_is_complete_and_honest() -> None:
    for name in names():
        known = card(name)
        assert known.name == name and known.home and known.cite and known.licence and known.why
        for file in (file for chosen in known.sets for file in chosen.files):
            assert all(urlsplit(url).scheme == "https" for url in file.urls)
            assert bool(file.checksum) == bool(file.source), "a checksum comes with who published it"
            if file.checksum:
                assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.checksum)
        assert all(file.urls for file in known.sets[0].files)
    certain = [name for name in names() if card(name).evidence == "certain"]
    assert certain == ["cifar10", "cifar100", "gtsrb", "face"]
    assert [name for name in names() if card(name).evidence == "likely"] == ["tiny_imagenet"]
    unknown = [name for name in names() if any(not f.checksum for f in card(name).sets[0].files)]
    assert unknown == ["purchase100", "texas100", "location30"]


def test_names_are_forgiving_and_errors_name_the_nearest() -> None:
    assert card("CIFAR-10").name == "cifar10" and card("Tiny ImageNet").name == "tiny_imagenet"
    with pytest.raises(InputError, match="did you mean 'texas100'"):
        card("texas10")
    with pytest.raises(AttributeError, match="no attribute 'loda'"):
        data.loda  # noqa: B018
    assert data.Dataset.__name__ in dir(data)


def test_listing_needs_no_heavy_import() -> None:
    code = "import sys; from labelleaks import data; [data.card(n) for n in data.names()]; "
    code += "heavy = {'torch', 'sklearn', 'scipy', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


PARTS = {
    "cifar10": (20_000, 15_000, (3, 32, 32)),
    "cifar100": (148, 148, (3, 32, 32)),
    "gtsrb": (12_000, 9_000, (3, 32, 32)),
    "face": (1867, 1867, (3, 64, 64)),
    "location30": (5010, 5010, (446,)),
    "mnist": (10_000, 8_500, (1, 28, 28)),
}


@needs_real
@pytest.mark.parametrize("name", PARTS)
def test_real_rows(name: str) -> None:
    found = load(name, folder=REAL)
    n, train, shape = PARTS[name]
    known = card(name)
    assert (len(found), int((found.split == 0).sum()), found.shape) == (n, train, shape)
    assert found.classes == known.classes and found.whole == (name in ("face", "location30"))
    assert isinstance(found.domain, Binary if known.binary else Box)
    x, y = found.rows(np.arange(0, n, max(1, n // 50)))
    found.domain.check(x, name)
    assert y.tolist() == found.y[:: max(1, n // 50)].tolist()
    described = found.describe()
    assert described["rows"] == n and described["groups"] == (1306 if name == "gtsrb" else None)
    if name == "cifar10":
        assert found.source_index is not None and len(set(found.source_index.tolist())) == n
        assert found.class_names[0] == "airplane" and 0.4 < float(x.mean()) < 0.55


@needs_real
def test_real_signs_of_one_track_stay_on_one_side() -> None:
    signs = load("gtsrb", folder=REAL)
    assert signs.groups is not None
    assert np.array_equal(signs.groups[signs.groups >= 0] // 1000, signs.y[signs.groups >= 0]), "a track has one class"
    clean = label_leaks_split(signs, protocol="clean")
    sides = [set(signs.groups[rows].tolist()) for rows in (clean.target, clean.test, clean.shadow)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert len(set(signs.y[clean.target].tolist())) == 43 and len(clean.test) >= 2000 and len(clean.shadow) > 4000
    mixed = label_leaks_split(signs)
    twins = np.isin(signs.groups[mixed.test], signs.groups[mixed.target]).mean()
    assert twins > 0.3, "under the authors' protocol many non-members show a member's sign"


@needs_real
def test_the_real_demo_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLEAKS_CACHE", str(tmp_path))
    places = load("location30", folder=REAL)
    split = label_leaks_split(places, protocol="clean")
    x, y = places.rows(split.members(1200))
    assert x.shape == (1200, 446) and y.shape == (1200,) and len(split.test) == 1270
    assert not list(tmp_path.iterdir()), "reading an .npz keeps nothing"


def made(
    n: int, *, name: str = "gtsrb", test_part: int = 0, groups: Sequence[int] | None = None, equal: int = 0
) -> Dataset:
    """``n`` rows of bits that spell their number; the first ``equal`` rows are all alike."""
    numbers = np.maximum(np.arange(n), equal - 1) if equal else np.arange(n)
    held = np.array(groups) if groups is not None else None
    return Dataset(
        name=name,
        x=((numbers[:, None] >> np.arange(20)) & 1).astype(np.uint8),
        y=np.arange(n) % 5 if held is None else np.where(held >= 0, held // 1000, 0),
        class_names=tuple("abcde"),
        split=np.repeat(np.array([0, 1], dtype=np.uint8), [n - test_part, test_part]),
        groups=held,
        source_index=np.arange(n),
        domain=Binary(),
        scale=1,
        whole=True,
        origin="made",
    )


@pytest.mark.parametrize("protocol", ["authors", "clean"])
def test_nested_disjoint_and_complete(protocol: str) -> None:
    data = made(5000, test_part=1000)
    split = label_leaks_split(data, protocol=protocol)  # type: ignore[arg-type]
    assert split.sizes == (600, 500, 400, 300, 200, 100)
    sets = [set(split.members(size).tolist()) for size in split.sizes]
    assert [len(s) for s in sets] == list(split.sizes)
    assert all(smaller < larger for larger, smaller in itertools.pairwise(sets))
    parts = [*split.target.tolist(), *split.test.tolist(), *split.shadow.tolist()]
    assert len(parts) == len(set(parts)) == 5000 - split.unused
    again = label_leaks_split(data, protocol=protocol)  # type: ignore[arg-type]
    assert np.array_equal(split.target, again.target) and np.array_equal(split.shadow, again.shadow)
    other = label_leaks_split(data, seed=2, protocol=protocol)  # type: ignore[arg-type]
    assert not np.array_equal(split.target, other.target)
    with pytest.raises(ValueError, match="read-only"):
        split.target[0] = 1


def test_the_authors_own_permutation() -> None:
    """What ``np.random.seed(1)`` and ``shuffle`` over a list of all indices give, cut as their code cuts it."""
    data = made(3000, test_part=500)
    split = label_leaks_split(data)
    order = list(range(2500))
    np.random.RandomState(1).shuffle(order)
    assert split.target.tolist() == order[:600]
    assert split.test.tolist() == order[-500:]
    assert split.shadow.tolist() == order[600:-500]
    assert split.unused == 500, "the official test part"
    members, others = split.candidates(300, most=200)
    assert members.tolist() == order[:200] and others.tolist() == order[-200:]
    members, others = split.candidates(100, most=1000)
    assert len(members) == len(others) == 100, "balanced: min(train, most) of each"
    assert split.protocol.checkpoint == "best on the non-members" and split.protocol.failed_searches == "dropped"


@pytest.mark.parametrize(
    ("name", "total", "shadow"), [("cifar10", 50_000, 46_000), ("cifar100", 50_000, 42_000), ("gtsrb", 39_209, 38_109),
                                  ("face", 1867, 1417)]
)  # fmt: skip
def test_shadow_sizes_of_the_paper(name: str, total: int, shadow: int) -> None:
    assert card(name).rows[0] == total
    assert len(label_leaks_split(made(total, name=name)).shadow) == shadow


def test_clean_takes_both_parts_and_more_non_members() -> None:
    split = label_leaks_split(made(60_000, name="cifar10", test_part=10_000), protocol="clean")
    assert len(split.test) == 10_000 and len(split.shadow) == 47_000 and split.unused == 0
    assert split.smallest_fpr == 1e-4
    small = label_leaks_split(made(1867, name="face"), protocol="clean")
    assert len(small.test) == (1867 - 350) // 3
    members, others = split.candidates(100)
    assert len(members) == 100 and len(others) == 10_000, "all non-members count"
    assert split.protocol.checkpoint == "last" and split.protocol.failed_searches == "kept"


def test_clean_keeps_one_of_equal_rows() -> None:
    split = label_leaks_split(made(3000, equal=400), protocol="clean")
    used = np.concatenate([split.target, split.test, split.shadow])
    assert len(used) == 3000 - 399 == 3000 - split.unused
    assert sorted(used.tolist())[:2] == [0, 400], "the first of them"


def test_clean_keeps_groups_on_one_side() -> None:
    """Five classes of 40 tracks with 30 frames, and 500 frames of no known track."""
    groups = [1000 * label + track for label in range(5) for track in range(40) for _ in range(30)] + [-1] * 500
    data = made(len(groups), test_part=500, groups=groups)
    split = label_leaks_split(data, protocol="clean")
    assert data.groups is not None
    sides = [set(data.groups[rows].tolist()) for rows in (split.target, split.test, split.shadow)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2]) and all(-1 not in s for s in sides)
    assert len(sides[2]) == 100 and len(split.shadow) == 3000, "half of the tracks, whole"
    assert len(split.test) == 1500, "a quarter of the tracks"
    counts = np.bincount(data.y[split.members(600)], minlength=5)
    assert counts.min() > 80, "all classes, about equally often"
    mixed = label_leaks_split(data)
    assert set(data.groups[mixed.target].tolist()) & set(data.groups[mixed.test].tolist()), "the authors mix them"


def test_a_class_of_few_groups_is_on_no_side_alone() -> None:
    groups = [1000 * label + track for label in range(3) for track in range(40) for _ in range(10)]
    groups += [3000, 3001, 3002] * 20
    data = made(len(groups), groups=groups)
    split = label_leaks_split(data, [100, 50], protocol="clean")
    for rows in (split.target, split.test):
        assert 3 not in data.y[rows]
    assert (data.y[split.shadow] == 3).sum() == 60


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"protocol": "dirty"}, "unknown protocol 'dirty'"),
        ({"sizes": []}, "sizes: different whole numbers"),
        ({"sizes": [100, 100]}, "sizes: different whole numbers"),
        ({"sizes": [100, 0]}, "sizes: different whole numbers"),
        ({"test": 0}, "at least one non-member"),
        ({"sizes": [2000], "test": 1000}, "2000 members and 1000 non-members leave nothing of 3000"),
        ({"sizes": [3000], "protocol": "clean"}, "leave nothing of 3000"),
    ],
)
def test_wrong_wishes(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        label_leaks_split(made(3000), **arguments)  # type: ignore[arg-type]


def test_more_than_the_groups_give() -> None:
    data = made(400, groups=[1000 * (i // 80) + i // 10 for i in range(400)])
    with pytest.raises(InputError, match="110 members asked for, but a quarter of its groups has"):
        label_leaks_split(data, [110, 90], protocol="clean")
    with pytest.raises(InputError, match="no training set of 7 rows"):
        label_leaks_split(data, [50, 20], protocol="clean").members(7)


def test_rows_of_one_s_own_need_no_card() -> None:
    split = label_leaks_split(made(100, name="my own"), [20, 10], 10)
    assert len(split.shadow) == 70
    assert len(label_leaks_split(made(100, name="my own"), [20, 10], protocol="clean").test) == 26
    with pytest.raises(InputError, match="unknown data set 'my own'"):
        label_leaks_split(made(100, name="my own"))


def test_every_card_has_six_nested_sizes_that_fit() -> None:
    for name in names():
        known = card(name)
        assert len(known.sizes.targets) == 6 and list(known.sizes.targets) == sorted(known.sizes.targets, reverse=True)
        assert known.sizes.targets[0] + known.sizes.test < known.rows[0]
