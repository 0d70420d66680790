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


def threshold_in(said: str, *, sigmoid: bool) -> float:
    """The number that a message says of a probability, or of a logit."""
    mend = re.search(r"probability of the second class say threshold=(\S+), .* logit threshold=(\S+),", said)
    assert mend is not None, said
    return float(mend[1 if sigmoid else 2])


def scores_of(x: Any, *, sigmoid: bool) -> torch.Tensor:
    found = (torch.as_tensor(x) @ WEIGHTS.T)[:, 0]
    return found.sigmoid() if sigmoid else found


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_a_module_of_one_logit_or_probability_becomes_two_classes(sigmoid: bool, flat: bool) -> None:
    model = Logit(sigmoid=sigmoid, flat=flat)
    cut = threshold_in(refused(wrap(model, classes=2)), sigmoid=sigmoid)
    target = wrap(model, classes=Classes((0, 1), threshold=cut))
    assert target(X).equal(TRUTH) and target.fingerprint != wrap(model, classes=2).fingerprint


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize(
    "kind", [torch.tensor, np.array, list, lambda p: np.array(p)[:, None], lambda p: torch.tensor(p).bfloat16()]
)
def test_a_function_of_one_probability_becomes_two_classes(kind: Any, sigmoid: bool) -> None:
    def one(x: torch.Tensor) -> Any:
        return kind(scores_of(x, sigmoid=sigmoid).tolist())

    cut = threshold_in(refused(wrap(one, classes=["no", "yes"])), sigmoid=sigmoid)
    assert wrap(one, classes=Classes(("no", "yes"), threshold=cut))(X).equal(TRUTH)


class Booster:
    """A model of which ``predict`` gives probabilities, as neural networks in estimators' clothes do."""

    classes_ = np.array([0, 1])

    def fit(self, x: Any, y: Any) -> None: ...

    def predict(self, x: Any) -> Any:
        return 1 / (1 + np.exp(-(x @ WEIGHTS.numpy().T)[:, 0]))


def test_an_estimator_that_predicts_probabilities_becomes_two_classes() -> None:
    cut = threshold_in(refused(wrap(Booster(), numpy=True)), sigmoid=True)
    assert wrap(Booster(), numpy=True, classes=Classes((0, 1), threshold=cut))(X).equal(TRUTH)


