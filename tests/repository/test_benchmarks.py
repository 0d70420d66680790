"""Pages of the benchmarks, the leaderboard's among them, are made of result rows alone and say what they say."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.power import attacks, ceilings, page, rows, run, worlds
from benchmarks.power.bars import LABELS, bars
from benchmarks.power.curves import curve
from benchmarks.power.summary import best_ceiling, difference, mean_of, summaries
from benchmarks.tables import RESULTS, figures_of, with_section, write

from labelleaks import __version__
from labelleaks.attacks import Gap
from labelleaks.core.domains import Box
from labelleaks.experiments import jsonl

Row = dict[str, Any]


def row(attack: str, labels: int, auc: float, *, rate: float = 0.1, dataset: str = "cifar10", seed: int = 0,
        variant: str = "", few: bool = False, implementation: str = "labelleaks") -> Row:  # fmt: skip
    others = 200 if few else 4000
    small = None if others < 2000 else {"value": rate / 2, "low": rate / 4, "high": rate}
    return {
        "dataset": dataset, "seed": seed, "target": "", "attack": attack, "variant": variant,
        "implementation": implementation, "labels": labels, "labels_mean": float(labels), "setup_labels": 3000,
        "references": 8, "seconds": 1.0, "train_accuracy": 1.0, "test_accuracy": 0.6,
        "n_members": 200 if few else 1000, "n_nonmembers": others,
        "auc": {"value": auc, "low": auc - 0.02, "high": auc + 0.02},
        "tpr_at_fpr": {"0.01": {"value": rate, "low": rate - 0.01, "high": rate + 0.01}, "0.001": small},
        **rows.BEFORE,
    }  # fmt: skip


def lira(auc: float, *, rate: float = 0.1, variant: str = "fixed", **where: Any) -> Row:
    return row("lira_offline", 1, auc, rate=rate, variant=variant, implementation="posteriors", **where)


def pair(a: Row, b: Row, *, half: float = 0.01) -> Row:
    gap = a["auc"]["value"] - b["auc"]["value"]
    sides = {
        f"{s}_{k}": r[k] for s, r in (("a", a), ("b", b)) for k in ("attack", "variant", "implementation", "labels")
    }
    return {"dataset": a["dataset"], "seed": a["seed"], **sides, "n_members": 200, "n_nonmembers": 200, "p_value": 0.1,
            "difference": {"value": gap, "low": gap - half, "high": gap + half}}  # fmt: skip


def verdicts(given: list[Row], pairs: list[Row]) -> list[bool | None]:
    return [bar.holds for bar in bars(given, pairs)]


def test_a_mean_adds_errors_in_quadrature_each_side_alone() -> None:
    found = mean_of([{"value": 0.5, "low": 0.47, "high": 0.54}, {"value": 0.7, "low": 0.66, "high": 0.73}])
    assert found is not None and found.count == 2
    assert math.isclose(found.value, 0.6) and math.isclose(found.low, 0.575) and math.isclose(found.high, 0.625)
    assert mean_of([None, {"value": 0.5, "low": 0.4, "high": 0.6}]) is None and mean_of([]) is None


def test_seeds_are_averaged_and_the_larger_set_of_candidates_counts() -> None:
    given = [row("guided", 20, 0.9), row("guided", 20, 0.8, seed=1), row("guided", 20, 0.5, few=True)]
    (found,) = summaries(given)
    assert math.isclose(found.auc.value, 0.85) and found.seeds == (0, 1) and found.n_members == 1000
    assert [s.dataset for s in summaries([*given, row("guided", 20, 0.7, dataset="faces")])] == ["cifar10", "faces"]


def test_without_rows_nothing_is_claimed() -> None:
    assert set(verdicts([], [])) == {None}
    assert "not measured" in page.page([], [])


def test_bars_hold_where_all_is_better() -> None:
    guided, few, ceiling = row("guided", 20, 0.9, rate=0.2), row("guided", 5, 0.85), lira(0.8)
    boundary = row("boundary", 2500, 0.8, few=True)
    others = [row(name, 10, 0.7) for name in ("dhattack", "oslo", "yoqo")]
    pairs = [pair(guided, ceiling), pair(guided, boundary), *(pair(few, other) for other in others)]
    found = verdicts([guided, few, ceiling, boundary, *others], pairs)
    assert [*found[:4], *found[5:10]] == [True] * 9 and found[4] is None, "no other references were tried"
    assert found[10:] == [None] * 5, "nor easy targets"


def test_easy_targets_have_verdicts_of_their_own() -> None:
    guided, few = (row("guided", labels, 0.7, dataset="mnist") for labels in (20, 5))
    ceilings = [row("lira_offline", 1, 0.6, variant="per_candidate", implementation="posteriors", dataset="mnist")]
    ceilings.append(ceilings[0] | {"variant": "fixed", "auc": {"value": 0.72, "low": 0.71, "high": 0.73}})
    noise, oslo = row("noise", 50, 0.65, dataset="mnist"), row("oslo", 5, 0.695, dataset="mnist")
    pairs = [*(pair(guided, other) for other in ceilings), pair(few, noise), pair(few, oslo)]
    assert verdicts([guided, few, noise, oslo, *ceilings], pairs) == [None] * 10 + [False, True, None, False, None]
    level = [*(pair(guided, other, half=0.03) for other in ceilings), pair(few, noise | {"auc": guided["auc"]})]
    assert verdicts([guided, few, noise, *ceilings], level)[10:] == [True, False, None, None, None]


@pytest.mark.parametrize(
    ("guided", "ceiling", "which"),
    [
        (row("guided", 20, 0.84, rate=0.2), lira(0.8), 0),
        (row("guided", 20, 0.94, rate=0.2), lira(0.92), 0),  # 1 - AUC shrinks by a quarter, and the gain is 0.02: holds
        (row("guided", 20, 0.9, rate=0.12), lira(0.8), 1),
        (row("guided", 20, 0.9, rate=0.12), lira(0.8), 2),
        (row("guided", 20, 0.9, rate=0.05), lira(0.8, rate=0.2), 3),
    ],
)
def test_each_bar_can_fall(guided: Row, ceiling: Row, which: int) -> None:
    found = verdicts([guided, ceiling], [pair(guided, ceiling)])
    assert found[which] is (ceiling["auc"]["value"] == 0.92)


def test_the_better_variance_of_lira_is_the_mark() -> None:
    given = [row("guided", 20, 0.9), lira(0.7), lira(0.88, variant="per_candidate")]
    assert verdicts(given, [])[0] is False
    best = best_ceiling(summaries(given), "cifar10")
    assert best is not None and best.key[1] == "per_candidate"


def test_data_sets_count_alike_however_many_seeds_they_have() -> None:
    given = [row("guided", 20, 0.80), lira(0.80)]
    for seed in range(3):
        given += [row("guided", 20, 0.88, dataset="faces", seed=seed), lira(0.80, dataset="faces", seed=seed)]
    found = bars(given, [])[0]
    assert found.holds is False and "+0.040: cifar10 +0.000, faces +0.080" in found.figures


def test_below_on_one_data_set_is_below() -> None:
    good, bad = row("guided", 20, 0.9, rate=0.3), row("guided", 20, 0.7, rate=0.3, dataset="faces")
    marks = [lira(0.8), lira(0.8, dataset="faces")]
    found = bars([good, bad, *marks], [pair(good, marks[0]), pair(bad, marks[1])])
    assert found[3].holds is False and "faces/0 AUC -0.100" in found[3].figures


def test_a_rival_that_ties_is_not_beaten() -> None:
    ours, other = row("guided", 10, 0.8), row("oslo", 10, 0.795)
    found = verdicts([ours, other], [pair(ours, other)])
    assert found[8] is False and found[7] is None and found[9] is None


def test_a_lower_budget_of_ours_does_not_stand_for_a_higher_one() -> None:
    low, high, other = row("guided", 5, 0.6), row("guided", 20, 0.9), row("dhattack", 20, 0.7)
    assert verdicts([low, high, other], [pair(low, other), pair(high, other)])[7] is True


@pytest.mark.parametrize(("auc", "rate", "holds"), [(0.89, 0.2, True), (0.91, 0.2, False), (0.7, 0.4, False)])
def test_lira_counts_with_the_references_that_suit_it_best(auc: float, rate: float, holds: bool) -> None:
    given = [row("guided", 20, 0.9, rate=0.3), lira(0.8)]
    third = lira(auc, rate=rate, variant="fixed, shadow=third")
    other_target = lira(0.99, rate=0.9, variant="fixed, target=stopped") | {"target": "target=stopped"}
    found = bars(given, [], [third, other_target])[4]
    assert found.holds is holds and "0.99" not in found.figures


def test_only_the_same_candidates_are_held_against_each_other() -> None:
    all_of_it, first = row("guided", 20, 0.876), row("guided", 20, 0.95, few=True)
    plain, third = lira(0.8), lira(0.92, variant="fixed, shadow=third", few=True)
    found = bars([all_of_it, first, plain], [], [third])
    assert "+0.076" in found[0].figures, "the larger set decides against plain LiRA"
    assert found[4].holds and "0.950" in found[4].figures and "0.876" not in found[4].figures
    other = row("guided", 20, 0.93, few=True, variant="shadow=third")
    text = page.page([all_of_it, first, row("guided", 20, 0.96, few=True, seed=1), plain, third, other], [])
    told = text[text.index("What if") :]
    assert "0.950" in told and "0.876" not in told and "0.955" not in told, "nothing differs but the adversary"


def test_five_labels_are_judged_on_the_same_candidates() -> None:
    ours, other = row("guided", 5, 0.8), row("noise", 50, 0.85)
    assert verdicts([ours, other], [])[6] is None
    assert verdicts([ours, other], [pair(ours, other)])[6] is False


def test_the_committed_page_is_made_from_the_committed_rows() -> None:
    made = page.page(rows.read_rows(), rows.read_pairs())
    assert (page.FOLDER / "README.md").read_text() == made, "run `python -m benchmarks.power page`"


def test_a_comparison_stands_where_its_scores_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELLEAKS_POWER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run, "save_rows", partial(rows.save_rows, folder=tmp_path))
    old = pair(row("guided", 5, 0.9), row("oslo", 10, 0.8))
    again = pair(row("guided", 20, 0.9), lira(0.8))
    rows.save_rows("cifar10-0", [old, again], tmp_path)
    member = np.arange(40) < 20
    for name, reading in (("guided", 20), ("lira_offline", 1)):
        words = ("fixed", "posteriors") if name == "lira_offline" else ("", "labelleaks")
        scores = member + np.linspace(0, 1.5, 40) % 1
        made = rows.made(3) if name == "guided" else rows.BEFORE
        rows.save_scores(f"cifar10-0_{name}", [rows.Measurement(name, *words, reading, 1.0, scores, member, made)])
    run.pairs("cifar10/0")
    found = rows.read_pairs(tmp_path)
    assert rows.read_rows(tmp_path) == [] and len(found) == 2 and found[1]["n_members"] == 20 != again["n_members"]
    assert found[0] == {"run": "cifar10-0"} | old and {one["run"] for one in found} == {"cifar10-0"}
    assert found[1]["a_revision"] == 3 and found[1]["b_revision"] == 1 and found[1]["version"] == __version__


def test_above_the_boundary_search_on_every_data_set_or_not() -> None:
    pairs = [
        pair(row("guided", 20, 0.9, dataset=name), row("boundary", 2500, other, dataset=name, few=True))
        for name, other in (("cifar10", 0.7), ("location30", 0.85))
    ]
    found = bars([], pairs)[5]
    assert found.holds is False and "cifar10 +0.200" in found.figures and "location30 +0.050" in found.figures


def test_the_page_says_what_the_rows_say() -> None:
    ours, mark = row("guided", 20, 0.912), lira(0.801)
    rival = row("boundary", 1000, 0.77, few=True, implementation="art")
    text = page.page([ours, mark, rival], [pair(ours, mark), pair(rival, mark, half=0.1)])
    (line,) = [one for one in text.splitlines() if one.startswith("| guided |")]
    assert "What made them: 3 by a commit that is unknown" in text
    assert "| 20 | 0.912 (0.892 to 0.932) | 0.100" in line and "**+0.111 (+0.101 to +0.121)**" in line
    (line,) = [one for one in text.splitlines() if one.startswith("| art: boundary |")]
    assert "-0.031 (-0.131 to +0.069)" in line and "**" not in line and "200 + 200" in line and "| - |" in line
    assert text.index("sees every posterior") < text.index("| guided |") < text.index("art: boundary")
    assert page.page([rival, mark, ours], [pair(rival, mark, half=0.1), pair(ours, mark)]) == text


def test_other_adversaries_stand_apart() -> None:
    plain, other = row("guided", 20, 0.9), row("guided", 20, 0.7, variant="shadow=tenth")
    text = page.page([plain, other], [])
    leaderboard, _, apart = text.partition("## What if")
    assert "0.700" not in leaderboard and "| shadow=tenth | guided | 20 | 0.700" in apart
    assert "| nothing | guided | 20 | 0.900" in apart


def test_a_curve_is_an_image_of_its_own() -> None:
    drawn = curve(summaries([row("guided", 5, 0.8), row("guided", 20, 0.9), lira(0.85)]), "auc", "CIFAR-10")
    assert drawn.startswith("<svg") and 'xmlns="http://www.w3.org/2000/svg"' in drawn and "<style>" in drawn
    assert drawn.count("<circle") == 2 and "posterior LiRA, fixed variance" in drawn


def test_written_and_read(tmp_path: Path) -> None:
    given = [row("guided", 20, 0.9), lira(0.8) | rows.made(2)]
    for i, one in enumerate(given):
        rows.save_rows(f"cifar10-0_{i}", [one], tmp_path / "results")
    assert rows.read_rows(tmp_path / "results") == [{"run": f"cifar10-0_{i}"} | one for i, one in enumerate(given)]
    page.write(tmp_path / "results", tmp_path)
    assert "0.900" in (tmp_path / "README.md").read_text() and (tmp_path / "curves.svg").is_file()


def test_a_row_has_what_it_must() -> None:
    member = np.arange(3000) < 1000
    scores = np.where(member, 1.0, 0.0) + np.arange(3000) / 3000
    reading = rows.Measurement("guided", "", "labelleaks", 20, 18.5, scores, member)
    found = rows.row({"dataset": "cifar10", "seed": 0}, reading, {"setup_labels": 1, "references": 8, "seconds": 1.0})
    assert found["auc"]["value"] > 0.5 and found["tpr_at_fpr"]["0.001"] is not None
    assert found.items() >= rows.BEFORE.items()
    few = rows.Measurement("guided", "", "labelleaks", 20, 18.5, scores[:2999], member[:2999])
    found = rows.row({}, few, {})
    assert found["tpr_at_fpr"]["0.001"] is None and found["tpr_at_fpr"]["0.01"] is not None
    same = rows.comparison(reading, few)
    assert (same["n_members"], same["n_nonmembers"]) == (1000, 1999) and same["difference"]["value"] == 0


def test_committed_results_are_complete_rows() -> None:
    wanted = {"dataset", "seed", "attack", "variant", "implementation", "labels", "setup_labels", "references",
              "n_members", "n_nonmembers", "auc", "tpr_at_fpr", "seconds", "version", "commit", "revision"}  # fmt: skip
    for file in sorted(rows.RESULTS.glob("*.jsonl")):
        every = jsonl.read(file)
        assert every and [one["run"] for one in every] == sorted(one["run"] for one in every), file.name
        for one in every:
            if "a_attack" in one:  # a comparison of two
                continue
            assert wanted <= set(one), one["run"]
            assert one["dataset"] == file.stem and one["run"].startswith(f"{one['dataset']}-{one['seed']}")
            assert (one["tpr_at_fpr"]["0.001"] is None) == (one["n_nonmembers"] < 2000), one["run"]
            assert one["auc"]["low"] <= one["auc"]["value"] <= one["auc"]["high"], one["run"]


def test_what_is_there_is_run_again_where_its_attack_has_another_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = [plan for plan in attacks.plans("location30/0") if plan.attack in ("gap", "logit", "boundary")]
    there = [{"run": run.run_name("location30/0", plan), "revision": 1} for plan in planned]
    monkeypatch.setattr(run, "read_rows", lambda: there)
    assert run.missing("location30/0", planned) == []
    assert run.missing("location30/0", planned, again=True) == planned
    monkeypatch.setattr(Gap, "revision", 2)
    assert [plan.attack for plan in run.missing("location30/0", planned)] == ["gap"]
    monkeypatch.setattr(ceilings, "REVISION", 2)
    assert [plan.attack for plan in run.missing("location30/0", planned)] == ["logit", "gap"]


def test_lira_and_rmia_by_hand() -> None:
    confidence, outside = torch.tensor([3.0, 3.0]), torch.tensor([[1.0, 2.0], [2.0, 6.0]])
    found = ceilings.lira(confidence, outside)
    assert found["fixed"].tolist() == [1.5, -1.0]
    assert np.allclose(found["per_candidate"], [1.5 / math.sqrt(0.5), -1.0 / math.sqrt(8)], atol=1e-5)
    ratio = ceilings.rmia(torch.tensor([0.9]), torch.tensor([[0.2], [0.4]]))
    assert math.isclose(float(ratio), 0.9 / ((1.3 * 0.3 + 0.7) / 2), rel_tol=1e-6)
    z = torch.tensor([[2.0, 1.0, 0.0], [0.0, 30.0, 0.0]])
    p = z.double().softmax(1)[0, 0]
    assert math.isclose(float(ceilings.logit_of(z, torch.tensor([0, 1]))[0]), math.log(p / (1 - p)), rel_tol=1e-9)
    assert math.isclose(float(ceilings.logit_of(z, torch.tensor([0, 1]))[1]), 30 - math.log(2), rel_tol=1e-9)


def test_frames_of_one_sign_stay_on_one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.repeat(np.arange(40), 5)
    x = torch.rand(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.from_numpy(groups) % 4
    spec = worlds.BenchmarkData("none", "cnn", Box(0, 1), members=52, audited=50, nonmembers=61, shadow=50)
    monkeypatch.setitem(worlds.DATASETS, "made", spec)
    monkeypatch.setattr(worlds, "_load", lambda _: (worlds.LabelledRows(x, y), groups))
    parts, classes = worlds.split("made", seed=0)
    assert classes == 4 and (len(parts.members), len(parts.nonmembers), len(parts.shadow)) == (50, 60, 50)
    place = {row.numpy().tobytes(): group for row, group in zip(x, groups, strict=True)}
    sides = [{place[one.numpy().tobytes()] for one in part.x} for part in
             (parts.members, parts.nonmembers, parts.shadow, parts.rest)]  # fmt: skip
    assert sum(map(len, sides)) == 40 and len(set.union(*sides)) == 40
    again = worlds.split("made", seed=0)[0]
    assert torch.equal(again.members.x, parts.members.x)
    assert not torch.equal(worlds.split("made", seed=1)[0].members.x, parts.members.x)


def test_plans_have_names_of_their_own_and_stay_within_the_rules() -> None:
    for world in worlds.worlds():
        planned = attacks.plans(world)
        keys = [plan.key for plan in planned]
        assert len(set(keys)) == len(keys), world
        for plan in planned:
            assert plan.budget <= 50 or plan.most is not None, "many labels, few candidates"
            assert plan.budget <= 200 or plan.most == attacks.FEW
            assert plan.budget <= 1000 or world in attacks.DENSE


def test_a_row_states_the_budget_that_was_read_also_where_the_attack_ends_before_it() -> None:
    guided = next(p for p in attacks.plans("cifar10/0") if p.attack == "guided")
    assert [run.labels_of(guided, budget, 13) for budget in guided.read] == [1, 2, 5, 10, 20, 50]
    assert LABELS in guided.read, "the bars look for it"
    others = [plan for _, plan in attacks.ROBUSTNESS() if plan.attack == "guided"]
    assert {run.labels_of(plan, plan.budget, 13) for plan in others} == {LABELS}, "beside the main table's row"
    augmentation = next(p for p in attacks.plans("cifar10/0") if p.attack == "augmentation")
    assert run.labels_of(augmentation, 50, 11) == 11


def test_a_difference_is_of_the_pair_asked_for() -> None:
    a, b, c = row("guided", 20, 0.9), lira(0.8), lira(0.6, variant="per_candidate")
    found = difference(
        [pair(a, b), pair(a, c)], ("guided", "", "labelleaks", 20), ("lira_offline", "fixed", "posteriors", 1)
    )
    assert found is not None and math.isclose(found.value, 0.1) and found.count == 1


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
    assert figures_of("second", tmp_path) == {"figure": 3} and figures_of("third", tmp_path) == {}
    assert [row["benchmark"] for row in jsonl.read(tmp_path / "figures.jsonl")] == ["first", "second"]


def test_every_section_has_its_figures() -> None:
    text = (RESULTS / "README.md").read_text()
    names = {row["benchmark"] for row in jsonl.read(RESULTS / "figures.jsonl")}
    names -= {"coverage"}  # its tables are in docs/statistics.md
    assert all(f"<!-- {name} -->\n## " in text for name in names) and text.count("<!-- ") == len(names)
    assert with_section(text, "kills", text.split("<!-- kills -->\n#")[1].split("\n<!--")[0]) == text
