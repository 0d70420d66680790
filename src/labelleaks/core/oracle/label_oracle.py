"""The only door to a target: every row that is sent is billed first, to a candidate or to set-up.

One run has one :class:`Gate` (target, ledger, total budget, journal). Each attack gets a :class:`LabelOracle`, a view
with an account for each of its candidates. A query that an account cannot pay for is refused before anything is sent.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from labelleaks.core.oracle.ledger import CANARY, SETUP, Ledger
from labelleaks.core.oracle.query_keys import Keys, RepeatCounter, keys_of
from labelleaks.core.oracle.remote import Answered, Remote, Sent
from labelleaks.core.types import Predict
from labelleaks.engine import Note
from labelleaks.errors import BudgetExceeded, InputError, LabelLeaksError, TargetError

__all__ = ["CANARY", "SETUP", "Agreement", "Gate", "LabelOracle", "Ledger"]


class AnswerStore(Protocol):
    """Recorded answers by the key of the query; see :mod:`labelleaks.core.oracle.journal`."""

    def lookup(self, keys: Keys) -> Tensor:
        """Return int64 (m,): the recorded label of each key, -1 where there is none."""
        ...

    def begin(self, keys: Keys) -> int:
        """Mark queries that are about to be sent; return how many were on their way when an earlier run died."""
        ...

    def record(self, keys: Keys, labels: Tensor) -> None:
        """Keep the labels of these keys."""
        ...


class Gate:
    """Target, ledger and total budget of one run. Attacks never see it; they get a view (:meth:`oracle`).

    Args:
        predict: the target; asked at most ``batch_rows`` rows at a time, never 0.
        batch_rows: rows per call.
        total: rows that may be sent in all; None: no limit.
        journal: recorded answers to use before the target is asked.
        progress: called with (phase, rows answered) after each call.
        replay_only: send nothing: a row that the journal does not know is an error.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        batch_rows: int = 1024,
        total: int | None = None,
        journal: AnswerStore | None = None,
        progress: Note | None = None,
        replay_only: bool = False,
    ) -> None:
        self.ledger = Ledger()
        self._predict = predict
        self._remote = predict if isinstance(predict, Remote) else None
        self._batch_rows = batch_rows
        self._total = total
        self._journal = journal
        self._progress = progress
        self._replay_only = replay_only

    @property
    def batch_rows(self) -> int:
        """Rows per call of the target at most."""
        return self._batch_rows

    def oracle(self, name: str, accounts: int, budget: int | None) -> LabelOracle:
        """Open a view with one account of ``budget`` labels for each of ``accounts`` candidates."""
        return LabelOracle(self, name, accounts, budget, setup=False)

    def setup_oracle(self, name: str, accounts: int = 0, budget: int | None = None) -> LabelOracle:
        """Open a view whose rows are all billed to set-up, whoever owns them; accounts are still held to ``budget``."""
        return LabelOracle(self, name, accounts, budget, setup=True)

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
        """Bill, send and check; int64 (m,) labels. Rows that the journal knows are neither billed nor sent.

        Args:
            counter: how often the rows were asked before: the journal's first answer to a row is no second one.
            fresh: ask the target whatever the journal knows, and keep the answers out of it.
        """
        labels = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
        keys: Keys | None = None
        if self._journal is not None and not fresh:
            keys = keys_of(x, RepeatCounter() if counter is None else counter)
            labels = self._journal.lookup(keys).to(x.device)
        known = labels >= 0
        missing = (~known).nonzero().reshape(-1)
        self._check(phase, len(missing), len(x))
        if len(missing) < len(x):
            self.ledger.bill(owner[known.cpu()], phase, accounts, replayed=True)
        if len(missing) == 0:  # splitting nothing gives one empty part, and a target is never sent that
            return labels
        for part in missing.split(self._batch_rows):
            everything = len(part) == len(x)
            rows = x if everything else x[part]
            owners = owner if everything else owner[part.cpu()]
            found = keys if everything or keys is None else keys[part.cpu().numpy()]
            labels[part] = self._send(rows, owners, phase, accounts, found)
        return labels

    def _check(self, phase: str, missing: int, asked: int) -> None:
        """Refuse rows that may not be sent."""
        if missing and self._replay_only:
            raise InputError(
                f"replay only: the journal has no answer to {missing} of the {asked} rows of {phase}; nothing was "
                "sent. Run once without replay_only (--replay-only) to ask the target for them"
            )
        if self._total is not None and self.ledger.rows + missing > self._total:
            raise BudgetExceeded(
                f"{phase}: {missing} more rows would pass the total budget of {self._total} "
                f"({self.ledger.rows} sent so far); raise budget_total or ask for less"
            )

    def _send(self, x: Tensor, owner: Tensor, phase: str, accounts: int, keys: Keys | None) -> Tensor:
        began = time.perf_counter()
        try:
            if self._remote is not None:
                return self._deliver(self._remote, x, owner, phase, accounts, keys).to(x.device)
            self._begin(keys)
            self.ledger.bill(owner, phase, accounts)
            self.ledger.calls += 1
            labels = self._predict(x)
        except LabelLeaksError:
            raise
        except Exception as error:  # the target is somebody else's code: whatever it raises gets our name and its text
            raise TargetError(
                f"the target raised {type(error).__name__} on {len(x)} rows ({phase}): {error}"
            ) from error
        finally:
            self.ledger.seconds += time.perf_counter() - began
        if labels.dtype != torch.int64 or labels.shape != (len(x),):
            raise TargetError(
                f"the target answered {tuple(labels.shape)} {labels.dtype} to {len(x)} rows; "
                "one int64 label a row is needed"
            )
        self._keep(keys, labels, phase)
        return labels.to(x.device)

    def _deliver(
        self, target: Remote, x: Tensor, owner: Tensor, phase: str, accounts: int, keys: Keys | None
    ) -> Tensor:
        """Ask a remote target: rows are billed as their request goes out, answers are kept as they come in.

        Requests go out in the order of the rows, the next when an answer is noted: so the rows that may be on their
        way are marked in the journal before they are.
        """
        labels = torch.full((len(x),), -1, dtype=torch.int64)
        marked = target.window

        def note(event: Sent | Answered) -> None:
            nonlocal marked
            if isinstance(event, Answered):
                labels[event.rows] = event.labels
                self._keep(None if keys is None else keys[event.rows], event.labels, phase)
                ahead = marked + event.rows.stop - event.rows.start
                self._begin(None if keys is None else keys[marked:ahead])
                marked = ahead
                return
            self.ledger.calls += 1
            self.ledger.cost += event.cost
            if event.again:
                self.ledger.retries += event.rows.stop - event.rows.start
            else:
                self.ledger.bill(owner[event.rows], phase, accounts)

        self._begin(None if keys is None else keys[:marked])
        try:
            target.deliver(x, note)
        except TargetError as error:
            if self._journal is not None:
                error.add_note("every answer so far is in the journal: run it again to go on where it stopped")
            raise
        if bool((labels < 0).any()):
            raise TargetError(f"the target left {int((labels < 0).sum())} of {len(x)} rows without a label ({phase})")
        return labels

    def _begin(self, keys: Keys | None) -> None:
        if self._journal is not None and keys is not None and len(keys):
            self.ledger.maybe_repaid += self._journal.begin(keys)

    def _keep(self, keys: Keys | None, labels: Tensor, phase: str) -> None:
        if self._journal is not None and keys is not None:
            self._journal.record(keys, labels)
        if self._progress is not None:
            self._progress(phase, len(labels))


