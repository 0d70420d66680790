"""A private event loop that runs while somebody waits for it, in the thread of whoever waits."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from threading import RLock
from typing import Any

from labelleaks.core.oracle.remote import Answered, Observer, Sent

__all__ = ["Loop", "Work"]

Work = Callable[[Observer], Coroutine[Any, Any, None]]
"""Given whom to tell of what happens."""
_Events = queue.SimpleQueue[tuple[Sent | Answered, Future[None]] | None]


class Loop:
    """Runs one work at a time to its end; between two of them it stands still, and its connections with it.

    It runs in the caller's thread: what comes in is then taken in without waiting for another thread. Where a loop runs
    in that thread already (a notebook), it runs in a thread beside it, and notes are still made in the caller's.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._task: asyncio.Task[Any] | None = None
        self._turn = RLock()

    def run(self, work: Work, note: Observer) -> None:
        """Run ``work(note)``. An interrupt cancels the work, and is raised when that has ended."""
        with self._turn:
            if _runs_one_here():
                self._beside(work, note)
            else:
                self._here(work, note)

    def close(self) -> None:
        """End the loop."""
        with self._turn:
            if _runs_one_here():
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(self._runner.close).result()
            else:
                self._runner.close()

    def _here(self, work: Work, note: Observer) -> None:
        try:
            self._runner.run(self._awake(work, note))
        finally:
            if self._task is not None:  # somebody else's signal handler raised in the middle of the loop
                self._task.cancel()
                self._runner.run(_ended(self._task))

    async def _awake(self, work: Work, note: Observer) -> None:
        self._task = asyncio.current_task()
        try:
            await asyncio.sleep(0)  # what services closed while the loop stood still is noticed before it is used
            await work(note)
        finally:
            self._task = None

    def _beside(self, work: Work, note: Observer) -> None:
        events: _Events = queue.SimpleQueue()

        def across(event: Sent | Answered) -> None:
            noted: Future[None] = Future()
            events.put((event, noted))
            noted.result()

        with ThreadPoolExecutor(1, "labelleaks-http") as thread:
            done = thread.submit(self._here, work, across)
            done.add_done_callback(lambda _: events.put(None))
            try:
                _hear(events, note)
            except BaseException:  # an interrupt
                if (task := self._task) is not None:
                    self._runner.get_loop().call_soon_threadsafe(task.cancel)
                _hear(events, note)
                raise
            done.result()


def _runs_one_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


def _hear(events: _Events, note: Observer) -> None:
    while (item := events.get()) is not None:
        event, noted = item
        try:
            note(event)
        except BaseException as error:
            noted.set_exception(error)  # raised where the event was told
        else:
            noted.set_result(None)
