"""Domains: projection is the nearest allowed input, checks say what is wrong, random inputs are uniform."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from labelleaks.core.domains import (
    Binary,
    Box,
    Continuous,
    Domain,
    Integer,
    Mixed,
    OneHot,
    distance,
    image_layout,
    image_size,
    is_ambiguous,
    why_no_layout,
)
from labelleaks.errors import InputError

MIXED = Mixed(Continuous(-1, 1), Integer(0, 3), OneHot(3))
DOMAINS: list[tuple[Domain, tuple[int, ...]]] = [
    (Box(0, 1), (4,)),
    (Box(0.1, 0.7, levels=13), (4,)),
    (Box(-3, 5, levels=256), (2, 3)),
    (Box(torch.tensor([0.0, -1.0, 10.0]), torch.tensor([1.0, 0.5, 1000.0])), (3,)),
    (Box(torch.tensor([0.0, -1.0, 10.0]), torch.tensor([1.0, 0.5, 1000.0]), levels=7), (3,)),
    (Binary(), (5,)),
    (MIXED, (5,)),
]
each_domain = pytest.mark.parametrize(("domain", "shape"), DOMAINS, ids=repr)


def _anything(shape: tuple[int, ...], n: int = 2000, seed: int = 0) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed)) * 3


@each_domain
def test_projection_lands_inside_and_stays(domain: Domain, shape: tuple[int, ...]) -> None:
    x = _anything(shape)
    kept = x.clone()
    projected = domain.project(x)
    assert torch.equal(x, kept)  # a new tensor
    assert projected.dtype == torch.float32 and projected.shape == x.shape
    domain.check(projected, "projected")
    assert torch.equal(domain.project(projected), projected)
    if isinstance(domain, Box):
        assert bool((projected >= domain.low).all() and (projected <= domain.high).all())  # to the last bit


@each_domain
def test_what_is_inside_is_left_alone(domain: Domain, shape: tuple[int, ...]) -> None:
    u = torch.rand(500, *shape, generator=torch.Generator().manual_seed(1))
    x = domain.from_uniform(u)
    domain.check(x, "random inputs")
    assert torch.equal(domain.project(x), x)


@given(st.lists(st.floats(-4, 8, width=32), min_size=5, max_size=5))
@settings(max_examples=60, deadline=None)
def test_mixed_projection_is_the_nearest_of_all_inputs(values: list[float]) -> None:
    """Brute force over every integer and category; the continuous column is clipped."""
    x = torch.tensor([values])
    best = math.inf
    for whole, hot in itertools.product(range(4), range(3)):
        category = torch.eye(3)[hot].tolist()
        point = torch.tensor([[min(max(values[0], -1.0), 1.0), float(whole), *category]])
        best = min(best, float(distance(point, x, "l2")))
    assert float(distance(MIXED.project(x), x, "l2")) == pytest.approx(best, abs=1e-6)


def test_levels_are_the_nearest_ones() -> None:
    grid = torch.arange(13) / 12 * 0.6 + 0.1
    x = torch.rand(300, 1, generator=torch.Generator().manual_seed(2)) * 0.6 + 0.1
    nearest = grid[(x - grid).abs().argmin(1)][:, None]
    assert torch.allclose(Box(0.1, 0.7, levels=13).project(x), nearest, atol=1e-6)


def test_8_bit_pixels_survive() -> None:
    pixels = (torch.arange(256, dtype=torch.float32) / 255)[None]
    assert torch.allclose(Box(0, 1, levels=256).project(pixels), pixels, atol=1e-7)
    raw = torch.arange(256, dtype=torch.float32)[None]
    assert torch.equal(Box(0, 255, levels=256).project(raw), raw)


def test_random_inputs_are_uniform() -> None:
    u = torch.rand(20000, 5, generator=torch.Generator().manual_seed(0))
    x = MIXED.from_uniform(u)
    assert torch.histc(x[:, 0], 4, -1, 1).tolist() == pytest.approx([5000] * 4, rel=0.06)
    assert torch.bincount(x[:, 1].to(torch.int64)).tolist() == pytest.approx([5000] * 4, rel=0.06)
    assert x[:, 2:].sum(0).tolist() == pytest.approx([6667] * 3, rel=0.06)
    bits = Binary().from_uniform(u)
    assert bits.mean(0).tolist() == pytest.approx([0.5] * 5, abs=0.02)
    box = Box(torch.tensor([0.0, -1.0]), torch.tensor([1.0, 3.0])).from_uniform(u[:, :2])
    assert box.mean(0).tolist() == pytest.approx([0.5, 1.0], abs=0.03)


@pytest.mark.parametrize(
    ("domain", "row", "says"),
    [
        (Box(0, 1), [0.2, 37.5, 0.1], r"1 of 2 rows .* worst is 37.5 at row 1, feature 1, allowed \[0, 1\]"),
        (Box(0, 1), [0.2, -0.5, 0.1], r"worst is -0.5 at row 1, feature 1"),
        (Box(torch.zeros(4), torch.ones(4)), [0.0, 0.0, 0.0], r"rows of shape \(3,\) do not fit .* shape \(4,\)"),
        (Binary(), [0.0, 0.5, 1.0], r"1 of 2 rows .* neither 0 nor 1; the first is 0.5 at row 1, feature 1"),
        (Mixed(Continuous(0, 1, width=2)), [0.0, 0.0, 0.0], r"rows of shape \(3,\).* 2 features"),
        (
            Mixed(Continuous(0, 1), Integer(0, 9, width=2)),
            [0.0, 2.5, 3.0],
            r"Integer.*columns 1 to 2 \(whole num",
        ),
        (Mixed(OneHot(3)), [0.0, 1.0, 1.0], r"OneHot.*exactly one 1 among 0s.*row 1: \[0.0, 1.0, 1.0\]"),
        (Mixed(OneHot(3)), [0.0, 0.0, 0.0], r"exactly one 1 among 0s"),
    ],
)
def test_checks_say_which_row_and_what(domain: Domain, row: list[float], says: str) -> None:
    fine = torch.tensor([[1.0, 0.0, 0.0][: len(row)], row])
    with pytest.raises(InputError, match="candidates: .*" + says):
        domain.check(fine, "candidates")


def test_rounding_on_the_clients_side_is_tolerated() -> None:
    Box(0, 255).check(torch.tensor([[255.0001, -0.0001]]), "candidates")
    with pytest.raises(InputError):
        Box(0, 255).check(torch.tensor([[255.01]]), "candidates")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Box(1, 0), "low must be below high"),
        (lambda: Box(0, math.inf), "finite"),
        (lambda: Box(math.nan, 1), "low must be below high"),
        (lambda: Box(0, 1, levels=1), "at least 2"),
        (lambda: Mixed(), "at least one part"),
        (lambda: Mixed(OneHot(1)), "too narrow"),
        (lambda: Mixed(Continuous(0, 1, width=0)), "too narrow"),
        (lambda: Mixed(Integer(3, 3)), "low must be below high"),
        (lambda: Mixed(Continuous(0, math.inf)), "finite"),
    ],
)
def test_impossible_domains(make, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_distances_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    b = torch.tensor([[3.0, 0.0, -4.0], [1.0, 2.0, 3.0]])
    expected = {"l0": [2, 0], "l1": [7, 0], "l2": [5, 0], "linf": [4, 0]}
    for norm, values in expected.items():
        found = distance(a, b, norm)  # type: ignore[arg-type]
        assert found.dtype == torch.float64
        assert found.tolist() == values
        assert distance(a.reshape(2, 1, 3), b.reshape(2, 1, 3), norm).tolist() == values  # type: ignore[arg-type]


@each_domain
@pytest.mark.parametrize("norm", ["l0", "l1", "l2", "linf"])
def test_no_two_inputs_are_farther_apart_than_the_diameter(domain: Domain, shape: tuple[int, ...], norm) -> None:
    x = domain.project(_anything(shape, seed=3) * 1000)
    y = domain.project(_anything(shape, seed=4) * 1000)
    farthest = float(distance(x, y, norm).max())
    diameter = domain.diameter(shape, norm)
    assert farthest <= diameter * (1 + 1e-6)
    assert farthest >= 0.8 * diameter  # corners are among so many rows


@each_domain
def test_descriptions_are_json(domain: Domain, shape: tuple[int, ...]) -> None:
    assert json.loads(json.dumps(domain.describe()))["kind"] in ("box", "binary", "mixed")
    assert tuple(domain.span(shape).shape) == shape


def test_groups_cover_the_columns() -> None:
    columns = [(c.start, c.stop) for _, c in MIXED.columns()]
    assert columns == [(0, 1), (1, 2), (2, 5)]
    assert MIXED.width == 5


def test_two_one_hot_groups_differ_in_two_features_at_most() -> None:
    rows = Mixed(OneHot(5), OneHot(3), Continuous(0, 3))
    found = [rows.diameter((9,), norm) for norm in ("l0", "l1", "l2", "linf")]  # type: ignore[arg-type]
    assert found == pytest.approx([5, 7, math.sqrt(2 + 2 + 9), 3])


def test_bounds_may_be_a_series_or_a_table_of_one_row() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [0.0, 2.0], "b": [-1.0, 1.0]})
    for low, high in ((frame.min(), frame.max()), (frame.min().to_frame().T, frame.max().to_frame().T)):
        Box(low, high).check(torch.tensor(frame.to_numpy(dtype="float32")), "rows")
        assert Box(low, high).span((2,)).tolist() == [2.0, 2.0]
    assert Box(0, 1, levels=256.0).levels == 256


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Box("0", 1), "Box: low='0' is no number"),
        (lambda: Box(None, 1), "Box: low=None is no number"),
        (lambda: Box(0, [1, "x"]), r"Box: high=.* is no number"),
        (lambda: Box([0, 0], [1, 0]), "got 0 and 0 of feature 1"),
        (lambda: Box([0, 0], [1, 1, 1]), r"low has the shape \(2,\) and high \(3,\)"),
        (lambda: Box(0, 1, levels="256"), "levels must be a whole number of at least 2 .*, got '256'"),
        (lambda: Box(0, 1, levels=2.5), "levels must be a whole number"),
        (lambda: Integer("a", "b"), "Integer: low='a' is no finite number"),
        (lambda: Continuous(0, float("nan")), "Continuous: high=nan is no finite number"),
        (lambda: Continuous(1, 0), "Continuous: low must be below high and both finite, got 1 and 0"),
        (lambda: Continuous(0, 1, 2.0), "Continuous: width=2.0"),
        (lambda: OneHot(1), "OneHot: width=1 is too narrow"),
        (lambda: Mixed(3), "Mixed: 3 is no part: give Continuous"),
        (lambda: Mixed([Continuous(0, 1)]), "is no part"),
        (lambda: Mixed(OneHot), "Mixed: OneHot is no part"),
    ],
)
def test_what_is_no_domain_is_said_in_one_line(make, says) -> None:
    with pytest.raises(InputError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


TOLD = [
    ((8, 8), "hw"),
    ((20, 50), "hw"),
    ((3, 32, 32), "chw"),
    ((1, 28, 28), "chw"),
    ((1, 28, 4), "chw"),
    ((4, 64, 64), "chw"),
    ((32, 32, 3), "hwc"),
    ((32, 32, 1), "hwc"),
    ((4, 4, 3), "hwc"),
    ((3, 4, 4), "chw"),
    ((32, 48, 4), "hwc"),
    ((32, 32, 2), "hwc"),
    ((2, 32, 32), "chw"),
    ((16, 16, 13), "hwc"),
    ((13, 16, 16), "chw"),
    ((9, 9, 200), "hwc"),
    ((64, 8, 8), "chw"),
    ((5, 48, 64), "chw"),
    ((48, 64, 5), "hwc"),
]
NO_PICTURES = [(446,), (1, 800), (800, 1), (3, 40), (1, 1, 100), (100, 1, 1), (3, 5, 3), (3, 32, 3), (2, 3, 4, 5)]
EITHER = [(4, 4, 4), (4, 32, 4), (32, 32, 32), (12, 20, 30), (12, 14, 15)]


@pytest.mark.parametrize(("shape", "layout"), TOLD)
def test_the_shape_tells(shape: tuple[int, ...], layout: str) -> None:
    assert image_layout(shape) == layout and not is_ambiguous(shape)
    if layout != "hw":  # the same picture with its channels at the other end
        channels, height, width = image_size(shape, layout)  # type: ignore[arg-type]
        turned = (channels, height, width) if layout == "hwc" else (height, width, channels)
        assert image_layout(turned) == ("chw" if layout == "hwc" else "hwc")
        assert image_size(turned, image_layout(turned)) == (channels, height, width)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", NO_PICTURES)
def test_too_thin_for_a_picture(shape: tuple[int, ...]) -> None:
    assert image_layout(shape) is None and not is_ambiguous(shape)
    assert "are no pictures" in why_no_layout(shape)


@pytest.mark.parametrize("shape", EITHER)
def test_where_both_ends_could_be_channels_nothing_is_guessed(shape: tuple[int, ...]) -> None:
    assert image_layout(shape) is None and is_ambiguous(shape)
    assert 'layout="chw") or layout="hwc"' in why_no_layout(shape)
    assert image_layout(shape, "chw") == "chw" and image_layout(shape, "hwc") == "hwc"


def test_the_word_decides_against_the_shape_too() -> None:
    assert image_layout((3, 32, 32), "hwc") == "hwc" and image_size((3, 32, 32), "hwc") == (32, 3, 32)
    assert image_layout((3, 5, 3), "hwc") == "hwc"
    assert image_layout((3, 32, 32), "none") is None and not is_ambiguous((4, 4, 4), "none")
    assert image_layout((1, 100), "hw") == "hw"
    for shape, word in (((64,), "hw"), ((8, 8), "chw"), ((3, 8, 8), "hw")):
        with pytest.raises(InputError, match=f'layout="{word}": rows have shape .* not {len(word)} axes'):
            image_layout(shape, word)  # type: ignore[arg-type]


def test_domains_carry_the_word() -> None:
    assert Box(0, 1).layout is None and Box(0, 1, layout="hwc").layout == "hwc"
    assert Binary(layout="chw").layout == "chw" and Mixed(OneHot(3)).layout == "none"
    for make in (Box, Binary):
        with pytest.raises(
            InputError, match=r"layout='nhwc': one of \"chw\", \"hw\", \"hwc\", \"tc\", .*\"none\" or None"
        ):
            make(layout="nhwc")


def test_a_word_that_the_rows_cannot_have_is_refused_with_the_rows() -> None:
    import torch

    with pytest.raises(InputError, match=r'layout="hwc": rows have shape \(64,\)'):
        Box(0, 1, layout="hwc").check(torch.zeros(2, 64), "members")
    with pytest.raises(InputError, match=r'layout="hw": rows have shape \(3, 8, 8\)'):
        Binary(layout="hw").check(torch.zeros(2, 3, 8, 8), "members")


def test_records_of_domains_without_a_word_are_as_they_were() -> None:
    assert Box(0, 1).describe() == {"kind": "box", "low": 0.0, "high": 1.0, "levels": None}
    assert Box(0, 1, levels=256, layout="hwc").describe()["layout"] == "hwc"
    assert Binary().describe() == {"kind": "binary"} and Binary(layout="hw").describe()["layout"] == "hw"
    assert (repr(Box(0, 1)), repr(Box(0, 1, layout="hwc"))) == ("Box(0, 1)", "Box(0, 1, layout='hwc')")
    assert (repr(Binary()), repr(Binary(layout="hw"))) == ("Binary()", "Binary(layout='hw')")