@dataclass(frozen=True, eq=False)
class Agreement:
    """Whether the target gives rows the labels that they were asked about, by the majority of answers."""

    holds: Tensor
    """bool (m,): whether most answers were that label"""
    asked: Tensor
    """int64 (m,): answers"""
    agreeing: Tensor
    """int64 (m,): how many of them were as the majority's"""


class LabelOracle:
    """An attack's only access to the target: labels, within the accounts. Final.

    Made by :meth:`Gate.oracle`. ``ledger`` is the run's; ``spent`` counts what this attack needed, cached answers
    included, so that a replayed run reports the same queries.
    """

    def __init__(self, gate: Gate, name: str, accounts: int, budget: int | None, *, setup: bool) -> None:
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
        self,
        x: Tensor,
        owner: Tensor,
        phase: str,
        votes: int,
        read: Callable[[Tensor, Tensor | slice], Tensor],
        *,
        fresh: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The most frequent answer to each row, how many answers there were, and how many of them agree: int64 (m,).

        ``read`` makes answers of labels (k, times) of rows (k,).
        """
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

        half = votes // 2 + 1
        first = ask(slice(None), half)
        answer, asked = first[:, 0].clone(), torch.full((len(x),), half, device=x.device)
        agreeing = asked.clone()
        if votes == half:
            return answer, asked, agreeing
        torn = ((first != first[:, :1]).any(1) | (owner == SETUP)).nonzero().reshape(-1)
        if len(torn):
            every = torch.cat([first[torn], ask(torn, votes - half)], 1)
            answer[torn] = every.mode(1).values
            agreeing[torn] = (every == answer[torn, None]).sum(1)
            asked[torn] = votes
        return answer, asked, agreeing

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
