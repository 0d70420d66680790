"""Probe of a service's protocol, answers and limits: a few questions without rows, then a handful of billed ones."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.oracle.remote import Answered, Sent
from labelleaks.errors import InputError, TargetError
from labelleaks.targets.http.formats import Format, address_of, format_of
from labelleaks.targets.http.options import Http, protocol_of
from labelleaks.targets.http.rows import Rows
from labelleaks.targets.http.secrets import Credentials, credentials
from labelleaks.targets.http.wire import Part, Wire

__all__ = ["BATCHES", "Discovery", "Spoken", "ask", "spoken"]

BATCHES = (1, 1, 1, 4, 16)
"""Rows of the billed requests; a larger limit is tried where the user says so."""
_MOST = 1 << 20
"""Bytes of an answer about the server."""


@dataclass(frozen=True)
class Spoken:
    """A service's description of itself, without a question about a row."""

    protocol: Literal["v2", "tensorflow", "mlflow", "template"]
    how: str
    """How that is known."""
    model: str | None
    input: str | None = None
    shape: tuple[int, ...] | None = None
    """Of one row."""
    outputs: tuple[str, ...] = ()


@dataclass
class Discovery:
    """Observations of the billed requests."""

    rows: int = 0
    """Rows that were sent, refused ones among them."""
    cost: float = 0.0
    answers: str = ""
    """What it answers, in words."""
    labels: list[Any] = field(default_factory=list)
    """Distinct labels that were seen, at most 10."""
    seconds: list[tuple[int, float]] = field(default_factory=list)
    """(rows, seconds) of each request that was answered."""
    refused: tuple[int, str] | None = None
    """The first batch that was refused, and why."""
    changed: int = 0
    """Rows that got another answer when they were asked about again."""

    @property
    def most_rows(self) -> int:
        """Rows of the largest batch that was answered."""
        return max((rows for rows, _ in self.seconds), default=0)


def spoken(url: str, settings: Mapping[str, Any]) -> Spoken:
    """Find out what is spoken at an address; sends no row.

    Args:
        url: the server or the whole address.
        settings: other fields of :class:`Http`; ``protocol`` and ``model`` are believed.

    Raises:
        InputError: it cannot be told.
        TargetError: the server cannot be reached.
    """
    given = settings.get("protocol")
    if given == "template":
        return Spoken("template", "you said so", settings.get("model"))
    plain = {k: v for k, v in settings.items() if k in ("timeout", "auth_env", "auth_header", "auth_scheme", "netrc")}
    options = Http(url=url, protocol="mlflow", **plain)
    asker = _Asker(options, credentials(options))
    protocol, how = (given, "you said so") if given else _protocol(url, asker)
    model = settings.get("model") or _model_in(url)
    if protocol != "v2":
        return Spoken(protocol, how, model)
    return _open_inference(asker, how, model or _only_model(asker))


