"""Checks of an attack's settings, for its ``__post_init__``. A refusal names attack, setting, what it must be and is.

What passes is kept as plain Python: NumPy's integers as int, real numbers as float, several numbers as a tuple. True
and False are not numbers; NaN and infinities are in no interval.

Every function takes the attack, which has a ``name``, and the setting's name, and raises InputError.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from labelleaks.errors import InputError

__all__ = ["choice", "flag", "number", "numbers", "optional", "whole"]

_LONGEST = 80


def whole(of: Any, name: str, least: int, most: int | str | None = None, *, odd: bool = False) -> None:
    """Keep a whole number of at least ``least``, at most ``most``: a number, or the name of a setting kept before."""
    value = _whole(getattr(of, name))
    highest = getattr(of, most) if isinstance(most, str) else most
    if value is None or value < least or (highest is not None and value > highest) or (odd and value % 2 == 0):
        end = f"{most}={highest}" if isinstance(most, str) else most
        span = f"of at least {least}" if most is None else f"from {least} to {end}"
        _refuse(of, name, f"{'an odd' if odd else 'a'} whole number {span}", _shown(getattr(of, name)))
    object.__setattr__(of, name, value)


def number(of: Any, name: str, span: str) -> None:
    """Keep a number in ``span``: "[0, 1)" is 0 to below 1, "(0, inf)" any that is positive and finite."""
    value = _real(getattr(of, name))
    if value is None or not _within(value, span):
        _refuse(of, name, f"a number in {span}", _shown(getattr(of, name)))
    object.__setattr__(of, name, value)


def numbers(of: Any, name: str, span: str, *, fewest: int = 0, wholes: bool = False) -> None:
    """Keep ``fewest`` numbers or more, in their order, each of them in ``span``."""
    listed = getattr(of, name)
    what = f"{f'{fewest} or more' if fewest else 'a list of'} {'whole ' if wholes else ''}numbers in {span}"
    try:
        items = tuple(listed.tolist() if hasattr(listed, "tolist") else listed)
    except TypeError:  # a number alone, for example
        _refuse(of, name, what, _shown(listed))
    if len(items) < fewest or isinstance(listed, str | bytes):
        _refuse(of, name, what, _shown(listed))
    values = tuple(_whole(item) if wholes else _real(item) for item in items)
    for item, value in zip(items, values, strict=True):
        if value is None or not _within(value, span):
            _refuse(of, name, what, f"{_shown(item)} in {_shown(listed)}")
    object.__setattr__(of, name, values)


def flag(of: Any, name: str) -> None:
    """Keep True or False."""
    value = getattr(of, name)
    if not isinstance(value, bool | np.bool_):
        _refuse(of, name, "True or False", _shown(value))
    object.__setattr__(of, name, bool(value))


def choice(of: Any, name: str, choices: tuple[str, ...], other: str = "") -> None:
    """Refuse what is not one of ``known``; ``other`` says what else it may be, which the caller sees to."""
    value = getattr(of, name)
    if not (isinstance(value, str) and value in choices):
        _refuse(of, name, f"one of {', '.join(map(repr, choices))}{other and f' or {other}'}", _shown(value))


def optional(of: Any, name: str, kind: type) -> None:
    """Refuse what is neither None nor a ``kind``."""
    value = getattr(of, name)
    if not (value is None or isinstance(value, kind)):
        _refuse(of, name, f"a {kind.__name__} or None", _shown(value))


def _refuse(of: Any, name: str, what: str, got: str) -> NoReturn:
    raise InputError(f"{of.name}: {name} must be {what}, got {got}") from None


def _shown(value: Any) -> str:
    """Return how Python spells ``value``, in one line of at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return None


def _within(value: float, span: str) -> bool:
    low, high = (float(end) for end in span[1:-1].split(","))
    above = value >= low if span[0] == "[" else value > low
    return above and (value <= high if span[-1] == "]" else value < high)
