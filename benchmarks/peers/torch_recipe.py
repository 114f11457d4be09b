"""The network of stages/models/cnn.py in PyTorch, on images of noise.

    python -m benchmarks.peers.torch_recipe JSON THREADS

JSON has the network's arguments, batch_size, weight_decay, label_smoothing, images, steps and
epochs; the last line printed is the seconds of each epoch of so many steps, after one that is not
measured.
"""

import json
import sys
import time

import torch


def build(channels: list[int], convolutions: list[int]) -> torch.nn.Module:
    """Convolutions, batch normalization and relu in stages, pooled before normalization."""
    nn, blocks, before, size = torch.nn, list[torch.nn.Module](), 1, 28
    for stage, (width, depth) in enumerate(zip(channels, convolutions, strict=True), start=1):
        for at in range(1, depth + 1):
            blocks.append(nn.Conv2d(before, width, 3, padding=1, bias=False))
            if at == depth and stage < len(channels) and size >= 4:
                blocks.append(nn.MaxPool2d(2))
                size //= 2
            blocks += [nn.BatchNorm2d(width), nn.ReLU()]
            before = width
    return nn.Sequential(*blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(before, 10))


def main() -> None:
    """Prints the seconds."""
    given, threads = json.loads(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build(given["channels"], given["convolutions"]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        model.parameters(), 1e-3, weight_decay=given["weight_decay"], fused=True
    )
    loss = torch.nn.CrossEntropyLoss(label_smoothing=given["label_smoothing"])
    count = given["images"]
    x = torch.rand(count, 1, 28, 28)
    y = torch.randint(10, (count,))
    model.train()
    seconds = []
    for _ in range(1 + given["epochs"]):
        order = torch.randperm(count)[: given["steps"] * given["batch_size"]]
        started = time.perf_counter()
        for chosen in order.split(given["batch_size"]):
            optimizer.zero_grad(set_to_none=True)
            images = x[chosen].to(memory_format=torch.channels_last)
            loss(model(images), y[chosen]).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - started)
    print(*seconds[1:])


if __name__ == "__main__":
    main()
