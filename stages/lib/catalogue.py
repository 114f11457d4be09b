"""The active entry of datasets.yaml."""

from dataclasses import dataclass
from typing import TypeVar

from stages.lib import config

T = TypeVar("T")


@dataclass(frozen=True)
class File:
    """A published file and the SHA-256 of its content."""

    name: str
    sha256: str


def active(schema: type[T]) -> tuple[str, T]:
    """The configured data set's name, and the fields of its entry that ``schema`` names.

    Raises:
        UserError: No such entry, or a field is missing or mistyped.
    """
    dataset = config.value(config.PARAMS, "dataset", str)
    config.one_of(dataset, config.read(config.DATASETS), f"{config.PARAMS}: dataset")
    return dataset, config.fields(config.DATASETS, dataset, schema)
