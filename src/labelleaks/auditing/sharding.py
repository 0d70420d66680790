"""An attack on many candidates, shard by shard: each is scored wherever the engine does it; the set-up comes along.

A candidate's score depends on the candidate alone, so cutting changes none of it; and where the cuts are depends on the
number of candidates alone, not on the engine, so that even a target whose labels hang on the rows beside them is sent
the same batches by every engine. What a shard sends is entered in the run's ledger as if it had been sent here.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from labelleaks.auditing import ladder
from labelleaks.core.attack import Attack, Knowledge, ShadowRows
from labelleaks.core.domains import Domain
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.label_oracle import LabelOracle, Ledger
from labelleaks.core.types import Candidates, Scores, Trajectory
from labelleaks.engine import Engine, Note, Result, Shared, Task, Watch
from labelleaks.errors import LabelLeaksError
from labelleaks.targets import Target, opened

__all__ = ["SHARD_ROWS", "Course", "Reach", "Shards", "Used", "attack_shard", "cut"]

SHARD_ROWS = 1024
"""Candidates of a shard at most. On one core, 1,024 boundary searches with 200 labels on an MLP take 1.1 times as
long in shards of 512, 2 times in shards of 256: a small model wants full batches. A CNN's take 1.2 times in shards of
128."""

_ROWS = ("starts", "shadow x", "shadow y", "shadow labels")


def cut(n: int, rows: int) -> list[tuple[int, int]]:
    """Return (first, stop) of each shard of ``n`` candidates, none longer than ``rows``."""
    return [(first, min(first + rows, n)) for first in range(0, n, rows)]


@dataclass(frozen=True)
class Course:
    """Settings of one attack's run."""

    attack: Attack
    name: str
    budgets: tuple[int, ...]
    """Labels per candidate; of a ladder several, one run after the other."""
    climbing: bool
    seed: int

    def score(self, open_: Callable[[int], LabelOracle], candidates: Candidates, knowledge: Knowledge) -> Scores:
        """Run it on candidates; ``open_`` gives an oracle with so many labels for each of them."""
        runs = [self.attack.score(open_(budget), candidates, knowledge, seed=self.seed) for budget in self.budgets]
        return ladder.joined(runs, self.budgets) if self.climbing else runs[0]


@dataclass(eq=False)
class Reach:
    """The target, open here; pickled, it becomes what the user brought, which is wrapped and opened there."""

    name: str
    given: Any
    target: Target | None
    """Open in this process; None in another."""
    wrap: partial[Target]
    """of :func:`labelleaks.targets.wrap`, without the target"""

    @contextmanager
    def open(self) -> Iterator[Target]:
        """Give the target of this process: the run's own, which is open, or one that is opened for the time."""
        if self.target is not None:
            yield self.target
        else:
            with opened(self._made) as target:
                yield target

    @cached_property
    def _made(self) -> Target:
        return self.wrap(self.given)

    def __getstate__(self) -> dict[str, Any]:
        given = _Script.of(self.given) if isinstance(self.given, torch.jit.ScriptModule) else self.given
        return {"name": self.name, "given": given, "target": None, "wrap": self.wrap}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.given, _Script):
            self.given = self.given.load()


