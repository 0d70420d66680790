"""Every attack through every conformance row, on every kind of input it accepts; the rows against planted faults."""

from __future__ import annotations

import pytest

from labelleaks import attacks
from labelleaks.conformance import ROWS, check
from labelleaks.planted import CASES
from labelleaks.types import Attack

IMAGES = ("image", "memory")


def _table() -> list[tuple[Attack, str, tuple[str, ...]]]:
    """(attack, case, knowledge given beyond its needs)."""
    table: list[tuple[Attack, str, tuple[str, ...]]] = []
    for case in CASES:
        table.append((attacks.Gap(), case, ()))
        table.append((attacks.Noise(), case, ()))
    for case in IMAGES:
        table.append((attacks.Augmentation(), case, ()))
    return table


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(
    ("attack", "case", "give"), [pytest.param(*entry, id=f"{entry[0].name}-{entry[1]}") for entry in _table()]
)
def test_conformance(row: str, attack: Attack, case: str, give: tuple[str, ...]) -> None:
    check(row, attack, case, give=give)
