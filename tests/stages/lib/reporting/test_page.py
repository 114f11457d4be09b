import base64
import hashlib
import html.parser
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import jinja2
import numpy as np
import pytest

from stages.lib.reporting import cells, drawing, page
from stages.lib.reporting.page import Cell, Table

PNG = drawing.png(np.zeros((16, 32, 3), np.uint8))
VOID = {"meta", "link", "img", "br"}


class Outline(html.parser.HTMLParser):
    """The elements of a page; fails where one is not closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Makes HTML of a template of the test's own beside those of the project."""
    folder = tmp_path / "templates"
    shutil.copytree(page.TEMPLATES, folder)
    monkeypatch.setattr(page, "TEMPLATES", folder)

    def make(template: str, **values: object) -> str:
        text = f'{{% import "parts.html.jinja" as parts %}}{template}'
        (folder / "made.html.jinja").write_text(text, encoding="utf-8")
        return page.render("made.html.jinja", values)

    return make


WHOLE = """
{% extends "page.html.jinja" %}
{% import "parts.html.jinja" as parts %}
{% set kicker = "Kicker" %}
{% set sections = {"one": "One & two", "three": "Three"} %}
{% block summary %}Summary{% endblock %}
{% block main %}
{% call parts.section("one", sections.one) %}
{% call parts.figure(figure) %}Caption{% endcall %}
{% endcall %}
{% call parts.section("three", sections.three) %}
{% call parts.folded("More") %}{{ parts.table(table) }}{% endcall %}
{% endcall %}
{% endblock %}
"""


@pytest.fixture
def whole(made: Callable[..., str]) -> str:
    table = Table("A table", {"Name": [Cell("a"), Cell("b")]})
    figure = page.Figure(PNG, "A black image")
    return made(WHOLE, title="<Title>", figure=figure, table=table)


def test_every_text_is_escaped(made: Callable[..., str]) -> None:
    assert made("{{ text }}", text='<a href="x">\'&') == "&lt;a href=&#34;x&#34;&gt;&#39;&amp;"
    name = Cell("<b>", language="zh")
    assert '<span lang="zh">&lt;b&gt;</span>' in made("{{ parts.text(cell) }}", cell=name)
    for part, escaped in (
        ('{{ parts.card("<n>", "<v>", "<c>") }}', 3),
        ('{% call parts.fact("<t>") %}{{ "<d>" }}{% endcall %}', 2),
        ('{% call parts.folded("<s>") %}{% endcall %}', 1),
    ):
        assert made(part).count("&lt;") == escaped


def test_a_value_that_is_missing_is_an_error_and_no_gap(made: Callable[..., str]) -> None:
    with pytest.raises(jinja2.UndefinedError, match="absent"):
        made("{{ absent }}")


@pytest.mark.parametrize(
    ("text", "address", "rest"),
    [
        ("See https://doi.org/10.1/X.", "https://doi.org/10.1/X", "."),
        ("(http://a.org/c?d=1&e=2), x", "http://a.org/c?d=1&e=2", "), x"),
    ],
)
def test_addresses_of_a_citation_become_links(text: str, address: str, rest: str) -> None:
    cited = Outline(citation(text))
    assert [link["href"] for link in cited.all("a")] == [address]
    assert "".join(cited.texts).strip() == text
    assert cited.texts[-1].strip() == rest.strip()


@pytest.mark.parametrize(
    "text",
    ["javascript:alert(1) data:x ftp://a.b", '"onclick="x', "<script>", "javascript:https://a.org"],
)
def test_no_other_scheme_becomes_a_link(text: str) -> None:
    assert Outline(citation(text)).elements == []


@pytest.mark.parametrize(
    "text", ['https://a.org/"onclick="x', "https://a.org/<script>alert(1)</script>"]
)
def test_no_address_leaves_its_link(text: str) -> None:
    cited = Outline(citation(text))
    assert {tag for tag, _ in cited.elements} == {"a"}
    assert {name for _, attributes in cited.elements for name in attributes} == {"href", "rel"}
    assert "".join(cited.texts) == text


def citation(text: str) -> str:
    """The text as report.html.jinja shows it."""
    template = (page.TEMPLATES / "report.html.jinja").read_text(encoding="utf-8")
    (shown,) = re.findall(r"\{\{ dataset\.citation .*?\}\}", template)
    environment = jinja2.Environment(autoescape=True)
    return environment.from_string(shown).render(dataset={"citation": text})


