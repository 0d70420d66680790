"""The door: rows sent = rows billed, nothing over budget is sent, and what a target does wrong is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.label_oracle import SETUP
from labelleaks.core.oracle.query_keys import Answers, Keys, keys_of
from labelleaks.errors import BudgetExceeded, InputError, LabelLeaksError, TargetError


class _Target:
    def __init__(self) -> None:
        self.calls: list[Tensor] = []

    @property
    def rows(self) -> int:
        return sum(len(x) for x in self.calls)

    def __call__(self, x: Tensor) -> Tensor:
        self.calls.append(x.clone())
        return x[:, 0].to(torch.int64)


class _Journal:
    """Answers by the key; knows some from the start."""

    def __init__(self, known: dict[int, int]) -> None:
        self.known = Answers()
        for row, label in known.items():
            self.known.add(keys_of(_rows(row)), np.array([label], dtype=np.int32))

    def lookup(self, keys: Keys) -> Tensor:
        return torch.from_numpy(self.known.find(keys))

    def begin(self, keys: Keys) -> int:
        return 0

    def record(self, keys: Keys, labels: Tensor) -> None:
        self.known.add(keys, labels.to(torch.int32).numpy())


def _rows(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_answers_come_back_in_order_and_in_bounded_batches() -> None:
    target = _Target()
    oracle = Gate(target, batch_rows=3).oracle("noise", 2, None)
    labels = oracle.query(_rows(5, 4, 3, 2, 1, 0, 9), torch.tensor([0, 1, 0, 1, 0, 1, 0]), phase="copies")
    assert labels.tolist() == [5, 4, 3, 2, 1, 0, 9]
    assert [len(x) for x in target.calls] == [3, 3, 1]
    assert oracle.ledger.calls == 3


def test_every_row_is_billed_to_its_owner_and_phase() -> None:
    target = _Target()
    gate = Gate(target)
    oracle = gate.oracle("noise", 3, 10)
    oracle.query(_rows(1, 1, 1), torch.tensor([0, 1, 2]), phase="correct")
    oracle.query(_rows(1, 1), torch.tensor([2, 2]), phase="copies")
    gate.setup_oracle("transfer").query(_rows(1, 1, 1, 1), torch.full((4,), SETUP), phase="relabel")
    ledger = gate.ledger
    assert ledger.candidates["noise.correct"].tolist() == [1, 1, 1]
    assert ledger.candidates["noise.copies"].tolist() == [0, 0, 2]
    assert ledger.setup == {"transfer.relabel": 4}
    assert ledger.rows == target.rows == 9
    assert ledger.setup_rows == 4
    assert oracle.spent.tolist() == [1, 1, 3]
    assert oracle.remaining().tolist() == [9, 9, 7]
    assert ledger.by_phase() == {"transfer.relabel": 4, "noise.correct": 3, "noise.copies": 2}


def test_nothing_is_sent_over_an_account() -> None:
    target = _Target()
    oracle = Gate(target).oracle("boundary", 2, 3)
    oracle.query(_rows(1, 1, 1), torch.tensor([0, 0, 1]), phase="a")
    with pytest.raises(BudgetExceeded, match="candidate 0 has 1 of 3 labels left and 2 were asked for"):
        oracle.query(_rows(1, 1, 1), torch.tensor([1, 0, 0]), phase="b")
    assert target.rows == 3
    assert oracle.spent.tolist() == [2, 1]
    oracle.query(_rows(1, 1, 1), torch.tensor([1, 0, 1]), phase="b")
    assert oracle.remaining().tolist() == [0, 0]


def test_nothing_is_sent_over_the_total() -> None:
    target = _Target()
    gate = Gate(target, total=5, batch_rows=2)
    gate.setup_oracle("setup").query(_rows(1, 1), torch.full((2,), SETUP), phase="probe")
    oracle = gate.oracle("gap", 4, None)
    with pytest.raises(BudgetExceeded, match="4 more rows would pass the total budget of 5"):
        oracle.query(_rows(1, 2, 3, 4), torch.arange(4), phase="correct")
    assert target.rows == gate.ledger.rows == 2
    assert oracle.spent.tolist() == [0] * 4


def test_two_attacks_have_accounts_of_their_own() -> None:
    gate = Gate(_Target())
    first, second = gate.oracle("a", 1, 2), gate.oracle("b", 1, 2)
    first.query(_rows(1, 1), torch.tensor([0, 0]), phase="p")
    second.query(_rows(1, 1), torch.tensor([0, 0]), phase="p")
    assert gate.ledger.rows == 4
    with pytest.raises(BudgetExceeded):
        first.query(_rows(1), torch.tensor([0]), phase="p")


def test_an_empty_query_sends_nothing() -> None:
    target = _Target()
    oracle = Gate(target).oracle("gap", 1, 1)
    assert oracle.query(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), phase="p").shape == (0,)
    assert not target.calls


def test_setup_oracle_bills_set_up_and_still_holds_its_accounts() -> None:
    gate = Gate(_Target())
    oracle = gate.setup_oracle("random inputs", 2, 1)
    oracle.query(_rows(1, 1), torch.tensor([0, 1]), phase="boundary")
    assert gate.ledger.setup == {"random inputs.boundary": 2}
    assert not gate.ledger.candidates
    with pytest.raises(BudgetExceeded):
        oracle.query(_rows(1), torch.tensor([0]), phase="boundary")


def test_journal_answers_are_not_sent_but_count_for_the_attack() -> None:
    target = _Target()
    gate = Gate(target, journal=_Journal({1: 7}), batch_rows=2)
    oracle = gate.oracle("gap", 4, 3)
    assert oracle.query(_rows(0, 1, 2, 3), torch.arange(4), phase="p").tolist() == [0, 7, 2, 3]
    assert target.rows == gate.ledger.rows == 3
    assert gate.ledger.cached == 1
    assert gate.ledger.candidates["gap.p"].tolist() == [1, 0, 1, 1]
    assert oracle.spent.tolist() == [1, 1, 1, 1]
    other = gate.oracle("boundary", 4, 3)
    assert other.query(_rows(2), torch.tensor([0]), phase="p").tolist() == [2]  # recorded for another attack
    assert target.rows == 3


def test_an_attack_that_asks_again_gets_another_answer_each_time_and_the_same_ones_in_a_replay() -> None:
    answers = iter(range(100))

    def counts(x: Tensor) -> Tensor:
        return torch.tensor([next(answers) for _ in x])

    journal = _Journal({})

    def ask() -> list[list[int]]:
        oracle = Gate(counts, journal=journal).oracle("boundary", 1, None)
        owner = torch.zeros(3, dtype=torch.int64)
        return [oracle.query(_rows(*rows), owner, phase="p").tolist() for rows in ((5, 5, 6), (6, 5, 7))]

    assert ask() == [[0, 1, 2], [3, 4, 5]]
    assert ask() == [[0, 1, 2], [3, 4, 5]]
    assert next(answers) == 6


def test_a_fresh_question_passes_the_journal_by() -> None:
    target = _Target()
    gate = Gate(target, journal=(journal := _Journal({1: 7})))
    oracle = gate.setup_oracle("target")
    assert oracle.query(_rows(1, 2), torch.full((2,), SETUP), phase="canary", fresh=True).tolist() == [1, 2]
    assert gate.ledger.setup == {"target.canary": 2} and len(journal.known) == 1
    assert oracle.query(_rows(1), torch.tensor([SETUP]), phase="probe").tolist() == [7]  # still its first turn


def test_replay_only_sends_nothing() -> None:
    target = _Target()
    gate = Gate(target, journal=_Journal({1: 7}), replay_only=True)
    oracle = gate.oracle("gap", 3, None)
    assert oracle.query(_rows(1), torch.tensor([0]), phase="p").tolist() == [7]
    with pytest.raises(InputError, match=r"no answer to 2 of the 3 rows of gap\.p; nothing was sent"):
        gate.oracle("gap", 3, None).query(_rows(1, 2, 3), torch.arange(3), phase="p")
    assert target.rows == gate.ledger.rows == 0 and gate.ledger.cached == 1


def test_a_failing_target_is_named_and_its_rows_stay_billed() -> None:
    seen = []

    def fails(x: Tensor) -> Tensor:
        seen.append(len(x))
        raise OSError("connection lost")

    gate = Gate(fails)
    with pytest.raises(TargetError, match=r"the target raised OSError on 2 rows \(gap\.correct\): connection lost"):
        gate.oracle("gap", 2, None).query(_rows(1, 2), torch.arange(2), phase="correct")
    assert gate.ledger.rows == sum(seen) == 2


def test_our_own_errors_pass_through_as_they_are() -> None:
    def refuses(x: Tensor) -> Tensor:
        raise InputError("not this")

    with pytest.raises(InputError, match=r"^not this$"):
        Gate(refuses).oracle("gap", 1, None).query(_rows(1), torch.arange(1), phase="p")


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: torch.zeros(len(x) + 1, dtype=torch.int64),
        lambda x: torch.zeros(len(x), 1, dtype=torch.int64),
        lambda x: torch.zeros(len(x)),
    ],
)
def test_an_answer_that_is_not_one_label_a_row_is_refused(answer) -> None:
    with pytest.raises(TargetError, match="one int64 label a row is needed"):
        Gate(answer).oracle("gap", 2, None).query(_rows(1, 2), torch.arange(2), phase="p")


def test_owner_must_match_the_rows() -> None:
    with pytest.raises(ValueError, match="owner must name one candidate a row"):
        Gate(_Target()).oracle("gap", 2, None).query(_rows(1, 2), torch.arange(1), phase="p")


def test_progress_is_told_what_was_answered() -> None:
    told: list[tuple[str, int]] = []
    gate = Gate(_Target(), batch_rows=2, progress=lambda phase, rows: told.append((phase, rows)))
    gate.oracle("gap", 3, None).query(_rows(1, 2, 3), torch.arange(3), phase="correct")
    assert told == [("gap.correct", 2), ("gap.correct", 1)]


class Script:
    """Answers the n-th question about row i with ``answers[i][n]``; a row is its own number."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = answers, [0] * len(answers)
        self.sent: list[list[int]] = []

    def __call__(self, x: Tensor) -> Tensor:
        rows = x[:, 0].long().tolist()
        self.sent.append(rows)
        labels = []
        for i in rows:
            labels.append(int(self.answers[i][self.asked[i]]))
            self.asked[i] += 1
        return torch.tensor(labels)


