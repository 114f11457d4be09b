import base64
import hashlib
import html
import html.parser
import re

import numpy as np
import pytest

from stages.lib.reporting import drawing, page
from stages.lib.reporting.page import Cell, Markup

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


def whole() -> str:
    table = page.table("A table", {"Name": [Cell("a"), Cell("b")]})
    sections = [
        page.Section("one", "One & two", [page.figure(PNG, "A picture", "Caption")]),
        page.Section("three", "Three", [page.folded("More", table), page.beside(table, table)]),
    ]
    return page.document("<Title>", "Kicker", "Summary", sections)


def test_texts_are_escaped_and_markup_is_not() -> None:
    assert page.escape('<a href="x">\'&') == "&lt;a href=&quot;x&quot;&gt;&#x27;&amp;"
    assert page.escape(Markup("<b>")) == "<b>"
    assert page.paragraph("<b>") == "<p>&lt;b&gt;</p>\n"
    assert page.in_language("<b>", "zh") == '<span lang="zh">&lt;b&gt;</span>'
    assert page.definitions([("<t>", "<d>")], "facts").count("&lt;") == 2
    assert page.cards([("<n>", "<v>", "<c>")]).count("&lt;") == 3
    assert page.folded("<s>").count("&lt;s&gt;") == 1


@pytest.mark.parametrize(
    ("text", "address", "rest"),
    [
        ("See https://doi.org/10.1/X.", "https://doi.org/10.1/X", "."),
        ("(http://a.b/c?d=1&e=2), x", "http://a.b/c?d=1&e=2", "), x"),
        ('https://a.b/"onclick="x', "https://a.b/", '"onclick="x'),
        ("https://a.b/<script>", "https://a.b/", "<script>"),
    ],
)
def test_addresses_become_links(text: str, address: str, rest: str) -> None:
    found = Outline(page.linked(text))
    assert [link["href"] for link in found.all("a")] == [address]
    assert "".join(found.texts) == text
    assert found.texts[-1] == rest


def test_no_other_scheme_becomes_a_link() -> None:
    assert Outline(page.linked("javascript:alert(1) data:x ftp://a.b")).elements == []


def test_a_table_names_rows_and_columns_and_aligns_numbers() -> None:
    columns = {"Class": [Cell("<a>"), Cell("b")], "Images": [Cell("1,000", 1000), Cell("–", -1)]}
    found = Outline(page.table("Sizes & more", columns))
    assert [cell["scope"] for cell in found.all("th")] == ["col", "col", "row", "row"]
    assert [cell["data-order"] for cell in found.all("td")] == ["1000", "-1"]
    assert {cell["class"] for cell in found.all("td")} == {"number"}
    assert found.all("table") == [{"class": "sortable"}]
    (box,) = found.all("div")
    assert (box["role"], box["aria-label"], box["tabindex"]) == ("region", "Sizes & more", "0")
    assert "<a>" in found.texts


def test_a_table_of_one_row_is_not_sortable() -> None:
    assert "sortable" not in page.table("A", {"Name": [Cell("a")]})
    assert "sortable" not in page.table("A", {"Name": [Cell("a")] * 2}, sortable=False)
    assert Outline(page.table("A", {"Name": []})).all("th") == [{"scope": "col"}]


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        page.table("A", {"Name": [Cell("a")], "Other": []})


def test_a_figure_is_inside_the_page_with_its_size() -> None:
    (image,) = Outline(page.figure(PNG, 'Says "so" & <so>', "Caption")).all("img")
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == PNG
    assert (image["width"], image["height"]) == ("20", "10")
    assert image["alt"] == 'Says "so" & <so>'


def test_the_page_is_whole_and_accessible() -> None:
    found = Outline(whole())
    assert found.all("html") == [{"lang": "en"}]
    headings = [tag for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1", "h2", "h2"]
    names = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(set(names)) == len(names)
    links = [link["href"] for link in found.all("a")]
    assert links == ["#main", "#one", "#three"]
    assert {link.removeprefix("#") for link in links} <= set(names)
    labels = {section["aria-labelledby"] for section in found.all("section")}
    assert labels <= set(names)
    assert "<Title>" in found.texts
    assert "<Title> – Kicker" in found.texts


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    text = whole()
    found = Outline(text)
    for _, attributes in found.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert not re.match("(https?:)?//", attributes.get(name, ""))
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in re.sub("http-equiv", "", text)


def test_its_policy_allows_its_own_style_and_script_and_no_other() -> None:
    text = whole()
    (policy,) = [m["content"] for m in Outline(text).all("meta") if "http-equiv" in m]
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"<[^>]*\s(style|on\w+)=", text)


def test_colours_of_the_sheet_keep_their_contrast() -> None:
    # The same by the browser is in test_page_in_browser.py; this one needs none.
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    style = re.findall("<style>(.*?)</style>", whole(), re.DOTALL)[0]
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
        for text in ("ink", "muted", "link", "focus"):
            for behind in ("page", "box"):
                pair = [luminance(colours[name]) + 0.05 for name in (text, behind)]
                assert max(pair) / min(pair) >= 4.5, (text, behind)
