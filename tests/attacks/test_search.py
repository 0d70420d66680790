"""The parts of the boundary search, each against a closed form or a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import idctn
from torch.nn.functional import interpolate

from labelleaks.attacks.search.driver import Track, widest
from labelleaks.attacks.search.normal_estimate import Ballot, Signs, hadamard, normal
from labelleaks.attacks.search.rays import Rays
from labelleaks.attacks.search.start import TRIES, from_pool, from_trials
from labelleaks.attacks.search.subspaces import Whole, space
from labelleaks.attacks.search.tangent import ray
from labelleaks.core import rng
from labelleaks.core.batch_invariant import distances, reject, row_sums, to_grid, unit
from labelleaks.core.domains import Binary, Box, distance
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Predict
from labelleaks.errors import InputError
from labelleaks.testing.planted import HalfSpace

NORMS = ("l0", "l1", "l2", "linf")


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def track_of(target: Predict, x: torch.Tensor, domain: Box | Binary, *, budget: int | None = None) -> Track:
    gate = Gate(target, batch_rows=64)
    candidates = Candidates(x, torch.zeros(len(x), dtype=torch.int64), domain, classes=2)
    oracle = gate.oracle("boundary", len(x), budget)
    return Track(oracle, candidates, torch.arange(len(x)), seed=0, norm="l2", checkpoints=(1, 10, 100))


# --- exact sums ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3, 7, 64, 101, 40_000])
def test_row_sums_are_sums_and_do_not_depend_on_the_batch(d: int) -> None:
    terms = numbers(5, d)
    sums = row_sums(terms)
    torch.testing.assert_close(sums.to(torch.float64), terms.to(torch.float64).sum(1), rtol=1e-4, atol=1e-4)
    for i in range(5):
        assert torch.equal(row_sums(terms[i : i + 1]), sums[i : i + 1])


@pytest.mark.parametrize("norm", NORMS)
def test_distances_are_those_of_the_domain(norm: str) -> None:
    a, b = numbers(6, 30), numbers(6, 30, seed=1)
    b[:, ::3] = a[:, ::3]
    torch.testing.assert_close(distances(a, b, norm), distance(a, b, norm), rtol=1e-14, atol=0)  # type: ignore[arg-type]


def test_unit_rows_and_rejection() -> None:
    rows = torch.cat([numbers(4, 50), torch.zeros(1, 50)])
    made = unit(rows)
    torch.testing.assert_close(made.norm(dim=1), torch.tensor([1.0, 1, 1, 1, 0]))
    assert float((reject(numbers(5, 50, seed=2), made) * made).sum(1).abs().max()) < 1e-5


@pytest.mark.parametrize("d", [3, 64, 3072])
def test_sums_of_signs_times_a_grid_row_are_exact(d: int) -> None:
    row = to_grid(unit(numbers(4, d)), 1.0)
    signs = numbers(d, 33, seed=3).sign()
    assert torch.equal((row @ signs).to(torch.float64), row.to(torch.float64) @ signs.to(torch.float64))
    assert float((row - unit(numbers(4, d))).abs().max()) < 4e-6 * math.sqrt(d)


# --- orthogonal sign vectors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2, 3, 8, 12, 20, 28, 64, 100, 446, 784])
def test_the_vectors_of_a_pass_are_orthogonal(width: int) -> None:
    left, right = hadamard(width)
    full = torch.kron(left, right)
    assert torch.equal(full @ full.T, len(full) * torch.eye(len(full)))
    signs = Signs(rng.streams(torch.arange(2), 0, "x"), width, seed=0)
    rows = signs.rows(0, signs.order)
    assert torch.equal(rows.T @ rows, signs.order * torch.eye(width))
    assert signs.order < 1.34 * width + 2


def test_the_paper_s_image_sizes_waste_no_vector() -> None:
    for width in (784, 3072, 3 * 64 * 64):
        left, right = hadamard(width)
        assert len(left) * len(right) == width


def test_windows_cover_every_vector_once_and_never_cross_a_pass() -> None:
    signs = Signs(torch.arange(1), 20, seed=0)
    seen = []
    for turn, row, count in signs.windows(13, 55, 7):
        assert 0 < count <= 7 and row + count <= signs.order
        seen += [turn * signs.order + row + k for k in range(count)]
    assert seen == list(range(13, 68))


def test_column_signs_differ_by_candidate_and_pass_not_by_position() -> None:
    signs = Signs(rng.streams(torch.tensor([5, 9, 7]), 0, "x"), 64, seed=0)
    a = signs.columns(torch.tensor([0, 1, 2]), 0)
    assert torch.equal(signs.columns(torch.tensor([2]), 0), a[2:])
    assert not torch.equal(a[0], a[1]) and not torch.equal(signs.columns(torch.tensor([0]), 1), a[:1])


# --- subspaces ----------------------------------------------------------------------------------------------------


def test_resize_is_bilinear_interpolation() -> None:
    made = space((3, 32, 32), "resize", 2)
    small = numbers(4, 3 * 16 * 16).sign()
    expected = interpolate(small.reshape(4, 3, 16, 16), size=32, mode="bilinear").reshape(4, -1)
    torch.testing.assert_close(made.lift(small), expected)


def test_dct_is_the_inverse_cosine_transform_of_low_frequencies() -> None:
    made = space((2, 16, 12), "dct", 4)
    coordinates = numbers(5, 2 * 4 * 3).sign()
    padded = np.zeros((5, 2, 16, 12))
    padded[:, :, :4, :3] = coordinates.reshape(5, 2, 4, 3).numpy()
    expected = idctn(padded, axes=(2, 3), norm="ortho").reshape(5, -1)
    np.testing.assert_allclose(made.lift(coordinates).numpy(), expected, atol=5e-3)


@pytest.mark.parametrize("kind", ["resize", "dct"])
@pytest.mark.parametrize("shape", [(9, 7), (1, 28, 28), (3, 8, 12)])
def test_lower_is_the_transpose_of_lift(kind: str, shape: tuple[int, ...]) -> None:
    made = space(shape, kind, 2)  # type: ignore[arg-type]
    coordinates = numbers(5, made.width).sign()
    rows = to_grid(unit(numbers(5, math.prod(shape), seed=1)), 1.0)
    left = (made.lift(coordinates) * rows).to(torch.float64).sum(1)
    right = (coordinates * made.lower(rows)).to(torch.float64).sum(1)
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-4)
    lengths = made.lift(numbers(200, made.width, seed=2).sign()).norm(dim=1)
    assert float(lengths.square().mean().sqrt()) == pytest.approx(made.length, rel=0.05)


@pytest.mark.parametrize("kind", ["resize", "dct"])
def test_channels_last_probes_are_the_same_pictures(kind: str) -> None:
    first, last = space((3, 8, 12), kind, 2), space((8, 12, 3), kind, 2)  # type: ignore[arg-type]
    coordinates = numbers(5, first.width).sign()
    lifted = first.lift(coordinates).reshape(5, 3, 8, 12)
    assert torch.equal(last.lift(coordinates).reshape(5, 8, 12, 3), lifted.permute(0, 2, 3, 1))
    rows = to_grid(unit(numbers(5, 288)), 1.0)
    turned = rows.reshape(5, 3, 8, 12).permute(0, 2, 3, 1).flatten(1)
    assert torch.equal(first.lower(rows), last.lower(turned))
    said = space((4, 12, 4), kind, 2, "hwc")  # type: ignore[arg-type]
    assert said.width == 4 * 2 * 6
    with pytest.raises(InputError, match=r"\(4, 12, 4\) may have channels first or last"):
        space((4, 12, 4), kind, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(30,), (3, 1, 8), (2, 3, 4, 4)])
def test_subspaces_need_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="needs images"):
        space(shape, "dct", 2)


# --- one-dimensional search ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    edge=st.floats(1e-4, 0.999), guess=st.floats(1e-3, 0.9), steps=st.integers(0, 30), precision=st.floats(1e-4, 0.2)
)
def test_widest_brackets_the_edge(edge: float, guess: float, steps: int, precision: float) -> None:
    asked: list[float] = []

    def holds(value: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        asked.extend(value.tolist())
        return value <= edge

    start = torch.tensor([guess], dtype=torch.float64)
    low, high = widest(holds, lambda a, b: b - a > precision, most=1.0, guess=start, steps=steps)
    assert float(low) <= edge <= float(high) and len(asked) <= steps
    assert all(0 < value < 1 for value in asked) and len(set(asked)) == len(asked)
    if steps == 30:
        assert float(high - low) <= precision


def test_widest_goes_on_from_where_it_is_known_to_hold() -> None:
    asked: list[float] = []

    def holds(value: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        asked.extend(value.tolist())
        return value <= 0.5

    def one(value: float) -> torch.Tensor:
        return torch.tensor([value], dtype=torch.float64)

    low, high = widest(holds, lambda a, b: b - a > 0.01, most=1.0, guess=one(0.4), least=one(0.3), steps=20)
    assert 0.49 <= float(low) <= 0.5 < float(high) and min(asked) == 0.4
    low, _ = widest(holds, lambda a, b: b - a > 0.01, most=1.0, guess=one(0.9), least=one(0.3), steps=1)
    assert float(low) == 0.3


# --- rays ---------------------------------------------------------------------------------------------------------


def test_the_tangent_ray_touches_the_ball_on_the_normal_s_side() -> None:
    angle = torch.tensor([0.1, 0.7, 1.3, 1.5], dtype=torch.float64).repeat(3)
    radius = torch.tensor([0.05, 0.5, 2.0], dtype=torch.float64).repeat_interleave(4)
    cosine, sine = ray(radius, angle.cos(), angle.sin())
    torch.testing.assert_close(cosine.square() + sine.square(), torch.ones(12, dtype=torch.float64))
    centre = 1 + radius * angle.cos(), radius * angle.sin()
    away = centre[0] * sine - centre[1] * cosine  # of the centre from the ray; above 0: the ray is the upper one
    torch.testing.assert_close(away, radius)
    foot = ray(angle.sin(), angle.cos(), angle.sin())  # this ball's ray meets a flat boundary at its nearest point
    torch.testing.assert_close(torch.stack(foot), torch.stack([angle.cos(), angle.sin()]))


@pytest.mark.parametrize("d", [1, 2, 3, 7, 64, 101])
def test_every_level_of_blocks_covers_the_row_once(d: int) -> None:
    search = Rays((d,), iterations=1)
    number = 0
    for level in range(8):
        covered, blocks = torch.zeros(d), search._blocks(number)
        assert blocks == min(d, 2 ** (level + 1))
        for _ in range(blocks):
            flipped = search._flip(number)[0] < 0
            assert flipped.any() and search._blocks(number) == blocks
            covered += flipped
            number += 1
        assert torch.equal(covered, torch.ones(d))
        if blocks == d:
            break
    assert torch.equal(search._flip(number), search._flip(0))  # from halves again
    corners = torch.cat([search._corner(k) for k in range(12)])
    assert corners.shape == (12, d) and torch.equal(corners[::2], -corners[1::2]) and bool((corners[0] == 1).all())


# --- normals from votes -------------------------------------------------------------------------------------------


def cosine_after(votes: int, d: int, n: int = 12) -> float:
    """Mean cosine of the estimate with the normal's part orthogonal to the axis, for a half-space."""
    w = numbers(d).to(torch.float64)
    x = 0.01 * numbers(n, d, seed=1)
    track = track_of(HalfSpace(w, 0.0), x, Box(-9, 9))
    base = x - ((x.to(torch.float64) @ w / w.square().sum())[:, None] * w).to(torch.float32)
    axis = unit(numbers(n, d, seed=2))
    ballot = Ballot(torch.arange(n), base, axis, torch.full((n,), 0.5), torch.full((n,), votes), first=0)
    v = normal(track, Signs(track.streams("probes"), d, 0), Whole(d), ballot, "normal")
    assert float((unit(v) * axis).sum(1).abs().max()) < 0.3  # not orthogonalised yet, and only noise along the axis
    p = reject(w.to(torch.float32).expand(n, -1), axis)
    return float((unit(reject(v, axis)) * unit(p)).sum(1).mean())


