"""What is made of committed studies: verdicts, tables, figures."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from labelleaks.errors import InputError
from labelleaks.experiments import write_page
from labelleaks.experiments.findings import HOLDS, NOT, OPEN, Finding, judge, overall
from labelleaks.experiments.spec import load_reproduction
from labelleaks.experiments.studies.base import Study, read_studies
from labelleaks.experiments.studies.page import WORDS
from labelleaks.experiments.tables import ablations, gap_identity

HERE = Path(__file__).parents[2] / "reproductions"


def interval(value: float, half: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def study(name: str, of: str, points: list[dict[str, Any]], **head: Any) -> list[dict[str, Any]]:
    world = {"dataset": "digits", "target_size": 100, "seed": 1, "protocol": "clean", "model": "cnn"}
    return [{"study": name, "of": of, **world, "n_members": 4, "n_nonmembers": 4, **head}, *points]


def radius(difference: float, half: float = 0.02, **head: Any) -> list[dict[str, Any]]:
    points = [{"member": i < 2, "radius": 0.1 * i, "correct": i != 3} for i in range(4)]
    more = {"radius": {"members": interval(0.3), "nonmembers": interval(0.2)}, "auc": interval(0.6), "labels": 300}
    return study("radius", "", points, difference=interval(difference, half), **more, **head)


def percentile(spread: float) -> list[dict[str, Any]]:
    about = {"tried": 12, "changed": 10, "labels": 120, "spread": {"value": spread, "low": spread / 2, "high": 0.9}}
    points = [
        {"inputs": "uniform", "t": t, "tau": t / 100, "tp": 4 - t // 33, "fp": 3 - t // 33} for t in range(1, 100)
    ]
    return study("percentile", "hopskipjump", points, inputs={"uniform": about}, best={"tau": 0.5, "tp": 3, "fp": 1})


def memguard(of: str, identical: int, behind: float = 0.5) -> list[dict[str, Any]]:
    def one(variant: str, same: int, auc: float) -> dict[str, Any]:
        return {"variant": variant, "scores": 8, "identical": same, "without": interval(0.5), "behind": interval(auc)}

    points = [one("", 0, behind), one("one_hot", 8, 0.5)] if of == "loss_threshold" else [one(of, identical, behind)]
    return study("memguard", of, points)


def said(studies: list[list[dict[str, Any]]], name: str, claim: str = "more", margin: float = 0.0) -> str:
    finding = Finding(id="x", statement="x", source="x", evidence="read", study=name, claim=claim, margin=margin)  # type: ignore[arg-type]
    return overall(judge(finding, [], [Study(head, points) for head, *points in studies]))


@pytest.mark.parametrize(("difference", "verdict"), [(0.1, HOLDS), (0.01, OPEN), (-0.1, NOT)])
def test_the_certified_radius(difference: float, verdict: str) -> None:
    assert said([radius(difference)], "radius") == verdict


def test_seeds_of_a_study_make_a_mean() -> None:
    finding = Finding(id="x", statement="x", source="x", evidence="read", study="radius")
    both = [Study(head, points) for head, *points in (radius(0.1), radius(0.3, seed=2))]
    (one,) = judge(finding, [], both)
    assert one.difference.value == pytest.approx(0.2) and one.difference.seeds == 2
    assert one.difference.high - one.difference.low == pytest.approx(2 * 1.96 * 0.1, rel=1e-3)


def test_the_percentile_and_its_wider_side() -> None:
    assert said([percentile(0.4)], "percentile", margin=0.05) == OPEN  # 0.4 - (0.9 - 0.4) is below the margin
    finding = Finding(id="x", statement="x", source="x", evidence="read", study="percentile")
    (one,) = judge(finding, [], [Study(*(lambda head, *points: (head, points))(*percentile(0.4)))])
    assert one.difference.high == pytest.approx(0.9) and one.difference.low == pytest.approx(-0.1)


def test_memguard() -> None:
    same, moved = [memguard("transfer", 8)], [memguard("transfer", 7)]
    assert said(same, "memguard-labels", "no more") == HOLDS and said(moved, "memguard-labels", "no more") == NOT
    assert said([memguard("loss_threshold", 0)], "memguard-labels", "no more") == OPEN  # it sees posteriors
    assert said([memguard("loss_threshold", 0)], "memguard-posteriors", "close", 0.03) == HOLDS
    assert said([memguard("loss_threshold", 0, 0.6)], "memguard-posteriors", "close", 0.03) == NOT
    assert said(same, "memguard-posteriors", "close", 0.03) == OPEN


@pytest.mark.parametrize("more", [{}, {"study": "radius", "first": {"attack": "gap"}}, {"study": "radii"}])
def test_a_finding_is_of_rows_or_of_a_study(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not both|Input should be"):
        Finding.model_validate({"id": "x", "statement": "x", "source": "x", "evidence": "read", **more})


def norms_finding() -> Finding:
    sides = {
        "first": {"attack": "boundary", "variants": ["a, norm=l1"]},
        "second": {"attack": "boundary", "variants": ["a"]},
    }
    told = {"id": "x", "statement": "x", "source": "x", "evidence": "read", "claim": "close", "margin": 0.05}
    return Finding.model_validate(told | sides)


def test_rows_of_one_run_are_compared_candidate_by_candidate() -> None:
    rows = [gap_row(attack="boundary", variant=v, labels=50, auc=interval(0.7, 0.08)) for v in ("a", "a, norm=l1")]
    point = {"first": ["a", 50], "second": ["a, norm=l1", 50], "difference": interval(0.0, 0.01)}
    head, *points = study("paired", "a", [point], attack="boundary", n_members=100, n_nonmembers=100)
    (alone,), (beside,) = judge(norms_finding(), rows), judge(norms_finding(), rows, [Study(head, points)])
    assert alone.verdict == OPEN and beside.verdict == HOLDS
    assert beside.difference.high == pytest.approx(0.01) and alone.difference.high == pytest.approx(0.08 * 2**0.5)
    for other in ({"seed": 2}, {"attack": "noise"}, {"n_members": 50}):  # another run says nothing about these rows
        (apart,) = judge(norms_finding(), rows, [Study(head | other, points)])
        assert apart.verdict == OPEN


def all_kinds() -> dict[str, list[dict[str, Any]]]:
    bins = [{"low": k / 4, "high": (k + 1) / 4, "members": 1, "nonmembers": k == 0} for k in range(4)]
    losses = [{"low": 10.0**k, "high": 10.0 ** (k + 1), "members": 1, "nonmembers": 1} for k in (-2, -1, 0)]
    apart = {"labels": 60, "misclassified": [0, 2]}
    dots = [
        {"by": by, **point}
        for by in ("sorted", "all")
        for point in (
            {"x": 0.1, "y": 0.2, "said": 0, "member": True},
            {"x": 0.7, "y": 0.9, "said": 1, "member": False},
            {"row": 0, "classes": "0011"},
            {"row": 1, "classes": "0111"},
        )
    ]
    return {
        "a": study("distribution", "hopskipjump", bins, quantity="distance", no_start=[0, 1], **apart),
        "b": study("distribution", "transfer", losses, quantity="loss", no_start=[0, 0], **apart),
        "c": percentile(0.1),
        "d": radius(0.1),
        "e": study("regions", "", dots, right=[4, 2]),
        "f": study("fresh", "gap", [{"variant": "", "auc": interval(0.52, 0.05), "swapped": 0.48}]),
        "g": memguard("transfer", 8),
    }


def test_the_page_of_studies(tmp_path: Path) -> None:
    studies = [head | {"points": points} for head, *points in all_kinds().values()]
    for part, rows in (("studies", studies), ("results", [gap_row()])):
        (tmp_path / part / "smoke").mkdir(parents=True)
        text = "".join(json.dumps(row | named("x", "1" * 16)) + "\n" for row in rows)
        (tmp_path / part / "smoke" / "digits.jsonl").write_text(text)
    found = load_reproduction("label-leaks", "smoke", HERE)
    text = write_page(found, tmp_path).read_text()
    assert all(f"## {title}" in text for title, _ in WORDS.values()) and "7 studies" in text
    assert "| Digits, 100, clean, seed 1 | 4 + 4 | 300 | 0.300 (0.280–0.320) |" in text
    assert "uniform inputs, t = 50 | 10 / 12 | 0.500 |" in text and "t = 1, the best F1" in text
    assert "8 of 8" in text and "| 0.520 (0.470–0.570) | yes | 1.0000 |" in text
    for name in ("radius", "percentile", "distribution", "regions"):
        file = tmp_path / "figures" / f"smoke-{name}.svg"
        assert f"figures/{file.name}" in text
        root = ElementTree.fromstring(file.read_text())
        assert root.attrib["viewBox"] and "Digits, target of 100 rows, seed 1" in "".join(root.itertext())
        assert "nan" not in file.read_text()
    before = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    write_page(found, tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before
    assert "What made them: 8 by labelleaks 0.1.0 at commit 000000000000." in text
    assert [one.name for one in read_studies(tmp_path / "studies", "cpu")] == []


def test_the_gap_attack_is_checked_against_the_accuracies() -> None:
    exact, off = gap_row(auc=interval(0.55)), gap_row(auc=interval(0.57), seed=2)
    text = gap_identity([exact, off, gap_row(attack="transfer", auc=interval(0.9))])
    assert "In 1 of 2 rows both are equal" in text and "largest difference is 0.0200" in text
    assert gap_identity([gap_row(attack="salem")]) == ""


@pytest.mark.parametrize("content", ["[", "[]", "{}", '[{"study": "radius"}]', "[1]"])
@pytest.mark.parametrize("part", ["results", "studies"])
def test_a_damaged_file_of_a_former_version_is_named(tmp_path: Path, part: str, content: str) -> None:
    (tmp_path / part).mkdir()
    (tmp_path / part / f"smoke-digits-x-{'1' * 16}.json").write_text(content)
    with pytest.raises(InputError, match=r"smoke-digits-x-1{16}\.json: .*delete it"):
        write_page(load_reproduction("label-leaks", "smoke", HERE), tmp_path)


@pytest.mark.parametrize(
    ("line", "says"), [("[", "damaged"), ("1", "holds a int"), ("{}", "has no commit, "), ("\xff", "damaged")]
)
@pytest.mark.parametrize("part", ["results", "studies"])
def test_a_damaged_line_is_named(tmp_path: Path, part: str, line: str, says: str) -> None:
    (tmp_path / part / "smoke").mkdir(parents=True)
    right = json.dumps(gap_row() | named("x", "1" * 16) | {"points": []})
    (tmp_path / part / "smoke" / "digits.jsonl").write_bytes(f"{right}\n{line}\n".encode("latin-1"))
    with pytest.raises(InputError, match=rf"digits\.jsonl, line 2: .*{says}.*delete the line"):
        write_page(load_reproduction("label-leaks", "smoke", HERE), tmp_path)


def named(stage: str, key: str) -> dict[str, Any]:
    return {"stage": stage, "key": key, "version": "0.1.0", "commit": "0" * 12, "revision": 1}


def gap_row(**other: Any) -> dict[str, Any]:
    found = {"dataset": "digits", "target_size": 100, "seed": 1, "protocol": "clean", "model": "cnn", "attack": "gap"}
    found |= {"variant": "", "labels": 1, "n_members": 100, "n_nonmembers": 100, "auc": interval(0.6)}
    return found | {"tpr_at_fpr": {"0.01": None}, "train_accuracy": 1.0, "test_accuracy": 0.9} | other


def test_shadow_rows_and_architectures_in_one_table() -> None:
    words = ("loss", "loss, shadow=250", "loss, model=cnn11", "loss, shadow=250, model=cnn3", "entropy, model=cnn5")
    words += ("loss, relabelled",)
    rows = [gap_row(attack="transfer", variant=v, auc=interval(0.5 + i / 10)) for i, v in enumerate(words)]
    (table,) = ablations(rows)
    assert "| shadow rows | cnn | cnn3 | cnn11 |" in table
    assert (
        "| 250 | 0.600 (0.580–0.620) | 0.800 (0.780–0.820) |  |" in table
        and "| all | 0.500 (0.480–0.520) |  |" in table
    )
    assert not list(ablations(rows[:2]))  # one architecture: the big table says it all
