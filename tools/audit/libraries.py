"""The names under which libraries are installed, and their versions."""

import contextlib
import functools
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from stages.lib.core import yaml_file
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
# What no output depends on, though a stage or a library loads it
WITHOUT_INFLUENCE = {
    # draws on a terminal, tells the surroundings, packs, reads .dvcignore, or mends Python
    *(
        "absl-py",
        "colorama",
        "markdown-it-py",
        "mdurl",
        "namex",
        "packaging",
        "pathspec",
        "pip",
        "platformdirs",
    ),
    *("psutil", "pydot", "pygments", "rich", "setuptools", "six", "termcolor", "tqdm"),
    *("typing-extensions", "wheel", "wrapt"),
    # carries what is downloaded, which is pinned by its SHA-256
    *("certifi", "charset-normalizer", "idna", "urllib3"),
    # TensorFlow's, for graphs made out of Python's statements, and for formats that no stage writes
    *("astunparse", "flatbuffers", "gast", "google-pasta", "libclang", "protobuf"),
    # matplotlib's, for settings, dates, formulas and vector formats
    *("cycler", "fonttools", "pyparsing", "python-dateutil"),
}
_PYTHON = ("stdlib", "platstdlib")
_SAME = ("h5py", "keras", "matplotlib", "numpy", "pooch", "requests", "tensorflow")

# What Keras imports wherever it finds it, for functions that no stage calls
BY_KERAS = {"joblib", "pandas", "pillow", "requests", "scikit-learn", "scipy", "threadpoolctl"}


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
    fixed = pins(root)
    for package, expected in versions.items():
        there = fixed.get(normal(package), "none")
        if there != expected:
            yield Finding(
                ENVIRONMENT,
                f"{package} is {expected} here and {there} in {REQUIREMENTS}",
                f"write `{package}=={expected}` into {REQUIREMENTS}, or correct {ENVIRONMENT}",
            )
        if (there := version(package)) != expected:
            yield Finding(
                ENVIRONMENT,
                f"{package} is {expected} here and {there} is installed",
                f"run `pip install -r {REQUIREMENTS}`, or correct {ENVIRONMENT} and {REQUIREMENTS}",
            )


def pins(root: Path) -> dict[str, str]:
    """The packages of requirements.txt and the versions that they are pinned to."""
    path = root / REQUIREMENTS
    text = yaml_file.text_of(path, REQUIREMENTS) if path.is_file() else ""
    pattern = r"^\s*([\w.-]+)(?:\[[^\]]*\])?\s*==\s*([^\s;#]+)"
    return {normal(name): version for name, version in re.findall(pattern, text, re.MULTILINE)}


def version(package: str) -> str:
    """The installed version, or ``none``."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def loaded(files: Iterable[str]) -> dict[str, str]:
    """The distributions that files of modules belong to, each with one of them.

    Those of Python itself are left out; what no distribution holds stands under an empty name.
    """
    found: dict[str, str] = {}
    for file in files:
        path = Path(file)
        site = [part for part in path.parents if part.name in ("site-packages", "dist-packages")]
        if site:
            top = path.relative_to(site[-1]).parts[0]
            name = _holders().get(os.path.realpath(file)) or distribution(top.partition(".")[0])
            found.setdefault(normal(name), file)
        elif not any(path.is_relative_to(sysconfig.get_path(name)) for name in _PYTHON):
            found.setdefault("", file)
    return found


@functools.cache
def _holders() -> dict[str, str]:
    """The distribution of every file that one lists."""
    return {
        os.path.realpath(str(held.locate_file(file))): name
        for held in metadata.distributions()
        for name in [held.metadata["Name"]]  # parsed each time that it is asked for
        for file in held.files or ()
        if file.suffix in (".py", ".so", ".pyd")
    }


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
