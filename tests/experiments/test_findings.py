"""Verdicts on findings, and the page: made of rows alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from labelleaks.errors import SpecError
from labelleaks.experiments import findings, tables, write_page
from labelleaks.experiments.findings import HOLDS, NOT, OPEN, Finding, judge, load_findings, mean_of, overall
from labelleaks.experiments.protocols import protocols
from labelleaks.experiments.spec import load_reproduction

HERE = Path(__file__).parents[2] / "reproductions"


def row(attack: str, auc: float, *, half: float = 0.01, size: int = 100, seed: int = 1, **other: Any) -> dict[str, Any]:
    found = {"dataset": "digits", "target_size": size, "seed": seed, "protocol": "clean", "model": "cnn"}
    found |= {"attack": attack, "variant": "", "labels": 1, "n_members": 100, "n_nonmembers": 100}
    found |= {"auc": {"value": auc, "low": auc - half, "high": auc + half}, "tpr_at_fpr": {"0.01": None}}
    return found | {"train_accuracy": 1.0, "test_accuracy": 0.9} | other


def verdict(rows: list[dict[str, Any]], **finding: Any) -> str:
    told = {"id": "x", "statement": "x", "source": "x", "evidence": "read", **finding}
    return overall(judge(Finding.model_validate(told), rows))


FOUND = {"id": "x", "statement": "x", "source": "x", "evidence": "read"}
AS_BOTH = ((0.8, "authors"), (0.7, "clean"))
GAP, SALEM = {"attack": "gap"}, {"attack": "salem"}


@pytest.mark.parametrize(("auc", "said"), [(0.6, HOLDS), (0.4, NOT), (0.505, OPEN)])
def test_against_chance(auc: float, said: str) -> None:
    assert verdict([row("gap", auc)], first=GAP) == said


def test_without_rows_nothing_is_decided() -> None:
    assert verdict([row("gap", 0.6)], first=SALEM) == OPEN
    assert verdict([row("gap", 0.6)], first=GAP, second=SALEM) == OPEN


def test_two_attacks_are_compared_on_the_same_target() -> None:
    rows = [
        row("gap", 0.6, size=100),
        row("gap", 0.5, size=50),
        row("salem", 0.65, size=100),
        row("salem", 0.9, size=25),
    ]
    (one,) = judge(Finding(id="x", statement="x", source="x", evidence="read", first=findings.Side(attack="salem"),
                           second=findings.Side(attack="gap")), rows)  # fmt: skip
    assert one.difference.value == pytest.approx(0.05)  # neither 50 nor 25 has both
    assert one.difference.high - one.difference.low == pytest.approx(0.02 * 2**0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("claim", "difference", "said"),
    [
        ("no more", -0.1, HOLDS), ("no more", 0.0, HOLDS), ("no more", 0.02, OPEN), ("no more", 0.1, NOT),
        ("close", 0.0, HOLDS), ("close", 0.1, NOT), ("close", -0.1, NOT), ("close", -0.02, OPEN),
    ],
)  # fmt: skip
def test_claims_with_a_margin(claim: str, difference: float, said: str) -> None:
    rows = [row("gap", 0.6), row("salem", 0.6 + difference)]
    assert verdict(rows, first=SALEM, second=GAP, claim=claim, margin=0.02) == said


def test_ends_of_sizes_and_labels() -> None:
    rows = [
        row("noise", auc, size=s, labels=n)
        for s, n, auc in [(300, 5, 0.5), (300, 20, 0.6), (100, 5, 0.7), (100, 20, 0.8)]
    ]
    noise = {"attack": "noise"}
    smaller = {"first": {**noise, "size": "smallest"}, "second": {**noise, "size": "largest"}}
    assert verdict(rows, **smaller) == HOLDS
    assert verdict(rows, first=smaller["second"], second=smaller["first"]) == NOT
    assert verdict(rows, first=noise, second={**noise, "labels": "least"}) == HOLDS
    one_size = [one for one in rows if one["target_size"] == 100]
    assert verdict(one_size, **smaller) == OPEN  # a size is not smaller than itself


def test_a_target_that_was_asked_more_often_is_compared_at_the_others_labels() -> None:
    rows = [row("noise", 0.6, size=300, labels=20), row("noise", 0.7, size=100, labels=20)]
    rows += [row("gap", 0.65, size=300), row("gap", 0.65, size=100), row("noise", 0.1, size=100, labels=500)]
    assert verdict(rows, first={"attack": "noise"}, second=GAP) == OPEN
    (found,) = judge(Finding.model_validate(FOUND | {"first": {"attack": "noise"}, "second": GAP}), rows)
    assert found.difference.value == pytest.approx(0.0)


def test_the_first_variant_that_is_there() -> None:
    rows = [row("boundary", 0.9, variant="pointwise"), row("boundary", 0.4, variant="other")]
    assert verdict(rows, first={"attack": "boundary", "variants": ["hopskipjump", "pointwise"]}) == HOLDS


def test_one_refutation_is_enough() -> None:
    rows = [row("gap", 0.6), row("gap", 0.4, dataset="mnist")]
    assert verdict(rows, first=GAP) == NOT
    assert verdict([row("gap", 0.6), row("gap", 0.5, dataset="mnist")], first=GAP) == HOLDS


def test_an_interval_is_as_wide_as_the_seeds_are_apart() -> None:
    near = mean_of([row("gap", 0.6, seed=1), row("gap", 0.6, seed=2)])
    far = mean_of([row("gap", 0.5, seed=1), row("gap", 0.7, seed=2)])
    assert near.value == far.value == pytest.approx(0.6)
    assert near.high - near.low == pytest.approx(0.02 / 2**0.5, rel=1e-3)
    assert far.high - far.low == pytest.approx(2 * 1.96 * 0.1, rel=1e-3)


def test_the_findings_of_the_paper_can_be_read_and_hold_no_figure() -> None:
    found = load_findings(HERE / "label-leaks" / "expected.yaml")
    assert len({one.id for one in found.findings}) == len(found.findings) > 10
    assert all(one.source for one in found.findings)
    assert all(
        "ours" in one.source or one.margin < 0.05 for one in found.findings if one.margin and one.evidence != "computed"
    )


def test_a_wrong_finding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "expected.yaml"
    file.write_text("findings: [{id: a, statement: b, source: c, evidence: guessed, first: {attack: gap}}]")
    with pytest.raises(SpecError, match=r"findings\.0\.evidence"):
        load_findings(file)


def test_the_page_is_made_of_the_rows_alone(tmp_path: Path) -> None:
    rows = [row("gap", 0.55, size=s, protocol=p) for s in (300, 100) for p in ("clean", "authors")]
    rows += [row("boundary", 0.6 + n / 1000, size=300, variant="hopskipjump", labels=n) for n in (50, 200)]
    made = {"stage": "a", "key": "1" * 16, "version": "0.1.0", "commit": "1" * 12, "revision": 1}
    for profile, several in (("smoke", rows), ("cpu", [row("salem", 0.99)])):
        (tmp_path / "results" / profile).mkdir(parents=True)
        text = "".join(json.dumps(one | made) + "\n" for one in several)
        (tmp_path / "results" / profile / "digits.jsonl").write_text(text)
    found = load_reproduction("label-leaks", "smoke", HERE)
    page = write_page(found, tmp_path)
    text, first = page.read_text(), page.read_bytes()
    assert "6 rows" in text and "0.99" not in text
    assert "| gap | 1 | 0.550 (0.540–0.560) |" in text and "boundary (hopskipjump)" in text
    assert f"**{HOLDS}**" in text and f"**{OPEN}**" in text
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert figures == {"smoke-auc.svg"} and "figures/smoke-auc.svg" in text
    drawn = (tmp_path / "figures" / "smoke-auc.svg").read_text()
    assert drawn.count('class="chart"') == 3, "authors: by size; clean: by size, and by labels beside it"
    assert all(f'<svg x="{x}" y="{y}"' in drawn for x, y in ((0, 0), (0, 360), (660, 360)))
    assert write_page(found, tmp_path).read_bytes() == first


def test_both_protocols_side_by_side() -> None:
    """Seeds that both have, a difference with its interval, and in bold where it leaves out 0."""
    rows = [row("gap", 0.70, seed=s) for s in (1, 2)] + [row("gap", 0.60, seed=1, protocol="authors")]
    rows += [row("gap", 0.90, seed=3)]  # nothing to compare it with
    rows += [row("salem", 0.71, protocol=p) for p in ("clean", "authors")]
    rows += [row("boundary", v, variant="qeba", labels=n, protocol=p) for n in (9, 2000) for v, p in AS_BOTH]
    rows += [row("gap", 0.70, size=300)]
    text = protocols(rows)
    assert "| 100 | gap | 1 | 0.600 (0.590–0.610) | 0.700 (0.690–0.710) | **-0.100 (-0.114 to -0.086)**; 1 |" in text
    assert "| salem | posteriors |" in text and "| +0.000 (-0.014 to +0.014); 1 |" in text
    assert "| boundary (qeba) | 2,000 |" in text and "| 9 |" not in text and "| 300 |" not in text
    assert "In 2 of 3 rows" in text and "in 1 of them" in text and "in 1 weaker" in text
    assert "| *accuracy: train / test* | | 1.000 / 0.900 | 1.000 / 0.900 | |" in text
    assert protocols([one for one in rows if one["protocol"] == "clean"]) == ""


def test_the_committed_pages_are_those_of_the_committed_rows(tmp_path: Path) -> None:
    home = HERE / "label-leaks"
    for page in home.glob("*.md"):
        if page.stem in ("README",):
            continue
        found = load_reproduction("label-leaks", page.stem, HERE)
        for part in ("results", "studies"):
            shutil.copytree(home / part / page.stem, tmp_path / part / page.stem)
        assert write_page(found, tmp_path).read_bytes() == page.read_bytes(), "run labelleaks reproduce again"
    drawn, committed = ({p.name: p.read_text() for p in (at / "figures").iterdir()} for at in (tmp_path, home))
    assert drawn == committed


def test_the_table_says_how_many_were_scored_and_leaves_ablations_to_theirs() -> None:
    rows = [row("boundary", 0.8, size=s, variant="qeba", labels=n) for s, n in [(300, 50), (100, 50), (100, 900)]]
    rows.append(row("transfer", 0.6, variant="loss, shadow=250"))
    rows.append(row("boundary", 0.9, variant="qeba", labels=50, n_members=200, n_nonmembers=150))  # asked twice
    rows.append(row("boundary", 0.8, size=300, variant="qeba", labels=50, seed=2))
    table = tables.main_table("digits", "clean", rows, ablated=True)
    assert "| boundary (qeba) | 50 | 200 + 150; 1 to 2 | 0.800 (0.793–0.807) | 0.900 (0.890–0.910) |" in table
    assert "| boundary (qeba) | 900 | 100 + 100; 1 |  | 0.800 (0.790–0.810) |" in table and "shadow=250" not in table
    assert "shadow=250" in tables.main_table("digits", "clean", rows, ablated=False)
    assert tables.at_most_sizes(rows)["boundary", "qeba"] == 50


def test_low_fprs_are_means_over_seeds_where_they_are_known() -> None:
    one, other = ({"0.01": {"value": v, "low": v - 0.1, "high": v + 0.1}} for v in (0.2, 0.4))
    rows = [row("gap", 0.6, tpr_at_fpr=one), row("gap", 0.6, seed=2, tpr_at_fpr=other), row("gap", 0.6, size=300)]
    assert "| gap | 1 |  | 0.300 (0.100–0.500) |" in tables.low_fpr_table(rows)
    assert tables.low_fpr_table([row("gap", 0.6)]) == ""
