"""Whatever a file holds: a result or one clear line, no hang, nothing written elsewhere (``make fuzz`` goes on)."""

from __future__ import annotations

import random

import pytest
from fuzz.harness import HARNESSES, SEEDS, damaged
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("name", HARNESSES)
def test_whole_files_are_read(name: str) -> None:
    for content in SEEDS[name]:
        HARNESSES[name](content)


@pytest.mark.parametrize("name", HARNESSES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_damaged_files_are_read_or_refused(name: str, seed: int) -> None:
    HARNESSES[name](damaged(name, random.Random(seed)))


@pytest.mark.parametrize("name", HARNESSES)
@given(content=st.binary(max_size=200))
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
def test_any_bytes_are_read_or_refused(name: str, content: bytes) -> None:
    HARNESSES[name](content)


def test_the_harness_sees_what_is_written_elsewhere(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    outside = tmp_path / "outside"
    monkeypatch.setattr("fuzz.harness.read", lambda path: outside.write_text("leak"))
    with pytest.raises(AssertionError, match="outside"):
        HARNESSES["journal"](b"")


def test_the_harness_sees_a_long_or_nameless_error(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from labelleaks.errors import InputError

    for text in ("two\nlines", "no name"):

        def refuse(path: object, text: str = text) -> None:
            raise InputError(text)

        monkeypatch.setattr("fuzz.harness.read", refuse)
        with pytest.raises(AssertionError):
            HARNESSES["journal"](b"")


def test_the_harness_sees_what_never_ends(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def endless(path: object) -> None:
        while True:
            pass

    monkeypatch.setattr("fuzz.harness.read", endless)
    monkeypatch.setattr("fuzz.harness.SECONDS", 0.05)
    with pytest.raises(AssertionError, match="not done"):
        HARNESSES["journal"](b"")
