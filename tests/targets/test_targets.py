"""Targets: every kind answers codes, is left as it was, and refuses what is no label with the mend."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from labelleaks.core.classes import Classes, label_array
from labelleaks.errors import InputError, TargetError
from labelleaks.targets import Recorded, default_batch_rows, is_target, resolve_classes, wrap
from labelleaks.targets.answers import read_answer
from tests.support import digits

THREE = Classes((0, 1, 2))
X = torch.linspace(-1, 1, 60).reshape(12, 5)


def linear(weights: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weights)
    return layer


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))


# --- modules ----------------------------------------------------------------------------------------------------------


def test_a_module_answers_its_argmax_in_evaluation_mode_and_gets_every_mode_back() -> None:
    module = net().train()
    module[2].eval()  # one part already has a mode of its own
    before = [m.training for m in module.modules()]
    weights = [t.clone() for t in module.state_dict().values()]
    with wrap(module, numpy=False, classes=3) as target:
        assert not any(m.training for m in module.modules())
        answer = target(X)
        assert target(X).equal(answer)
        with target:  # opened twice: still open after the inner one closes
            pass
        assert not any(m.training for m in module.modules())
    assert [m.training for m in module.modules()] == before
    assert all(a.equal(b) for a, b in zip(weights, module.state_dict().values(), strict=True))
    module.eval()
    assert answer.dtype == torch.int64
    assert answer.equal(module(X).argmax(1))


def test_modes_come_back_when_the_run_fails_and_after_a_lone_call() -> None:
    module = net().train()
    with pytest.raises(KeyboardInterrupt), wrap(module, numpy=False, classes=3):
        raise KeyboardInterrupt
    assert all(m.training for m in module.modules())
    wrap(module, numpy=False, classes=3)(X)
    assert all(m.training for m in module.modules())


def test_no_gradient_is_recorded() -> None:
    seen = []

    class Spy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = super().forward(x)
            seen.append((x.requires_grad, out.requires_grad, torch.is_grad_enabled()))
            return out

    wrap(Spy(5, 3), numpy=False, classes=3)(X.clone().requires_grad_())
    assert seen == [(False, False, False)]


def test_rows_are_cast_to_the_dtype_of_the_module() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        module = linear(torch.eye(3, 5)).to(dtype)
        assert wrap(module, numpy=True, classes=3)(X).equal(module(X.to(dtype)).argmax(1))


def test_a_module_that_works_in_place_does_not_reach_the_rows() -> None:
    module = nn.Sequential(nn.ReLU(inplace=True), linear(torch.eye(3, 5)))
    x, before = X.clone(), X.clone()
    wrap(module, numpy=False, classes=3)(x)
    assert x.equal(before)


def test_preprocess_is_applied_on_the_way_to_the_module() -> None:
    mean = X.mean(0)
    module = linear(torch.tensor([[1.0, 0, 0, 0, 0], [-1.0, 0, 0, 0, 0]]))
    target = wrap(module, numpy=False, classes=2, preprocess=lambda x: x.sub_(mean))
    before = X.clone()
    assert target(X).equal((X[:, 0] <= mean[0]).long())
    assert X.equal(before)
    assert "preprocess=" in target.fingerprint


def test_a_preprocess_module_is_in_evaluation_mode_too() -> None:
    preprocess = nn.Sequential(nn.Dropout(0.9)).train()
    with wrap(linear(torch.eye(3, 5)), numpy=False, classes=3, preprocess=preprocess) as target:
        assert target(X.abs()).equal(X.abs()[:, :3].argmax(1))
    assert preprocess[0].training


def test_a_module_may_move_while_open() -> None:
    module = linear(torch.eye(3, 5))
    with wrap(module, numpy=False, classes=3, device="cpu") as target:
        assert target(X).equal(X[:, :3].argmax(1))
    with pytest.raises(InputError, match="cannot be used"):
        wrap(module, numpy=False, classes=3, device="no-such-device")


def test_a_module_moves_to_the_device_while_open_and_back() -> None:
    module = nn.Linear(5, 3)
    target = wrap(module, numpy=False, classes=3, device="meta")  # the one other device that every machine has
    with pytest.raises(NotImplementedError), target:  # from which no weight comes back: moving back is tried
        assert module.weight.device.type == "meta"
    assert all(m.training for m in module.modules())


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_and_logits_objects_are_targets() -> None:
    module = net().eval()
    scripted = torch.jit.freeze(torch.jit.trace(module, X), preserved_attrs=["training"])
    assert wrap(scripted, numpy=False, classes=3)(X).equal(module(X).argmax(1))
    plain = torch.jit.trace(module, X)
    plain.train()
    with wrap(plain, numpy=False, classes=3) as target:
        assert "TorchScript(Sequential)" in target.name
        target(X)
    assert plain.training

    class Answer:
        def __init__(self, logits: torch.Tensor) -> None:
            self.logits = logits

    class Hugging(nn.Module):
        def forward(self, x: torch.Tensor) -> Answer:
            return Answer(x[:, :3])

    assert wrap(Hugging(), numpy=False, classes=3)(X).equal(X[:, :3].argmax(1))


def answering(make: Callable[[torch.Tensor], object]) -> nn.Module:
    module = nn.Module()
    module.forward = make  # type: ignore[method-assign]
    return module


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (lambda x: (x[:, :3], x), "tensor 0 of a tuple"),
        (lambda x: [None, x[:, :3], x], "tensor 1 of a list"),
        (lambda x: {"loss": x.sum(), "logits": x[:, :3]}, "'logits' of a dict"),
        (lambda x: {"scores": x[:, :3]}, "tensor 'scores' of a dict"),
    ],
)
def test_a_module_that_answers_several_tensors_says_which_is_read(
    make: Callable[[torch.Tensor], object], read: str
) -> None:
    target = wrap(answering(make), numpy=False, classes=3)
    assert "answer" not in target.describe()
    assert target(X).equal(X[:, :3].argmax(1))
    assert target.describe()["answer"] == read
    assert wrap(answering(lambda x: [1] * len(x)), numpy=False, classes=3)(X).tolist() == [1] * 12


def test_a_module_whose_scores_cannot_be_told_is_refused_with_what_it_answered() -> None:
    for make, said, mended in (
        (lambda x: (x, x[:, :3]), r"tuple with 0 \(12, 5\), 1 \(12, 3\).*model\(x\)\[1\]", lambda a: a[1]),
        (lambda x: {"a": x, "b": x[:, :3]}, r"dict with 'a' .*'b' .*model\(x\)\['NAME'\]", lambda a: a["b"]),
    ):
        model = answering(make)
        with pytest.raises(TargetError, match=said):
            wrap(model, numpy=False, classes=Classes((0, 1, 2), open=True))(X)
        assert wrap(lambda x, m=model, f=mended: f(m(x)), numpy=False, classes=3)(X).equal(X[:, :3].argmax(1))
    with pytest.raises(TargetError, match="a dict with no tensor"):
        wrap(answering(lambda x: {}), numpy=False, classes=3)(X)
    with pytest.raises(InputError, match="lazy parameters"):
        wrap(nn.LazyLinear(3), numpy=False, classes=3)


def test_the_fingerprint_of_a_module_is_its_structure_and_weights() -> None:
    def print_of(module: nn.Module) -> str:
        return wrap(module, numpy=False, classes=3).fingerprint

    module, same = net(), net()
    assert print_of(module) == print_of(same)
    with wrap(module, numpy=False, classes=3) as target:
        target(X)
        assert target.fingerprint == print_of(same)
    with torch.no_grad():
        same[4].bias[0] += 1e-6
    assert print_of(module) != print_of(same)
    buffers = net()
    buffers[1].running_mean += 1
    assert print_of(module) != print_of(buffers)
    other = nn.Sequential(*list(net())[:3], nn.Tanh(), net()[4])
    assert print_of(module) != print_of(other)
    named = wrap(net(), numpy=False, classes=["c", "a", "b"]).fingerprint
    assert named.startswith(print_of(module)) and named.endswith("classes='c','a','b'")


def test_what_a_record_says_is_json_without_addresses() -> None:
    targets = [
        wrap(net(), numpy=False, classes=3, preprocess=lambda x: x),
        wrap(lambda x: x, numpy=True, classes=3),
        wrap(functools.partial(max, 1), numpy=True, classes=3),
        wrap(make_pipeline(StandardScaler(), LogisticRegression()).fit(X.numpy(), [0, 1, 2] * 4), numpy=True),
        wrap(Recorded(X, [0, 1, 2] * 4), numpy=True),
    ]
    for target in targets:
        assert is_target(target)
        text = json.dumps(target.describe(), allow_nan=False)
        assert "0x" not in text
        assert {"kind", "name", "fingerprint", "fingerprint_of"} <= target.describe().keys() | {"name"}
    assert targets[0].describe()["parameters"] == 5 * 8 + 8 + 16 + 24 + 3
    assert targets[3].describe()["steps"][1].endswith("LogisticRegression")


# --- estimators -------------------------------------------------------------------------------------------------------


def test_a_classifier_with_string_classes_answers_codes_of_its_own_order() -> None:
    pictures, y = digits()
    x = pictures.flatten(1).numpy()
    words = np.array([f"w{9 - d}" for d in y.tolist()])  # so that sorted names are not in the digits' order
    model = RandomForestClassifier(5, random_state=0).fit(x[:300], words[:300])
    target = wrap(model, numpy=True)
    rows = pictures[:50].flatten(1)
    answer = target(rows)
    assert [target.classes.names[code] for code in answer.tolist()] == model.predict(x[:50]).tolist()
    assert target(rows.reshape(50, 8, 8)).equal(answer)  # images are flattened for it
    assert target.classes.encode(words, "members").equal(9 - y)


def test_classifiers_of_every_kind_of_label() -> None:
    x = X.numpy()
    for labels in ([-1, 1], [False, True], [0.0, 1.0], [10, 20]):
        y = np.array(labels * 6)
        model = LogisticRegression().fit(x, y)
        target = wrap(model, numpy=True)
        assert [target.classes.names[c] for c in target(X).tolist()] == model.predict(x).tolist()
        assert target.classes.encode(y, "y").tolist() == [0, 1] * 6


def test_names_for_the_codes_of_a_classifier() -> None:
    model = LogisticRegression().fit(X.numpy(), [0, 1] * 6)
    target = wrap(model, numpy=True, classes=["no", "yes"])
    assert target.classes.names == ("no", "yes")
    assert target(X).tolist() == model.predict(X.numpy()).tolist()
    three = LogisticRegression().fit(X.numpy(), [0, 1, 2] * 4)
    with pytest.raises(InputError, match=r"the target also knows \[2\]"):
        wrap(three, numpy=True, classes=2)
    assert len(wrap(three, numpy=True, classes=5).classes) == 5  # more may be named than it was trained on


def test_what_is_no_fitted_classifier_is_refused() -> None:
    for model in (LogisticRegression(), LinearRegression().fit(X.numpy(), np.arange(12.0))):
        with pytest.raises(InputError, match="has no classes_: fit it first"):
            wrap(model, numpy=True)
    forest = RandomForestClassifier(2).fit(X.numpy(), np.array([[0, 1], [1, 0]] * 6))
    with pytest.raises(InputError, match="answers 2 labels a row"):
        wrap(forest, numpy=True)
    for thing in (LogisticRegression, nn.Linear):
        with pytest.raises(InputError, match="is a class; give a fitted or trained instance"):
            wrap(thing, numpy=True, classes=3)
    with pytest.raises(InputError, match="a str does not answer labels"):
        wrap("model.pt", numpy=True, classes=3)


def test_a_pipeline_that_was_fitted_on_a_data_frame_gets_its_columns() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.numpy(), columns=list("abcde"))
    model = make_pipeline(ColumnTransformer([("s", StandardScaler(), ["b", "d"])]), LogisticRegression())
    model.fit(frame, [0, 1, 2] * 4)
    assert wrap(model, numpy=True)(X).tolist() == model.predict(frame).tolist()


def test_the_fingerprint_of_an_estimator_is_the_same_in_another_process() -> None:
    code = (
        "import numpy as np, sklearn.ensemble as e; from labelleaks.targets import wrap;"
        "x = np.linspace(-1, 1, 60, dtype='f4').reshape(12, 5);"
        "print(wrap(e.RandomForestClassifier(3, random_state={s}).fit(x, [0, 1, 2] * 4), numpy=True).fingerprint)"
    )
    command = [sys.executable, "-c", code.format(s=0)]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    x = np.linspace(-1, 1, 60, dtype="f4").reshape(12, 5)
    here, other = (
        wrap(RandomForestClassifier(3, random_state=s).fit(x, [0, 1, 2] * 4), numpy=True).fingerprint for s in (0, 1)
    )
    assert there == here != other
    assert there.startswith("estimator:")


def test_an_estimator_that_cannot_be_hashed_has_its_name_for_a_fingerprint() -> None:
    model = make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression()).fit(X.numpy(), [0, 1] * 6)
    target = wrap(model, numpy=True)
    assert target.fingerprint == "estimator:sklearn.pipeline.Pipeline"
    assert target.describe()["fingerprint_of"] == "its class name only"


# --- functions --------------------------------------------------------------------------------------------------------


def test_a_function_gets_the_candidates_kind_of_array_as_a_copy() -> None:
    seen = []

    def function(rows: object) -> list[int]:
        seen.append(rows)
        rows *= 0  # type: ignore[operator]
        return [1] * len(rows)  # type: ignore[arg-type]

    x = X.t().contiguous().t()  # not contiguous
    for numpy, kind in ((True, np.ndarray), (False, torch.Tensor)):
        before = x.clone()
        answer = wrap(function, numpy=numpy, classes=3)(x)
        assert answer.tolist() == [1] * 12 and answer.dtype == torch.int64
        assert isinstance(seen[-1], kind) and str(seen[-1].dtype).endswith("float32")
        assert x.equal(before)
    assert seen[0].flags["C_CONTIGUOUS"] and seen[0].flags["WRITEABLE"]
    assert seen[1].is_contiguous()


def test_a_function_gets_images_in_their_shape_and_no_gradient() -> None:
    seen = []
    target = wrap(lambda x: seen.append((tuple(x.shape), torch.is_grad_enabled())) or [0], numpy=False, classes=2)
    target(torch.zeros(1, 3, 4, 5))
    assert seen == [((1, 3, 4, 5), False)]


def test_a_function_can_say_which_model_it_is() -> None:
    def ask(x: object) -> list[int]:
        return [0]

    plain = wrap(ask, numpy=True, classes=2).fingerprint
    assert plain.startswith("callable:") and plain.endswith(".ask") and "0x" not in plain
    ask.fingerprint = "v7"  # type: ignore[attr-defined]
    assert wrap(ask, numpy=True, classes=2).fingerprint == plain + ":v7"

    class Remote:
        def __call__(self, x: object) -> list[int]:
            return [0]

    assert wrap(Remote(), numpy=True, classes=2).name.endswith("Remote")


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        (np.array([0, 2, 1]), [0, 2, 1]),
        (np.array([0, 2, 1], dtype=np.uint8), [0, 2, 1]),
        (torch.tensor([0, 2, 1], dtype=torch.int32), [0, 2, 1]),
        (torch.tensor([[0], [2], [1]]), [0, 2, 1]),
        ([0, 2, 1], [0, 2, 1]),
        ([np.int64(0), torch.tensor(2), 1], [0, 2, 1]),
        (np.array([True, False, True]), [1, 0, 1]),
        (torch.tensor([True, False, True]), [1, 0, 1]),
        (["0", "2", "1"], [0, 2, 1]),  # spelled out, as from a CSV or a web service
        (np.eye(3), [0, 1, 2]),
        (np.eye(3, dtype=bool), [0, 1, 2]),
        (torch.eye(3, dtype=torch.int64), [0, 1, 2]),
        (np.array([0.0, 2.0, 1.0]), [0, 2, 1]),
        (torch.tensor([[0.0], [2.0], [1.0]], dtype=torch.float16), [0, 2, 1]),
        (np.array([[1, 1, 0], [0, 3, 3], [2, 2, 2]], dtype=np.float16), [0, 1, 0]),
        (np.array([[0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [-np.inf, 0.5, 0.5]]), [2, 0, 1]),
        ([[0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.0, 0.5, 0.5]], [2, 0, 1]),
        (torch.tensor([[1.0, 2, 2], [5, 5, 5], [0, 0, 1]], dtype=torch.bfloat16), [1, 0, 2]),
    ],
)
def test_answers_that_are_labels_or_scores(answer: object, codes: list[int]) -> None:
    assert read_answer(answer, 3, THREE).tolist() == codes


@pytest.mark.parametrize("width", [2, 10, 100, 1000])
def test_the_lowest_index_wins_among_equal_scores(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    scores = torch.randint(0, 3, (257, width), generator=generator).float()
    slow = [row.index(max(row)) for row in scores.tolist()]
    classes = Classes(tuple(range(width)))
    assert read_answer(scores, 257, classes).tolist() == slow
    assert read_answer(scores.numpy(), 257, classes).tolist() == slow


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.array([0.1, 0.9, 0.2]), r"example 0.1: fractions are not labels: .*threshold=0.5"),
        (np.array([[0.1], [0.9], [0.2]]), "fractions are not labels"),
        (torch.tensor([0.0, 1.0, 1.5]), "example 1.5: fractions are not labels"),
        (torch.tensor([[0.5], [0.5], [0.5]]), "fractions are not labels"),
        (np.array([[0, 2, 1], [1, 0, 2], [2, 1, 0]]), r"may be ids or scores: of ids return the best one, ids\[:, 0\]"),
        (np.array([[1, 1, 0], [0, 3, 3], [2, 2, 2]], dtype=np.uint32), "of scores return floats"),
        (torch.tensor([[0, 1], [1, 0], [0, 1]]), "may be ids or scores"),
        (torch.tensor([[1, 0, 1], [1, 0, 0], [0, 1, 0]]), "may be ids or scores"),
        (([0, 1, 2], [1, 0, 2]), r"a tuple of 2 arrays to 3 rows.*lambda x: f\(x\)\[0\]"),
        ([0, 1], r"\(2,\).* to 3 rows; one label a row"),
        (np.zeros((2, 3)), "2 rows of scores to 3 rows"),
        (np.zeros((3, 4)), "answers 4 scores a row, but there are 3 classes .*say classes=4"),
        (torch.zeros(3, 2), "answers 2 scores a row"),
        (np.zeros((3, 3, 1)), r"\(3, 3, 1\)"),
        (1, "answered one int, 1, to 3 rows"),
        (None, "answered None"),
        ([[1, 2], [3], [4]], "list that is no array"),
        ({"a": 1}, "answered one dict, {'a': 1}, to 3 rows"),
        (np.array([[0, 1, np.nan], [0, 1, 2], [0, 0, 1]]), "NaN scores for 1 of 3 rows, the first is row 0"),
        (torch.tensor([[0, 1, 2], [0, float("nan"), 2], [0, 0, 1]]), "NaN scores for 1 of 3 rows, the first is row 1"),
        (np.array([0, 7, 1]), r"answered 7, which is none of the 3 classes \(0 … 2\).*classes="),
        (torch.tensor([0, -1, 1]), "answered -1, which is none"),
        (["cat", "0", "1"], "answered 'cat', which is none"),
        ([0, None, 1], "labels must be whole numbers"),
        (np.array([["a", "b"], ["c", "d"], ["e", "f"]]), r"return labels \(m,\) or scores"),
    ],
)
def test_answers_that_are_no_labels_are_refused_with_what_they_were(answer: object, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        read_answer(answer, 3, THREE)


def test_functions_that_answer_names() -> None:
    names = ["cat", "dog", "eel"]
    words = wrap(lambda x: ["eel", "cat"], numpy=True, classes=names)
    codes = wrap(lambda x: [2, 0], numpy=True, classes=names)
    scores = wrap(lambda x: [[0, 0, 1.0], [1.0, 0, 0]], numpy=True, classes=names)
    assert words(X[:2]).tolist() == codes(X[:2]).tolist() == scores(X[:2]).tolist() == [2, 0]
    with pytest.raises(TargetError, match="'cow', which is none of the 3 classes \\('cat', 'dog', 'eel'\\)"):
        wrap(lambda x: ["cow", "cat"], numpy=True, classes=names)(X[:2])


def test_numbers_are_names_before_they_are_codes() -> None:
    assert Classes((-1, 1)).codes(label_array([1, -1, 0], "y")).tolist() == [1, 0, -1]
    digits = Classes(("1", "10", "2"))  # sorted as strings: code 1 is "10"
    assert digits.codes(label_array([1, 2, 10, 0], "y")).tolist() == [0, 2, 1, -1]


# --- classes ----------------------------------------------------------------------------------------------------------


def _function(x: object) -> object:
    return x


def resolve(given: object, *labels: object) -> tuple[str | int, ...]:
    groups = {f"group {i}": label_array(values, "y") for i, values in enumerate(labels)}
    return resolve_classes(_function, given, groups).names  # type: ignore[arg-type]


def test_classes_are_the_largest_label_plus_one_or_what_was_said() -> None:
    assert resolve(None, [0, 3], [1, 1]) == (0, 1, 2, 3)
    assert resolve(None, [True, False]) == (0, 1)
    assert resolve(None, [-1, 1]) == (-1, 1)
    assert resolve(None, ["b", "a"], ["c"]) == ("a", "b", "c")
    assert resolve(None, [90210, 10115, 10115]) == (10115, 90210)
    assert resolve(10, [0, 3]) == tuple(range(10))
    assert resolve(["dog", "cat"], [0, 1]) == ("dog", "cat")
    assert resolve(np.array([5, 3]), [3]) == (5, 3)


@pytest.mark.parametrize(
    ("given", "labels", "said"),
    [
        (None, [[0, 0]], "only 1 class"),
        (None, [["a", "a"]], "only 1 class"),
        (None, [[0, 1], ["a", "b"]], "two kinds .group 0: numbers, group 1: strings"),
        (None, [], "no labels were given"),
        (1, [[0]], "1 classes; at least 2"),
        (["a", "b", "a"], [["a"]], "'a' is named twice"),
        ("cat", [["a"]], "neither a number of classes nor a list"),
        (True, [[0]], "neither a number of classes"),
        (2.0, [[0]], "neither a number of classes"),
    ],
)
def test_classes_that_cannot_be(given: object, labels: list[object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolve(given, *labels)


def test_true_labels_outside_the_classes_are_counted() -> None:
    with pytest.raises(InputError, match=r"members: 3 of 5 labels .*3 classes \(0 … 2\): -1 \(1\), 7 \(2\), .*row 1"):
        THREE.encode([0, 7, 7, -1, 2], "members")
    with pytest.raises(InputError, match="1 of 2 labels are outside the 2 classes"):
        resolve_classes(LogisticRegression().fit(X.numpy(), [0, 1] * 6), None, {}).encode([1, 2], "members")
    assert THREE.encode(["0", "2"], "members").tolist() == [0, 2]
    assert Classes(("cat", "dog")).encode([1, 0], "members").tolist() == [1, 0]


# --- recorded answers -------------------------------------------------------------------------------------------------


def test_recorded_answers_know_their_rows_and_no_others() -> None:
    x = X.numpy().astype(np.float64)
    target = wrap(Recorded(x, ["b", "a", "b"] * 4), numpy=True)
    order = torch.tensor([3, 1, 1, 0])
    assert target(X[order]).tolist() == [1, 0, 0, 1]
    assert target.classes.names == ("a", "b")
    with pytest.raises(
        TargetError, match=r"2 of 3 rows were never recorded \(the first is row 1 .*12 rows are known\)"
    ):
        target(torch.cat([X[:1], X[:2] + 1e-6]))
    with pytest.raises(TargetError, match="never recorded"):  # the same numbers in another shape are another row
        target(X.reshape(12, 5, 1))


def test_recorded_rows_match_by_value_where_zero_has_a_sign() -> None:
    target = wrap(Recorded([[0.0, 1.0], [1.0, 1.0]], [0, 1]), numpy=True)
    assert target(torch.tensor([[-0.0, 1.0]])).tolist() == [0]


def test_recorded_answers_that_contradict_or_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"rows 0 and 2 are equal but have the labels 0 and 1"):
        Recorded([[1.0], [2.0], [1.0]], [0, 1, 1])
    assert len(Recorded([[1.0], [2.0], [1.0]], [0, 1, 0])) == 2
    with pytest.raises(InputError, match="3 rows but 2 labels"):
        Recorded([[1.0], [2.0], [3.0]], [0, 1])
    with pytest.raises(InputError, match=r"one label a row is needed .*argmax"):
        Recorded([[1.0], [2.0]], [[0.5, 0.5], [0.1, 0.9]])
    assert len(Recorded([["a"], ["b"]], [0, 1])) == 2
    with pytest.raises(InputError, match="Recorded: is empty"):
        Recorded(np.zeros((0, 3)), [])
    with pytest.raises(InputError, match="preprocess does not apply"):
        wrap(Recorded([[1.0], [2.0]], [0, 1]), numpy=True, preprocess=abs)


def test_the_classes_of_recorded_answers_count() -> None:
    recorded = Recorded(X, [0, 1, 5] * 4)
    assert len(resolve_classes(recorded, None, {"members": label_array([0, 1], "y")})) == 6
    print_of = [wrap(Recorded(X[order], [order_ % 2 for order_ in order]), numpy=True).fingerprint
                for order in ([0, 1, 2], [2, 0, 1], [0, 1, 3])]  # fmt: skip
    assert print_of[0] == print_of[1] != print_of[2]


# --- options ----------------------------------------------------------------------------------------------------------


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="batch_rows must be at least 1"):
        wrap(net(), numpy=False, classes=3, batch_rows=0)
    with pytest.raises(InputError, match="preprocess must be a function"):
        wrap(net(), numpy=False, classes=3, preprocess="norm")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="applies to torch targets only"):
        wrap(lambda x: x, numpy=True, classes=3, device="cpu")
    with pytest.raises(InputError, match="no labels were given: say which classes"):
        wrap(lambda x: x, numpy=True)


def test_a_target_is_returned_as_it_is() -> None:
    target = wrap(net(), numpy=False, classes=3)
    assert wrap(target, numpy=True) is target
    assert resolve_classes(target, None, {}) is target.classes


def test_rows_per_call_follow_the_width() -> None:
    assert [default_batch_rows(width) for width in (1, 64, 784, 3072, 150528)] == [1024, 1024, 256, 64, 64]
    assert default_batch_rows(784, device=torch.device("meta")) == 2048
    assert wrap(net(), numpy=False, classes=3, width=784).batch_rows == 256
    assert wrap(net(), numpy=False, classes=3, width=784, batch_rows=7).batch_rows == 7
