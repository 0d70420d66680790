"""Probe of a service's protocol, answers and limits: a few questions without rows, then a handful of billed ones."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args
from urllib.parse import quote, urlsplit, urlunsplit

import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.oracle.remote import Answered, Sent
from labelleaks.errors import InputError, TargetError
from labelleaks.targets.http.answers import label_in
from labelleaks.targets.http.formats import Format, address_of, format_of
from labelleaks.targets.http.openapi import Endpoint, document_places, operations
from labelleaks.targets.http.options import Datatype, Http, ServiceProtocol, protocol_of
from labelleaks.targets.http.rows import Rows
from labelleaks.targets.http.secrets import Credentials, credentials
from labelleaks.targets.http.wire import Part, Wire

__all__ = ["BATCHES", "Discovery", "Spoken", "ask", "spoken"]

BATCHES = (1, 1, 1, 4, 16)
"""Rows of the billed requests; a larger limit is tried where the user says so."""
_SINGLES = 8
"""Different rows that are asked about where a request has one."""
_MOST = 1 << 20
"""Bytes of an answer about the server."""


@dataclass(frozen=True)
class Spoken:
    """A service's description of itself, without a question about a row."""

    protocol: ServiceProtocol
    how: str
    """How that is known."""
    model: str | None
    input: str | None = None
    shape: tuple[int, ...] | None = None
    """Of one row."""
    outputs: tuple[str, ...] = ()
    datatype: str | None = None
    """Of the input tensor (v2)."""
    columns: tuple[str, ...] = ()
    """Names of the input tensors, where there are several (v2)."""
    operation: Endpoint | None = None
    """That of an OpenAPI document, with the template that it takes."""
    url: str | None = None
    """Its address, where it is another than was given."""


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
    label: str | None = None
    """JMESPath to the labels, where it was looked for."""

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
    given: Any = settings.get("protocol") or ("template" if {"template", "upload"} & set(settings) else None)
    if given in ("template", "csv", "jsonl"):
        return Spoken(given, "you said so", settings.get("model"))
    plain = {k: v for k, v in settings.items() if k in ("timeout", "auth_env", "auth_header", "auth_scheme", "netrc")}
    options = Http(url=url, protocol="mlflow", **plain)
    asker = _Asker(options, credentials(options))
    protocol, how = (given, "you said so") if given else _protocol(url, asker)
    if protocol is None:
        return _by_document(url, asker)
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

    def text(self, path: str, body: bytes | None = None, base: str | None = None) -> str | None:
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        request = urllib.request.Request((self._base if base is None else base) + path, body, headers)
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

    def json(self, path: str, body: bytes | None = None, base: str | None = None) -> Any:
        try:
            return json.loads(self.text(path, body, base) or "null")
        except (TargetError, ValueError):
            return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the secret is for this server."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _protocol(url: str, asker: _Asker) -> tuple[Any, str]:
    """Protocol and how it is known; None: neither the address nor the server says it."""
    try:
        return protocol_of(url), "by the address"
    except InputError:
        pass
    if isinstance(asker.json("/v2"), dict) or asker.text("/v2/health/live") is not None:
        return "v2", "it answers GET /v2"
    if asker.text("/ping") is not None and asker.text("/version") is not None:
        return "mlflow", "it answers GET /ping and /version"
    return None, ""


