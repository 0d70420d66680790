"""Rate of requests: a token bucket, and waits after failures."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["Pace", "backoff", "pause", "retry_after"]

_LONGEST = 30.0
"""Seconds between two tries at most, where the server does not ask for more."""
_JITTER = random.Random()
"""Of the waits alone, so that clients do not come back in step; no result depends on it."""


async def pause(seconds: float, stop: asyncio.Event) -> None:
    """Sleep for ``seconds``, or until ``stop`` is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


class Pace:
    """A token bucket for the requests of one event loop: ``rate`` a second, ``burst`` at once after a pause.

    Kept as the time at which the next token is due, so that late wake-ups cost no tokens.
    """

    def __init__(self, rate: float | None, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap = 0.0 if rate is None else 1.0 / rate
        self._credit = (burst - 1) * self._gap
        self._clock = clock
        self._due = clock()
        self._held_until = 0.0

    async def turn(self, stop: asyncio.Event) -> None:
        """Wait for a token, or until ``stop`` is set."""
        while True:
            slot = max(self._clock(), self._due - self._credit, self._held_until)
            self._due = max(self._due, slot) + self._gap
            delay = slot - self._clock()
            if delay > 0:
                await pause(delay, stop)
            if stop.is_set() or self._clock() >= self._held_until:
                return

    def hold(self, seconds: float) -> None:
        """Let no request out for ``seconds``: the server said that it has had enough."""
        self._held_until = max(self._held_until, self._clock() + seconds)
        self._due = max(self._due, self._held_until)


def backoff(attempt: int, first: float) -> float:
    """Return the seconds to wait after the failed try number ``attempt`` (0, 1, ...): doubled, with jitter."""
    return min(first * 2.0 ** min(attempt, 30), _LONGEST) * _JITTER.uniform(0.5, 1.0)


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (a number or a date); None where it says nothing.

    Source: RFC 9110, section 10.2.3.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if seconds == seconds and seconds != float("inf") else None
