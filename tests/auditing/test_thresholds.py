"""Thresholds: what tau is, what it costs, what it must not depend on, and when a rule refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier

from labelleaks import metrics
from labelleaks.attacks.gap import Gap
from labelleaks.auditing.thresholds import (
    FixedFPR,
    HoldOut,
    RandomInputs,
    Setting,
    ShadowCalibrated,
    Threshold,
    ThresholdRule,
    load,
    names,
)
from labelleaks.core import rng
from labelleaks.core.attack import About, Cost, Knowledge, ShadowRows, prepared
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import BudgetExceeded, InputError, NeedsError
from labelleaks.models import shadow_training
from labelleaks.models.training import Recipe

WIDTH, STEPS = 6, 32


def halves(x):
    """Label 1 where the rows' mean is above 1/2."""
    return (x.double().mean(1) > 0.5).to(torch.int64)


@dataclass(frozen=True)
class Walk:
    """A distance attack with a closed form: walk to the far corner in equal steps until the label changes."""

    name: ClassVar[str] = "walk"
    needs: ClassVar[frozenset[str]] = frozenset()
    is_distance: ClassVar[bool] = True
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About("Walks to the far corner.", "distance walked")

    def cost(self, candidates, knowledge, budget):
        return Cost(least=STEPS, most=STEPS)

    def prepare(self, knowledge, candidates, *, seed):
        return knowledge

    def score(self, oracle, candidates, knowledge, *, seed):
        n = len(candidates)
        everyone = torch.arange(n)
        corner = (candidates.y == 0).to(torch.float32)[:, None]
        value = torch.full((n,), candidates.domain.diameter(candidates.shape, "l2"), dtype=torch.float64)
        found = torch.zeros(n, dtype=torch.bool)
        for step in range(STEPS):
            share = step / (STEPS - 1)
            other = oracle.query(candidates.x + share * (corner - candidates.x), everyone, phase="walk") != candidates.y
            there = share * (corner - candidates.x).double().norm(dim=1)
            value = torch.where(other & ~found, there, value)
            found |= other
        status = torch.where(found, int(Status.DONE), int(Status.NO_START))
        return Scores(value, status, torch.full((n,), STEPS))


@dataclass(frozen=True)
class Exposed(Gap):
    """Not a distance, and needs shadow rows; scores by the first feature."""

    name: ClassVar[str] = "exposed"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})

    def score(self, oracle, candidates, knowledge, *, seed):
        assert knowledge.shadow is not None and len(knowledge.shadow) > 0
        base = super().score(oracle, candidates, knowledge, seed=seed)
        return Scores(candidates.x[:, 0].double(), base.status, base.queries)


class Seen:
    """A target that counts what reaches it."""

    def __init__(self, predict):
        self.rows, self._predict = 0, predict

    def __call__(self, x):
        assert float(x.min()) >= 0 and float(x.max()) <= 1
        self.rows += len(x)
        return self._predict(x)


def rows(n, seed=0, width=WIDTH):
    return torch.rand(n, width, generator=torch.Generator().manual_seed(seed))


def setting(attack, *, target=halves, shadow=None, holdout=None, seed=0, candidates=None, family=None):
    seen = Seen(target)
    gate = Gate(seen)
    x = rows(20, 99) if candidates is None else candidates
    like = Candidates(x, target(x), Box(0, 1), 2)
    knowledge = Knowledge(setup=gate.setup_oracle(attack.name), shadow=shadow, family=family)
    return Setting(attack, attack.name, gate, like, knowledge, knowledge, holdout, 64, seed), seen


def cost(rule, s):
    return rule.cost(s.attack, s.candidates, s.knowledge, s.budget, holdout=s.holdout)


def direct(s, x, y):
    """Scores of these rows by the attack itself, through a gate of their own."""
    attack_rows = Candidates(x, y, s.candidates.domain, s.candidates.classes)
    return s.attack.score(Gate(halves).oracle("direct", len(x), None), attack_rows, s.knowledge, seed=s.seed)


# --- random inputs


