"""Set-up: bought once a run whatever the shards, votes and journal, and as many rows as the forecast says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import labelleaks as ll
from labelleaks import attacks
from labelleaks.auditing.decisions import Decisions
from labelleaks.auditing.thresholds import FixedFPR, RandomInputs, ShadowCalibrated
from labelleaks.core.attack import About, Attack, Cost, Knowledge
from labelleaks.core.oracle.label_oracle import LabelOracle
from labelleaks.core.types import Candidates, Scores
from labelleaks.errors import InputError, LabelLeaksError
from labelleaks.models.training import Recipe
from labelleaks.testing.planted import case

SHORT = Recipe(epochs=1)
SHADOW = 160


@dataclass(frozen=True)
class Neighbour:
    """Somebody else's attack: members are far from the nearest shadow row with another label. Nothing is done where
    there is nobody."""

    late: bool = False
    """Whether it buys its set-up in score, as it must not."""

    name: ClassVar[str] = "neighbour"
    needs: ClassVar[frozenset[str]] = frozenset({"shadow"})
    is_distance: ClassVar[bool] = False
    anytime: ClassVar[bool] = True
    whole: ClassVar[bool] = False
    revision: ClassVar[int] = 1
    about: ClassVar[About] = About("Looks for the nearest row with another label.", "distance to it", relabels=True)

    def cost(self, candidates: Candidates, knowledge: Knowledge, budget: int) -> Cost:
        assert knowledge.shadow is not None
        return Cost(least=1, most=1, setup=0 if knowledge.shadow.labelled else len(knowledge.shadow))

    def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Knowledge:
        if knowledge.shadow is not None and not self.late:
            knowledge.shadow.labels(knowledge.setup)
        return knowledge

    def score(self, oracle: LabelOracle, candidates: Candidates, knowledge: Knowledge, *, seed: int) -> Scores:
        n = len(candidates)
        if n == 0:
            return Scores(torch.zeros(0).double(), torch.zeros(0).long(), torch.zeros(0).long())
        assert knowledge.shadow is not None
        labels = knowledge.shadow.labels(knowledge.setup)
        own = oracle.query(candidates.x, torch.arange(n), phase="correct")
        away = (candidates.x[:, None] - knowledge.shadow.x[None]).double().square().sum(2)
        away[own[:, None] == labels[None]] = torch.inf
        return Scores(away.min(1).values, torch.zeros(n).long(), torch.ones(n).long())


def rows(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed))
    return x, halves(x)


def halves(x: torch.Tensor) -> torch.Tensor:
    return (x.double().mean(1) > 0.5).to(torch.int64)


def given(*chosen: Attack, **others: Any) -> dict[str, Any]:
    """20 members, 20 non-members, 160 shadow rows."""
    sides = {"members": rows(20, 1), "nonmembers": rows(20, 2), "shadow": (rows(SHADOW, 3)[0],)}
    return {"attacks": list(chosen), **sides, "classes": 2, "budget": 120, "thresholds": [], **others}


def bought(record: ll.AuditRecord, name: str) -> int:
    """Rows of set-up that the attack was billed."""
    return sum(rows for phase, rows in record.ledger.setup.items() if phase.startswith(f"{name}."))


def lines(**settings: Any) -> Mapping[str, int]:
    """Rows of set-up that the forecast announces, by attack."""
    found = ll.forecast(halves, probe=False, **settings)
    return {line.name: line.setup_rows for line in found.lines}


def test_shards_buy_the_set_up_of_somebody_elses_attack_once() -> None:
    settings = given(Neighbour())
    rows_in_all = ll.forecast(halves, probe=False, **settings).rows
    record = ll.audit(halves, shard_rows=10, budget_total=rows_in_all, **settings)
    assert bought(record, "neighbour") == SHADOW == lines(**settings)["neighbour"]
    assert record["neighbour"].about == Neighbour.about
    assert np.array_equal(record["neighbour"].scores, ll.audit(halves, **settings)["neighbour"].scores)


@pytest.mark.parametrize("shard_rows", [None, 10])
def test_set_up_in_score_is_refused_by_name(shard_rows: int | None) -> None:
    with pytest.raises(LabelLeaksError, match=r"neighbour: score\(\) asked for 160 rows of set-up .*prepare\(\)"):
        ll.audit(halves, shard_rows=shard_rows, **given(Neighbour(late=True)))


def test_an_attack_that_prepares_nothing_usable_is_refused_by_name() -> None:
    @dataclass(frozen=True)
    class Forgetful(Neighbour):
        def prepare(self, knowledge: Knowledge, candidates: Candidates, *, seed: int) -> Any:
            return None

    with pytest.raises(LabelLeaksError, match=r"neighbour: prepare\(\) returned NoneType"):
        ll.audit(halves, **given(Forgetful()))


def test_an_attack_that_lacks_members_is_told_what_to_add() -> None:
    class Old:
        name, needs, is_distance, anytime, whole, revision = "old", frozenset[str](), False, True, False, 1

        def cost(self) -> None: ...
        def score(self) -> None: ...

    with pytest.raises(InputError, match=r"attack Old lacks about, prepare .*: add about: .*; def prepare\(self"):
        ll.audit(halves, **given(Old()))  # type: ignore[arg-type]


def test_votes_of_the_calibrated_attack_cost_what_the_forecast_says() -> None:
    settings = given(attacks.Calibrated(votes=3, recipe=SHORT), references=1)
    record = ll.audit(halves, **settings)
    assert bought(record, "calibrated") == lines(**settings)["calibrated"] == SHADOW + 3 * SHADOW


def test_thresholds_are_billed_to_the_attack_of_two_that_they_are_for() -> None:
    settings = given(attacks.Boundary(), attacks.Boundary(norm="linf"), thresholds=[RandomInputs(n=20)])
    record, names = ll.audit(halves, **settings), ("boundary", "boundary(norm=linf)")
    assert tuple(record.attacks) == names
    for name in names:
        own = {phase: rows for phase, rows in record.ledger.setup.items() if phase.startswith(f"{name}.random_inputs.")}
        assert own[f"{name}.random_inputs.label"] == 20 and 20 * 20 < sum(own.values()) <= 20 * (1 + 120)


def test_a_start_pool_is_bought_once_for_the_candidates_and_every_rule() -> None:
    settings = given(attacks.Boundary(votes=3), thresholds=[RandomInputs(n=5), ShadowCalibrated(most=5)])
    record = ll.audit(halves, shard_rows=10, **settings)
    assert record.ledger.setup["boundary.starts"] == 3 * SHADOW


def test_models_that_are_relabelled_in_every_epoch_are_trained_once_for_shards_and_rules() -> None:
    made = case("image")
    member, x, y = made.member, made.candidates.x, made.candidates.y
    sides = {"members": (x[member], y[member]), "nonmembers": (x[~member], y[~member]), "shadow": (made.shadow,)}
    attack = attacks.Transfer(recipe=Recipe(epochs=2), relabel_each_epoch=True)
    settings = {**sides, "attacks": [attack], "classes": 2, "thresholds": [FixedFPR(0.2)]}
    settings["domain"] = made.candidates.domain
    whole, cut = (ll.audit(made.target(), shard_rows=size, **settings) for size in (None, 10))
    assert whole.ledger.setup == cut.ledger.setup
    relabelled = whole.ledger.setup["transfer.relabel"]  # without those that are held out for the rule, in two epochs
    assert 0 < relabelled < 2 * len(made.shadow) and relabelled % 2 == 0
    for one in (lambda r: r["transfer"].scores, lambda r: r["transfer"].evaluation.decisions[1].threshold.tau):
        assert np.array_equal(one(whole), one(cut))


def test_attacks_of_one_kind_have_short_names_that_tell_them_apart() -> None:
    ends = [torch.zeros(6), torch.full((6,), 0.5)]
    chosen = [attacks.DHAttack(queries=4, towards=end, recipe=SHORT) for end in ends]
    record = ll.audit(halves, references=1, **given(attacks.DHAttack(queries=4, recipe=SHORT), *chosen))
    names = tuple(record.attacks)
    assert len(set(names)) == 3 and all(len(name) < 80 and "\n" not in name and "tensor(" not in name for name in names)
    again = ll.audit(halves, references=1, **given(*chosen))
    assert set(again.attacks) < set(names), "a name depends on the attack's settings alone"
    with pytest.raises(InputError, match="asked for twice with the same settings"):
        ll.audit(halves, **given(*(attacks.DHAttack(queries=4, towards=torch.zeros(6)) for _ in range(2))))
    tried = ll.audit(halves, references=1, **{**given(), "attacks": ["ladder", chosen[1]], "budget": 5})
    assert sum(name.startswith("dhattack") for name in tried.attacks) == 2


ALL: tuple[Attack, ...] = (
    attacks.Gap(),
    attacks.Noise(copies=5),
    attacks.Boundary(),
    attacks.Boundary(votes=3),
    attacks.Transfer(recipe=SHORT),
    attacks.Guided(recipe=SHORT),
    attacks.Guided(recipe=SHORT, votes=3, labels=20),
    attacks.Yoqo(recipe=SHORT, rounds=2),
    attacks.Oslo(recipe=SHORT, budgets=2, steps=2),
    attacks.DHAttack(recipe=SHORT, queries=6),
    attacks.Chameleon(recipe=SHORT, copies=4),
    attacks.Calibrated(recipe=SHORT),
    attacks.Calibrated(recipe=SHORT, votes=3),
    Neighbour(),
)


def _id(attack: Attack) -> str:
    return f"{attack.name}{getattr(attack, 'votes', '')}"


def test_every_attack_is_here_but_the_one_for_pictures() -> None:
    assert {attack.name for attack in ALL} >= set(attacks.names()) - {"augmentation"}


POOLED = [attack for attack in ALL if attack.name in ("boundary", "calibrated")]


@pytest.mark.parametrize(
    ("attack", "starts"),
    [pytest.param(attack, None, id=_id(attack)) for attack in ALL]
    + [pytest.param(attack, 30, id=f"{_id(attack)}-starts") for attack in POOLED],
)
def test_set_up_is_what_was_forecast_in_every_way_to_run(attack: Attack, starts: int | None, tmp_path: Path) -> None:
    """Whole or in shards, with a journal, and again from it: the same scores, and set-up to the row."""
    x, y = rows(30, 1)
    settings: dict[str, Any] = {"shadow": (rows(SHADOW, 3)[0],), "starts": starts and rows(starts, 4)[0]}
    settings |= {"classes": 2, "budget": 120, "references": 2}
    due = lines(members=(x, y), nonmembers=(x, y), attacks=[attack], thresholds=[], **settings)[attack.name]
    journal = tmp_path / "answers.journal"

    def infer(**others: Any) -> Decisions:
        return ll.infer(halves, x, y, attack=attack, threshold=0.0, **settings, **others)

    def own(ledger: dict[str, int]) -> dict[str, int]:
        return {phase: count for phase, count in ledger.items() if phase.startswith(f"{attack.name}.")}

    whole = infer()
    assert sum(own(whole.ledger.setup).values()) == due
    ways = {"shards": infer(shard_rows=7), "journal": infer(journal=journal, shard_rows=7)}
    for how, found in ways.items():
        assert own(found.ledger.setup) == own(whole.ledger.setup), how
    ways["again"] = infer(journal=journal, replay_only=True)
    assert ways["again"].ledger.rows == 0
    assert own(ways["again"].ledger.replayed_setup) == own(whole.ledger.setup)
    for how, found in ways.items():
        for what in ("scores", "status", "queries"):
            assert np.array_equal(getattr(found, what), getattr(whole, what)), (how, what)


@pytest.mark.parametrize("shard_rows", [None, 7])
def test_all_attacks_of_a_run_share_what_was_bought_and_keep_to_the_forecast(shard_rows: int | None) -> None:
    chosen = [attack for attack in ALL if _id(attack) not in ("boundary3", "guided3", "calibrated3")]
    settings = given(*chosen, references=2, thresholds=[RandomInputs(n=5), FixedFPR(0.1)])
    found = ll.forecast(halves, probe=False, **settings)
    record = ll.audit(halves, shard_rows=shard_rows, budget_total=found.rows, **settings)
    for line in found.lines:
        assert bought(record, line.name) <= line.setup_rows, line.name
    assert record.ledger.rows <= found.rows
