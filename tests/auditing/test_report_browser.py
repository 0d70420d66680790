"""The page in headless Chromium: no console errors, the table sorts and filters, nothing overflows, data stays text."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelleaks.auditing.record import AuditRecord
from labelleaks.auditing.report import write_report
from tests.record_fixture import make_record

pytestmark = pytest.mark.browser

HOSTILE = '<script>document.title = "taken"</script><img src=x onerror="document.title=1">'
OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing = "chromium and chromedriver are needed for the browser tests"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in OPTIONS:
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(driver))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def record() -> AuditRecord:
    made = make_record(n=120)
    return replace(made, ids=(HOSTILE, *made.ids[1:]), classes=(HOSTILE, *made.classes[1:]), name=f"audit {HOSTILE}")


@pytest.fixture(scope="module")
def page(record: AuditRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(record, tmp_path_factory.mktemp("report"))


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Any]]:
    def open_page(file: Path, width: int = 1400, *, scheme: str = "light", media: str = "") -> Any:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features, "media": media})
        browser.get(file.as_uri())
        return browser

    yield open_page
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [], "media": ""})


def _rows(browser: Any) -> list[list[str]]:
    script = "return [...document.querySelectorAll('#table tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    found: list[list[str]] = browser.execute_script(script)
    return found


def _choose(browser: Any, name: str, value: str) -> None:
    event = "input" if name == "f-text" else "change"
    script = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event(arguments[2]))"
    )
    browser.execute_script(script, name, value, event)


def _sort(browser: Any, column: int) -> None:
    browser.execute_script("document.querySelectorAll('#table th button')[arguments[0]].click()", column)


def _column(browser: Any, column: int) -> list[float]:
    return [float(row[column].replace("−", "-").replace("\u00a0%", "")) for row in _rows(browser)]


def test_opens_without_a_word_in_the_console(show: Callable[..., Any], page: Path) -> None:
    browser = show(page)
    assert browser.get_log("browser") == []
    assert len(_rows(browser)) == 50
    broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert browser.execute_script(broken) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 768, 1400])
def test_nothing_overflows(show: Callable[..., Any], page: Path, width: int, scheme: str) -> None:
    browser = show(page, width, scheme=scheme)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    outside = browser.execute_script(
        "const out = []; for (const e of document.querySelectorAll('body *')) {"
        "  if (e.closest('.scroll') && !e.matches('.scroll')) continue;"
        "  const b = e.getBoundingClientRect();"
        "  if (b.width && (b.right > innerWidth + 1 || b.left < -1)) out.push(e.outerHTML.slice(0, 90)); }"
        "return out"
    )
    assert outside == []


def test_nothing_overflows_in_print(show: Callable[..., Any], page: Path) -> None:
    browser = show(page, 700, media="print")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 700
    hidden = "return ['nav', '.controls', '.pager'].map(s => getComputedStyle(document.querySelector(s)).display)"
    assert browser.execute_script(hidden) == ["none"] * 3


def test_text_in_charts_can_be_read_on_a_phone(show: Callable[..., Any], page: Path) -> None:
    browser = show(page, 400)
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('svg.chart text')].map(t => "
        "parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a))"
    )
    assert smallest >= 9.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(show: Callable[..., Any], page: Path, scheme: str) -> None:
    browser = show(page, scheme=scheme)
    pairs = browser.execute_script(
        "const s = getComputedStyle(document.documentElement); const v = n => s.getPropertyValue(n).trim();"
        "return ['ink', 'soft', 'accent', 'member'].map(n => [v('--' + n), v('--paper')])"
        ".concat(['serious', 'warning', 'info', 'calm'].map(n => [v('--' + n), v('--tint-' + n)]))"
    )
    for text, ground in pairs:
        assert _contrast(text, ground) >= 4.5, (text, ground)


def _contrast(one: str, two: str) -> float:
    """WCAG 2 contrast ratio of two hex colours."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
        parts = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, light = sorted((luminance(one), luminance(two)))
    return (light + 0.05) / (dark + 0.05)


