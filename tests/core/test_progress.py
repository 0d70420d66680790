"""Progress: no stage of any attack is silent, by a clock that work alone moves; who does not look is spared."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import pytest
import torch
from torch.nn import functional

import labelleaks as ll
from labelleaks.core import progress
from labelleaks.errors import InputError
from labelleaks.models import training
from labelleaks.models.shadow_model import Network

GENERATOR = torch.Generator().manual_seed(0)
PICTURES = torch.rand(640, 1, 8, 8, generator=GENERATOR)
LABELS = (PICTURES.flatten(1)[:, :32].mean(1) > 0.5).long()


class Clock:
    """Seconds of work: each call of a model or a target takes 0.4 of them, each step of a training, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.last, self.longest, self.silent_after = 0.0, 0.0, 0.0, ""
        self.stages: list[str] = ["start"]
        for name in ("_ask", "_slope"):
            monkeypatch.setattr(Network, name, self._slow(getattr(Network, name)))
        monkeypatch.setattr(training.F, "cross_entropy", self._slow(functional.cross_entropy))

    def _slow(self, work: Any) -> Any:
        def slow(*given: Any, **more: Any) -> Any:
            self.now += 0.4
            return work(*given, **more)

        return slow

    def target(self, rows: torch.Tensor) -> torch.Tensor:
        self.now += 0.4
        return (rows.flatten(1)[:, :32].mean(1) > 0.5).long()

    def note(self, what: str, rows: int) -> None:
        if self.now - self.last > self.longest:
            self.longest, self.silent_after = self.now - self.last, self.stages[-1]
        self.last = self.now
        if what and what != self.stages[-1]:
            self.stages.append(what)


@pytest.mark.parametrize("name", ll.attacks.names())
def test_no_stage_of_an_attack_is_silent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(progress, "_shown", lambda wanted, unit: _Meter(clock.note))
    x, y = PICTURES, LABELS
    ll.audit(
        clock.target, members=(x[:20], y[:20]), nonmembers=(x[20:40], y[20:40]), shadow=(x[40:340],), attacks=[name],
        thresholds=[], domain=ll.Box(0, 1), budget=33, references=2,
    )  # fmt: skip
    assert clock.longest <= 1.0, f"silent for {clock.longest:.1f} s of work after {clock.silent_after!r}"
    told = clock.stages
    assert told.index("reading rows") < told.index("opening the target") < told.index(f"{name}: set-up")
    assert told.index(name) < told.index("figures and intervals") < told.index("flags: few rows")
    if "shadow" in ll.attacks.resolve(name).needs:
        assert "comparing shadow rows with candidates" in told and "shadow model 1 of 2" in told
        assert "shadow model 2 of 2" in told


class _Meter:
    def __init__(self, note: Any) -> None:
        self.note = note

    def __enter__(self) -> Any:
        return self.note, lambda rows: None

    def __exit__(self, *_: object) -> None:
        return None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work() -> None:
    progress.stage("crafting [1/2]")
    progress.beat()


def test_a_terminal_shows_a_bar_and_a_file_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for stream, wanted, shows in ((Terminal(), None, True), (Terminal(), False, False), (io.StringIO(), None, False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.meter(wanted) as (note, expect):
            expect(10)
            if note is not None:
                note("boundary.search", 3)
            work()
        assert ("crafting [1/2]" in stream.getvalue()) is shows, stream.getvalue()
    work()  # nobody listens


def test_lines_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv(progress.VARIABLE, "1")
    with progress.meter(None):
        work()
        work()
    assert stream.getvalue() == "labelleaks: crafting [1/2]\n"
    monkeypatch.setenv(progress.VARIABLE, "0")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.meter(None) as (note, _):
        assert note is None
    monkeypatch.setenv(progress.VARIABLE, "yes")
    with pytest.raises(InputError, match="LABELLEAKS_PROGRESS='yes': 0 is silence"), progress.meter(None):
        pass


def test_a_notebook_shows_a_line_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            shown.append(data["text/plain"])

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(data["text/plain"])
        return Handle()

    ipython = types.ModuleType("IPython")
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    ipython.display = types.SimpleNamespace(display=display)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    clock = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.meter(None) as (note, expect):
        assert note is not None
        expect(20)
        note("boundary.search", 5)
        work()
    assert "starting" in shown[0] and "boundary.search  █████░" in shown[1] and "5 of at most 20 labels" in shown[1]
    assert "crafting [1/2]" in shown[2] and shown[-1] == ""
    shell.config = {}  # IPython at a terminal
    assert progress._notebook() is None
