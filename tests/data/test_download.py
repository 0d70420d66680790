"""Downloads against a server with faults: what breaks is resumed, what is wrong is refused, nothing wrong is kept."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from labelleaks.data.cache import recorded, remember
from labelleaks.data.cards import RemoteFile
from labelleaks.data.download import Policy, fetch
from labelleaks.errors import InputError
from tests.data_fixture import PATIENT, Server, md5, send, serve, status, whole

CONTENT = gzip.compress(np.random.default_rng(0).bytes(300_000), 1)
OTHER = gzip.compress(np.random.default_rng(1).bytes(300_000), 1)
HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


def remote(*urls: str, checksum: str | None = md5(CONTENT), most: int = 1 << 20) -> RemoteFile:
    return RemoteFile("a.gz", urls, checksum, "the makers", most)


def kept(folder: Path) -> set[str]:
    """Files in the folder, without the empty lock file."""
    return {path.name for path in folder.iterdir() if path.stat().st_size}


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    url = server.put("plain/a.gz", CONTENT)
    arrived: list[int] = []
    expected: list[int] = []
    sums = fetch(remote(url), tmp_path / "new", {}, note=arrived.append, expect=expected.append, policy=PATIENT)
    assert (tmp_path / "new/a.gz").read_bytes() == CONTENT
    assert kept(tmp_path / "new") == {"a.gz"}
    assert f"md5:{sums.md5}" == md5(CONTENT) and sums.size == len(CONTENT)
    assert sum(arrived) == len(CONTENT) and expected == [len(CONTENT)]


def test_a_broken_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    url = server.put("broken/a.gz", CONTENT, send(most=100_000), send(most=50_000), whole)
    arrived: list[int] = []
    fetch(remote(url), tmp_path, {}, note=arrived.append, policy=PATIENT)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    asked = server.asked("broken/a.gz")
    assert [headers.get("Range") for headers in asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_another_attempt_goes_on_where_the_last_one_ended(server: Server, tmp_path: Path) -> None:
    url = server.put("later/a.gz", CONTENT, send(most=100_000), send(most=0), send(most=0), send(most=0), whole)
    with pytest.raises(InputError, match=r"broke at 100,000 of .* bytes.*--from"):
        fetch(remote(url), tmp_path, {}, policy=PATIENT)
    assert (tmp_path / "a.gz.part").stat().st_size == 100_000 and not (tmp_path / "a.gz").exists()
    fetch(remote(url), tmp_path, {}, policy=PATIENT)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    assert server.asked("later/a.gz")[-1]["Range"] == "bytes=100000-"
    assert kept(tmp_path) == {"a.gz"}


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    url = server.put("ranges/a.gz", CONTENT, send(most=100_000), send(ranges=False))
    fetch(remote(url), tmp_path, {}, policy=PATIENT)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT


def test_another_range_than_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    url = server.put("shifted/a.gz", CONTENT, send(most=100_000), send(shift=-7), whole)
    fetch(remote(url), tmp_path, {}, policy=PATIENT)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    assert [headers.get("Range") for headers in server.asked("shifted/a.gz")] == [None, "bytes=100000-", None]


@pytest.mark.parametrize("told", ["published", "recorded"])
def test_parts_of_two_versions_are_fetched_whole_again(server: Server, tmp_path: Path, told: str) -> None:
    """The server changed the file between the parts: the checksum tells, and the file comes whole."""
    sums = hashlib.sha256(CONTENT).hexdigest()
    wanted, known = (md5(CONTENT), {}) if told == "published" else (None, {"a.gz": sums})
    url = server.put("mixed/a.gz", OTHER, send(most=100_000), send(most=0))
    with pytest.raises(InputError, match="broke"):
        fetch(remote(url, checksum=wanted), tmp_path, known, policy=PATIENT)
    server.put("mixed/a.gz", CONTENT)
    assert fetch(remote(url, checksum=wanted), tmp_path, known, policy=PATIENT).sha256 == sums
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    assert [headers.get("Range") for headers in server.asked("mixed/a.gz")[-2:]] == ["bytes=100000-", None]


def test_without_a_checksum_nothing_is_resumed(server: Server, tmp_path: Path) -> None:
    url = server.put("blind/a.gz", CONTENT, send(most=100_000), whole)
    fetch(remote(url, checksum=None), tmp_path, {}, policy=PATIENT)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    assert [headers.get("Range") for headers in server.asked("blind/a.gz")] == [None, None]


def test_a_file_cut_off_again_and_again_without_a_checksum_is_given_up(server: Server, tmp_path: Path) -> None:
    url = server.put("blindly/a.gz", CONTENT, send(most=100_000))
    with pytest.raises(InputError, match=r"broke at 100,000 of"):
        fetch(remote(url, checksum=None), tmp_path, {}, policy=PATIENT)
    assert len(server.asked("blindly/a.gz")) == PATIENT.attempts


def test_a_wrong_checksum_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    url = server.put("wrong/a.gz", OTHER)
    with pytest.raises(InputError) as raised:
        fetch(remote(url), tmp_path, {}, policy=PATIENT)
    for part in (md5(OTHER)[4:], md5(CONTENT)[4:], "the makers", url, "--from"):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)
    assert kept(tmp_path) == set() and len(server.asked("wrong/a.gz")) == 1


def test_a_file_cut_short_without_a_length_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.put("short/a.gz", CONTENT, send(most=200_000, length=False))
    with pytest.raises(InputError, match="published"):
        fetch(remote(url), tmp_path, {}, policy=PATIENT)
    assert kept(tmp_path) == set()


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_no_data(server: Server, tmp_path: Path, kind: str) -> None:
    url = server.put("page/a.gz", HTML, send(Content_Type=kind))
    with pytest.raises(InputError, match=r"perhaps a web page: no \.gz file begins b'<!DOCTYPE"):
        fetch(remote(url, checksum=None), tmp_path, {}, policy=PATIENT)
    assert kept(tmp_path) == set()


def test_something_else_than_an_archive_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.put("text/a.gz", b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"no \.gz file begins b'version"):
        fetch(remote(url, checksum=None), tmp_path, {}, policy=PATIENT)
    assert kept(tmp_path) == set()


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    gone, wrong, good = (
        server.put("gone/a.gz", b"", status(404)),
        server.put("bad/a.gz", OTHER),
        server.put("good/a.gz", CONTENT),
    )
    fetch(remote(gone, wrong, good), tmp_path, {}, policy=PATIENT)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    with pytest.raises(InputError, match=r"gone/a.gz: the server answered 404.*bad/a.gz: what came"):
        fetch(remote(gone, wrong), tmp_path / "no", {}, policy=PATIENT)
    assert len(server.asked("gone/a.gz")) == 2, "404 is final: one request each time"


def test_a_busy_server_is_asked_again_but_not_for_ever(server: Server, tmp_path: Path) -> None:
    url = server.put("busy/a.gz", CONTENT, status(503), status(429), whole)
    fetch(remote(url), tmp_path, {}, policy=PATIENT)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    url = server.put("dead/a.gz", CONTENT, status(503))
    with pytest.raises(InputError, match="503"):
        fetch(remote(url), tmp_path / "dead", {}, policy=PATIENT)
    assert len(server.asked("dead/a.gz")) == PATIENT.attempts
    url = server.put("drip/a.gz", CONTENT, send(most=1))
    with pytest.raises(InputError, match="broke"):
        fetch(remote(url), tmp_path / "drip", {}, policy=dataclasses.replace(PATIENT, requests=7))
    assert len(server.asked("drip/a.gz")) == 7


def test_nobody_there(tmp_path: Path) -> None:
    with serve() as gone:
        url = gone.put("x/a.gz", CONTENT)
    with pytest.raises(InputError, match="no connection"):
        fetch(remote(url), tmp_path, {}, policy=PATIENT)
    with pytest.raises(InputError, match="no address of it is known"):
        fetch(remote(), tmp_path, {}, policy=PATIENT)


def test_a_silent_server(server: Server, tmp_path: Path) -> None:
    import time

    url = server.put("silent/a.gz", CONTENT, lambda handler, content: time.sleep(0.6))
    with pytest.raises(InputError, match=r"timed out|broke"):
        fetch(remote(url), tmp_path, {}, policy=Policy(attempts=1, timeout=0.2, pause=0.0))


def test_redirects_are_followed_on_safe_ways_only(server: Server, tmp_path: Path) -> None:
    good = server.put("here/a.gz", CONTENT)
    fetch(remote(server.put("moved/a.gz", b"", status(302, Location=good))), tmp_path, {}, policy=PATIENT)
    assert (tmp_path / "a.gz").read_bytes() == CONTENT
    for target in ("http://192.0.2.1/a.gz", "ftp://127.0.0.1/a.gz", "file:///etc/passwd"):
        url = server.put("away/a.gz", b"", status(302, Location=target))
        with pytest.raises(InputError, match=r"https is needed|redirect|not allowed|302"):
            fetch(remote(url), tmp_path / "away", {}, policy=PATIENT)


@pytest.mark.parametrize("url", ["http://example.org/a.gz", "ftp://127.0.0.1/a.gz", "file:///etc/hostname", "a.gz"])
def test_only_https_and_this_machine(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="https is needed"):
        fetch(remote(url), tmp_path, {}, policy=PATIENT)


@pytest.mark.parametrize("length", [True, False])
def test_more_bytes_than_expected_are_refused(server: Server, tmp_path: Path, length: bool) -> None:
    url = server.put("large/a.gz", CONTENT, send(length=length))
    with pytest.raises(InputError, match="at most"):
        fetch(remote(url, most=100_000), tmp_path, {}, policy=PATIENT)
    assert not list(tmp_path.glob("*.part"))


def test_the_first_download_is_recorded_and_a_later_one_must_equal_it(server: Server, tmp_path: Path) -> None:
    url = server.put("first/a.gz", CONTENT)
    unknown = remote(url, checksum=None)
    remember(tmp_path, {"a.gz": fetch(unknown, tmp_path, recorded(tmp_path), policy=PATIENT)})
    (tmp_path / "a.gz").unlink()
    fetch(unknown, tmp_path, recorded(tmp_path), policy=PATIENT)
    (tmp_path / "a.gz").unlink()
    server.put("first/a.gz", OTHER)
    with pytest.raises(InputError, match="was recorded when it first came here"):
        fetch(unknown, tmp_path, recorded(tmp_path), policy=PATIENT)
    (tmp_path / "checksums.json").write_text("[]")
    with pytest.raises(InputError, match="is damaged: delete it"):
        recorded(tmp_path)


def test_two_downloads_of_one_file_do_not_mix(server: Server, tmp_path: Path) -> None:
    with FileLock(tmp_path / ".a.gz.lock"), pytest.raises(InputError, match="by another process"):
        fetch(remote(server.put("twice/a.gz", CONTENT)), tmp_path, {}, policy=PATIENT)