class _Asker:
    """Questions about the server itself; answers None for whatever is not a JSON object with status 200."""

    def __init__(self, options: Http, secret: Credentials) -> None:
        parts = urlsplit(options.url)
        path = parts.path.partition("/v1")[0].partition("/v2")[0].removesuffix("/").removesuffix("/invocations")
        self._base = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        self._secret = secret
        self._headers = {"Accept": "application/json", "User-Agent": "labelleaks", **secret.headers}
        self._timeout = min(options.timeout, 10.0)
        self._opener = urllib.request.build_opener(_NoRedirect)

    def text(self, path: str, body: bytes | None = None) -> str | None:
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        request = urllib.request.Request(self._base + path, body, headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return str(answer.read(_MOST), "utf-8", "replace") if answer.status == 200 else None
        except urllib.error.HTTPError as error:
            error.close()
            return None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise TargetError(
                f"{self._base} cannot be reached ({self._secret.scrub(str(getattr(error, 'reason', error)))})"
            ) from None

    def json(self, path: str, body: bytes | None = None) -> Any:
        try:
            return json.loads(self.text(path, body) or "null")
        except (TargetError, ValueError):
            return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the secret is for this server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _protocol(url: str, asker: _Asker) -> tuple[Any, str]:
    try:
        return protocol_of(url), "by the address"
    except InputError:
        pass
    if isinstance(asker.json("/v2"), dict) or asker.text("/v2/health/live") is not None:
        return "v2", "it answers GET /v2"
    if asker.text("/ping") is not None and asker.text("/version") is not None:
        return "mlflow", "it answers GET /ping and /version"
    raise InputError(
        f"{url.partition('?')[0]}: it is not known what it speaks: no answer to GET /v2, /ping or /version; say --set "
        "protocol=tensorflow --set model=NAME, or protocol=template with template= and label="
    )


def _model_in(url: str) -> str | None:
    _, _, rest = urlsplit(url).path.partition("/models/")
    return rest.partition("/")[0].partition(":")[0] or None


def _only_model(asker: _Asker) -> str:
    index = asker.json("/v2/repository/index", b"{}")
    names = [str(m.get("name")) for m in index if isinstance(m, dict)] if isinstance(index, list) else []
    if len(names) != 1:
        known = f"; it has {', '.join(names)}" if names else ""
        raise InputError(f"several models, or none that it tells of{known}: say --set model=NAME")
    return names[0]


def _open_inference(asker: _Asker, how: str, model: str) -> Spoken:
    held = asker.json(f"/v2/models/{quote(model, safe='')}")
    held = held if isinstance(held, dict) else {}
    inputs = [i for i in held.get("inputs") or [] if isinstance(i, dict)]
    outputs = tuple(str(o.get("name")) for o in held.get("outputs") or [] if isinstance(o, dict))
    if len(inputs) != 1:
        return Spoken("v2", how, model, outputs=outputs)
    sizes = inputs[0].get("shape")
    row = tuple(sizes[1:]) if isinstance(sizes, list) and len(sizes) > 1 else ()
    shape = row if row and all(isinstance(size, int) and size > 0 for size in row) else None
    return Spoken("v2", how, model, str(inputs[0].get("name")), shape, outputs)


def ask(options: Http, rows: Rows, batches: tuple[int, ...] = BATCHES) -> Discovery:
    """Ask about rows in growing batches; each request is sent once, whatever becomes of it.

    Args:
        options: where and how; retries are off.
        rows: at least as many as the largest batch.

    Raises:
        TargetError: the first request was refused.
    """
    found = Discovery()
    options = replace(options, retries=0, concurrency=1)
    form = format_of(options)
    wire = Wire(options, address_of(options), credentials(options))
    wire.open()
    first: list[Any] = []
    try:
        for size in batches:
            seen: list[Any] = []
            began = time.perf_counter()
            try:
                wire.deliver([_part(form, rows[:size], seen)], _book(found))
            except TargetError as error:
                if not found.seconds:
                    raise
                found.refused = (size, str(error))
                break
            found.seconds.append((size, time.perf_counter() - began))
            _look(found, seen[-1], first)
    finally:
        wire.close()
    return found


def _part(form: Format, rows: Rows, seen: list[NDArray[Any]]) -> Part:
    def labels(answer: Any) -> Tensor:
        seen.append(form.read(answer, len(rows), None))
        return torch.zeros(len(rows), dtype=torch.int64)

    return Part(slice(0, len(rows)), lambda: form.body(rows), form.parse, labels)


def _book(discovery: Discovery) -> Callable[[Sent | Answered], None]:
    def note(event: Sent | Answered) -> None:
        if isinstance(event, Sent):
            discovery.rows += event.rows.stop - event.rows.start
            discovery.cost += event.cost

    return note


def _look(discovery: Discovery, answer: NDArray[Any], first: list[Any]) -> None:
    if answer.ndim == 2 and answer.shape[1] == 1:
        answer = answer[:, 0]
    if answer.ndim == 2:
        discovery.answers = f"scores for {answer.shape[1]} classes"
        labels = answer.argmax(1).tolist()
    else:
        kinds = {"i": "labels: whole numbers", "b": "labels: truth values", "O": "labels: text"}
        discovery.answers = kinds.get(
            answer.dtype.kind, "numbers that are no labels (say label_map:, or another output:)"
        )
        labels = answer.tolist()
    discovery.labels = sorted(set(discovery.labels) | set(labels), key=str)[:10]
    first.extend(labels[len(first) :])
    discovery.changed += sum(a != b for a, b in zip(first, labels, strict=False))
