"""How fast are many small models trained? One step of R models in several ways, and a whole training in processes.

    python -m benchmarks.references            about three minutes on two idle cores
    python -m benchmarks.references --quick    fewer repetitions and no processes; prints, writes nothing

A step is forward, backward and Adam for a batch of 128 rows a model, in CPU seconds of one thread, so that other work
on the machine counts little; what is compared runs in turns, medians over the repetitions. The last table is wall time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.tables import environment, markdown, write
from labelleaks.models import architectures, parallel_training
from labelleaks.models.parallel_training import Job, train_all
from labelleaks.models.training import Recipe

MODELS, BATCH = 8, 128
SHAPES = {"cnn": ((3, 32, 32), 10), "mlp": ((446,), 30)}
"""By family: rows like CIFAR-10's, rows like Location-30's."""

Step = Callable[[], None]


def batches(family: str) -> tuple[Tensor, Tensor]:
    """A batch for each model: (MODELS, BATCH, *shape) and its labels."""
    shape, classes = SHAPES[family]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(MODELS, BATCH, *shape, generator=generator)
    return x, torch.randint(classes, (MODELS, BATCH), generator=generator)


def build(family: str) -> list[nn.Module]:
    shape, classes = SHAPES[family]
    return [architectures.build(family, shape, classes, seed=seed).train() for seed in range(MODELS)]


def one_by_one(family: str, *, bfloat16: bool = False) -> Step:
    """What the package does, a model at a time; in bfloat16 only here."""
    return _one_by_one(build(family), *batches(family), bfloat16=bfloat16)


def channels_first(family: str) -> Step:
    """The same nets with their pictures as they come."""
    return _one_by_one(plain(build(family)), *batches(family))


def plain(nets: list[nn.Module]) -> list[nn.Module]:
    return [nn.Sequential(PlainNet(net[0]), *net[1:]).to(memory_format=torch.contiguous_format) for net in nets]


class PlainNet(nn.Module):
    def __init__(self, inputs: Any) -> None:
        super().__init__()
        self.inputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.inputs.mean) / self.inputs.scale).contiguous()


def _one_by_one(nets: list[nn.Module], x: Tensor, y: Tensor, *, bfloat16: bool = False) -> Step:
    optimizers = [torch.optim.Adam(net.parameters()) for net in nets]

    def step() -> None:
        for net, optimizer, xb, yb in zip(nets, optimizers, x, y, strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = net(xb)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), yb).backward()
            optimizer.step()

    return step


def stacked(family: str) -> Step:
    """torch.func: parameters stacked, one net mapped over them; it knows no channels last."""
    nets = plain(build(family)) if family == "cnn" else build(family)
    x, y = batches(family)
    parameters, buffers = torch.func.stack_module_state(nets)
    optimizer = torch.optim.Adam(parameters.values())
    net = nets[0]

    def loss(own: Any, other: Any, xb: Tensor, yb: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(net, (own, other), (xb,)), yb)

    mapped = torch.func.vmap(loss)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        mapped(parameters, buffers, x, y).sum().backward()
        optimizer.step()

    return step


def grouped(family: str) -> Step:
    """The models beside each other as groups of channels (cnn), or as one batched product a layer (mlp)."""
    nets = build(family)
    x, y = batches(family)
    layers: list[Callable[[Tensor], Tensor]] = []
    parameters: list[Tensor] = []
    for same in zip(*[list(net) for net in nets], strict=True):
        first = same[0]
        if isinstance(first, nn.Conv2d):
            layer: nn.Module = nn.Conv2d(
                MODELS * first.in_channels, MODELS * first.out_channels, 3, padding=1, groups=MODELS
            ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif isinstance(first, nn.BatchNorm2d):
            layer = nn.BatchNorm2d(MODELS * first.num_features)
        elif isinstance(first, nn.Linear):
            layer = Products(first.in_features, first.out_features)
        elif isinstance(first, nn.ReLU | nn.MaxPool2d):
            layer = first
        else:  # scaling and flattening cost next to nothing
            continue
        layers.append(layer)
        parameters += list(layer.parameters())
    optimizer = torch.optim.Adam(parameters)
    side_by_side = x.transpose(0, 1).flatten(1, 2) if family == "cnn" else x
    if family == "cnn":
        side_by_side = side_by_side.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        h = side_by_side
        for layer in layers:
            h = layer(h)
        optimizer.zero_grad(set_to_none=True)
        (F.cross_entropy(h.flatten(0, 1), y.flatten()) * MODELS).backward()
        optimizer.step()

    return step


class Products(nn.Module):
    """MODELS linear layers: (BATCH, MODELS * channels, h, w) or (MODELS, BATCH, width) -> (MODELS, BATCH, out)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(MODELS, width, out) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(MODELS, 1, out))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 4:
            x = x.reshape(len(x), MODELS, -1).transpose(0, 1)
        return torch.baddbmm(self.bias, x, self.weight)


