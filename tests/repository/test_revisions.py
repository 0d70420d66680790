"""An attack's code cannot change without anybody saying whether its scores do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from labelleaks import attacks
from tests.repository.revisions import RECORD, complaints, digest, files, now

SOURCE = '''
"""What it is."""
from labelleaks.core import rng
__all__ = ["Gap"]
LIMIT = 3
"""So many."""


class Gap:
    """The gap."""

    revision = 1

    def score(self, x):
        """Score."""
        from labelleaks.core import types

        return f"{x}" * LIMIT
'''


def test_code_is_as_it_was_recorded() -> None:
    said = list(complaints(json.loads(RECORD.read_text()), now()))
    assert not said, "\n".join(said)


def test_every_attack_has_a_revision() -> None:
    revisions = json.loads(RECORD.read_text())["revisions"]
    assert set(attacks.names()) <= revisions.keys() and all(isinstance(n, int) and n > 0 for n in revisions.values())
    assert {"src/labelleaks/attacks/gap.py", "src/labelleaks/attacks/search/hopskipjump.py"} <= files().keys()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("What it is", "What else it is"),
        ('"""Score."""', '"""Other words."""  # and a comment'),
        ("from labelleaks.core import rng", "import numpy as np\n\n\nfrom labelleaks import other"),
        ("        from labelleaks.core import types\n", ""),
        ("revision = 1", "revision = 2"),
        ('__all__ = ["Gap"]', '__all__ = ["Gap", "LIMIT"]'),
        ('"""So many."""\n', ""),
    ],
)
def test_what_changes_no_score_is_not_in_a_hash(old: str, new: str) -> None:
    assert old in SOURCE and digest(SOURCE.replace(old, new)) == digest(SOURCE)


@pytest.mark.parametrize(("old", "new"), [("LIMIT = 3", "LIMIT = 4"), ("* LIMIT", "+ LIMIT"), ("{x}", "{x!r}")])
def test_what_could_change_a_score_is(old: str, new: str) -> None:
    assert old in SOURCE and digest(SOURCE.replace(old, new)) != digest(SOURCE)


def test_a_hash_is_the_same_under_every_version_of_python() -> None:
    assert digest(SOURCE) == "984e70126f054a62"


def test_a_complaint_says_whose_scores_are_meant_and_what_to_do() -> None:
    recorded = now()
    found: dict[str, Any] = json.loads(json.dumps(recorded))
    found["files"]["src/labelleaks/attacks/search/rays.py"] = "0" * 16
    (said,) = complaints(recorded, found)
    assert "search/rays.py is not as it was recorded; used by boundary, calibrated: where" in said
    assert "raise its `revision`" in said and "python -m tests.repository.revisions" in said
    found = json.loads(json.dumps(recorded))
    found["revisions"]["gap"] = 2
    assert list(complaints(recorded, found)) == [
        "gap has revision 2, recorded is 1: run `python -m tests.repository.revisions` to record it"
    ]
    del found["revisions"]["gap"], found["files"]["src/labelleaks/attacks/gap.py"]
    assert ["gap" in one for one in complaints(recorded, found)] == [True, True]
