"""What the documents say: links that lead somewhere, commands that exist, two languages in step."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.documents import DOCUMENTS, blocks, prose

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = (title.lower() for _, title in HEADING.findall(prose(path)))
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        if re.match(r"\w+:", link):
            assert link.startswith("https://"), link
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_pictures_are_there_and_described() -> None:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for source in re.findall(r'<(?:img src|source [^>]*srcset)="([^"]+)"', text):
            assert (path.parent / source).stat().st_size < 100_000, source
        assert all(len(alt) > 20 for alt in re.findall(r'<img [^>]*alt="([^"]*)"', text))
        assert len(re.findall("<img ", text)) == len(re.findall('<img [^>]*alt="', text))


def commands() -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        for match in re.finditer(
            r"python -m ((?:stages|tools|benchmarks)\.(?!NAME)[\w.]*\w)", path.read_text("utf-8")
        ):
            yield path.relative_to(ROOT).as_posix(), match[1]


@pytest.mark.parametrize(("path", "module"), sorted(set(commands())))
def test_commands_exist(path: str, module: str) -> None:
    file = ROOT / module.replace(".", "/")
    assert file.with_suffix(".py").is_file() or (file / "__main__.py").is_file(), path


def outline(path: Path) -> list[int]:
    return [len(marks) for marks, _ in HEADING.findall(prose(path))]


def rows(path: Path) -> list[list[str]]:
    """The code in each row of each table, in order: what needs no translation."""
    lines = [line for line in prose(path).splitlines() if line.startswith("|")]
    return [sorted(re.findall(r"`[^`]+`", line)) for line in lines]


def test_both_languages_of_the_readme_say_the_same() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh.md"
    assert outline(chinese) == outline(english)
    assert blocks(chinese) == blocks(english)
    assert rows(chinese) == rows(english)
    links = [
        {link for link in LINK.findall(prose(path)) if not link.startswith(("#", "README"))}
        for path in (english, chinese)
    ]
    assert links[0] == links[1]


def test_the_citation_and_the_forms_are_well_formed() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    for path in [*ROOT.glob(".github/ISSUE_TEMPLATE/*.yml"), ROOT / ".pre-commit-config.yaml"]:
        assert yaml.safe_load(path.read_text(encoding="utf-8")), path


def test_the_hooks_run_what_is_there() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(entry in contributing for entry in entries)
