"""Analyses beside the attack rows: closed forms, and the grid's rules for them."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import norm
from torch import Tensor

from labelleaks import data, experiments, metrics
from labelleaks.attacks import Augmentation, Boundary, Gap, Noise, Transfer
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.data import label_leaks_split
from labelleaks.experiments import runner
from labelleaks.experiments.baselines import SaltAndPepper
from labelleaks.experiments.runner import GridPlan, Options
from labelleaks.experiments.spec import StudySpec, load_reproduction
from labelleaks.experiments.studies import percentile
from labelleaks.experiments.studies.base import difference_of_means, mean
from labelleaks.experiments.studies.percentile import Called
from labelleaks.experiments.studies.radius import ALPHA, SIGMA, certify
from labelleaks.metrics import estimates
from labelleaks.models import architectures
from labelleaks.models.training import Recipe, train
from labelleaks.targets import wrap
from labelleaks.testing.planted import HalfSpace

HERE = Path(__file__).parents[2] / "reproductions"
GRID = """
about: tiny
worlds:
  digits:
    model: mlp
    sizes: [100]
    epochs: 4
    shadow_rows: 150
    shadow_epochs: 3
measures:
  - {attack: gap}
  - {attack: transfer, candidates: 60}
  - {attack: loss_threshold, candidates: 60}
  - {attack: boundary, variant: hopskipjump, labels: 60, read: [20, 60], norms: true, candidates: 8}
"""
STUDIES = """
studies:
  - {study: radius, rows: images, candidates: 4, draws: 50}
  - {study: percentile, of: hopskipjump, inputs: 4}
  - {study: distribution, of: transfer}
  - {study: distribution, of: hopskipjump}
  - {study: fresh, of: gap}
  - {study: paired, of: hopskipjump}
  - {study: memguard, of: loss_threshold}
  - {study: memguard, of: hopskipjump}