def test_random_inputs_are_uniform_self_labelled_and_cut_at_the_ascending_percentile():
    s, _ = setting(Walk())
    streams = rng.streams(torch.arange(100), 0, "random inputs")
    x = rng.uniform(streams, WIDTH)
    distances = direct(s, x, halves(x)).value.numpy()
    for percentile in (10, 50, 90):
        threshold = RandomInputs(percentile=percentile).fit(s)
        assert threshold.tau == np.percentile(distances, percentile)
        assert not threshold.upper_bound
    taus = [RandomInputs(percentile=p).fit(s).tau for p in (10, 50, 90)]
    assert taus == sorted(taus) and taus[0] < taus[2]


def test_random_inputs_cost_what_was_said_and_are_billed_to_set_up():
    s, seen = setting(Walk())
    rule = RandomInputs(n=40)
    said = cost(rule, s)
    rule.fit(s)
    assert said == 40 * (1 + STEPS) == seen.rows == s.gate.ledger.rows == s.gate.ledger.setup_rows
    assert set(s.gate.ledger.by_phase()) == {"walk.random_inputs.label", "walk.random_inputs.walk"}


def test_random_inputs_hang_on_the_seed_and_not_on_the_candidates():
    taus = [RandomInputs().fit(setting(Walk(), candidates=c)[0]).tau for c in (rows(20, 1), rows(7, 2))]
    assert taus[0] == taus[1]
    assert RandomInputs().fit(setting(Walk(), seed=1)[0]).tau != taus[0]


def test_random_inputs_without_a_start_stay_in_as_farthest():
    def mostly_one(x):
        return (x.double().mean(1) > 0.55).to(torch.int64) * (x[:, 0] < 0.999).to(torch.int64) * 0

    s, _ = setting(Walk(), target=mostly_one)
    threshold = RandomInputs(n=30).fit(s)
    assert threshold.tau == pytest.approx(np.sqrt(WIDTH))
    assert "30 of them had no start and count as farthest" in threshold.source


def test_random_inputs_are_refused_for_scores_that_are_no_distance():
    s, seen = setting(Gap())
    for attempt in (lambda: cost(RandomInputs(), s), lambda: RandomInputs().fit(s)):
        with pytest.raises(NeedsError, match=r"'gap' is not: use ShadowCalibrated.*HoldOut.*FixedFPR"):
            attempt()
    assert seen.rows == 0


def test_rules_hold_the_attack_to_the_budget():
    s, seen = setting(Walk())
    tight = replace(s, budget=STEPS - 1)
    with pytest.raises(BudgetExceeded):
        RandomInputs(n=5).fit(tight)
    assert seen.rows == 5 * STEPS  # the labels, and all steps but the one too many


# --- hold-out


def _held_out(seed=0):
    members, nonmembers = rows(30, seed) * 0.4, rows(20, seed + 1) * 0.5 + 0.25
    return (members, halves(members)), (nonmembers, halves(nonmembers))


def test_hold_out_takes_the_best_cut_between_known_rows():
    s, seen = setting(Walk())
    members, nonmembers = _held_out()
    rule = HoldOut(members=members, nonmembers=nonmembers)
    said, threshold = cost(rule, s), rule.fit(s)
    x, y = torch.cat([members[0], nonmembers[0]]), torch.cat([members[1], nonmembers[1]])
    expected = metrics.best_threshold(direct(s, x, y).value.numpy(), np.arange(50) < 30)
    assert threshold.tau == expected
    assert threshold.source == "hold-out of 30 known members and 20 known non-members"
    assert not threshold.upper_bound
    assert said == 50 * STEPS == seen.rows == s.gate.ledger.setup_rows


def test_hold_out_rows_that_are_audited_make_an_upper_bound():
    members, nonmembers = _held_out()
    s, _ = setting(Walk(), candidates=torch.cat([rows(5, 3), members[0][:3]]))
    threshold = HoldOut(members=members, nonmembers=nonmembers).fit(s)
    assert threshold.upper_bound and "3 of them are candidates too" in threshold.source


