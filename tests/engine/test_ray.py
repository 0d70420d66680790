"""A Ray cluster of two workers on this machine: the bytes of a local run, and a killed worker costs its shard only."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import labelleaks
from labelleaks import attacks, experiments
from labelleaks.auditing.run_log import RunLog
from labelleaks.core import progress
from labelleaks.engine import Local, Ray, Shared, Task, choose
from labelleaks.errors import EngineError, InputError, TargetError
from labelleaks.experiments.runner import Options
from labelleaks.experiments.spec import load_reproduction
from labelleaks.models.training import Recipe
from tests.doors import test_combinations as kinds
from tests.support import cli

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*", "ignore::FutureWarning:ray.*"),
]

SHORT = Recipe(epochs=2)
ROWS = 12
"""Candidates of a shard."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Ray]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        with Ray(cpus=2) as engine:
            yield engine


def rows(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 12, generator=generator)
    return x, by_sum(x)


def by_sum(x: Tensor) -> Tensor:
    return (x.sum(1) > 6).to(torch.int64) + (x[:, 0] > 0.5).to(torch.int64)


class Net(torch.nn.Module):
    """A target of the user's own, defined in his script."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = torch.nn.Sequential(torch.nn.Linear(12, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def audit(target: Any, out: Path, **others: Any) -> dict[str, bytes]:
    """Audit 20 members and 20 non-members; the record's bytes."""
    members, nonmembers, shadow = rows(20, 1), rows(20, 2), rows(70, 3)
    settings = {"budget": 25, "shadow": (shadow[0],), "classes": 3, "shard_rows": ROWS, "seed": 0} | others
    labelleaks.audit(target, members=members, nonmembers=nonmembers, out=out, overwrite=True, **settings)
    return {name: (out / name).read_bytes() for name in ("record.json", "arrays.npz", "candidates.csv")}


