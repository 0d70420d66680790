"""Training in several processes: the same bytes whoever trains, one clear error, nothing left behind."""

import tempfile
import threading
from collections import deque

import pytest
import torch

from labelleaks import crew, models
from labelleaks.crew import Job, train_all
from labelleaks.errors import InputError, LabelLeaksError
from labelleaks.training import Recipe

QUICK = Recipe(epochs=3, batch=32)


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def slow_starts_are_fine(monkeypatch, two_threads, tmp_path):
    """Helpers are hired for any work, and leave their folder where it can be looked at."""
    monkeypatch.setattr(crew, "WORTH_HELP", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def rows(family="cnn", n=120):
    shape = (3, 12, 12) if family == "cnn" else (20,)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, *shape, generator=generator), torch.randint(4, (n,), generator=generator)


def jobs(family="cnn", count=3):
    x, _ = rows(family)
    return [Job(models.build(family, x.shape[1:], 4, seed=seed), seed) for seed in range(count)]


def weights(some):
    return [{name: value.clone() for name, value in job.module.state_dict().items()} for job in some]


def equal(some, others):
    return all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(some, others, strict=True)
    )


def wait_for_helpers(monkeypatch):
    """Make this process wait after its first model until a helper has taken one."""
    take, hired = crew._next, threading.Event()

    def patient(waiting, *, last=False):
        found = take(waiting, last=last)
        if last:
            hired.set()
        return found

    def train(job, *rest):
        real(job, *rest)
        if threading.current_thread() is threading.main_thread():
            assert hired.wait(60)

    real = crew._train
    monkeypatch.setattr(crew, "_next", patient)
    monkeypatch.setattr(crew, "_train", train)


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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(crew, "WORTH_HELP", 0.0)
    monkeypatch.setattr(crew._Crew, "_start", lambda self: pytest.fail("a helper was hired"))
    x, y = rows()
    train_all(jobs(), x, y, QUICK, family="cnn", classes=4)
    torch.set_num_threads(threads)


def test_small_work_and_families_without_a_name_hire_nobody(monkeypatch, two_threads):
    monkeypatch.setattr(crew._Crew, "_start", lambda self: pytest.fail("a helper was hired"))
    x, y = rows("mlp")
    train_all(jobs("mlp"), x, y, QUICK, family="mlp", classes=4)
    monkeypatch.setattr(crew, "WORTH_HELP", 0.0)
    train_all(jobs("mlp"), x, y, QUICK, family=None, classes=4)


def test_a_helpers_error_is_the_error(slow_starts_are_fine, monkeypatch):
    x, y = rows("mlp")
    wait_for_helpers(monkeypatch)
    some = jobs("mlp")
    with pytest.raises(InputError, match="unknown shadow family 'mlpp'"):
        train_all(some, x, y, QUICK, family="mlpp", classes=4)
    assert torch.get_num_threads() == 2 and not list(slow_starts_are_fine.glob("labelleaks-*"))


def test_a_dead_helper_is_one_clear_error(slow_starts_are_fine, monkeypatch):
    x, y = rows("mlp")
    wait_for_helpers(monkeypatch)
    broken = slow_starts_are_fine / "python"
    broken.write_text("#!/bin/sh\necho no torch here >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(crew.sys, "executable", str(broken))
    with pytest.raises(LabelLeaksError, match=r"trained a shadow model died \(exit code 1: no torch here\)"):
        train_all(jobs("mlp"), x, y, QUICK, family="mlp", classes=4)
    assert not list(slow_starts_are_fine.glob("labelleaks-*"))


def test_an_error_here_ends_the_helpers(slow_starts_are_fine, monkeypatch):
    x, y = rows("mlp")
    hired = []
    start = crew._Crew._start
    monkeypatch.setattr(crew._Crew, "_start", lambda self: hired.append(start(self)) or hired[-1])

    def interrupted(job, x, y, recipe, consider):
        consider(1e9)
        raise KeyboardInterrupt

    monkeypatch.setattr(crew, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_all(jobs("mlp"), x, y, QUICK, family="mlp", classes=4)
    assert len(hired) == 1 and hired[0].poll() is not None
    assert torch.get_num_threads() == 2 and not list(slow_starts_are_fine.glob("labelleaks-*"))


def test_the_list_may_run_empty_under_ones_hands():
    assert crew._next(deque()) is None and crew._next(deque(), last=True) is None
