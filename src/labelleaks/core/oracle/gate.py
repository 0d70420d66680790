"""The only door to a target: every row that is sent is billed first, to a candidate or to set-up.

One run has one :class:`Gate` (target, ledger, total budget, journal). Each attack gets a
:class:`~labelleaks.core.oracle.label_oracle.LabelOracle`, a view with an account for each of its candidates.
"""

from __future__ import annotations

import time
from typing import Protocol

import torch
from torch import Tensor

from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.oracle.ledger import Ledger
from labelleaks.core.oracle.query_keys import Keys, RepeatCounter, keys_of
from labelleaks.core.oracle.remote import Answered, Remote, Sent
from labelleaks.core.types import Predict
from labelleaks.engine import Note
from labelleaks.errors import BudgetExceeded, InputError, LabelLeaksError, TargetError

__all__ = ["AnswerStore", "Gate"]


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
        answered = labels >= 0
        missing = (~answered).nonzero().reshape(-1)
        self._check(phase, len(missing), len(x))
        if len(missing) < len(x):
            self.ledger.bill(owner[answered.cpu()], phase, accounts, replayed=True)
        if len(missing) == 0:  # splitting nothing gives one empty part, and a target is never sent that
            return labels
        for part in missing.split(self._batch_rows):
            everything = len(part) == len(x)
            rows = x if everything else x[part]
            owners = owner if everything else owner[part.cpu()]
            of_part = keys if everything or keys is None else keys[part.cpu().numpy()]
            labels[part] = self._send(rows, owners, phase, accounts, of_part)
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
