"""The names under which libraries are installed, and their versions."""

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from tools.audit.finding import Finding

ENVIRONMENT = "environment.yaml"
REQUIREMENTS = "requirements.txt"
# Those of whom it is known spare the search through all that is installed
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "zlib_ng": "zlib-ng",
    "mpl_toolkits": "matplotlib",
}
WITHOUT_INFLUENCE = {"tqdm"}  # it draws on a terminal, and no output depends on it
_SAME = ("keras", "matplotlib", "numpy", "pooch", "requests", "tensorflow")


@functools.cache
def distribution(library: str) -> str:
    """The name on the package index of the package that holds an importable name."""
    if library in _DISTRIBUTIONS or library in _SAME:
        return _DISTRIBUTIONS.get(library, library)
    return normal(_installed().get(library, [library])[0])


def normal(name: str) -> str:
    """The one spelling of a package's name. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def drift(root: Path, versions: dict[str, str]) -> Iterator[Finding]:
    """Where environment.yaml, requirements.txt and what is installed differ.

    Args:
        root: The top folder of the repository.
        versions: The content of environment.yaml.
    """
    path = root / REQUIREMENTS
    pins = pinned(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for package, version in versions.items():
        found = pins.get(normal(package), "none")
        if found != version:
            yield Finding(
                ENVIRONMENT,
                f"{package} is {version} here and {found} in {REQUIREMENTS}",
                f"write `{package}=={version}` into {REQUIREMENTS}, or correct {ENVIRONMENT}",
            )
        if (found := _version(package)) != version:
            yield Finding(
                ENVIRONMENT,
                f"{package} is {version} here and {found} is installed",
                f"run `pip install -r {REQUIREMENTS}`, or correct {ENVIRONMENT} and {REQUIREMENTS}",
            )


def pinned(text: str) -> dict[str, str]:
    """The packages of a requirements file and the versions that they are pinned to."""
    pins = re.findall(r"^\s*([\w.-]+)(?:\[[^\]]*\])?\s*==\s*([^\s;#]+)", text, re.MULTILINE)
    return {normal(name): version for name, version in pins}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


@functools.cache
def _installed() -> dict[str, list[str]]:
    return {name: list(found) for name, found in metadata.packages_distributions().items()}


def behind(names: Iterable[str]) -> set[str]:
    """The distributions that installed ones need themselves: Keras writes its files by h5py."""
    needed = set()
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            for text in metadata.requires(name) or ():
                needed.add(
                    re.split(r"[\s;\[<>=!~(]", text, maxsplit=1)[0].lower().replace("_", "-")
                )
    return needed
