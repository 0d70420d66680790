"""Get a file over https: resumed where a connection broke, checked before it is believed.

A file grows as NAME.part. Where its checksum is known, a later attempt, in this process or another, asks for the rest;
if the whole then has another one (the server has another version by now), it is fetched once more from its beginning. A
file gets its own name only when it is complete and its checksum is right.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labelleaks.data.cache import Sums, check_sums, sums_of
from labelleaks.data.cards import RemoteFile
from labelleaks.errors import InputError

__all__ = ["Policy", "Refused", "check_address", "fetch", "opener"]


_BLOCK = 1 << 18
_MAGIC = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".zip": b"PK"}
_AGAIN = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Policy:
    """Limits of attempts and time of a download."""

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
    remote: RemoteFile,
    folder: Path,
    accepted: Mapping[str, str],
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
    try:
        with FileLock(folder / f".{remote.name}.lock", timeout=0):
            for url in remote.urls:
                try:
                    return _Download(url, remote, folder / remote.name, accepted, note, expect, policy).run()
                except (Refused, _Broken) as error:
                    problems.append(f"{url}: {error}")
    except Timeout:
        raise InputError(f"{remote.name} is being downloaded into {folder} by another process") from None
    raise InputError(
        f"{remote.name} could not be downloaded ({'; '.join(problems) or 'no address of it is known'}); if you have "
        "the file or can get it otherwise, say --from FOLDER"
    )


@dataclass(frozen=True)
class _Download:
    """One file from one address."""

    url: str
    remote: RemoteFile
    path: Path
    known: Mapping[str, str]
    note: Callable[[int], None]
    expect: Callable[[int], None]
    policy: Policy

    @property
    def part(self) -> Path:
        return self.path.with_name(f"{self.path.name}.part")

    def size(self) -> int:
        """Bytes that are there already."""
        return self.part.stat().st_size if self.part.exists() else 0

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)

    def run(self) -> Sums:
        """Fetch, check and name the file. One that came in parts and turns out wrong is fetched once more, whole."""
        for _ in range(2):
            in_parts = self.complete()
            sums = sums_of(self.part)
            wrong = check_sums(self.remote, sums, self.known)
            if wrong is None:
                os.replace(self.part, self.path)
                return sums
            self.drop()
            if not in_parts:
                break
        raise Refused(f"what came is not the file: {wrong}")

    def complete(self) -> bool:
        """Ask until the file is complete; return whether it came in parts."""
        checked = self.remote.checksum is not None or self.remote.name in self.known
        if not checked:  # nothing would tell whether the rest fits
            self.drop()
        in_parts, fruitless = False, 0
        for number in range(1, self.policy.requests + 1):
            before = self.size()
            in_parts |= before > 0
            try:
                self.ask(before)
                return in_parts
            except _Broken:
                if not checked:
                    self.drop()
                fruitless = 0 if self.size() > before else fruitless + 1
                if fruitless >= self.policy.attempts or number == self.policy.requests:
                    raise
                time.sleep(min(self.policy.pause * 2 ** max(fruitless - 1, 0), 30.0))
        raise AssertionError("unreachable")

    def ask(self, have: int) -> None:
        """Make one request for what is behind the first ``have`` bytes. Returns when the file is complete."""
        check_address(self.url)
        rest = {"Range": f"bytes={have}-"} if have else {}
        request = urllib.request.Request(
            self.url, headers={"User-Agent": "labelleaks", "Accept-Encoding": "identity", **rest}
        )
        try:
            with opener(self.url).open(request, timeout=self.policy.timeout) as answer:
                self.keep(answer, have if answer.status == 206 else 0)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:
                self.drop()
                raise _Broken("the server does not have the rest of the file") from None
            kind = _Broken if error.code in _AGAIN else Refused
            raise kind(f"the server answered {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise Refused(f"the server's certificate is not valid ({error.reason})") from None
            raise _Broken(f"no connection ({error.reason})") from None
        except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            raise _Broken(f"the connection broke at {self.size():,} bytes ({error or type(error).__name__})") from None

    def keep(self, answer: Any, have: int) -> None:
        """Keep what comes behind the first ``have`` bytes."""
        total, most = self.total(answer, have), self.remote.most
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise Refused("the server sent the file encoded in another way")
        if total is not None:
            if total > most:
                raise Refused(f"it has {total:,} bytes, at most {most:,} are expected")
            self.expect(total)
        with self.part.open("ab" if have else "wb") as stream:
            if have:
                self.note(have)
            while block := answer.read1(_BLOCK):
                if not have:
                    self.check_kind(block)
                have += len(block)
                if have > most:
                    self.drop()
                    raise Refused(f"it goes on beyond the {most:,} bytes that are expected at most")
                stream.write(block)
                self.note(len(block))
        if total is not None and have < total:
            raise _Broken(f"the connection broke at {have:,} of {total:,} bytes")

    def total(self, answer: Any, have: int) -> int | None:
        """Bytes of the whole file, where the server says so."""
        if answer.status == 200:
            length = answer.headers.get("Content-Length", "")
            return int(length) if length.isdigit() else None
        if answer.status != 206:
            raise Refused(f"the server answered {answer.status}")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        if match is None or int(match[1]) != have or have == 0:
            self.drop()
            raise _Broken("the server sent another part of the file than was asked for")
        return None if match[2] == "*" else int(match[2])

    def check_kind(self, start: bytes) -> None:
        """Refuse what begins as no such file does, a web page for example."""
        kind = Path(self.remote.name).suffix
        magic = _MAGIC.get(kind, b"")[: len(start)]
        if not start.startswith(magic):
            self.drop()
            raise Refused(f"the server sent something else, perhaps a web page: no {kind} file begins {start[:20]!r}")


class Refused(Exception):
    """This address does not have the file, or is none that is gone to."""


def check_address(url: str) -> None:
    """Raise :class:`Refused` where ``url`` is neither https nor on this machine."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname)):
        return
    raise Refused(f"{parts.scheme}:// is not safe on the way; https is needed")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_address(newurl)
        here, there = (_is_loopback(urllib.parse.urlsplit(url).hostname) for url in (req.full_url, newurl))
        if there and not here:
            raise Refused("the server points back into this machine")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener(url: str) -> urllib.request.OpenerDirector:
    """Return what opens ``url``: https through the proxy that the environment names, this machine without one."""
    handlers: list[urllib.request.BaseHandler] = [_SafeRedirects()]
    if _is_loopback(urllib.parse.urlsplit(url).hostname):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)
