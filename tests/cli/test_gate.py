"""Gate expressions."""

from __future__ import annotations

import pytest

from labelleaks.cli.gate import first_that_holds, parse
from labelleaks.errors import SpecError
from tests.record_fixture import make_record


def test_a_condition_reads_the_record() -> None:
    record = make_record()
    auc = record["boundary"].auc.value
    assert auc is not None
    assert parse(f"boundary.auc>{auc - 0.01}").holds(record)
    assert parse(f"boundary.auc>{auc + 0.01}").holds(record) is None
    assert parse("boundary.auc.low>0.99").holds(record) is None
    assert parse("any.auc>=0.5").holds(record)
    assert parse("boundary.tpr@10% > 0.1%").holds(record)
    assert first_that_holds([parse("gap.auc<0.1"), parse("gap.auc>0.1")], record)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("boundary", "not of the form"),
        ("boundary.auc=0.5", "not of the form"),
        ("boundary.auk>0.5", "did you mean 'auc'"),
        ("boundary.tpr@2%>0.5", "unknown metric"),
        ("boundary.auc>1.2.3", "is not a number"),
    ],
)
def test_a_bad_expression_is_refused(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse(text)


def test_a_gate_that_cannot_be_decided_does_not_pass() -> None:
    record = make_record()
    with pytest.raises(SpecError, match="did you mean 'boundary'"):
        parse("bondary.auc>0.5").holds(record)
    undecided = parse("boundary.tpr@0.1%>0.5")
    with pytest.raises(SpecError, match="cannot be decided"):
        undecided.holds(record)  # 300 non-members cannot tell 0.1 %
    with pytest.raises(SpecError, match="cannot be decided"):
        first_that_holds([undecided, parse("gap.auc<0.1")], record)


def test_a_gate_that_fails_is_not_hidden_by_one_that_cannot_be_decided() -> None:
    sentence = first_that_holds([parse("boundary.tpr@0.1%>0.5"), parse("gap.auc>0.1")], make_record())
    assert sentence is not None and sentence.startswith("gap auc")