def _by_document(url: str, asker: _Asker) -> Spoken:
    """The operation of an OpenAPI document at or around an address."""
    parts = urlsplit(url)
    host = f"{parts.scheme}://{parts.netloc}"
    read = ((prefix, place, asker.json(place, base=host)) for prefix, place in document_places(parts.path))
    read_from = next((one for one in read if isinstance(one[2], dict) and {"openapi", "paths"} <= one[2].keys()), None)
    if read_from is None:
        raise InputError(
            f"{url.partition('?')[0]}: it is not known what it speaks: no answer to GET /v2, /ping or /version, and no "
            "OpenAPI document (/openapi.json, /docs.json); say --set protocol=tensorflow --set model=NAME, or --set "
            "'template={\"data\": {{ rows | tojson }}}' as your own client writes it (records, row or record for rows)"
        )
    prefix, place, document = read_from
    known = operations(document)
    path = parts.path.removeprefix(prefix).rstrip("/")
    one = [o for o in known if o.path.rstrip("/") == path] or ([o for o in known if o.template or o.upload] or known)
    base = f"{host}{prefix}"
    if len(one) != 1:
        found = ", ".join(f"{base}{o.path}" for o in one) or "no POST operation"
        raise InputError(f"{base}: its OpenAPI document has {found}: give the address of the one that answers labels")
    operation, address = one[0], f"{base}{one[0].path}"
    if operation.template is None and operation.upload is None:
        raise InputError(
            f'{address}: {operation.why}: say how your own client writes it, for example --set \'template={{"input": '
            "{{ row | tojson }}}' for one row a request, {{ rows | tojson }} for several, record or records for objects"
        )
    return Spoken(
        "template", f"by its OpenAPI document {place}", None, shape=operation.shape, operation=operation, url=address
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
        return Spoken("v2", how, model, outputs=outputs, columns=tuple(str(i.get("name")) for i in inputs))
    sizes = inputs[0].get("shape")
    row = tuple(sizes[1:]) if isinstance(sizes, list) and len(sizes) > 1 else ()
    shape = row if row and all(isinstance(size, int) and size > 0 for size in row) else None
    datatype = str(inputs[0].get("datatype"))
    known = datatype if datatype in get_args(Datatype) else None
    return Spoken("v2", how, model, str(inputs[0].get("name")), shape, outputs, known)


def ask(options: Http, rows: Rows, batches: tuple[int, ...] = BATCHES, *, find_label: bool = False) -> Discovery:
    """Ask about rows in growing batches; each request is sent once, whatever becomes of it.

    Where a request has one row (``batch_rows: 1``), the first row is asked about three times, then others.

    Args:
        options: where and how; retries are off.
        rows: at least as many as the largest batch.
        find_label: look for the labels in the answers, with ``label`` "@" in the options.

    Raises:
        TargetError: the first request was refused.
        InputError: no labels are found in the answers, or several things that may be labels.
    """
    found = Discovery()
    options = replace(options, retries=0, concurrency=1)
    form = format_of(options)
    wire = Wire(options, address_of(options), credentials(options))
    wire.open()
    answers: list[tuple[slice, Any]] = []
    try:
        for part in _parts(options, len(rows), batches):
            began = time.perf_counter()
            try:
                wire.deliver([_part(form, rows[part], answers, raw=find_label)], _book(found))
            except TargetError as error:
                if not found.seconds:
                    raise
                found.refused = (part.stop - part.start, str(error))
                break
            found.seconds.append((part.stop - part.start, time.perf_counter() - began))
            answers[-1] = (part, answers[-1][1])
    finally:
        wire.close()
    if find_label:
        found.label = label_in([(part.stop - part.start, answer) for part, answer in answers], options)
        form = format_of(replace(options, label=found.label))
        answers = [(part, form.read(answer, part.stop - part.start, None)) for part, answer in answers]
    first: dict[int, Any] = {}
    for part, answer in answers:
        _look(found, answer, part, first)
    return found


def _parts(options: Http, rows: int, batches: tuple[int, ...]) -> list[slice]:
    if options.batch_rows > 1 or batches == (1,):
        return [slice(0, size) for size in batches]
    return [slice(0, 1), slice(0, 1), *(slice(i, i + 1) for i in range(min(rows, _SINGLES)))]


def _part(form: Format, rows: Rows, answers: list[tuple[slice, Any]], *, raw: bool) -> Part:
    def labels(answer: Any) -> Tensor:
        answers.append((slice(0), answer if raw else form.read(answer, len(rows), None)))
        return torch.zeros(len(rows), dtype=torch.int64)

    return Part(slice(0, len(rows)), lambda: form.body(rows), form.parse, labels)


def _book(discovery: Discovery) -> Callable[[Sent | Answered], None]:
    def note(event: Sent | Answered) -> None:
        if isinstance(event, Sent):
            discovery.rows += event.rows.stop - event.rows.start
            discovery.cost += event.cost

    return note


def _look(discovery: Discovery, answer: NDArray[Any], part: slice, first: dict[int, Any]) -> None:
    if answer.ndim == 2 and answer.shape[1] == 1:
        answer = answer[:, 0]
    if answer.ndim == 2:
        discovery.answers = f"scores for {answer.shape[1]} classes"
        labels = answer.argmax(1).tolist()
    else:
        kinds = {"i": "labels: whole numbers", "b": "labels: truth values", "O": "labels: text"}
        discovery.answers = kinds.get(
            answer.dtype.kind, "one number a row, which is no label (threshold: 0.5 where it is a probability)"
        )
        labels = answer.tolist()
    discovery.labels = sorted(set(discovery.labels) | set(labels), key=str)[:10]
    for row, label in zip(range(part.start, part.stop), labels, strict=True):
        discovery.changed += first.setdefault(row, label) != label
