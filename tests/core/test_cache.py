"""LABELLEAKS_CACHE moves everything that is kept for a user."""

from __future__ import annotations

import pytest

from labelleaks.core.cache import cache_folder
from labelleaks.core.oracle.journal import default_path
from labelleaks.data.cache import dataset_folder
from labelleaks.experiments.store import default_folder


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    monkeypatch.setenv("LABELLEAKS_CACHE", str(tmp_path / "mine"))
    return tmp_path / "usual" / "labelleaks", tmp_path / "mine"


def test_it_moves_data_sets_stages_and_journals(folders):
    _, mine = folders
    for path in (cache_folder(), dataset_folder("mnist"), default_folder(), default_path("a service")):
        assert path.is_relative_to(mine)


def test_answers_that_were_paid_for_before_are_used_where_they_are(folders, monkeypatch):
    usual, mine = folders
    monkeypatch.delenv("LABELLEAKS_CACHE")
    before = default_path("a service")
    assert before.is_relative_to(usual)
    before.parent.mkdir(parents=True)
    before.write_bytes(b"answers")
    monkeypatch.setenv("LABELLEAKS_CACHE", str(mine))
    assert default_path("a service") == before
    assert default_path("another service").is_relative_to(mine)