"""


def rows_of(offsets: list[float]) -> tuple[HalfSpace, Candidates]:
    """A plane, and rows at these distances from it."""
    x = torch.full((len(offsets), 16), 0.5)
    x[:, 0] += torch.tensor(offsets)
    plane = HalfSpace(torch.eye(16)[0], 0.5)
    return plane, Candidates(x, torch.ones(len(offsets)).long(), Box(0, 1), 2)


def test_before_a_plane_the_certified_radius_is_the_distance() -> None:
    """Noise crosses a plane at distance d with probability Phi(-d / sigma), so sigma Phi^-1(p) is d itself."""
    plane, rows = rows_of([0.1, 0.25, 0.4, -0.2])
    gate = Gate(plane)
    found = certify(gate.oracle("radius", 4, 20_100), rows, draws=20_000, seed=0)
    assert found.label.tolist() == [1, 1, 1, 0]
    distance = plane.distance(rows.x)
    assert bool((found.radius < distance).all())  # a lower bound
    torch.testing.assert_close(found.radius, distance, atol=0.02, rtol=0)
    assert gate.ledger.rows == 4 * 20_100 and gate.ledger.by_phase() == {"radius.choose": 400, "radius.certify": 80_000}


def test_a_certificate_fails_no_more_often_than_it_says() -> None:
    """The bound of the probability, exactly: over all counts, P(bound > p) is at most ALPHA."""
    n = 200
    counts = np.arange(n + 1)
    bound = estimates.lower_limit(counts, n, np.full(n + 1, ALPHA))
    from scipy.stats import binom

    for p in (0.3, 0.5, 0.77, 0.95):
        assert binom.pmf(counts[bound > p], n, p).sum() <= ALPHA
    assert bound[n] == pytest.approx(ALPHA ** (1 / n))


def test_it_abstains_on_the_boundary_and_is_finite_where_no_copy_differs() -> None:
    plane, rows = rows_of([0.0, 0.49])
    found = certify(Gate(plane).oracle("radius", 2, 1100), rows, draws=1000, seed=0, sigma=0.1)
    assert found.radius[0] == 0 and found.probability[0] < 0.5
    most = 0.1 * norm.ppf(ALPHA ** (1 / 1000))
    assert 0.24 < float(found.radius[1]) <= most + 1e-12 < math.inf


def test_a_radius_does_not_depend_on_the_rows_beside_it_and_stays_inside_when_told() -> None:
    plane, rows = rows_of([0.1, 0.3, 0.2])
    seen: list[torch.Tensor] = []

    def target(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return plane(x)

    box = Box(0, 1)
    all_of_them = certify(Gate(target).oracle("r", 3, 400), rows, draws=300, seed=0, inside=box)
    assert min(float(x.min()) for x in seen) == 0 and max(float(x.max()) for x in seen) == 1
    alone = Candidates(rows.x[1:2], rows.y[1:2], box, 2)
    assert (
        certify(Gate(plane).oracle("r", 1, 400), alone, draws=300, seed=0, inside=box).radius == all_of_them.radius[1]
    )
    outside = Gate(target)
    seen.clear()
    certify(outside.oracle("r", 3, 400), rows, draws=300, seed=0)
    assert min(float(x.min()) for x in seen) < -2 * SIGMA


def test_f1_and_its_interval() -> None:
    of = Called(tp=30, fp=10, m=40, n=50)
    found = percentile.f1(of)
    assert found["value"] == pytest.approx(60 / (60 + 10 + 10), abs=1e-5)
    assert found["low"] < found["value"] < found["high"]
    nobody = percentile.f1(Called(0, 0, 40, 50))
    assert nobody["value"] == 0 and nobody["high"] > 0
    same = percentile.balanced_accuracy(of)
    assert same["value"] == pytest.approx((30 / 40 + 40 / 50) / 2)


@pytest.mark.coverage
def test_the_interval_of_f1_covers() -> None:
    draw = np.random.default_rng(0)
    truth = 2 * 0.8 * 40 / (40 * 1.8 + 50 * 0.3)
    hits = 0
    for _ in range(300):
        found = percentile.f1(Called(int(draw.binomial(40, 0.8)), int(draw.binomial(50, 0.3)), 40, 50))
        hits += found["low"] <= truth <= found["high"]
    assert hits >= 0.95 * 300


def test_random_images_of_the_authors_are_bytes_of_all_values_alike() -> None:
    levels = (255 * percentile.wrapped(torch.tensor([0.0, 1.0, 1.01, -0.5, -1.01]))).round()
    assert levels.tolist() == [0, 255, 1, 129, 255]
    x = percentile.wrapped(torch.randn(80_000, generator=torch.Generator().manual_seed(0)))
    counts = np.bincount((255 * x).round().long(), minlength=256)
    assert len(counts) == 256 and counts.min() > 0.7 * counts.mean() and counts.max() < 2 * counts.mean()


def test_means_with_intervals() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 0.0])
    assert mean(a)["value"] == 2.5 and mean(a)["high"] - 2.5 == pytest.approx(3.18245 * np.std(a, ddof=1) / 2, abs=1e-4)
    assert difference_of_means(a, b) == mean(a)  # one side without spread: Welch is Student's
    assert difference_of_means(b, b) == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"study": "radius"}, "rows: images"),
        ({"study": "percentile", "of": "gap"}, "hopskipjump, qeba, pointwise"),
        ({"study": "radius", "rows": "images", "of": "gap"}, "of no attack"),
        ({"study": "tsne"}, "Input should be"),
    ],
)
def test_a_wrong_study_is_named(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        StudySpec.model_validate(spec)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "reproductions" / "tiny"
    (folder / "profiles").mkdir(parents=True)
    (folder / "profiles" / "smoke.yaml").write_text(GRID + STUDIES)
    shutil.copy(HERE / "label-leaks" / "expected.yaml", folder)
    return folder


def plan_of(home: Path) -> GridPlan:
    place = home.parent.parent / "place"
    found = load_reproduction("tiny", "smoke", home.parent)
    return experiments.plan(found, Options(store=str(place / "store"), out=str(place / "out")))


def finish(plan: GridPlan) -> int:
    done = experiments.run(plan, say=lambda text: None)
    experiments.write_page(plan.reproduction, plan.options.out)
    return done


def read(plan: GridPlan, name: str) -> list[dict[str, Any]]:
    (head,) = [row for row in plan.studies.rows() if row["stage"].endswith(f"-clean-{name}")]
    return [head, *head["points"]]


def test_studies_are_stages_like_others(home: Path) -> None:
    spec = home / "profiles" / "smoke.yaml"
    spec.write_text(GRID)
    finish(plan_of(home))
    spec.write_text(GRID + STUDIES)
    assert {stage.kind for stage, _ in runner.forecast(plan_of(home))} == {"study"}  # scores are read, not asked again
    assert finish(plan_of(home)) == 8 and finish(plan_of(home)) == 0
    shutil.rmtree(plan_of(home).options.store)
    assert not runner.forecast(plan_of(home))  # what is committed counts as done
    (file,) = (Path(plan_of(home).options.out) / "studies").rglob("*.jsonl")
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "fresh-gap" not in line))
    assert [s.name.rpartition("clean")[2] for s, _ in runner.forecast(plan_of(home))] == [
        " target",
        " gap",
        "-fresh-gap",
    ]


def test_what_studies_say(home: Path) -> None:
    plan = plan_of(home)
    finish(plan)
    head, *points = read(plan, "radius")
    assert (head["dataset"], head["target_size"], head["labels"], len(points)) == ("digits", 100, 150, 8)
    ours = [p["radius"] * p["correct"] for p in points if p["member"]]
    assert head["radius"]["members"]["value"] == pytest.approx(np.mean(ours), abs=1e-4) and head["projected"]

    head, *points = read(plan, "percentile-hopskipjump")
    assert [p["t"] for p in points] == [*range(1, 100)] * 2
    for kind, about in head["inputs"].items():
        mine = [p for p in points if p["inputs"] == kind]
        assert about["changed"] <= about["tried"] <= about["labels"] <= about["tried"] * 61
        assert [p["tp"] for p in mine] == sorted((p["tp"] for p in mine), reverse=True)  # a larger t, fewer members

    ((_, scores),) = [(m, e.needs[0]) for m, e in plan.worlds[0].evaluations if m.attack == "transfer"]
    found = plan.store.scored(scores)
    head, *points = read(plan, "distribution-transfer")
    counted = [
        head["misclassified"][i] + sum(p[side] for p in points) for i, side in enumerate(("members", "nonmembers"))
    ]
    assert counted == [head["n_members"], head["n_nonmembers"]] == [60, 60]
    assert head["misclassified"][1] == int((found.readings[0].path[-1][~found.member] == -100).sum())
    head, *points = read(plan, "distribution-hopskipjump")
    assert sum(p["members"] + p["nonmembers"] for p in points) + sum(head["misclassified"] + head["no_start"]) == 16

    _, point = read(plan, "fresh-gap")
    assert point["auc"]["value"] + point["swapped"] == pytest.approx(1, abs=1e-5)
    assert point["auc"]["low"] <= 0.5 <= point["auc"]["high"]


def test_pairs_of_one_run(home: Path) -> None:
    plan = plan_of(home)
    finish(plan)
    ((_, scores),) = [(m, e.needs[0]) for m, e in plan.worlds[0].evaluations if m.attack == "boundary"]
    found = plan.store.scored(scores)
    head, *points = read(plan, "paired-hopskipjump")
    assert (head["attack"], head["n_members"], head["n_nonmembers"]) == ("boundary", 8, 8)
    assert len(points) == 6 + 1  # four norms, and the one that was read at 20 labels too
    l2, l1 = (next(r for r in found.readings if r.variant == f"hopskipjump{n}") for n in ("", ", norm=l1"))
    point = next(p for p in points if p["first"] == ["hopskipjump", 60] and p["second"] == ["hopskipjump, norm=l1", 60])
    expected = metrics.compare_auc(l2.path[-1], l1.path[-1], found.member).difference
    assert point["difference"]["value"] == pytest.approx(expected.value, abs=1e-5)
    assert [p["second"] for p in points if p["first"] == ["hopskipjump", 20]] == [["hopskipjump", 60]]


def test_behind_memguard_posteriors_say_what_labels_say(home: Path) -> None:
    plan = plan_of(home)
    finish(plan)
    _, point, *norms = read(plan, "memguard-hopskipjump")
    assert point["identical"] == point["scores"] == 16 and point["without"] == point["behind"]
    assert all(p["identical"] == p["scores"] for p in norms) and len(norms) == 3
    _, loss, one_hot = read(plan, "memguard-loss_threshold")
    assert loss["identical"] == 0 and one_hot["identical"] == one_hot["scores"]
    assert loss["behind"]["value"] == one_hot["without"]["value"]


ROWS = 150
LABELS = 120
SEARCHES = {"hopskipjump": Boundary(), "qeba": Boundary(subspace="resize"), "salt_and_pepper": SaltAndPepper()}
ATTACKS: dict[str, Attack] = {
    "gap": Gap(),
    "noise": Noise(copies=LABELS - 1),
    "augmentation": Augmentation(),
    "transfer": Transfer(recipe=Recipe(epochs=5)),
    **SEARCHES,
}


@dataclass(frozen=True, eq=False)
class Setting:
    """Members, non-members and rows seen by nobody, all of one size; a target that fits its members."""

    model: torch.nn.Module
    members: tuple[Tensor, Tensor]
    others: tuple[Tensor, Tensor]
    fresh: tuple[Tensor, Tensor]
    shadow: tuple[Tensor, Tensor]
    digits: data.Dataset

    def accuracy(self, rows: tuple[Tensor, Tensor]) -> float:
        with torch.inference_mode():
            return float((self.model(rows[0]).argmax(1) == rows[1]).double().mean())

    def score(self, attack: Attack, first: tuple[Tensor, Tensor], most: int = ROWS) -> tuple[Scores, Tensor, Tensor]:
        """Scores of the first ``most`` rows of ``first`` and of the others, who is of ``first``, rows seen by the
        target for each candidate."""
        parts = [(x[:most], y[:most]) for x, y in (first, self.others)]
        x, y = (torch.cat(part) for part in zip(*parts, strict=True))
        candidates = Candidates(x, y, self.digits.domain, self.digits.classes)
        gate = Gate(wrap(self.model, numpy=False, classes=self.digits.classes, width=64))
        knowledge = Knowledge(setup=gate.setup_oracle("set-up"))
        if attack.name == "transfer":
            knowledge = Knowledge(knowledge.setup, ShadowRows(self.shadow[0]), family="mlp", references=1)
        scores = attack.score(gate.oracle(attack.name, len(x), LABELS), candidates, knowledge, seed=0)
        seen = torch.stack(list(gate.ledger.candidates.values())).sum(0)
        return scores, torch.arange(len(x)) < len(parts[0][0]), seen


@pytest.fixture(scope="module")
def setting() -> Setting:
    digits = data.load("digits")
    split = label_leaks_split(digits, (ROWS,), 2 * ROWS, seed=1, protocol="clean")
    members = digits.rows(split.members(ROWS))
    rest = digits.rows(split.nonmembers())
    model = train(architectures.build("mlp", (1, 8, 8), 10, seed=0), *members, Recipe(epochs=15), seed=0)
    half = (rest[0][:ROWS], rest[1][:ROWS]), (rest[0][ROWS:], rest[1][ROWS:])
    return Setting(model, members, *half, digits.rows(split.shadow[:300]), digits)


def test_the_gap_attack_is_half_and_half_the_gap(setting: Setting) -> None:
    scores, member, _ = setting.score(Gap(), setting.members)
    gap = setting.accuracy(setting.members) - setting.accuracy(setting.others)
    assert gap > 0.03
    right = float(((scores.value > 0.5) == member).double().mean())
    assert right == pytest.approx(0.5 + gap / 2, abs=1e-12)
    assert metrics.auc(scores.value, member).value == pytest.approx(0.5 + gap / 2, abs=1e-12)


@pytest.mark.parametrize("search", ["hopskipjump"])
def test_the_l0_distance_is_nearly_the_gap_attack(setting: Setting, search: str) -> None:
    """Nearly: where a value is clipped at the candidate's own, the point has it too."""
    scores, member, _ = setting.score(SEARCHES[search], setting.members, 60)
    gap, member, _ = setting.score(Gap(), setting.members, 60)
    changed = metrics.auc(scores.details["distance_l0"] > 0, member).value
    assert changed == metrics.auc(gap.value, member).value


