"""Shadow families: the paper's nets to the parameter, any image size, any factory, nothing global left changed."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from labelleaks.errors import InputError
from labelleaks.models import architectures, networks

PAPER = [f"cnn{i}" for i in range(3, 12)]


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_cnn7_is_the_papers():
    assert parameters(architectures.build("cnn7", (3, 32, 32), 10, seed=0)) == 3_826_058


def reference_parameters(channels, classes, image_channels=3):
    """Counted by hand: convolutions with bias, batch norm's two vectors, 512-256-K."""
    count, before = 0, image_channels
    for width in channels:
        count += before * width * 9 + width + 2 * width
        before = width
    return count + 512 * 256 + 256 + 256 * classes + classes


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("cnn3", (64, 64, 128, 512)),
        ("cnn4", (64, 128, 128, 512)),
        ("cnn5", (64, 128, 256, 512)),
        ("cnn6", (64, 128, 512, 512)),
        ("cnn7", (64, 256, 512, 512)),
        ("cnn8", (64, 128, 256, 512, 512)),
        ("cnn9", (64, 64, 128, 256, 512, 512)),
        ("cnn10", (64, 128, 128, 256, 512, 512)),
        ("cnn11", (64, 128, 256, 256, 512, 512)),
    ],
)
def test_the_papers_shadow_nets(name, channels):
    model = architectures.build(name, (3, 32, 32), 43, seed=0)
    assert parameters(model) == reference_parameters(channels, 43)
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in model) == 4


@pytest.mark.parametrize(("side", "kernel"), [(32, 2), (64, 3), (128, 5)])
def test_the_papers_average_pool(side, kernel):
    model = architectures.build("cnn7", (3, side, side), 10, seed=0)
    (pool,) = [layer for layer in model if isinstance(layer, nn.AvgPool2d)]
    assert pool.kernel_size == (kernel, kernel)
    assert model[-3].in_features == 512


def test_the_papers_nets_take_raw_inputs():
    assert not any(
        layer.scaled for layer in architectures.build("cnn7", (3, 32, 32), 10, seed=0) if hasattr(layer, "scaled")
    )


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32), (20, 50), (3, 128, 128)])
def test_cnn_takes_any_picture(shape):
    model = architectures.build(None, shape, 7, seed=0).eval()
    assert model(torch.rand(2, *shape)).shape == (2, 7)
    assert parameters(model) < 200_000


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_nets_take_digits(name):
    assert architectures.build(name, (1, 8, 8), 10, seed=0).eval()(torch.rand(3, 1, 8, 8)).shape == (3, 10)


@pytest.mark.parametrize(
    ("shape", "family"),
    [((8, 8), "cnn"), ((16, 16, 13), "cnn"), ((446,), "mlp"), ((3, 40), "mlp"), ((4, 32, 4), "mlp")],
)
def test_the_default_family_is_a_cnn_where_rows_are_pictures(shape, family):
    assert architectures.default_family(shape) == family


def test_bands_are_channels_wherever_they_stand():
    for first, last in (((13, 16, 16), (16, 16, 13)), ((2, 32, 32), (32, 32, 2))):
        models = [architectures.build(None, shape, 5, seed=0).eval() for shape in (first, last)]
        x = torch.rand(4, *first)
        assert torch.equal(models[0](x), models[1](x.permute(0, 2, 3, 1)))


def test_the_users_word_decides_where_the_shape_does_not_tell():
    shape = (4, 32, 4)
    with pytest.raises(InputError, match=r"may have channels first or last.*layout=.chw"):
        architectures.build("cnn", shape, 5, seed=0)
    said = {word: architectures.in_layout(None, shape, word) for word in ("chw", "hwc", "none", None)}
    assert said == {"chw": "cnn/chw", "hwc": "cnn/hwc", "none": None, None: None}
    first, last = (architectures.build(said[word], shape, 5, seed=0).eval() for word in ("chw", "hwc"))
    x = torch.rand(3, *shape)
    assert first[0].out == (4, 32, 4) and last[0].out == (4, 4, 32)
    assert not torch.equal(first(x), last(x))
    assert repr(first[0]) != repr(last[0])  # kept models are told apart by it
    assert repr(architectures.build("cnn", (3, 8, 8), 5, seed=0)[0]) == "Inputs()"  # as it was when models were kept


def test_what_shape_or_user_calls_no_picture_is_no_cnn():
    assert architectures.in_layout(None, (3, 32, 32), "none") == "mlp"
    assert architectures.in_layout("cnn", (3, 32, 32), "chw") == "cnn"
    with pytest.raises(InputError, match="needs images"):
        architectures.build(architectures.in_layout("cnn", (3, 32, 32), "none"), (3, 32, 32), 5, seed=0)
    with pytest.raises(InputError, match="unknown shadow family 'cnn/hcw'"):
        architectures.build("cnn/hcw", (3, 32, 32), 5, seed=0)


def test_channels_last_pictures_are_the_same_pictures():
    first = architectures.build("cnn", (3, 16, 16), 5, seed=0).eval()
    last = architectures.build("cnn", (16, 16, 3), 5, seed=0).eval()
    x = torch.rand(4, 3, 16, 16)
    assert torch.equal(first(x), last(x.permute(0, 2, 3, 1)))