def rows(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float32)[:, None]


def test_the_most_frequent_label_counts_and_only_torn_rows_are_asked_on() -> None:
    target = Script("000", "0110", "2112", "012", "33")
    gate = Gate(target)
    oracle = gate.oracle("a", 5, 9)
    assert oracle.query(rows(5), torch.arange(5), phase="p", votes=3).tolist() == [0, 1, 1, 0, 3]
    assert target.asked == [2, 3, 3, 3, 2], "a tie of three is the smallest label"
    assert oracle.spent.tolist() == target.asked == gate.ledger.candidates["a.p"].tolist()
    assert target.sent == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4], [1, 2, 3]], "the answers to a row one after the other"


def test_whether_a_row_has_a_label_is_a_question_of_two_answers() -> None:
    target = Script("120", "0110", "11", "10101", "01010")
    oracle = Gate(target).oracle("a", 5, 9)
    y = torch.tensor([0, 0, 1, 1, 1])
    found = oracle.agree(rows(3), torch.arange(3), y[:3], phase="p", votes=3)
    assert found.holds.tolist() == [False, False, True], "1 and 2 are both another label than 0"
    assert found.asked.tolist() == [2, 3, 2] and found.agreeing.tolist() == [2, 2, 2]
    found = oracle.agree(rows(5)[3:], torch.tensor([3, 4]), y[3:], phase="p", votes=5)
    assert (found.holds.tolist(), found.asked.tolist(), found.agreeing.tolist()) == ([True, False], [5, 5], [3, 3])