@pytest.mark.parametrize("name", ATTACKS)
def test_where_nobody_is_a_member_nothing_is_told(setting: Setting, name: str) -> None:
    """Fresh rows in the members' place: 0.5 is within the AUC's 99.9 % interval (seven attacks are asked)."""
    scores, fresh, _ = setting.score(ATTACKS[name], setting.fresh, 100)
    found = metrics.auc(scores.value, fresh, level=0.999)
    assert found.low is not None and found.high is not None and found.low <= 0.5 <= found.high


@pytest.mark.parametrize("name", ATTACKS)
def test_exchanged_groups_turn_the_auc_round(setting: Setting, name: str) -> None:
    scores, member, _ = setting.score(ATTACKS[name], setting.members, 40)
    one, other = metrics.auc(scores.value, member).value, metrics.auc(scores.value, ~member).value
    assert one is not None and one != 0.5 and other == pytest.approx(1 - one, abs=1e-12)


@pytest.mark.parametrize("name", ATTACKS)
def test_labels_are_counted_as_they_are_sent(setting: Setting, name: str) -> None:
    """The count of each attack: 1 for a misclassified candidate of a search, else what its formula says."""
    scores, _, seen = setting.score(ATTACKS[name], setting.members, 40)
    assert torch.equal(scores.queries, seen)
    wrong = scores.status == int(Status.MISCLASSIFIED)
    fixed = {"gap": 1, "transfer": 1, "noise": LABELS, "augmentation": 11}.get(name)
    if fixed is not None:
        assert set(scores.queries[~wrong].tolist()) == {fixed}
    else:
        assert wrong.any() and set(scores.queries[wrong].tolist()) == {1}
        assert int(scores.queries.max()) <= LABELS


@pytest.mark.parametrize("name", ["hopskipjump", "qeba"])
def test_every_point_that_is_found_has_another_label_and_lies_in_the_domain(setting: Setting, name: str) -> None:
    scores, _, _ = setting.score(SEARCHES[name], setting.members, 40)
    found = (scores.status == int(Status.DONE)) | (scores.status == int(Status.BUDGET))
    assert int(found.sum()) > 50
    point = scores.details["adversarial"]
    x, y = (torch.cat([a[:40], b[:40]]) for a, b in zip(setting.members, setting.others, strict=True))
    with torch.inference_mode():
        label = setting.model(point).argmax(1)
    assert not (label == y)[found].any()
    assert torch.equal(setting.digits.domain.project(point), point)
    moved = (point - x).flatten(1).double().norm(dim=1)
    assert torch.allclose(scores.value[found], moved[found], atol=1e-6)
