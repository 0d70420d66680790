"""What must be true of any experiment with label-only attacks, on a small target that is trained here.

The list is that of the notes on the paper; that MemGuard leaves every label-only score as it is, is in test_studies.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from labelleaks import data, metrics
from labelleaks.attacks import Augmentation, Boundary, Gap, Noise, Transfer
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.oracle.label_oracle import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.data import label_leaks_split
from labelleaks.experiments.saltpepper import SaltAndPepper
from labelleaks.models import architectures
from labelleaks.models.training import Recipe, train
from labelleaks.targets import wrap

ROWS = 150
LABELS = 120
SEARCHES = {"hopskipjump": Boundary(), "qeba": Boundary(subspace="resize"), "salt_and_pepper": SaltAndPepper()}
ATTACKS: dict[str, Attack] = {
    "gap": Gap(),
    "noise": Noise(copies=LABELS - 1),
    "augmentation": Augmentation(),
    "transfer": Transfer(recipe=Recipe(epochs=5)),
    **SEARCHES,
}


@dataclass(frozen=True, eq=False)
class Setting:
    """Members, non-members and rows seen by nobody, all of one size; a target that fits its members."""

    model: torch.nn.Module
    members: tuple[Tensor, Tensor]
    others: tuple[Tensor, Tensor]
    fresh: tuple[Tensor, Tensor]
    shadow: tuple[Tensor, Tensor]
    digits: data.Dataset

    def accuracy(self, rows: tuple[Tensor, Tensor]) -> float:
        with torch.inference_mode():
            return float((self.model(rows[0]).argmax(1) == rows[1]).double().mean())

    def score(self, attack: Attack, first: tuple[Tensor, Tensor], most: int = ROWS) -> tuple[Scores, Tensor, Tensor]:
        """Scores of the first ``most`` rows of ``first`` and of the others, who is of ``first``, rows seen by the
        target for each candidate."""
        parts = [(x[:most], y[:most]) for x, y in (first, self.others)]
        x, y = (torch.cat(part) for part in zip(*parts, strict=True))
        candidates = Candidates(x, y, self.digits.domain, self.digits.classes)
        gate = Gate(wrap(self.model, numpy=False, classes=self.digits.classes, width=64))
        knowledge = Knowledge(setup=gate.setup_oracle("set-up"))
        if attack.name == "transfer":
            knowledge = Knowledge(knowledge.setup, ShadowRows(self.shadow[0]), family="mlp", references=1)
        scores = attack.score(gate.oracle(attack.name, len(x), LABELS), candidates, knowledge, seed=0)
        seen = torch.stack(list(gate.ledger.candidates.values())).sum(0)
        return scores, torch.arange(len(x)) < len(parts[0][0]), seen


@pytest.fixture(scope="module")
def setting() -> Setting:
    digits = data.load("digits")
    split = label_leaks_split(digits, (ROWS,), 2 * ROWS, seed=1, protocol="clean")
    members = digits.rows(split.members(ROWS))
    rest = digits.rows(split.nonmembers())
    model = train(architectures.build("mlp", (1, 8, 8), 10, seed=0), *members, Recipe(epochs=15), seed=0)
    half = (rest[0][:ROWS], rest[1][:ROWS]), (rest[0][ROWS:], rest[1][ROWS:])
    return Setting(model, members, *half, digits.rows(split.shadow[:300]), digits)


def test_the_gap_attack_is_half_and_half_the_gap(setting: Setting) -> None:
    scores, member, _ = setting.score(Gap(), setting.members)
    gap = setting.accuracy(setting.members) - setting.accuracy(setting.others)
    assert gap > 0.03
    right = float(((scores.value > 0.5) == member).double().mean())
    assert right == pytest.approx(0.5 + gap / 2, abs=1e-12)
    assert metrics.auc(scores.value, member).value == pytest.approx(0.5 + gap / 2, abs=1e-12)


@pytest.mark.parametrize("search", ["hopskipjump"])
def test_the_l0_distance_is_nearly_the_gap_attack(setting: Setting, search: str) -> None:
    """Nearly: where a value is clipped at the candidate's own, the point has it too."""
    scores, member, _ = setting.score(SEARCHES[search], setting.members, 60)
    gap, member, _ = setting.score(Gap(), setting.members, 60)
    changed = metrics.auc(scores.details["distance_l0"] > 0, member).value
    assert changed == metrics.auc(gap.value, member).value


@pytest.mark.parametrize("name", ATTACKS)
def test_where_nobody_is_a_member_nothing_is_told(setting: Setting, name: str) -> None:
    """Fresh rows in the members' place: 0.5 is within the AUC's 99.9 % interval (seven attacks are asked)."""
    scores, fresh, _ = setting.score(ATTACKS[name], setting.fresh, 100)
    found = metrics.auc(scores.value, fresh, level=0.999)
    assert found.low is not None and found.high is not None and found.low <= 0.5 <= found.high


@pytest.mark.parametrize("name", ATTACKS)
def test_exchanged_groups_turn_the_auc_round(setting: Setting, name: str) -> None:
    scores, member, _ = setting.score(ATTACKS[name], setting.members, 40)
    one, other = metrics.auc(scores.value, member).value, metrics.auc(scores.value, ~member).value
    assert one is not None and one != 0.5 and other == pytest.approx(1 - one, abs=1e-12)


@pytest.mark.parametrize("name", ATTACKS)
def test_labels_are_counted_as_they_are_sent(setting: Setting, name: str) -> None:
    """The count of each attack: 1 for a misclassified candidate of a search, else what its formula says."""
    scores, _, seen = setting.score(ATTACKS[name], setting.members, 40)
    assert torch.equal(scores.queries, seen)
    wrong = scores.status == int(Status.MISCLASSIFIED)
    fixed = {"gap": 1, "transfer": 1, "noise": LABELS, "augmentation": 11}.get(name)
    if fixed is not None:
        assert set(scores.queries[~wrong].tolist()) == {fixed}
    else:
        assert wrong.any() and set(scores.queries[wrong].tolist()) == {1}
        assert int(scores.queries.max()) <= LABELS


@pytest.mark.parametrize("name", ["hopskipjump", "qeba"])
def test_every_point_that_is_found_has_another_label_and_lies_in_the_domain(setting: Setting, name: str) -> None:
    scores, _, _ = setting.score(SEARCHES[name], setting.members, 40)
    found = (scores.status == int(Status.DONE)) | (scores.status == int(Status.BUDGET))
    assert int(found.sum()) > 50
    point = scores.details["adversarial"]
    x, y = (torch.cat([a[:40], b[:40]]) for a, b in zip(setting.members, setting.others, strict=True))
    with torch.inference_mode():
        label = setting.model(point).argmax(1)
    assert not (label == y)[found].any()
    assert torch.equal(setting.digits.domain.project(point), point)
    moved = (point - x).flatten(1).double().norm(dim=1)
    assert torch.allclose(scores.value[found], moved[found], atol=1e-6)
