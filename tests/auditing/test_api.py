"""audit, infer and forecast as a user calls them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn

import labelleaks as ll
from labelleaks.auditing.options import AuditOptions
from labelleaks.cli import demo
from labelleaks.core import serialization
from labelleaks.errors import DoubtWarning

PUBLIC = {
    "About", "Attack", "AttackResult", "AuditRecord", "Binary", "Box", "BudgetExceeded", "Candidates", "Continuous",
    "Cost", "Decisions", "Domain", "FixedFPR", "Forecast", "HoldOut", "InputError", "Integer", "Knowledge",
    "LabelLeaksError",
    "LabelOracle", "Ledger", "MissingExtra", "Mixed", "NeedsError", "OneHot", "RandomInputs", "Recipe", "Recorded",
    "Scores", "ShadowCalibrated", "ShadowRows", "SpecError", "Status", "Table", "TargetError", "Threshold",
    "Canaries", "CanaryAudit", "Text", "audit_canaries", "load_canaries", "make_canaries",
    "Trajectory", "attacks", "audit", "data", "errors", "forecast", "infer", "load", "metrics", "targets",
    "write_report",
}  # fmt: skip


class Counting:
    """A target that counts what it sees."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.rows = 0
        self.least = 10**9

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.rows += len(x)
        self.least = min(self.least, len(x))
        with torch.no_grad():
            return torch.as_tensor(self.model(torch.as_tensor(x)).argmax(1))


@pytest.fixture(scope="module")
def case() -> demo.DemoCase:
    return demo.build()


def few(rows: tuple[Any, ...], n: int = 30) -> tuple[Any, ...]:
    return tuple(part[:n] for part in rows)


def arguments(case: demo.DemoCase, **changes: Any) -> dict[str, Any]:
    given = {
        "members": few(case.members), "nonmembers": few(case.nonmembers), "attacks": ["gap", "noise", "boundary"],
        "domain": ll.Box(0, 1), "budget": 60, "seed": 0, "thresholds": [], "show_progress": False,
    }  # fmt: skip
    return given | changes


