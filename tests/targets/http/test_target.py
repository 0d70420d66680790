"""A service as the target of an audit: the figures of the model at hand, priced, journalled, and no secret shown."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import labelleaks as ll
from labelleaks.core.oracle.gate import Gate
from labelleaks.core.oracle.journal import Journal
from labelleaks.core.oracle.remote import Remote
from labelleaks.errors import InputError, TargetError
from labelleaks.targets import Http, is_target, wrap
from tests.servers.faulty import FAULTS, Faulty, rows_of, truth

SECRET = "sk-hunter2hunter2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


def options(server: Faulty, **changes: Any) -> Http:
    return Http(**{"url": server.url, "batch_rows": 8, "backoff": 0.001, "timeout": 20.0, **changes})


def rows(n: int = 12) -> dict[str, Any]:
    x = rows_of(2 * n)
    y = truth(x)
    y[::4] = (y[::4] + 1) % 3  # some are misclassified
    return {
        "members": (x[:n].numpy(), y[:n].numpy()), "nonmembers": (x[n:].numpy(), y[n:].numpy()), "classes": 3,
        "attacks": ["gap", "boundary"], "budget": 40, "thresholds": [], "show_progress": False,
    }  # fmt: skip


@pytest.mark.fault
def test_an_audit_of_a_service_is_the_audit_of_its_model(tmp_path: Path) -> None:
    local = ll.audit(lambda x: truth(torch.as_tensor(x)).numpy(), **rows())
    with Faulty(["500", None, "too few", "reset"]) as server:
        remote = ll.audit(options(server, price_per_row=0.5, price_per_request=2.0), **rows(), out=tmp_path / "run")
        assert server.rows > 24
        for name, result in local.attacks.items():
            assert (remote[name].scores == result.scores).all()
            assert (remote[name].queries == result.queries).all()
        run = json.loads((tmp_path / "run" / "run.json").read_text())
        assert remote.ledger.rows - run["cached"] + run["retries"] == server.rows
        assert run["retries"] > 0
        assert run["cost"] == 0.5 * server.rows + 2.0 * len(server.seen)
        assert remote.target["kind"] == "http" and remote.target["name"] == server.url

        before = server.rows  # the journal lies beside the record: the same run again asks whether the target changed
        assert (tmp_path / "run" / "answers.journal").exists()
        again = ll.audit(options(server), **rows(), out=tmp_path / "run", overwrite=True)
        canaries = json.loads((tmp_path / "run" / "run.json").read_text())["canary_rows"]
        assert server.rows == before + canaries and 0 < canaries <= 8
        assert (again["boundary"].scores == remote["boundary"].scores).all()


@pytest.mark.fault
def test_a_run_that_failed_goes_on_where_it_stopped(tmp_path: Path, cache: Path) -> None:
    with Faulty([None] * 12 + ["500"] * 100) as server:
        with pytest.raises(TargetError, match="answered 500") as caught:
            ll.audit(options(server, retries=2), **rows())
        assert any("in the journal" in note for note in caught.value.__notes__)
        paid = 8 * 12
        assert server.rows <= paid + 4 * 3 * 8
        server.faults.clear()
        server.seen.clear()
        record = ll.audit(options(server, retries=2), **rows())
        assert len(list((cache / "labelleaks" / "journals").glob("*.journal"))) == 1
        assert record.ledger.rows > server.rows  # what was paid for was not asked again
        whole = ll.audit(lambda x: truth(torch.as_tensor(x)).numpy(), **rows())
        assert (record["boundary"].scores == whole["boundary"].scores).all()


def test_the_seconds_and_the_price_are_forecast() -> None:
    with Faulty() as server:
        given = {name: value for name, value in rows().items() if name != "show_progress"}
        found = ll.forecast(options(server, price_per_request=0.25, rate=1000.0), **given)
        assert found.cost == (-(-found.rows // 8) * 0.25, found.rows * 0.25)
        assert found.seconds is not None and 0 < found.seconds[0] <= found.seconds[1]
        assert found.seconds[0] >= found.rows / 8 / 1000.0
        sent = server.rows
        assert ll.forecast(options(server), **given, probe=False).seconds is None
        assert server.rows == sent
    assert ll.forecast(lambda x: x[:, 0] > 0.5, **{**given, "classes": 3}, probe=False).cost is None


def test_it_is_a_target() -> None:
    with Faulty() as server, wrap(options(server), numpy=True, classes=3, width=3) as target:
        assert is_target(target) and isinstance(target, Remote)
        assert target.batch_rows == 8 * 4 * 16
        json.dumps(target.describe(), allow_nan=False)
        x = rows_of(40)
        assert target(x).equal(truth(x))
        assert target(x[:1]).equal(truth(x[:1]))
        with pytest.raises(InputError, match="NaN"):
            target(torch.full((2, 3), float("nan")))
    assert target(torch.empty(0, 3)).shape == (0,)


def test_a_target_works_without_being_opened_and_after_it_was_closed() -> None:
    with Faulty() as server:
        target = wrap(options(server), numpy=True, classes=3, width=3)
        x = rows_of(20)
        for _ in range(2):
            assert target(x).equal(truth(x))
            with target, target:
                assert target(x).equal(truth(x))


def test_connections_are_used_again() -> None:
    with Faulty() as server, wrap(options(server, batch_rows=1, concurrency=2), numpy=True, classes=3) as target:
        ports: set[int] = set()
        arrived = server.arrived
        server.arrived = lambda handler, content: (ports.add(handler.client_address[1]), arrived(handler, content))[1]  # type: ignore[method-assign]
        target(rows_of(30))
        target(rows_of(30, seed=1))
        assert len(server.seen) == 60 and len(ports) <= 2


def test_a_label_map_stands_between() -> None:
    with Faulty() as server:
        x = rows_of(20)
        target = wrap(options(server, label_map={0: "c", "1": "a", 2: "b"}), numpy=True, classes=["a", "b", "c"])
        assert [target.classes.names[code] for code in target(x).tolist()] == [
            "cab"[code] for code in truth(x).tolist()
        ]
        short = wrap(options(server, label_map={0: "c", 1: "a"}, retries=0), numpy=True, classes=["a", "b", "c"])
        with pytest.raises(TargetError, match="it answers '2', which label_map does not name"):
            short(x)
        with pytest.raises(InputError, match="label_map"):
            wrap(options(server, label_map={0: "dog"}), numpy=True, classes=["a", "b", "c"])
        with pytest.raises(InputError, match="named twice"):
            wrap(options(server, label_map={0: "a", "0": "b"}), numpy=True, classes=["a", "b", "c"])
        scores = wrap(
            options(server, label_map={0: "a", 1: "b", 2: "c"}, retries=0), numpy=True, classes=["a", "b", "c"]
        )
        server.reply = lambda document: {"predictions": [[0.5, 0.5]] * len(document["instances"])}
        with pytest.raises(TargetError, match="label_map maps labels"):
            scores(x)


@pytest.mark.fault
def test_classes_that_were_only_inferred_are_closed_for_a_service() -> None:
    given = rows()
    del given["classes"]
    with (
        Faulty([None] * 3 + ["unknown label"] * 99) as server,
        pytest.raises((TargetError, InputError), match="none of the"),
    ):
        ll.audit(options(server, retries=0), **given)


def test_what_does_not_fit_a_service_is_refused() -> None:
    with Faulty() as server:
        with pytest.raises(InputError, match="preprocess does not apply to a service"):
            wrap(options(server), numpy=True, classes=3, preprocess=lambda x: x)
        with pytest.raises(InputError, match="torch targets only"):
            wrap(options(server), numpy=True, classes=3, device="cpu")
        assert wrap(options(server), numpy=True, classes=3, batch_rows=5).options.batch_rows == 5
        with pytest.raises(InputError, match="columns: 1 names"):
            wrap(Http(url=server.base + "/invocations", columns=["a"]), numpy=True, classes=3)(rows_of(3))
        assert server.seen == []


def test_the_fingerprint_is_what_decides_the_answers() -> None:
    def of(**changes: Any) -> str:
        return wrap(Http(**{"url": "http://h/invocations", **changes}), numpy=True, classes=3).fingerprint

    same = [{}, {"rate": 3.0}, {"batch_rows": 3}, {"auth_env": "TOKEN"}, {"price_per_row": 1.0}, {"timeout": 2}]
    other = [{"url": "http://g/invocations"}, {"columns": ["a"]}, {"fingerprint": "v2"}, {"label_map": {"a": 1}}]
    assert len({of(**changes) for changes in same}) == 1
    assert len({of(**changes) for changes in [{}, *other]}) == len(other) + 1


@pytest.mark.fault
def test_no_secret_is_written_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    caplog.set_level(logging.DEBUG)
    with Faulty(["500"]) as server:
        target = options(server, auth_env="TOKEN")
        ll.audit(target, **rows(), out=tmp_path / "run")
        assert {headers["authorization"] for headers in server.headers} == {f"Bearer {SECRET}"}
        assert SECRET not in repr(target) + caplog.text
        for path in tmp_path.rglob("*"):
            assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path
        # a server that repeats what it was sent, in its answer, its status and its redirect
        echo = " ".join(["x" * 150, SECRET, json.dumps(SECRET)]).encode()
        for status in (400, 500, 200):
            monkeypatch.setitem(FAULTS, "echo", lambda handler, content, s=status: handler.send(s, echo))
            server.faults = ["echo"] * 9
            with pytest.raises(TargetError) as caught:
                wrap(options(server, auth_env="TOKEN", retries=0), numpy=True, classes=3)(rows_of(3))
            shown = (
                str(caught.value)
                + str(caught.value.__cause__)
                + str(caught.value.__notes__ if hasattr(caught.value, "__notes__") else "")
            )
            assert "hunter" not in shown and "xxx" in shown
        monkeypatch.setitem(
            FAULTS, "echo", lambda handler, content: handler.send(302, b"", {"Location": f"http://e/{SECRET}?{SECRET}"})
        )
        with pytest.raises(TargetError, match=r"redirect to http://e/\*\*\*;") as caught:
            wrap(options(server, auth_env="TOKEN", retries=0), numpy=True, classes=3)(rows_of(3))
        assert "hunter2" not in str(caught.value)


def test_a_secret_that_is_missing_is_said_before_anything_is_sent() -> None:
    with Faulty() as server:
        with pytest.raises(InputError, match="NO_SUCH_TOKEN is not set"):
            ll.audit(options(server, auth_env="NO_SUCH_TOKEN"), **rows())
        assert server.seen == []


def test_pictures_are_asked_about_as_they_are_measured(tmp_path: Path) -> None:
    """An image API: the distances are those between pictures that were really sent."""
    import base64
    import io

    def shown(document: Any) -> list[Any]:
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in document["images"]]

    with Faulty() as server:
        server.rows_of = lambda document: document["images"]
        server.reply = lambda document: {
            "found": [{"name": "dark" if p.mean() < 128 else "light"} for p in shown(document)]
        }
        x = np.random.default_rng(0).integers(0, 256, (20, 1, 5, 5)).astype(np.float32) / np.float32(255)
        y = np.where(np.rint(x * 255).mean((1, 2, 3)) < 128, "dark", "light")
        target = Http(
            url=server.base + "/any", protocol="template", template='{"images": {{ images | tojson }}}',
            label="found[*].name", pictures="png", batch_rows=8,
        )  # fmt: skip
        record = ll.audit(
            target, members=(x[:10], y[:10]), nonmembers=(x[10:], y[10:]), classes=["dark", "light"],
            attacks=["gap", "boundary"], budget=60, thresholds=[], show_progress=False,
        )  # fmt: skip
    assert record.domain["levels"] == 256
    found = record["boundary"]
    asked = {picture.tobytes() for body in server.bodies for picture in shown(json.loads(body))}
    adversarial = np.rint(found.details["adversarial"].reshape(20, 5, 5) * 255).astype(np.uint8)
    done = np.isin(found.status, (int(ll.Status.DONE), int(ll.Status.BUDGET)))
    assert done.sum() > 10
    assert all(picture.tobytes() in asked for picture in adversarial[done])


def test_the_gate_keeps_the_journal_of_a_service(tmp_path: Path) -> None:
    x = rows_of(20)
    with (
        Faulty() as server,
        Journal(tmp_path / "j", "t") as journal,
        wrap(options(server), numpy=True, classes=3) as target,
    ):
        gate = Gate(target, batch_rows=10, journal=journal)
        for _ in range(2):
            assert gate.ask(x, torch.zeros(20, dtype=torch.int64), "a.b", 1).equal(truth(x))
        assert (gate.ledger.rows, gate.ledger.cached, gate.ledger.calls, server.rows) == (20, 20, 4, 20)
