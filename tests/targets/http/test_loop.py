"""Where the requests of a service are made from: the caller's own thread, whatever else runs there."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest
import torch

from labelleaks.core.oracle.gate import Gate
from labelleaks.targets import Http, wrap
from tests.servers.faulty import Faulty, rows_of, truth

X = rows_of(40)
ANYONE = torch.zeros(40, dtype=torch.int64)


def target_of(server: Faulty, **changes: Any) -> Any:
    return wrap(Http(**{"url": server.url, "batch_rows": 4, "backoff": 0.001, **changes}), numpy=True, classes=3)


def seen_from(target: Any) -> set[int]:
    """Ask for everything; the threads that books were kept in."""
    threads: set[int] = set()
    gate = Gate(target, progress=lambda phase, rows: threads.add(threading.get_ident()))
    assert gate.ask(X, ANYONE, "a.b", 1).equal(truth(X))
    assert gate.ledger.rows == len(X)
    return threads


def test_no_other_thread_is_needed() -> None:
    with Faulty() as server, target_of(server) as target:
        assert seen_from(target) == {threading.get_ident()}
        assert not [thread for thread in threading.enumerate() if "labelleaks" in thread.name]


def test_where_a_loop_runs_already_books_are_kept_in_its_thread_too() -> None:
    async def notebook() -> None:
        with target_of(server) as target:
            assert seen_from(target) == {threading.get_ident()}
        assert seen_from(target_of(server)) == {threading.get_ident()}

    with Faulty() as server:
        asyncio.run(notebook())
        with target_of(server) as target:  # opened in one, used in the other
            assert seen_from(target) == {threading.get_ident()}

            async def later() -> None:
                seen_from(target)

            asyncio.run(later())
            seen_from(target)


def test_two_threads_may_ask_at_a_time() -> None:
    with Faulty(latency=0.002) as server, target_of(server) as target:
        found: list[torch.Tensor] = []
        threads = [threading.Thread(target=lambda: found.append(target(X))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 3 and all(labels.equal(truth(X)) for labels in found)


class Broken(Exception):
    """Of somebody's books."""


@pytest.mark.parametrize("notebook", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, Broken])
@pytest.mark.parametrize("event", ["Sent", "Answered"])
def test_books_that_cannot_be_kept_end_the_call(notebook: bool, error: type[BaseException], event: str) -> None:
    noted: list[str] = []

    def note(what: Any) -> None:
        noted.append(type(what).__name__)
        if noted.count(event) == 5:
            raise error

    async def call() -> None:
        target.deliver(X, note)

    with Faulty(latency=0.005) as server, target_of(server, concurrency=2) as target:
        with pytest.raises(error):
            asyncio.run(call()) if notebook else target.deliver(X, note)
        time.sleep(0.05)
        assert len(server.seen) <= noted.count("Sent") < 10
        seen = len(server.seen)
        assert target(X).equal(truth(X)) and len(server.seen) == seen + 10


@pytest.mark.fault
@pytest.mark.parametrize("handled", ["by Python", "by somebody else"])
def test_an_interrupt_is_raised_at_once_and_nothing_more_is_sent(handled: str) -> None:
    def raises(*_: Any) -> None:
        raise KeyboardInterrupt

    def interrupts(server: Faulty) -> None:
        while server.sleeping < 2:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, raises if handled == "by somebody else" else signal.default_int_handler)
    try:
        with Faulty(["timeout"] * 9, patience=60.0) as server, target_of(server, concurrency=2) as target:
            threading.Thread(target=interrupts, args=[server], daemon=True).start()
            with pytest.raises(KeyboardInterrupt):
                target(X)
            assert server.sleeping == len(server.seen) == 2  # it was not waited for
            server.faults.clear()
            assert target(X).equal(truth(X)) and len(server.seen) == 12
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_connection_that_was_closed_between_two_calls_is_not_used_again() -> None:
    """The loop stands still between them: no row goes out on a dead connection, none is sent twice."""
    with Faulty() as server, target_of(server, retries=0) as target:
        for _ in range(3):
            gate = Gate(target)
            assert gate.ask(X, ANYONE, "a.b", 1).equal(truth(X))
            assert (gate.ledger.rows, gate.ledger.retries) == (40, 0)
            server.hang_up()
        assert server.rows == 120
