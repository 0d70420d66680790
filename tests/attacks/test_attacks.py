"""The registry: attacks by name, loaded when used, with one clear line for a wrong name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from labelleaks import attacks
from labelleaks.core.attack import Attack
from labelleaks.errors import InputError


@pytest.mark.parametrize("name", attacks.names())
def test_a_name_gives_a_configured_attack(name: str) -> None:
    attack = attacks.resolve(name)
    assert isinstance(attack, Attack)
    assert attack.name == name
    assert type(attack) is attacks.load(name) is getattr(attacks, type(attack).__name__)
    assert attacks.resolve(attack) is attack


def test_every_attack_is_public() -> None:
    assert {attacks.load(name).__name__ for name in attacks.names()} <= set(attacks.__all__)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("boundry", "unknown attack 'boundry'; did you mean 'boundary'"),
        ("zzz", "known: augmentation, boundary, .*gap, .*transfer"),
        (
            3,
            "3 is not an attack: it lacks name, needs, is_distance, anytime, whole, revision, about, cost, prep",
        ),
        (attacks.Gap, r"Gap is a class: configure it, Gap\(\)"),
    ],
)
def test_what_is_not_an_attack_is_refused(given, says: str) -> None:
    with pytest.raises(InputError, match=says):
        attacks.resolve(given)


def test_an_attack_that_lacks_most_members_is_told_what_to_add() -> None:
    class Halfway:
        name = "halfway"

        def score(self) -> None: ...

    with pytest.raises(
        InputError, match=r"^attack Halfway lacks needs, .*: add needs: ClassVar.*; def prepare"
    ) as refused:
        attacks.resolve(Halfway())  # type: ignore[arg-type]
    assert " object at 0x" not in str(refused.value)


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Boundry'"):
        _ = attacks.Boundry


def test_only_what_is_used_is_imported() -> None:
    code = (
        "import sys, labelleaks.attacks as a; a.names(); before = 'torch' in sys.modules; a.Gap();"
        "print(before, sorted(m for m in sys.modules if m.startswith('labelleaks.attacks.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False ['labelleaks.attacks.gap']"