def test_script_in_ids_and_classes_stays_text(show: Callable[..., Any], page: Path) -> None:
    browser = show(page)
    assert browser.title == f"Membership audit: audit {HOSTILE}"
    _choose(browser, "f-text", "<script>")
    found = _rows(browser)
    assert found and any(row[0] == HOSTILE for row in found) and any(row[2] == HOSTILE for row in found)
    assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    assert browser.get_log("browser") == []


def test_table_sorts(show: Callable[..., Any], page: Path, record: AuditRecord) -> None:
    browser = show(page)
    needed = _column(browser, 4)
    assert needed == sorted(needed)
    _sort(browser, 3)
    scores = _column(browser, 3)
    assert scores == sorted(scores, reverse=True)
    wanted = np.sort(record["boundary"].scores)[::-1][:50]
    np.testing.assert_allclose(scores, wanted, rtol=1e-3)
    _sort(browser, 3)
    np.testing.assert_allclose(_column(browser, 3), np.sort(record["boundary"].scores)[:50], rtol=1e-3)
    headers = "return [...document.querySelectorAll('#table th')].map(t => t.getAttribute('aria-sort'))"
    assert browser.execute_script(headers)[3] == "ascending"
    _sort(browser, 0)
    names = [row[0] for row in _rows(browser)]
    assert names[1:4] == ["test-0000", "test-0001", "test-0002"]


def test_table_filters_and_pages(show: Callable[..., Any], page: Path, record: AuditRecord) -> None:
    browser = show(page)
    _choose(browser, "f-group", "0")
    assert {row[1] for row in _rows(browser)} == {"non-member"}
    assert "120 of 240" in browser.find_element("id", "shown").text
    _choose(browser, "f-attack", "0")  # gap
    _choose(browser, "f-status", str(3))
    wrong = int((~record.member & (record["gap"].status == 3)).sum())
    assert len(_rows(browser)) == min(wrong, 50) and {row[7] for row in _rows(browser)} == {"1"}
    _choose(browser, "f-status", "")
    _choose(browser, "f-group", "")
    _choose(browser, "f-decided", "1")
    assert {row[5] for row in _rows(browser)} == {"member"}
    _choose(browser, "f-decided", "")
    _choose(browser, "f-text", "train-0007")
    assert [row[0] for row in _rows(browser)] == ["train-0007"]
    _choose(browser, "f-text", "no such id")
    assert _rows(browser) == [] and "nothing" in browser.find_element("id", "page").text
    _choose(browser, "f-text", "")
    seen = {row[0] for row in _rows(browser)}
    for _ in range(4):
        browser.execute_script("document.getElementById('next').click()")
        seen |= {row[0] for row in _rows(browser)}
    assert seen == set(record.ids) and not browser.find_element("id", "next").is_enabled()


def test_of_ten_thousand_rows_a_page_is_made_when_they_are_sorted(show: Callable[..., Any], tmp_path: Path) -> None:
    browser = show(write_report(make_record(n=5000), tmp_path))
    _sort(browser, 0)
    made = browser.execute_script(
        "let made = 0; const make = document.createElement.bind(document);"
        "document.createElement = (name) => { made += name === 'tr'; return make(name); };"
        "document.querySelectorAll('#table th button')[3].click();"
        "return made"
    )
    assert len(_rows(browser)) == 50 == made  # one page of rows is made, not ten thousand
    assert browser.get_log("browser") == []


def test_incomplete_and_empty_records_open(show: Callable[..., Any], record: AuditRecord, tmp_path: Path) -> None:
    part = replace(record, attacks={}, comparisons=(), complete=False, inputs=None)
    browser = show(write_report(part, tmp_path), 400)
    assert browser.get_log("browser") == []
    assert "incomplete" in browser.find_element("id", "incomplete").text
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
