"""Pictures of the documentation are what their scripts draw."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


@pytest.mark.parametrize("script", sorted(PICTURES.glob("*.py")), ids=lambda path: path.stem)
def test_the_picture_is_what_its_script_draws(script: Path) -> None:
    """After a change of a constant that a picture shows: run the script again."""
    drawn = runpy.run_path(str(script))["picture"]()
    assert script.with_suffix(".svg").read_text(encoding="utf-8") == drawn
