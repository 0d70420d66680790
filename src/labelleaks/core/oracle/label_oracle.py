"""An attack's view of the target: labels, within an account for each of its candidates.

A query that an account cannot pay for is refused before anything is sent.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from labelleaks.core.oracle.ledger import CANARY, SETUP, Ledger
from labelleaks.core.oracle.query_keys import RepeatCounter
from labelleaks.errors import BudgetExceeded, LabelLeaksError

__all__ = ["CANARY", "SETUP", "Agreement", "AskRows", "LabelOracle", "Ledger", "ReadLabels", "majority"]


class Door(Protocol):
    """The part of :class:`labelleaks.core.oracle.gate.Gate` that a view needs."""

    ledger: Ledger

    @property
    def batch_rows(self) -> int:
        """Rows per call of the target at most."""
        ...

    def ask(
        self,
        x: Tensor,
        owner: Tensor,
        phase: str,
        accounts: int,
        *,
        counter: RepeatCounter | None = None,
        fresh: bool = False,
    ) -> Tensor:
        """Bill and send rows; return int64 (m,) labels."""
        ...


class LabelOracle:
    """An attack's only access to the target: labels, within the accounts. Final.

    Made by :meth:`labelleaks.core.oracle.gate.Gate.oracle`. ``ledger`` is the run's; ``spent`` counts what this attack
    needed, cached answers included, so that a replayed run reports the same queries.
    """

    def __init__(self, gate: Door, name: str, accounts: int, budget: int | None, *, setup: bool) -> None:
        self._gate = gate
        self._name = name
        self._budget = budget
        self._setup = setup
        self._spent = torch.zeros(accounts, dtype=torch.int64)
        self._counter = RepeatCounter()
        self._closed_by: str | None = None

    def closed(self, attack: str) -> LabelOracle:
        """Return this view closed: what ``attack`` asks of it from now on is refused, and nothing of it is sent."""
        view = copy.copy(self)
        view._closed_by = attack
        return view

    @property
    def ledger(self) -> Ledger:
        """Ledger of the run."""
        return self._gate.ledger

    @property
    def batch_rows(self) -> int:
        """Rows that the target is sent in one call at most: what an attack should build at a time."""
        return self._gate.batch_rows

    @property
    def spent(self) -> Tensor:
        """int64 (n,), on the CPU: labels answered so far for each candidate."""
        return self._spent.clone()

    def remaining(self) -> Tensor:
        """int64 (n,), on the CPU: labels that each candidate may still buy."""
        if self._budget is None:
            return torch.full_like(self._spent, torch.iinfo(torch.int64).max)
        return self._budget - self._spent

    def query(self, x: Tensor, owner: Tensor, *, phase: str, votes: int = 1, fresh: bool = False) -> Tensor:
        """Return the label of each row; row i is billed to candidate ``owner[i]``.

        A journal answers a row that this attack asks for the n-th time with the n-th answer that was recorded: a
        target that changes its label is not hidden, and a run that is replayed gets the same answers.

        With ``votes`` v > 1 the most frequent of several answers counts, the smallest label of equals. A candidate's
        row is asked (v + 1) / 2 times, and v times where these answers differ; a row of set-up (owner -1) v times, so
        that what set-up costs is known before. Every answer is billed.

        Args:
            x: float32 (m, *shape), inside the domain. m = 0 sends nothing.
            owner: int64 (m,), 0 … n - 1, or -1 for set-up.
            phase: what the rows are for; the ledger shows it behind the attack's name.
            votes: odd, at least 1: answers to a row at most. Each account has to hold that many for each of its rows.
            fresh: ask the target even where a journal knows the answer, and keep the answer out of it (for canaries).

        Returns:
            int64 (m,) labels on ``x``'s device.

        Raises:
            BudgetExceeded: an account or the total cannot pay for all of it; nothing was sent.
            TargetError: the target raised or broke its contract.
            LabelLeaksError: the view is closed.
        """
        if votes == 1:
            return self._ask(x, owner, phase, fresh=fresh)
        return self._vote(x, owner, phase, votes, lambda labels, rows: labels, fresh=fresh)[0]

    def agree(self, x: Tensor, owner: Tensor, y: Tensor, *, phase: str, votes: int = 1) -> Agreement:
        """Ask whether row i has the label ``y[i]``: as :meth:`query`, but an answer counts as that label or another.

        Args:
            y: int64 (m,) on ``x``'s device.
        """
        answer, asked, agreeing = self._vote(x, owner, phase, votes, lambda labels, rows: labels == y[rows][:, None])
        return Agreement(answer.to(torch.bool), asked, agreeing)

    def _vote(
        self, x: Tensor, owner: Tensor, phase: str, votes: int, read: ReadLabels, *, fresh: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        if votes < 1 or votes % 2 == 0:
            raise ValueError(f"votes must be an odd number of at least 1, got {votes}")
        owner = owner.to(x.device)
        self._check_accounts(votes * self._counts(x, owner), phase)

        def ask(rows: Tensor | slice, times: int) -> Tensor:
            sent, owners = x[rows], owner[rows]
            if times > 1:
                sent, owners = sent.repeat_interleave(times, 0), owners.repeat_interleave(times)
            labels = self._ask(sent, owners, phase, fresh=fresh)
            return read(labels.reshape(len(labels) // times, times), rows).to(torch.int64)

        return majority(ask, votes, sure=owner == SETUP)

    def _ask(self, x: Tensor, owner: Tensor, phase: str, *, fresh: bool = False) -> Tensor:
        if len(x) == 0:
            return torch.empty(0, dtype=torch.int64, device=x.device)
        if self._closed_by is not None:
            raise LabelLeaksError(
                f"{self._closed_by}: score() asked for {len(x)} rows of set-up ({phase}), and set-up is over by then; "
                "nothing was sent. Buy them in prepare(), and keep the labels in the knowledge that it returns"
            )
        counts = self._counts(x, owner)
        self._check_accounts(counts, phase)
        owner = owner.cpu()
        billed = torch.full_like(owner, SETUP) if self._setup else owner
        label = f"{self._name}.{phase}"
        labels = self._gate.ask(x, billed, label, len(self._spent), counter=self._counter, fresh=fresh)
        self._spent += counts
        return labels

    def _counts(self, x: Tensor, owner: Tensor) -> Tensor:
        """int64 (n,): rows of each account; owner -1 has none."""
        if owner.shape != (len(x),):
            raise ValueError(f"owner must name one candidate a row: {len(x)} rows, owner of shape {tuple(owner.shape)}")
        return torch.bincount(owner.cpu() + 1, minlength=len(self._spent) + 1)[1:]  # owner -1 comes first

    def _check_accounts(self, counts: Tensor, phase: str) -> None:
        if self._budget is not None and bool((self._spent + counts > self._budget).any()):
            worst = int((self._spent + counts).argmax())
            raise BudgetExceeded(
                f"{self._name}.{phase}: candidate {worst} has {self._budget - int(self._spent[worst])} of "
                f"{self._budget} labels left and {int(counts[worst])} were asked for"
            )


ReadLabels = Callable[[Tensor, Tensor | slice], Tensor]
"""(int64 (k, times) labels, which rows they are of) -> (k, times) answers: the labels, or whether they are right."""
AskRows = Callable[[Tensor | slice, int], Tensor]
"""(rows, times) -> int64 (k, times): that many answers to each of these rows."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """Whether the target gives rows the labels that they were asked about, by the majority of answers."""

    holds: Tensor
    """bool (m,): whether most answers were that label"""
    asked: Tensor
    """int64 (m,): answers"""
    agreeing: Tensor
    """int64 (m,): how many of them were as the majority's"""


def majority(ask: AskRows, votes: int, *, sure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the most frequent answer to each row, how many answers there were, and how many of them agree.

    A row is asked (votes + 1) / 2 times, and ``votes`` times where these answers differ.

    Args:
        votes: odd.
        sure: bool (m,): rows that are asked ``votes`` times in any case.

    Returns:
        int64 (m,) each; of answers that are equally frequent the smallest.
    """
    half = votes // 2 + 1
    first = ask(slice(None), half)
    answer, asked = first[:, 0].clone(), torch.full((len(first),), half, device=first.device)
    agreeing = asked.clone()
    if votes == half:
        return answer, asked, agreeing
    torn = ((first != first[:, :1]).any(1) | sure).nonzero().reshape(-1)
    if len(torn):
        every = torch.cat([first[torn], ask(torn, votes - half)], 1)
        answer[torn] = every.mode(1).values
        agreeing[torn] = (every == answer[torn, None]).sum(1)
        asked[torn] = votes
    return answer, asked, agreeing
