"""Processes that do whole worlds. Each is a fresh interpreter that is told world after world on standard input.

When whoever started it goes away, its input ends, and it ends at once: nobody is left behind to do a stage that a new
run does too.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import IO, Any

from labelleaks.errors import LabelLeaksError
from labelleaks.experiments.runner import Options, Plan, plan, run_world
from labelleaks.experiments.spec import load_reproduction

__all__ = ["run_beside", "serve"]

Say = Callable[[str], None]


class WorkerError(LabelLeaksError, RuntimeError):
    """A process that did stages failed; its own words are in the message."""

    exit_code = 3


def run_beside(found: Plan, worlds: Sequence[str], jobs: int, *, say: Say) -> int:
    """Do ``worlds`` in ``jobs`` processes. Returns how many stages were done."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in worlds:
        waiting.put(name)
    told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    helpers = [_start() for _ in range(jobs)]
    try:
        for helper in helpers:
            threading.Thread(target=_feed, args=(helper, found, waiting, told), daemon=True).start()
        done, busy = 0, jobs
        while busy:
            kind, content = told.get()
            if kind == "say":
                say(content)
            elif kind == "done":
                done += content
            elif kind == "failed":
                raise WorkerError(content)
            else:
                busy -= 1
        return done
    finally:
        for helper in helpers:
            helper.kill()
            helper.wait()
            for pipe in (helper.stdin, helper.stdout):
                if pipe is not None:
                    pipe.close()


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "labelleaks.experiments.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _feed(helper: subprocess.Popen[str], found: Plan, waiting: Any, told: Any) -> None:
    """Give a helper one world after the other, and pass on what it says."""
    assert helper.stdin is not None and helper.stdout is not None
    home = found.reproduction
    start = {"name": home.name, "profile": home.profile, "folder": str(home.folder.parent)}
    try:
        print(json.dumps(start | {"options": asdict(found.options)}), file=helper.stdin, flush=True)
        while True:
            try:
                world = waiting.get_nowait()
            except queue.Empty:
                told.put(("end", None))
                return
            print(json.dumps(world), file=helper.stdin, flush=True)
            for line in helper.stdout:
                kind, content = json.loads(line)
                told.put((kind, content))
                if kind != "say":
                    break
            else:
                raise OSError("it ended")
    except (OSError, ValueError) as error:
        told.put(("failed", f"a process that did stages is gone: {error}; run again, what is finished is kept"))


def serve(source: IO[str], answers: IO[str]) -> None:
    """Do the worlds that ``source`` names, until it ends."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in source:
            lines.put(line)
        os._exit(1)

    def tell(kind: str, content: Any) -> None:
        print(json.dumps([kind, content]), file=answers, flush=True)

    threading.Thread(target=listen, daemon=True).start()
    start = json.loads(lines.get())
    try:
        options = dict(start["options"])
        options["only"] = None if options["only"] is None else tuple(options["only"])
        found = plan(load_reproduction(start["name"], start["profile"], start["folder"]), Options(**options))
        worlds = {of.world.name: of for of in found.worlds}
        while True:
            of = worlds[json.loads(lines.get())]
            tell("done", run_world(found, of, say=lambda text: tell("say", text)))
    except LabelLeaksError as error:
        tell("failed", str(error))


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
