"""Secrets are named by the user, read from the environment or a netrc when a target is opened, and shown nowhere."""

from __future__ import annotations

import base64
import html
import json
import netrc
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from labelleaks.errors import InputError
from labelleaks.targets.http.options import Http

__all__ = ["Credentials", "credentials"]


class Credentials:
    """The headers that carry a secret, and an eraser for every text that leaves the target."""

    def __init__(self, headers: Mapping[str, str], secret: Iterable[str]) -> None:
        self.headers = dict(headers)
        self._forms = sorted({form for word in secret if word for form in _spellings(word)}, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"Credentials({', '.join(self.headers)})"

    def scrub(self, text: str) -> str:
        """Return ``text`` with every secret, however it is spelled, as ``***``."""
        for form in self._forms:
            text = text.replace(form, "***")
        return text


def _spellings(word: str) -> Iterator[str]:
    """A secret as an answer may repeat it: in a JSON text, a page, an address, or coded as a header has it."""
    yield from (word, json.dumps(word)[1:-1], html.escape(word))
    for safe in ("", "/"):
        escaped = quote(word, safe=safe)
        yield from (escaped, re.sub("%..", lambda found: found[0].lower(), escaped))
    for code in (base64.b64encode, base64.urlsafe_b64encode):
        yield code(word.encode()).decode("ascii").rstrip("=")


def credentials(options: Http) -> Credentials:
    """Read the secret that the options name.

    Raises:
        InputError: the variable is not set, or the netrc has no entry for the host. Never holds a secret.
    """
    if options.netrc:
        user, password = _from_netrc(urlsplit(options.url).hostname or "")
        return _basic("Authorization", f"{user}:{password}")
    if options.auth_env is None:
        return Credentials({}, ())
    secret = os.environ.get(options.auth_env, "").strip()
    if not secret:
        raise InputError(f"auth_env: the environment variable {options.auth_env} is not set")
    if not (secret.isascii() and secret.isprintable()):
        raise InputError(f"auth_env: {options.auth_env} holds something that no header can carry")
    if options.auth_scheme.lower() == "basic":
        return _basic(options.auth_header, secret)
    return Credentials({options.auth_header: f"{options.auth_scheme} {secret}".strip()}, (secret,))


def _basic(header: str, pair: str) -> Credentials:
    coded = base64.b64encode(pair.encode()).decode("ascii")
    _, _, password = pair.partition(":")
    return Credentials({header: f"Basic {coded}"}, (coded, pair, password))


def _from_netrc(host: str) -> tuple[str, str]:
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(str(path)).authenticators(host)
    except netrc.NetrcParseError as error:  # its own text may repeat a password
        raise InputError(f"netrc: {path} cannot be read at line {error.lineno}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"netrc: {path} cannot be read ({type(error).__name__})") from None
    if found is None or not found[2]:
        raise InputError(f"netrc: {path} has no password for {host}")
    return found[0] or "", found[2]