def test_hold_out_takes_numpy_and_the_users_labels():
    members, nonmembers = _held_out()
    s, _ = setting(Walk())
    expected = HoldOut(members=members, nonmembers=nonmembers).fit(s).tau
    named = [(x.double().numpy(), np.array(["no", "yes"])[y.numpy()]) for x, y in (members, nonmembers)]
    before = named[0][0].copy()
    named[0][0].flags.writeable = False
    encode = lambda y: torch.as_tensor((np.asarray(y) == "yes").astype(np.int64))  # noqa: E731
    with_names = replace(s, encode=encode)
    assert HoldOut(members=named[0], nonmembers=named[1]).fit(with_names).tau == expected
    assert np.array_equal(named[0][0], before)


def test_bad_hold_outs_are_refused_before_a_query():
    (x, y), good = _held_out()
    s, seen = setting(Walk())
    with pytest.raises(InputError, match="pair"):
        HoldOut(members=x, nonmembers=good)
    with pytest.raises(InputError, match="30 rows and 29 labels"):
        HoldOut(members=(x, y[:-1]), nonmembers=good)
    with pytest.raises(InputError, match="0 rows"):
        HoldOut(members=(x[:0], y[:0]), nonmembers=good)
    for members, text in (
        ((x[:, :3], y), r"shape \(3,\)"),
        ((x + 5, y), "outside the domain"),
        ((x.where(x > 0.1, torch.nan), y), "NaN"),
        ((x, y + 7), "0 to 1"),
        ((x, y.float() + 0.5), "whole numbers"),
        ((x, ["no"] * 30), "must be numbers"),
    ):
        with pytest.raises(InputError, match=text):
            HoldOut(members=members, nonmembers=good).fit(s)
    assert seen.rows == 0


# --- fixed false-positive rate


def test_fixed_fpr_keeps_its_promise_over_many_draws():
    """With n = 19 and 5 %, tau is the largest of 19: a fresh non-member passes it with probability 1/20 exactly."""
    taken = []
    for draw in range(400):
        held = ShadowRows(rows(19, 2 * draw), torch.zeros(19, dtype=torch.int64))
        s, _ = setting(Exposed(), holdout=held, shadow=ShadowRows(rows(3)))
        taken.append(1 - FixedFPR(fpr=0.05).fit(s).tau)  # the score is uniform: P(score > tau) = 1 - tau
    assert np.mean(taken) == pytest.approx(0.05, abs=4 * np.std(taken) / 20)


def test_fixed_fpr_bills_attack_and_missing_labels():
    known = ShadowRows(rows(60, 1), halves(rows(60, 1)))
    unknown = ShadowRows(rows(60, 1))
    for held, labels, whose in ((known, 0, "their true labels"), (unknown, 60, "the target's own labels")):
        s, seen = setting(Walk(), holdout=held)
        rule = FixedFPR(fpr=0.05, n=25)
        said, threshold = cost(rule, s), rule.fit(s)
        assert said == labels + 25 * STEPS == seen.rows == s.gate.ledger.setup_rows
        assert threshold.source == f"conformal quantile of 25 held-out shadow rows with {whose}"
        assert threshold.objective == "FPR of at most 0.05"


def test_fixed_fpr_does_not_hang_on_the_order_of_the_rows():
    x = rows(60, 1)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(3))
    taus = [FixedFPR(fpr=0.1, n=20).fit(setting(Walk(), holdout=ShadowRows(part))[0]).tau for part in (x, x[order])]
    assert taus[0] == taus[1]


def test_the_targets_own_labels_are_never_below_the_true_ones():
    x = rows(200, 5)
    wrong = halves(x) ^ (torch.arange(200) % 5 == 0)
    taus = [
        FixedFPR(fpr=0.1).fit(setting(Walk(), holdout=held)[0]).tau for held in (ShadowRows(x, wrong), ShadowRows(x))
    ]
    assert taus[1] >= taus[0]


