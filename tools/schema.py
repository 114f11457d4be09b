"""Writes schemas/, the JSON schemas of the YAML files for editors: ``python -m tools.schema``.

They are made of the types that the stages check; an editor that reads ``# yaml-language-server:``
then marks a misspelt key or value as it is typed.
"""

import argparse
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stages.lib import architectures
from stages.lib.core import config, files, versions
from stages.lib.data import catalogue, formats
from tools.lib import command, stand_ins

SCHEMAS = Path("schemas")
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def params() -> dict[str, Any]:
    """The schema of params.yaml and of recipes, with the names that there are."""
    names = sorted(path.stem for path in architectures.FOLDER.glob("[!_]*.py"))
    models = {name: config.arguments_schema(architectures.builder(name)) for name in names}
    stages = [f"stages.{name}" for name in ("normalize", "train", "evaluate", "plot")]
    sections = {name.rpartition(".")[2]: importlib.import_module(name).Params for name in stages}
    types = [*models.values(), *sections.values()]
    parts = {kind: _inline(kind) for kind in types}
    for name, kind in models.items():
        for argument, words in _descriptions(architectures.builder(name)).items():
            if argument in parts[kind]["properties"]:
                parts[kind]["properties"][argument]["description"] = words
    datasets = [str(name) for name in config.read(config.DATASETS)]
    weights = [str(name) for name in config.read(config.WEIGHTS)]
    model = {
        "architecture": {"enum": names, "description": "A module of stages/models/"},
        "output": {"enum": ["logits", "softmax"], "description": "What the network ends in"},
        "weights": {"enum": weights, "description": "An entry of weights.yaml"},
        **{name: parts[kind] for name, kind in models.items()},
    }
    properties = {
        "dataset": {"enum": datasets, "description": "An entry of datasets.yaml"},
        "model": _section(model, ["architecture", "output", "weights"]),
        **{name: parts[kind] for name, kind in sections.items()},
    }
    return {"$schema": DRAFT, "title": "params.yaml", **_section(properties, list(properties))}


def datasets() -> dict[str, Any]:
    """The schema of datasets.yaml: entries by name."""
    entry = _inline(catalogue.Entry)
    entry["properties"]["format"]["enum"] = list(formats.by_name())
    return {
        "$schema": DRAFT,
        "title": "datasets.yaml",
        "type": "object",
        "additionalProperties": entry,
    }


def weights() -> dict[str, Any]:
    """The schema of weights.yaml: entries by name."""
    return {
        "$schema": DRAFT,
        "title": "weights.yaml",
        "type": "object",
        "additionalProperties": _inline(catalogue.Weights),
    }


def environment() -> dict[str, Any]:
    """The schema of environment.yaml: the committed packages, each with a version as a text."""
    version = {"type": "string", "description": "The version, in quotes"}
    packages = dict.fromkeys(config.read(versions.ENVIRONMENT), version)
    return {"$schema": DRAFT, "title": "environment.yaml", **_section(packages, [])}


def _descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """What a docstring says of arguments, by their names, in the section ``Args:``."""
    section = re.search(r"^Args:\n((?: .*\n|\n)*)", f"{inspect.getdoc(function)}\n", re.MULTILINE)
    found = re.findall(
        r"^ {4}(\w+): (.+(?:\n {5,}.+)*)", section[1] if section else "", re.MULTILINE
    )
    return {name: " ".join(words.split()) for name, words in found}


def _section(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _inline(kind: Any) -> dict[str, Any]:
    """The schema of one type, with what it refers to written in place."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")

    def resolved(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolved(components[node["$ref"]])
            return {key: resolved(item) for key, item in node.items()}
        return [resolved(item) for item in node] if isinstance(node, list) else node

    inlined: dict[str, Any] = resolved(schema)
    return inlined


def texts() -> dict[str, str]:
    """The content of each file of schemas/, by its name."""
    schemas = {
        "params": params(),
        "datasets": datasets(),
        "weights": weights(),
        "environment": environment(),
    }
    return {
        f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes schemas/; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.schema", description=__doc__)
    parser.parse_args(arguments)
    return command.ended(_write)


def _write() -> None:
    """Without TensorFlow: only the types of the stages are looked at."""
    with stand_ins.instead_of("keras", "tensorflow"):
        made = texts()
    SCHEMAS.mkdir(exist_ok=True)
    for name, text in made.items():
        with files.replacing(SCHEMAS / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    print(f"{len(made)} schemas in {SCHEMAS}/")


if __name__ == "__main__":
    sys.exit(main())
