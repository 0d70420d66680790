"""The page: one file, equal bytes, nothing from data runs, and the first sentence never says more than the record."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import stat
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from labelleaks import attacks as attacks_by_name
from labelleaks.auditing.record import AuditRecord, RunLog, load
from labelleaks.auditing.report import asset, charts, pictures, record_html, render, write_report
from labelleaks.auditing.report.exposed import json_for_script
from labelleaks.auditing.report.svg import Axis, Chart
from labelleaks.auditing.report.wording import about, figure, headline, number, percent, setup_rows
from labelleaks.core.attack import About
from labelleaks.core.types import Status
from labelleaks.errors import InputError
from labelleaks.metrics import Estimate
from tests.record_fixture import make_record

HOSTILE = '</script><script>alert("x")</script><img src=x onerror=alert(1)> & <!-- \u2028 \'"'


class Page(HTMLParser):
    """Tags with their attributes, the text outside scripts and styles, and the scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)
            self.scripts += [""] if tag == "script" else []

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data
        elif self._inside[-1] == "script":
            self.scripts[-1] += data

    def words(self) -> str:
        return " ".join(self.text.split())

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


@pytest.fixture(scope="module")
def record() -> AuditRecord:
    return make_record(n=120)


def test_two_reports_of_the_same_run_are_equal(record: AuditRecord, tmp_path: Path) -> None:
    saved = record.save(tmp_path / "run")
    assert render(record) == render(load(saved)) == render(make_record(n=120))
    one, two = write_report(record, tmp_path / "one"), write_report(load(saved), tmp_path / "two" / "page.html")
    assert one.name == "report.html" and one.read_bytes() == two.read_bytes()
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    run = RunLog(started="2026-01-01T00:00:00+00:00", seconds=12.3, host="somewhere")
    assert "12.3 s" in render(record, run) and "somewhere" not in render(record)


def test_the_page_asks_the_network_for_nothing(record: AuditRecord) -> None:
    html = render(record)
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "poster", "data", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
    assert not re.search(r"url\(|@import|https?://", html)