@pytest.mark.parametrize(("votes", "d"), [(60, 784), (392, 784), (784, 784), (64, 64), (128, 64)])
def test_orthogonal_votes_find_the_normal_as_promised(votes: int, d: int) -> None:
    expected = math.sqrt(2 * votes / (math.pi * d))
    if votes <= d:
        assert cosine_after(votes, d) == pytest.approx(expected, rel=0.1)
        assert cosine_after(votes, d) > math.sqrt(1 / (1 + math.pi * d / (2 * votes)))  # what Gaussian probes reach
    else:  # a second pass, with other signs
        assert cosine_after(votes, d) > 0.85


def test_votes_that_all_agree_say_nothing() -> None:
    x = numbers(3, 20)
    track = track_of(lambda rows: torch.ones(len(rows), dtype=torch.int64), x, Box(-9, 9))
    counts = torch.tensor([5, 24, 0])
    ballot = Ballot(torch.arange(3), x, unit(x), torch.ones(3), counts, first=0)
    v = normal(track, Signs(track.streams("probes"), 20, 0), Whole(20), ballot, "normal")
    assert torch.equal(v, torch.zeros(3, 20)) and torch.equal(track.spent, counts)


# --- starts -------------------------------------------------------------------------------------------------------


def test_the_start_is_the_nearest_pool_row_with_another_label() -> None:
    x, pool = torch.rand(7, 12, generator=torch.Generator().manual_seed(0)), torch.rand(2500, 12)
    labels = torch.arange(2500) % 3 % 2
    track = track_of(lambda rows: torch.zeros(len(rows), dtype=torch.int64), x, Box(0, 1))
    from_pool(track, torch.tensor([0, 2, 3, 6]), pool, labels)
    for i in (0, 2, 3, 6):
        away = distance(pool, x[i : i + 1].expand(2500, -1), "l2")
        away[labels == 0] = math.inf
        assert torch.equal(track.point[i], pool[away.argmin()])
        assert float(track.best[i]) == pytest.approx(float(away.min()))
    assert not track.found[[1, 4, 5]].any() and int(track.spent.sum()) == 0


