"""Targets and rows of the cases: small, made from scikit-learn's data sets with fixed seeds, the same in every commit.

Nothing of labelleaks but what it publishes is imported here, since its modules move between commits.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor, nn

import labelleaks as ll

PORT = 47611
"""Of the service: its address is in the record, so it cannot be drawn anew."""


class CountedCalls(nn.Module):
    """A network that counts the rows that it is asked about."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return torch.as_tensor(self.layers(x))


@dataclass(frozen=True, eq=False)
class CaseWorld:
    """A target, rows that it was trained on, rows that it was not, and further rows."""

    target: Any
    members: tuple[Any, Any]
    nonmembers: tuple[Any, Any]
    shadow: Any
    domain: ll.Domain

    def rows(self, n: int) -> dict[str, Any]:
        """The first ``n`` rows of each side, and all the rest, as arguments of an audit."""
        sides = {"members": self.members, "nonmembers": self.nonmembers}
        shadow, domain = (self.shadow,), self.domain
        return {side: (x[:n], y[:n]) for side, (x, y) in sides.items()} | {"shadow": shadow, "domain": domain}


@cache
def digits() -> CaseWorld:
    """Noisy digits as flat rows (64,), and an MLP that knows 100 of them by heart."""
    x, y = _noisy_digits(0)
    x = x.flatten(1)
    target = CountedCalls(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return _world(_trained(target, x[:100], y[:100], 150), x, y, 100, 400, ll.Box(0, 1))


@cache
def pictures() -> CaseWorld:
    """Colour pictures (3, 12, 12): each band a digit of its own noise; 8-bit values."""
    bands = [_noisy_digits(seed) for seed in (0, 1, 2)]
    x = nn.functional.interpolate(torch.cat([band for band, _ in bands], 1), size=(12, 12))
    x, y = (x * 255).round() / 255, bands[0][1]
    target = CountedCalls(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 10))
    return _world(_trained(target, x[:60], y[:60], 120), x, y, 60, 200, ll.Box(0, 1, levels=256))


@cache
def binary() -> CaseWorld:
    """Bits (64,): digits above half; the kind of rows that shopping baskets are."""
    x, y = _noisy_digits(3)
    x = (x.flatten(1) > 0.5).float()
    target = CountedCalls(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    return _world(_trained(target, x[:60], y[:60], 150), x, y, 60, 200, ll.Binary())


@cache
def tabular() -> CaseWorld:
    """Continuous, integer and one-hot columns, classes with names, a random forest as the target."""
    from sklearn.ensemble import RandomForestClassifier

    data = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(data.data))
    raw, y = data.data[order].astype(np.float32), np.array(["malignant", "benign"])[data.target[order]]
    flipped = np.random.default_rng(1).random(len(y)) < 0.1  # else there is little to learn by heart
    y = np.where(flipped, np.where(y == "benign", "malignant", "benign"), y)
    kinds = np.eye(4, dtype=np.float32)[np.digitize(raw[:, 8], np.quantile(raw[:, 8], (0.25, 0.5, 0.75)))]
    x = np.concatenate([raw[:, :4], np.round(raw[:, 4:6] * 100), kinds], 1)
    bounds = [(float(np.floor(low)), float(np.ceil(high))) for low, high in zip(x.min(0), x.max(0), strict=True)]
    domain = ll.Mixed(
        *[ll.Continuous(*pair) for pair in bounds[:4]], *[ll.Integer(int(a), int(b)) for a, b in bounds[4:6]],
        ll.OneHot(4),
    )  # fmt: skip
    target = RandomForestClassifier(20, random_state=0).fit(x[:100], y[:100])
    return CaseWorld(target, (x[:100], y[:100]), (x[100:200], y[100:200]), x[200:], domain)


def predict(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the target of :func:`digits` answers: for specs, which name a function."""
    with torch.no_grad():
        return np.asarray(digits().target(torch.from_numpy(np.asarray(x, np.float32))).argmax(1).numpy())


@contextmanager
def service() -> Iterator[tuple[ll.targets.Http, list[int]]]:
    """The target of :func:`digits` behind HTTP: how to reach it, and the size of each request that came."""
    seen: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.reply(404, {"error": "not found"})

        def do_POST(self) -> None:
            rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
            seen.append(len(rows))
            self.reply(200, {"predictions": predict(np.array(rows, np.float32)).tolist()})

        def reply(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = _server(Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield ll.targets.Http(url=f"http://127.0.0.1:{PORT}/v1/models/digits:predict", protocol="tensorflow"), seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _server(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server on PORT, after some patience: another run of these cases may hold it for a second."""
    for _ in range(60):
        try:
            return ThreadingHTTPServer(("127.0.0.1", PORT), handler)
        except OSError:
            time.sleep(1)
    return ThreadingHTTPServer(("127.0.0.1", PORT), handler)


def _world(target: nn.Module, x: Tensor, y: Tensor, side: int, shadow: int, domain: ll.Domain) -> CaseWorld:
    last = 2 * side
    return CaseWorld(target, (x[:side], y[:side]), (x[side:last], y[side:last]), x[last : last + shadow], domain)


def _noisy_digits(seed: int) -> tuple[Tensor, Tensor]:
    """((1797, 1, 8, 8) in [0, 1], (1797,)), shuffled alike for every seed, the noise by ``seed``."""
    found = load_digits()
    order = torch.randperm(len(found.images), generator=torch.Generator().manual_seed(7))
    x = torch.tensor(found.images, dtype=torch.float32)[order, None] / 16
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return (x + 0.4 * noise).clamp(0, 1), torch.tensor(found.target, dtype=torch.int64)[order]


def _trained(model: CountedCalls, x: Tensor, y: Tensor, epochs: int) -> CountedCalls:
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for weights in model.parameters():
            fan = weights[0].numel() if weights.dim() > 1 else 10**6
            weights.copy_(torch.randn(weights.shape, generator=generator) * (2 / fan) ** 0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with torch.enable_grad():  # a target may be asked where gradients are off
        for _ in range(epochs):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    model.rows = 0
    return model.eval()
