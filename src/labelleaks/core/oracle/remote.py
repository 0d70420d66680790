"""Protocol of remote targets: each request and answer is reported, so that none is lost or unbilled after a failure.

A local target answers a call or raises. A remote one turns a call into many requests, some of which are sent again, and
may fail after others were answered and paid for. So it tells of each request as it goes out and of each answer as it
comes in, in the thread of whoever called it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Answered", "Observer", "Remote", "Sent"]


@dataclass(frozen=True)
class Sent:
    """One request went out: from its first byte on, its rows may be seen and charged for."""

    rows: slice
    """Rows of the call, from start to stop."""
    again: bool
    """Whether these rows had been sent before: a retry, counted apart."""
    cost: float
    """Price of this request, in the user's currency."""


@dataclass(frozen=True, eq=False)
class Answered:
    """The labels of one request, checked."""

    rows: slice
    labels: Tensor
    """int64, one for each row, on the CPU."""


Observer = Callable[[Sent | Answered], None]


@runtime_checkable
class Remote(Protocol):
    """A target on the other side of a network."""

    @property
    def window(self) -> int:
        """Rows that can be on their way at a time: requests at a time x rows in a request."""
        ...

    def deliver(self, x: Tensor, note: Observer) -> None:
        """Ask for the label of each row and note every request and every answer, in the caller's thread.

        Requests go out in the order of the rows, never more than ``window`` rows beyond what is noted as answered.
        Each row is noted as sent (``again=False``) once, before its answer; after an error or an interrupt, what was
        sent and what was answered by then has been noted.

        Args:
            x: (m, *shape) float32 in the domain's units, m >= 1.
            note: told of each request and each answer.

        Raises:
            TargetError: a request was refused or got no good answer in all its tries.
        """
        ...

    def price(self, rows: int) -> tuple[float, float]:
        """Return what ``rows`` rows cost: in full requests (at least), and one a request (at most), without retries."""
        ...

    def seconds(self, rows: int, request_seconds: float) -> tuple[float, float]:
        """Return how long ``rows`` rows take, in full requests (at least) and one a request (at most).

        Args:
            request_seconds: how long a request takes alone.
        """
        ...