def test_trials_are_bounded_and_inside_the_domain() -> None:
    domain = Box(-2, 5, levels=16)
    sent: list[torch.Tensor] = []

    def same(rows: torch.Tensor) -> torch.Tensor:
        domain.check(rows, "query")
        sent.append(rows)
        return torch.zeros(len(rows), dtype=torch.int64)

    x = domain.from_uniform(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    track = track_of(same, x, domain)
    from_trials(track, track.everyone)
    assert track.spent.tolist() == [TRIES] * 3 and not track.found.any()
    tried = torch.cat(sent).reshape(TRIES, 3, -1)
    assert len(tried[:, 0].unique(dim=0)) == TRIES  # no label is spent twice on one input
    assert track_of(same, x, domain, budget=7).left.tolist() == [7] * 3


def test_trials_stop_at_the_first_hit_and_at_the_budget() -> None:
    x = torch.full((2, 10), 0.3)
    target = HalfSpace(torch.ones(10), 9.9)  # only the highest corner has another label
    track = track_of(target, x, Box(0, 1), budget=20)
    from_trials(track, track.everyone)
    assert track.found.all() and torch.equal(track.point, torch.full((2, 10), 1 - 2.0**-24))
    assert int(track.spent.max()) <= 4
    poor = track_of(target, x, Box(0, 1), budget=2)
    from_trials(poor, poor.everyone)
    assert not poor.found.any() and poor.left.tolist() == [0, 0]
