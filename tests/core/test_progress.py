"""Progress bars: drawn on a terminal from the first moment, silent elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from labelleaks.core.progress import meter

CODE = """
from labelleaks.core.progress import meter
with meter(None, unit="kB") as (note, expect):
    expect(100)
    for _ in range(4):
        note("fetching", 25)
"""


def test_a_bar_is_drawn_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run([sys.executable, "-c", CODE], stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0, drawn
    assert "fetching" in drawn and "kB" in drawn


@pytest.mark.parametrize("wanted", [False, None])
def test_silent_where_nobody_watches(wanted: bool | None, capfd: pytest.CaptureFixture[str]) -> None:
    with meter(wanted) as (note, expect):
        expect(3)
        assert note is None
    assert capfd.readouterr().err == ""