def test_a_table_names_rows_and_columns_and_aligns_numbers(made: Callable[..., str]) -> None:
    columns = {"Class": [Cell("<a>"), Cell("b")], "Images": [Cell("1,000", 1000), Cell("–", -1)]}
    shown = Outline(made("{{ parts.table(table) }}", table=Table("Sizes & more", columns)))
    assert [cell["scope"] for cell in shown.all("th")] == ["col", "col", "row", "row"]
    assert [cell["data-order"] for cell in shown.all("td")] == ["1000", "-1"]
    assert {cell["class"] for cell in shown.all("td")} == {"number"}
    assert shown.all("table") == [{"class": "sortable"}]
    (box,) = shown.all("div")
    assert (box["role"], box["aria-label"], box["tabindex"]) == ("region", "Sizes & more", "0")
    assert "<a>" in shown.texts


def test_a_column_is_numeric_if_all_of_its_cells_are() -> None:
    columns = {
        "name": [Cell("a"), Cell("b")],
        "mixed": [Cell("1", 1), Cell("–")],
        "number": [Cell("1", 1), Cell("0", 0)],
        "none": [],
    }
    expected = {"name": False, "mixed": False, "number": True, "none": False}
    assert Table("Cells", columns).numeric == expected


def test_a_proportion_of_no_images_is_a_dash_and_sorts_before_0() -> None:
    found = cells.proportions([0.5, math.nan, 0])
    assert [cell.text for cell in found] == [
        "50.00\N{NO-BREAK SPACE}%",
        "–",
        "0.00\N{NO-BREAK SPACE}%",
    ]
    orders = [cell.order for cell in found]
    assert orders[1] is not None
    assert orders[1] < 0
    assert (orders[0], orders[2]) == (0.5, 0)


def test_a_table_of_one_row_is_not_sortable(made: Callable[..., str]) -> None:
    for columns, sortable in (({"Name": [Cell("a")]}, True), ({"Name": [Cell("a")] * 2}, False)):
        table = Table("A", columns, sortable)
        assert "sortable" not in made("{{ parts.table(table) }}", table=table)
    empty = made("{{ parts.table(table) }}", table=Table("A", {"Name": []}))
    assert Outline(empty).all("th") == [{"scope": "col"}]


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(Table("A", {"Name": [Cell("a")], "Other": []}).rows)


def test_a_figure_is_inside_the_page_with_its_size(made: Callable[..., str]) -> None:
    figure = page.Figure(PNG, 'Says "so" & <so>')
    part = "{% call parts.figure(figure) %}Caption{% endcall %}"
    (image,) = Outline(made(part, figure=figure)).all("img")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PNG
    assert (image["width"], image["height"]) == ("20", "10")
    assert image["alt"] == 'Says "so" & <so>'


def test_the_page_is_whole_and_accessible(whole: str) -> None:
    outline = Outline(whole)
    assert outline.all("html") == [{"lang": "en"}]
    headings = [tag for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1", "h2", "h2"]
    names = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(set(names)) == len(names)
    links = [link["href"] for link in outline.all("a")]
    assert links == ["#main", "#one", "#three"]
    assert {link.removeprefix("#") for link in links} <= set(names)
    labels = {section["aria-labelledby"] for section in outline.all("section")}
    assert labels <= set(names)
    assert "<Title>" in outline.texts
    assert "<Title> – Kicker" in outline.texts


def test_the_page_asks_for_nothing_from_elsewhere(whole: str) -> None:
    text = whole
    outline = Outline(text)
    for _, attributes in outline.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert not re.match("(https?:)?//", attributes.get(name, ""))
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in re.sub("http-equiv", "", text)


def test_its_policy_allows_its_own_style_and_script_and_no_other(whole: str) -> None:
    text = whole
    (policy,) = [m["content"] for m in Outline(text).all("meta") if "http-equiv" in m]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"<[^>]*\s(style|on\w+)=", text)


def test_colours_of_the_sheet_keep_their_contrast(whole: str) -> None:
    # The same by the browser is in test_page_in_browser.py; this one needs none.
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    style = re.findall("<style>(.*?)</style>", whole, re.DOTALL)[0]
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
        for text in ("ink", "muted", "link", "focus"):
            for behind in ("page", "box"):
                pair = [luminance(colours[name]) + 0.05 for name in (text, behind)]
                assert max(pair) / min(pair) >= 4.5, (text, behind)
