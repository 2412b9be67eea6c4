"""The HTML report, read as text and opened in a real browser, which must have nothing to complain about."""

import dataclasses
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from evm_deploy.errors import InputError, MissingToolError
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.reporting import html
from evm_deploy.reporting import page as pages
from evm_deploy.reporting.accuracy import Accuracy, AccuracyShare

FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
KNOWN = (Accuracy("tiny-int8", "onnxruntime", "int8", AccuracyShare(0.5, 0.4, 0.6)),)


class Tags(HTMLParser):
    """Counts elements, and keeps attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words += data


def test_it_needs_nothing_else(report: ProfileReport) -> None:
    page = html.render([report], KNOWN)
    addresses = {word for word in re.findall(r"https?://[^\s\"'<)]+", page) if word != "http://www.w3.org/2000/svg"}
    assert addresses == set()
    assert not re.search(r"@import|url\(|\bsrc=|href=(?!\"data:,\")", page)
    assert "default-src 'none'" in page
    assert "unsafe" not in page


def test_it_says_everything_without_its_script(report: ProfileReport) -> None:
    page = Tags(
        re.sub(r"<script>.*</script>", "", html.render([report], KNOWN, notes=["a further note"]), flags=re.DOTALL)
    )
    for words in (
        "the governor is powersave",
        "its golden pair differs",
        "a further note",
        "Orin Nano",
        "not measured",
    ):
        assert words in page.words
    for words in ("Cortex-A76", "performance", "45.0 °C", "61.0 °C", "1.31.1", "0.10 before, 1.20 after", "50.00"):
        assert words in page.words
    assert page.tags.count("figure") == 5 + 1 + 3  # charts, kinds, and blocks, roofline, flame of the one contender


def test_hostile_names_stay_text(hostile: ProfileReport) -> None:
    page = Tags(html.render([hostile], notes=["<script>alert(1)</script>"]))
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    assert "{{7*7}}" in page.words
    assert "\x1b" not in page.words
    assert "\u202e" not in page.words


def test_nothing_to_show(report: ProfileReport, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no profile"):
        html.render([])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    pages.load_template.cache_clear()
    with pytest.raises(MissingToolError, match="jinja2"):
        html.render([report])


def test_all_failed(report: ProfileReport) -> None:
    failed = dataclasses.replace(report, results=report.results[3:], ratios=(), warnings=())
    page = Tags(html.render([failed]))
    assert "its golden pair differs" in page.words
    assert "figure" not in page.tags
    assert "Warnings" not in page.words


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver, selenium = shutil.which("chromedriver"), pytest.importorskip("selenium.webdriver")
    if driver is None:
        pytest.skip("chromedriver is not installed")
    options = selenium.ChromeOptions()
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = __import__("selenium.webdriver.chrome.service", fromlist=["Service"]).Service(driver)
    opened = selenium.Chrome(options, service)
    yield opened
    opened.quit()


def show(browser: Any, tmp_path: Path, page: str, width: int = 1280) -> None:
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get((tmp_path / "report.html").as_uri())


def column(browser: Any, index: int) -> list[str]:
    rows = "return [...document.querySelectorAll('#table tbody tr:not([hidden])')]"
    return [str(text) for text in browser.execute_script(f"{rows}.map(row => row.cells[{index}].innerText.trim())")]


def click(browser: Any, index: int) -> None:
    browser.execute_script(f"document.querySelectorAll('#table thead button')[{index}].click()")


def test_a_browser_has_nothing_to_complain_about(
    browser: Any, tmp_path: Path, report: ProfileReport, hostile: ProfileReport
) -> None:
    for width in (1280, 390):
        for reports in ([report], [hostile], [report, hostile]):
            show(browser, tmp_path, html.render(reports, KNOWN), width)
            assert browser.get_log("browser") == []
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            assert browser.execute_script("return document.scripts.length") == 1


def test_colours_follow_the_scheme(browser: Any, tmp_path: Path, report: ProfileReport) -> None:
    grounds, kinds = set(), set()
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        show(browser, tmp_path, html.render([report]))
        grounds.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        kinds.add(browser.execute_script("return getComputedStyle(document.querySelector('rect.k-scan')).fill"))
    assert grounds == {"rgb(255, 255, 255)", "rgb(20, 23, 27)"}
    assert len(kinds) == 2
    assert "rgb(0, 0, 0)" not in kinds  # the style sheet was refused


def test_the_table_is_sorted_by_figures_and_words(browser: Any, tmp_path: Path, report: ProfileReport) -> None:
    show(browser, tmp_path, html.render([report], KNOWN))
    heads = [
        str(text)
        for text in browser.execute_script(
            "return [...document.querySelectorAll('#table thead th')].map(head => head.innerText)"
        )
    ]
    median = heads.index("p50 ms")
    click(browser, median)
    rising = column(browser, median)
    assert rising[-1] == "-"  # what is absent comes last
    assert [float(text.split()[0]) for text in rising[:3]] == sorted(float(text.split()[0]) for text in rising[:3])
    click(browser, median)
    assert column(browser, median) == [*rising[2::-1], "-"]
    click(browser, 0)
    assert [name.split()[0] for name in column(browser, 0)] == ["broken", "tiny", "tiny", "tiny-int8"]


def test_the_table_is_filtered(browser: Any, tmp_path: Path, report: ProfileReport) -> None:
    show(browser, tmp_path, html.render([report], KNOWN))
    find = browser.find_element("id", "find")
    find.send_keys("TINY evm")
    assert len(column(browser, 0)) == 1
    assert browser.find_element("id", "count").text == "1 of 4"
    find.clear()
    find.send_keys(" ")
    assert len(column(browser, 0)) == 4
    choice = "const all = [...document.querySelectorAll('select')];"
    choice += "const one = all.find(one => [...one.options].some(option => option.text === 'int8'));"
    browser.execute_script(choice + "one.value = 'int8'; one.dispatchEvent(new Event('input', {bubbles: true}));")
    assert [name.split()[0] for name in column(browser, 0)] == ["tiny-int8"]
