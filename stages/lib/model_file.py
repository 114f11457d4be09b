"""Keras model files whose bytes depend on the model alone."""

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.core import files

if TYPE_CHECKING:
    import keras

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can state


def save(model: "keras.Model", path: Path) -> None:
    """Writes an ordinary ``.keras`` file, equal bytes for equal models.

    Keras writes the time of saving into ``metadata.json`` and into the zip entries, and memory
    addresses as the identities of shared objects into ``config.json``. Here the time is the
    beginning of the zip format's, and the objects are numbered as they come.
    ``keras.saving.load_model`` reads the file as any other.
    """
    import keras

    with files.replacing(path) as temporary:
        as_saved = temporary.with_suffix(".keras")  # the suffix tells Keras the format
        try:
            keras.saving.save_model(model, as_saved)
            temporary.write_bytes(_reproducible(as_saved.read_bytes()))
        finally:
            as_saved.unlink(missing_ok=True)


def _reproducible(saved: bytes) -> bytes:
    """The same zip file without times and memory addresses."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved)) as source, zipfile.ZipFile(result, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                metadata = {**json.loads(content), "date_saved": "1980-01-01@00:00:00"}
                content = json.dumps(metadata).encode()
            elif name == "config.json":
                content = _numbered(content)
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # else Windows writes another byte
            target.writestr(entry, content)
    return result.getvalue()


def _numbered(config: bytes) -> bytes:
    """A model's configuration with its shared objects numbered from 1."""
    numbers: dict[int, int] = {}

    def number(node: dict[str, Any]) -> dict[str, Any]:
        if "shared_object_id" in node:
            address = node["shared_object_id"]
            node["shared_object_id"] = numbers.setdefault(address, len(numbers) + 1)
        return node

    return json.dumps(json.loads(config, object_hook=number)).encode()