def test_content_policy_names_the_hashes_of_what_is_there(record: AuditRecord) -> None:
    html = render(record)
    policy = next(a["content"] or "" for t, a in Page(html).tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    for kind, text in (("script", Page(html).scripts[-1]), ("style", html.split("<style>")[1].split("</style>")[0])):
        wanted = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{wanted}'" in policy


def test_everything_from_data_is_text(record: AuditRecord) -> None:
    r = record["gap"]
    threshold = replace(r.threshold, source=HOSTILE, objective=HOSTILE)
    decisions = (replace(r.evaluation.decisions[0], threshold=threshold), *r.evaluation.decisions[1:])
    named = replace(r, name=HOSTILE, spec={HOSTILE: HOSTILE}, evaluation=replace(r.evaluation, decisions=decisions))
    flag = replace(record.flags[0], name=HOSTILE, raised_because=HOSTILE, meaning=HOSTILE, what_to_do=HOSTILE)
    hostile = replace(
        record,
        name=HOSTILE,
        ids=tuple(f"{HOSTILE}{i}" for i in range(len(record))),
        classes=(HOSTILE,) * len(record.classes),
        target={"name": HOSTILE, "fingerprint": HOSTILE},
        spec={"attacks": [HOSTILE, "b"], "budget": HOSTILE},
        versions={HOSTILE: HOSTILE, "labelleaks": HOSTILE},
        notes=(HOSTILE,),
        flags=(flag, replace(flag, severity=HOSTILE)),
        attacks={HOSTILE: named, "boundary": record["boundary"]},
        ledger=replace(record.ledger, setup={HOSTILE: 3}, candidates={HOSTILE: 5}),
        comparisons=(replace(record.comparisons[0], first=HOSTILE, second=HOSTILE),),
        complete=False,
    )
    html = render(hostile)
    page, plain = Page(html), Page(render(record))
    assert len(page.scripts) == len(plain.scripts) == 2
    assert "<img src=x" not in html and not [a for _, a in page.tags if "onerror" in a]
    assert page.scripts[-1] == plain.scripts[-1]
    assert not re.search(r"</|<!--|\u2028", page.scripts[0])
    assert page.data["ids"][7] == f"{HOSTILE}7" and page.data["classes"][0] == HOSTILE
    assert HOSTILE.split("\u2028")[0].strip() in page.text
    everything = [t for t, _ in page.tags]
    assert set(everything) <= {t for t, _ in plain.tags} | {"section", "strong"}


def test_json_in_a_script_cannot_end_it() -> None:
    text = json_for_script({"a": [HOSTILE, "\u2029", "\ud800"]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)["a"][0] == HOSTILE


def test_the_table_holds_the_record(record: AuditRecord) -> None:
    data = Page(render(record)).data
    assert data["ids"] == list(record.ids) and data["member"] == record.member.astype(int).tolist()
    for found, (name, r) in zip(data["attacks"], record.attacks.items(), strict=True):
        assert found["name"] == name
        np.testing.assert_allclose(found["score"], r.scores, rtol=1e-5)
        np.testing.assert_allclose(found["fpr"], record.fpr_needed(name), rtol=1e-5)
        assert found["queries"] == r.queries.tolist() and found["decided"] == r.decided.astype(int).tolist()


def test_every_figure_is_the_records(record: AuditRecord) -> None:
    words = Page(render(record)).words()
    for r in record.attacks.values():
        assert r.auc.low is not None and r.auc.high is not None
        assert f"{r.auc.value:.3f} {r.auc.low:.3f}–{r.auc.high:.3f}" in words
        assert r.threshold.source in words
    assert f"{record.ledger.rows:,} labels" in words
    for flag in record.flags:
        assert flag.raised_because in words and flag.what_to_do in words
    assert "0.1 % FPR needs at least 1" in words  # why there is no figure
    assert "not for the recipe" in words


# --- the sentence on top ---------------------------------------------------------------------------------------------


def _with(record: AuditRecord, *, auc: tuple[float, float, float], tpr: dict[float, Estimate]) -> AuditRecord:
    """A record of one attack with these figures."""
    r = record["boundary"]
    nothing = Estimate(None, reason="too few")
    rates = {fpr: tpr.get(fpr, nothing) for fpr in (0.1, 0.01, 0.001)}
    ranking = replace(r.evaluation.ranking, auc=Estimate(*auc), tpr_at_fpr=rates)
    evaluation = replace(r.evaluation, ranking=ranking)
    return replace(record, attacks={"boundary": replace(r, evaluation=evaluation)})


def test_strong_leak_is_told_at_one_percent(record: AuditRecord) -> None:
    found = headline(_with(record, auc=(0.74, 0.71, 0.77), tpr={0.01: Estimate(0.31, 0.25, 0.37)}))
    assert found.level == "strong" and found.fpr == 0.01
    assert "up to 500 times per record can pick out 31\u00a0% (25 to 37\u00a0%)" in found.sentence
    assert "wrongly accusing 1\u00a0% of other records" in found.sentence
    assert any("Its price: 500 labels" in line for line in found.more)


def test_an_unstable_rate_is_never_the_headline(record: AuditRecord) -> None:
    shaky = Estimate(0.9, 0.8, 0.95, unstable=True)
    found = headline(_with(record, auc=(0.66, 0.6, 0.7), tpr={0.01: shaky, 0.1: Estimate(0.3, 0.2, 0.4)}))
    assert found.fpr == 0.1 and "30\u00a0% (20 to 40\u00a0%)" in found.sentence and found.level == "leak"


def test_a_leak_without_a_good_rate_is_told_by_pairs(record: AuditRecord) -> None:
    found = headline(_with(record, auc=(0.58, 0.54, 0.62), tpr={0.1: Estimate(0.12, 0.07, 0.18)}))
    assert found.level == "leak" and found.fpr is None
    assert "58\u00a0% (54 to 62\u00a0%) of such pairs; guessing is right in 50\u00a0%" in found.sentence


def test_no_leak_is_told_with_what_is_not_excluded(record: AuditRecord) -> None:
    found = headline(_with(record, auc=(0.51, 0.47, 0.55), tpr={0.1: Estimate(0.12, 0.07, 0.18)}))
    assert found.level == "none" and found.label == "No leak found"
    assert "not proof of safety" in found.more[0] and "55\u00a0%" in found.more[0]


def test_no_leak_in_random_scores() -> None:
    assert headline(make_record(n=300, leak=0.0)).level == "none"


def test_small_groups_get_no_figure() -> None:
    found = headline(make_record(n=12))
    assert found.level == "unknown" and "12 training records" in found.sentence
    assert "%" not in found.sentence


def test_only_the_gap_is_said(record: AuditRecord) -> None:
    r = record["gap"]
    inner = replace(r.evaluation.given_correct, auc=Estimate(0.5, 0.46, 0.54))
    only = replace(record, attacks={"gap": replace(r, evaluation=replace(r.evaluation, given_correct=inner))})
    found = headline(only)
    assert "for a label once per record" in found.sentence
    assert any("no more than the model’s accuracy gap" in line for line in found.more)


def test_incomplete_runs_say_so(record: AuditRecord) -> None:
    part = replace(record, attacks={"gap": record["gap"]}, comparisons=(), complete=False)
    words = Page(render(part)).words()
    assert "This run is incomplete." in words
    assert "Not finished: noise, augmentation, boundary and transfer." in words
    nothing = Page(render(replace(part, attacks={}))).words()
    assert "No attack was finished" in nothing


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_tiny_groups_render(n: int) -> None:
    assert "</html>" in render(make_record(n=n))


def test_constant_scores_render(record: AuditRecord) -> None:
    r = record["noise"]
    same = replace(r, scores=np.zeros(len(record)), status=np.zeros(len(record), dtype=np.int64))
    assert "</html>" in render(replace(record, attacks={"noise": same}))


def test_no_inputs_no_pictures(record: AuditRecord) -> None:
    assert "data:image/png" in render(record)
    bare = render(record.without_inputs())
    assert "data:image/png" not in bare.replace("img-src data:", "") and "Non-members as high" in bare
    assert "data:image/png" not in render(make_record(n=60, images=False))


def test_exposed_are_members_called_members_by_exposure(record: AuditRecord) -> None:
    html = render(record)
    shown = re.findall(r"<figcaption><b>([^<]+)</b>", html)
    needed = record.fpr_needed("boundary")
    at = [record.ids.index(i) for i in shown]
    assert len(at) == 12 and [needed[i] for i in at] == sorted(needed[i] for i in at)
    r = record["boundary"]
    assert all(record.member[i] and r.decided[i] and r.status[i] == Status.DONE for i in at)
    assert needed[at[-1]] <= min(
        needed[i] for i in np.flatnonzero(record.member & r.decided & (r.status == Status.DONE)) if i not in at
    )


def test_ten_thousand_candidates_stay_a_page() -> None:
    assert len(render(make_record(n=5000))) < 3_000_000


# --- pictures, charts, numbers ---------------------------------------------------------------------------------------


def _decode(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


@pytest.mark.parametrize(
    ("shape", "image"),
    [((8, 8), True), ((1, 8, 8), True), ((3, 8, 9), True), ((8, 9, 3), True), ((8, 9, 1), True), ((64,), False),
     ((2, 8, 8), False), ((3, 2), False), ((2, 3, 8, 8), False), ((16, 16, 13), False), ((32, 32, 2), False)],
)  # fmt: skip
def test_which_shapes_are_pictures(shape: tuple[int, ...], image: bool) -> None:
    assert pictures.is_image(shape, {"kind": "box"}) is image


def test_the_users_word_tells_which_rows_are_pictures() -> None:
    assert not pictures.is_image((3, 32, 3), {"kind": "box"})
    assert pictures.is_image((3, 32, 3), {"kind": "box", "layout": "hwc"})
    assert not pictures.is_image((3, 32, 32), {"kind": "box", "layout": "none"})
    assert pictures.is_image((8, 8), {"kind": "mine", "layout": ["anything"]})
    x = np.arange(4 * 6 * 3, dtype=np.float32).reshape(3, 6, 4)
    drawn = _decode(pictures.picture(x, {"kind": "box", "low": 0.0, "high": 255.0, "layout": "chw"}))
    np.testing.assert_array_equal(drawn, x.transpose(1, 2, 0))


def test_pictures_are_the_pixels() -> None:
    rng = np.random.default_rng(0)
    chw = rng.integers(0, 256, (3, 5, 6)).astype(np.float32)
    box = {"kind": "box", "low": 0.0, "high": 255.0}
    np.testing.assert_array_equal(_decode(pictures.picture(chw, box)), chw.transpose(1, 2, 0))
    np.testing.assert_array_equal(_decode(pictures.picture(chw.transpose(1, 2, 0), box)), chw.transpose(1, 2, 0))
    np.testing.assert_array_equal(_decode(pictures.picture(chw[:1], box)), chw[0])
    per_channel = {"kind": "box", "low": [[[0.0]], [[0.0]], [[0.0]]], "high": [[[255.0]], [[510.0]], [[255.0]]]}
    green = _decode(pictures.picture(chw, per_channel))[..., 1]
    np.testing.assert_allclose(green, chw[1] / 2, atol=0.51)


def test_the_change_is_amplified_around_grey() -> None:
    x = np.full((4, 4), 0.5, dtype=np.float32)
    other = x.copy()
    other[0, 0] += 0.05
    drawn = pictures.triple(x, other, {"kind": "box", "low": 0.0, "high": 1.0})
    assert drawn.change is not None and drawn.gain in (9, 10)
    pixels = _decode(drawn.change)
    assert pixels[1, 1] == 128 and pixels[0, 0] >= 240
    assert pictures.triple(x, None, {}).perturbed is None


def test_axes_place_linear_and_logarithmic_values() -> None:
    log = Axis(0.001, 1.0, "", [], log=True)
    assert log.place(0.1) == pytest.approx(2 / 3) and log.place(0.0) == 0.0
    assert Axis(0.0, 4.0, "", []).place(1.0) == 0.25


def test_a_step_line_never_interpolates() -> None:
    axis = Axis(0.0, 1.0, "", [])
    chart = Chart(axis, axis, "t", width=186, height=156)  # 100 by 100 inside
    chart.line([(0.0, 0.0), (0.5, 0.8), (1.0, 1.0)], "s0", step=True)
    assert 'd="M62 110H112V30H162V10"' in str(chart.render())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.314, "31 %"), (0.01, "1 %"), (0.001, "0.1 %"), (0.0567, "5.7 %"), (0.9906, "99.06 %"), (0.0, "0 %"),
        (1.0, "100 %"), (-0.12, "−12 %"), (0.0033, "0.33 %"), (0.5, "50 %"), (0.1, "10 %"),
    ],
)  # fmt: skip
def test_percent(value: float, text: str) -> None:
    assert percent(value).replace("\u00a0", " ") == text