def test_one_vote_is_one_answer() -> None:
    target = Script("0", "1")
    oracle = Gate(target).oracle("a", 2, 1)
    found = oracle.agree(rows(2), torch.arange(2), torch.zeros(2).long(), phase="p")
    assert (found.holds.tolist(), found.asked.tolist(), found.agreeing.tolist()) == ([True, False], [1, 1], [1, 1])


def test_nothing_is_sent_where_an_account_cannot_pay_for_all_votes() -> None:
    target = Script("000", "000")
    oracle = Gate(target).oracle("a", 2, 2)
    with pytest.raises(BudgetExceeded, match="candidate 0 has 2 of 2 labels left and 3 were asked for"):
        oracle.query(rows(2), torch.arange(2), phase="p", votes=3)
    assert target.sent == [] and oracle.spent.tolist() == [0, 0]


def test_a_row_of_set_up_gets_all_its_votes() -> None:
    target = Script("000", "011", "1")
    gate = Gate(target)
    setup = gate.setup_oracle("a")
    owner = torch.full((2,), SETUP)
    assert setup.query(rows(2), owner, phase="starts", votes=3).tolist() == [0, 1]
    assert target.asked[:2] == [3, 3] and gate.ledger.setup == {"a.starts": 6}


def test_no_rows_are_no_questions() -> None:
    oracle = Gate(Script()).oracle("a", 0, 3)
    none = torch.zeros(0, dtype=torch.int64)
    assert len(oracle.query(rows(0), none, phase="p", votes=3)) == 0
    assert len(oracle.agree(rows(0), none, none, phase="p", votes=3).holds) == 0


@pytest.mark.parametrize("votes", [0, 2, -1])
def test_votes_are_odd(votes: int) -> None:
    target = Script("000")
    with pytest.raises(ValueError, match="votes must be an odd number"):
        Gate(target).oracle("a", 1, 9).query(rows(1), torch.zeros(1).long(), phase="p", votes=votes)
    assert target.sent == []


def test_a_closed_view_sends_nothing_and_names_the_attack() -> None:
    target = Script("0")
    setup = Gate(target).setup_oracle("a")
    with pytest.raises(LabelLeaksError, match=r"mine: score\(\) asked for 1 rows of set-up \(p\).*prepare\(\)"):
        setup.closed("mine").query(rows(1), torch.tensor([SETUP]), phase="p")
    assert len(setup.closed("mine").query(rows(0), torch.zeros(0).long(), phase="p")) == 0
    assert target.sent == []
    assert setup.query(rows(1), torch.tensor([SETUP]), phase="p").tolist() == [0], "the view itself stays open"
