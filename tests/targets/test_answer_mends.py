"""Mends that messages about answers name: each is done, and works."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import labelleaks as ll
from labelleaks.core.classes import Classes, label_array
from labelleaks.errors import TargetError
from labelleaks.targets import Http, Onnx, resolve_classes, wrap
from labelleaks.targets.answers import read_answer

X = torch.linspace(-1, 1, 60).reshape(12, 5)
WEIGHTS = torch.tensor([[1.0, -2.0, 0.5, 1.0, -0.25]])
TRUTH = ((X @ WEIGHTS.T)[:, 0] > 0).long()


def refused(target: Any, x: torch.Tensor = X) -> str:
    with pytest.raises(TargetError) as caught:
        target(x)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Logit(nn.Module):
    """One logit a row, or one probability; a column (m, 1) or flat (m,)."""

    def __init__(self, *, sigmoid: bool, flat: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 1, bias=False)
        self.linear.weight.data.copy_(WEIGHTS)
        self.sigmoid, self.flat = sigmoid, flat

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.linear(x)
        found = found.sigmoid() if self.sigmoid else found
        return found[:, 0] if self.flat else found


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_a_module_of_one_logit_or_probability_becomes_two_classes(sigmoid: bool, flat: bool) -> None:
    model = Logit(sigmoid=sigmoid, flat=flat)
    said = refused(wrap(model, classes=2))
    mend = re.search(r"give (torch\.nn\.Sequential\(.*\)) where it is a logit, and 0\.5 for 0\.0", said)
    assert mend is not None, said
    mended = eval(mend[1].replace(" 0.0)", " 0.5)") if sigmoid else mend[1], {"torch": torch, "model": model})
    assert wrap(mended, classes=2)(X).equal(TRUTH)


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list])
def test_a_function_of_one_probability_becomes_two_classes(kind: Any) -> None:
    def probability(x: torch.Tensor) -> Any:
        return kind((x @ WEIGHTS.T)[:, 0].sigmoid().tolist())

    said = refused(wrap(probability, classes=["no", "yes"]))
    assert "p > 0.5" in said and "np.asarray(p) > 0.5" in said and "np.stack([1 - p, p], 1)" in said
    cuts = ["np.asarray(p) > 0.5"] if kind is list else ["p > 0.5", "np.stack([1 - p, p], 1)"]
    for cut in cuts:
        assert wrap(lambda x, cut=cut: eval(cut, {"np": np, "p": probability(x)}), classes=2)(X).equal(TRUTH)


class Booster:
    """A model of which ``predict`` gives probabilities, as neural networks in estimators' clothes do."""

    classes_ = np.array([0, 1])

    def fit(self, x: Any, y: Any) -> None: ...

    def predict(self, x: Any) -> Any:
        return 1 / (1 + np.exp(-(x @ WEIGHTS.numpy().T)[:, 0]))


def test_an_estimator_that_predicts_probabilities_becomes_two_classes() -> None:
    model = Booster()
    mend = re.search(r"(lambda x: model\.predict\(x\) > 0\.5)", refused(wrap(model, numpy=True)))
    assert mend is not None
    assert wrap(eval(mend[1], {"model": model}), numpy=True, classes=2)(X).equal(TRUTH)


