"""A service as a target: rows in, class codes out, every request and every answer reported to the ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelleaks.core.classes import Classes
from labelleaks.core.oracle.remote import Answered, Observer, Sent
from labelleaks.errors import InputError, TargetError
from labelleaks.inputs.row_format import RowFormat
from labelleaks.targets.answers import read_answer
from labelleaks.targets.base import gets, scope
from labelleaks.targets.http.answers import spelled
from labelleaks.targets.http.body import Breach
from labelleaks.targets.http.formats import address_of, format_of
from labelleaks.targets.http.options import Http
from labelleaks.targets.http.rows import Rows, check_sendable, decoded
from labelleaks.targets.http.secrets import credentials
from labelleaks.targets.http.wire import Part, Wire

__all__ = ["HttpTarget"]

_ROUNDS = 16
"""Full rounds of requests in one call of the target."""
_FEATURES = 1 << 22
"""Numbers in one call at most (16 MB), as long as every connection has a request."""
_DECIDING = (
    "protocol", "model", "version", "input", "output", "columns", "template", "label", "label_map", "answers",
    "upload", "form", "fingerprint",
)  # fmt: skip
"""Options that decide what is answered. Others (pace, prices, secrets) may change without another record."""


class HttpTarget:
    """The target that :class:`Http` describes; implements :class:`labelleaks.core.oracle.remote.Remote`.

    A call is many requests of at most ``options.batch_rows`` rows, ``options.concurrency`` at a time. The classes are
    closed: a label that was never named is refused.

    Raises:
        InputError: options that cannot work, or a label map that names unknown classes.
        MissingExtra: a library of the extra ``http`` is not installed.
    """

    kind = "http"

    def __init__(self, options: Http, *, form: RowFormat, classes: Classes, width: int | None = None) -> None:
        check_sendable(form)
        self.options = options
        self.classes = replace(classes, open=False)
        self._rows = form
        self.address = address_of(options)
        self.name = self.address.partition("?")[0]
        width = width or 1
        most = max(_FEATURES // (width * options.batch_rows * options.concurrency), 1)
        self.batch_rows = options.batch_rows * options.concurrency * min(_ROUNDS, most)
        self._format = format_of(options)
        self._map = None if options.label_map is None else _codes_of(options.label_map, self.classes)
        self._wire: Wire | None = None
        self._opened = 0

    def __enter__(self) -> Self:
        self._opened += 1
        if self._opened > 1:
            return self
        try:
            wire = Wire(self.options, self.address, credentials(self.options))
            wire.open()
        except BaseException:
            self._opened = 0
            raise
        self._wire = wire
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened -= 1
        if self._opened == 0 and self._wire is not None:
            self._wire.close()
            self._wire = None

    def __call__(self, x: Tensor) -> Tensor:
        labels = torch.full((len(x),), -1, dtype=torch.int64)

        def note(event: Sent | Answered) -> None:
            if isinstance(event, Answered):
                labels[event.rows] = event.labels

        self.deliver(x, note)
        return labels.to(x.device)

    def deliver(self, x: Tensor, note: Observer) -> None:
        """See :meth:`labelleaks.core.oracle.remote.Remote.deliver`."""
        if self._wire is None:
            with self:
                return self.deliver(x, note)
        if not bool(torch.isfinite(x).all()):
            raise InputError("a row holds NaN or an infinity, which JSON cannot carry")
        rows = decoded(self._rows, x.detach().to("cpu", torch.float32).contiguous())
        step = self.options.batch_rows
        starts = range(0, len(rows), step)
        return self._wire.deliver([self._part(rows, start, min(start + step, len(rows))) for start in starts], note)

    @property
    def window(self) -> int:
        """See :attr:`labelleaks.core.oracle.remote.Remote.window`."""
        return self.options.batch_rows * self.options.concurrency

    def _part(self, rows: Rows, start: int, stop: int) -> Part:
        return Part(
            rows=slice(start, stop),
            body=lambda: self._format.body(rows[start:stop]),
            parse=self._format.parse,
            read=lambda answer: self._codes(self._format.read(answer, stop - start, self.classes), stop - start),
        )

    def _codes(self, answers: Any, rows: int) -> Tensor:
        if self._map is not None:
            answers = self._mapped(answers)
        try:
            return read_answer(answers, rows, self.classes, kind="http")
        except TargetError as error:
            other = answers.ndim == 1 and answers.dtype.kind != "f" and self._map is None
            mend = "; where the service names its classes otherwise, say label_map: {its label: yours, …}"
            raise Breach(f"{error}{mend if other else ''}") from None

    def _mapped(self, answers: NDArray[Any]) -> NDArray[Any]:
        assert self._map is not None
        if answers.ndim == 2 and answers.shape[1] == 1:
            answers = answers[:, 0]
        if answers.ndim != 1:
            raise Breach(f"it has scores of shape {answers.shape}, and label_map maps labels")
        values = [spelled(value) for value in answers.tolist()]
        unknown = sorted({value for value in values if value not in self._map})
        if unknown:
            raise Breach(f"it answers {', '.join(map(repr, unknown[:5]))}, which label_map does not name")
        return np.array([self.classes.names[self._map[value]] for value in values])

    def price(self, rows: int) -> tuple[float, float]:
        """See :meth:`labelleaks.core.oracle.remote.Remote.price`."""
        by_row = self.options.price_per_row * rows
        full = -(-rows // self.options.batch_rows)
        return by_row + full * self.options.price_per_request, by_row + rows * self.options.price_per_request

    def seconds(self, rows: int, request_seconds: float) -> tuple[float, float]:
        """See :meth:`labelleaks.core.oracle.remote.Remote.seconds`."""
        each = request_seconds / self.options.concurrency
        if self.options.rate is not None:
            each = max(each, 1.0 / self.options.rate)
        return -(-rows // self.options.batch_rows) * each, rows * max(each, request_seconds)

    @property
    def fingerprint(self) -> str:
        """Hash of the address and of every option that decides the answers; what is served there is not seen."""
        deciding = json.dumps(self._deciding(), sort_keys=True)
        digest = hashlib.blake2b(f"{self.address}\n{deciding}".encode(), digest_size=16).hexdigest()
        return scope(f"http:{digest}", self.classes, None, self._rows)

    def describe(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "batch_rows": self.options.batch_rows,
            **({} if self._rows.plain else {"gets": gets(self._rows)}),
            **self._deciding(),
            "fingerprint": self.fingerprint,
            "fingerprint_of": "the address and its options, not what is served there",
        }

    def _deciding(self) -> dict[str, Any]:
        pictures = ("pictures", "layout", "pixel_range", "quality") if self.options.pictures else ()
        held = {name: getattr(self.options, name) for name in (*_DECIDING, *pictures)}
        if self.options.protocol == "v2":
            held["datatype"] = self.options.datatype or ("FP32" if self._rows.plain else None)
        plain = {("version_told" if name == "fingerprint" else name): _plain(value) for name, value in held.items()}
        return {name: value for name, value in plain.items() if value not in (None, [], {})}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): inner for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _codes_of(label_map: Mapping[Any, str | int], classes: Classes) -> dict[str, int]:
    codes = classes.encode(list(label_map.values()), "label_map").tolist()
    keys = [spelled(key) for key in label_map]
    if len(set(keys)) < len(keys):
        raise InputError("label_map: an answer is named twice")
    return dict(zip(keys, codes, strict=True))
