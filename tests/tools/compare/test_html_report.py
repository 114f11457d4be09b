"""The report as a page: complete, alone, and of text that nobody's names break."""

import base64
import os
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.stages.lib.reporting.test_page_in_browser import CHROMIUM, CONTRASTS, Browser
from tests.tools.compare import comparing
from tests.tools.compare.comparing import Repository, Run, few, wrong

NASTY = ["<script>alert(1)</script>", "鞋 | 靴", '**b** & `c` "d" @octocat']
PAGE = comparing.REPORT.with_suffix(".html")
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a page holds: its tags, which have to be balanced, and its visible text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    for name in comparing.environment():
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    repository = comparing.create(tmp_path / "project", capsys)
    repository.put(Run(wrong(0, 10), names=NASTY))
    repository.train_more(*few(12, 11))
    repository.commit("Base <b>")
    monkeypatch.chdir(repository.path)
    repository.put(Run(wrong(9, 2), names=NASTY, train={"epochs": 4}))
    return repository


def test_the_page_says_what_the_report_says_and_needs_no_other_file(made: Repository) -> None:
    found = made.compare("--at-least", "accuracy=0.5")
    source = PAGE.read_text(encoding="utf-8")
    page = Page(source)
    assert f"More in {PAGE.as_posix()}" in found.out + found.err
    assert page.tags["table"] == len(re.findall(r"^\| -", found.report, re.MULTILINE))
    assert page.tags["h2"] == page.tags["section"] == found.report.count("<details>") + 1
    assert "accuracy must be at least 0.5" in page.text
    assert "Base <b>" in page.text
    for name in NASTY:
        assert name in page.text.replace("\N{ZERO WIDTH SPACE}", "")
    assert "**" not in page.text.replace(NASTY[2], "").replace("**b**", "")
    assert page.tags["script"] == 1  # the page's own, which is empty
    images = [each for each in page.attributes if "alt" in each]
    assert len(images) == found.report.count("![") == 3
    for image, name in zip(images, re.findall(r"\]\((.*?)\)", found.report), strict=True):
        prefix, content = str(image["src"]).split(",")
        assert prefix == "data:image/png;base64"
        assert base64.b64decode(content) == (PAGE.parent / name).read_bytes()
        assert len(str(image["alt"])) > 20
        assert int(str(image["width"])) > 0
    addresses = [each[key] for each in page.attributes for key in ("href", "src") if key in each]
    assert all(str(address).startswith(("#", "data:")) for address in addresses)
    names = [each["id"] for each in page.attributes if "id" in each]
    assert len(names) == len(set(names))
    assert {f"#{name}" for name in names} >= {a for a in addresses if str(a).startswith("#")}


def test_a_page_without_images_has_none(made: Repository) -> None:
    made.compare("--no-images")
    assert "<img" not in PAGE.read_text(encoding="utf-8")


def test_a_page_of_sides_that_cannot_be_compared_is_whole(made: Repository) -> None:
    made.put(Run(dataset="birds", names=NASTY))
    Path("reports/train/history.csv").unlink()
    made.compare("--no-images")
    page = Page(PAGE.read_text(encoding="utf-8"))
    assert "the data set changed from pets to birds" in page.text
    assert "Curves after: not known" in page.text


@pytest.mark.skipif(sys.platform == "win32", reason="Chromium's pipe is opened by POSIX means")
@pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on this machine"
)
def test_a_browser_shows_all_of_it_and_asks_for_nothing(made: Repository, tmp_path: Path) -> None:
    made.compare()
    browser = Browser(tmp_path / "profile")
    try:
        for width, dark in ((360, False), (1100, True)):
            browser.open(PAGE, width=width, dark=dark)
            images = "Promise.all([...document.images].map(i => i.decode().then(() => i.alt)))"
            assert len(browser.evaluate(images)) == 3
            assert browser.evaluate("document.documentElement.scrollWidth") == width
            assert browser.evaluate(CONTRASTS) >= 4.5
            asked = [each["request"]["url"] for each in browser.named("Network.requestWillBeSent")]
            asked = [address for address in asked if not address.startswith("data:")]
            assert asked == [PAGE.resolve().as_uri()]
            assert not browser.named("Log.entryAdded")
    finally:
        browser.close()
