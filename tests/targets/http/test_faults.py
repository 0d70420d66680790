"""The fault matrix: whatever a service does, no answer is lost, no row billed wrongly, no wrong label accepted."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.journal import Journal
from labelleaks.core.oracle.query_keys import keys_of
from labelleaks.errors import TargetError
from labelleaks.targets import Http, wrap
from tests.servers.faulty import FAULTS, RESTART, Faulty, rows_of, truth

pytestmark = pytest.mark.fault

X = rows_of(23)
ANYONE = torch.arange(23) % 5
SLOW = ("timeout", "slow drip")


def target_of(server: Faulty, **changes: Any) -> Any:
    options = {"url": server.url, "batch_rows": 4, "backoff": 0.001, "timeout": 5.0, **changes}
    return wrap(Http(**options), numpy=True, classes=3, width=3)


def books_are_right(gate: Gate, server: Faulty) -> None:
    """Every row that was billed was sent, every row that was sent is billed or counted as repeated."""
    ledger = gate.ledger
    assert ledger.rows + ledger.retries == server.rows
    assert ledger.calls == len(server.seen)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_a_retry_and_nothing_else(fault: str) -> None:
    timeout = 0.15 if fault in SLOW else 5.0
    with Faulty([None, fault], patience=1.0) as server, target_of(server, timeout=timeout) as target:
        gate = Gate(target, batch_rows=target.batch_rows)
        labels = gate.ask(X, ANYONE, "a.b", 5)
        assert labels.equal(truth(X))
        assert gate.ledger.candidates["a.b"].tolist() == torch.bincount(ANYONE, minlength=5).tolist()
        assert 0 < gate.ledger.retries <= (100 if fault in SLOW else 4)  # a busy machine may time out more often
        books_are_right(gate, server)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_ends_the_run_and_keeps_what_was_answered(fault: str, tmp_path: Path) -> None:
    timeout = 0.1 if fault in SLOW else 5.0
    with Journal(tmp_path / "j", "t") as journal:
        with (
            Faulty([None, None, *[fault] * 10], patience=0.5) as server,
            target_of(server, retries=1, concurrency=1, timeout=timeout) as target,
        ):
            gate = Gate(target, batch_rows=target.batch_rows, journal=journal)
            with pytest.raises(TargetError, match=r"gave no good answer for 4 rows after 2 tries: ") as caught:
                gate.ask(X, ANYONE, "a.b", 5)
            assert "in the journal" in caught.value.__notes__[0]
            assert gate.ledger.rows == 12  # two answered, one refused; what never went out is not billed
            assert gate.ledger.retries == 4
            books_are_right(gate, server)
            assert len(journal) == 8
        with Faulty() as server, target_of(server) as target:  # run again
            gate = Gate(target, batch_rows=target.batch_rows, journal=journal)
            assert gate.ask(X, ANYONE, "a.b", 5).equal(truth(X))
            assert (gate.ledger.rows, gate.ledger.cached, server.rows) == (15, 8, 15)


@pytest.mark.parametrize("fault", ["500", "429", "reset mid-body"])
def test_a_burst_of_faults_is_sat_out(fault: str) -> None:
    with Faulty([None, *[fault] * 5]) as server, target_of(server, concurrency=1) as target:
        gate = Gate(target, batch_rows=target.batch_rows)
        assert gate.ask(X, ANYONE, "a.b", 5).equal(truth(X))
        assert (gate.ledger.rows, gate.ledger.retries) == (23, 20)
        books_are_right(gate, server)


ANYTHING = (*FAULTS, RESTART)


@given(
    order=st.permutations([*ANYTHING, *[None] * 14]),
    burst=st.sampled_from(ANYTHING),
    batch=st.integers(1, 7),
    concurrency=st.integers(1, 5),
)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_faults_at_random_lose_nothing(order: list[str | None], burst: str, batch: int, concurrency: int) -> None:
    """A run is started again until it ends, as its user would; each answer is paid for once, repeats are counted.

    Every fault is in the list of every example, in another order, one of them four times in a row.
    """
    faults = [fault for one in order for fault in [one] * (4 if one == burst else 1)]
    with (
        tempfile.TemporaryDirectory() as folder,
        Faulty(faults, patience=0.4) as server,
        Journal(f"{folder}/j", "t") as journal,
    ):
        labels = None
        for _ in range(60):  # each start meets at least one fault of the list
            with target_of(server, batch_rows=batch, concurrency=concurrency, timeout=0.1) as target:
                labels = sitting(target, journal, server)
            if labels is not None:
                break
        assert labels is not None and labels.equal(truth(X))


def sitting(target: Any, journal: Journal, server: Faulty) -> torch.Tensor | None:
    """Ask for all of X, and look at the books: the labels, or None where the target failed."""
    gate = Gate(target, batch_rows=target.batch_rows, journal=journal)
    known = journal.lookup(keys_of(X)) >= 0
    requests, restarts = len(server.seen), server.back
    try:
        labels = gate.ask(X, ANYONE, "a.b", 5)
    except TargetError:
        labels = None
    recorded = journal.lookup(keys_of(X))
    assert ((recorded == truth(X)) | (recorded == -1)).all()  # no wrong label was accepted
    assert (recorded[known] >= 0).all() and gate.ledger.cached == int(known.sum())  # and no right one lost
    unread_most = target.window * (server.restarts - restarts)  # sent to a server that was about to go
    billed = gate.ledger.rows + gate.ledger.retries
    end = time.monotonic() + 10  # it reads what its client gave up, too
    while time.monotonic() < end and (
        server.back < server.restarts or sum(map(len, server.seen[requests:])) < billed - unread_most
    ):
        time.sleep(0.002)
    time.sleep(0.02 * bool(unread_most))
    seen = torch.tensor([row for rows in server.seen[requests:] for row in rows]).reshape(-1, X.shape[1])
    assert billed - unread_most <= len(seen) <= billed
    places = (seen[:, None] == X).all(2).any(0)
    assert not (places & known).any()  # what was answered before is not sent
    owners = torch.bincount(ANYONE[places], minlength=5)
    unread = gate.ledger.candidates.get("a.b", torch.zeros(5, dtype=torch.int64)) - owners
    assert (unread >= 0).all() and int(unread.sum()) <= unread_most  # each row billed once, to the one who asks for it
    return labels


def test_a_server_that_is_not_there_is_billed_nothing() -> None:
    server = Faulty()
    server.start()
    server.stop()
    with target_of(server, retries=2) as target:
        gate = Gate(target)
        with pytest.raises(TargetError, match=r"after 3 tries: the connection failed \(ClientConnectorError"):
            gate.ask(X, ANYONE, "a.b", 5)
        assert (gate.ledger.rows, gate.ledger.retries, gate.ledger.calls) == (0, 0, 0)


def test_a_server_that_restarts_is_waited_for() -> None:
    server = Faulty()
    server.start()
    with target_of(server, backoff=0.05, retries=8) as target:
        gate = Gate(target)
        assert gate.ask(X[:5], ANYONE[:5], "a.b", 5).equal(truth(X[:5]))
        server.stop()
        back = threading.Timer(0.3, server.start)
        back.start()
        try:
            assert gate.ask(X, ANYONE, "a.b", 5).equal(truth(X))
        finally:
            back.join()
            server.stop()
        assert gate.ledger.rows == 28
        assert server.rows <= 28 + gate.ledger.retries


def test_a_retry_after_holds_every_request_back() -> None:
    with Faulty(["429 retry-after"]) as server, target_of(server, concurrency=1, batch_rows=1) as target:
        assert target(X[:3]).equal(truth(X[:3]))
        assert server.times[1] - server.times[0] >= 0.02


def test_a_retry_after_beyond_the_limit_ends_the_run_at_once() -> None:
    with Faulty(["429 retry-after"]) as server, target_of(server, wait_most=0.01) as target:
        with pytest.raises(TargetError, match=r"429 .*; it asks to wait 0 s, wait_most is 0\.01"):
            target(X[:3])
        assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "mend"),
    [(401, "auth_env"), (403, "right"), (404, "url"), (413, "batch_rows"), (422, "shape"), (400, "")],
)
def test_what_will_not_pass_is_not_asked_again(status: int, mend: str) -> None:
    FAULTS["now"] = lambda handler, content: handler.send(status, b"told why")
    try:
        with Faulty(["now"] * 9) as server, target_of(server, concurrency=1) as target:
            with pytest.raises(TargetError, match=rf"answered {status} .*{mend}.*told why"):
                target(X)
            assert len(server.seen) == 1
    finally:
        del FAULTS["now"]


def test_an_answer_without_end_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelleaks.targets.http.attempt._MOST_BYTES", 10)
    with Faulty() as server, target_of(server, retries=0) as target, pytest.raises(TargetError, match="longer than 10"):
        target(X)


def test_an_interrupt_sends_nothing_more_and_keeps_the_books() -> None:
    with Faulty(latency=0.05) as server, target_of(server, batch_rows=1, concurrency=2) as target:
        gate = Gate(target, progress=lambda phase, rows: interrupt())
        answered = 0

        def interrupt() -> None:
            nonlocal answered
            answered += 1
            if answered == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            gate.ask(X, ANYONE, "a.b", 5)
        time.sleep(0.15)
        assert server.rows <= gate.ledger.rows <= 6
        assert target(X[:2]).equal(truth(X[:2]))  # and the target still works


def test_no_more_is_in_flight_than_was_allowed() -> None:
    """What a killed process may pay for twice: requests that were sent and are not in the books yet."""
    with Faulty() as server, target_of(server, batch_rows=2, concurrency=3) as target:
        noted = most = 0

        def note(event: Any) -> None:
            nonlocal noted, most
            if hasattr(event, "labels"):
                time.sleep(0.005)  # a slow disk
                most = max(most, len(server.seen) - noted)
                noted += 1

        target.deliver(X, note)
        assert noted == 12
        assert most <= 3


@pytest.mark.parametrize("fault", ["unknown label", "too few", "wrong shape", "nan", "redirect", "no labels"])
def test_a_service_that_answers_wrongly_is_asked_three_times_at_most(fault: str) -> None:
    with Faulty([fault] * 20) as server, target_of(server, retries=15, concurrency=1) as target:
        with pytest.raises(TargetError, match="after 3 tries"):
            target(X)
        assert len(server.seen) == 3


def test_after_a_failure_the_other_connections_stop() -> None:
    with Faulty(["no labels"], latency=0.02) as server:
        with target_of(server, retries=0, concurrency=4, batch_rows=1) as target, pytest.raises(TargetError):
            target(X)
        assert len(server.seen) <= 2 * 4  # what was under way, and what had begun before the failure was known