def test_figures() -> None:
    assert figure(Estimate(0.712, 0.67, 0.75)) == "0.712 [0.670, 0.750]"
    assert figure(Estimate(0.31, 0.25, 0.37), share=True).replace("\u00a0", " ") == "31 % [25, 37]"
    assert figure(Estimate(None, reason="no")) == "–" and number(-0.00123456) == "−0.00123"


def test_the_headline_is_not_said_twice(record: AuditRecord) -> None:
    found = headline(_with(record, auc=(0.58, 0.54, 0.62), tpr={0.1: Estimate(0.12, 0.07, 0.18)}))
    assert not any("58\u00a0%" in line for line in found.more)


def test_ties_among_the_most_exposed_are_said(record: AuditRecord) -> None:
    gap = replace(record, attacks={"gap": record["gap"]})
    tied = int((record.member & (record["gap"].scores == 1)).sum())
    assert f"({tied} share the last score shown" in Page(render(gap)).words()
    assert "share the last score" not in Page(render(record)).words()


def _bars(html: str, css: str) -> list[float]:
    return [float(v) for v in re.findall(rf'class="bar {css}"[^>]*height="([\d.]+)"', html)]


def test_a_heap_and_a_tail_do_not_flatten_the_distribution(record: AuditRecord) -> None:
    rng = np.random.default_rng(1)
    n = len(record)
    scores = -np.abs(rng.standard_cauchy(n)) * 0.01
    scores[: n // 3] = 0.5  # a heap at the top, among members
    r = replace(record["transfer"], scores=scores, status=np.zeros(n, dtype=np.int64))
    drawn = str(charts.distribution(record, r))
    assert "= 0.5: 67" in drawn.replace("\u00a0", " ")
    assert len(_bars(drawn, "member")) >= 10  # without a bound on the tail the rest shares three bars


def test_set_up_of_other_attacks_is_not_this_ones_price(record: AuditRecord) -> None:
    found = {name: headline(replace(record, attacks={name: record[name]})) for name in ("gap", "transfer")}
    assert "set up" not in " ".join(found["gap"].more)
    assert "after 800 labels to set up" in " ".join(found["transfer"].more)


def test_labels_that_attacks_share_are_in_the_price_of_each(record: AuditRecord) -> None:
    guided = replace(record["boundary"], name="guided")
    both = replace(record, attacks={"transfer": record["transfer"], "guided": guided})
    assert setup_rows(both, guided) == setup_rows(both, record["transfer"]) == 800  # transfer bought them
    each_epoch = replace(both, ledger=replace(record.ledger, setup={"transfer.relabel": 80_000}))
    assert setup_rows(each_epoch, record["transfer"]) == 80_000
    assert setup_rows(each_epoch, guided) == 812  # the rows there are, once


def test_many_pairs_are_folded_but_for_the_best_attacks(record: AuditRecord) -> None:
    names = [f"a{i}" for i in range(7)]
    pair = record.comparisons[0]
    pairs = tuple(replace(pair, first=a, second=b) for i, a in enumerate(names) for b in names[i + 1 :])
    attacks = {name: replace(record["gap"], name=name) for name in names} | {
        "a3": replace(record["boundary"], name="a3")
    }
    html = render(replace(record, attacks=attacks, comparisons=pairs))
    shown, folded = html.split("<summary>The other 15 pairs</summary>")
    assert len(re.findall(r'scope="row">\w+ over \w+<', shown)) == 6
    assert len(re.findall(r'scope="row">(?!a3)\w+ over (?!a3)\w+<', folded)) == 15
    assert "<summary>The other" not in render(record)


def test_ticks_of_close_values_are_told_apart() -> None:
    assert charts._distinct_texts([0.9992, 0.9996, 1.0]) == ["0.9992", "0.9996", "1"]
    assert charts._distinct_texts([0.0, 0.5]) == ["0", "0.5"]


def test_the_record_says_what_an_attack_is_and_an_older_one_what_ours_are(record: AuditRecord, tmp_path: Path) -> None:
    said = About("Asks the oracle & <its> cat.", "purrs & <meows>")
    theirs = replace(record, attacks={"theirs": replace(record["noise"], name="theirs", about=said)})
    theirs.save(tmp_path / "run")
    html = render(load(tmp_path / "run"))
    assert "Asks the oracle &amp; &lt;its&gt; cat." in html and "purrs &amp; &lt;meows&gt;" in html
    (before,) = (replace(record, attacks={name: r}) for name, r in record.attacks.items() if name == "noise")
    assert (
        before["noise"].about is None and '"about"' not in (before.save(tmp_path / "old") / "record.json").read_text()
    )
    assert about(before["noise"]) == attacks_by_name.resolve("noise").about
    kind = replace(before["noise"], name="noise(copies=5)", spec={"attack": "noise", "copies": 5})
    assert about(kind) == about(replace(kind, spec={})) == about(before["noise"])
    unknown = replace(before["noise"], name="somebodys", spec={"attack": "somebodys"})
    assert about(unknown) == About("", "score")
    assert "somebodys" in render(replace(record, attacks={"somebodys": unknown}))


def test_every_attack_has_words_and_a_line_of_its_own() -> None:
    names = attacks_by_name.names()
    for attack in map(attacks_by_name.resolve, names):
        assert attack.about.summary.endswith(".") and attack.about.axis, attack.name
        assert attack.about.relabels == ("shadow" in attack.needs), f"{attack.name} buys labels of the shadow rows"
    css = asset("report.css")
    for line in charts.colours(names).values():
        assert f".{line} {{ stroke: var(--{line})" in css and css.count(f"--{line}: #") == 2  # light and dark


def test_exposure_is_read_from_an_attack_that_tells_candidates_apart(record: AuditRecord) -> None:
    def exposed_by(attacks: dict[str, Any]) -> str:
        found = re.search(
            r"By the (\w+) attack", Page(render(replace(record, attacks=attacks, comparisons=()))).words()
        )
        assert found is not None
        return found[1]

    strong = replace(record["gap"], evaluation=record["boundary"].evaluation)
    assert exposed_by({"gap": strong, "noise": record["noise"]}) == "noise"
    assert exposed_by({"gap": strong}) == "gap"


# --- colours, the first look, plots ----------------------------------------------------------------------------------


def test_an_attack_has_one_colour_in_every_report(record: AuditRecord) -> None:
    ours = charts.colours(attacks_by_name.names())
    assert len(set(ours.values())) == len(ours) and list(ours) == list(attacks_by_name.names())
    for names in (["guided"], ["guided", "boundary"], ["guided(votes=3)", "mine", "guided"]):
        assert charts.colours(names)["guided"] == ours["guided"]
    two = charts.colours(["boundary", "boundary(norm=linf)", "boundary(norm=l1)"])
    assert {css.split()[0] for css in two.values()} == {ours["boundary"]} and len(set(two.values())) == 3
    others = charts.colours([f"plugin{i}" for i in range(4)])
    assert len(set(others.values())) == 4 and not set(others.values()) & set(ours.values())
    assert charts.colours(["plugin1", "gap"])["plugin1"] == charts.colours(["plugin1"])["plugin1"]
    assert len(charts.colours([f"p{i}" for i in range(30)])) == 30
    only = replace(record, attacks={"transfer": record["transfer"]}, comparisons=())
    assert f"line {ours['transfer']}" in charts.roc_linear(only)
    css = asset("report.css")
    assert all(f".{c} {{ stroke" in css for name in [*ours.values(), *others.values()] for c in name.split())


def test_a_notebook_shows_the_top_and_what_is_serious(record: AuditRecord) -> None:
    html = record._repr_html_()
    outer = Page(html)
    assert [tag for tag, _ in outer.tags] == ["iframe"]
    frame = outer.tags[0][1]
    assert frame["sandbox"] == "" and not outer.text.strip()
    inner = Page(frame["srcdoc"] or "")
    assert record.accuracy is not None
    first = inner.words().index("The model is right about")
    assert first < inner.words().index("AUC of the best attack")
    assert f"{percent(record.accuracy[1])} of the non-members".replace("\u00a0", " ") in inner.words()
    assert not inner.scripts and (frame["srcdoc"] or "").count('class="chart"') == 4
    assert not [a for _, a in inner.tags if any(name.startswith("on") or name == "style" for name in a)]
    assert "script-src 'none'" in (frame["srcdoc"] or "") and "All candidates" not in inner.text
    serious = replace(record.flags[0], severity="serious", name="looks_odd", raised_because=HOSTILE)
    flagged = replace(record, flags=(serious, replace(record.flags[0], severity="info", raised_because="not shown")))
    shown = Page(Page(flagged._repr_html_()).tags[0][1]["srcdoc"] or "")
    assert "looks odd" in shown.text and "not shown" not in shown.text and not shown.scripts


def test_what_a_notebook_shows_of_hostile_names_is_text(record: AuditRecord) -> None:
    named = replace(record["gap"], name=HOSTILE)
    html = record_html(replace(record, name=HOSTILE, notes=(HOSTILE,), attacks={HOSTILE: named}, comparisons=()))
    outer = Page(html)
    assert [tag for tag, _ in outer.tags] == ["iframe"] and set(outer.tags[0][1]) == {
        "sandbox", "title", "style", "srcdoc"
    }  # fmt: skip
    inner = Page(outer.tags[0][1]["srcdoc"] or "")
    assert not inner.scripts and not [t for t, a in inner.tags if t == "img" or "onerror" in a]
    assert HOSTILE.split("\u2028")[0].strip() in inner.text
    plot = replace(record, name=HOSTILE, attacks={HOSTILE: named}).plot()
    drawn = ElementTree.fromstring(str(plot))
    tags = {e.tag.rpartition("}")[2] for e in drawn.iter()}
    assert tags <= {"svg", "style", "rect", "path", "text", "circle", "title"}


def test_incomplete_and_empty_records_show_themselves(record: AuditRecord) -> None:
    nothing = replace(record, attacks={}, complete=False, comparisons=(), flags=())
    assert "No attack was finished" in Page(Page(nothing._repr_html_()).tags[0][1]["srcdoc"] or "").words()
    with pytest.raises(InputError, match="needs a finished attack"):
        nothing.plot()


def test_a_plot_stands_by_itself(record: AuditRecord, tmp_path: Path) -> None:
    plot = record.plot()
    drawn = ElementTree.fromstring(plot._repr_svg_())
    inner = [e for e in drawn if e.tag.endswith("svg")]
    assert [e.get("aria-label") for e in inner] == [
        "ROC of all attacks, logarithmic axes", "ROC of all attacks, linear axes", "AUC against labels per candidate"
    ]  # fmt: skip
    style = next(e.text or "" for e in drawn if e.tag.endswith("style"))
    used = {c for e in drawn.iter() for c in (e.get("class") or "").split() if re.fullmatch(r"s\d+|line|chance", c)}
    assert all(f".labelleaks-plot .{name} {{" in style for name in used), used
    assert all(rule.strip().startswith((".labelleaks-plot", ".ground"))
               for rule in re.findall(r"([^{}]+)\{[^{}]*\}", style))  # fmt: skip
    assert plot.save(tmp_path / "roc.svg").read_text() == str(plot) == str(make_record(n=120).plot())
    with pytest.raises(InputError, match=r"ends with \.svg"):
        plot.save(tmp_path / "roc.png")
