"""Lists the commands for people and CI: ``python -m tools``."""

import ast
import re
from pathlib import Path


def commands() -> dict[str, str]:
    """Every command below tools/, with the first sentence of its docstring."""
    folder = Path(__file__).parent
    modules = {path.stem: path for path in folder.glob("[!_]*.py")}
    modules |= {path.parent.name: path for path in folder.glob("*/__main__.py")}
    return {name: summary(path) for name, path in sorted(modules.items())}


def summary(path: Path) -> str:
    """What a module says of itself in its first sentence, without the command that calls it."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.sub(r":? ?``python -m [^`]*``:? ?", "", text.partition("\n\n")[0])
    return " ".join((sentence[:1].upper() + sentence[1:]).split())


def main() -> None:
    """Prints the commands."""
    listed = commands()
    width = max(map(len, listed))
    for name, text in listed.items():
        print(f"python -m tools.{name:{width}}  {text}")
    print("\nEach says more with --help. The stages: python -m stages.NAME, or dvc repro.")


if __name__ == "__main__":
    main()
