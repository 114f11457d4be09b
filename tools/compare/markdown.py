"""Markdown that GitHub and GitLab draw well and that the CML client carries there unharmed.

The client publishes images that it finds by ``![](name.png)`` and reads Markdown of an older kind;
what it breaks was found by running it (version 0.20.6) and is listed in ``problems``.
"""

import re
from collections.abc import Iterable, Sequence

LIMIT = 60_000  # of GitHub's 65,536 characters; the client makes image addresses longer
_LONGEST_LINK = 2_000

_SPECIAL = {letter: f"&#{ord(letter)};" for letter in "|*_`[]<>~$#\\"}
_SPECIAL["@"] = "&#64;&#8203;"  # GitHub looks for mentions after the entities are gone
_RULES = {
    "an <img> tag, which is not published": r"<img\b",
    "a link in HTML": r"<a\b",
    "a task list": r"^\s*[-*+] \[[ xX]\]",
    "strikethrough": r"~~",
    "a footnote": r"\[\^",
    "an escaped bar": r"\\\|",
    "an alert": r"^\s*> ?\[!",
    "mathematics": r"\$\$",
    "a link by reference": r"^\s*\[[^\]]+\]: ",
    "no blank line after </summary>": r"</summary>(?!\n\n)",
    "no blank line before an image": r"(?<!\n\n)(?<!\A)!\[",
    "no blank line after an image": r"!\[[^\]]*\]\([^)]*\)(?!\n\n)(?!\n?\Z)",
}


def escape(text: object) -> str:
    """Text that Markdown, tables and mentions leave alone; line breaks become spaces.

    Entities, because a backslash before ``|`` is among what the client breaks.
    """
    line = re.sub(r"[^\S\N{NO-BREAK SPACE}]+", " ", str(text).replace("&", "&amp;").strip())
    return "".join(_SPECIAL.get(letter, letter) for letter in line)


def code(value: object, longest: int = 64) -> str:
    """A value in code letters, cut to ``longest`` characters."""
    text = " ".join(str(value).split())
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    unlinked = escape(cut).replace(":", "&#58;")  # else half an address becomes a link
    return f"<code>{unlinked}</code>" if cut else "<code>&nbsp;</code>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """A table of cells that are Markdown already.

    Args:
        header: The column titles.
        rows: Cells, as many a row.
        align: One letter a column, ``l`` or ``r``; left where it says nothing.
    """
    marks = ["---:" if letter == "r" else "---" for letter in align.ljust(len(header), "l")]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *rows))


def details(summary: str, *blocks: str) -> str:
    """A part that opens on a click; the blocks are separated by blank lines."""
    return "\n\n".join([f"<details>\n<summary>{summary}</summary>", *blocks, "</details>"])


def image(name: str, says: str) -> str:
    """An image beside the report, with what it says for those who do not see it."""
    return f"![{escape(says)}]({name})"


def problems(text: str) -> list[str]:
    """What the CML client would break, drop or choke on; nothing when all is well.

    Args:
        text: A report in Markdown.
    """
    found = [name for name, rule in _RULES.items() if re.search(rule, text, re.MULTILINE)]
    if len(text) >= LIMIT:
        found.append(f"{len(text)} characters, expected fewer than {LIMIT}")
    for mark, target in re.findall(r"(!?)\[[^\]]*\]\(([^)]*)\)", text):
        if len(target) > _LONGEST_LINK:
            found.append(f"a link of {len(target)} characters")
        elif mark and not re.fullmatch(r"(?!/)(?!.*\.\.)[\w./-]+\.(png|jpg|svg)", target):
            found.append(f"an image that is not published: {target}")
        elif not mark and not re.match(r"https?://|#", target):
            found.append(f"a link to a local file: {target}")
    return found
