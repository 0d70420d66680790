"""Models in files as targets: ONNX through onnxruntime, programs of torch.export, TorchScript."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import labelleaks as ll
from labelleaks.errors import InputError, MissingExtra, SpecError, TargetError
from labelleaks.targets import Onnx, wrap
from labelleaks.targets.exported import load_exported
from labelleaks.targets.files import load_target

WEIGHTS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
X = torch.rand(11, 4, generator=torch.Generator().manual_seed(0))
TRUTH = (X @ torch.from_numpy(WEIGHTS)).argmax(1)


def save_onnx(
    path: Path, *, rows: int | str = "rows", kind: int = TensorProto.FLOAT, outputs: tuple[str, ...] = ("scores",)
) -> Path:
    """A linear classifier with the outputs that are named: scores (m, 3), label (m,), second (m,)."""
    array = WEIGHTS.astype(helper.tensor_dtype_to_np_dtype(kind))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        helper.make_node("Identity", ["label"], ["second"]),
    ]
    held = {
        "scores": helper.make_tensor_value_info("scores", kind, [rows, 3]),
        "label": helper.make_tensor_value_info("label", TensorProto.INT64, [rows]),
        "second": helper.make_tensor_value_info("second", TensorProto.INT64, [rows]),
    }
    graph = helper.make_graph(
        nodes, "linear", [helper.make_tensor_value_info("x", kind, [rows, 4])], [held[name] for name in outputs],
        [numpy_helper.from_array(array, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def save_network(path: Path, network: nn.Sequential) -> None:
    """A convolution with padding 1, ReLU, and a linear layer, for images of one channel: scores (m, K)."""
    conv, _, _, linear = network
    weights = {"k": conv.weight, "b": conv.bias, "w": linear.weight, "c": linear.bias}
    nodes = [
        helper.make_node("Conv", ["x", "k", "b"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("Flatten", ["active"], ["features"]),
        helper.make_node("Gemm", ["features", "w", "c"], ["scores"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "pictures",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1, "height", "width"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", linear.out_features])],
        [numpy_helper.from_array(tensor.detach().numpy(), name) for name, tensor in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.mark.parametrize(
    "options",
    [{}, {"outputs": ("label",)}, {"outputs": ("scores", "label")}, {"rows": 1}, {"kind": TensorProto.DOUBLE}],
)
def test_an_onnx_file_answers_labels(tmp_path: Path, options: Any) -> None:
    with wrap(Onnx(save_onnx(tmp_path / "m.onnx", **options)), numpy=True, classes=3) as target:
        assert target(X).equal(TRUTH)
        assert torch.cat([target(row[None]) for row in X]).equal(TRUTH)
        said = json.loads(json.dumps(target.describe()))
        assert said["kind"] == "onnx" and said["name"] == "m.onnx" and str(tmp_path) not in json.dumps(said)


def test_the_output_of_an_onnx_file_can_be_named(tmp_path: Path) -> None:
    path = save_onnx(tmp_path / "m.onnx", outputs=("scores", "label", "second"))
    with pytest.raises(InputError, match=r"several outputs \(scores .*label .*second .*output=NAME"):
        wrap(Onnx(path), numpy=True, classes=3)
    assert wrap(Onnx(path, output="second"), numpy=True, classes=3)(X).equal(TRUTH)
    with pytest.raises(InputError, match="no output 'third' but scores"):
        wrap(Onnx(path, output="third"), numpy=True, classes=3)


def test_an_onnx_file_is_told_by_its_content(tmp_path: Path) -> None:
    def of(path: Path, **options: Any) -> str:
        return wrap(Onnx(path, **options), numpy=True, classes=3).fingerprint

    one = save_onnx(tmp_path / "a.onnx", outputs=("scores", "label", "second"))
    same = save_onnx(tmp_path / "b.onnx", outputs=("scores", "label", "second"))
    assert of(one, output="label") == of(same, output="label") != of(one, output="scores")
    assert of(save_onnx(tmp_path / "c.onnx", outputs=("label",))) != of(one, output="label")
    before = of(one, output="label")
    (tmp_path / "a.onnx.data").write_bytes(b"weights")
    assert of(one, output="label") != before


def test_onnx_files_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such file"):
        Onnx(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be loaded"):
        wrap(Onnx(tmp_path / "bad.onnx"), numpy=True, classes=3)
    with pytest.raises(InputError, match="exported for 7 rows at a time"):
        wrap(Onnx(save_onnx(tmp_path / "seven.onnx", rows=7)), numpy=True, classes=3)
    good = save_onnx(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="'Quantum' is not in this onnxruntime"):
        wrap(Onnx(good, providers=("Quantum",)), numpy=True, classes=3)
    with pytest.raises(InputError, match="a list is needed"):
        Onnx(good, providers="CPUExecutionProvider")
    with pytest.raises(InputError, match="preprocess does not apply"):
        wrap(Onnx(good), numpy=True, classes=3, preprocess=lambda x: x)
    with pytest.raises(TargetError, match=r"m\.onnx"):
        wrap(Onnx(good), numpy=True, classes=3)(torch.rand(2, 9))
    with pytest.raises(TargetError, match="3 scores a row, but there are 2 classes"):
        wrap(Onnx(good), numpy=True, classes=2)(X)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"labelleaks\[onnx\]"):
        wrap(Onnx(good), numpy=True, classes=3)


def test_an_audit_of_an_onnx_file(tmp_path: Path) -> None:
    rows = {
        "members": (X[:6].numpy(), TRUTH[:6].numpy()), "nonmembers": (X[6:].numpy(), TRUTH[6:].numpy()), "classes": 3,
        "attacks": ["gap", "boundary"], "budget": 40, "thresholds": [], "show_progress": False,
    }  # fmt: skip
    found = ll.audit(ll.targets.Onnx(save_onnx(tmp_path / "m.onnx", outputs=("label",))), **rows)
    local = ll.audit(lambda x: (torch.as_tensor(x) @ torch.from_numpy(WEIGHTS)).argmax(1).numpy(), **rows)
    assert (found["boundary"].scores == local["boundary"].scores).all()


def test_a_spec_names_onnx_files(tmp_path: Path) -> None:
    path = str(save_onnx(tmp_path / "m.onnx"))
    assert load_target(path, output="scores") == Onnx(path, output="scores")
    with pytest.raises(SpecError, match=r"output: belongs to \.onnx"):
        load_target(str(save_program(tmp_path / "m.pt2")), output="y", trust_pickle=True)


# --- torch.export -----------------------------------------------------------------------------------------------------


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()


def save_program(path: Path, *, rows: int | None = None, module: nn.Module | None = None) -> Path:
    dynamic = None if rows else ({0: torch.export.Dim("rows")},)
    program = torch.export.export(module or net(), (torch.rand(rows or 5, 4),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("rows", [None, 1])
def test_an_exported_program_is_a_target(tmp_path: Path, rows: int | None) -> None:
    target = load_target(str(save_program(tmp_path / "m.pt2", rows=rows)), trust_pickle=True)
    truth = net()(X).argmax(1)
    with wrap(target, numpy=False, classes=3) as wrapped:
        assert wrapped(X).equal(truth)
        assert wrapped(X[:1]).equal(truth[:1])
        assert wrapped.describe()["parameters"] == sum(p.numel() for p in net().parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_fingerprint_of_a_program_is_its_code_and_weights(tmp_path: Path) -> None:
    def of(path: Path) -> str:
        return wrap(load_exported(path, trust_pickle=True), numpy=False, classes=3).fingerprint

    one, same = save_program(tmp_path / "a.pt2"), save_program(tmp_path / "b.pt2")
    assert of(one) == of(same)
    other = net()
    with torch.no_grad():
        next(other.parameters())[0, 0] += 1e-6
    assert of(save_program(tmp_path / "c.pt2", module=other)) != of(one)
    other = net()
    other[2] = nn.Tanh()
    assert of(save_program(tmp_path / "d.pt2", module=other)) != of(one)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_programs_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = save_program(tmp_path / "m.pt2")
    with pytest.raises(SpecError, match=r"can run any code.*--trust-pickle"):
        load_target(str(path))
    (tmp_path / "bad.pt2").write_bytes(b"nothing of the kind")
    with pytest.raises(SpecError, match=r"no program of torch\.export"):
        load_target(str(tmp_path / "bad.pt2"), trust_pickle=True)
    with pytest.raises(SpecError, match="exported for 6 rows at a time"):
        load_exported(save_program(tmp_path / "six.pt2", rows=6), trust_pickle=True)