@pytest.mark.parametrize(("fpr", "least"), [(0.01, 99), (0.1, 9), (0.05, 19), (0.001, 999), (0.5, 1)])
def test_fixed_fpr_says_how_many_rows_it_needs(fpr, least):
    assert FixedFPR(fpr=fpr).least == least
    if least > 1:
        s, seen = setting(Walk(), holdout=ShadowRows(rows(least - 1)))
        for attempt in (lambda: cost(FixedFPR(fpr=fpr), s), lambda: FixedFPR(fpr=fpr).fit(s)):
            with pytest.raises(NeedsError, match=f"at least {least} held-out shadow rows, there are {least - 1}"):
                attempt()
        assert seen.rows == 0
    enough, _ = setting(Walk(), holdout=ShadowRows(rows(least)))
    assert np.isfinite(FixedFPR(fpr=fpr).fit(enough).tau)


def test_fixed_fpr_without_a_hold_out():
    with pytest.raises(NeedsError, match="there are 0"):
        FixedFPR().fit(setting(Walk())[0])


# --- shadow-calibrated


def _shadow(n, seed=0):
    """Rows with labels that only memory can know."""
    return ShadowRows(rows(n, seed), _labels=torch.randint(0, 2, (n,), generator=torch.Generator().manual_seed(seed)))


def test_the_simulation_finds_the_threshold_of_a_target_that_memorises():
    """A tree knows its own rows by heart and guesses the rest: correct means member, and tau parts 0 from 1."""
    tree = DecisionTreeClassifier(random_state=0)
    s, seen = setting(Gap(), shadow=_shadow(300), family=tree)
    threshold = ShadowCalibrated().fit(s)
    assert 0 <= threshold.tau < 1
    assert threshold.objective == "balanced accuracy" and not threshold.upper_bound
    assert seen.rows == 0  # the rows had been relabelled before


def test_the_simulation_costs_the_relabelling_once():
    shadow = ShadowRows(rows(120))
    s, seen = setting(Walk(), shadow=shadow, family=DecisionTreeClassifier(random_state=0))
    said = cost(ShadowCalibrated(), s)
    first, second = ShadowCalibrated().fit(s), ShadowCalibrated().fit(s)
    assert said == 120 == seen.rows == s.gate.ledger.setup_rows
    assert first == second
    assert np.isfinite(first.tau)


def test_the_simulation_does_not_hang_on_the_order_of_rows_or_on_candidates():
    x = rows(200, 4)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    tree = DecisionTreeClassifier(random_state=0)
    taus = [
        ShadowCalibrated().fit(setting(Walk(), shadow=ShadowRows(part), family=tree, candidates=c)[0]).tau
        for part, c in ((x, rows(9, 1)), (x[order], rows(30, 2)))
    ]
    assert taus[0] == taus[1]


def test_parts_are_disjoint_by_content_and_sized_by_need():
    x = torch.cat([rows(400), rows(400)])  # each row twice
    for attack, shares in ((Gap(), (2 / 3, 1 / 3, 0)), (Exposed(), (0.4, 0.2, 0.4))):
        s, _ = setting(attack, shadow=ShadowRows(x))
        parts = ShadowCalibrated()._parts(x, s)
        assert sorted(torch.cat(parts).tolist()) == list(range(800))
        keys = [set(rng.content_keys(x[part]).tolist()) for part in parts]
        assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
        for part, share in zip(parts, shares, strict=True):
            assert len(part) / 800 == pytest.approx(share, abs=0.08)


def test_an_attack_that_needs_shadow_rows_gets_its_own_part():
    s, _ = setting(Exposed(), shadow=_shadow(200), family=DecisionTreeClassifier(random_state=0))
    threshold = ShadowCalibrated(most=15).fit(s)
    assert "15 of its members and 15 non-members scored" in threshold.source


def test_the_simulation_refuses_too_little():
    for shadow in (None, _shadow(49)):
        s, seen = setting(Walk(), shadow=shadow)
        for attempt in (lambda s=s: cost(ShadowCalibrated(), s), lambda s=s: ShadowCalibrated().fit(s)):
            with pytest.raises(NeedsError, match="at least 50 shadow rows"):
                attempt()
        assert seen.rows == 0
    same = ShadowRows(rows(1).expand(80, WIDTH).contiguous())
    with pytest.raises(NeedsError, match="too few distinct"):
        ShadowCalibrated().fit(setting(Walk(), shadow=same)[0])