def test_an_onnx_file_of_one_probability_becomes_two_classes(tmp_path: Path) -> None:
    import onnxruntime

    path = tmp_path / "m.onnx"
    nodes = [helper.make_node("MatMul", ["features", "w"], ["logit"]), helper.make_node("Sigmoid", ["logit"], ["p"])]
    graph = helper.make_graph(
        nodes, "one",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 5])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(WEIGHTS.T.contiguous().numpy(), "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    said = refused(wrap(Onnx(path), numpy=True, classes=2))
    mend = re.search(r"(lambda x: session\.run\(.*\)\[0\] > 0\.5), with session = (.*)$", said)
    assert mend is not None, said
    session = eval(mend[2], {"onnxruntime": onnxruntime, "path": path})
    assert wrap(eval(mend[1], {"session": session}), numpy=True, classes=2)(X).equal(TRUTH)


def test_a_service_of_one_probability_becomes_two_classes() -> None:
    def asked(**options: Any) -> Any:
        target: Any = wrap(Http(url="http://service/predict", protocol="template", **options), classes=2, width=5)
        answer = {"predictions": (X @ WEIGHTS.T)[:, 0].sigmoid().tolist()}
        form = target._format
        return lambda x: target._codes(form.read(answer, len(x)), len(x))

    template = '{"instances": {{ rows | tojson }}}'
    with pytest.raises(Exception, match="fractions are not labels") as caught:
        asked(template=template, label="predictions")(X)
    mend = re.search(r"with template: and a label: that compares, for example (.*)$", str(caught.value))
    assert mend is not None
    assert asked(template=template, label=mend[1])(X).equal(TRUTH)


@pytest.mark.parametrize("kind", ["callable", "estimator", "torch", "onnx", "http"])
def test_ids_of_the_best_are_never_scores(kind: str) -> None:
    ids = np.array([[2, 0, 1], [0, 2, 1], [1, 0, 2]])
    for answer in (ids, torch.from_numpy(ids), ids.astype(np.uint8), ids[:, :2], ids.tolist()):
        with pytest.raises(TargetError, match="may be ids or scores"):
            read_answer(answer, 3, Classes((0, 1, 2), open=True), kind=kind)
    assert read_answer(ids[:, 0], 3, Classes((0, 1, 2)), kind=kind).tolist() == [2, 0, 1]
    assert read_answer(ids.astype(float), 3, Classes((0, 1, 2)), kind=kind).tolist() == [0, 1, 2]


WORDS = np.array(["eel", "cat", "dog"] * 4)  # column 0 is "eel": not the alphabet's order


def test_scores_without_an_order_of_words_are_refused_before_an_attack_asks() -> None:
    asked: list[int] = []

    def target(x: np.ndarray) -> np.ndarray:
        asked.append(len(x))
        return np.eye(3)[np.round(x[:, 0] * 10).astype(int) % 3]

    x = np.tile(np.array([[0.0, 0.5], [0.1, 0.5], [0.2, 0.5]], dtype=np.float32), (4, 1))
    x[:, 1] = np.linspace(0, 1, 12)
    options = {
        "members": (x[:6], WORDS[:6]), "nonmembers": (x[6:], WORDS[6:]), "domain": ll.Box(0, 1), "attacks": ["gap"],
        "thresholds": [], "show_progress": False,
    }  # fmt: skip
    with pytest.raises(ll.errors.InputError, match=r"name the classes in the order of its columns, classes=\[") as said:
        ll.audit(target, **options)
    assert "\n" not in str(said.value) and len(asked) == 1
    record = ll.audit(target, classes=["eel", "cat", "dog"], **options)
    assert record["gap"].scores.min() == 1.0  # every candidate is told right


def test_codes_without_an_order_of_words_are_refused() -> None:
    words = {"members": label_array(WORDS, "members")}
    for answer in ([0, 1, 2], torch.tensor([0, 1, 2]), [0.0, 1.0, 2.0]):
        found = resolve_classes(abs, None, words)
        with pytest.raises(
            TargetError, match=r"0, 1, 2, which is none of .*classes=\[…\], in the order of its outputs"
        ):
            read_answer(answer, 3, found)
        assert read_answer(answer, 3, Classes(("eel", "cat", "dog"))).tolist() == [0, 1, 2]
    assert read_answer(["eel", "cat", "dog"], 3, resolve_classes(abs, None, words)).tolist() == [2, 0, 1]


def test_numbers_that_are_names_have_no_order_of_columns_either() -> None:
    found = resolve_classes(abs, None, {"members": label_array([90210, 10115], "members")})
    with pytest.raises(TargetError, match="nothing says which class each stands for"):
        read_answer(np.eye(2), 2, found)
    assert read_answer([90210, 10115], 2, found).tolist() == [1, 0]


def test_logits_of_half_precision_are_read() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0], [3.0, 0.0, 1.0]])
    for dtype in (torch.bfloat16, torch.float16):
        assert read_answer(SimpleNamespace(logits=logits.to(dtype)), 2, Classes((0, 1, 2))).tolist() == [1, 0]
