"""The page of the benchmarks' results: a section each, beside a JSON file each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.tables import RESULTS, with_section, write


def test_a_section_takes_the_place_of_the_one_that_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("second", {"figure": 1}, "# Second\n\n## Part\n\none\n", folder=tmp_path)
    write("first", {"figure": 2}, "# First\n\nall\n", folder=tmp_path)
    before = (tmp_path / "README.md").read_text()
    assert before.endswith("\n<!-- first -->\n## First\n\nall\n\n<!-- second -->\n## Second\n\n### Part\n\none\n")
    write("second", {"figure": 3}, "# Second\n\nother\n", folder=tmp_path)
    after = (tmp_path / "README.md").read_text()
    assert after == before.replace("### Part\n\none", "other") and "## Second" not in capsys.readouterr().out
    assert json.loads((tmp_path / "second.json").read_text()) == {"figure": 3}


def test_every_section_has_its_figures() -> None:
    text = (RESULTS / "README.md").read_text()
    names = {path.stem for path in RESULTS.glob("*.json")} - {"coverage"}  # its tables are in docs/statistics.md
    assert all(f"<!-- {name} -->\n## " in text for name in names) and text.count("<!-- ") == len(names)
    assert with_section(text, "kills", text.split("<!-- kills -->\n#")[1].split("\n<!--")[0]) == text
