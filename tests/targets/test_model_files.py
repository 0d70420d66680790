"""Models in files as targets: ONNX through onnxruntime, programs of torch.export, TorchScript."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import labelleaks as ll
from labelleaks.cli.from_spec import audit_arguments
from labelleaks.cli.spec import AuditSpec
from labelleaks.cli.spec_file import load_spec
from labelleaks.errors import InputError, LabelLeaksError, MissingExtra, SpecError, TargetError
from labelleaks.targets import Onnx, wrap
from labelleaks.targets.exported import load_exported
from labelleaks.targets.files import load_target

WEIGHTS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
RNG = np.random.default_rng(0)
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


# --- ONNX inputs of any type ------------------------------------------------------------------------------------------

TYPES = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}


def save_typed(path: Path, inputs: dict[str, tuple[int, Sequence[Any]]], *, maps: bool = False) -> Path:
    """A model that casts each of its inputs to float and answers whether the sum of them is above 1, as a label."""
    nodes, sums = [], []
    for name, (kind, _) in inputs.items():
        sums.append(f"{name}_sum")
        if kind == TensorProto.STRING:
            nodes.append(helper.make_node("LabelEncoder", [name], [f"{name}_f"], domain="ai.onnx.ml",
                keys_strings=["rome", "oslo"], values_floats=[1.0, 0.25], default_float=0.0))  # fmt: skip
        else:
            nodes.append(helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("ReduceSum", [f"{name}_f", "axes"], [f"{name}_sum"], keepdims=1))
    nodes += [
        helper.make_node("Sum", sums, ["total"]),
        helper.make_node("Sub", ["total", "one"], ["above"]),
        helper.make_node("Neg", ["above"], ["below"]),
        helper.make_node("Concat", ["below", "above"], ["scores"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"])]
    if maps:
        nodes.append(
            helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"])
        )
        kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        outputs.append(helper.make_value_info("maps", helper.make_sequence_type_proto(kind)))
    graph = helper.make_graph(
        nodes,
        "typed",
        [helper.make_tensor_value_info(name, kind, ["rows", *shape]) for name, (kind, shape) in inputs.items()],
        outputs,
        [numpy_helper.from_array(np.array([1]), "axes"), numpy_helper.from_array(np.array([[1.0]], np.float32), "one")],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=9), path)
    return path


def onnx_audit(path: Path, x: Any, labels: Any, **options: Any) -> Any:
    half = len(labels) // 2
    parts = [_part(x, slice(0, half)), _part(x, slice(half, None))]
    given: dict[str, Any] = {"attacks": ["gap", "noise"], "budget": 6, "classes": 2, "show_progress": False, **options}
    return ll.audit(Onnx(path, output=given.pop("output", None)), members=(parts[0], labels[:half]),
        nonmembers=(parts[1], labels[half:]), **given)  # fmt: skip


def _part(x: Any, rows: slice) -> Any:
    if isinstance(x, dict):
        return {name: column[rows] for name, column in x.items()}
    return x.iloc[rows].reset_index(drop=True) if hasattr(x, "iloc") else x[rows]


@pytest.mark.parametrize("kind", TYPES)
def test_an_onnx_file_of_any_number_type_gets_it(tmp_path: Path, kind: str) -> None:
    path = save_typed(tmp_path / "m.onnx", {"x": (TYPES[kind], [4])})
    dtype = np.dtype({"float": "f4", "double": "f8"}.get(kind, kind))
    x = RNG.integers(0, 2 if kind == "bool" else 5, (12, 4)).astype(dtype) / (4 if dtype.kind == "f" else 1)
    x = x.astype(dtype)
    truth = (x.astype(float).sum(1) > 1).astype(int)
    assert onnx_audit(path, x, truth)["gap"].scores.tolist() == [1.0] * 12
    if dtype.kind in "iu" and kind != "bool":
        with pytest.raises(InputError, match=rf"takes {dtype}, not float64: give x.astype\('{dtype}'\)"):
            onnx_audit(path, x.astype(float) / 5, truth)


def test_an_onnx_file_with_an_input_for_each_column(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    inputs = {"city": (TensorProto.STRING, [1]), "age": (TensorProto.INT64, [1]), "income": (TensorProto.FLOAT, [1])}
    path = save_typed(tmp_path / "m.onnx", inputs, maps=True)
    frame = pd.DataFrame({"age": RNG.integers(0, 2, 12), "income": RNG.random(12), "city": list("ro" * 6)})
    frame["city"] = frame["city"].map({"r": "rome", "o": "oslo"})
    truth = (frame["age"] + frame["income"].astype("f4") + frame["city"].map({"rome": 1.0, "oslo": 0.25}) > 1).astype(
        int
    )
    truth = truth.to_numpy()
    for x in (frame, {name: frame[name].to_numpy() for name in ("income", "city", "age")}):
        assert onnx_audit(path, x, truth)["gap"].scores.tolist() == [1.0] * 12
    words = np.array(["no", "yes"])[truth]  # the maps name their classes: their order need not be known
    assert onnx_audit(path, frame, words, output="maps", classes=None)["gap"].scores.tolist() == [1.0] * 12
    with pytest.raises(InputError, match=r"3 inputs \(city, age, income\): give a DataFrame with columns"):
        onnx_audit(path, frame[["age", "income"]].to_numpy(), truth)
    with pytest.raises(InputError, match="an input 'age', which the rows lack; did you mean 'Age'"):
        onnx_audit(path, frame.rename(columns={"age": "Age"}), truth)
    with pytest.raises(InputError, match=r"input 'city' takes text, not int64: give x.astype\(str\)"):
        onnx_audit(path, frame.assign(city=RNG.integers(0, 3, 12)), truth)
    frame.assign(label=truth).iloc[:6].to_csv(tmp_path / "m.csv", index=False)
    frame.assign(label=truth).iloc[6:].to_csv(tmp_path / "n.csv", index=False)
    said = {("target",): {"path": str(path), "classes": 2}, ("attacks",): ["gap"],
        ("data", "members"): str(tmp_path / "m.csv"), ("data", "nonmembers"): str(tmp_path / "n.csv")}  # fmt: skip
    made = ll.audit(**audit_arguments(load_spec(AuditSpec, None, said)), show_progress=False)
    assert made["gap"].scores.tolist() == [1.0] * 12


def test_an_onnx_file_of_token_ids_by_name(tmp_path: Path) -> None:
    path = save_typed(tmp_path / "m.onnx", {n: (TensorProto.INT64, [3]) for n in ("input_ids", "attention_mask")})
    x = {"input_ids": RNG.integers(0, 2, (12, 3)), "attention_mask": RNG.integers(0, 2, (12, 3))}
    truth = (x["input_ids"].sum(1) + x["attention_mask"].sum(1) > 1).astype(int)
    assert onnx_audit(path, x, truth)["gap"].scores.tolist() == [1.0] * 12


def test_a_query_beyond_the_type_of_an_input_is_refused(tmp_path: Path) -> None:
    path = save_typed(tmp_path / "m.onnx", {"x": (TensorProto.INT8, [4])})
    with pytest.raises(LabelLeaksError, match=r"takes int8, and \d+ is beyond: say a domain whose bounds it holds"):
        onnx_audit(path, RNG.integers(0, 300, (12, 4)), np.arange(12) % 2)
