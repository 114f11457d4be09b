"""Keys of the configuration files, against those that stages read."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.lib.core import config, recorded, yaml_file
from stages.lib.core.errors import UserError
from tools.audit.finding import Finding

RECIPES = "recipes"
MODELS = "stages/models"


def load(root: Path, file: str) -> dict[str, Any]:
    """The content of a file of keys and values, YAML, JSON or TOML; an absent one has none.

    Raises:
        UserError: It is not such a file.
    """
    path = root / file
    if not path.is_file():
        return {}
    content = recorded.parse(yaml_file.text_of(path, file), file)
    if not isinstance(content, dict):
        raise UserError(
            f"{file}: expected keys and values in YAML, JSON or TOML, found {str(content)[:60]}.\n"
            "Write it so, or make it a dep instead of a file of parameters."
        )
    return content


def params_files(root: Path) -> dict[str, dict[str, Any]]:
    """params.yaml and every recipe, and each of them with every other architecture that it has."""
    recipes = sorted((root / RECIPES).glob("*.yaml"))
    names = [config.PARAMS, *(path.relative_to(root).as_posix() for path in recipes)]
    variants = {}
    for name in names:
        content = variants[name] = load(root, name)
        model = content.get("model")
        if isinstance(model, dict) and "architecture" in model:
            for block in model:
                if block != model["architecture"] and (root / MODELS / f"{block}.py").is_file():
                    other = {**content, "model": {**model, "architecture": block}}
                    variants[f"{name} with {block}"] = other
    return variants


def text(content: Mapping[str, Any]) -> str:
    """The content as YAML."""
    return str(yaml.safe_dump(dict(content), allow_unicode=True, sort_keys=False))


def unread(file: str, content: Mapping[str, Any], known: set[str]) -> Iterator[Finding]:
    """The keys that no stage reads."""
    for key in _strangers(content, "", known):
        near = difflib.get_close_matches(key, known - _all(content, ""), n=1, cutoff=0.6)
        step = f"did you mean {near[0]}?" if near else "remove it, or read it"
        yield Finding(file, f"{key} is defined and no stage reads it", step)


def has(content: Mapping[str, Any], key: str) -> bool:
    """Whether there is a value at a dotted key."""
    node: Any = content
    for part in key.split(".") if key else ():
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _strangers(node: Mapping[str, Any], prefix: str, known: set[str]) -> Iterator[str]:
    """The outermost keys that are neither read nor hold anything that is."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in known or "" in known:
            continue
        holds = any(other.startswith(f"{key}.") for other in known)
        if holds and isinstance(value, Mapping):
            yield from _strangers(value, f"{key}.", known)
        else:
            yield key


def _all(node: Mapping[str, Any], prefix: str) -> set[str]:
    names: set[str] = set()
    for name, value in node.items():
        names.add(f"{prefix}{name}")
        if isinstance(value, Mapping):
            names |= _all(value, f"{prefix}{name}.")
    return names
