"""Many requests at a time from a caller that waits: one event loop, and as many connections as requests at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from labelleaks.core.oracle.remote import Answered, Observer, Sent
from labelleaks.errors import InputError, LabelLeaksError, MissingExtra, TargetError
from labelleaks.targets.http.attempt import Fault, exchange, parsed
from labelleaks.targets.http.body import Body, Breach
from labelleaks.targets.http.loop import Loop
from labelleaks.targets.http.options import Http
from labelleaks.targets.http.pacing import Pace, backoff, pause
from labelleaks.targets.http.secrets import Credentials

if TYPE_CHECKING:
    from labelleaks.targets.http.service import Service

__all__ = ["Part", "Wire"]

_ODD_TRIES = 3
"""Requests for rows whose answers break the contract: a faulty server may recover, a misconfigured one costs rows."""


@dataclass(frozen=True)
class Part:
    """The rows of one request."""

    rows: slice
    body: Callable[[], Body]
    """Encodes them, shortly before their turn comes."""
    parse: Callable[[bytes], Any]
    """What an answer holds; ValueError where it cannot be parsed, Breach where it holds what no label is."""
    read: Callable[[Any], Tensor]
    """Their labels from a parsed answer; raises Breach."""

    def __len__(self) -> int:
        return int(self.rows.stop - self.rows.start)


class _Ahead:
    """The next parts in the order of the rows, at most ``most`` of them encoded while answers are waited for."""

    def __init__(self, parts: Sequence[Part], most: int) -> None:
        self._parts = iter(parts)
        self._most = most
        self._ready: deque[tuple[Part, Body | Exception]] = deque()

    def take(self) -> tuple[Part, Body | Exception] | None:
        """Return the next part; None behind the last."""
        if not self._ready:
            self.fill()
        return self._ready.popleft() if self._ready else None

    def fill(self) -> None:
        """Encode one more."""
        if len(self._ready) == self._most or (part := next(self._parts, None)) is None:
            return
        try:
            self._ready.append((part, part.body()))
        except Exception as error:  # the worker that would have sent it raises it
            self._ready.append((part, error))


@dataclass(eq=False)
class _Call:
    """One call of the target under way."""

    ahead: _Ahead
    note: Observer
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the first failure: what is under way is finished, nothing is sent any more."""
    errors: list[Exception] = field(default_factory=list)
    broken: BaseException | None = None
    """What came up as the caller kept its books, an interrupt for example."""

    def tell(self, event: Sent | Answered) -> None:
        """Have it noted. Where that fails nothing more may be sent: the worker is cancelled, and so are the others."""
        try:
            self.note(event)
        except BaseException as error:
            self.broken = self.broken or error
            raise asyncio.CancelledError from None


