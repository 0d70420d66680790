"""Votes: the majority of several answers, asked only as far as it is open, every answer billed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from labelleaks.core.oracle.label_oracle import SETUP, Gate
from labelleaks.errors import BudgetExceeded, LabelLeaksError


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