def test_inputs_scale_against_numpy():
    x = torch.rand(500, 6) * 40 + 1000
    x[:, 3] = 7.0  # never changes
    x[:, 4] = 0.0
    x[0, 4] = 1.0  # set once: deviation 0.04, a tenth of the range is 0.1
    layer = networks.Inputs((6,), scaled=True)
    layer.fit(x)
    expected = x.double().numpy().std(0)
    expected[3], expected[4] = 1.0, 0.1
    np.testing.assert_allclose(layer.scale.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(layer.mean.numpy(), x.double().numpy().mean(0), rtol=1e-5, atol=1e-6)
    images = torch.rand(9, 3, 8, 8) * torch.tensor([1.0, 10, 100])[:, None, None]
    layer = networks.Inputs((3, 8, 8), scaled=True, layout="chw")
    layer.fit(images)
    np.testing.assert_allclose(layer.scale.flatten().numpy(), images.double().numpy().std((0, 2, 3)), rtol=1e-5)
    last = networks.Inputs((8, 8, 3), scaled=True, layout="hwc")
    last.fit(images.permute(0, 2, 3, 1))
    assert torch.equal(last.scale, layer.scale) and torch.equal(last.mean, layer.mean)


def test_seed_decides_the_weights_and_nothing_global_changes():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (architectures.build("cnn", (1, 8, 8), 10, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)


def sized(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))


@pytest.mark.parametrize("family", [Small, lambda: Small(), sized, lambda s, k: sized(s, k)])
def test_factories_of_the_user(family):
    a, b = (architectures.build(family, (4,), 3, seed=9) for _ in range(2))
    assert isinstance(a, nn.Module) and a is not b
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_a_factory_that_raises_a_type_error_is_not_called_twice():
    calls = []

    def broken(shape, classes):
        calls.append(shape)
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        architectures.build(broken, (4,), 3, seed=0)
    assert len(calls) == 1


def test_scikit_learn_classifiers_are_cloned_and_seeded():
    given = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=3, random_state=7))
    clone = architectures.build(given, (4,), 3, seed=123)
    assert clone is not given
    assert clone.get_params()["randomforestclassifier__random_state"] == 123
    assert given.get_params()["randomforestclassifier__random_state"] == 7
    assert architectures.build(LogisticRegression, (4,), 3, seed=1).random_state == 1


@pytest.mark.parametrize(
    ("family", "shape", "message"),
    [
        ("cn", (3, 32, 32), "did you mean 'cnn'"),
        ("transformer", (3, 32, 32), "known: cnn, cnn10"),
        ("cnn", (4,), "use family='mlp'"),
        ("cnn7", (4,), "use family='mlp'"),
        (nn.Linear(4, 3), (4,), "already built"),
        (LinearSVC(), (4,), "without predict_proba: wrap it"),
        (LinearSVC, (4,), "without predict_proba: wrap it"),
        (5, (4,), "got int"),
        (lambda: 5, (4,), "made a int"),
        (Small, (5,), r"cannot take rows of shape \(5,\)"),
        (lambda: nn.Linear(4, 2), (4,), r"answers \(2, 2\) to 2 rows; logits of shape \(2, 3\)"),
    ],
)
def test_families_that_cannot_be(family, shape, message):
    with pytest.raises(InputError, match=message):
        architectures.build(family, shape, 3, seed=0)


@pytest.mark.parametrize("family", ["cnn", "cnn11"])
def test_a_pool_before_the_relu_has_the_values_and_the_slopes_of_one_behind_it(family):
    model = architectures.build(family, (3, 16, 16), 5, seed=0)
    layers = list(model)
    for i in range(len(layers) - 1):
        if isinstance(layers[i], nn.MaxPool2d) and isinstance(layers[i + 1], nn.ReLU):
            layers[i : i + 2] = layers[i + 1], layers[i]
    papers_order = nn.Sequential(*layers)
    assert repr(papers_order) != repr(model)
    x = torch.rand(9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    slopes = []
    for net in (model, papers_order):
        rows = x.clone().requires_grad_()
        out = net.eval()(rows)
        slopes.append((out.detach(), *torch.autograd.grad(out.square().sum(), [rows, *net.parameters()])))
    assert all(torch.equal(a, b) for a, b in zip(*slopes, strict=True))


@pytest.mark.parametrize("name", ["cnn", "cnn3", "cnn11", "mlp"])
def test_folded_batch_norms_change_nothing_but_rounding(name):
    model = architectures.build(name, (3, 16, 16), 4, seed=0)
    rows = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(False):
        for _ in range(3):
            model.train()(rows)  # statistics of its own
    before, deployed = model.eval()(rows), networks.folded(model)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in deployed.modules())
    assert torch.allclose(deployed(rows), before, atol=1e-4)
    assert torch.equal(model(rows), before)  # the model itself is as it was


def test_what_is_not_a_plain_sequence_is_not_folded():
    class Own(nn.Module):
        pass

    model = Own()
    assert networks.folded(model) is model
