"""Replay: audits from a journal alone, canaries, noise that is not hidden; kill -9 at any moment, and the same bits."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import labelleaks as ll
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.journal import Journal
from labelleaks.core.oracle.journal_file import read
from labelleaks.core.types import Candidates
from labelleaks.targets import Http, wrap
from labelleaks.targets.probe import measure_noise
from tests.servers.faulty import Faulty, rows_of, truth
from tests.support import cli

X = rows_of(60)
Y = truth(X)


class Target:
    """A function of rows with a name of its own for a journal, that counts its rows."""

    fingerprint = "a target"

    def __init__(self, function: Callable[[Tensor], Tensor] = truth) -> None:
        self.function = function
        self.rows = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.function(x)


def arguments(**changes: Any) -> dict[str, Any]:
    given = {
        "members": (X[:30], Y[:30]), "nonmembers": (X[30:], Y[30:]), "attacks": ["gap", "noise", "boundary"],
        "classes": 3, "budget": 40, "thresholds": [], "show_progress": False,
    }  # fmt: skip
    return given | changes


def test_a_whole_audit_is_replayed_and_a_longer_one_is_refused(tmp_path: Path) -> None:
    first = ll.audit(Target(), **arguments(journal=tmp_path / "j", out=tmp_path / "first"))
    silent = Target()
    options = arguments(journal=tmp_path / "j", replay_only=True)
    again = ll.audit(silent, **options, out=tmp_path / "again")
    assert silent.rows == 0 and again == first
    assert (tmp_path / "again" / "record.json").read_bytes() == (tmp_path / "first" / "record.json").read_bytes()
    with pytest.raises(ll.InputError, match=r"no answer to \d+ of the \d+ rows of .*nothing was sent"):
        ll.audit(silent, **options | {"seed": 1})
    assert silent.rows == 0


def test_decisions_are_replayed_too(tmp_path: Path) -> None:
    target = Target()
    options: dict[str, Any] = {"attack": "gap", "classes": 3, "journal": tmp_path / "j", "show_progress": False}
    first = ll.infer(target, X, Y, **options)
    sent = target.rows
    again = ll.infer(target, X, Y, **options, replay_only=True)
    assert target.rows == sent and (again.member == first.member).all() and again.ledger.rows == 0


def test_replay_needs_a_journal_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(ll.InputError, match="replay_only needs the journal"):
        ll.audit(Target(), **arguments(replay_only=True))
    with pytest.raises(ll.InputError, match="no such file; there is nothing to replay"):
        ll.audit(Target(), **arguments(replay_only=True, journal=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


# --- what was on its way ----------------------------------------------------------------------------------------------


def test_rows_that_were_on_their_way_are_counted_when_they_are_sent_again(tmp_path: Path) -> None:
    def dies(x: Tensor) -> Tensor:
        if len(x) == 7:
            raise KeyboardInterrupt
        return truth(x)

    owner = torch.zeros(47, dtype=torch.int64)
    with Journal(tmp_path / "j", "t") as journal, pytest.raises(KeyboardInterrupt):
        Gate(dies, batch_rows=20, journal=journal).ask(X[:47], owner, "a.b", 1)
    held = read(tmp_path / "j")
    assert (len(held.keys), held.in_flight) == (40, 7)
    with Journal(tmp_path / "j", "t") as journal:
        gate = Gate(truth, batch_rows=20, journal=journal)
        gate.ask(X, torch.zeros(60, dtype=torch.int64), "a.b", 1)
        assert (gate.ledger.rows, gate.ledger.cached, gate.ledger.maybe_repaid) == (20, 40, 7)
    held = read(tmp_path / "j")
    assert (len(held.keys), held.in_flight) == (60, 0)


@pytest.mark.fault
def test_a_service_marks_no_more_than_it_can_have_on_its_way(tmp_path: Path) -> None:
    with Faulty(["html"] * 40) as server, Journal(tmp_path / "j", "t") as journal:
        options = Http(url=server.url, batch_rows=4, concurrency=3, retries=1, backoff=0.001)
        with wrap(options, numpy=True, classes=3) as target:
            gate = Gate(target, batch_rows=target.batch_rows, journal=journal)
            with pytest.raises(ll.TargetError):
                gate.ask(X, torch.zeros(60, dtype=torch.int64), "a.b", 1)
    assert gate.ledger.rows <= read(tmp_path / "j").in_flight <= 12


# --- canaries ---------------------------------------------------------------------------------------------------------


def service(server: Faulty) -> Http:
    return Http(url=server.url, batch_rows=16, concurrency=2, backoff=0.001)


def test_a_service_that_changed_is_refused_and_one_that_did_not_goes_on(tmp_path: Path) -> None:
    options = arguments(attacks=["gap"], journal=tmp_path / "j")
    with Faulty() as server:
        first = ll.audit(service(server), **options)
        sent = server.rows
        again = ll.audit(service(server), **options, out=tmp_path / "run")
        assert server.rows == sent + 8  # the canaries alone
        assert again == first
        log = json.loads((tmp_path / "run" / "run.json").read_text())
        assert log["canary_rows"] == 8 and log["maybe_repaid"] == 0
        ll.audit(service(server), **options, replay_only=True)
        assert server.rows == sent + 8

        working = server.reply
        server.reply = lambda document: {"predictions": [(y + 1) % 3 for y in working(document)["predictions"]]}  # type: ignore[method-assign]
        with pytest.raises(ll.InputError, match=r"8 of 8 rows .*new journal .*accept_changed=True"):
            ll.audit(service(server), **options)
        mixed = ll.audit(service(server), **options, accept_changed=True)
        assert any("old and new answers are mixed" in note for note in mixed.notes)
        new = ll.audit(service(server), **options | {"journal": tmp_path / "new"})
        assert not any("mixed" in note for note in new.notes)


# --- noise ------------------------------------------------------------------------------------------------------------


def noisy(share: float, seed: int = 0) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def answer(x: Tensor) -> Tensor:
        flipped = torch.rand(len(x), generator=generator) < share
        return torch.where(flipped, (truth(x) + 1) % 3, truth(x))

    return answer


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_noise_is_measured_with_one_pair_an_input(share: float) -> None:
    x = rows_of(200)
    gate = Gate(noisy(share))
    found = measure_noise(gate.setup_oracle("target"), Candidates(x, truth(x), ll.Box(0, 1), 3))
    assert found.asked == 64 and gate.ledger.setup == {"target.noise": 128}
    expected = 2 * share * (1 - share)
    assert abs(found.changed / 64 - expected) <= 4 * np.sqrt(expected * (1 - expected) / 64)


def test_a_noisy_target_is_flagged_with_an_interval_and_replayed_bit_for_bit(tmp_path: Path) -> None:
    options = arguments(allow_noisy=True, journal=tmp_path / "j")
    first = ll.audit(Target(noisy(0.2)), **options, out=tmp_path / "first")
    flag = next(flag for flag in first.flags if flag.name == "randomised_labels")
    assert "of 60 candidates: 0." in flag.raised_because and "[0." in flag.raised_because
    assert first.ledger.setup["target.noise"] == 120
    silent = Target()
    again = ll.audit(silent, **options, replay_only=True, out=tmp_path / "again")
    assert silent.rows == 0
    for file in ("record.json", "arrays.npz"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "first" / file).read_bytes()
    assert again == first


def test_a_quiet_target_is_measured_only_where_noise_is_allowed() -> None:
    plain = ll.audit(Target(), **arguments(attacks=["gap"]))
    asked = ll.audit(Target(), **arguments(attacks=["gap"], allow_noisy=True))
    assert "target.noise" not in plain.ledger.setup and asked.ledger.setup["target.noise"] == 120
    assert not any(flag.name == "randomised_labels" for flag in asked.flags)


# --- inputs kept out --------------------------------------------------------------------------------------------------


def test_without_inputs_nothing_of_the_candidates_is_on_disk(tmp_path: Path) -> None:
    made = ll.audit(Target(), **arguments(keep_inputs=False, out=tmp_path / "run", journal=tmp_path / "run.journal"))
    assert not made.holds_inputs
    rows = {row.tobytes() for row in X.numpy()}
    for file in [*(tmp_path / "run").iterdir(), tmp_path / "run.journal"]:
        content = file.read_bytes()
        assert not any(row in content for row in rows)
    with np.load(tmp_path / "run" / "arrays.npz") as arrays:
        sizes = {name: arrays[name].size for name in arrays.files if name.endswith("adversarial") or name == "inputs"}
        assert sizes == {}


def test_with_inputs_only_the_owner_can_read_them(tmp_path: Path) -> None:
    ll.audit(Target(), **arguments(attacks=["gap"], out=tmp_path / "run", journal=tmp_path / "run" / "answers.journal"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "run").iterdir()}
    assert len(modes) >= 6 and set(modes.values()) == {0o600}


def test_the_command_line_has_all_of_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", x=X[:30].numpy(), y=Y[:30].numpy())
    np.savez(tmp_path / "n.npz", x=X[30:].numpy(), y=Y[30:].numpy())
    np.savez(tmp_path / "answers.npz", x=X.numpy(), y=Y.numpy())
    common = [
        "audit", "--target", str(tmp_path / "answers.npz"), "--members", str(tmp_path / "m.npz"), "--nonmembers",
        str(tmp_path / "n.npz"), "--attacks", "gap", "--out", str(tmp_path / "run"), "--set",
        f"journal={tmp_path / 'j'}", "--quiet",
    ]  # fmt: skip
    missing = cli(*common, "--replay-only")
    assert missing.exit_code == 2 and "nothing to replay" in missing.output
    assert cli(*common, "--no-inputs").exit_code == 0
    assert not ll.load(tmp_path / "run").holds_inputs
    assert cli(*common, "--overwrite", "--replay-only", "--no-inputs").exit_code == 0
    for command in (["audit"], ["infer"], ["journal", "info"], ["journal", "export"], ["journal", "verify"]):
        assert cli(*command, "--help").exit_code == 0


KILLS = 5


@pytest.mark.kill
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("case", ["boundary/local", "guided/local", "boundary/service"])
def test_a_killed_audit_ends_with_the_same_bits(case: str) -> None:
    """Five moments; ``python -m benchmarks.kills`` has fifty of each audit."""
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", str(KILLS), "--only", case]
    root = Path(__file__).parents[3]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[0])
    assert found["same"] == [True, True]
    assert found["kills"] >= 3  # most were killed indeed, before they ended
    assert max(found["lost"]) <= found["bound"]
    assert (
        found["rows"] <= found["rows seen"] <= found["rows"] + KILLS * (found["bound"] + 8)
    )  # 8 canaries of a service
    assert 0 <= found["maybe_repaid"] <= found["bound"]
