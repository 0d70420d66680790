"""Examples run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import labelleaks as ll
from labelleaks.testing.domains import check_domain

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(example)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "AUC" in done.stdout


def _pipeline(task: str, model: str, top_k: int) -> Any:
    """Answers as an image-classification pipeline does."""

    def classify(pictures: list[Any], batch_size: int) -> list[list[dict[str, Any]]]:
        assert all(picture.mode == "RGB" and picture.size == (6, 6) for picture in pictures) and top_k == 1
        return [[{"label": "dog" if np.mean(p) > 127.5 else "cat", "score": 0.9}] for p in pictures]

    classify.model = SimpleNamespace(config=SimpleNamespace(id2label={0: "cat", 1: "dog"}, num_labels=2))  # type: ignore[attr-defined]
    return classify


def test_the_recipe_for_a_pipeline_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/targets.md as it stands, with a stand-in for transformers."""
    text = (Path(__file__).parents[2] / "docs" / "targets.md").read_text()
    found = re.search(r"## A Hugging Face pipeline.*?```python\n(.*?)```", text, re.DOTALL)
    assert found
    transformers = ModuleType("transformers")
    transformers.pipeline = _pipeline  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    bright = np.random.default_rng(0).uniform(0.3, 0.7, (40, 1, 1, 1))
    x = np.rint(255 * np.tile(bright, (1, 6, 6, 3))) / 255
    y = np.where(bright.reshape(-1) > 0.5, "dog", "cat")
    names: dict[str, Any] = {"ll": ll, "x_m": x[:20], "y_m": y[:20], "x_n": x[20:], "y_n": y[20:]}
    exec(found[1], names)
    assert (names["record"]["gap"].scores == 1).all()


def test_the_domain_of_the_docs_keeps_the_contract_and_is_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/domains.md as it stands."""
    text = (Path(__file__).parents[2] / "docs" / "domains.md").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    module = ModuleType("likert")
    monkeypatch.setitem(sys.modules, "likert", module)
    exec(found[1], module.__dict__)
    likert = module.Likert()
    check_domain(likert, (20,))
    x = np.random.default_rng(0).integers(1, 6, (24, 20)).astype(np.float32)
    y = (x.mean(1) > 3).astype(int)
    record = ll.audit(
        lambda rows: (rows.mean(1) > 3).astype(int),
        members=(x[:12], y[:12]), nonmembers=(x[12:], y[12:]), domain=likert, budget=40, show_progress=False,
    )  # fmt: skip
    assert list(record.attacks) == ["gap", "noise", "boundary"] and record.domain == {"kind": "likert", "points": 5}
    says = "search='surfree' needs a continuous domain, such as Box, not Likert: "
    assert says in text
    with pytest.raises(ll.InputError, match=says):
        ll.audit(
            lambda rows: rows[:, 0], members=(x, y), nonmembers=(x, y), domain=likert, show_progress=False,
            attacks=[ll.attacks.Boundary(search="surfree")],
        )  # fmt: skip