WAYS: dict[str, Callable[[str], Step]] = {
    "one by one": one_by_one,
    "one by one, channels first": channels_first,
    "torch.func stack": stacked,
    "groups, batched products": grouped,
    "one by one, bfloat16": lambda family: one_by_one(family, bfloat16=True),
}


def steps(family: str, repetitions: int) -> dict[str, dict[str, float]]:
    """CPU milliseconds a row and model, and the ratio to one by one, medians over interleaved repetitions."""
    ways = {name: way for name, way in WAYS.items() if family == "cnn" or name != "one by one, channels first"}
    made = {name: way(family) for name, way in ways.items()}
    spent: dict[str, list[float]] = {name: [] for name in made}
    often = 1 if family == "cnn" else 10
    for repetition in range(repetitions + 1):
        for name, step in made.items():
            began = time.process_time()
            for _ in range(often):
                step()
            if repetition:  # the first warms up
                spent[name].append((time.process_time() - began) / (often * MODELS * BATCH) * 1e3)
    return {
        name: {
            "ms_per_row": round(median(spent[name]), 4),
            "ratio": round(median(a / b for a, b in zip(spent[name], spent["one by one"], strict=True)), 3),
        }
        for name in made
    }


def processes(repetitions: int, rows: int, epochs: int) -> dict[str, Any]:
    """Wall seconds of training 4 CNNs: one thread, two threads, two processes with one thread each; equal bytes?"""
    shape, classes = SHAPES["cnn"]
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(rows, *shape, generator=generator), torch.randint(classes, (rows,), generator=generator)
    recipe = Recipe(epochs=epochs)
    parallel_training.WORTH_HELP = 0.0
    ways = {
        "1 process, 1 thread": (1, "cnn"),
        "1 process, 2 threads": (2, None),
        "2 processes, 1 thread each": (2, "cnn"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    weights: dict[str, list[Tensor]] = {}
    for _ in range(repetitions):
        for name, (threads, family) in ways.items():
            jobs = [Job(architectures.build("cnn", shape, classes, seed=seed), seed) for seed in range(4)]
            torch.set_num_threads(threads)
            began = time.perf_counter()
            train_all(jobs, x, y, recipe, family=family, classes=classes)
            seconds[name].append(time.perf_counter() - began)
            weights[name] = [torch.cat([p.detach().flatten() for p in job.module.parameters()]) for job in jobs]
    torch.set_num_threads(1)
    alone = "1 process, 1 thread"
    return {
        name: {
            "seconds": round(median(seconds[name]), 2),
            "ratio": round(median(a / b for a, b in zip(seconds[name], seconds[alone], strict=True)), 3),
            "same_bytes_as_one_thread": all(map(torch.equal, weights[name], weights[alone])),
        }
        for name in ways
    }


def page(results: dict[str, Any]) -> str:
    text = (
        "# Training many small models\n\n"
        f"{MODELS} models, {BATCH} rows a step and model, one thread: CPU milliseconds a row and model, in brackets "
        "the ratio to\none by one. `cnn`: 3x32x32, 10 classes; `mlp`: 446 features, 30 classes. Medians of interleaved "
        "repetitions.\nWritten by `python -m benchmarks.references`.\n\n"
    )
    families = results["steps"]
    lines = [
        [
            name,
            *[f"{f[name]['ms_per_row']:.3g} ({f[name]['ratio']:.2f})" if name in f else "–" for f in families.values()],
        ]
        for name in WAYS
    ]
    text += markdown(["", *families], lines)
    text += (
        "\n\nFour CNNs trained whole, wall time with the helpers' start; load on the machine "
        f"{results['load']:.1f} for {results['cores']} cores.\n\n"
    )
    lines = [
        [name, f"{r['seconds']:.1f} s", f"{r['ratio']:.2f}", "yes" if r["same_bytes_as_one_thread"] else "no"]
        for name, r in results["processes"].items()
    ]
    return text + markdown(["", "seconds", "ratio", "same bytes as with one thread"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    results: dict[str, Any] = {
        "environment": environment(),
        "cores": os.cpu_count(),
        "steps": {family: steps(family, 2 if quick else 5) for family in SHAPES},
        "processes": {} if quick else processes(2, 800, 4),
        "load": os.getloadavg()[0],
    }
    text = page(results)
    if quick:
        print(text)
    else:
        write("references", results, text)


if __name__ == "__main__":
    main()
