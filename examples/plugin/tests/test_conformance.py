"""What the author of a plug-in runs on each part of it."""

from __future__ import annotations

import pytest
import torch
from labelleaks_survey.attack import Nudge
from labelleaks_survey.domain import Likert
from labelleaks_survey.target import Neighbours
from labelleaks_survey.threshold import Deviations

from labelleaks import data
from labelleaks.testing import check_attack, check_dataset, check_domain, check_plugin, check_target, check_threshold


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("attacks", "nudge"),
        ("targets", "neighbours"),
        ("domains", "likert"),
        ("datasets", "survey"),
        ("thresholds", "deviations"),
    ],
)
def test_it_has_what_a_plugin_has_to_have(kind: str, name: str) -> None:
    check_plugin(kind, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["vector", "image", "binary", "mixed", "memory"])
@pytest.mark.parametrize("votes", [1, 3])
def test_the_attack_conforms(case: str, votes: int) -> None:
    check_attack(Nudge(votes=votes), case)


@pytest.mark.parametrize("points", [2, 5, 100])
def test_the_domain_conforms(points: int) -> None:
    check_domain(Likert(points), (12,))
    check_domain(Likert(points), (3, 4))


def test_the_target_conforms() -> None:
    rows = torch.randint(1, 6, (40, 12), generator=torch.Generator().manual_seed(0)).to(torch.float32)
    check_target(lambda: Neighbours("survey", (0, 150)), rows)


def test_the_data_set_conforms() -> None:
    check_dataset(data.card("survey"))


def test_the_rule_conforms() -> None:
    check_threshold(Deviations(1.0))
