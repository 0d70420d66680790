"""Worker process of the local engine: a fresh interpreter that gets tasks as lines of JSON, and arrays as files.

So it never imports the user's script. When whoever started it goes away its input ends, and it ends at once: nobody is
left behind to do what a new run does too.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO, Any

import safetensors.torch

from labelleaks.engine.task import Failure, Shared, perform
from labelleaks.errors import LabelLeaksError

__all__ = ["main", "place", "serve"]


def place(folder: Path, key: str) -> Path:
    """Return where shared arrays lie for helpers."""
    return folder / f"{key}.safetensors"


class _LineWatch:
    """A watch that writes lines."""

    def __init__(self, answers: IO[str]) -> None:
        self._answers = answers

    def line(self, *content: Any) -> None:
        print(json.dumps(content), file=self._answers, flush=True)

    def note(self, what: str, count: int) -> None:
        self.line("note", what, count)

    def part(self, share: float) -> None:
        return None


def main() -> None:
    """Serve on standard input and output; whatever else prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Path(sys.argv[1]), sys.stdin, answers)


def serve(folder: Path, source: IO[str], answers: IO[str]) -> None:
    """Do the tasks of ``source`` until it ends; ``folder`` holds what they share and gets the arrays they find."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in source:
            lines.put(line)
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    watch = _LineWatch(answers)
    contents: dict[str, Shared] = {}
    while True:
        asked = json.loads(lines.get())
        for key in asked["shared"].values():
            if key not in contents:
                contents[key] = Shared(safetensors.torch.load_file(place(folder, key)))
        shared = {name: contents[key] for name, key in asked["shared"].items()}
        try:
            result = perform(asked["work"], asked["spec"], shared, asked["threads"], watch)
        except LabelLeaksError as error:
            failure = Failure.of(error)
            watch.line("failed", failure.kind, failure.message, failure.notes)
            continue
        if result.arrays:
            arrays = {name: value.contiguous() for name, value in result.arrays.items()}
            safetensors.torch.save_file(arrays, asked["out"])
        watch.line("done", result.value, bool(result.arrays))
