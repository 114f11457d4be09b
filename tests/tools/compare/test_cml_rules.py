"""Reports and the rules of the CML client, found by running version 0.20.6."""

import re
from pathlib import Path

import pytest

from tests.tools.compare import comparing
from tests.tools.compare.comparing import Repository, Run, wrong
from tools.compare import markdown

NASTY = ["a|b", "<b>*x*_y_`z`", "[~~q~~](../c) $$1$$ \\| @octocat #1"]


@pytest.fixture
def made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    for name in comparing.environment():
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    repository = comparing.create(tmp_path / "project", capsys)
    repository.put(Run(wrong(0, 10), names=NASTY))
    repository.commit("Base")
    monkeypatch.chdir(repository.path)
    return repository


def tables(report: str) -> list[list[str]]:
    """The lines of each table of a report."""
    blocks = re.split(r"\n\n+", report)
    return [block.splitlines() for block in blocks if block.startswith("|")]


@pytest.mark.parametrize(
    "run",
    [
        Run(wrong(9, 2), names=NASTY),
        Run(wrong(0, 60), names=NASTY),
        Run(names=NASTY, dataset="birds"),
        Run(
            wrong(0, 10),
            names=NASTY,
            train={"epochs": 5, **{f"key|{n}": "~~[x](y)~~ |" * 20 for n in range(99)}},
        ),
    ],
    ids=["better", "worse", "unknown", "many"],
)
def test_reports_obey_the_rules(made: Repository, run: Run) -> None:
    made.put(run)
    report = made.compare().report
    assert markdown.problems(report) == []
    assert len(report) < 65_536
    found = tables(report)
    assert found
    for lines in found:
        assert len({line.count("|") for line in lines}) == 1
    for name in re.findall(r"!\[[^]]*\]\((.*?)\)", report):
        assert (comparing.REPORT.parent / name).is_file()
    assert markdown.problems(made.compare("--no-images").report) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("![](my plot.png)", "an image that is not published"),
        ("![](/tmp/plot.png)", "an image that is not published"),
        ("![](plot.png?raw=1)", "an image that is not published"),
        ("![](my%20plot.png)", "an image that is not published"),
        ("![](../plot.png)", "an image that is not published"),
        ("![](plot.gif)", "an image that is not published"),
        ("![](https://example.org/plot.png)", "an image that is not published"),
        ('<img src="plot.png">', "an <img> tag"),
        ("text\n![](plot.png)", "no blank line before an image"),
        ("![](plot.png)\ntext", "no blank line after an image"),
        ("<details><summary>x</summary>\ntext", "no blank line after </summary>"),
        ("[data](reports/)", "a link to a local file"),
        ("[data](report.md)", "a link to a local file"),
        ('<a href="x">y</a>', "a link in HTML"),
        ("[a]: reports/x", "a link by reference"),
        ("- [x] done", "a task list"),
        ("~~no~~", "strikethrough"),
        ("see[^1]", "a footnote"),
        ("| a \\| b |", "an escaped bar"),
        ("> [!NOTE]\n> x", "an alert"),
        ("$$x$$", "mathematics"),
        (f"[x](https://example.org/{'a' * 4000})", "a link of 4020 characters"),
        ("x" * 65_536, "65536 characters"),
    ],
)
def test_each_rule_is_checked(text: str, problem: str) -> None:
    assert any(found.startswith(problem) for found in markdown.problems(text))


def test_what_the_client_carries_is_no_problem() -> None:
    text = (
        "## 🟢 Title\n\n| a | b |\n| --- | ---: |\n| x<br><sub>1</sub> | <code>y</code> |\n\n"
        "<details>\n<summary>More</summary>\n\n![A plot](plot.png)\n\n</details>\n\n"
        "[page](https://example.org)\n\n```diff\n- a\n+ b\n```\n"
    )
    assert markdown.problems(text) == []


@pytest.mark.parametrize("name", [*NASTY, "&lt;", "two\nlines", "猫"])
def test_escaped_text_reads_as_it_was(name: str) -> None:
    import html

    escaped = markdown.escape(name)
    assert html.unescape(escaped).replace("\N{ZERO WIDTH SPACE}", "") == " ".join(name.split())
    assert not re.search(r"[|*_`\[\]<>~$\\]", escaped)


def test_a_number_and_its_unit_stay_together() -> None:
    assert (
        markdown.escape(" 97.79\N{NO-BREAK SPACE}%\n better ") == "97.79\N{NO-BREAK SPACE}% better"
    )
