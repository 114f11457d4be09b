"""The architectures of stages/models/, found by their file names."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.lib import config

FOLDER = Path(__file__).parents[1] / "models"


def builder(architecture: str) -> Callable[..., Any]:
    """The ``build`` of an architecture: input shape, number of classes and its own arguments.

    Raises:
        UserError: There is no module of that name.
    """
    names = [path.stem for path in FOLDER.glob("[!_]*.py")]
    config.one_of(architecture, names, f"{config.PARAMS}: model.architecture")
    build: Callable[..., Any] = importlib.import_module(f"stages.models.{architecture}").build
    return build
