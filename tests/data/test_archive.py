"""Archives from strangers: nothing leads out of them, nothing in them runs, nothing grows without bound."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelleaks.data.archive import Limits, gunzip, members, names
from labelleaks.data.pickles import read_pickle
from labelleaks.errors import InputError
from tests.data_fixture import python_2_batch, tgz, zipped

CONTENT = {"a/one.txt": b"1" * 1000, "./b/two.txt": b"2" * 70_000, "three.txt": b""}
MAKERS = {"x.tgz": tgz, "x.zip": zipped}


def everything(path: Path, limits: Limits = Limits()) -> dict[str, bytes]:  # noqa: B008
    return {name: stream.read() for name, stream in members(path, lambda name: True, limits)}


@pytest.mark.parametrize("kind", MAKERS)
def test_files_are_read_without_unpacking(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    path.write_bytes(MAKERS[kind](CONTENT))
    expected = {name.removeprefix("./"): data for name, data in CONTENT.items()}
    assert everything(path) == expected
    assert names(path) == list(expected)
    assert [name for name, _ in members(path, lambda name: name.startswith("a/"))] == ["a/one.txt"]
    assert [p.name for p in tmp_path.iterdir()] == [kind], "nothing was written"


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "..\\evil", "\\evil"])
def test_paths_that_lead_out_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    path.write_bytes(MAKERS[kind]({name: b"x"}))
    with pytest.raises(InputError, match="leads out of the archive"):
        names(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_in_a_tar_is_refused(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(InputError, match="link is a link"):
        everything(path)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="link is a link"):
        everything(path)


def test_devices_and_folders_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, kind in (("pipe", tarfile.FIFOTYPE), ("device", tarfile.CHRTYPE), ("folder", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
    assert everything(path) == {}


@pytest.mark.parametrize("kind", MAKERS)
def test_bombs_are_refused_while_they_unpack(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    path.write_bytes(MAKERS[kind]({"a": bytes(3_000_000), "b": bytes(3_000_000)}))
    assert path.stat().st_size < 50_000
    assert len(everything(path)) == 2
    with pytest.raises(InputError, match="zip bomb"):
        everything(path, Limits(total=4_000_000))
    with pytest.raises(InputError, match="zip bomb"):
        everything(path, Limits(member=2_000_000))
    with pytest.raises(InputError, match="more than 1 files"):
        everything(path, Limits(members=1))


def test_a_size_that_a_zip_lies_about_is_no_way_around(tmp_path: Path) -> None:
    held = bytearray(zipped({"a": bytes(3_000_000)}))
    true = (3_000_000).to_bytes(4, "little")
    assert held.count(true) == 2
    path = tmp_path / "x.zip"
    path.write_bytes(bytes(held).replace(true, (10).to_bytes(4, "little")))
    try:
        got = everything(path, Limits(member=1000, total=1000))
    except InputError:
        return
    assert sum(map(len, got.values())) <= 10


def test_a_gz_is_limited_too(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(bytes(5_000_000)))
    assert len(gunzip(path, 5_000_000)) == 5_000_000
    with pytest.raises(InputError, match="zip bomb"):
        gunzip(path, 4_999_999)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("fault", ["cut", "flipped", "empty", "text"])
def test_damage_is_one_line(kind: str, fault: str, tmp_path: Path) -> None:
    good = MAKERS[kind]({"a": np.random.default_rng(0).bytes(100_000), "b": b"end"})
    middle = len(good) // 2
    bad = {
        "cut": good[: middle + 1000],
        "flipped": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "empty": b"",
        "text": b"<html>" * 100,
    }[fault]
    path = tmp_path / kind
    path.write_bytes(bad)
    with pytest.raises(InputError, match="damaged or cut short") as raised:
        everything(path)
    assert "\n" not in str(raised.value)


def test_a_checksum_at_the_end_of_a_gz_counts_where_only_the_beginning_is_wanted(tmp_path: Path) -> None:
    held = bytearray(tgz({"a": b"a", "b": bytes(320_000)}))  # a tar of 5 x 65,536 bytes: no read goes beyond it
    held[-5] ^= 1
    path = tmp_path / "x.tgz"
    path.write_bytes(held)
    with pytest.raises(InputError, match="damaged"):
        for _ in members(path, lambda name: name == "a"):
            pass


BATCH = np.random.default_rng(0).integers(0, 256, (3, 8), dtype=np.uint8)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_an_array_is_rebuilt_without_numpy_s_help(protocol: int) -> None:
    held = read_pickle(pickle.dumps({b"data": BATCH, b"labels": [1, 2, 300], b"note": b"x"}, protocol), "batch")
    assert np.array_equal(held["data"], BATCH) and held["data"].dtype == np.uint8
    assert held["labels"] == [1, 2, 300] and held["note"] == b"x"


def test_the_official_kind_of_python_2(tmp_path: Path) -> None:
    held = read_pickle(python_2_batch(BATCH, [7, 0, 9]), "batch")
    assert np.array_equal(held["data"], BATCH) and held["labels"] == [7, 0, 9]
    official = pickle.loads(python_2_batch(BATCH, [7, 0, 9]), encoding="latin1")
    assert np.array_equal(official["data"], BATCH), "the fixture is what NumPy itself reads"


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(_Runs(), 2),
        pickle.dumps({b"data": _Runs()}, 4),
        pickle.dumps({b"data": np.zeros(3)}, 2),
        pickle.dumps({b"data": np.array([_Runs()], dtype=object)}, 2),
        pickle.dumps([1, 2], 2),
        pickle.dumps({b"f": np.frombuffer}, 2),
        b"cnumpy\nload\n(U\x07/etc/xxtR.",
        b"\x80\x02Pid\n.",
        b"cnumpy\ndtype\n(U\x02u1tR.",
        b"\x80\x02}r\x00\x00\x10\x00.",  # a place in its memory that makes room for a million
        b"}p1048576\n.",
        b"no pickle",
        b"",
        python_2_batch(BATCH, [1])[:-30],
        python_2_batch(BATCH, [1]).replace(b"J\x08\x00\x00\x00", b"J\x09\x00\x00\x00"),
    ],
)
def test_pickles_that_are_no_batch_are_refused_and_run_nothing(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="not a batch of CIFAR, refused") as raised:
        read_pickle(content, "data_batch_1")
    assert "data_batch_1" in str(raised.value) and not list(tmp_path.iterdir())


def test_the_counting_stream_is_a_proper_stream(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped({"a": b"one\ntwo\nthree"}))
    for _, stream in members(path, lambda name: True):
        assert isinstance(stream, io.BufferedIOBase) and list(stream) == [b"one\n", b"two\n", b"three"]
