"""The convolutional network in PyTorch, channels last, with its fused Adam."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

IMAGES, BATCH, EPOCHS = 60_000, 128, 2  # as in network.py, which needs Keras


def prepare(images: Any, labels: Any, threads: int) -> Callable[[], Callable[[Any], Any]]:
    """The training as a function that gives the prediction."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    nn = torch.nn
    blocks: list[Any] = []
    for before, width in ((1, 16), (16, 32), (32, 64)):
        convolution = nn.Conv2d(before, width, 3, padding=1, bias=False)
        blocks += [convolution, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    model = nn.Sequential(*blocks, *head).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    loss = nn.CrossEntropyLoss()
    x = torch.from_numpy(images[:IMAGES, None]).to(memory_format=torch.channels_last)
    y = torch.from_numpy(labels[:IMAGES]).long()

    def train() -> Callable[[Any], Any]:
        model.train()
        for epoch in range(EPOCHS):
            order = torch.from_numpy(np.random.default_rng([0, epoch]).permutation(IMAGES))
            for chosen in order.split(BATCH):
                optimizer.zero_grad(set_to_none=True)
                loss(model(x[chosen]), y[chosen]).backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            return lambda test: model(torch.from_numpy(test[:, None])).argmax(1).numpy()

    return train