def test_an_audit_leaves_the_same_bytes(cluster: Ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings and shards there, relabelling and starts bought once, progress and ledger as here."""
    import ray

    put, puts = ray.put, []
    monkeypatch.setattr(ray, "put", lambda value: puts.append(value) or put(value))
    seen: dict[str, Counter[str]] = {"here": Counter(), "there": Counter()}
    wanted = {
        "attacks": ["gap", "noise", "boundary", attacks.Transfer(recipe=SHORT), attacks.DHAttack(recipe=SHORT)],
        "starts": rows(8, 4)[0], "references": 2, "budget": 40, "budget_total": 20_000,
    }  # fmt: skip

    def run(name: str, engine: Any) -> dict[str, bytes]:
        def note(phase: str, count: int) -> None:
            seen[name][phase] += count

        monkeypatch.setattr(progress, "meter", lambda *_: _Meter(note))
        return audit(Net(), tmp_path / name, engine=engine, **wanted)

    here, there = run("here", Local(1)), run("there", cluster)
    assert here == there
    assert seen["here"] == seen["there"] and seen["here"]["noise.copies"] > 0
    record = json.loads(here["record.json"])
    assert "engine" not in record and b'"ray"' not in here["record.json"]
    assert record["ledger"]["setup"]["boundary.starts"] == 8  # once, for the attack and its threshold
    log = RunLog.load(tmp_path / "there")
    assert log is not None and (log.engine["name"], log.engine["shards"]) == ("ray", 4)
    # Target, four shards of rows, pools and models once a run; set-up answers and terms once an attack; no more.
    assert len(puts) <= 1 + 4 + 4 + 3 + 2 * 5 + 1 and cluster.describe()["tasks"] >= 5 * 4 + 2


class _Meter:
    def __init__(self, note: Any) -> None:
        self._note = note

    def __enter__(self) -> Any:
        return self._note, lambda rows: None

    def __exit__(self, *_: object) -> None:
        return None


def deadly(x: Tensor, *, folder: str, driver: int) -> Tensor:
    """Label rows; write down who was asked; in the first worker that is asked for the second shard, die."""
    second = rows(20, 1)[0][ROWS : ROWS + 1]  # the first candidate of the second shard
    mine = bool((x == second).all(1).any())
    if os.getpid() != driver:
        with Path(folder, f"asked-{x[0].sum():.6f}").open("a") as stream:
            stream.write("once\n")
        marker = Path(folder, "killed")
        if mine and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return by_sum(x)


@pytest.mark.kill
def test_a_killed_worker_costs_its_shard_only(cluster: Ray, tmp_path: Path) -> None:
    def run(name: str, engine: Any) -> tuple[dict[str, bytes], list[int]]:
        folder = tmp_path / f"{name} asked"
        folder.mkdir()
        target = functools.partial(deadly, folder=str(folder), driver=os.getpid())
        found = audit(target, tmp_path / name, engine=engine, attacks=["gap"], shadow=None)
        return found, sorted(len(path.read_text().split()) for path in folder.glob("asked-*"))

    here, asked_here = run("here", Local(1))
    there, asked_there = run("there", cluster)
    assert (tmp_path / "there asked" / "killed").exists()
    assert here == there
    assert asked_here == [] and asked_there == [1, 1, 1, 2]  # shards: one call each


def test_errors_come_back_as_they_are(cluster: Ray, tmp_path: Path) -> None:
    said = []
    for engine in (Local(1), cluster):
        with pytest.raises(TargetError) as caught:
            audit(floats, tmp_path / engine.name, engine=engine, attacks=["gap"], shadow=None)
        said.append(str(caught.value))
    assert said[0] == said[1] and "fractions are not labels" in said[0]


def floats(x: Tensor) -> Tensor:
    """Labels for a probe's few rows, the same numbers for every shard: whichever fails first is raised."""
    return by_sum(x) if len(x) <= 8 else torch.full((len(x),), 0.5)


def test_what_cannot_be_sent_is_one_clear_error(cluster: Ray, tmp_path: Path) -> None:
    lock = threading.Lock()

    def locked(x: Tensor) -> Tensor:
        with lock:
            return by_sum(x)

    with pytest.raises(InputError, match=r"the target .*locked cannot be sent .*lock.*module:function.*engine='local'"):
        audit(locked, tmp_path / "there", engine=cluster, attacks=["gap"], shadow=None)
    assert audit(locked, tmp_path / "here", engine="local", attacks=["gap"], shadow=None)


def test_a_function_of_the_script_and_a_scripted_module_can_be_sent(cluster: Ray, tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # it is deprecated, and files of it are there
        scripted = torch.jit.trace(Net().eval(), torch.zeros(2, 12))
    for name, target in (("lambda", lambda x: by_sum(x)), ("script", scripted)):
        here = audit(target, tmp_path / f"{name} here", engine=Local(1), attacks=["gap"], shadow=None)
        assert here == audit(target, tmp_path / f"{name} there", engine=cluster, attacks=["gap"], shadow=None)


def test_a_run_with_a_journal_is_attacked_from_here(cluster: Ray, tmp_path: Path) -> None:
    here = audit(Net(), tmp_path / "here", journal=tmp_path / "a.journal", attacks=["gap", "noise"])
    there = audit(Net(), tmp_path / "there", journal=tmp_path / "b.journal", attacks=["gap", "noise"], engine=cluster)
    assert here == there
    log = RunLog.load(tmp_path / "there")
    assert log is not None and log.engine["shards"] == 1 and "one writer" in log.engine["attacks_stay_here"]


def test_a_task_that_no_machine_can_do_is_refused(cluster: Ray) -> None:
    with pytest.raises(InputError, match=r"big: .*takes 64 threads, and no machine .* more than 2 CPUs: --threads 2"):
        cluster.run([Task("labelleaks.models.parallel_training:train_one", {}, threads=64, name="big")])


def test_a_fault_on_a_worker_names_the_task(cluster: Ray) -> None:
    with pytest.raises(EngineError, match=r"odd failed on a worker: KeyError: 'rows'"):
        cluster.run(
            [
                Task(
                    "labelleaks.models.parallel_training:train_one",
                    {},
                    {"x": Shared({"x": torch.zeros(1)})},
                    name="odd",
                )
            ]
        )


def test_inference_decides_the_same(cluster: Ray) -> None:
    x, y = rows(30, 1)
    found = [
        labelleaks.infer(Net(), x, y, attack="noise", threshold=0.5, budget=9, engine=engine, shard_rows=ROWS)
        for engine in (Local(1), cluster)
    ]
    assert found[0].rows() == found[1].rows() and found[0].ledger.describe() == found[1].ledger.describe()


GRID = """
about: tiny
worlds:
  digits: {model: mlp, sizes: [200, 100], protocols: [clean], epochs: 2, shadow_rows: 80, shadow_epochs: 2}
measures:
  - {attack: gap}
  - {attack: transfer, candidates: 40}
"""


def test_a_grid_leaves_the_same_rows(cluster: Ray, tmp_path: Path) -> None:
    home = tmp_path / "reproductions" / "tiny"
    (home / "profiles").mkdir(parents=True)
    (home / "profiles" / "smoke.yaml").write_text(GRID)
    shutil.copy(Path(__file__).parents[2] / "reproductions" / "label-leaks" / "expected.yaml", home)
    found = load_reproduction("tiny", "smoke", home.parent)

    def run(name: str, engine: Any) -> tuple[int, list[str], dict[str, bytes]]:
        said: list[str] = []
        options = Options(store=str(tmp_path / name / "store"), out=str(tmp_path / name))
        done = experiments.run(experiments.plan(found, options), engine=engine, say=said.append)
        results = {path.name: path.read_bytes() for path in (tmp_path / name / "results").rglob("*.jsonl")}
        return done, sorted(line.rpartition(":")[0] for line in said), results

    here = run("here", None)
    assert here == run("there", cluster) and here[0] == len(here[1]) + 4 > 8 and list(here[2]) == ["digits.jsonl"]
    assert run("there", cluster)[0] == 0


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Help is there, and the error names the extra."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    help_ = cli("audit", "--help")
    assert help_.exit_code == 0 and "--engine" in help_.output and "--address" in help_.output
    members, nonmembers = rows(5, 1), rows(5, 2)
    for side, (x, y) in (("members", members), ("nonmembers", nonmembers)):
        np.savez(f"{side}.npz", x=x.numpy(), y=y.numpy())
    words = ["audit", "--target", "tests.engine.test_ray:by_sum", "--members", "members.npz"]
    done = cli(*words, "--nonmembers", "nonmembers.npz", "--engine", "ray")
    assert done.exit_code == 2 and "pip install 'labelleaks[ray]'" in done.output


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"engine": "rey"}, r"unknown engine 'rey'; did you mean 'ray'\?"),
        ({"engine": 3}, r"engine=3: 'local', 'ray' or an engine is needed"),
        ({"engine": "local", "address": "auto"}, r"address='auto' belongs to engine 'ray', not to 'local'"),
    ],
)
def test_an_engine_that_is_none(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        choose(given.pop("engine"), **given)


@pytest.mark.parametrize("kind", ["table", "missing", "dict", "sparse"])
def test_rows_of_any_kind_go_there_and_back(cluster: Ray, kind: str) -> None:
    attacks = ["gap", "noise"]
    here = kinds.audit(kind, kinds.first_numbers, attacks=attacks)
    kinds.same(kinds.audit(kind, kinds.first_numbers, attacks=attacks, engine=cluster, shard_rows=10), here)


def test_an_address_alone_means_ray() -> None:
    found = choose(None, address="head:6379")
    assert isinstance(found, Ray) and found.address == "head:6379" and choose(None).name == "local"