@dataclass(frozen=True)
class _Script:
    """TorchScript as the bytes of its file: it cannot be pickled."""

    content: bytes

    @classmethod
    def of(cls, module: Any) -> _Script:
        stream = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that it is TorchScript was the user's choice
            torch.jit.save(module, stream)
        return cls(stream.getvalue())

    def load(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(io.BytesIO(self.content), map_location="cpu")


@dataclass(eq=False)
class _Terms:
    """Terms that all shards of an attack share."""

    course: Course
    most: int | None
    """Labels of one candidate in all its runs, where the run has a total: a shard's share of it."""
    domain: Domain
    classes: int
    family: Any
    references: int | None
    models: tuple[str, ...]
    """Keys of the trained models that come along."""
    ledger: Ledger | None
    """The run's own, in its own process: what was sent is entered there whatever happens."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "ledger": None}


class Shards:
    """The shards of one run: what they share is made once."""

    def __init__(
        self, engine: Engine, gate: Gate, reach: Reach, candidates: Candidates, rows: int, note: Note | None
    ) -> None:
        self._engine, self._gate, self._candidates, self._note = engine, gate, candidates, note
        self.parts = cut(len(candidates), rows)
        self._target = Shared(thing=reach, name=f"the target {reach.name}")
        x, y = candidates.x, candidates.y
        self._rows = [Shared({"x": x[a:b], "y": y[a:b]}, name="candidates", kept=False) for a, b in self.parts]
        self._models: dict[str, Shared] = {}
        self._others: dict[int, Shared] = {}

    def score(self, course: Course, knowledge: Knowledge, *, most: int | None) -> Scores:
        """Score every shard and join their scores; the ledger gets what they sent.

        Args:
            knowledge: with the attack's set-up done.
            most: labels of one candidate at most, to be held to where the run has a total; None: no limit.
        """
        shared = self._shared(course, knowledge, most)
        threads, count = torch.get_num_threads(), len(self.parts)
        tasks = [
            Task(
                "labelleaks.auditing.sharding:attack_shard", {"first": first, "of": len(self._candidates)},
                {**shared, "candidates": rows}, threads, name=f"{course.name}, shard {place} of {count}",
            )
            for place, ((first, _), rows) in enumerate(zip(self.parts, self._rows, strict=True), 1)
        ]  # fmt: skip
        results = self._engine.run(tasks, note=self._note)
        for (first, _), result in zip(self.parts, results, strict=True):
            if result.value["sent"] is not None:
                self._gate.ledger.take_in(_ledger(result), first, len(self._candidates))
        return _joined([_scores(result) for result in results])

    def _shared(self, course: Course, knowledge: Knowledge, most: int | None) -> dict[str, Shared]:
        store = knowledge.store
        keys = tuple(sorted(store.taken if isinstance(store, Used) else store))
        for key in keys:
            if key not in self._models:
                self._models[key] = Shared(thing=store[key], name=f"shadow model {key}")
        terms = _Terms(
            course, most, self._candidates.domain, self._candidates.classes, knowledge.family, knowledge.references,
            keys, self._gate.ledger,
        )  # fmt: skip
        shared = {"target": self._target, "prepared": Shared(thing=knowledge.prepared, name="set-up")}
        shared["terms"] = Shared(thing=terms, name=f"attack {course.name}")
        shared |= {f"model {key}": self._models[key] for key in keys}
        shadow = knowledge.shadow
        arrays = {"starts": knowledge.starts}
        if shadow is not None:
            arrays |= {"shadow x": shadow.x, "shadow y": shadow.y, "shadow labels": shadow._labels}
        return shared | {name: self._once(rows, name) for name, rows in arrays.items() if rows is not None}

    def _once(self, rows: Tensor, name: str) -> Shared:
        """The same tensor is one thing to share, whichever attack asks."""
        if id(rows) not in self._others:
            self._others[id(rows)] = Shared({"rows": rows}, name=name)  # keeps the tensor: its id stays its own
        return self._others[id(rows)]


def attack_shard(spec: Mapping[str, Any], shared: Mapping[str, Shared], watch: Watch) -> Result:
    """Attack the candidates of one shard: a task's work."""
    terms: _Terms = shared["terms"].thing
    rows = shared["candidates"].arrays
    candidates = Candidates(rows["x"], rows["y"], terms.domain, terms.classes)
    with shared["target"].thing.open() as target:
        total = None if terms.most is None else terms.most * len(candidates)
        gate = Gate(target, batch_rows=target.batch_rows, total=total, progress=watch.note)
        setup = gate.setup_oracle(terms.course.name).closed(terms.course.attack.name)

        def open_(budget: int) -> LabelOracle:
            return gate.oracle(terms.course.name, len(candidates), budget)

        try:
            scores = terms.course.score(open_, candidates, _knowledge(terms, shared, setup))
        finally:
            if terms.ledger is not None:
                terms.ledger.take_in(gate.ledger, spec["first"], spec["of"])
    return _result(scores, gate.ledger if terms.ledger is None else None)


def _knowledge(terms: _Terms, shared: Mapping[str, Shared], setup: LabelOracle) -> Knowledge:
    rows = {name: shared[name].arrays["rows"] for name in _ROWS if name in shared}
    x = rows.get("shadow x")
    return Knowledge(
        setup=setup,
        shadow=None if x is None else ShadowRows(x, rows.get("shadow y"), rows.get("shadow labels")),
        starts=rows.get("starts"),
        family=terms.family,
        references=terms.references,
        store={key: shared[f"model {key}"].thing for key in terms.models},
        prepared=shared["prepared"].thing,
    )


def _result(scores: Scores, ledger: Ledger | None) -> Result:
    arrays = {"value": scores.value, "status": scores.status, "queries": scores.queries}
    arrays |= {f"detail {name}": value for name, value in scores.details.items()}
    value: dict[str, Any] = {"checkpoints": None, "sent": None}
    if scores.trajectory is not None:
        value["checkpoints"] = list(scores.trajectory.checkpoints)
        arrays["path"] = scores.trajectory.value
    if ledger is not None:
        value["sent"] = {"calls": ledger.calls, "seconds": ledger.seconds}
        arrays |= {f"sent {phase}": rows for phase, rows in ledger.candidates.items()}
    return Result(value, arrays)


def _ledger(result: Result) -> Ledger:
    sent = result.value["sent"]
    rows = {name.removeprefix("sent "): a for name, a in result.arrays.items() if name.startswith("sent ")}
    return Ledger(candidates=rows, calls=sent["calls"], seconds=sent["seconds"])


def _scores(result: Result) -> Scores:
    arrays, checkpoints = result.arrays, result.value["checkpoints"]
    return Scores(
        value=arrays["value"],
        status=arrays["status"],
        queries=arrays["queries"],
        trajectory=None if checkpoints is None else Trajectory(tuple(checkpoints), arrays["path"]),
        details={name.removeprefix("detail "): a for name, a in arrays.items() if name.startswith("detail ")},
    )


def _joined(parts: Sequence[Scores]) -> Scores:
    """Scores of shards in the order of the candidates."""
    first = parts[0]
    trajectory = None
    if first.trajectory is not None:
        paths = [part.trajectory for part in parts if part.trajectory is not None]
        if len(paths) < len(parts) or any(path.checkpoints != first.trajectory.checkpoints for path in paths):
            raise LabelLeaksError("an attack's shards have different checkpoints: an attack may plan by budget only")
        trajectory = Trajectory(first.trajectory.checkpoints, torch.cat([path.value for path in paths], 1))
    return Scores(
        value=torch.cat([part.value for part in parts]),
        status=torch.cat([part.status for part in parts]),
        queries=torch.cat([part.queries for part in parts]),
        trajectory=trajectory,
        details={name: torch.cat([part.details[name] for part in parts]) for name in first.details},
    )


@dataclass(eq=False)
class Used(MutableMapping[str, Any]):
    """A run's store of trained models that notes which of them one attack takes."""

    store: MutableMapping[str, Any]
    taken: set[str] = field(default_factory=set)

    def __getitem__(self, key: str) -> Any:
        found = self.store[key]
        self.taken.add(key)
        return found

    def __setitem__(self, key: str, value: Any) -> None:
        self.store[key] = value
        self.taken.add(key)

    def __delitem__(self, key: str) -> None:
        del self.store[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.store)

    def __len__(self) -> int:
        return len(self.store)

    def __contains__(self, key: object) -> bool:
        return key in self.store