def test_public_names_are_pinned() -> None:
    assert set(ll.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(ll, name) is not None
    assert callable(ll.audit) and callable(ll.infer) and callable(ll.forecast)
    import labelleaks.auditing.api

    assert ll.audit is labelleaks.auditing.api.audit  # still the function after its module was imported
    with pytest.raises(AttributeError):
        ll.nothing  # noqa: B018


def test_the_issue_s_example_works(case: demo.DemoCase) -> None:
    target = Counting(case.target)
    record = ll.audit(
        target,
        members=few(case.members),
        nonmembers=few(case.nonmembers),
        attacks=["gap", "noise", "boundary", "transfer"],
        shadow=few(case.shadow, 200),
        domain=ll.Box(0, 1),
        budget=100,
        seed=0,
    )
    r = record["boundary"]
    assert r.scores.shape == r.status.shape == r.queries.shape == (60,)
    assert record.member.tolist() == [True] * 30 + [False] * 30
    assert r.auc.value is not None and r.auc.low is not None and r.auc.high is not None
    assert 0 <= r.auc.low <= r.auc.value <= r.auc.high <= 1
    assert r.tpr_at_fpr[0.01].value is None and r.tpr_at_fpr[0.01].reason
    assert r.balanced_accuracy.value is not None and r.advantage.value is not None
    assert r.given_correct.auc.value is not None and "cross-fitted" in r.threshold.source
    assert record.ledger.rows == target.rows and target.least >= 1
    assert int(r.queries.max()) <= 100
    frame = record.to_frame()
    assert len(frame) == 60 and "boundary.score" in frame


def test_a_leak_is_found_and_oriented(case: demo.DemoCase) -> None:
    record = ll.audit(case.target, **arguments(case, members=case.members, nonmembers=case.nonmembers))
    for name in ("gap", "noise", "boundary"):
        low = record[name].auc.low
        assert low is not None and low > 0.6, (name, record[name].auc)


def test_equal_runs_give_equal_bytes(case: demo.DemoCase, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        ll.audit(case.target, **arguments(case, thresholds=None, out=tmp_path / folder))
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == ["arrays.npz", "candidates.csv", "record.json", "report.html", "run.json"]
    for name in ("arrays.npz", "candidates.csv", "record.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert ll.load(tmp_path / "a") == ll.load(tmp_path / "b")


def test_scores_hang_on_the_row_alone(case: demo.DemoCase) -> None:
    """Rows permuted, groups swapped, ids renamed: the same scores. The target works in float64, a row at a time."""
    model = copy.deepcopy(case.target).double()

    def target(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.stack([model(row[None].double())[0].argmax() for row in x])

    options = arguments(
        case, members=few(case.members, 8), nonmembers=few(case.nonmembers, 8), attacks=["noise", "boundary"]
    )
    plain = ll.audit(target, **options)
    order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])
    turned = {side: tuple(part[:8][order] for part in getattr(case, side)) for side in ("members", "nonmembers")}
    swapped = ll.audit(
        target,
        **options
        | {"members": turned["nonmembers"], "nonmembers": turned["members"], "ids": [f"x{i}" for i in range(16)]},
    )
    for name in ("noise", "boundary"):
        a, b = plain[name], swapped[name]
        assert np.array_equal(a.scores[:8][order], b.scores[8:]) and np.array_equal(a.scores[8:][order], b.scores[:8])
        assert a.auc.value is not None and b.auc.value == pytest.approx(1 - a.auc.value)


def test_inputs_are_left_untouched(case: demo.DemoCase) -> None:
    x_m, y_m = (part.clone() for part in few(case.members))
    kept = x_m.clone(), y_m.clone()
    ll.audit(case.target, **arguments(case, members=(x_m, y_m)))
    assert torch.equal(x_m, kept[0]) and torch.equal(y_m, kept[1])
    as_numpy = {side: tuple(p.numpy() for p in few(getattr(case, side))) for side in ("members", "nonmembers")}
    a = ll.audit(case.target, **arguments(case))
    b = ll.audit(case.target, **arguments(case, **as_numpy))
    assert np.array_equal(a["boundary"].scores, b["boundary"].scores)


class Breaks(Counting):
    """Fails for good after so many rows."""

    def __init__(self, model: nn.Module, after: int, error: BaseException) -> None:
        super().__init__(model)
        self.after = after
        self.error = error

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.rows > self.after:
            raise self.error
        return super().__call__(x)


@pytest.mark.parametrize(
    ("error", "raised"), [(ConnectionError("gone"), ll.TargetError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_what_was_finished_stays(
    case: demo.DemoCase, tmp_path: Path, error: BaseException, raised: type[BaseException]
) -> None:
    target = Breaks(case.target, 60 * 61 + 100, error)  # within the third attack
    with pytest.raises(raised) as caught:
        ll.audit(target, **arguments(case, out=tmp_path / "run"))
    assert any("gap, noise" in note for note in caught.value.__notes__)
    kept = ll.load(tmp_path / "run")
    assert not kept.complete and list(kept.attacks) == ["gap", "noise"] and kept.missing == ("boundary",)
    assert (tmp_path / "run" / "report.html").exists()


def test_a_journal_pays_for_nothing_twice(case: demo.DemoCase, tmp_path: Path) -> None:
    options = arguments(case, journal=tmp_path / "answers.sqlite", thresholds=None)
    target = Breaks(case.target, 3000, ConnectionError("gone"))
    target.fingerprint = "demo"  # type: ignore[attr-defined]
    with pytest.raises(ll.TargetError):
        ll.audit(target, **options)
    again = Breaks(case.target, 10**9, ConnectionError())
    again.fingerprint = "demo"  # type: ignore[attr-defined]
    resumed = ll.audit(again, **options | {"out": tmp_path / "resumed"})
    whole = Breaks(case.target, 10**9, ConnectionError())
    whole.fingerprint = "demo"  # type: ignore[attr-defined]
    fresh = ll.audit(whole, **options | {"journal": tmp_path / "other.sqlite", "out": tmp_path / "fresh"})
    assert again.rows < whole.rows
    assert resumed == fresh
    for name in ("record.json", "arrays.npz"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


def test_another_run_s_folder_is_refused(case: demo.DemoCase, tmp_path: Path) -> None:
    target = Counting(case.target)
    ll.audit(target, **arguments(case, attacks=["gap"], out=tmp_path / "run"))
    seen = target.rows
    with pytest.raises(ll.InputError, match="holds another run"):
        ll.audit(target, **arguments(case, attacks=["gap"], out=tmp_path / "run"))
    assert target.rows == seen
    ll.audit(target, **arguments(case, attacks=["gap"], out=tmp_path / "run", overwrite=True))


def test_the_total_budget_holds_and_is_shared_evenly(case: demo.DemoCase) -> None:
    target = Counting(case.target)
    record = ll.audit(target, **arguments(case, attacks=["noise"], budget=500, budget_total=2000))
    assert target.rows <= 2000 and record.spec["budget"] < 500
    assert any("budget_total=2000" in note for note in record.notes)
    with pytest.raises(ll.NeedsError, match="budget_total=10 is below"):
        ll.audit(target, **arguments(case, budget_total=10))


BAD = [
    ({"attacks": ["bondary"]}, "did you mean 'boundary'"),
    ({"attacks": []}, "name at least one"),
    ({"attacks": ["gap", "gap"]}, "twice"),
    ({"attacks": ["transfer"]}, "shadow"),
    ({"budget": 0}, "budget=0"),
    ({"budget": 2, "attacks": ["boundary"]}, "at least"),
    ({"seed": 1.5}, "seed=1.5"),
    ({"domain": "box"}, "is not a domain"),
    ({"domain": ll.Box(0, 0.5)}, "outside the domain"),
    ({"members": (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))}, "empty"),
    ({"members": (torch.zeros(3, 8), torch.zeros(3, dtype=torch.int64))}, "shape"),
    ({"members": (torch.full((3, 1, 8, 8), float("nan")), torch.zeros(3, dtype=torch.int64))}, "NaN"),
    ({"members": (torch.zeros(3, 1, 8, 8), torch.zeros(2, dtype=torch.int64))}, "3 rows but 2 labels"),
    ({"members": (torch.zeros(3, 1, 8, 8), torch.tensor([0, 1, 12])), "classes": 10}, "outside the 10 classes"),
    ({"thresholds": ["random"]}, "did you mean 'random_inputs'"),
    ({"thresholds": ["random_inputs"], "attacks": ["gap"]}, "no attack of this run has a distance"),
    ({"thresholds": [ll.FixedFPR()]}, "shadow"),
    ({"shadow": (torch.zeros(3, 2),)}, "shape"),
    ({"ids": ["a"]}, "1 names for 60 candidates"),
    ({"attacks": "gap"}, "a list is needed"),
    ({"budget": None}, "budget=None"),
    ({"device": "cuda:99"}, "cannot be used"),
    ({"family": "cn"}, "did you mean 'cnn'"),
    ({"family": torch.nn.Linear(64, 10)}, "already built"),
    ({"out": "/proc/labelleaks"}, "nothing can be written there"),
]


@pytest.mark.parametrize(("changes", "says"), BAD, ids=[str(list(c)) + s[:12] for c, s in BAD])
def test_bad_input_is_one_line_before_any_query(case: demo.DemoCase, changes: dict[str, Any], says: str) -> None:
    target = Counting(case.target)
    with pytest.raises(ll.InputError) as caught:
        ll.audit(target, **arguments(case, **changes))
    assert says in str(caught.value), caught.value
    assert "\n" not in str(caught.value)
    assert target.rows == 0


def test_shadow_rows_that_are_all_candidates_are_refused(case: demo.DemoCase) -> None:
    for attack in ("transfer", "guided"):
        with pytest.raises(ll.NeedsError, match="all 30 given are equal or nearly equal to a candidate"):
            ll.audit(case.target, **arguments(case, attacks=[attack], shadow=few(case.members)[:1]))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: torch.zeros(len(x) + 1, dtype=torch.int64), "rows"),
        (lambda x: torch.rand(len(x)), "float"),
        (lambda x: torch.randint(0, 10, (len(x),)), "changed its label"),
        (lambda x: None, "None"),
        (lambda x: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_faulty_target_is_found_by_its_probe(case: demo.DemoCase, answer: Any, says: str) -> None:
    seen = []

    def target(x: torch.Tensor) -> Any:
        seen.append(len(x))
        return answer(x)

    with pytest.raises(ll.InputError, match=says):
        ll.audit(target, **arguments(case))
    assert sum(seen) <= 16


def test_infer_needs_no_truth(case: demo.DemoCase) -> None:
    x = torch.cat([case.members[0][:40], case.nonmembers[0][:40]])
    y = torch.cat([case.members[1][:40], case.nonmembers[1][:40]])
    decisions = ll.infer(
        case.target,
        x,
        y,
        attack=ll.attacks.Boundary(norm="l2"),
        threshold=ll.RandomInputs(percentile=50, n=20),
        domain=ll.Box(0, 1),
        budget=100,
        seed=0,
    )
    assert decisions.member.dtype == bool and decisions.member.shape == decisions.scores.shape == (80,)
    assert np.array_equal(decisions.member, decisions.scores > decisions.threshold.tau)
    assert "random inputs" in decisions.threshold.source
    assert decisions.ledger.setup_rows > 0 and len(decisions.rows()) == 80
    gap = ll.infer(case.target, x, y, attack="gap", domain=ll.Box(0, 1))
    assert gap.member[:40].all() and gap.threshold.tau == 0.5
    given = ll.infer(case.target, x, y, attack="noise", threshold=0.9, budget=20)
    assert given.threshold.source == "a number given by the user"
    with pytest.raises(ll.NeedsError, match="threshold needs"):
        ll.infer(case.target, x, y, attack="noise")


def test_calls_at_a_false_discovery_rate_cost_no_label(case: demo.DemoCase) -> None:
    x = torch.cat([case.members[0][:60], case.nonmembers[0][:60]])
    y = torch.cat([case.members[1][:60], case.nonmembers[1][:60]])
    decisions = ll.infer(
        case.target, x, y, attack="guided", threshold="fixed_fpr", shadow=case.shadow, budget=13, references=4
    )
    p = decisions.p_values
    assert p is not None
    known = decisions.threshold.nonmember_scores
    np.testing.assert_array_equal(p, ll.metrics.conformal_p_values(decisions.scores, known))
    calls = [decisions.at_fdr(fdr) for fdr in (0.01, 0.1, 0.5, 1.0)]
    assert [int(c.member.sum()) for c in calls] == sorted(int(c.member.sum()) for c in calls)
    assert calls[2].member[:60].sum() > 20 and calls[-1].member.all()
    for one in calls:
        np.testing.assert_array_equal(one.member, one.scores > one.threshold.tau)
        assert one.ledger.rows == decisions.ledger.rows
    assert "Benjamini-Hochberg over 120 candidates" in repr(calls[1])
    assert [row["p_value"] for row in decisions.rows()] == p.tolist()
    assert decisions.to_frame()["p_value"].tolist() == p.tolist()
    with pytest.raises(ll.InputError, match="fdr=2"):
        decisions.at_fdr(2)
    plain = ll.infer(case.target, x, y, attack="gap")
    assert plain.p_values is None and "p_value" not in plain.rows()[0]
    with pytest.raises(ll.InputError, match="threshold='fixed_fpr'"):
        plain.at_fdr(0.1)


def test_p_values_from_a_hold_out_that_is_no_candidate(case: demo.DemoCase) -> None:
    known = [(part[0][60:90], part[1][60:90]) for part in (case.members, case.nonmembers)]
    fresh, own = (
        ll.infer(case.target, *few(rows, 30), attack="noise", threshold=ll.HoldOut(*known), budget=10)
        for rows in (case.members, known[1])
    )
    assert fresh.p_values is not None and fresh.p_values.min() >= 1 / 31
    assert own.p_values is None  # they would be held against themselves
    record = ll.audit(case.target, **arguments(case, attacks=["gap"], thresholds=[ll.HoldOut(*known)]))
    assert "nonmember_scores" not in json.dumps(serialization.encode(record["gap"].evaluation, {}, ""))


@pytest.mark.parametrize("name", ll.attacks.names())
def test_a_threshold_that_decides_for_nothing_is_flagged(case: demo.DemoCase, name: str) -> None:
    """Every rule with every attack: nobody called, or most non-members called, and a flag says so."""
    known = [(part[0][40:52], part[1][40:52]) for part in (case.members, case.nonmembers)]
    rules: list[Any] = [
        ll.ShadowCalibrated(most=12),
        ll.HoldOut(known[0], known[1]),
        ll.FixedFPR(fpr=0.05, n=19),
        *([ll.RandomInputs(n=10)] if ll.attacks.resolve(name).is_distance else []),
    ]
    given = arguments(case, attacks=[name], shadow=few(case.shadow, 200), thresholds=rules, budget=33, references=2)
    record = ll.audit(
        case.target, **(given | {"members": few(case.members, 20), "nonmembers": few(case.nonmembers, 20)})
    )
    told = {flag.name: flag.raised_because for flag in record.flags}
    decisions = record[name].evaluation.decisions
    assert len(decisions) == 1 + len(rules)
    for decision in decisions[1:]:
        assert decision.fpr.value is not None
        whose = f"{name} with {decision.threshold.source}"
        assert (decision.fpr.value >= 0.5) == (f"{whose} calls" in told.get("accusing_threshold", ""))
        one_sided = decision.member.all() or not decision.member.any()
        assert bool(one_sided) == (f"{whose} calls" in told.get("one_sided_decision", ""))
        assert bool(decision.threshold.doubt) == (whose in told.get("unreachable_threshold", ""))
        expected = decision.threshold.expected_fpr
        assert (expected is None) == ("random inputs" in whose)
        assert expected is None or (expected.value is not None and expected.high is not None)
    back = ll.audit(case.target, **arguments(case, attacks=["gap"]))
    assert "expected_fpr" not in json.dumps(serialization.encode(back["gap"].threshold, {}, ""))


def test_a_threshold_above_every_score_is_flagged_in_infer(case: demo.DemoCase) -> None:
    x, y = few(case.members)
    given: dict[str, Any] = {"attack": "noise", "shadow": case.shadow, "domain": ll.Box(0, 1), "budget": 20, "seed": 0}
    strict = ll.infer(case.target, x, y, threshold=ll.FixedFPR(fpr=0.01, n=99), **given)
    flags = {flag.name: flag for flag in strict.flags}
    assert not strict.member.any() and {"unreachable_threshold", "one_sided_decision"} <= set(flags)
    assert "one_sided_decision" in repr(strict) and strict.expected_fpr.high == 0.01
    mend = re.search(r"Use fpr=([0-9.]+) or more", flags["unreachable_threshold"].raised_because)
    assert mend is not None
    mended = ll.infer(case.target, x, y, threshold=ll.FixedFPR(fpr=float(mend[1]), n=99), **given)
    assert mended.member.any() and not {f.name for f in mended.flags}


def test_decisions_show_themselves(case: demo.DemoCase) -> None:
    x, y = few(case.members)
    found = ll.infer(case.target, x, y, attack="gap", domain=ll.Box(0, 1), ids=[f"<b>{i}" for i in range(len(x))])
    assert {flag.name for flag in found.flags} == {"one_sided_decision", "unknown_fpr"}
    assert found.expected_fpr.value is None and "no non-member was scored" in (found.expected_fpr.reason or "")
    frame = found.to_frame()
    assert list(frame) == ["id", "member", "score", "status", "queries", "threshold", "expected_fpr"]
    assert list(frame["id"]) == list(found.ids) and (frame["threshold"] == 0.5).all()
    html = found._repr_html_()
    assert html.startswith("<iframe sandbox=") and html.count("<") == 2
    assert "&amp;lt;b&amp;gt;0" in html and "unknown fpr" in html


@pytest.mark.parametrize("rows", [1, 2])
def test_one_or_two_shadow_rows_are_flagged(case: demo.DemoCase, rows: int) -> None:
    given = arguments(case, attacks=["transfer"], shadow=few(case.shadow, rows))
    with pytest.warns(DoubtWarning, match=f"thin_shadow: {rows} shadow row"):
        record = ll.audit(case.target, **given)
    assert "thin_shadow" in repr(record)
    x, y = few(case.members)
    with pytest.warns(DoubtWarning, match="thin_shadow"):
        ll.infer(
            case.target, x, y, attack="transfer", threshold=0.0, shadow=few(case.shadow, rows), domain=ll.Box(0, 1)
        )


def test_forecast_is_an_upper_bound_and_sends_at_most_a_probe(case: demo.DemoCase) -> None:
    target = Counting(case.target)
    options = {k: v for k, v in arguments(case, thresholds=None).items() if k != "show_progress"}
    assert ll.forecast(target, **options, probe=False).seconds is None and target.rows == 0
    found = ll.forecast(target, **options)
    assert target.rows == found.probe_rows <= 16
    assert found.seconds is not None and 0 < found.seconds[0] <= found.seconds[1]
    record = ll.audit(case.target, **arguments(case, thresholds=None))
    assert record.ledger.rows <= found.rows
    assert [line.name for line in found.lines] == ["gap", "noise", "boundary"]


VOTED: list[Any] = [
    ll.attacks.Boundary(votes=3), ll.attacks.Guided(votes=3), ll.attacks.Calibrated(votes=3),
    ll.attacks.Transfer(relabel_each_epoch=True, recipe=ll.Recipe(epochs=2)),
]  # fmt: skip


@pytest.mark.parametrize("shard", [None, 9])
@pytest.mark.parametrize("attack", [*ll.attacks.names(), *VOTED], ids=str)
def test_set_up_is_billed_as_it_was_forecast(attack: Any, shard: int | None) -> None:
    """Once, whatever the shards, votes included; rows of pictures, of names, with starts and without."""
    x = torch.rand(160, 1, 6, 6, generator=torch.Generator().manual_seed(0))

    def label(rows: Any) -> torch.Tensor:
        numbers = rows if isinstance(rows, torch.Tensor) else torch.from_numpy(np.array(rows))
        return (numbers.flatten(1)[:, :18].mean(1) > 0.5).long()

    frame = pandas.DataFrame(x.flatten(1).numpy()).rename(columns="c{}".format)
    augmented = attack == "augmentation" or getattr(attack, "relabel_each_epoch", False)
    for rows, starts, domain in ((x, x[140:], ll.Box(0, 1)), *([] if augmented else [(frame, None, None)])):
        given: dict[str, Any] = {
            "members": (rows[:10], label(rows[:10])), "nonmembers": (rows[10:20], label(rows[10:20])), "shadow":
            (rows[20:140],), "starts": starts, "attacks": [attack], "thresholds": [], "budget": 100, "references": 2,
            "domain": domain, "family": "mlp",
        }  # fmt: skip
        (line,) = ll.forecast(label, **given, probe=False, calibrate=False).lines
        ledger = ll.audit(label, **given, shard_rows=shard).ledger
        phases = {phase: rows for phase, rows in ledger.setup.items() if not phase.startswith("target.")}
        assert sum(phases.values()) == line.setup_rows, phases
        assert sum(ledger.candidates.values()) <= line.rows


def test_a_forecast_of_the_whole_wait_sends_nothing_more(case: demo.DemoCase) -> None:
    target = Counting(case.target)
    given = {k: v for k, v in arguments(case, thresholds=None).items() if k != "show_progress"}
    given |= {
        "shadow": few(case.shadow, 200),
        "attacks": ["gap", "boundary", "transfer", "guided", "yoqo"],
        "references": 2,
    }
    unmeasured = ll.forecast(target, **given, calibrate=False)
    assert target.rows == 16 and unmeasured.local_seconds is None and unmeasured.wait is None
    assert ll.forecast(target, **given, probe=False).wait is None and target.rows == 16
    found = ll.forecast(target, **given)
    assert target.rows == 32 and found.rows == unmeasured.rows
    lines = {line.name: line for line in found.lines}
    assert all((line.training_seconds or 0.0) >= 0 and (line.attack_seconds or 0.0) > 0 for line in found.lines)
    assert lines["transfer"].training_seconds and lines["guided"].training_seconds == 0  # the models are shared
    assert found.seconds is not None and found.wait is not None and found.local_seconds is not None
    assert found.wait[1] == pytest.approx(found.seconds[1] + found.local_seconds)


def test_default_attacks_with_shadow_rows_compare_with_models(case: demo.DemoCase) -> None:
    given = {"members": few(case.members), "nonmembers": few(case.nonmembers), "shadow": case.shadow, "probe": False}
    fixed = {"domain": ll.Box(0, 1), "budget": 40, "calibrate": False}
    found = ll.forecast(case.target, **given, **fixed)
    assert [line.name for line in found.lines] == ["gap", "noise", "augmentation", "boundary", "transfer", "guided"]
    forest = ll.forecast(case.target, **given, **fixed, family=RandomForestClassifier(5))
    kinds = {line.name for line in forest.lines}
    assert {"gap", "noise", "augmentation", "boundary", "transfer"} <= kinds


def test_attacks_of_one_kind_are_told_apart(case: demo.DemoCase) -> None:
    record = ll.audit(case.target, **arguments(case, attacks=[ll.attacks.Boundary(), ll.attacks.Boundary(norm="linf")]))
    assert list(record.attacks) == ["boundary", "boundary(norm=linf)"]


def test_without_inputs_the_record_holds_none(case: demo.DemoCase, tmp_path: Path) -> None:
    record = ll.audit(case.target, **arguments(case, keep_inputs=False, out=tmp_path / "run"))
    assert record.inputs is None and not record.holds_inputs
    held = np.load(tmp_path / "run" / "arrays.npz")
    pixels = case.members[0][0].numpy().tobytes()
    assert all(pixels[:64] not in bytes(held[name]) for name in held.files)
    json.loads((tmp_path / "run" / "record.json").read_text())


def test_every_kind_of_target_gives_the_same_scores(case: demo.DemoCase) -> None:
    def labels(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return case.target(x).argmax(1)  # type: ignore[no-any-return]

    def scores_only(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return case.target(x).softmax(1)  # type: ignore[no-any-return]

    found = [ll.audit(t, **arguments(case))["boundary"].scores for t in (case.target, labels, scores_only)]
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def _rows(*shape: int) -> tuple[tuple[Any, Any], tuple[Any, Any], Any]:
    """Members, non-members, and a target, of rows of this shape."""
    x = np.random.default_rng(0).random((24, *shape), dtype=np.float32)

    def target(rows: Any) -> Any:
        return (np.asarray(rows).reshape(len(rows), -1).mean(1) > 0.5).astype(int)

    y = target(x)
    return (x[:12], y[:12]), (x[12:], y[12:]), target


@pytest.mark.parametrize("shape", [(1, 100), (100, 1), (1, 1, 50), (3, 5, 3), (60,)])
def test_default_attacks_of_rows_that_are_no_pictures_all_run(shape: tuple[int, ...]) -> None:
    members, nonmembers, target = _rows(*shape)
    record = ll.audit(target, members=members, nonmembers=nonmembers, budget=40, show_progress=False)
    assert list(record.attacks) == ["gap", "noise", "boundary"] and not record.notes


@pytest.mark.parametrize(
    ("shape", "domain"),
    [((6, 6), ll.Box(0, 1)), ((8, 8, 7), ll.Box(0, 1)), ((4, 8, 4), ll.Box(0, 1, layout="hwc"))],
)
def test_default_attacks_of_pictures_move_them(shape: tuple[int, ...], domain: ll.Box) -> None:
    members, nonmembers, target = _rows(*shape)
    record = ll.audit(target, members=members, nonmembers=nonmembers, domain=domain, budget=40, show_progress=False)
    assert list(record.attacks) == ["gap", "noise", "augmentation", "boundary"] and not record.notes


def test_a_layout_that_nobody_said_is_asked_for() -> None:
    members, nonmembers, target = _rows(4, 8, 4)
    record = ll.audit(target, members=members, nonmembers=nonmembers, budget=40, show_progress=False)
    assert list(record.attacks) == ["gap", "noise", "boundary"]
    assert record.notes == (
        "augmentation is left out, and pictures are taken for plain rows: rows of shape (4, 8, 4) may have channels "
        'first or last, their shape does not tell: say Box(…, layout="chw") or layout="hwc"',
    )


def test_a_layout_that_rows_cannot_have_is_refused_before_a_query() -> None:
    members, nonmembers, _ = _rows(3, 8, 8)

    def target(rows: Any) -> Any:
        raise AssertionError("asked")

    with pytest.raises(ll.InputError, match=r'layout="hw": rows have shape \(3, 8, 8\), not 2 axes'):
        ll.audit(target, members=members, nonmembers=nonmembers, domain=ll.Box(0, 1, layout="hw"), show_progress=False)


def test_signatures_and_shared_options_are_one_list() -> None:
    shared = {f.name: f.default for f in dataclasses.fields(AuditOptions)}
    own = {
        ll.audit: {"target", "members", "nonmembers", "keep_inputs", "name", "out", "overwrite", "show_progress"},
        ll.infer: {"target", "x", "y", "attack", "threshold", "show_progress"},
        ll.forecast: {"target", "members", "nonmembers", "probe", "calibrate"},
    }
    lacks = {
        ll.audit: set(),
        ll.infer: {"attacks", "thresholds"},
        ll.forecast: {"replay_only", "accept_changed", "engine", "shard_rows"},
    }
    for function, names in own.items():
        parameters = inspect.signature(function).parameters
        assert set(parameters) == names | set(shared) - lacks[function]
        assert all(parameters[name].default == shared[name] for name in set(shared) & set(parameters))


def test_what_a_record_says_at_first_sight() -> None:
    x = torch.rand(60, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(60) % 2

    def target(rows: torch.Tensor) -> torch.Tensor:  # knows the first half by heart, and nothing of the others
        known = (rows[:, None] == x[None, :30]).all(2)
        return torch.where(known.any(1), y[:30][known.to(torch.int64).argmax(1)], torch.zeros(len(rows)).long())

    with pytest.warns(DoubtWarning, match="constant_labels"):
        record = ll.audit(
            lambda rows: target(rows) * 0, members=(x[:30], y[:30]), nonmembers=(x[30:], y[30:]), attacks=["gap"]
        )
    assert "SERIOUS" in repr(record) and "constant_labels" in repr(record)
    record = ll.audit(target, members=(x[:30], y[:30]), nonmembers=(x[30:], y[30:]), attacks=["gap"], budget=1)
    assert record.accuracy == (1.0, 0.5)
    assert "accuracy 1.000 on members, 0.500 on non-members" in repr(record)
    assert list(record) == ["gap"] and repr(record["gap"]).startswith("AttackResult(gap: AUC 0.750, TPR@10%")
    assert record["gap"].tpr_at_fpr[0.05].value == 0
