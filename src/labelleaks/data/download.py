"""Get a file over https: resumed where a connection broke, checked before it is believed.

A file grows as NAME.part, with a note of the server's version of it beside it (NAME.part.json). A later attempt, in
this process or another, asks for the rest of that very version (Range with If-Range) and begins again where the server
has another one or knows no ranges. A file gets its own name only when it is complete and its checksum is right.
"""

from __future__ import annotations

import contextlib
import email.message
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from labelleaks.data.addresses import Refused, check_address, opener
from labelleaks.data.cache import Sums, check_sums, sums_of
from labelleaks.data.cards import Remote
from labelleaks.errors import InputError

__all__ = ["Policy", "fetch"]

_BLOCK = 1 << 18
_MAGIC = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".zip": b"PK"}
_AGAIN = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Policy:
    """How patient a download is."""

    attempts: int = 5
    """requests in a row that may bring nothing new before an address is given up"""
    requests: int = 200
    """requests to one address in all"""
    timeout: float = 30.0
    """seconds without a byte"""
    pause: float = 1.0
    """seconds before the second attempt, then doubled, at most 30"""


class _Broken(Exception):
    """Worth another attempt at the same address."""


def fetch(
    remote: Remote,
    folder: Path,
    known: Mapping[str, str],
    *,
    note: Callable[[int], None] = lambda size: None,
    expect: Callable[[int], None] = lambda size: None,
    policy: Policy = Policy(),
) -> Sums:
    """Put ``remote`` into ``folder``, under its own name.

    Args:
        known: SHA-256 of files that were accepted earlier, by name.
        note, expect: told the bytes that arrived, and the bytes of the whole file where the server says so.

    Returns:
        The checksums of the file; equal to the published or recorded one where there is one.

    Raises:
        InputError: no address has it, or what it has is not it; says why for each, and what else can be done.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems = []
    with _claimed(folder / remote.name):
        for url in remote.urls:
            try:
                return _from_address(url, remote, folder, known, note, expect, policy)
            except (Refused, _Broken) as error:
                problems.append(f"{url}: {error}")
    raise InputError(
        f"{remote.name} could not be downloaded ({'; '.join(problems) or 'no address of it is known'}); if you have "
        "the file or can get it otherwise, say --from FOLDER"
    )


def _from_address(
    url: str,
    remote: Remote,
    folder: Path,
    known: Mapping[str, str],
    note: Callable[[int], None],
    expect: Callable[[int], None],
    policy: Policy,
) -> Sums:
    """Fetch from one address. A file that was resumed and turns out wrong is fetched once more, whole."""
    part = _Part(folder / f"{remote.name}.part", url, checked=remote.checksum is not None or remote.name in known)
    for _ in range(2):
        resumed = part.size() > 0
        resumed |= _complete(part, remote, note, expect, policy)
        _check_kind(part, remote)
        sums = sums_of(part.path)
        wrong = check_sums(remote, sums, known)
        if wrong is None:
            os.replace(part.path, folder / remote.name)
            part.drop()
            return sums
        part.drop()
        if not resumed:
            break
    raise Refused(f"what came is not the file: {wrong}")


def _complete(
    part: _Part, remote: Remote, note: Callable[[int], None], expect: Callable[[int], None], policy: Policy
) -> bool:
    """Ask until the file is complete; return whether it took more than one request."""
    fruitless = 0
    for number in range(1, policy.requests + 1):
        before = part.size()
        try:
            _ask(part, remote, note, expect, policy)
            return number > 1
        except _Broken:
            fruitless = 0 if part.size() > before else fruitless + 1
            if fruitless >= policy.attempts or number == policy.requests:
                raise
            time.sleep(min(policy.pause * 2 ** max(fruitless - 1, 0), 30.0))
    raise AssertionError("unreachable")


class _Part:
    """The bytes that are there already, and of which version of the file they are."""

    def __init__(self, path: Path, url: str, *, checked: bool) -> None:
        self.path, self.url, self.checked = path, url, checked
        self.about = path.with_name(f"{path.name}.json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)

    def headers(self) -> dict[str, str]:
        """What asks for the rest; empty, and the part gone, where it cannot be told that the rest would fit."""
        have = self.size()
        if have == 0:
            return {}
        try:
            about: dict[str, Any] = json.loads(self.about.read_text(encoding="utf-8"))
            version = str(about["version"]) if about["url"] == self.url else None
        except (OSError, ValueError, KeyError, TypeError):
            version = None
        if version is None or not (version or self.checked):
            self.drop()
            return {}
        return {"Range": f"bytes={have}-", **({"If-Range": version} if version else {})}

    def note_version(self, headers: email.message.Message) -> None:
        tag = headers.get("ETag", "")
        version = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
        self.about.write_text(json.dumps({"url": self.url, "version": version}), encoding="utf-8")


def _ask(
    part: _Part, remote: Remote, note: Callable[[int], None], expect: Callable[[int], None], policy: Policy
) -> None:
    """Make one request and keep what comes. Returns when the file is complete."""
    check_address(part.url)
    asked = {"User-Agent": "labelleaks", "Accept-Encoding": "identity", **part.headers()}
    request = urllib.request.Request(part.url, headers=asked)
    try:
        with opener(part.url).open(request, timeout=policy.timeout) as answer:
            _keep(answer, part, remote, note, expect)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            part.drop()
            raise _Broken("the server does not have the rest of the file") from None
        kind = _Broken if error.code in _AGAIN else Refused
        raise kind(f"the server answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise Refused(f"the server's certificate is not valid ({error.reason})") from None
        raise _Broken(f"no connection ({error.reason})") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _Broken(f"the connection broke at {part.size():,} bytes ({error or type(error).__name__})") from None


def _keep(answer: Any, part: _Part, remote: Remote, note: Callable[[int], None], expect: Callable[[int], None]) -> None:
    have = part.size() if answer.status == 206 else 0
    total = _total(answer, have, part)
    if "html" in answer.headers.get_content_type() and not remote.name.endswith(".html"):
        raise Refused("the server sent an HTML page instead of the file")
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise Refused("the server sent the file encoded in another way")
    if total is not None and total > remote.most:
        raise Refused(f"it has {total:,} bytes, at most {remote.most:,} are expected")
    if total is not None:
        expect(total)
    part.note_version(answer.headers)
    with part.path.open("ab" if have else "wb") as stream:
        got = _copy(answer, stream, have, remote, part, note)
    if total is not None and got < total:
        raise _Broken(f"the connection broke at {got:,} of {total:,} bytes")


def _copy(answer: Any, stream: IO[bytes], have: int, remote: Remote, part: _Part, note: Callable[[int], None]) -> int:
    """Append what comes; return the bytes that the file has now."""
    got = have
    if have:
        note(have)
    while block := answer.read1(_BLOCK):
        if got == 0 and re.match(rb"\s*<(!doctype|html|\?xml)", block[:256], re.IGNORECASE):
            part.drop()
            raise Refused("the server sent an HTML page instead of the file")
        got += len(block)
        if got > remote.most:
            part.drop()
            raise Refused(f"it goes on beyond the {remote.most:,} bytes that are expected at most")
        stream.write(block)
        note(len(block))
    return got


def _total(answer: Any, have: int, part: _Part) -> int | None:
    """Bytes of the whole file, where the server says so."""
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        if found is None or int(found[1]) != have or have == 0:
            part.drop()
            raise _Broken("the server sent another part of the file than was asked for")
        return None if found[2] == "*" else int(found[2])
    if answer.status != 200:
        raise Refused(f"the server answered {answer.status}")
    length = answer.headers.get("Content-Length")
    return int(length) if length and length.isdigit() else None


def _check_kind(part: _Part, remote: Remote) -> None:
    magic = _MAGIC.get(Path(remote.name).suffix, b"")
    with part.path.open("rb") as stream:
        start = stream.read(len(magic))
    if start != magic:
        part.drop()
        raise Refused(f"what came is no {Path(remote.name).suffix} file: it begins with {start!r}")


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Keep other processes off the same file while it is downloaded."""
    try:
        import fcntl
    except ImportError:  # not on this system: two downloads at once are the user's own doing
        yield
        return
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{path.name} is being downloaded into {path.parent} by another process") from None
        yield
