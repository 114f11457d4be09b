"""The architectures of stages/models/, found by their file names."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.lib.core import config
from stages.lib.core.errors import UserError

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


def build(
    architecture: str, input_shape: tuple[int, ...], num_classes: int, arguments: dict[str, Any]
) -> Any:
    """An untrained Keras model of an architecture, N x input_shape to N x K logits.

    Raises:
        UserError: The arguments do not fit each other or the images.
    """
    try:
        return builder(architecture)(input_shape, num_classes, **arguments)
    except ValueError as error:
        raise UserError(
            f"{config.PARAMS}: model.{architecture}.{str(error).splitlines()[0]}.\n"
            f"The images are {' x '.join(map(str, input_shape))}; correct it and run again."
        ) from None