def test_the_simulation_uses_true_labels_where_they_are_known():
    x = rows(120)
    shadow = ShadowRows(x, torch.randint(0, 2, (120,), generator=torch.Generator().manual_seed(5)))
    s, seen = setting(Gap(), shadow=shadow, family=DecisionTreeClassifier(random_state=0))
    said, threshold = cost(ShadowCalibrated(), s), ShadowCalibrated().fit(s)
    assert said == seen.rows == 0
    assert "with their true labels" in threshold.source
    assert 0 <= threshold.tau < 1  # the labels are noise, so only the stand-in's own rows come out right


def test_the_stand_in_takes_the_size_and_the_schedule_of_the_target(monkeypatch):
    shadow = _shadow(200)
    s, _ = setting(Gap(), shadow=shadow, family=DecisionTreeClassifier(random_state=0))
    assert "trained on 30 shadow rows" in ShadowCalibrated(train_rows=30).fit(s).source
    rule = ShadowCalibrated(train_rows=30, recipe=Recipe(epochs=2))
    json.dumps(rule.describe(), allow_nan=False)
    used = []
    monkeypatch.setattr(shadow_training, "stand_in", lambda *args, recipe, **named: used.append(recipe) or halves)
    rule.fit(s)
    assert used == [Recipe(epochs=2)]


# --- all of them


@dataclass(frozen=True)
class Fickle(Gap):
    """Buys the shadow rows' labels, and 3 more rows however often it is set up."""

    name: ClassVar[str] = "fickle"

    def cost(self, candidates, knowledge, budget):
        return Cost(least=1, most=1, setup=3 + (0 if knowledge.shadow.labelled else len(knowledge.shadow)))

    def prepare(self, knowledge, candidates, *, seed):
        knowledge.shadow.labels(knowledge.setup)
        knowledge.setup.query(knowledge.shadow.x[:3], torch.full((3,), -1), phase="again")
        return knowledge


def test_a_rule_runs_the_attack_as_it_was_set_up_and_buys_nothing_of_that_again():
    s, seen = setting(Fickle(), shadow=ShadowRows(rows(50, 8)), holdout=ShadowRows(rows(20, 9), halves(rows(20, 9))))
    members, nonmembers = _held_out()
    before = ShadowRows(s.knowledge.shadow.x)
    s = replace(s, prepared=prepared(s.attack, s.knowledge, s.candidates, seed=0))
    assert seen.rows == 53
    for rule in (HoldOut(members=members, nonmembers=nonmembers), FixedFPR(fpr=0.1)):
        planned = rule.cost(s.attack, s.candidates, replace(s.knowledge, shadow=before), s.budget, s.holdout)
        sent = seen.rows
        rule.fit(s)
        assert seen.rows - sent == planned == cost(rule, s)


def test_rules_have_names_and_describe_themselves():
    x, y = _held_out()[0]
    rules = [RandomInputs(), ShadowCalibrated(), HoldOut(members=(x, y), nonmembers=(x, y)), FixedFPR()]
    for name, rule in zip(names(), rules, strict=True):
        assert type(rule) is load(name)
        assert isinstance(rule, ThresholdRule)
        assert rule.name == name == rule.describe()["name"]


@pytest.mark.parametrize(
    "build",
    [
        lambda: RandomInputs(percentile=101),
        lambda: RandomInputs(percentile=-1),
        lambda: RandomInputs(n=0),
        lambda: FixedFPR(fpr=0),
        lambda: FixedFPR(fpr=1),
        lambda: FixedFPR(fpr=0.01, n=98),
        lambda: ShadowCalibrated(most=0),
        lambda: ShadowCalibrated(train_rows=4),
        lambda: Threshold(float("inf"), "balanced accuracy", "nothing"),
    ],
)
def test_impossible_settings_are_refused(build):
    with pytest.raises(InputError):
        build()
