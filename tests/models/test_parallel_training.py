"""Training as tasks: the same bytes whoever trains, one clear error, nothing left behind."""

import subprocess
import tempfile
import threading
import time

import pytest
import torch

from labelleaks.engine import Local, Result, Shared, Task, local
from labelleaks.errors import EngineError, InputError
from labelleaks.models import architectures, parallel_training
from labelleaks.models.parallel_training import Job, train_all
from labelleaks.models.training import Recipe

QUICK = Recipe(epochs=3, batch=32)


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)


@pytest.fixture
def slow_starts_are_fine(monkeypatch, two_threads, tmp_path):
    """Helpers are hired for any work, and leave their folder where it can be looked at."""
    monkeypatch.setattr(local, "WORTH_HELP", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def rows(family="cnn", n=120):
    shape = (3, 12, 12) if family == "cnn" else (20,)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, *shape, generator=generator), torch.randint(4, (n,), generator=generator)


def jobs(family="cnn", count=3):
    x, _ = rows(family)
    return [Job(architectures.build(family, x.shape[1:], 4, seed=seed), seed) for seed in range(count)]


def weights(some):
    return [{name: value.clone() for name, value in job.module.state_dict().items()} for job in some]


def equal(some, others):
    return all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(some, others, strict=True)
    )


def wait_for_helpers(monkeypatch):
    """Make this process wait after its first task until a helper has taken one."""
    hired = threading.Event()
    take, keep = local._Helpers._last, local._Helpers.keep

    def last(self):
        found = take(self)
        hired.set()
        return found

    def patient(self, index, result):
        keep(self, index, result)
        if threading.current_thread() is threading.main_thread():
            assert hired.wait(60)

    monkeypatch.setattr(local._Helpers, "_last", last)
    monkeypatch.setattr(local._Helpers, "keep", patient)


def test_helpers_make_the_same_bytes(slow_starts_are_fine, monkeypatch):
    family = "cnn"
    x, y = rows(family)
    alone, helped = jobs(family), jobs(family)
    torch.set_num_threads(1)
    train_all(alone, x, y, QUICK, family=family, classes=4)
    torch.set_num_threads(2)
    wait_for_helpers(monkeypatch)
    train_all(helped, x, y, QUICK, family=family, classes=4)
    assert equal(weights(alone), weights(helped)) and not equal(weights(alone)[:1], weights(alone)[1:2])
    assert torch.get_num_threads() == 2
    for job in helped:
        assert job.training is not None and (job.training.rows, job.training.epochs) == (120, 3)
        assert not job.module.training
    assert not list(slow_starts_are_fine.glob("labelleaks-*"))


def test_one_thread_hires_nobody(monkeypatch):
    monkeypatch.setattr(local, "WORTH_HELP", 0.0)
    monkeypatch.setattr(local._Helpers, "_start", lambda self: pytest.fail("a helper was hired"))
    x, y = rows()
    train_all(jobs(), x, y, QUICK, family="cnn", classes=4)


def test_small_work_and_families_without_a_name_hire_nobody(monkeypatch, two_threads):
    monkeypatch.setattr(local._Helpers, "_start", lambda self: pytest.fail("a helper was hired"))
    x, y = rows("mlp")
    train_all(jobs("mlp"), x, y, QUICK, family="mlp", classes=4)
    monkeypatch.setattr(local, "WORTH_HELP", 0.0)
    some = jobs("mlp")
    train_all(some, x, y, QUICK, family=None, classes=4)
    assert all(job.training is not None and not job.module.training for job in some)


def test_a_helpers_error_is_the_error(slow_starts_are_fine):
    x, y = rows("mlp")
    too_fast = Recipe(epochs=3, batch=32, lr=1e30)
    task = Task(
        "labelleaks.models.parallel_training:train_one", spec("mlp", too_fast), {"rows": Shared({"x": x, "y": y})}
    )
    with pytest.raises(InputError, match=r"training diverged in epoch 1 .*lower the recipe's lr"):
        run_by_a_helper(task)
    assert torch.get_num_threads() == 2 and not list(slow_starts_are_fine.glob("labelleaks-*"))


def spec(family, recipe):
    x, _ = rows(family)
    return {"family": family, "shape": list(x.shape[1:]), "classes": 4, "seed": 0, "recipe": vars(recipe)}


def run_by_a_helper(task):
    """Do a task in a helper; this process takes none."""
    helpers = local._Helpers([task], 1, None, None)
    with helpers:
        helpers.hire()
        helpers.wait()
        return helpers.results[0]


def test_a_helper_tells_and_answers(slow_starts_are_fine):
    x, y = rows("mlp")
    found = run_by_a_helper(
        Task("labelleaks.models.parallel_training:train_one", spec("mlp", QUICK), {"rows": Shared({"x": x, "y": y})})
    )
    assert isinstance(found, Result) and (found.value["rows"], found.value["epochs"]) == (120, 3)
    own = jobs("mlp", 1)
    train_all(own, x, y, QUICK, family="mlp", classes=4)
    assert equal(weights(own), [dict(found.arrays)])


def test_a_dead_helper_is_one_clear_error(slow_starts_are_fine, monkeypatch):
    x, y = rows("mlp")
    wait_for_helpers(monkeypatch)
    broken = slow_starts_are_fine / "python"
    broken.write_text("#!/bin/sh\necho no torch here >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(local.sys, "executable", str(broken))
    with pytest.raises(EngineError, match=r"a helper process died \(exit code 1: no torch here\)"):
        train_all(jobs("mlp"), x, y, QUICK, family="mlp", classes=4)
    assert not list(slow_starts_are_fine.glob("labelleaks-*"))


def test_an_error_here_ends_the_helpers(slow_starts_are_fine, monkeypatch):
    x, y = rows("mlp")
    hired = []
    start = local._Helpers._start
    monkeypatch.setattr(local._Helpers, "_start", lambda self: hired.append(start(self)) or hired[-1])

    def interrupted(module, x, y, recipe, seed, part):
        part(1e-9)
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel_training, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_all(jobs("mlp"), x, y, QUICK, family="mlp", classes=4)
    assert len(hired) == 1 and hired[0].poll() is not None
    assert torch.get_num_threads() == 2 and not list(slow_starts_are_fine.glob("labelleaks-*"))


def test_what_was_trained_before_an_interrupt_is_kept():
    x, y = rows("mlp")
    some = jobs("mlp")

    class Interrupted(Local):
        def run(self, tasks, *, note=None, done=None):
            done(1, super().run(tasks[1:2])[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(some, x, y, QUICK, family="mlp", classes=4, engine=Interrupted(1))
    assert [job.training is not None for job in some] == [False, True, False]


def test_a_helper_ends_when_its_input_does(slow_starts_are_fine):
    with local._Helpers([Task("labelleaks.models.parallel_training:train_one", {})], 1, None, None) as helpers:
        helpers._folder = tempfile.TemporaryDirectory(prefix="labelleaks-")
        process = helpers._start()
        helpers._processes.append(process)
        assert isinstance(process, subprocess.Popen) and process.stdin is not None and process.stdout is not None
        process.stdin.close()
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        process.stdout.close()
        assert process.poll() is not None


def test_the_list_may_run_empty_under_ones_hands():
    with local._Helpers([], 1, None, None) as nobody:
        assert nobody.next() is None and nobody._last() is None


def test_only_labelleaks_own_work_is_done():
    with pytest.raises(EngineError, match="os:system is no work of labelleaks"):
        Local(1).run([Task("os:system", {})])
