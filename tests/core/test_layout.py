"""How a row is a picture: the shape decides where it tells, the user's word everywhere, and nothing is guessed."""

from __future__ import annotations

import pytest

from labelleaks.core.domains import Binary, Box, Mixed, OneHot, image_layout, image_size, is_ambiguous, why_no_layout
from labelleaks.errors import InputError

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
        with pytest.raises(InputError, match=r"layout='nhwc': one of \"chw\", \"hw\", \"hwc\", \"none\" or None"):
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
