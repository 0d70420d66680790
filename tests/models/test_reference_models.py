"""Reference models: a row's bits in any company, equal seeds, rows held out, labels bought once."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from torch import nn

import labelleaks
from labelleaks import attacks
from labelleaks.core import rng
from labelleaks.core.attack import Knowledge, ShadowRows
from labelleaks.core.oracle.gate import Gate
from labelleaks.errors import BudgetExceeded, InputError, NeedsError
from labelleaks.models import checkpoints, parallel_training, shadow_training
from labelleaks.models import reference_models as refs
from labelleaks.models.training import Recipe
from tests.support import cli, digits

QUICK = Recipe(epochs=2, batch=32)


def zeros(rows):
    return torch.zeros(len(rows), dtype=torch.int64)


def by_brightness(rows):
    return (rows.flatten(1).sum(1) * 0.4).long() % 10


def knowing(x, target=by_brightness, **more):
    gate = Gate(target)
    more = {"family": "mlp", **more}
    return gate, Knowledge(setup=gate.setup_oracle("transfer"), shadow=ShadowRows(x), **more)


def cross_entropy(z, y):
    return z.logsumexp(1) - z.gather(1, y[:, None])[:, 0]


# -- a row's bits ------------------------------------------------------------------------------------------------------

FAMILIES = {
    "cnn": ("cnn", (3, 16, 16)),
    "cnn7": ("cnn7", (1, 8, 8)),
    "mlp": ("mlp", (30,)),
    "mlp, 7 wide": ("mlp", (7,)),  # MKL sums up such a gradient in another order at other places of a block
    "mlp, 5 wide": ("mlp", (5,)),
    "batch mean": (lambda: nn.Sequential(Centred(), nn.Linear(6, 4)), (6,)),
    "logistic": (LogisticRegression(max_iter=200), (5,)),
}


class Centred(nn.Module):
    """Looks at the other rows, as no model should."""

    def forward(self, x):
        return x - x.mean(0)


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request):
    family, shape = FAMILIES[request.param]
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(180, *shape, generator=generator), torch.randint(4, (180,), generator=generator)
    models = [shadow_training.train_shadow(x[:80], y[:80], 4, family, QUICK, seed=seed) for seed in (1, 2)]
    return models, x[80:], y[80:]


def companies():
    """Some of 100 rows, in other places and other numbers."""
    generator = torch.Generator().manual_seed(2)
    yield torch.arange(100).flip(0)
    yield torch.arange(50)
    for count in (1, 3, 63, 64, 65, 100):
        yield torch.randperm(100, generator=generator)[:count]


def test_logits_and_margins_have_the_same_bits_in_any_company(trained):
    models, x, y = trained
    whole, margins = refs.logits(models[0], x), refs.margins(models, x, y)
    assert whole.shape == (100, 4) and whole.dtype == torch.float32
    assert margins.shape == (2, 100) and margins.dtype == torch.float32
    for some in companies():
        assert torch.equal(refs.logits(models[0], x[some]), whole[some])
        assert torch.equal(refs.margins(models, x[some], y[some]), margins[:, some])


def test_gradients_have_the_same_bits_in_any_company(trained):
    models, x, y = trained
    if not hasattr(models[0], "module"):
        with pytest.raises(NeedsError, match=r"LogisticRegression has no gradient: use a torch family"):
            refs.gradient(models, x, y, cross_entropy)
        return
    whole = refs.gradient(models, x, y, cross_entropy)
    assert whole.shape == x.shape and whole.dtype == torch.float32 and not whole.requires_grad
    for some in companies():
        assert torch.equal(refs.gradient(models, x[some], y[some], cross_entropy), whole[some])


def test_a_block_is_asked_where_bits_allow_it_and_single_rows_where_they_do_not(trained, request):
    models, _, _ = trained
    looks_aside = isinstance(getattr(models[0], "module", [None])[0], Centred)
    assert models[0].block in ((1,) if looks_aside else (1, refs.BLOCK))
    if request.node.callspec.params["trained"] in ("cnn", "mlp"):
        assert models[0].block == refs.BLOCK


def test_against_plain_torch(trained):
    models, x, y = trained
    if not hasattr(models[0], "module") or (models[0].block == 1 and x.shape[1] == 6):
        return
    z = torch.stack([model.module(x).detach() for model in models])
    own = z.gather(2, y.expand(2, -1)[..., None])[..., 0]
    others = z.masked_fill(nn.functional.one_hot(y, 4).bool(), -torch.inf).amax(2)
    torch.testing.assert_close(refs.margins(models, x, y), own - others, rtol=1e-4, atol=1e-5)
    rows = x.clone().requires_grad_()
    torch.stack([cross_entropy(model.module(rows), y) for model in models]).mean(0).sum().backward()
    torch.testing.assert_close(refs.gradient(models, x, y, cross_entropy), rows.grad, rtol=1e-3, atol=1e-6)


def test_no_rows_and_inference_mode(trained):
    models, x, y = trained
    assert refs.logits(models[0], x[:0]).shape == (0, 4)
    assert refs.margins(models, x[:0], y[:0]).shape == (2, 0)
    if hasattr(models[0], "module"):
        assert refs.gradient(models, x[:0], y[:0], cross_entropy).shape == x[:0].shape
        with torch.inference_mode():
            inside = refs.gradient(models, x[:3].clone(), y[:3].clone(), cross_entropy)
        assert torch.equal(inside, refs.gradient(models, x[:3], y[:3], cross_entropy))


# -- training ----------------------------------------------------------------------------------------------------------


def test_equal_seeds_make_equal_models_and_others_make_others():
    x, _ = digits()
    _, knowledge = knowing(x[:80])
    first = refs.references(knowledge, 10, seed=4, count=2, recipe=QUICK)
    elsewhere = knowing(x[:80])[1]
    again = refs.references(elsewhere, 10, seed=4, count=2, recipe=QUICK)
    other = refs.references(elsewhere, 10, seed=5, count=2, recipe=QUICK)
    for a, b, c in zip(first.models, again.models, other.models, strict=True):
        assert a is not b and torch.equal(a.logits(x), b.logits(x)) and not torch.equal(a.logits(x), c.logits(x))
    assert not torch.equal(first.models[0].logits(x), first.models[1].logits(x))
    assert torch.equal(first.held.x, again.held.x) and not torch.equal(first.held.x, other.held.x)


def test_all_attacks_share_the_models_and_the_labels_are_bought_once():
    x, _ = digits()
    gate, knowledge = knowing(x[:80])
    assert refs.setup_cost(knowledge) == 80
    three = refs.references(knowledge, 10, seed=4, count=3, recipe=QUICK).models
    assert gate.ledger.by_phase() == {"transfer.relabel": 80} and refs.setup_cost(knowledge) == 0
    one = refs.references(knowledge, 10, seed=4, count=1, recipe=QUICK).models
    assert one[0] is three[0] and gate.ledger.rows == 80


@pytest.mark.parametrize(("given", "asked", "made"), [(None, None, 8), (2, None, 2), (2, 3, 3)])
def test_how_many(given, asked, made):
    x, _ = digits()
    _, knowledge = knowing(x[:30], references=given, family=LogisticRegression())
    assert len(refs.references(knowledge, 10, seed=0, count=asked).models) == made


def test_held_rows_are_never_trained_on(monkeypatch):
    x, _ = digits()
    seen = []
    train = shadow_training.train_shadows
    monkeypatch.setattr(
        shadow_training, "train_shadows", lambda x, *rest, **more: (seen.append(x), train(x, *rest, **more))[1]
    )
    _, knowledge = knowing(x[:400])
    found = refs.references(knowledge, 10, seed=0, count=2, recipe=QUICK)
    held = set(rng.content_keys(found.held.x).tolist())
    assert 20 < len(held) < 60 and len(found.held) + len(found.rows) == 400
    assert seen
    for rows in seen:
        assert torch.equal(rows, found.rows.x) and not held & set(rng.content_keys(rows).tolist())
    assert found.held.labelled and torch.equal(found.held.labels(knowledge.setup), by_brightness(found.held.x))


def test_rows_put_aside_for_a_threshold_leave_rows_to_hold_out():
    x, _ = digits()
    kept, _ = shadow_training.split_shadow(ShadowRows(x[:400]), 0.25, 3)
    found = refs.references(knowing(kept.x)[1], 10, seed=3, count=1, recipe=QUICK)
    assert 15 < len(found.held) < 50


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_handful_of_rows_is_trained_on(rows):
    x, _ = digits()
    for start in range(30):
        found = refs.references(knowing(x[start : start + rows], family=LogisticRegression())[1], 10, seed=0, count=1)
        assert len(found.rows) >= 1 and len(found.rows) + len(found.held) == rows


def test_models_learn_the_targets_labels_and_not_the_true_ones():
    x, y = digits()

    def contrary(rows):
        return (rows.flatten(1)[:, :32].sum(1) > rows.flatten(1)[:, 32:].sum(1)).long()

    gate = Gate(contrary)
    knowledge = Knowledge(setup=gate.setup_oracle("transfer"), shadow=ShadowRows(x[:800], y[:800]))
    (model,) = refs.references(knowledge, 10, seed=0, count=1, recipe=Recipe(epochs=10)).models
    assert (model.labels(x[800:]) == contrary(x[800:])).float().mean() > 0.9


def test_a_class_that_only_a_held_out_row_has_is_a_class_of_the_models():
    x, _ = digits()
    _, plain = knowing(x[:200])
    lone = refs.references(plain, 3, seed=0, count=1, recipe=QUICK).held.x[0]
    _, knowledge = knowing(x[:200], lambda rows: torch.where((rows == lone).flatten(1).all(1), 5, 0))
    (model,) = refs.references(knowledge, 3, seed=0, count=1, recipe=QUICK).models
    assert model.logits(x[:2]).shape == (2, 6)


def test_a_budget_that_cannot_pay_for_relabelling_sends_nothing():
    x, _ = digits()
    gate = Gate(zeros, total=79)
    with pytest.raises(BudgetExceeded):
        refs.references(Knowledge(setup=gate.setup_oracle("t"), shadow=ShadowRows(x[:80])), 10, seed=0)
    assert gate.ledger.rows == 0


def test_no_shadow_rows_and_no_references():
    x, _ = digits()
    for shadow in (None, ShadowRows(x[:0])):
        knowledge = Knowledge(setup=Gate(zeros).setup_oracle("t"), shadow=shadow)
        for ask in (lambda: refs.references(knowledge, 10, seed=0), lambda: refs.setup_cost(knowledge)):  # noqa: B023
            with pytest.raises(NeedsError, match="give shadow="):
                ask()
    gate, knowledge = knowing(x[:10], references=0)
    with pytest.raises(InputError, match="references must be at least 1, got 0"):
        refs.references(knowledge, 10, seed=0)
    assert gate.ledger.rows == 0


# -- kept on disk ------------------------------------------------------------------------------------------------------


def kept_in(folder, family="mlp", target=by_brightness, recipe=QUICK):
    """A new run, with nothing in memory, that has the folder of another one."""
    x, _ = digits()
    _, knowledge = knowing(x[:80], target, family=family, references_dir=folder)
    return refs.references(knowledge, 10, seed=4, count=2, recipe=recipe).models


@pytest.mark.parametrize(
    "family", ["mlp", "cnn", lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, classes))]
)
def test_a_second_run_trains_nothing_and_has_the_same_bits(family, tmp_path, monkeypatch):
    x, _ = digits()
    first = kept_in(tmp_path, family)
    monkeypatch.setattr(parallel_training, "_train", lambda *_: pytest.fail("a kept model was trained again"))
    second = kept_in(tmp_path, family)
    for a, b in zip(first, second, strict=True):
        assert a is not b and torch.equal(a.logits(x[80:]), b.logits(x[80:])) and not b.module.training
        assert (b.training.rows, b.training.epochs, b.training.reused) == (a.training.rows, 2, True)
        assert not a.training.reused and b.training.seconds == a.training.seconds


def test_a_folder_holds_weights_and_words_and_no_pickle(tmp_path):
    kept_in(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 4 and {name.partition(".")[2] for name in names} == {"json", "safetensors"}
    about = json.loads((tmp_path / names[0]).read_text())
    assert (about["family"], about["classes"], about["shape"], about["epochs"]) == ("mlp", 10, [8, 8], 2)
    assert about["recipe"]["batch"] == 32


def test_other_labels_recipes_and_families_are_other_models(tmp_path):
    kept_in(tmp_path)
    kept_in(tmp_path, target=zeros)
    kept_in(tmp_path, recipe=Recipe(epochs=1))
    kept_in(tmp_path, family="cnn")
    assert len(list(tmp_path.glob("*.safetensors"))) == 8


def other_shapes(path):
    save_file({"weights": torch.zeros(2)}, path)
    beside = path.with_suffix(".json")
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"blake2b": digest}))


DAMAGE = {
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "sidecar": lambda path: path.with_suffix(".json").write_text("{"),
    "sidecar without figures": lambda path: path.with_suffix(".json").write_text("{}"),
    "other shapes": other_shapes,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_trained_again_with_a_warning(damage, tmp_path):
    x, _ = digits()
    first = kept_in(tmp_path)
    damage(sorted(tmp_path.glob("*.safetensors"))[0])
    with pytest.warns(UserWarning, match=r"shadow-.*\.safetensors is damaged \(.+\); the model is trained again"):
        second = kept_in(tmp_path)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.logits(x[80:]), b.logits(x[80:]))
    assert [model.training.reused for model in kept_in(tmp_path)] == [True, True]


def test_an_interrupted_run_keeps_what_it_trained(tmp_path, monkeypatch):
    train, calls = parallel_training._train, []

    def interrupted(*job):
        calls.append(job)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*job)

    monkeypatch.setattr(parallel_training, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept_in(tmp_path)
    monkeypatch.setattr(parallel_training, "_train", train)
    assert [model.training.reused for model in kept_in(tmp_path)] == [True, False]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"references_dir='.*file/inside' cannot be a folder"):
        checkpoints.check_folder(f"{tmp_path}/file/inside")
    assert checkpoints.check_folder(tmp_path / "new" / "one").is_dir()


def test_a_second_audit_trains_nothing_and_leaves_the_same_record(tmp_path):
    x, y = digits()

    def audit(out, references_dir, seed=0):
        return labelleaks.audit(
            by_brightness, members=(x[:30], y[:30]), nonmembers=(x[30:60], y[30:60]), shadow=(x[60:160],),
            attacks=["transfer"], family="mlp", references=2, references_dir=references_dir, seed=seed, out=out,
        )  # fmt: skip

    kept = tmp_path / "models"
    plain, first, second = audit(tmp_path / "a", None), audit(tmp_path / "b", kept), audit(tmp_path / "c", kept)
    assert plain == first == second
    trained = plain.shadow["models"]
    assert len(trained) == 2 and 80 < trained[0]["rows"] < 100 and 1 <= trained[0]["epochs"] <= 30
    logs = [labelleaks.auditing.record.RunLog.load(tmp_path / name) for name in "abc"]
    assert [log.models_reused for log in logs] == [0, 0, 2]
    assert logs[0].training_seconds > 0 and logs[2].training_seconds == 0
    report = (tmp_path / "c" / "report.html").read_text()
    assert re.search(r"Computed, without a query: 2 shadow models trained on \d+ rows, [\d to]+ epochs", report)
    assert labelleaks.auditing.record.load(tmp_path / "c") == plain


def test_an_audit_with_every_attack_that_compares_trains_each_model_once(tmp_path, monkeypatch):
    x, y = digits()
    trained, train = [], parallel_training._train
    monkeypatch.setattr(parallel_training, "_train", lambda *arguments: trained.append(1) or train(*arguments))
    comparing = [
        "transfer", attacks.Guided(ways=2), attacks.Yoqo(rounds=1), attacks.Oslo(budgets=1, steps=1),
        attacks.DHAttack(queries=2), attacks.Chameleon(copies=2), attacks.Calibrated(max_iterations=1),
    ]  # fmt: skip
    named = {one if isinstance(one, str) else one.name for one in comparing}
    assert named == {name for name in attacks.names() if "shadow" in attacks.load(name).needs}

    def audit():
        return labelleaks.audit(
            by_brightness, members=(x[:4], y[:4]), nonmembers=(x[30:34], y[30:34]), shadow=(x[60:100],),
            attacks=comparing, family="mlp", references=2, references_dir=tmp_path, budget=40,
        )  # fmt: skip

    first = audit()
    assert len(trained) == 2 == len(first.shadow["models"])
    assert sum(rows for phase, rows in first.ledger.setup.items() if "relabel" in phase) == 40
    assert audit() == first and len(trained) == 2


def test_the_command_line_passes_the_folder_on(tmp_path, monkeypatch):
    x, y = digits()
    monkeypatch.chdir(tmp_path)
    for side, rows in (("members", slice(0, 20)), ("nonmembers", slice(20, 40))):
        np.savez(f"{side}.npz", x=x[rows].numpy(), y=y[rows].numpy())
    Path("taken").touch()
    words = ["audit", "--target", f"{__name__}:by_brightness", "--members", "members.npz"]
    done = cli(*words, "--nonmembers", "nonmembers.npz", "--references-dir", "taken")
    assert done.exit_code == 2 and "references_dir='taken' cannot be a folder" in done.output
