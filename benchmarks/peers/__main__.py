"""One peer's training of the reference network, timed, as one line of JSON.

    python -m benchmarks.peers NAME MIRROR THREADS

Timed is the training alone, tracing and compilation included; imports, reading and the test are
not. Every peer trains the same network with the same optimizer, batch size and epochs.
"""

import importlib
import json
import resource
import sys
import time

from benchmarks.peers import data


def main() -> None:
    """Prints seconds, test accuracy and peak memory in MB."""
    name, mirror, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    peer = importlib.import_module(f"benchmarks.peers.{name}")
    read = data.raw if getattr(peer, "RAW", False) else data.scaled
    (images, labels), (test_images, test_labels) = read(mirror)
    train = peer.prepare(images, labels, threads)
    started = time.perf_counter()
    predict = train()
    seconds = time.perf_counter() - started
    accuracy = float((predict(test_images) == test_labels).mean())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "accuracy": accuracy, "peak_mb": peak}))


if __name__ == "__main__":
    main()
