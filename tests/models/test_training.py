"""The training loop: deterministic, private randomness, whole epochs, odd numbers of rows."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from labelleaks.core.domains import Box
from labelleaks.errors import InputError
from labelleaks.models import architectures
from labelleaks.models.randaugment import _OPERATIONS, RandAugment, _rotate, _shear_x, _translate_x, _translate_y
from labelleaks.models.training import Recipe, train


def problem(n=60, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 8, 8, generator=generator)
    return x, torch.randint(classes, (n,), generator=generator)


def weights(model):
    return torch.cat([v.double().flatten() for v in model.state_dict().values()])


def fit(recipe, *, seed=1, n=60, family="cnn", **hooks):
    x, y = problem(n)
    return train(architectures.build(family, (1, 8, 8), 3, seed=1), x, y, recipe, seed=seed, **hooks)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_same_seed_gives_the_same_bytes(optimizer):
    recipe = Recipe(epochs=2, batch=16, optimizer=optimizer)
    assert torch.equal(weights(fit(recipe)), weights(fit(recipe)))
    assert not torch.equal(weights(fit(recipe)), weights(fit(recipe, seed=2)))


def test_global_generators_stay_and_dropout_is_seeded():
    def dropping(shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, classes))

    torch.manual_seed(3)
    before = torch.get_rng_state()
    a = fit(Recipe(epochs=2), family=dropping)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(weights(a), weights(fit(Recipe(epochs=2), family=dropping)))


def test_one_full_batch_epoch_of_sgd_is_the_obvious_step():
    x, y = problem(20)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    start = {k: v.clone() for k, v in model.state_dict().items()}
    recipe = Recipe(epochs=1, lr=0.5, batch=20, optimizer="sgd", weight_decay=0.1)
    train(model, x, y, recipe, seed=0)
    w = start["1.weight"].requires_grad_()
    b = start["1.bias"].requires_grad_()
    F.cross_entropy(x.flatten(1) @ w.T + b, y).backward()
    for name, value in (("1.weight", w), ("1.bias", b)):
        expected = value.detach() - 0.5 * (value.grad + 0.1 * value.detach())
        torch.testing.assert_close(model.state_dict()[name], expected)


def test_returned_in_eval_mode_and_inputs_untouched():
    x, y = problem()
    kept = x.clone(), y.clone()
    model = train(architectures.build("cnn", (1, 8, 8), 3, seed=0), x, y, Recipe(epochs=1), seed=0)
    assert not any(module.training for module in model.modules())
    assert torch.equal(x, kept[0]) and torch.equal(y, kept[1])


@pytest.mark.parametrize("n", [1, 2, 3, 16, 17, 33])
def test_every_row_once_an_epoch_and_never_one_alone(n):
    seen = []

    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.layer = nn.BatchNorm1d(1), nn.Linear(1, 3)

        def forward(self, x):
            if self.training:
                seen.append(x.detach().flatten().tolist())
            return self.layer(self.norm(x))

    x = torch.arange(n, dtype=torch.float32)[:, None]
    train(Watch(), x, torch.zeros(n, dtype=torch.int64), Recipe(epochs=2, batch=16), seed=0)
    assert min(len(batch) for batch in seen) >= 2 and max(len(batch) for batch in seen) <= 16
    rows = [row for batch in seen for row in batch]
    assert sorted(rows) == sorted([float(i) for i in range(n)] * (4 if n == 1 else 2))


def test_stop_at_interpolation():
    epochs = []
    fit(Recipe(epochs=200, batch=16, stop_at_interpolation=True), progress=epochs.append)
    assert 1 < len(epochs) < 200
    assert epochs[-1].accuracy == 1.0 and all(e.accuracy < 1.0 for e in epochs[:-1])
    assert [e.number for e in epochs] == list(range(1, len(epochs) + 1))
    assert epochs[-1].loss < epochs[0].loss


def test_cosine_ends_near_zero():
    steps = []
    original = torch.optim.SGD.step

    def noting(self, *args, **kwargs):
        steps.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    torch.optim.SGD.step = noting
    try:
        fit(Recipe(epochs=4, lr=0.1, batch=16, optimizer="sgd", schedule="cosine"))
    finally:
        torch.optim.SGD.step = original
    expected = [0.05 * (1 + math.cos(math.pi * i / 16)) for i in range(16)]
    assert steps == pytest.approx(expected)


def test_hooks_see_every_batch_in_order():
    shapes, labelled = [], []

    def augment(x, generator):
        shapes.append(len(x))
        return x + torch.rand(x.shape, generator=generator)

    def label(x):
        labelled.append(x.amax().item())
        return torch.zeros(len(x), dtype=torch.int64)

    model = fit(Recipe(epochs=3, batch=16), augment=augment, label=label)
    assert sum(shapes) == 3 * 60 and len(labelled) == len(shapes)
    assert max(labelled) > 1.0  # the label hook sees the augmented rows
    assert (model(problem()[0]).argmax(1) == 0).all()


def test_trains_where_gradients_are_off():
    with torch.inference_mode():
        x, y = problem()
        model = train(architectures.build("mlp", (1, 8, 8), 3, seed=1), x, y, Recipe(epochs=2), seed=1)
    assert torch.equal(weights(model), weights(fit(Recipe(epochs=2), family="mlp")))


@pytest.mark.parametrize("units", [1e-3, 1.0, 255.0, 1e5])
def test_any_units_will_do(units):
    epochs = []
    x, y = problem()
    model = architectures.build("mlp", (1, 8, 8), 3, seed=1)
    train(model, x * units, y, Recipe(epochs=60, batch=16), seed=1, progress=epochs.append)
    assert epochs[-1].accuracy == 1.0


def test_divergence_is_said():
    with pytest.raises(InputError, match=r"training diverged in epoch \d+ .* lower the recipe's lr"):
        x, y = problem()
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 3))
        train(model, x * 1e6, y, Recipe(lr=1e12, optimizer="sgd"), seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": float("nan")}, "lr must be positive"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"momentum": 1.0}, "momentum"),
        ({"optimizer": "adm"}, "did you mean 'adam'"),
        ({"schedule": "linear"}, "known: constant, cosine"),
    ],
)
def test_recipes_that_cannot_be(values, message):
    with pytest.raises(InputError, match=message):
        Recipe(**values)


def test_rows_and_labels_must_match():
    x, y = problem()
    model = architectures.build("mlp", (1, 8, 8), 3, seed=1)
    for rows, labels in ((x, y[:-1]), (x[:0], y[:0]), (x, None)):
        with pytest.raises(InputError, match="training: "):
            train(model, rows, labels, seed=0)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 12, 10), (12, 10, 3)])
@pytest.mark.parametrize("high", [1.0, 255.0])
def test_randaugment_stays_in_the_domain_and_changes_rows(shape, high):
    x = torch.rand(64, *shape) * high
    kept = x.clone()
    domain = Box(0, high)
    augment = RandAugment.of(domain, shape)
    out = augment(x, torch.Generator().manual_seed(0))
    assert out.shape == x.shape and out.dtype == x.dtype and torch.equal(x, kept)
    assert out.min() >= 0 and out.max() <= high * (1 + 1e-6)
    assert (out != x).flatten(1).any(1).float().mean() > 0.9
    assert torch.equal(out, augment(x, torch.Generator().manual_seed(0)))
    assert not torch.equal(out, augment(x, torch.Generator().manual_seed(1)))


def test_randaugment_operations_leave_a_picture_alone_at_strength_zero():
    p = torch.randint(0, 256, (5, 3, 9, 7)) / 255
    p[:, :, 0, 0], p[:, :, 0, 1] = 0.0, 1.0  # full contrast already
    for operation in _OPERATIONS:
        torch.testing.assert_close(operation(p, torch.zeros(5, 1, 1, 1)), p, rtol=0, atol=1e-6)


def test_randaugment_geometry_in_closed_form():
    p = torch.rand(1, 1, 8, 8)
    quarter = torch.full((1, 1, 1, 1), 0.25)
    torch.testing.assert_close(_rotate(p, 2 * quarter), p.flip(2, 3))
    torch.testing.assert_close(_rotate(p, quarter), torch.rot90(p, 1, (2, 3)))
    sheared = _shear_x(p, torch.ones(1, 1, 1, 1))
    torch.testing.assert_close(sheared[..., 3:5, 1:7], p[..., 3:5, 1:7])  # the middle stays, the edges move
    torch.testing.assert_close(sheared[..., 0, 1:7], p[..., 0, :6])
    pixels = 2 / (8 * 150 / 331)
    moved = _translate_x(p, torch.full((1, 1, 1, 1), pixels))
    torch.testing.assert_close(moved[..., :-2], p[..., 2:])
    torch.testing.assert_close(moved[..., -2:], torch.full((1, 1, 8, 2), 128 / 255))
    moved = _translate_y(p, torch.full((1, 1, 1, 1), pixels))
    torch.testing.assert_close(moved[..., :-2, :], p[..., 2:, :])


class _Numbers(TorchDispatchMode):
    """Counts the numbers that Python asks of tensors: on a GPU each waits for all that was begun."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_training_asks_the_device_for_numbers_once_an_epoch():
    counts = []
    for batch in (60, 5):
        with _Numbers() as asked:
            fit(Recipe(epochs=3, batch=batch, optimizer="sgd"))  # Adam reads its own counters
        counts.append(asked.count)
    assert counts[0] == counts[1]
