"""The noise attack: what is sent, what is counted, and that its score is the one its page promises."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from labelleaks.attacks import noise as module
from labelleaks.attacks.noise import Noise
from labelleaks.core.attack import Knowledge
from labelleaks.core.domains import Binary, Box, Continuous, Domain, Integer, Mixed, OneHot
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import InputError
from labelleaks.testing.planted import HalfSpace
from tests.support import run


class _Keeps:
    """A target that keeps what it was asked."""

    def __init__(self, decide) -> None:
        self.decide = decide
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return self.decide(x)


def _run(attack: Noise, decide, candidates: Candidates, budget: int | None) -> tuple[Scores, list[Tensor]]:
    target = _Keeps(decide)
    scores, _ = run(attack, target, candidates, budget=budget, batch_rows=1 << 20)
    return scores, target.seen


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros(len(x), dtype=torch.int64)


def _candidates(x: Tensor, domain: Domain) -> Candidates:
    return Candidates(x, torch.zeros(len(x), dtype=torch.int64), domain, 2)


def test_gaussian_noise_is_relative_to_each_span() -> None:
    low, high = torch.tensor([0.0, -100.0]), torch.tensor([1.0, 100.0])
    candidates = _candidates(torch.tensor([[0.5, 0.0]]), Box(low, high))
    _, (_, copies) = _run(Noise(magnitudes=(0.05,), copies=20000), _zeros, candidates, None)
    deviation = (copies - candidates.x) / (high - low)
    assert deviation.std(0).tolist() == pytest.approx([0.05, 0.05], rel=0.03)
    assert deviation.mean(0).abs().max() < 0.002
    assert abs(torch.corrcoef(deviation.T)[0, 1]) < 0.03


def test_share_estimates_the_half_spaces_normal_probability() -> None:
    """At distance D from a plane, a copy with noise s stays with probability Phi(D / s): a closed form."""
    normal = torch.ones(64) / 8
    x = torch.full((3, 64), 50.0) + torch.tensor([1.0, 2.0, 4.0])[:, None] * normal
    target = HalfSpace(normal, 400.0)
    candidates = Candidates(x, torch.ones(3, dtype=torch.int64), Box(0, 100), 2)
    scores, _ = _run(Noise(magnitudes=(0.02,), copies=4000), target, candidates, None)
    distance = target.distance(x)
    assert distance.tolist() == pytest.approx([1, 2, 4], rel=1e-4)
    expected = [NormalDist().cdf(d / 2.0) for d in distance.tolist()]
    assert scores.value.tolist() == pytest.approx(expected, abs=0.025)


def test_flips_have_the_promised_rate() -> None:
    candidates = _candidates(torch.tensor([[0.0, 1.0] * 25]), Binary())
    _, (_, copies) = _run(Noise(magnitudes=(3,), copies=8000), _zeros, candidates, None)
    flipped = (copies != candidates.x).to(torch.float64)
    assert float(flipped.sum(1).mean()) == pytest.approx(3.0, abs=0.08)
    assert flipped.mean(0).tolist() == pytest.approx([0.06] * 50, abs=0.013)
    assert float(flipped.sum(1).var()) == pytest.approx(50 * 0.06 * 0.94, rel=0.1)  # independent features


def test_mixed_perturbs_every_part_in_its_own_way() -> None:
    domain = Mixed(Continuous(0, 10), Integer(0, 40), OneHot(4))
    candidates = _candidates(torch.tensor([[5.0, 20.0, 0.0, 1.0, 0.0, 0.0]]), domain)
    _, (_, copies) = _run(Noise(magnitudes=(0.1,), copies=8000), _zeros, candidates, None)
    domain.check(copies, "copies")
    assert float(copies[:, 0].std()) == pytest.approx(1.0, rel=0.05)
    assert float(copies[:, 1].std()) == pytest.approx(math.sqrt(4.0**2 + 1 / 12), rel=0.05)
    category = torch.bincount(copies[:, 2:].argmax(1), minlength=4) / len(copies)
    assert category.tolist() == pytest.approx([0.025, 0.925, 0.025, 0.025], abs=0.01)


def test_magnitudes_are_interleaved() -> None:
    candidates = _candidates(torch.full((1, 3000), 0.5), Box(0, 1))
    _, (_, copies) = _run(Noise(magnitudes=(0.01, 0.02, 0.04, 0.08), copies=12), _zeros, candidates, None)
    strength = (copies - candidates.x).std(1).tolist()
    assert strength == pytest.approx([0.02, 0.04, 0.01, 0.08] * 3, rel=0.1)


def test_score_by_hand() -> None:
    """Labels 0 while all |noise| is small: with sigmas 0.01 and 0.05 just the weak copies are kept."""

    def near(x: Tensor) -> Tensor:
        return ((x - 0.5).abs().amax(1) > 0.09).to(torch.int64)

    candidates = Candidates(torch.full((2, 400), 0.5), torch.tensor([0, 1]), Box(0, 1), 2)
    weights = {0: 1.0, 2: 1 / 25}
    for emphasis, weight in weights.items():
        scores, seen = _run(Noise(magnitudes=(0.01, 0.05), copies=6, emphasis=emphasis), near, candidates, 100)
        assert scores.value.tolist() == pytest.approx([(1 + 3) / (1 + 3 + 3 * weight), 0.0], rel=1e-4)
        assert scores.queries.tolist() == [7, 1]
        assert scores.status.tolist() == [Status.DONE, Status.MISCLASSIFIED]
        assert [len(x) for x in seen] == [2, 6]


def test_correct_ranks_above_misclassified_even_if_no_copy_stays() -> None:
    x = torch.full((2, 8), 0.5)

    def only_itself(rows: Tensor) -> Tensor:
        return (rows != 0.5).any(1).to(torch.int64)

    candidates = Candidates(x, torch.tensor([0, 1]), Box(0, 1), 2)
    scores, _ = _run(Noise(copies=50), only_itself, candidates, None)
    assert scores.value[0] > scores.value[1] == 0.0


@pytest.mark.parametrize("domain", [Box(0, 1), Binary(), Mixed(Continuous(0, 1, width=4), OneHot(4))])
def test_trajectory_is_the_score_of_a_smaller_budget(domain: Domain) -> None:
    generator = torch.Generator().manual_seed(3)
    x = domain.from_uniform(torch.rand(6, 8, generator=generator))
    target = HalfSpace(torch.linspace(-1, 1, 8), 0.0)
    candidates = Candidates(x, target(x), domain, 2)
    attack = Noise(magnitudes=(0.2, 0.4, 0.8))
    whole, _ = _run(attack, target, candidates, 77)
    assert whole.trajectory is not None
    assert whole.trajectory.checkpoints == (1, 2, 5, 10, 20, 50, 77)
    for checkpoint, value in zip(whole.trajectory.checkpoints, whole.trajectory.value, strict=True):
        part, _ = _run(attack, target, candidates, checkpoint)
        assert torch.equal(part.value, value)
    assert len(whole.value.unique()) > 2


def test_blocks_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(5, 30, generator=torch.Generator().manual_seed(1))
    target = HalfSpace(torch.linspace(-1, 1, 30), 0.0)
    candidates = Candidates(x, target(x), Box(0, 1), 2)
    whole, _ = _run(Noise(), target, candidates, 60)
    for block in (30 * 7, 30 * 100, 1):  # parts of one candidate, one candidate, one copy
        monkeypatch.setattr(module, "_BLOCK", block)
        cut, seen = _run(Noise(), target, candidates, 60)
        assert max(len(rows) for rows in seen[1:]) <= max(1, block // 30)
        assert torch.equal(cut.value, whole.value)
        assert whole.trajectory is not None and cut.trajectory is not None
        assert torch.equal(cut.trajectory.value, whole.trajectory.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Noise(copies=0), "copies must be a whole number of at least 1"),
        (lambda: Noise(magnitudes=()), "magnitudes must be 1 or more numbers"),
        (lambda: Noise(magnitudes=(0.1, math.nan)), "magnitudes must be .*got nan in"),
        (lambda: Noise(magnitudes=(-0.1,)), "magnitudes must be .*got -0.1 in"),
        (lambda: Noise(emphasis=-1), "emphasis"),
    ],
)
def test_bad_settings(make, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_magnitude_beyond_the_domain_is_refused_before_a_query() -> None:
    candidates = _candidates(torch.zeros(2, 5), Binary())
    seen: list[Tensor] = []
    with pytest.raises(InputError, match="magnitude 6 is above 5"):
        Noise(magnitudes=(6,)).cost(candidates, Knowledge(Gate(_zeros).setup_oracle("setup")), 10)
    with pytest.raises(InputError, match="magnitude 6 is above 5"):
        _, seen = _run(Noise(magnitudes=(6,)), _zeros, candidates, 10)
    assert not seen
