from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.lib import split_file


@pytest.fixture
def ready(project: Any) -> Any:
    """The made project with a training and a validation split of images that can be learnt."""
    random = np.random.default_rng(0)
    for name, count in (("train", 90), ("validation", 30), ("test", 30)):
        labels = np.arange(count) % 2
        images = random.random((count, 4, 4), np.float32) * 0.2 + 0.8 * labels[:, None, None]
        split = split_file.Split(images.astype(np.float32), labels, ["low", "high"], [], 255.0)
        split_file.write(Path(f"data/normalized/{name}.npz"), split)
    Path("data/weights").mkdir()
    project.params["model"]["mlp"] = {"hidden_units": [8], "dropout": 0.2}
    project.params["train"] |= {"epochs": 4, "batch_size": 8, "learning_rate": 0.03}
    project.save()
    return project
