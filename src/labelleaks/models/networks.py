"""Named families of networks: CNNs for images and an MLP for everything else.

========== ===========================================================================================================
name       model
========== ===========================================================================================================
cnn        32-64-128: conv 3x3, batch norm, ReLU, pool; then one linear layer. The default for images, 8x8 and larger.
mlp        256-256 with ReLU. The default for everything else.
cnn3…cnn11 the shadow architectures of Li & Zhang (2007.15528, authors' code); cnn7 is also their target.
========== ===========================================================================================================

"cnn" and "mlp" scale their inputs by statistics of the rows that they are trained on, so that any units will do; the
paper's nets take them raw. Inside a model images are always channels first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from labelleaks.core.domains import LEAST_SIDE, Layout, image_layout, image_size, why_no_layout
from labelleaks.errors import InputError

__all__ = ["FAMILIES", "Inputs", "folded", "moments"]

ModelFactory = Callable[[tuple[int, ...], int, Layout | None], nn.Module]

_STATISTICS_ROWS = 4096

PAPER_CHANNELS: dict[str, tuple[tuple[int, ...], ...]] = {
    "cnn3": ((64,), (64,), (128,), (512,)),
    "cnn4": ((64,), (128,), (128,), (512,)),
    "cnn5": ((64,), (128,), (256,), (512,)),
    "cnn6": ((64,), (128,), (512,), (512,)),
    "cnn7": ((64,), (256,), (512,), (512,)),
    "cnn8": ((64,), (128, 256), (512,), (512,)),
    "cnn9": ((64, 64), (128, 256), (512,), (512,)),
    "cnn10": ((64, 128), (128, 256), (512,), (512,)),
    "cnn11": ((64, 128), (256, 256), (512,), (512,)),
}
"""Channels of the convolutions, grouped by the max-pool that follows them (authors' code, shadow ablation)."""


class Inputs(nn.Module):
    """First layer: images become (n, C, H, W), other rows (n, width); scaled where ``scaled``.

    ``fit`` takes the scale from rows: mean and standard deviation of each channel of an image, of each feature else.
    A feature's scale is at least a tenth of its range, so that a rarely set bit does not become a huge number, and 1
    where it never changes.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int], *, scaled: bool, layout: Layout | None = None) -> None:
        super().__init__()
        self.layout = layout
        self.scaled = scaled
        self._word = layout if layout not in (None, image_layout(shape)) else None
        if self.layout is None:
            width = int(torch.Size(shape).numel())
            self.out: tuple[int, ...] = (width,)
            statistic: tuple[int, ...] = (width,)
        else:
            self.out = image_size(shape, self.layout)
            statistic = (self.out[0], 1, 1)
        if scaled:
            self.register_buffer("mean", torch.zeros(statistic))
            self.register_buffer("scale", torch.ones(statistic))

    def extra_repr(self) -> str:
        return "" if self._word is None else self._word  # the content key of a kept model is made of this text

    def forward(self, x: Tensor) -> Tensor:
        x = self._arrange(x)
        if self.scaled:
            x = (x - self.mean) / self.scale
        # Channels last is 1.3 to 1.5 times as fast to train on a CPU with these nets.
        return x if self.layout is None else x.contiguous(memory_format=torch.channels_last)

    def fit(self, x: Tensor) -> None:
        """Take the scale from ``x``, (n, *shape), n >= 1. Does nothing to a layer that is not scaled."""
        if not self.scaled:
            return
        axes = (0,) if self.layout is None else (0, 2, 3)
        mean, deviation, low, high = moments(x, axes, self._arrange)
        scale = torch.maximum(deviation, (high - low) / 10)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.scale.copy_(scale.reshape(self.scale.shape))

    def _arrange(self, x: Tensor) -> Tensor:
        if self.layout == "hwc":
            return x.permute(0, 3, 1, 2)
        return x.reshape(-1, *self.out)


def moments(
    x: Tensor, axes: tuple[int, ...] = (0,), arrange: Callable[[Tensor], Tensor] = lambda rows: rows
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mean, standard deviation, least and largest value over ``axes`` of the arranged rows (n, *shape), n >= 1.

    float64, of the arranged shape with 1 for each of the axes; a deviation is exactly 0 where nothing varies. Memory
    does not grow with n.
    """
    first = arrange(x[:1]).to(torch.float64)
    low = high = first.amin(axes, keepdim=True)
    total = torch.zeros_like(low)
    square = torch.zeros_like(low)
    centre = first.mean(axes, keepdim=True)  # sums of squares around a value near the mean lose no digits
    count = 0
    for chunk in x.split(_STATISTICS_ROWS):
        rows = arrange(chunk).to(torch.float64) - centre
        total += rows.sum(axes, keepdim=True)
        square += rows.square().sum(axes, keepdim=True)
        low = torch.minimum(low, rows.amin(axes, keepdim=True) + centre)
        high = torch.maximum(high, rows.amax(axes, keepdim=True) + centre)
        count += rows.numel() // low.numel()
    mean = total / count
    deviation = (square / count - mean.square()).clamp_min(0).sqrt()
    return mean + centre, deviation, low, high


def folded(model: nn.Module) -> nn.Module:
    """Return a sequential model in eval mode with each batch norm made part of the convolution before it.

    The same function up to float32 rounding, about a quarter less work: how a trained net is usually deployed. Any
    other module is returned as it is.
    """
    if not isinstance(model, nn.Sequential):
        return model
    layers: list[nn.Module] = []
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = nn.utils.fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def _images(name: str, shape: tuple[int, ...], layout: Layout | None, *, scaled: bool) -> Inputs:
    if layout is None:
        raise InputError(
            f"shadow family {name!r} needs images of at least {LEAST_SIDE}x{LEAST_SIDE} pixels: "
            f"{why_no_layout(shape)}; or use family='mlp'"
        )
    return Inputs(shape, scaled=scaled, layout=layout)


class _Blocks:
    """Collects layers and remembers what they make of the picture's size."""

    def __init__(self, inputs: Inputs) -> None:
        self.channels, self.height, self.width = inputs.out
        self.layers: list[nn.Module] = [inputs]

    def convolve(self, channels: int) -> None:
        self.layers += [
            nn.Conv2d(self.channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        self.channels = channels

    def halve(self) -> None:
        """Max-pool by 2 along each side that still has 2 pixels; before the last ReLU: equal values, less work."""
        by = (min(2, self.height), min(2, self.width))
        self.layers.insert(-1, nn.MaxPool2d(by))
        self.height, self.width = self.height // by[0], self.width // by[1]

    def average(self, kernel: tuple[int, int]) -> None:
        self.layers.append(nn.AvgPool2d(kernel))
        self.height, self.width = self.height // kernel[0], self.width // kernel[1]


def _cnn(shape: tuple[int, ...], classes: int, layout: Layout | None) -> nn.Module:
    blocks = _Blocks(_images("cnn", shape, layout, scaled=True))
    for channels in (32, 64, 128):
        blocks.convolve(channels)
        blocks.halve()
    if max(blocks.height, blocks.width) > 4:  # large pictures: keep the head small
        blocks.average((max(1, blocks.height // 4), max(1, blocks.width // 4)))
    head = nn.Linear(blocks.channels * blocks.height * blocks.width, classes)
    return _channels_last(nn.Sequential(*blocks.layers, nn.Flatten(), head))


def _mlp(shape: tuple[int, ...], classes: int, layout: Layout | None) -> nn.Module:
    inputs = Inputs(shape, scaled=True)
    hidden = (nn.Linear(inputs.out[0], 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
    return nn.Sequential(inputs, *hidden, nn.Linear(256, classes))


def _paper(name: str) -> ModelFactory:
    """The authors' net ``name``: blocks of conv-BN-ReLU and max-pool, average pool to 1x1, 512-256-K.

    Their average pool is 2 wide for 32x32 inputs, 3 for 64x64 and 5 for 128x128: side // 2 + 1 of what the four pools
    leave. Pictures below 16x16, which they do not have, skip the pools that find one pixel.
    """

    def make(shape: tuple[int, ...], classes: int, layout: Layout | None) -> nn.Module:
        blocks = _Blocks(_images(name, shape, layout, scaled=False))
        for group in PAPER_CHANNELS[name]:
            for channels in group:
                blocks.convolve(channels)
            blocks.halve()
        blocks.average((blocks.height // 2 + 1, blocks.width // 2 + 1))
        width = blocks.channels * blocks.height * blocks.width
        head = (nn.Flatten(), nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, classes))
        return _channels_last(nn.Sequential(*blocks.layers, *head))

    return make


def _channels_last(model: nn.Module) -> nn.Module:
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


FAMILIES: dict[str, ModelFactory] = {"cnn": _cnn, "mlp": _mlp, **{name: _paper(name) for name in PAPER_CHANNELS}}
"""Named families: factory(shape, classes, layout) -> ``nn.Module`` that returns logits."""
