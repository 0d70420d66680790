"""Who a target is: known before the first label is bought; two that can answer differently never share answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import labelleaks as ll
from labelleaks.targets import Http, Onnx, is_identified, wrap
from labelleaks.targets.pipelines import PipelineFunction
from tests.doors.test_kinds import Pipeline

X = torch.rand(40, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0.5).long()


class OwnCode(nn.Module):
    """A module whose code decides, and whose structure and weights do not tell it."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sign * torch.stack([0.5 - x[:, 0], x[:, 0] - 0.5], 1)


class Shift(nn.Module):
    """A preprocessing that holds its numbers in a buffer."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.register_buffer("by", torch.tensor(by))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.by


def linear(sign: float) -> nn.Module:
    made = nn.Sequential(nn.Linear(4, 2))
    made[0].weight.data = sign * torch.tensor([[-1.0, 0, 0, 0], [1, 0, 0, 0]])  # type: ignore[union-attr]
    made[0].bias.data = sign * torch.tensor([0.5, -0.5])  # type: ignore[union-attr]
    return made


def closure(sign: float) -> Callable[[Any], Any]:
    return lambda x: ((torch.as_tensor(np.asarray(x))[:, 0] - 0.5) * sign > 0).long()


def estimator(sign: float, steps: tuple[Any, ...] = ()) -> Any:
    y = Y.numpy() if sign > 0 else 1 - Y.numpy()
    return make_pipeline(*steps, LogisticRegression()).fit(X.numpy(), y)


def onnx_file(folder: Path, sign: float) -> Onnx:
    path = folder / f"{sign}.onnx"
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Sub", ["s", "b"], ["scores"])]
    graph = helper.make_graph(
        nodes, "m", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 2])],
        [numpy_helper.from_array(np.float32(sign) * np.array([[-1, 1], [0, 0], [0, 0], [0, 0]], "f4"), "w"),
         numpy_helper.from_array(np.float32(sign) * np.array([-0.5, 0.5], "f4"), "b")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return Onnx(path)


def changed_model(kind: str, folder: Path, sign: float) -> tuple[Any, dict[str, Any]]:
    """A target and options, one for each sign, that answer the opposite of each other."""

    def named(x: Any) -> Any:
        return closure(sign)(x)

    named.fingerprint = f"version {sign}"  # type: ignore[attr-defined]
    made: dict[str, tuple[Any, dict[str, Any]]] = {
        "module": (linear(sign), {}),
        "module of the user's code": (OwnCode(sign), {}),
        "module behind a function": (linear(1), {"preprocess": (lambda x: x) if sign > 0 else (lambda x: 1 - x)}),
        "module behind a module": (linear(1), {"preprocess": Shift(0.0 if sign > 0 else -1.0)}),
        "function": (closure(sign), {}),
        "function with a version": (named, {}),
        "estimator": (estimator(sign), {}),
        "estimator that cannot be hashed": (estimator(sign, (FunctionTransformer(lambda x: x),)), {}),
        "ONNX": (onnx_file(folder, sign), {}),
        "recorded": (ll.Recorded(X.numpy(), Y.numpy() if sign > 0 else 1 - Y.numpy()), {}),
        "threshold": (lambda x: x[:, 0], {"threshold": 0.5 if sign > 0 else 0.9}),
        "classes": (linear(1), {"classes": ["no", "yes"] if sign > 0 else ["yes", "no"]}),
    }  # fmt: skip
    return made[kind]


KINDS = [
    "module",
    "module of the user's code",
    "module behind a function",
    "module behind a module",
    "function",
    "function with a version",
    "estimator",
    "estimator that cannot be hashed",
    "ONNX",
    "recorded",
    "threshold",
    "classes",
]
BY_CANARIES = {"module of the user's code", "module behind a function", "function", "estimator that cannot be hashed"}


def audit(target: Any, *, journal: Path, frame: bool = False, **options: Any) -> Any:
    x: Any = X.numpy()
    x = pd.DataFrame(x, columns=list("abcd")) if frame else x
    y = np.array(["no", "yes"])[Y.numpy()] if "classes" in options else Y.numpy()
    return ll.audit(target, members=(x[:20], y[:20]), nonmembers=(x[20:], y[20:]), attacks=["gap"], journal=journal,
        show_progress=False, **options)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_model_never_gets_the_answers_of_the_one_before(kind: str, tmp_path: Path) -> None:
    """Either its fingerprint differs, and it is asked afresh, or canaries notice and the journal is refused."""
    journal = tmp_path / "j.sqlite"
    target, options = changed_model(kind, tmp_path, 1.0)
    before = audit(target, journal=journal, **options)
    again = audit(target, journal=journal, **options)
    assert again["gap"].scores.tolist() == before["gap"].scores.tolist()
    other, changed = changed_model(kind, tmp_path, -1.0)
    if kind in BY_CANARIES:
        with pytest.raises(ll.InputError, match=r"the target changed since the journal .* was begun"):
            audit(other, journal=journal, **changed)
        return
    with pytest.raises(ll.InputError, match="belongs to another target"):
        audit(other, journal=journal, **changed)


@pytest.mark.parametrize("kind", KINDS)
def test_who_a_target_is_is_known_before_the_first_label(kind: str, tmp_path: Path) -> None:
    target, options = changed_model(kind, tmp_path, 1.0)
    preprocess, threshold = options.get("preprocess"), options.get("threshold")
    numpy = not isinstance(target, nn.Module)
    classes: Any = ll.targets.resolve_classes(target, options.get("classes", 2), {}, threshold=threshold)
    before = wrap(target, numpy=numpy, classes=classes, preprocess=preprocess)
    mark, said = before.fingerprint, before.describe()
    with before:
        before(X[:3])
    assert before.fingerprint == mark
    assert {**before.describe(), "answer": 0} == {**said, "answer": 0}
    assert is_identified(before) is (kind not in BY_CANARIES | {"threshold", "module behind a module"})


def test_services_and_pipelines_are_known_before_they_are_asked() -> None:
    service = wrap(Http(url="http://service/v2/models/m", protocol="v2"), classes=2, width=4)
    assert service.fingerprint.startswith("http:") and not is_identified(service)
    pipeline = wrap(Pipeline(), form=ll.inputs.row_format.learn({"rows": np.zeros((2, 5, 6, 3), "u1")}))
    assert is_identified(pipeline) and not pipeline._function._pipeline.seen  # type: ignore[attr-defined]
    assert isinstance(pipeline._function, PipelineFunction)  # type: ignore[attr-defined]


@pytest.mark.parametrize("frame", [False, True])
def test_canaries_are_asked_of_functions_only_where_a_journal_goes_on(frame: bool, tmp_path: Path) -> None:
    asked: list[int] = []

    def target(x: Any) -> Any:
        asked.append(len(x))
        return (np.asarray(x)[:, 0] > 0.5).astype(int)

    journal = tmp_path / "j.sqlite"
    before = audit(target, journal=journal, frame=frame)
    rows = sum(asked)
    asked.clear()
    after = audit(target, journal=journal, frame=frame)
    assert 0 < sum(asked) <= 8 < rows
    assert after["gap"].scores.tolist() == before["gap"].scores.tolist()
    assert after.ledger.setup == before.ledger.setup, "a record holds nothing that differs between two equal runs"
    asked.clear()
    audit(target, journal=journal, frame=frame, replay_only=True)
    assert not asked


def test_two_kinds_of_rows_never_share_answers(tmp_path: Path) -> None:
    """One function answers by the dtype that it gets: its answers for float64 are none for float32, or for a table."""

    def target(x: Any) -> Any:
        rows = x["x"] if isinstance(x, dict) else x
        return np.full(len(rows), int(getattr(rows, "dtype", None) == np.float64))

    y = Y.numpy()
    kinds = [X.numpy(), X.double().numpy(), pd.DataFrame(X.numpy()), X.numpy().astype("f2"), {"x": X.numpy()}]
    for kind, rows in enumerate(kinds):
        parts = [
            {"x": p} if kind == 4 else p
            for p in ((rows["x"] if kind == 4 else rows)[:20], (rows["x"] if kind == 4 else rows)[20:])
        ]
        for earlier in range(kind):
            with pytest.raises(ll.InputError, match="belongs to another target"):
                ll.audit(target, members=(parts[0], y[:20]), nonmembers=(parts[1], y[20:]), attacks=["gap"],
                    journal=tmp_path / f"{earlier}.sqlite", show_progress=False)  # fmt: skip
        ll.audit(target, members=(parts[0], y[:20]), nonmembers=(parts[1], y[20:]), attacks=["gap"],
            journal=tmp_path / f"{kind}.sqlite", show_progress=False)  # fmt: skip