def test_an_onnx_file_of_one_probability_becomes_two_classes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    nodes = [helper.make_node("MatMul", ["features", "w"], ["logit"]), helper.make_node("Sigmoid", ["logit"], ["p"])]
    graph = helper.make_graph(
        nodes, "one",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 5])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(WEIGHTS.T.contiguous().numpy(), "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    cut = threshold_in(refused(wrap(Onnx(path), numpy=True, classes=2)), sigmoid=True)
    assert wrap(Onnx(path), numpy=True, classes=Classes((0, 1), threshold=cut))(X).equal(TRUTH)


def test_recorded_probabilities_become_two_classes() -> None:
    scores = scores_of(X, sigmoid=True)
    recorded = ll.Recorded(X, scores, threshold=0.5)
    assert wrap(recorded)(X).equal(TRUTH)
    with pytest.raises(ll.InputError, match=r"threshold=0.5 is for fractions, and labels are int64"):
        ll.Recorded(X, TRUTH, threshold=0.5)


@pytest.mark.parametrize(("entry", "more"), [(ll.audit, {}), (ll.forecast, {"probe": True})])
def test_the_threshold_is_said_where_an_audit_is(entry: Any, more: dict[str, Any]) -> None:
    data: dict[str, Any] = {"members": (X[:6], TRUTH[:6]), "nonmembers": (X[6:], TRUTH[6:]), "attacks": ["gap"]}
    model, domain = Logit(sigmoid=True, flat=True), ll.Box(-1, 1)
    entry(model, **data, domain=domain, threshold=0.5, **more)
    with pytest.raises(ll.InputError, match=r"threshold=0.5 is for two classes, and there are 3"):
        entry(model, **data, domain=domain, classes=3, threshold=0.5)
    with pytest.raises(ll.InputError, match="threshold='half': a number is needed"):
        entry(model, **data, domain=domain, threshold="half")
    words = {name: (x, np.array(["no", "yes"])[y]) for name, (x, y) in list(data.items())[:2]}
    with pytest.raises(ll.InputError, match=r"nothing says which .*classes=.'no', 'yes'. or") as caught:
        entry(model, **{**data, **words}, domain=domain, threshold=0.5)
    mend = re.search(r"classes=(\[.*?\]) or", str(caught.value))
    assert mend is not None
    entry(model, **{**data, **words}, domain=domain, threshold=0.5, classes=eval(mend[1]), **more)
    with pytest.raises(ll.InputError, match=r"threshold=0.5 is for fractions: leave threshold= out where"):
        entry(lambda x: TRUTH[: len(x)], **data, domain=domain, threshold=0.5, **{"probe": True} if more else {})
    with pytest.raises(ll.InputError, match=r"answers 2 scores a row, and threshold= is for one"):
        entry(lambda x: torch.rand(len(x), 2), **data, domain=domain, threshold=0.5, **{"probe": True} if more else {})


def test_infer_is_told_with_the_classes() -> None:
    classes = ll.targets.Classes((0, 1), threshold=0.5)
    decisions = ll.infer(Logit(sigmoid=True, flat=False), X, TRUTH, attack="gap", domain=ll.Box(-1, 1), classes=classes)
    assert bool(np.asarray(decisions.member).all())  # every one is labelled right


@pytest.mark.parametrize(
    "answer",
    [
        [{0: 0.9, 1: 0.1}, {0: 0.2, 1: 0.8}, {0: 0.5, 1: 0.5}],
        [
            [{"label": 0, "score": 0.9}, {"label": 1, "score": 0.1}],
            [{"label": 1, "score": 0.8}],
            [{"label": 0, "score": 0.5}],
        ],
        [{"label": 0, "score": 0.9}, {"label": 1, "score": 0.8}, {"label": 0, "score": 1.0}],
    ],
)
def test_the_best_class_of_maps(answer: Any) -> None:
    """As ONNX' ZipMap and ``transformers`` answer: the first among equals."""
    assert read_answer(answer, 3, Classes((0, 1))).tolist() == [0, 1, 0]
    words = Classes(("0", "1"), ordered=False)  # whose order need not be known
    assert read_answer(eval(repr(answer).replace("0:", "'0':").replace("1:", "'1':")), 3, words).tolist() == [0, 1, 0]


def service(given: Any, /, *, classes: Any = 2, **options: Any) -> Any:
    """A service that answers so, for each row of a request."""
    target: Any = wrap(Http(url="http://service/invocations", **options), classes=classes, width=5)
    form = target._format
    return lambda x: target._codes(form.read({"predictions": given}, len(x), target.classes), len(x))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("sigmoid", [True, False])
def test_a_service_of_one_probability_or_logit_becomes_two_classes(sigmoid: bool, shape: Any) -> None:
    answers = scores_of(X, sigmoid=sigmoid).reshape(shape).tolist()
    with pytest.raises(Exception, match="fractions are not labels") as caught:
        service(answers)(X)
    cut = threshold_in(str(caught.value), sigmoid=sigmoid)
    assert service(answers, classes=Classes((0, 1), threshold=cut))(X).equal(TRUTH)
    sure = TRUTH.reshape(shape).tolist() if sigmoid else (2 * TRUTH - 1).reshape(shape).tolist()  # JSON of 1.0 is 1
    assert service(sure, classes=Classes((0, 1), threshold=cut))(X).equal(TRUTH)
    with pytest.raises(Exception, match="2 scores a row, and threshold= is for one: leave it out"):
        service([[0.5, 0.25]] * len(X), classes=Classes((0, 1), threshold=cut))(X)


def test_whole_numbers_of_a_service_are_scores_or_ids_as_the_user_says() -> None:
    """JSON of ``1.0`` is often ``1``: scores of a service that is sure of itself look like ids."""
    sure = [[1, 0] if label == 0 else [0, 1] for label in TRUTH.tolist()]
    with pytest.raises(Exception, match="may be ids or scores") as caught:
        service(sure)(X)
    assert "of scores or one-hot rows say answers: scores" in str(caught.value)
    assert "of ids say answers: ids" in str(caught.value)
    assert service(sure, answers="scores")(X).equal(TRUTH)
    ids = [[label, 1 - label] for label in TRUTH.tolist()]
    assert service(ids, answers="ids")(X).equal(TRUTH)


def test_a_service_that_names_its_classes_otherwise_is_told_of_label_map() -> None:
    answers = ["good" if label else "bad" for label in TRUTH.tolist()]
    for classes in (2, ["no", "yes"]):
        with pytest.raises(Exception, match="none of the 2 classes") as caught:
            service(answers, classes=classes)(X)
        assert "say label_map: {its label: yours, …}" in str(caught.value)
    assert service(answers, label_map={"bad": 0, "good": 1})(X).equal(TRUTH)
    assert service(answers, label_map={"bad": "no", "good": "yes"}, classes=["no", "yes"])(X).equal(TRUTH)


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
    with pytest.raises(TargetError, match=r"nothing says which class each stands for"):
        read_answer(np.eye(2), 2, found)
    assert read_answer([90210, 10115], 2, found).tolist() == [1, 0]


def test_logits_of_half_precision_are_read() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0], [3.0, 0.0, 1.0]])
    for dtype in (torch.bfloat16, torch.float16):
        assert read_answer(SimpleNamespace(logits=logits.to(dtype)), 2, Classes((0, 1, 2))).tolist() == [1, 0]
