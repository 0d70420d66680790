"""Attacks' settings: wrong kinds are refused in one sentence, NumPy's numbers are kept as Python's."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from labelleaks import attacks
from labelleaks.errors import InputError

WHOLE = {  # setting: another value that is too small
    ("noise", "copies"): 0,
    ("boundary", "factor"): 0,
    ("boundary", "max_iterations"): 0,
    ("boundary", "votes"): 2,
    ("calibrated", "factor"): 0,
    ("guided", "labels"): 1001,
    ("guided", "ways"): 65,
    ("guided", "votes"): 51,
    ("dhattack", "queries"): 1,
    ("oslo", "budgets"): 0,
    ("oslo", "steps"): 0,
    ("yoqo", "rounds"): -1,
    ("chameleon", "copies"): 0,
}
REAL = {
    ("noise", "emphasis"): 20.5,
    ("dhattack", "sd_floor"): 0.0,
    ("oslo", "source"): 0.0,
    ("oslo", "eps"): 1.1,
    ("oslo", "momentum"): -0.1,
    ("oslo", "diversity"): 2,
    ("yoqo", "alpha"): 0.0,
    ("yoqo", "threshold"): 0,
    ("yoqo", "step"): -1,
    ("chameleon", "kl"): 0.0,
}
SEVERAL = {
    ("noise", "magnitudes"): (0.1, 0.0),
    ("augmentation", "rotations"): (181,),
    ("augmentation", "translations"): (1.5,),
    ("oslo", "taus"): (0.5, 1),
}
NAMED = [("boundary", "norm"), ("boundary", "subspace"), ("boundary", "search"), ("calibrated", "search")]
NAMED += [("transfer", "statistic"), ("dhattack", "towards"), ("yoqo", "mode")]
FLAGS = [("transfer", "relabel_each_epoch"), ("dhattack", "early_stop"), ("oslo", "smooth")]
RECIPES = ["transfer", "guided", "yoqo", "oslo", "dhattack", "chameleon", "calibrated"]

NO_NUMBERS = ["x", "1", [1], 1j, True, np.True_, math.nan, -math.inf, math.inf, np.float64("nan"), np.ones(2), {}]
NO_LISTS = [0.5, "", "0.5", b"\1", 1, ("a",), (True,), (math.nan,), (math.inf,), ((0.5,),), np.array(0.5), [[0.5]]]


def refused(attack: str, setting: str, value: Any, must: str = "") -> None:
    with pytest.raises(InputError) as caught:
        attacks.load(attack)(**{setting: value})
    said = str(caught.value)
    assert re.match(rf"{attack}: {setting} must be .*{must}.*, got .+", said), said
    assert "\n" not in said and len(said) < 300


def kept(attack: str, setting: str, value: Any) -> Any:
    return getattr(attacks.load(attack)(**{setting: value}), setting)


@pytest.mark.parametrize(("attack", "setting"), WHOLE)
def test_whole_numbers(attack: str, setting: str) -> None:
    for value in (*NO_NUMBERS, 3.0, WHOLE[attack, setting], np.int64(WHOLE[attack, setting])):
        refused(attack, setting, value, "whole number")
    if setting != "ways":  # of guided: None leaves them to the domain
        refused(attack, setting, None, "whole number")
    for value in (3, np.int64(3), np.uint8(3)):
        assert kept(attack, setting, value) == 3 and type(kept(attack, setting, value)) is int


@pytest.mark.parametrize(("attack", "setting"), REAL)
def test_numbers(attack: str, setting: str) -> None:
    for value in (*NO_NUMBERS, 10**400, REAL[attack, setting], np.float64(REAL[attack, setting])):
        refused(attack, setting, value, "number in")
    if setting not in ("alpha", "threshold"):
        refused(attack, setting, None, "number in")
    for value in (1, 1.0, np.int64(1), np.float32(1)):
        assert kept(attack, setting, value) == 1.0 and type(kept(attack, setting, value)) is float


@pytest.mark.parametrize(("attack", "setting"), SEVERAL)
def test_several_numbers(attack: str, setting: str) -> None:
    for value in (*NO_LISTS, SEVERAL[attack, setting]):
        refused(attack, setting, value, "numbers in")
    one = 1 if setting == "translations" else 0.5
    for value in ([one], {one}, np.array([one]), torch.tensor([one]), (n for n in (one,))):
        found = kept(attack, setting, value)
        assert found == (one,) and type(found[0]) is type(one)


@pytest.mark.parametrize(("attack", "setting"), NAMED)
def test_names(attack: str, setting: str) -> None:
    for value in ("hop", 1, True, ["l2"], np.array(["l2", "dct"]), np.ones((40, 40))):
        refused(attack, setting, value, "one of")


@pytest.mark.parametrize(("attack", "setting"), FLAGS)
def test_flags(attack: str, setting: str) -> None:
    for value in ("no", 0, 1.0, None, np.ones(2)):
        refused(attack, setting, value, "True or False")
    assert kept(attack, setting, np.False_) is False


@pytest.mark.parametrize("attack", RECIPES)
def test_recipes(attack: str) -> None:
    for value in ("long", 5, {"epochs": 3}, True):
        refused(attack, "recipe", value, "a Recipe or None")


@pytest.mark.parametrize(
    ("attack", "settings", "says"),
    [
        ("oslo", {"taus": 0.5}, "oslo: taus must be 1 or more numbers in (0, 1), got 0.5"),
        ("oslo", {"taus": ("a",)}, "oslo: taus must be 1 or more numbers in (0, 1), got 'a' in ('a',)"),
        ("oslo", {"diversity": 2}, "oslo: diversity must be a number in [0, 1], got 2"),
        ("oslo", {"momentum": None}, "oslo: momentum must be a number in [0, inf), got None"),
        ("guided", {"labels": 2, "votes": 3}, "guided: votes must be an odd whole number from 1 to labels=2, got 3"),
        ("guided", {"labels": True}, "guided: labels must be a whole number from 1 to 1000, got True"),
        ("boundary", {"subspace": "pca"}, "boundary: subspace must be one of 'resize', 'dct' or None, got 'pca'"),
        (
            "calibrated",
            {"search": "hop"},
            "calibrated: search must be one of 'hopskipjump', 'surfree', 'rays', 'signopt', 'tangent', got 'hop'",
        ),
        (
            "augmentation",
            {"rotations": (), "translations": []},
            "augmentation: give at least one of rotations and translations, got neither",
        ),
    ],
)
def test_the_sentence(attack: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        attacks.load(attack)(**settings)
    assert str(caught.value) == says


def test_every_setting_is_checked() -> None:
    listed = {*WHOLE, *REAL, *SEVERAL, *NAMED, *FLAGS, *((attack, "recipe") for attack in RECIPES)}
    listed |= {("calibrated", setting) for attack, setting in listed if attack == "boundary"}
    found = {(name, field.name) for name in attacks.names() for field in fields(attacks.load(name))}
    assert found == listed
