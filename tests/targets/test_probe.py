"""The probe: at most 16 billed rows, and every fault of a target is an InputError with the mend."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.journal import Journal
from labelleaks.core.types import Candidates
from labelleaks.errors import BudgetExceeded, InputError
from labelleaks.targets import ProbeResult, probe, wrap
from labelleaks.targets.probe import PROBE_ROWS


def rows(n: int, classes: int = 3) -> Candidates:
    x = torch.rand(n, 5, generator=torch.Generator().manual_seed(n))
    return Candidates(x, torch.arange(n) % classes, Box(0, 1), classes)


class Counter:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.batches: list[Any] = []

    def __call__(self, x: Any) -> Any:
        self.batches.append(x)
        return self.function(x)


def ask(
    function: Callable[[Any], Any],
    candidates: Candidates,
    *,
    allow_noisy: bool = False,
    journal: Journal | None = None,
    total: int | None = None,
) -> tuple[ProbeResult, Gate, Counter]:
    counter = Counter(function)
    gate = Gate(wrap(counter, numpy=False, classes=3), journal=journal, total=total)
    return probe(gate.setup_oracle("target"), candidates, allow_noisy=allow_noisy), gate, counter


def good(x: Tensor) -> Tensor:
    return (x.double().sum(1) * 2).long() % 3


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 100])
def test_every_row_is_billed_and_there_are_never_more_than_16(n: int) -> None:
    found, gate, counter = ask(good, rows(n))
    assert found.rows == gate.ledger.rows == sum(map(len, counter.batches)) <= PROBE_ROWS
    assert gate.ledger.setup == {"target.probe": found.rows} and not gate.ledger.candidates
    assert found.changed == 0 and len(found.labels) == min(n, 8)
    assert {len(batch) for batch in counter.batches} >= {1, min(n, 8)}  # alone, and all together
    for batch in counter.batches:
        Box(0, 1).check(batch, "probe")
    if n >= 8:
        assert found.rows == 16


def test_rows_are_chosen_by_content_and_class_not_by_position() -> None:
    candidates = rows(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    shuffled = Candidates(candidates.x[order], candidates.y[order], Box(0, 1), 3)
    one, other = (ask(good, c)[2].batches for c in (candidates, shuffled))
    assert all(a.equal(b) for a, b in itertools.zip_longest(one, other))
    rare = Candidates(candidates.x, torch.tensor([1] + [0] * 58 + [2]), Box(0, 1), 3)
    asked = ask(good, rare)[2].batches[0]
    for row in (0, 59):  # a rare class is asked about too
        assert (asked == candidates.x[row]).all(1).any()


def test_equal_candidates_are_asked_about_once() -> None:
    x = torch.rand(2, 5).repeat(10, 1)
    found, _, _ = ask(good, Candidates(x, torch.zeros(20, dtype=torch.int64), Box(0, 1), 3))
    assert len(found.labels) == 2


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x[:, 0], r"failed its probe of 8 rows: .*fractions are not labels: .*threshold=0"),
        (lambda x: x[:, :1], "fractions are not labels"),
        (lambda x: good(x)[:-1], r"answered int64 of shape \(7,\).* to 8 rows"),
        (lambda x: torch.zeros(3, dtype=torch.int64), "one label a row is needed"),
        (lambda x: x, r"answers 5 scores a row, but there are 3 classes .*classes=5"),
        (lambda x: x[:, :3] * float("nan"), "NaN scores for 8 of 8 rows"),
        (lambda x: good(x) + 7, r"answered 7, 8, 9, which is none of the 3 classes|answered [789]"),
        (lambda x: x @ torch.ones(4, 3), "the target raised RuntimeError on 8 rows"),
        (lambda x: 1 / 0, "the target raised ZeroDivisionError on 8 rows .target.probe.: division by zero"),
        (lambda x: good(x) if len(x) > 1 else good(x)[0], "failed its probe of 1 rows: .*one label a row"),
    ],
)
def test_faults_of_the_target_are_input_errors(function: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        ask(function, rows(20))
    assert caught.value.exit_code == 2


_DRAWS = itertools.count()


def noisy(x: Tensor) -> Tensor:
    return torch.tensor([next(_DRAWS) % 3 for _ in range(len(x))])


def by_batch_size(x: Tensor) -> Tensor:
    return torch.full((len(x),), len(x) % 3)


def by_batch_mates(x: Tensor) -> Tensor:
    return (x.sum(1) > x.sum(1).mean()).long()


@pytest.mark.parametrize("function", [noisy, by_batch_size, by_batch_mates])
def test_a_label_that_changes_is_refused_unless_it_is_allowed(function: Callable[[Any], Any]) -> None:
    with pytest.raises(InputError, match=r"changed its label for \d of 8 inputs .*model.eval\(\).*allow_noisy=True"):
        ask(function, rows(30))
    found, _, _ = ask(function, rows(30), allow_noisy=True)
    assert 1 <= found.changed <= 8 and found.rows == 16


def test_the_second_batch_has_another_order() -> None:
    found, _, _ = ask(lambda x: torch.arange(len(x)) % 3, rows(30), allow_noisy=True)
    assert found.changed == 5  # 0 … 6 backwards meet 6 … 0: rows 0, 3 and 6 keep theirs, row 7 alone does not


def test_batch_normalisation_in_training_mode_is_caught() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Unflatten(1, (1, 5)), nn.BatchNorm1d(1), nn.Flatten(), nn.Linear(5, 3)).train()
    with pytest.raises(InputError, match="changed its label"):
        ask(lambda x: model(x).argmax(1), rows(30))
    model.eval()
    assert ask(lambda x: model(x).argmax(1), rows(30))[0].changed == 0
    model.train()  # the module itself, not a function of it, is put into evaluation mode by its wrapper
    gate = Gate(wrap(model, numpy=False, classes=3))
    assert probe(gate.setup_oracle("target"), rows(30)).changed == 0


def test_dropout_in_a_function_is_caught() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 3)).train()
    with pytest.raises(InputError, match="changed its label"):
        ask(lambda x: model(x).argmax(1), rows(30))


def test_one_row_alone_still_meets_itself_in_another_batch() -> None:
    with pytest.raises(InputError, match="changed its label for 1 of 1 inputs"):
        ask(by_batch_size, rows(1))


def test_a_constant_target_is_said_not_refused() -> None:
    assert ask(lambda x: torch.zeros(len(x), dtype=torch.int64), rows(10))[0].constant
    assert not ask(good, rows(10))[0].constant
    assert not ask(good, rows(1))[0].constant


def test_a_journal_does_not_hide_a_label_that_changes(tmp_path: Path) -> None:
    with Journal(tmp_path / "a", "t") as journal, pytest.raises(InputError, match="changed its label"):
        ask(noisy, rows(30), journal=journal)


def test_a_replayed_probe_sends_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "a", "t") as journal:
        first, gate, _ = ask(good, rows(30), journal=journal)
        assert gate.ledger.rows == 16 and first.seconds(10, 10) is not None
    with Journal(tmp_path / "a", "t") as journal:
        second, gate, counter = ask(good, rows(30), journal=journal)
        assert counter.batches == [] and gate.ledger.rows == 0 and gate.ledger.cached == 16
    assert (second.labels, second.rows, second.changed) == (first.labels, first.rows, first.changed)
    assert second.seconds(10, 10) is None


def test_a_total_budget_holds_for_the_probe() -> None:
    with pytest.raises(BudgetExceeded):
        ask(good, rows(30), total=15)
    assert ask(good, rows(30), total=16)[1].ledger.rows == 16


def test_the_forecast_of_time_from_a_call_and_a_small_batch() -> None:
    def result(call: float, batch: float) -> ProbeResult:
        return ProbeResult(rows=16, labels=(0,) * 8, changed=0, call_seconds=call, batch_seconds=batch, batch=7)

    low, high = result(0.010, 0.016).seconds(1000, 100) or (0, 0)  # 9 ms a call and 1 ms a row
    assert low == pytest.approx(10 * 0.009 + 1000 * 0.001)
    assert high == pytest.approx(1000 * 0.016 / 7)
    low, high = result(0.010, 0.010).seconds(1000, 100) or (0, 0)  # all of it is the call
    assert low == pytest.approx(10 * 0.010)
    low, high = result(0.010, 0.007).seconds(1000, 1) or (0, 0)  # a slow first call: never above the other bound
    assert low == high == pytest.approx(1.0)
    one = ProbeResult(rows=4, labels=(0,), changed=0, call_seconds=0.1, batch_seconds=0.2, batch=2)
    assert one.seconds(10, 10) == pytest.approx((0.1 * 10, 0.1 * 10))


def test_a_function_gets_numpy_where_it_should() -> None:
    seen: list[Any] = []
    gate = Gate(wrap(lambda x: seen.append(type(x)) or np.zeros(len(x), int), numpy=True, classes=3))
    probe(gate.setup_oracle("target"), rows(9))
    assert set(seen) == {np.ndarray}
