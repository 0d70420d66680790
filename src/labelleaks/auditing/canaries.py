"""Canaries: rows put into the training data, or left out, by a coin; a label-only attack's guesses at it bound ε.

    made = ll.make_canaries(x, y, count=1000)          # before the training
    made.save("canaries.json")                         # keep it secret; publish made.seal
    model.fit(*made.training)
    found = ll.audit_canaries(model, made, shadow=(x_more,))
    found.bound                                        # ε >= 4.1 at δ = 1e-05 with 95 % confidence: …

Source: Steinke, Nasr & Jagielski, "Privacy Auditing with One (1) Training Run" (2305.08846); mislabelled canaries:
Aerni et al. (2404.17399).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from labelleaks import attacks as registry
from labelleaks.auditing.ladder import LADDER
from labelleaks.auditing.options import describe, shared_options
from labelleaks.auditing.recording import as_numpy
from labelleaks.auditing.session import open_session
from labelleaks.core import progress, serialization
from labelleaks.core.attack import Attack
from labelleaks.core.classes import label_array, to_numpy
from labelleaks.core.domains import Domain
from labelleaks.core.oracle.label_oracle import Ledger
from labelleaks.engine import Engine
from labelleaks.errors import InputError
from labelleaks.inputs.arrays import count as count_rows
from labelleaks.inputs.arrays import take
from labelleaks.inputs.row_format import Table, is_frame
from labelleaks.inputs.row_format.pictures import Pictures
from labelleaks.inputs.tables import column_names, pick
from labelleaks.metrics import EpsilonBound, Estimate, SplitGuesses, auc, epsilon_of_scores
from labelleaks.metrics.epsilon import Guesses

__all__ = ["Canaries", "CanaryAudit", "CanaryKind", "audit_canaries", "load_canaries", "make_canaries"]

CanaryKind = Literal["mislabelled", "natural"]


@dataclass(frozen=True, eq=False)
class Canaries:
    """Rows that were each put into the training data, or left out, by a fair coin of its own.

    Whoever knows ``inside`` must not attack; whoever attacks must not know it. ``seal`` is published before the
    training, so that nobody can change the coins afterwards.
    """

    x: Any = field(repr=False)
    """Their m rows, in the user's own kind."""
    y: NDArray[Any] = field(repr=False)
    """(m,): the label that each is trained with; a wrong one where they are mislabelled"""
    inside: NDArray[np.bool_] = field(repr=False)
    """(m,): whether it is in the training data: the secret"""
    kind: CanaryKind
    places: NDArray[np.int64] = field(repr=False)
    """(m,): which of the rows that they were made from, from 0"""
    content: str = field(repr=False)
    """Hash of their rows."""
    nonce: str = field(repr=False)
    """Random hexadecimal digits, so that the seal cannot be opened by trying."""
    training: tuple[Any, NDArray[Any]] | None = field(default=None, repr=False)
    """Rows and labels to train on, in their former order: all that are no canary, and the canaries that are inside."""

    def __len__(self) -> int:
        return len(self.places)

    @property
    def seal(self) -> str:
        """SHA-256 of the manifest, 64 hexadecimal digits: tells nothing of the coins, and changes with any of them."""
        return hashlib.sha256(json.dumps(self._manifest(), sort_keys=True).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the manifest (JSON, readable by its owner alone); the rows stay where they are."""
        manifest = self._manifest() | {"seal": self.seal}
        serialization.write_atomic(Path(path), json.dumps(manifest, sort_keys=True) + "\n", private=True)

    def _manifest(self) -> dict[str, Any]:
        return {
            "format": 1,
            "kind": self.kind,
            "places": self.places.tolist(),
            "labels": self.y.tolist(),
            "inside": self.inside.astype(int).tolist(),
            "content": self.content,
            "nonce": self.nonce,
        }


def make_canaries(
    x: Any, y: Any = None, *, count: int = 1000, kind: CanaryKind = "mislabelled", seed: int | None = None
) -> Canaries:
    """Choose rows of the training data as canaries and toss a fair coin for each. Trains nothing.

    Args:
        x, y: (n, *shape) rows and (n,) labels that the model would be trained on, of any kind that
            :func:`labelleaks.audit` takes.
        count: canaries m, 1 … n. All guesses right would show an ε of ln(m / 3), about.
        kind: ``"mislabelled"``: each gets one of the other classes at random, which a model learns only by heart;
            about half of ``count`` wrong labels go into the training data. ``"natural"``: rows and labels as they are.
        seed: None: from the system's randomness, as a secret should be; a number for a repeatable study.

    Raises:
        InputError: too few rows, one class only, or an unknown kind.
    """
    rows, names = _read(x, y)
    if kind not in get_args(CanaryKind):
        raise InputError(f"kind={kind!r}: {' or '.join(map(repr, get_args(CanaryKind)))} is needed")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(names):
        raise InputError(f"count={count!r}: a whole number from 1 to {len(names)}, the rows that there are, is needed")
    classes = np.unique(names)
    if kind == "mislabelled" and len(classes) < 2:
        raise InputError(f"y: all rows have the label {classes[0]!r}; for a wrong label there must be another class")
    random = np.random.default_rng(secrets.randbits(128) if seed is None else seed)
    places = np.sort(random.permutation(len(names))[:count]).astype(np.int64)
    labels = names[places]
    if kind == "mislabelled":
        others = random.integers(1, len(classes), count)
        labels = classes[(np.searchsorted(classes, labels) + others) % len(classes)]
    inside = random.integers(0, 2, count) == 1
    nonce = secrets.token_hex(16) if seed is None else random.bytes(16).hex()
    chosen = pick(rows, places.tolist())
    training = _training(rows, names, places, labels, inside)
    return Canaries(chosen, labels, inside, kind, places, _content(chosen), nonce, training)


def load_canaries(path: str | Path, x: Any, y: Any = None, *, content: str | None = None) -> Canaries:
    """Return the canaries of a manifest.

    Args:
        path: what :meth:`Canaries.save` wrote.
        x, y: the rows and labels that :func:`make_canaries` was given.
        content: hash of what x was read from, where the rows given are the canaries alone, as a file holds them;
            then there is no ``training``.

    Raises:
        InputError: no manifest, one that was changed after it was sealed, or other rows than it was made from.
    """
    rows, names = _read(x, y)
    manifest = serialization.parse_json(Path(path).read_text(encoding="utf-8"), Path(path))
    try:
        places = np.array(manifest["places"], dtype=np.int64)
        inside = np.array(manifest["inside"], dtype=np.int64) == 1
        labels = label_array(manifest["labels"], "canaries")
        kind, sealed_content, nonce, seal = (str(manifest[key]) for key in ("kind", "content", "nonce", "seal"))
        if kind not in get_args(CanaryKind) or not len(places) == len(inside) == len(labels) > 0:
            raise ValueError(kind)
    except (KeyError, ValueError, TypeError):
        raise InputError(
            f"{path}: is no manifest of canaries; give a file that make_canaries(...).save wrote"
        ) from None
    alone = content is not None
    fits = len(places) == len(names) if alone else len(names) > int(places.max())
    chosen = rows if alone or not fits else pick(rows, places.tolist())
    if not fits or sealed_content != (content if alone else _content(chosen)):
        raise InputError(
            f"{path}: the canaries were other rows; give the rows that they were made from, in their order"
        )
    training = None if alone else _training(rows, names, places, labels, inside)
    made = Canaries(chosen, labels, inside, cast(CanaryKind, kind), places, sealed_content, nonce, training)
    if seal != made.seal:
        raise InputError(f"{path}: was changed after it was sealed ({seal[:12]}…); go back to the file as it was saved")
    return made


def _read(x: Any, y: Any) -> tuple[Any, NDArray[Any]]:
    """Return rows of the user's own kind, and their labels, checked."""
    given = take(x if y is None else (x, y), "canaries")
    assert given.y is not None
    brought = x[0] if isinstance(x, tuple) and y is None else x
    return list(brought) if isinstance(given.rows, Pictures) else given.rows, given.y


def _training(
    rows: Any, names: NDArray[Any], places: NDArray[np.int64], labels: NDArray[Any], inside: NDArray[np.bool_]
) -> tuple[Any, NDArray[Any]]:
    """Return rows and labels to train on: all that are no canary, and the canaries that are inside."""
    trained = names.copy()
    trained[places] = labels
    kept = np.ones(len(names), dtype=np.bool_)
    kept[places] = inside
    return pick(rows, np.flatnonzero(kept).tolist()), trained[kept]


@dataclass(frozen=True, eq=False)
class CanaryAudit:
    """Bounds on ε from an attack's scores of canaries, and what they rest on."""

    bound: EpsilonBound
    """Lower bound for any mechanism."""
    gaussian_bound: EpsilonBound | None
    """The same if the training's trade-off curve is a Gaussian mechanism's, as DP-SGD's nearly is; None at δ = 0."""
    auc: Estimate
    """Of the scores against the coins."""
    scores: NDArray[np.float64]
    """(m,); higher = more likely inside"""
    inside: NDArray[np.bool_]
    """(m,)"""
    attack: Mapping[str, Any]
    """The attack's name and hyperparameters."""
    ledger: Ledger
    kind: CanaryKind
    seal: str
    """Of the canaries, as it was published."""

    def describe(self) -> dict[str, Any]:
        """Return everything but the coins and scores as JSON types."""
        return {
            "kind": self.kind,
            "canaries": len(self.scores),
            "inside": int(self.inside.sum()),
            "seal": self.seal,
            "attack": dict(self.attack),
            "auc": describe(self.auc),
            "bound": describe(self.bound),
            "gaussian_bound": None if self.gaussian_bound is None else describe(self.gaussian_bound),
            "ledger": self.ledger.describe(),
        }

    def __repr__(self) -> str:
        return (
            f"CanaryAudit({self.bound}; {self.attack['name']}, AUC {self.auc.value:.3f}, {self.ledger.rows:,} labels)"
        )


def audit_canaries(
    target: Any,
    canaries: Canaries,
    *,
    attack: str | Attack | None = None,
    guesses: Guesses = SplitGuesses(),  # noqa: B008  (frozen)
    delta: float = 1e-5,
    level: float = 0.95,
    shadow: Any = None,
    starts: Any = None,
    domain: Domain | Table | None = None,
    budget: int = 20,
    budget_total: int | None = None,
    seed: int = 0,
    family: Any = None,
    references: int | None = None,
    references_dir: str | Path | None = None,
    classes: int | Sequence[Any] | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    device: str | torch.device | None = None,
    batch_rows: int | None = None,
    journal: str | Path | None = None,
    allow_noisy: bool = False,
    replay_only: bool = False,
    accept_changed: bool = False,
    engine: str | Engine | None = None,
    shard_rows: int | None = None,
    show_progress: bool | None = None,
) -> CanaryAudit:
    """Bound ε from below by labels alone: attack each canary, guess the coins, count the right guesses.

    Args:
        target: the model that was trained on ``canaries.training``.
        canaries: from :func:`make_canaries` or :func:`load_canaries`.
        attack: one attack; default: guided with shadow rows, gap without.
        guesses: how many coins are guessed, and how that is chosen without the truth.
        delta: δ of the statement. level: its confidence.
        budget: labels per canary.

    The other arguments are those of :func:`labelleaks.audit`.

    Raises:
        InputError: what was given cannot be used; no label was bought.
    """
    chosen = attack if attack is not None else "gap" if shadow is None else "guided"
    if chosen == LADDER:
        raise InputError("attack='ladder': canaries are scored by one attack; give its name")
    resolved = registry.resolve(chosen)
    _check_guesses(guesses, canaries, delta, level)
    options = shared_options({**locals(), "attacks": [resolved], "thresholds": []})
    with (
        progress.meter(show_progress) as (note, expect),
        open_session(target, {"canaries": (canaries.x, canaries.y)}, options, progress=note) as session,
    ):
        expect(session.forecast().rows)
        session.check_unchanged()
        session.probe()
        (planned,) = session.plan.planned
        scores = as_numpy(session.score(planned).value, np.float64)
        gaussian = None
        if delta > 0:
            gaussian = epsilon_of_scores(
                scores, canaries.inside, guesses, delta=delta, level=level, mechanism="gaussian"
            )
        return CanaryAudit(
            bound=epsilon_of_scores(scores, canaries.inside, guesses, delta=delta, level=level),
            gaussian_bound=gaussian,
            auc=auc(scores, canaries.inside),
            scores=scores,
            inside=canaries.inside,
            attack={"name": planned.name, **describe(planned.attack)},
            ledger=session.gate.ledger,
            kind=canaries.kind,
            seal=canaries.seal,
        )


def _check_guesses(guesses: Guesses, canaries: Canaries, delta: float, level: float) -> None:
    """Refuse before a label is bought what would be refused after the last: by a trial on made-up scores."""
    epsilon_of_scores(np.arange(len(canaries)), canaries.inside, guesses, delta=delta, level=level)
    for there, what in ((canaries.inside, "in"), (~canaries.inside, "out")):
        if not there.any():
            raise InputError(f"canaries: the coins put none of {len(there)} {what}; make more of them")


def _content(rows: Any) -> str:
    """Return a hash of rows' values, whatever holds them: equal for equal values in equal order."""
    hashed = hashlib.sha256(str(count_rows(rows)).encode())
    for name, values in _columns(rows):
        array = to_numpy(values)
        plain = array.dtype.kind in "biuf"
        hashed.update(name.encode())
        hashed.update(np.ascontiguousarray(array).tobytes() if plain else repr(array.tolist()).encode())
    return hashed.hexdigest()


def _columns(rows: Any) -> list[tuple[str, Any]]:
    if isinstance(rows, Mapping):
        return [(str(name), values) for name, values in rows.items()]
    if is_frame(rows):
        return [(str(name), rows[name]) for name in column_names(rows)]
    return [("", rows.toarray() if hasattr(rows, "toarray") else rows)]