class Wire:
    """The connection to a service, open between :meth:`open` and :meth:`close`.

    At most ``concurrency`` requests are sent and not yet noted by the caller at any time: that is what a process that
    dies loses.
    """

    def __init__(self, options: Http, address: str, secret: Credentials) -> None:
        self._options = options
        self._address = address
        self._secret = secret
        self._loop = Loop()
        self._pace = Pace(options.rate, options.burst)
        self._service: Service | None = None

    def open(self) -> None:
        """Get ready. Nothing is sent.

        Raises:
            MissingExtra: a library of the extra ``http`` is not installed.
            InputError: the proxy of the environment cannot be used.
        """
        try:
            import orjson  # noqa: F401

            from labelleaks.targets.http.service import Service
        except ImportError:
            raise MissingExtra("an HTTP target needs aiohttp and orjson: pip install 'labelleaks[http]'") from None
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "labelleaks",
            **self._options.headers,
            **self._secret.headers,
        }
        try:
            self._service = Service(self._address, headers, self._options.concurrency)
        except ValueError as error:  # a proxy of the environment that cannot be; its text may hold a password
            raise InputError(
                f"the HTTP client cannot be made ({type(error).__name__}); check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY "
                "and headers:"
            ) from None

    def close(self) -> None:
        """Close all connections and end the loop."""
        try:
            self._loop.run(self._hang_up, _nothing)
        finally:
            self._loop.close()

    async def _hang_up(self, _: Observer) -> None:
        if self._service is not None:
            await self._service.close()

    def deliver(self, parts: Sequence[Part], note: Observer) -> None:
        """Ask for every part; see :meth:`labelleaks.core.oracle.remote.Remote.deliver`."""
        workers = min(self._options.concurrency, len(parts))
        call = _Call(_Ahead(parts, workers), note)
        try:
            self._loop.run(lambda observer: self._work(call, workers, observer), note)
        except asyncio.CancelledError:
            if call.broken is None:
                raise
            raise call.broken from None
        if call.errors:
            raise call.errors[0]

    async def _work(self, call: _Call, workers: int, note: Observer) -> None:
        call.note = note
        asking = [asyncio.create_task(self._worker(call)) for _ in range(workers)]
        try:
            await asyncio.gather(*asking)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _worker(self, call: _Call) -> None:
        while (item := call.ahead.take()) is not None:
            part, body = item
            try:
                if isinstance(body, Exception):
                    raise body
                labels = await self._labels(call, part, body)
            except Exception as error:
                call.stop.set()
                call.errors.append(error if isinstance(error, LabelLeaksError) else self._unexpected(error))
                return
            if labels is None:
                return
            call.tell(Answered(part.rows, labels))

    async def _labels(self, call: _Call, part: Part, body: Body) -> Tensor | None:
        """Ask until there is a good answer; None where the call was stopped meanwhile."""
        assert self._service is not None
        attempt, odd, again = 0, 0, False

        def sent() -> None:
            nonlocal again
            price = self._options.price_per_request + self._options.price_per_row * len(part)
            call.tell(Sent(part.rows, again, price))
            again = True
            asyncio.get_running_loop().call_soon(call.ahead.fill)  # as soon as it has gone out

        while True:
            await self._pace.turn(call.stop)
            if call.stop.is_set():
                return None
            try:
                content = await exchange(self._service, body, timeout=self._options.timeout, sent=sent)
                return _read(part, content)
            except Fault as fault:
                if call.broken is not None:  # told as the request was to go out, in a task of its own
                    raise asyncio.CancelledError from None
                odd += fault.odd
                self._give_up_on(fault, part, attempt, odd)
                await self._pause(call, fault, attempt)
            attempt += 1

    def _give_up_on(self, fault: Fault, part: Part, attempt: int, odd: int) -> None:
        """Raise TargetError where a fault is the last."""
        wait = fault.wait or 0.0
        too_long = wait > self._options.wait_most
        if fault.passing and attempt < self._options.retries and odd < _ODD_TRIES and not too_long:
            return
        text = self._secret.scrub(fault.excerpt)
        text = f" ({text[:160]}{'…' if len(text) > 160 else ''})" if text else ""
        asks = f"; it asks to wait {wait:.0f} s, wait_most is {self._options.wait_most:g}" if too_long else ""
        tries = f" after {attempt + 1} tries" if attempt else ""
        raise TargetError(
            f"{_shown(self._address)} gave no good answer for {len(part)} rows{tries}: "
            f"{self._secret.scrub(str(fault))}{text}{asks}"
        ) from None

    async def _pause(self, call: _Call, fault: Fault, attempt: int) -> None:
        delay = max(backoff(attempt, self._options.backoff), fault.wait or 0.0)
        if fault.busy:
            self._pace.hold(delay)
        await pause(delay, call.stop)

    def _unexpected(self, error: Exception) -> TargetError:
        """Return any other error as one of ours, with no secret in its text."""
        return TargetError(f"{_shown(self._address)}: {type(error).__name__}: {self._secret.scrub(str(error))}")


def _read(part: Part, content: bytes) -> Tensor:
    answer = parsed(content, part.parse)
    try:
        return part.read(answer)
    except Breach as error:
        raise Fault(f"its answer is wrong: {error}", passing=True, odd=True) from None


def _nothing(event: Sent | Answered) -> None:
    """Observe nothing."""


def _shown(address: str) -> str:
    return address.partition("?")[0]
