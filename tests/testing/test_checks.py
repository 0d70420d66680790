"""The checks of plug-ins find what they are there to find."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from labelleaks import data
from labelleaks.auditing.thresholds import FixedFPR, HoldOut, RandomInputs, ShadowCalibrated, Threshold
from labelleaks.core.domains import Box
from labelleaks.data import FileSet, ParsedRows
from labelleaks.errors import InputError
from labelleaks.targets import Classes
from labelleaks.testing import NotConformant, check_dataset, check_target, check_threshold
from labelleaks.testing.plugins import check_plugin, first_sentence

ROWS = torch.rand(12, 4, generator=torch.Generator().manual_seed(0))


class Good:
    """A target that keeps everything."""

    name = "good"
    classes = Classes((0, 1))
    batch_rows = 8
    fingerprint = "v1"

    def describe(self) -> dict[str, Any]:
        return {"kind": "good", "fingerprint": self.fingerprint}

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, x: Tensor) -> Tensor:
        return (x.sum(1) > 2).to(torch.int64)


def test_a_good_target_passes() -> None:
    check_target(Good, ROWS)


class NoLabels(Good):
    def __call__(self, x: Tensor) -> Tensor:
        return x.sum(1)


class Outside(Good):
    def __call__(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), 2)


class Neighbourly(Good):
    def __call__(self, x: Tensor) -> Tensor:
        return (x.sum(1) > x.sum(1).mean()).to(torch.int64)


class Clobbering(Good):
    def __call__(self, x: Tensor) -> Tensor:
        labels = super().__call__(x)
        x.zero_()
        return labels


class Unequal(Good):
    made = 0

    def __init__(self) -> None:
        Unequal.made += 1
        self.fingerprint = f"v{Unequal.made}"


class Nameless(Good):
    def describe(self) -> dict[str, Any]:
        return {"fingerprint": "v2"}


class Once(Good):
    times = 0

    def __enter__(self) -> Any:
        self.times += 1
        return self

    def __call__(self, x: Tensor) -> Tensor:
        labels = super().__call__(x)
        return labels if self.times < 3 else 1 - labels


class Heavy(Good):
    def __init__(self) -> None:
        self.hook = lambda: None


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (NoLabels, "answered \\(12,\\) torch.float32 to 12 rows"),
        (Outside, "answered 2 … 2: codes 0 … 1 are needed"),
        (Neighbourly, "rows get another label alone than among others"),
        (Clobbering, "changed the rows"),
        (Unequal, "two that are made alike have two fingerprints, 'v1' and 'v2'"),
        (Nameless, "describe\\(\\) has no 'kind'"),
        (Nameless, "describe\\(\\) has the fingerprint 'v2', the target has 'v1'"),
        (Once, "answers otherwise when it is opened a second time"),
        (Heavy, "cannot be pickled while it is open"),
        (lambda: torch.nn.Linear(2, 2), "Linear lacks name, classes, batch_rows, fingerprint, describe, __enter__"),
    ],
)
def test_a_bad_target_does_not(make: Callable[[], Any], says: str) -> None:
    Unequal.made = 0
    with pytest.raises(NotConformant, match=says):
        check_target(make, ROWS)


def _pair() -> tuple[Tensor, Tensor]:
    x = torch.rand(20, 16, generator=torch.Generator().manual_seed(1)) * 4 - 1
    return x, torch.arange(20) % 2


@pytest.mark.parametrize(
    "rule",
    [RandomInputs(n=10), FixedFPR(0.1), ShadowCalibrated(most=10), HoldOut(members=_pair(), nonmembers=_pair())],
    ids=lambda rule: rule.name,
)
def test_our_rules_pass(rule: Any) -> None:
    check_threshold(rule)


@dataclass(frozen=True)
class Rule:
    """tau = 0."""

    name: ClassVar[str] = "rule"
    needs: ClassVar[frozenset[str]] = frozenset()

    def cost(self, attack: Any, candidates: Any, knowledge: Any, budget: int, holdout: Any = None) -> int:
        return 0

    def fit(self, setting: Any) -> Any:
        return Threshold(0.0, "nothing", "nothing")

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


class Peeking(Rule):
    def fit(self, setting: Any) -> Any:
        return Threshold(float(setting.candidates.x.mean()), "nothing", "the candidates")


class Asking(Rule):
    def fit(self, setting: Any) -> Any:
        x = setting.candidates.x[:3]
        setting.gate.setup_oracle("rule").query(x, torch.full((3,), -1), phase="more")
        return super().fit(setting)


class Billing(Rule):
    def fit(self, setting: Any) -> Any:
        setting.gate.oracle("rule", 3, 1).query(setting.candidates.x[:3], torch.arange(3), phase="more")
        return super().fit(setting)


class Restless(Rule):
    count = 0

    def fit(self, setting: Any) -> Any:
        Restless.count += 1
        return Threshold(float(Restless.count), "nothing", "nothing")


class Number(Rule):
    def fit(self, setting: Any) -> Any:
        return 0.5


class Silent(Rule):
    def fit(self, setting: Any) -> Any:
        return Threshold(0.0, "", "")


class Misnamed(Rule):
    def describe(self) -> dict[str, Any]:
        return {"name": "other"}


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (Peeking(), "with half of the candidates tau is .* nothing may be fitted on them"),
        (Asking(), r"cost\(\) said 0 rows of set-up at most, fit\(\) sent 3"),
        (Billing(), "billed rows to candidates"),
        (Restless(), "fitted a second time it is"),
        (Number(), "returned float: a labelleaks.Threshold is needed"),
        (Silent(), "what it was chosen for"),
        (Misnamed(), r"describe\(\) returns name and settings"),
        (object(), "is not a threshold rule"),
    ],
)
def test_a_bad_rule_does_not(rule: Any, says: str) -> None:
    with pytest.raises(NotConformant, match=says):
        check_threshold(rule)


def _read(paths: Any, side: Any) -> ParsedRows:
    return ParsedRows(np.full((30, 4), 3.0, np.float32), np.arange(30) % 2, np.zeros(30, np.uint8), ("a", "b"))


GOOD = data.Card(
    name="good", title="Good", home="here", cite="none", licence="none", rows=(30, 0), shape=(4,), classes=2,
    sets=(FileSet((), _read),), scale=None, domain=Box(0, 4),
)  # fmt: skip
_draw = np.random.default_rng(0)


def _random(paths: Any, side: Any) -> ParsedRows:
    return replace(_read(paths, side), x=_draw.uniform(0, 4, (30, 4)).astype(np.float32))


@pytest.mark.parametrize("card", [GOOD, data.card("digits")], ids=lambda card: card.name)
def test_a_good_data_set_passes(card: data.Card) -> None:
    check_dataset(card)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (replace(GOOD, rows=(31, 0)), "31 \\+ 0 rows"),
        (replace(GOOD, shape=(5,)), "rows of \\(5,\\)"),
        (replace(GOOD, classes=3), "3 classes"),
        (replace(GOOD, domain=Box(0, 2)), "outside the domain"),
        (replace(GOOD, sets=(FileSet((), _random),)), "read a second time it has other rows"),
    ],
)
def test_a_bad_data_set_does_not(card: data.Card, says: str) -> None:
    with pytest.raises(NotConformant, match=says):
        check_dataset(card)


PLUGINS = '''
from dataclasses import dataclass
from typing import ClassVar
from labelleaks.attacks import Gap
from labelleaks.data import Card, FileSet

class Undocumented(Gap): pass

class Unsourced(Gap):
    """Asks as gap does."""

@dataclass(frozen=True)
class Demanding(Gap):
    """Asks as gap does.

    Source: none."""
    strength: int

class Unrevised(Gap):
    """Asks as gap does.

    Source: none."""
    revision = 0
    about = "asks"

class NoAttack:
    """Looks like one.

    Source: none."""
    name = "none"

CARD = Card(name="c", title="", home="h", cite="c", licence="l", rows=(1, 0), shape=(1,), classes=2,
            sets=(FileSet((), lambda paths, side: None),))
'''


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("attacks", "Undocumented", "first sentence of the docstring of badplugins:Undocumented"),
        ("attacks", "Unsourced", "does not say where it comes from"),
        ("attacks", "Demanding", "without settings it cannot be made.*strength"),
        ("attacks", "Unrevised", "revision is 0"),
        ("attacks", "Unrevised", "about says in one sentence"),
        ("attacks", "NoAttack", "lacks score of labelleaks.core.attack.Attack"),
        ("attacks", "CARD", "a class is needed, it is a Card"),
        ("thresholds", "NoAttack", "lacks fit of labelleaks.auditing.thresholds.base.ThresholdRule"),
        ("domains", "NoAttack", "lacks bounds of labelleaks.core.domains.base.Domain"),
        ("datasets", "NoAttack", "a labelleaks.data.Card is needed"),
        ("datasets", "CARD", "first sentence of the docstring of the module"),
        ("datasets", "CARD", "title is empty"),
        ("targets", "CARD", "a class or a function is needed"),
    ],
)
def test_a_bad_plugin_does_not_pass(
    kind: Any, name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "badplugins.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "badplugins", raising=False)
    with pytest.raises(NotConformant, match=says):
        check_plugin(kind, f"badplugins:{name}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sets": ()}, "card 'good': sets is empty"),
        ({"domain": None}, "card 'good': without a scale .* give domain="),
        ({"npz": ("good.npz",)}, "card 'good': npz is for pictures or bits"),
    ],
)
def test_a_card_that_cannot_be_read_is_none(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(GOOD, **change)


def test_the_first_sentence_is_the_first_paragraph() -> None:
    assert first_sentence("One\n    line.\n\n    More.") == "One line." and first_sentence(None) == ""
