"""The augmentation attack: its moves against scipy's, their order, the score, and the inputs that it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from labelleaks.attacks import augmentation as module
from labelleaks.attacks.augmentation import Augmentation, rotate, translate
from labelleaks.core.attack import Knowledge
from labelleaks.core.domains import Box
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.types import Candidates, Scores, Status
from labelleaks.errors import InputError, NeedsError
from tests.support import run


def _images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _run(attack: Augmentation, decide, x: Tensor, budget: int | None = None, y: Tensor | None = None) -> Scores:
    labels = torch.zeros(len(x), dtype=torch.int64) if y is None else y
    candidates = Candidates(x, labels, Box(0, 1), 2)
    return run(attack, decide, candidates, budget=budget, batch_rows=1 << 20)[0]


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (-3, 1), (2, 2)])
def test_translate_is_scipys_shift(shift: tuple[int, int]) -> None:
    images = _images(3, 2, 9, 7)
    expected = scipy.ndimage.shift(images.numpy(), (0, 0, *shift), order=0, mode="nearest")
    assert np.array_equal(translate(images, *shift).numpy(), expected)


@pytest.mark.parametrize("size", [(12, 12), (9, 14), (16, 7)])
@pytest.mark.parametrize("degrees", [-8.0, 3.0, 45.0, 90.0])
def test_rotate_is_scipys_rotate(size: tuple[int, int], degrees: float) -> None:
    """Bilinear with edge filling; scipy turns by the same convention (row towards column)."""
    images = _images(2, 3, *size)
    expected = scipy.ndimage.rotate(images.numpy(), degrees, axes=(2, 3), reshape=False, order=1, mode="nearest")
    assert np.abs(rotate(images, degrees).numpy() - expected).max() < 2e-5


def test_bits_of_an_image_do_not_depend_on_its_batch() -> None:
    images = _images(65, 3, 13, 13)
    whole = rotate(images, 5.0)
    for i in (0, 31, 64):
        assert torch.equal(rotate(images[i : i + 1], 5.0)[0], whole[i])


def test_transforms_are_complete_and_ordered_by_size() -> None:
    attack = Augmentation(rotations=(2, 8), translations=(1, 2))
    blank = torch.zeros(1, 1, 33, 33)
    blank[0, 0, 16, 16] = 1.0
    offsets = []
    for transform in attack.transforms(33, 33):
        moved = transform(blank)[0, 0]
        if moved[16, 16] < 0.5:  # not a rotation
            row, column = divmod(int(moved.argmax()), 33)
            offsets.append((row - 16, column - 16))
    length = [abs(i) + abs(j) for i, j in offsets]
    assert length == [1] * 4 + [2] * 8
    assert len(set(offsets)) == 12
    assert len(attack.transforms(33, 33)) == 2 * 2 + 4 + 8
    centre = [tuple(np.sum(offsets[k : k + 4], 0)) for k in (0, 4, 8)]
    assert centre == [(0, 0)] * 3  # every four are balanced


def test_cost_is_exact() -> None:
    attack = Augmentation(rotations=(1, 5), translations=(1, 2))
    x = _images(4, 1, 8, 8)
    candidates = Candidates(x, torch.zeros(4, dtype=torch.int64), Box(0, 1), 2)
    knowledge = Knowledge(Gate(lambda rows: rows.new_zeros(len(rows), dtype=torch.int64)).setup_oracle("setup"))
    assert attack.cost(candidates, knowledge, 1000).most == 1 + 4 + 4 + 8
    assert attack.cost(candidates, knowledge, 9).most == 9
    scores = _run(attack, lambda rows: rows.new_zeros(len(rows), dtype=torch.int64), x)
    assert scores.queries.tolist() == [17] * 4


def test_score_by_hand() -> None:
    """A target that looks at one column: shifts to the right or left lose the label, the others keep it."""
    x = torch.zeros(3, 1, 8, 8)
    x[:, :, :, 3] = 1.0

    def column(rows: Tensor) -> Tensor:
        return (rows[:, 0, 4, 3] < 0.5).to(torch.int64)

    attack = Augmentation(rotations=(), translations=(1,))
    scores = _run(attack, column, x, y=torch.tensor([0, 1, 0]))
    assert scores.value.tolist() == [3 / 5, 0.0, 3 / 5]
    assert scores.details["kept"].sum(1).tolist() == [2, 0, 2]
    assert scores.status.tolist() == [Status.DONE, Status.MISCLASSIFIED, Status.DONE]
    cut = _run(attack, column, x, budget=3)
    assert cut.status.tolist() == [Status.BUDGET] * 3
    assert scores.trajectory is not None
    assert scores.trajectory.checkpoints == (1, 2, 5)


def test_trajectory_is_the_score_of_a_smaller_budget() -> None:
    x = _images(8, 3, 10, 10)

    def decide(rows: Tensor) -> Tensor:
        return (rows[:, 0, 3:5, 3:5].amax((1, 2)) > rows[:, 1, 3:5, 3:5].amax((1, 2))).to(torch.int64)

    attack = Augmentation(rotations=(4, 20), translations=(1, 2))
    whole = _run(attack, decide, x, y=decide(x))
    assert whole.trajectory is not None
    for checkpoint, value in zip(whole.trajectory.checkpoints, whole.trajectory.value, strict=True):
        assert torch.equal(_run(attack, decide, x, checkpoint, y=decide(x)).value, value)
    assert len(whole.value.unique()) > 2


def test_layouts_are_the_same_picture() -> None:
    flat = _images(6, 10, 12)

    def decide(rows: Tensor) -> Tensor:
        return (rows.reshape(len(rows), 10, 12, -1)[:, 5, 6, 0] > 0.5).to(torch.int64)

    grey = _run(Augmentation(), decide, flat, y=decide(flat))
    first = _run(Augmentation(), lambda r: decide(r.movedim(1, 3)), flat[:, None].repeat(1, 3, 1, 1), y=decide(flat))
    last = _run(Augmentation(), decide, flat[..., None].repeat(1, 1, 1, 3), y=decide(flat))
    assert torch.equal(grey.value, first.value)
    assert torch.equal(grey.value, last.value)
    assert len(grey.value.unique()) > 1


def test_blocks_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _images(9, 1, 8, 8)
    sizes: list[int] = []

    def decide(rows: Tensor) -> Tensor:
        sizes.append(len(rows))
        return (rows[:, 0, 4, 4] > 0.5).to(torch.int64)

    y = (x[:, 0, 4, 4] > 0.5).to(torch.int64)
    whole = _run(Augmentation(), decide, x, y=y)
    monkeypatch.setattr(module, "_BLOCK", 11 * 64 * 2)
    sizes.clear()
    cut = _run(Augmentation(), decide, x, y=y)
    assert torch.equal(cut.value, whole.value)
    assert max(sizes[1:]) == 20


@pytest.mark.parametrize("shape", [(64,), (2, 5, 8, 8), (1, 100), (100, 1), (3, 5, 3), (4, 16, 4)])
def test_rows_that_are_not_images_are_refused_before_a_query(shape: tuple[int, ...]) -> None:
    asked: list[int] = []

    def decide(rows: Tensor) -> Tensor:
        asked.append(len(rows))
        return rows.new_zeros(len(rows), dtype=torch.int64)

    with pytest.raises(NeedsError, match=r"needs images.*\(" + str(shape[0])):
        _run(Augmentation(), decide, torch.zeros(2, *shape))
    assert not asked


@pytest.mark.parametrize(
    ("rotations", "translations", "says"),
    [
        ((), (), "at least one"),
        ((0.0,), (), r"rotations must be .*\(0, 180\]"),
        ((float("nan"),), (), "rotations must be .* got nan"),
        ((), (0,), "translations must be .*whole numbers"),
        ((), (1.5,), "translations must be .*whole numbers"),
    ],
)
def test_bad_settings(rotations: tuple[float, ...], translations: tuple[int, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Augmentation(rotations=rotations, translations=translations)


def _asked(x: Tensor, domain: Box) -> Tensor:
    """Every row that the attack sends about x; the target says 0 to all."""
    sent: list[Tensor] = []

    def decide(rows: Tensor) -> Tensor:
        sent.append(rows.clone())
        return torch.zeros(len(rows), dtype=torch.int64)

    gate = Gate(decide)
    candidates = Candidates(x, torch.zeros(len(x), dtype=torch.int64), domain, 2)
    Augmentation().score(gate.oracle("a", len(x), None), candidates, Knowledge(gate.setup_oracle("s")), seed=0)
    return torch.cat(sent)


@pytest.mark.parametrize(
    ("shape", "domain"),
    [
        ((32, 32, 2), Box(0, 1)),
        ((16, 16, 13), Box(0, 1)),
        ((9, 12, 3), Box(0, 1)),
        ((4, 16, 4), Box(0, 1, layout="hwc")),
        ((3, 8, 8), Box(0, 1, layout="hwc")),
    ],
)
def test_bands_are_moved_each_by_itself(shape: tuple[int, ...], domain: Box) -> None:
    """Whatever is asked of one band alone is asked of it beside the others: nothing comes from band to band."""
    x = _images(3, *shape)
    asked = _asked(x, domain)
    for band in range(shape[2]):
        alone = _asked(x[..., band], Box(0, 1, layout="hw"))
        assert torch.equal(asked[..., band], alone)


def test_the_users_word_puts_channels_first() -> None:
    x = _images(3, 4, 16, 4)
    asked = _asked(x, Box(0, 1, layout="chw"))
    assert torch.equal(asked[:, 2], _asked(x[:, 2], Box(0, 1, layout="hw")))
    with pytest.raises(NeedsError, match=r"\(4, 16, 4\) may have channels first or last.*layout=.hwc"):
        _asked(x, Box(0, 1))


def test_translation_beyond_the_image_is_refused() -> None:
    with pytest.raises(NeedsError, match="too far for images of 8 x 6"):
        _run(Augmentation(translations=(6,)), lambda rows: rows[:, 0, 0, 0].to(torch.int64), torch.zeros(1, 1, 8, 6))


def _shifted(x: Tensor, axis: int, step: int) -> Tensor:
    """The obvious way: element by element."""
    made = x.clone()
    for i in range(x.shape[axis]):
        source = min(max(i - step, 0), x.shape[axis] - 1)
        made.select(axis, i).copy_(x.select(axis, source))
    return made


@pytest.mark.parametrize(
    ("shape", "word", "axes", "steps"),
    [
        ((40, 3), None, (0,), (1, 2, 4)),
        ((3, 40), None, (1,), (1, 2, 4)),
        ((1, 40), "ct", (1,), (1, 2, 4)),
        ((40, 1), "tc", (0,), (1, 2, 4)),
        ((12, 9), "tc", (0,), (1, 2, 4)),
        ((6, 7, 8), "dhw", (0, 1, 2), (1,)),
        ((6, 7, 8, 3), None, (0, 1, 2), (1,)),
        ((1, 6, 7, 8), None, (1, 2, 3), (1,)),
        ((6, 3, 7, 8), None, (0, 2, 3), (1,)),
        ((3, 6, 7, 3), "cdhw", (1, 2, 3), (1,)),
        ((3, 3), "tc", (0,), (1, 2)),
    ],
)
def test_sequences_and_volumes_are_shifted_along_their_own_axes(
    shape: tuple[int, ...], word: Any, axes: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    """Each copy is the row moved by hand; nothing goes from one channel to another."""
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    asked: list[Tensor] = []

    def decide(rows: Tensor) -> Tensor:
        asked.append(rows.clone())
        return torch.zeros(len(rows), dtype=torch.int64)

    candidates = Candidates(x, torch.zeros(5, dtype=torch.int64), Box(0, 1, layout=word), 2)
    run(Augmentation(), decide, candidates)
    seen = torch.cat(asked)
    hand = [_shifted(x, axis + 1, sign * step) for step in steps for axis in axes for sign in (-1, 1)]
    assert torch.equal(seen, torch.cat([x, torch.stack(hand, 1).reshape(-1, *shape)]))
    assert Augmentation().cost(candidates, Knowledge(None), 500).most == 1 + len(hand)  # type: ignore[arg-type]


def test_a_sequence_that_is_too_short_is_refused() -> None:
    candidates = Candidates(torch.rand(4, 2, 8), torch.zeros(4, dtype=torch.int64), Box(0, 1, layout="tc"), 2)
    with pytest.raises(NeedsError, match=r"none of translations=\(2,\) is below 2, their length"):
        Augmentation(translations=(2,)).count(candidates)
    with pytest.raises(NeedsError, match=r"none of translations=\(\) is below"):
        Augmentation(translations=()).count(candidates)
