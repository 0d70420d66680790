"""The only door to a target: every row that is sent is billed first, to a candidate or to set-up.

One run has one :class:`Gate` (target, ledger, total budget, journal). Each attack gets a :class:`LabelOracle`, a view
with an account for each of its candidates. A query that an account cannot pay for is refused before anything is sent.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from labelleaks.core.oracle.ledger import CANARY, SETUP, Ledger
from labelleaks.core.oracle.query_keys import Keys, keys_of
from labelleaks.core.oracle.remote import Answered, Remote, Sent
from labelleaks.core.oracle.repeat_counter import Turns
from labelleaks.core.types import Predict
from labelleaks.errors import BudgetExceeded, InputError, LabelLeaksError, TargetError

__all__ = ["CANARY", "SETUP", "Gate", "LabelOracle", "Ledger"]

Progress = Callable[[str, int], None]
"""Called with (phase, rows answered) after each call of the target."""


class Journal(Protocol):
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
        progress: told after each call.
        replay_only: send nothing: a row that the journal does not know is an error.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        batch_rows: int = 1024,
        total: int | None = None,
        journal: Journal | None = None,
        progress: Progress | None = None,
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

    def keeping(self, journal: Journal) -> Gate:
        """Return the same door with the same books, and another journal."""
        beside = copy.copy(self)
        beside._journal = journal
        return beside

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
        turns: Turns | None = None,
        fresh: bool = False,
    ) -> Tensor:
        """Bill, send and check; int64 (m,) labels. Rows that the journal knows are neither billed nor sent.

        Args:
            turns: how often the rows were asked before: the journal's first answer to a row is no second one.
            fresh: ask the target whatever the journal knows, and keep the answers out of it.
        """
        labels = torch.full((len(x),), -1, dtype=torch.int64, device=x.device)
        keys: Keys | None = None
        if self._journal is not None and not fresh:
            keys = keys_of(x, Turns() if turns is None else turns)
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


class LabelOracle:
    """What an attack may do to the target: ask for labels, within the accounts. Final.

    Made by :meth:`Gate.oracle`. ``ledger`` is the run's; ``spent`` counts what this attack needed, cached answers
    included, so that a replayed run reports the same queries.
    """

    def __init__(self, gate: Gate, name: str, accounts: int, budget: int | None, *, setup: bool) -> None:
        self._gate = gate
        self._name = name
        self._budget = budget
        self._setup = setup
        self._spent = torch.zeros(accounts, dtype=torch.int64)
        self._turns = Turns()

    @property
    def ledger(self) -> Ledger:
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

    def query(self, x: Tensor, owner: Tensor, *, phase: str, fresh: bool = False) -> Tensor:
        """Ask for the labels of ``x``; row i is billed to candidate ``owner[i]``.

        A journal answers a row that this attack asks for the n-th time with the n-th answer that was recorded: a
        target that changes its label is not hidden, and a run that is replayed gets the same answers.

        Args:
            x: float32 (m, *shape), inside the domain. m = 0 sends nothing.
            owner: int64 (m,), 0 … n - 1, or -1 for set-up.
            phase: what the rows are for; the ledger shows it behind the attack's name.
            fresh: ask the target even where a journal knows the answer, and keep the answer out of it (for canaries).

        Returns:
            int64 (m,) labels on ``x``'s device.

        Raises:
            BudgetExceeded: an account or the total cannot pay for all of it; nothing was sent.
            TargetError: the target raised or broke its contract.
        """
        if len(x) == 0:
            return torch.empty(0, dtype=torch.int64, device=x.device)
        if owner.shape != (len(x),):
            raise ValueError(f"owner must name one candidate a row: {len(x)} rows, owner of shape {tuple(owner.shape)}")
        owner = owner.cpu()
        counts = torch.bincount(owner + 1, minlength=len(self._spent) + 1)[1:]  # owner -1 comes first
        if self._budget is not None and bool((self._spent + counts > self._budget).any()):
            worst = int((self._spent + counts).argmax())
            raise BudgetExceeded(
                f"{self._name}.{phase}: candidate {worst} has {self._budget - int(self._spent[worst])} of "
                f"{self._budget} labels left and {int(counts[worst])} were asked for"
            )
        billed = torch.full_like(owner, SETUP) if self._setup else owner
        label = f"{self._name}.{phase}"
        labels = self._gate.ask(x, billed, label, len(self._spent), turns=self._turns, fresh=fresh)
        self._spent += counts
        return labels
