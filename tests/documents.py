"""The documents, parted into prose and blocks of code."""

import re
from pathlib import Path

from tests.conftest import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def prose(path: Path) -> str:
    """A document without its blocks of code."""
    return _BLOCK.sub("", path.read_text(encoding="utf-8"))


def blocks(path: Path, *kinds: str) -> list[str]:
    """The blocks of code of a document, of some languages or of all; without one it is ``""``."""
    found = _BLOCK.findall(path.read_text(encoding="utf-8"))
    return [block for kind, block in found if not kinds or kind in kinds]
