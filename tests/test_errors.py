"""Every error of docs/errors.md happens, in the words that it states."""

import errno
import hashlib
import importlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from PIL import Image

from stages.lib import architectures, split_file
from stages.lib.core import config
from stages.lib.core import stage as stages
from stages.lib.core.errors import UserError
from stages.lib.data import fetch
from tests.conftest import ROOT, Answer, Finished, Repository, Server, execute, idx_bytes
from tests.faults.prepared import ENVIRONMENT, prepare
from tests.tools import model_fixtures
from tools.compare import __main__ as compare
from tools.export import __main__ as export
from tools.export import formats
from tools.predict import __main__ as predict

PAGE = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
DELETED = object()
EMPTY = object()  # a split without an image
ENGLISH = object()  # a split without Chinese class names
LARGER = object()  # a split of images eight times as large
NO_WEIGHTS = {"title": "None", "licence": "", "citation": "", "urls": [], "files": {}}


def _png(size: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (size, size), 7).save(stream, "PNG")
    return stream.getvalue()


PIXEL, PIXELS = _png(1), _png(2)


def other_split() -> bytes:
    """A split of images of another size."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.npz"
        images = np.zeros((1, 2, 2), np.float32)
        split_file.write(path, split_file.Split(images, np.array([0]), ["a", "b"], [], 1.0))
        return path.read_bytes()


OTHER_SPLIT = other_split()

# By the words of the page: the stage, and what is changed where it would run well. A change is of
# a key (params:KEY, datasets:KEY, environment:KEY), of a file (file:PATH), of a published file and
# its SHA-256 (publish:ROLE), of the weights to start from (start:NAME), of an archive's arrays (npz:),
# or it makes the data set an archive of image files (images:).
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    # params.yaml
    "params.yaml: not found in …": ("normalize", {"file:params.yaml": DELETED}),
    "params.yaml: expected keys and values, found an empty file.": (
        "normalize",
        {"file:params.yaml": b""},
    ),
    "params.yaml: expected keys and values, found …": (
        "normalize",
        {"file:params.yaml": b"- a\n- b\n"},
    ),
    "params.yaml: not UTF-8 …": ("normalize", {"file:params.yaml": b"dataset: \xff\xfe"}),
    "params.yaml: line … col…": (
        "normalize",
        {"file:params.yaml": b"dataset: tiny\nnormalize: [\n"},
    ),
    "params.yaml: …the key 'dataset' occurs twice…": (
        "normalize",
        {"file:params.yaml": b"dataset: tiny\ndataset: tiny\n"},
    ),
    "params.yaml: dataset: expected one of …; found …": ("normalize", {"params:dataset": "tinny"}),
    "params.yaml: dataset: expected a text, found …": ("normalize", {"params:dataset": 7}),
    "params.yaml: normalize: expected a section …": ("normalize", {"params:normalize": "x"}),
    "params.yaml: normalize.sead: unknown key; …": ("normalize", {"params:normalize.sead": 1}),
    "params.yaml: normalize.validation_fraction: expected …, found …": (
        "normalize",
        {"params:normalize.validation_fraction": 1},
    ),
    "params.yaml: normalize.seed: expected …, found …": (
        "normalize",
        {"params:normalize.seed": -1},
    ),
    "params.yaml: normalize.test_fraction: expected …, found …": (
        "normalize",
        {"params:normalize.test_fraction": 0},
    ),
    "params.yaml: normalize.size: expected …, found …": (
        "normalize",
        {"params:normalize.size": "96x96"},
    ),
    "params.yaml: normalize.colour: expected one of …; found …": (
        "normalize",
        {"params:normalize.colour": "gray"},
    ),
    "params.yaml: normalize.colour: expected images of 1 or 3 channels, …": (
        "normalize",
        {
            "params:normalize.colour": "grey",
            "npz:": {
                "x_train": np.zeros((20, 2, 3, 2), np.uint8),
                "x_test": np.zeros((5, 2, 3, 2), np.uint8),
            },
        },
    ),
    "params.yaml: normalize.resize: expected one of …; found …": (
        "normalize",
        {"params:normalize.resize": "squeeze"},
    ),
    "params.yaml: normalize.background: expected one of …; found …": (
        "normalize",
        {"params:normalize.background": "grey"},
    ),
    "params.yaml: normalize.unreadable: expected one of …; found …": (
        "normalize",
        {"params:normalize.unreadable": "ignore"},
    ),
    "params.yaml: train.learning_rate: expected one that lets the loss fall; …": (
        "train",
        {"params:train.learning_rate": 1e30},
    ),
    "params.yaml: train.learning_rate: expected …, found …": (
        "train",
        {"params:train.learning_rate": 0},
    ),
    "params.yaml: train.schedule: expected one of …; found …": (
        "train",
        {"params:train.schedule": "cosin"},
    ),
    "params.yaml: train.optimizer: expected one of …; found …": (
        "train",
        {"params:train.optimizer": "adma"},
    ),
    "params.yaml: train.warmup: expected …, found …": ("train", {"params:train.warmup": 1}),
    "params.yaml: train.weight_decay: expected …, found …": (
        "train",
        {"params:train.weight_decay": -0.1},
    ),
    "params.yaml: train.label_smoothing: expected …, found …": (
        "train",
        {"params:train.label_smoothing": 1.5},
    ),
    "params.yaml: train.batch_size: expected …, found …": ("train", {"params:train.batch_size": 0}),
    "params.yaml: train.epochs: expected …, found …": ("train", {"params:train.epochs": "5"}),
    "params.yaml: train.seed: expected …, found …": ("train", {"params:train.seed": 1.5}),
    "params.yaml: train.threads: expected …, found …": ("train", {"params:train.threads": 0}),
    "params.yaml: train.augmentation.flip: expected …, found …": (
        "train",
        {"params:train.augmentation.flip": 2},
    ),
    "params.yaml: train.augmentation.shift: expected …, found …": (
        "train",
        {"params:train.augmentation.shift": -1},
    ),
    "params.yaml: train.optimizer_arguments.momentun: unknown key; …": (
        "train",
        {"params:train.optimizer_arguments": {"momentun": 0.9}},
    ),
    "params.yaml: train.optimizer_arguments.beta_1: expected …, found …": (
        "train",
        {"params:train.optimizer_arguments": {"beta_1": 1}},
    ),
    "params.yaml: train.optimizer_arguments: expected one way to clip, found …": (
        "train",
        {"params:train.optimizer_arguments": {"clipnorm": 1, "clipvalue": 1}},
    ),
    "params.yaml: train.optimizer_arguments.ema_momentum: expected use_ema beside it, found none…": (
        "train",
        {"params:train.optimizer_arguments": {"ema_momentum": 0.9}},
    ),
    "params.yaml: train.class_weights: expected one of …; found …": (
        "train",
        {"params:train.class_weights": "balance"},
    ),
    "params.yaml: train.deterministic: expected …, found …": (
        "train",
        {"params:train.deterministic": "on a GPU"},
    ),
    "params.yaml: train.standardize: expected …, found …": (
        "train",
        {"params:train.standardize": "yes, please"},
    ),
    "params.yaml: train.augmentation.brightness: expected …, found …": (
        "train",
        {"params:train.augmentation.brightness": 50},
    ),
    "params.yaml: train.augmentation.cutmix: expected 0 beside mixup, found …": (
        "train",
        {"params:train.augmentation": {"mixup": 0.2, "cutmix": 1}},
    ),
    "params.yaml: train.keep: expected one of …; found …": ("train", {"params:train.keep": "bets"}),
    "params.yaml: train.keep: expected last without a validation split, found …": (
        "train",
        {"params:train.keep": "best", "file:data/normalized/validation.npz": EMPTY},
    ),
    "params.yaml: train.monitor: expected one of …; found …": (
        "train",
        {"params:train.monitor": "loss"},
    ),
    "params.yaml: train.patience: expected an integer …, found …": (
        "train",
        {"params:train.patience": 0},
    ),
    "params.yaml: train.precision: expected one of …; found …": (
        "train",
        {"params:train.precision": "float64"},
    ),
    "params.yaml: train.frozen_epochs: expected 0, as model.weights is none; …": (
        "train",
        {
            "weights:none": NO_WEIGHTS,
            "params:model.weights": "none",
            "params:train.frozen_epochs": 1,
        },
    ),
    "params.yaml: train.standardize: expected false with weights of keras.applications, …": (
        "train",
        {"start:start.h5": b"weights", "params:train.standardize": True},
    ),
    "params.yaml: train.frozen_epochs: expected at most train.epochs, …": (
        "train",
        {"params:train.frozen_epochs": 99},
    ),
    "params.yaml: train.fine_tuning_factor: expected …, found …": (
        "train",
        {"params:train.fine_tuning_factor": 0},
    ),
    "params.yaml: train.temperature: expected one of …; found …": (
        "train",
        {"params:train.temperature": "test"},
    ),
    "params.yaml: train.temperature: expected none without a validation split, found …": (
        "train",
        {"params:train.temperature": "validation", "file:data/normalized/validation.npz": EMPTY},
    ),
    "params.yaml: train.patience: expected null without a validation split, found …": (
        "train",
        {"params:train.patience": 3, "file:data/normalized/validation.npz": EMPTY},
    ),
    "params.yaml: train.batch_sise: unknown key; …": ("train", {"params:train.batch_sise": 1}),
    "params.yaml: model.output: expected one of …; found …": (
        "train",
        {"params:model.output": "logit"},
    ),
    "params.yaml: model.architecture: expected one of …; found …": (
        "train",
        {"params:model.architecture": "mpl"},
    ),
    "params.yaml: model.weights: expected one of …; found …": (
        "train",
        {"params:model.weights": "strat"},
    ),
    "params.yaml: model.weights: expected a .keras file for this architecture, found …": (
        "train",
        {"start:start.h5": b"weights"},
    ),
    "params.yaml: model.mlp.dropout: expected …, found …": (
        "train",
        {"params:model.mlp.dropout": 1.0},
    ),
    "params.yaml: model.mlp.hidden_units: expected …, found …": (
        "train",
        {"params:model.mlp.hidden_units": 512},
    ),
    "params.yaml: evaluate.batch_size: expected …, found …": (
        "evaluate",
        {"params:evaluate.batch_size": 0},
    ),
    "params.yaml: evaluate.threads: expected …, found …": (
        "evaluate",
        {"params:evaluate.threads": "two"},
    ),
    "params.yaml: plot.samples: expected …, found …": ("plot", {"params:plot.samples": 0}),
    "params.yaml: plot.predictions: expected …, found …": (
        "plot",
        {"params:plot.predictions": 101},
    ),
    "params.yaml: plot.class_names: expected en, as … has no Chinese class names; …": (
        "plot",
        {"params:plot.class_names": "zh", "file:data/normalized/train.npz": ENGLISH},
    ),
    "params.yaml: plot.class_names: expected one of …; found …": (
        "plot",
        {"params:plot.class_names": "fr"},
    ),
    # datasets.yaml
    "datasets.yaml: not found in …": ("normalize", {"file:datasets.yaml": DELETED}),
    "datasets.yaml: tiny.title: expected …, found …": ("normalize", {"datasets:tiny.title": 5}),
    "datasets.yaml: tiny.format: expected one of …; found …": (
        "normalize",
        {"datasets:tiny.format": "png"},
    ),
    "datasets.yaml: tiny.pixel_max: expected …, found …": (
        "normalize",
        {"datasets:tiny.pixel_max": 0},
    ),
    "datasets.yaml: tiny.pixel_max: expected 255, to which image files are decoded, found …": (
        "normalize",
        {"images:": {"even/1.png": PIXEL}, "datasets:tiny.pixel_max": 16},
    ),
    "datasets.yaml: tiny.urls…: expected …, found …": (
        "normalize",
        {"datasets:tiny.urls": ["ftp://example.org/x"]},
    ),
    "datasets.yaml: tiny.files.train_images.name: expected …, found …": (
        "normalize",
        {"datasets:tiny.files.train_images.name": "../x.gz"},
    ),
    "datasets.yaml: tiny.files.train_images.sha256: expected …, found …": (
        "normalize",
        {"datasets:tiny.files.train_images.sha256": "abc"},
    ),
    "datasets.yaml: tiny.files.train_images.size: expected …, found …": (
        "normalize",
        {"datasets:tiny.files.train_images.size": 0},
    ),
    "datasets.yaml: tiny.files: … expected one of …; found …": (
        "normalize",
        {
            "datasets:tiny.files.training": {
                "name": "a",
                "sha256": "0000000000000000000000000000000000000000000000000000000000000000",
            }
        },
    ),
    "datasets.yaml: tiny.files: … expected …, found no …": (
        "normalize",
        {"datasets:tiny.files.test_labels": DELETED},
    ),
    "datasets.yaml: tiny.class_names: expected two or more …, found …": (
        "normalize",
        {"datasets:tiny.class_names": ["a"]},
    ),
    "datasets.yaml: tiny.class_names: expected names that differ, found …": (
        "normalize",
        {"datasets:tiny.class_names": ["a", "a"]},
    ),
    "datasets.yaml: tiny.class_names: expected as many names …, found …": (
        "normalize",
        {"datasets:tiny.class_names": {"en": ["a", "b"], "zh": ["c"]}},
    ),
    "datasets.yaml: tiny.class_names: expected one of …; found …": (
        "normalize",
        {"datasets:tiny.class_names": {"en": ["a", "b"], "fr": ["c", "d"]}},
    ),
    "datasets.yaml: tiny.colour: unknown key; …": ("normalize", {"datasets:tiny.colour": 1}),
    "datasets.yaml: tiny.licence: this key is missing; …": (
        "normalize",
        {"datasets:tiny.licence": DELETED},
    ),
    "weights.yaml: start.files.values.name: expected …, found …": (
        "download",
        {"weights:start.files.values.name": "start.npz"},
    ),
    "weights.yaml: start.title: this key is missing; …": (
        "train",
        {"weights:start.title": DELETED},
    ),
    # environment.yaml and libraries
    "environment.yaml: numpy: expected version …, installed is …": (
        "normalize",
        {"environment:numpy": "1.0.0"},
    ),
    "environment.yaml: numpy: this key is missing; …": (
        "normalize",
        {"environment:numpy": DELETED},
    ),
    "environment.yaml: not found in …": ("normalize", {"file:environment.yaml": DELETED}),
    # Raw data
    "data/raw/train_images.gz: not found, …": (
        "normalize",
        {"file:data/raw/train_images.gz": DELETED},
    ),
    "data/raw/train_images.gz: expected … SHA-256 …, found …": (
        "normalize",
        {"file:data/raw/train_images.gz": b"x"},
    ),
    "data/raw/train_images.gz: not an IDX file …: expected a header …, found …": (
        "normalize",
        {"publish:train_images": b"\x00\x00"},
    ),
    "data/raw/train_images.gz: not an IDX file …: expected the magic number …, found …": (
        "normalize",
        {"publish:train_images": b"text and nothing else"},
    ),
    "data/raw/train_images.gz: not an IDX file …: expected values of type 0x08 …, found …": (
        "normalize",
        {"publish:train_images": b"\x00\x00\r\x03" + bytes(40)},
    ),
    "data/raw/train_images.gz: not an IDX file …: expected 3 or 4 as number of dimensions, found …": (
        "normalize",
        {"publish:train_images": b"\x00\x00\x08\x02" + bytes(40)},
    ),
    "data/raw/train_images.gz: not an IDX file …: expected sizes of 1 or more, found …": (
        "normalize",
        {
            "publish:train_images": b"\x00\x00\x08\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        },
    ),
    "data/raw/train_images.gz: not an IDX file …: expected … bytes for shape …, found …": (
        "normalize",
        {
            "publish:train_images": b"\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x02123"
        },
    ),
    "data/raw/train_images.gz: not an IDX file …: expected a whole gzip file, found …": (
        "normalize",
        {"publish:train_images": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00half"},
    ),
    "data/raw/tiny.npz: expected an .npz archive of x_train, …, found: …": (
        "normalize",
        {"publish:arrays": b"PK no archive"},
    ),
    "data/raw: … set: expected images of N x H x W …, found …": (
        "normalize",
        {
            "npz:": {
                "x_train": [
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                    [1, 2],
                ]
            }
        },
    ),
    "data/raw: … set: expected labels of shape …, found …": (
        "normalize",
        {"npz:": {"y_train": [0, 1]}},
    ),
    "data/raw: … set: expected labels that are integers, found …": (
        "normalize",
        {
            "npz:": {
                "y_train": [
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                    0.5,
                ]
            }
        },
    ),
    "data/raw: … set: expected labels from 0 to …, found …": (
        "normalize",
        {"npz:": {"y_train": [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]}},
    ),
    "data/raw: … set: expected pixels from 0 to pixel_max …, found …": (
        "normalize",
        {
            "npz:": {
                "x_train": [
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                    [[300, 300, 300], [300, 300, 300]],
                ]
            }
        },
    ),
    "data/raw: … set: expected pixels that are numbers, found …": (
        "normalize",
        {
            "npz:": {
                "x_train": [
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                    [["a", "a", "a"], ["a", "a", "a"]],
                ]
            }
        },
    ),
    "data/raw: … set: expected images of shape … as for training, found …": (
        "normalize",
        {
            "npz:": {
                "x_test": [
                    [[3, 3, 3, 3], [3, 3, 3, 3]],
                    [[3, 3, 3, 3], [3, 3, 3, 3]],
                    [[3, 3, 3, 3], [3, 3, 3, 3]],
                    [[3, 3, 3, 3], [3, 3, 3, 3]],
                    [[3, 3, 3, 3], [3, 3, 3, 3]],
                ]
            }
        },
    ),
    "data/raw/tiny.zip: expected a whole zip, tar or tar.gz archive, found: …": (
        "normalize",
        {"images:": b"PK and nothing else"},
    ),
    "data/raw/tiny.zip: …: expected a file that an archive of images may hold, found …": (
        "normalize",
        {"images:": {"even/../../1.png": PIXEL}},
    ),
    "data/raw/tiny.zip: expected class folders in it, or a labels.csv …, found …": (
        "normalize",
        {"images:": {"1.png": PIXEL}},
    ),
    "data/raw/tiny.zip: expected a folder train, found …": (
        "normalize",
        {"images:": {"test/even/1.png": PIXEL, "val/even/1.png": PIXEL}},
    ),
    "data/raw/tiny.zip: expected one folder of … images, found …": (
        "normalize",
        {"images:": {f"{name}/even/1.png": PIXEL for name in ("train", "val", "valid")}},
    ),
    "data/raw/tiny.zip/labels.csv: expected …, found …": (
        "normalize",
        {"images:": {"labels.csv": b"path,label\n2.png,even\n", "1.png": PIXEL}},
    ),
    "data/raw/tiny.zip: expected the classes of class_names (…), found … too.": (
        "normalize",
        {"images:": {"even/1.png": PIXEL, "odds/1.png": PIXEL}},
    ),
    "data/raw/tiny.zip: expected image files, found … that cannot be read, …": (
        "normalize",
        {"images:": {"even/1.png": PIXEL, "odd/1.png": PIXEL[:-30]}},
    ),
    "data/raw/tiny.zip: expected images, found none that can be read.": (
        "normalize",
        {
            "images:": {"even/1.png": b"", "odd/1.png": b""},
            "params:normalize.unreadable": "skip",
        },
    ),
    "data/raw/tiny.zip: expected images of one height and width, found …": (
        "normalize",
        {"images:": {"even/1.png": PIXEL, "odd/1.png": PIXELS}},
    ),
    "data/raw/tiny.zip: expected … images, found none among the …": (
        "normalize",
        {
            "images:": {"even/1.png": PIXEL, "odd/1.png": PIXEL},
            "params:normalize.test_fraction": 0.000001,
        },
    ),
    "data/embedded/train_images.gz: expected SHA-256 …, found …": (
        "download",
        {"file:data/embedded/train_images.gz": b"edited"},
    ),
    "data/own/train_images.gz: expected SHA-256 …, found …": (
        "download",
        {"file:data/own/train_images.gz": b"edited"},
    ),
    # Results of earlier stages
    "data/normalized/train.npz: not found; …": (
        "train",
        {"file:data/normalized/train.npz": DELETED},
    ),
    "data/normalized/train.npz: expected an .npz archive …, found: …": (
        "train",
        {"file:data/normalized/train.npz": b"PK"},
    ),
    "data/normalized/train.npz: expected at least one training image, …": (
        "train",
        {"file:data/normalized/train.npz": EMPTY},
    ),
    "data/normalized/test.npz: expected at least one test image, …": (
        "evaluate",
        {"file:data/normalized/test.npz": EMPTY},
    ),
    "data/normalized/test.npz: expected an .npz archive …, found: …": (
        "evaluate",
        {"file:data/normalized/test.npz": b""},
    ),
    "data/weights/SHA256SUMS: expected what weights.yaml has for model.weights, …, found …": (
        "train",
        {"weights:start.files.values.name": "other.keras"},
    ),
    "data/weights/start.keras: not found, though …": (
        "train",
        {"file:data/weights/start.keras": DELETED},
    ),
    "data/weights/start.keras: expected the weights that …, found …": (
        "train",
        {"file:data/weights/start.keras": b"edited"},
    ),
    "data/weights/start.keras: expected a Keras model …, found: …": (
        "train",
        {"start:start.keras": b"no model"},
    ),
    "data/weights/start.keras: expected the weights of the configured network, …": (
        "train",
        {"params:model.mlp.hidden_units": [5]},
    ),
    "data/weights/start.h5: expected the weights of … without its top, found: …": (
        "train",
        {
            "start:start.h5": b"no weights",
            "params:model.architecture": "pretrained",
            "params:model.pretrained": {"backbone": "MobileNetV3Small"},
            "file:data/normalized/train.npz": LARGER,
            "file:data/normalized/validation.npz": LARGER,
        },
    ),
    "params.yaml: normalize.size: expected 32 x 32 pixels or more …, found …": (
        "train",
        {
            "params:model.architecture": "pretrained",
            "params:model.pretrained": {"backbone": "MobileNetV3Small"},
        },
    ),
    "models/model.keras: not found; …": ("evaluate", {"file:models/model.keras": DELETED}),
    "models/model.keras: expected …, found…": (
        "evaluate",
        {"file:models/model.keras": b"no model"},
    ),
    "reports/train/history.csv: not found; …": (
        "plot",
        {"file:reports/train/history.csv": DELETED},
    ),
    "reports/train/history.csv: expected …found …": (
        "plot",
        {"file:reports/train/history.csv": b"epoch\n1\n"},
    ),
    "reports/train/metrics.json: expected …found …": (
        "plot",
        {"file:reports/train/metrics.json": b"{}"},
    ),
    "reports/train/run.json: expected …found …": ("plot", {"file:reports/train/run.json": b"[1]"}),
    "reports/evaluate/predictions.csv: expected …found …": (
        "plot",
        {"file:reports/evaluate/predictions.csv": b"index,actual\n"},
    ),
    "reports/evaluate/per_class.csv: expected …found …": (
        "plot",
        {"file:reports/evaluate/per_class.csv": b"label\n0\n"},
    ),
    "data/normalized/validation.npz: expected images of shape …, found …": (
        "evaluate",
        {"file:data/normalized/validation.npz": OTHER_SPLIT},
    ),
    "reports/data/metrics.json: expected …found …": (
        "plot",
        {"file:reports/data/metrics.json": b"{}"},
    ),
    "reports/data/tables/duplicates.csv: expected …found …": (
        "plot",
        {"file:reports/data/tables/duplicates.csv": b"group\nx\n"},
    ),
    "reports/evaluate/second_look.csv: expected …found …": (
        "plot",
        {"file:reports/evaluate/second_look.csv": b"split\nx\n"},
    ),
    "reports/evaluate/metrics.json: expected …found …": (
        "plot",
        {"file:reports/evaluate/metrics.json": b"not JSON"},
    ),
    "reports/evaluate/calibration.csv: expected …found …": (
        "plot",
        {"file:reports/evaluate/calibration.csv": b"lower\nx\n"},
    ),
    # Files and processes
    # Network, mirror and cache
    # Git and DVC
}


def listed() -> list[str]:
    """The errors that the page lists, in its words."""
    return re.findall(r"^\| `(.+?)` \| .+ \| .+ \|$", PAGE, re.MULTILINE)


def says(message: str, words: str) -> bool:
    """Whether a message is the one that the page means; … stands for anything."""
    pattern = ".*".join(re.escape(part) for part in words.split("…"))
    return bool(re.match(pattern, " ".join(message.split())))


@dataclass
class World:
    """A stage where it would run well, and what a test may do to it."""

    folder: Path
    patch: pytest.MonkeyPatch
    server: Server
    capture: pytest.CaptureFixture[str]

    def prepare(self, stage: str) -> None:
        """Goes into a folder in which the stage would run well."""
        prepare(stage, self.folder)
        self.patch.chdir(self.folder)
        for name, text in ENVIRONMENT.items():
            self.patch.setenv(name, text)

    def run(self, stage: str, code: int = 1) -> str:
        """The error with which the stage ends."""
        module: Any = importlib.import_module(f"stages.{stage}")
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            stages.run(module.read_settings, module.main, getattr(module, "INPUTS", ()))
        out, err = self.capture.readouterr()
        assert Finished(int(ended.value.code or 0), out, err).code == code
        return Finished(1, out, err).message


@pytest.fixture
def world(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    capfd: pytest.CaptureFixture[str],
) -> World:
    monkeypatch.setattr(fetch, "_PAUSES", ())
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return World(tmp_path / "made", monkeypatch, server, capfd)


def change(target: str, value: Any) -> None:
    """Makes one of the changes that CHANGES lists, in the working folder."""
    kind, _, key = target.partition(":")
    if kind == "start":
        digest = hashlib.sha256(value).hexdigest()
        change("weights:start.files.values", {"name": key, "sha256": digest})
        Path("data/weights", key).write_bytes(value)
        Path("data/weights/SHA256SUMS").write_bytes(f"{digest}  {key}\n".encode())
    elif kind == "file":
        path = Path(key)
        if value is DELETED:
            path.unlink()
        elif value is LARGER:
            split = split_file.read(path)
            images = np.kron(split.images[:], np.ones((8, 8), np.float32))
            split_file.write(path, replace(split, images=images))
        elif value is ENGLISH:
            split_file.write(path, replace(split_file.read(path), class_names_zh=[]))
        elif value is EMPTY:
            split = split_file.read(path)
            split_file.write(path, replace(split, images=split.images[:0], labels=split.labels[:0]))
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(value)
    elif kind in ("publish", "npz"):
        publish(key, value)
    elif kind == "images":
        publish("archive", value if isinstance(value, bytes) else zipped(value))
    else:
        path = Path(f"{kind}.yaml")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        *parents, name = key.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        if value is DELETED:
            del section[name]
        else:
            section[name] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive of files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def publish(role: str, content: Any) -> None:
    """Makes a content, or an archive of changed arrays, the data set's, with its SHA-256."""
    if not role:
        usual: dict[str, Any] = {
            "x_train": np.zeros((20, 2, 3), np.uint8),
            "y_train": np.arange(20) % 2,
            "x_test": np.zeros((5, 2, 3), np.uint8),
            "y_test": np.arange(5) % 2,
        }
        stream = io.BytesIO()
        np.savez(stream, **usual | {name: np.array(value) for name, value in content.items()})
        role, content = "arrays", stream.getvalue()
    name = {"arrays": "tiny.npz", "archive": "tiny.zip"}.get(role, f"{role}.gz")
    file = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
    if role in ("arrays", "archive"):
        change("datasets:tiny.format", "npz" if role == "arrays" else "images")
        change("datasets:tiny.files", {})
    change(f"datasets:tiny.files.{role}", file)
    Path("data/raw", name).write_bytes(content)


@pytest.mark.parametrize("words", CHANGES)
@pytest.mark.usefixtures("tensorflow")
def test_a_mistake_is_named_in_the_words_of_the_page(world: World, words: str) -> None:
    stage, changes = CHANGES[words]
    world.prepare(stage)
    if stage == "evaluate":
        Path("models").mkdir(exist_ok=True)
        Path("models/model.keras").write_bytes(b"no model")
    for target, value in changes.items():
        change(target, value)
    message = world.run(stage)
    assert says(message, words), message


def answers(status: int, body: bytes = b"", size: int | None = None) -> Callable[[World], str]:
    """The error of a server's answer."""

    def act(world: World) -> str:
        world.prepare("download")
        world.patch.setenv("DATASET_MIRROR", world.server.url)
        if size:
            change("datasets:tiny.files.test_labels.size", size)
        world.server.answers["/tiny/test_labels.gz"] = [Answer(body, status)]
        return world.run("download")

    return act


def mirror(address: str) -> Callable[[World], str]:
    """The error of a mirror."""

    def act(world: World) -> str:
        world.prepare("download")
        world.patch.setenv("DATASET_MIRROR", address)
        return world.run("download")

    return act


def no_name(world: World) -> str:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    world.patch.setattr(socket, "getaddrinfo", unknown)
    return mirror("http://nowhere.example.org")(world)


def other_mirror(world: World) -> str:
    world.prepare("download")
    Path("mirror/tiny/train_images.gz").write_bytes(b"other")
    return world.run("download")


def no_cache(world: World) -> str:
    world.prepare("download")
    Path("cache").write_text("a file where the folder should be")
    return world.run("download")


def refusing(code: int) -> Callable[[World], str]:
    """The error when the system refuses to open what is written."""

    def act(world: World) -> str:
        def refused(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        world.prepare("normalize")
        world.patch.setattr(split_file, "_write_chunks", refused)
        return world.run("normalize")

    return act


def without_memory(stage: str, module: str, name: str) -> Callable[[World], str]:
    """The error of a stage in which a function asks for more memory than there is."""

    def act(world: World) -> str:
        def too_much(*_: object) -> None:
            raise MemoryError("Unable to allocate 9 TiB")

        world.prepare(stage)
        world.patch.setattr(f"{module}.{name}", too_much)
        return world.run(stage)

    return act


def without_deterministic_form(world: World) -> str:
    import tensorflow as tf

    from stages.lib.training import loop

    def refused(*_: object) -> None:
        said = "Deterministic GPU implementation of unsorted segment reduction op not available."
        where = (
            "Graph execution error:\n\nDetected at node Sum defined at (most recent call last):\n"
        )
        raise tf.errors.UnimplementedError(None, None, f"{where}\n{said}\n\t [[{{{{node Sum}}}}]]")

    world.prepare("train")
    world.patch.setattr(loop.Loop, "epoch", refused)
    return world.run("train")


def edited_configuration(world: World) -> str:
    return edited(world, lambda: change("params:plot.samples", 23))


def edited_input(world: World) -> str:
    def edit() -> None:
        path = Path("reports/train/history.csv")
        path.write_bytes(path.read_bytes() + b"\n")

    return edited(world, edit)


def edited(world: World, edit: Callable[[], None]) -> str:
    """The error when something is edited after the stage has read it."""
    from stages import plot

    def draw(*_: object) -> dict[str, bytes]:
        edit()
        return {}

    world.prepare("plot")
    world.patch.setattr(plot, "draw", draw)
    world.patch.setattr("stages.lib.reporting.report.render", lambda *_: "")
    return world.run("plot")


def interrupted(world: World) -> str:
    script = (
        "from stages.lib.core import stage\n"
        "def main(_): raise KeyboardInterrupt\n"
        "stage.run(lambda: 1, main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    return done.stderr


def not_installed(world: World) -> str:
    world.prepare("normalize")
    Path("sitecustomize.py").write_text("import sys\nsys.modules['msgspec'] = None\n")
    path = os.pathsep.join([str(world.folder), str(ROOT)])
    return execute(
        [sys.executable, "-m", "stages.normalize"], world.folder, PYTHONPATH=path
    ).message


def warning_as_error(world: World) -> str:
    def warn(*_: object, **__: object) -> None:
        raise DeprecationWarning("an old name")

    world.prepare("normalize")
    world.patch.setattr(split_file, "_write_chunks", warn)
    return world.run("normalize")


def serving_weights(world: World) -> str:
    world.server.answers["/x.keras"] = [Answer(b"\x89HDF\r\n\x1a\n")]
    return adding("SERVER/x.keras", tool="add_weights")(world)


def not_pulled(world: World) -> str:
    world.prepare("download")
    Path("mirror/tiny/train_images.gz").unlink()
    Path("data/own").mkdir()
    Path("data/own/train_images.gz.dvc").write_text("outs: []")
    return world.run("download")


def adding(
    *arguments: str, tool: str = "add_dataset.__main__", **sources: Any
) -> Callable[[World], str]:
    """The error of a tool that adds, in a folder with sources: bytes, or folders of files."""

    def act(world: World) -> str:
        module: Any = importlib.import_module(f"tools.{tool}")
        world.prepare("download")
        for name, source in sources.items():
            path = Path(name.replace("__", "/").replace("_", "."))
            for below, content in source.items() if isinstance(source, dict) else [("", source)]:
                (path / below).parent.mkdir(parents=True, exist_ok=True)
                (path / below).write_bytes(content)
        with pytest.raises(UserError) as caught:
            module.main([each.replace("SERVER", world.server.url) for each in arguments])
        return Finished(1, "", f"ERROR: {caught.value}").message

    return act


CLASSES = {"even/1.png": PIXEL, "odd/1.png": PIXEL}


def _npz_of_floats() -> bytes:
    stream = io.BytesIO()
    images, labels = np.zeros((2, 1, 1), np.uint8), np.zeros(2)
    np.savez(stream, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return stream.getvalue()


def gated(rules: str, *options: str) -> Callable[[World], str]:
    """The error of tools.compare with a gate.yaml."""

    def act(world: World) -> str:
        world.prepare("train")
        Path("gate.yaml").write_text(rules, encoding="utf-8")
        assert compare.main(["--gate", *options]) == 1
        return world.capture.readouterr().err.removeprefix("ERROR: ")

    return act


def network(ending: str, arguments: str = "", head: str = "") -> Callable[[World], str]:
    """The error of train with a network of one's own that ends so."""

    def act(world: World) -> str:
        world.prepare("train")
        folder = world.folder / "models_of_mine"
        folder.mkdir()
        body = f"    i = keras.Input(shape)\n    x = layers.Flatten()(i)\n    return {ending}\n"
        build = f"def build(shape, classes{arguments}):\n{body}" if ending else ""
        code = f"import keras\n\nlayers = keras.layers\n\n{head}\n\n{build}"
        (folder / "own.py").write_text(code, encoding="utf-8")
        world.patch.setattr(config, "_check_sections", lambda _: None)  # which looks elsewhere
        world.patch.setattr(architectures, "FOLDER", folder)
        package = importlib.import_module("stages.models")
        world.patch.setattr(package, "__path__", [str(folder)])
        world.patch.delitem(sys.modules, "stages.models.own", raising=False)
        importlib.invalidate_caches()
        change("params:model.architecture", "own")
        change("params:model.own", {})
        change("weights:none", NO_WEIGHTS)
        change("params:model.weights", "none")
        Path("data/weights/SHA256SUMS").write_bytes(b"")
        return world.run("train")

    return act


def watched(line: str, **settings: Any) -> Callable[[World], str]:
    """The error of a stage of one's own with this line, which declares its code and an out."""

    def act(world: World) -> str:
        (world.folder / "tables").mkdir(parents=True)
        for name in ("helper.py", "table.csv"):
            (world.folder / name).touch()
        (world.folder / "params.yaml").write_text("own: {colour: red}\n", encoding="utf-8")
        own = {"cmd": "python -m own", "deps": ["own.py"], "outs": ["own.txt"], **settings}
        text = yaml.safe_dump({"stages": {"own": own}})
        (world.folder / "dvc.yaml").write_text(text, encoding="utf-8")
        code = f"""import os, socket, subprocess
from stages.lib.core import config, stage
def main(_):
    {line}
if __name__ == "__main__":
    stage.run(lambda: None, main)
"""
        (world.folder / "own.py").write_text(code, encoding="utf-8")
        done = execute([sys.executable, "-m", "own"], world.folder, PYTHONPATH=str(ROOT))
        assert done.code == 1
        return done.message

    return act


def alone(world: World) -> str:
    """The error of train as a worker that the cluster does not have."""
    world.prepare("train")
    world.patch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1"]}}')
    return world.run("train")


OWN_TRAINING = """class Own(keras.Model):
    def train_step(self, data): ..."""
OWN_LAYER = """class Own(layers.Layer):
    def call(self, inputs):
        return 2 * inputs"""

ACTS: dict[str, Callable[[World], str]] = {
    "gate.yaml: margins: unknown key; …": gated("margins: 1"),
    "gate.yaml: margin: expected a number of 0 or more, found …": gated("margin: much"),
    "gate.yaml: fail_if_worse: expected true or false, found …": gated("fail_if_worse: 1"),
    "gate.yaml: at_least: expected a number by metric, found …": gated("at_least: 0.9"),
    "--at-most: expected METRIC=VALUE, found …": gated("margin: 1", "--at-most", "loss"),
    "stages/models/own.py: expected a function build(…), …": network(""),
    "….py:…: build: the argument 'width' has no type; …": network("x", ", *, width"),
    "….py:…: build: the argument 'size': expected another name, …": network("x", ", *, size: int"),
    "stages/models/own.py: build: expected a keras.Model, found …": network("x"),
    "stages/models/own.py: build: expected a tensor as …, found a dict.…": network(
        "keras.Model(i, {'a': layers.Dense(classes)(x)})"
    ),
    "stages/models/own.py: build: expected images … as input, found …": network(
        "keras.Sequential([keras.Input((9, 9)), layers.Flatten(), layers.Dense(classes)])"
    ),
    "stages/models/own.py: build: expected images of float32 as input, found …": network(
        "keras.Sequential([keras.Input(shape, dtype='uint8'), layers.Flatten(), "
        "layers.Dense(classes)])"
    ),
    "stages/models/own.py: build: expected … outputs, one a class, found …": network(
        "keras.Model(i, layers.Dense(classes + 1)(x))"
    ),
    "stages/models/own.py: build: expected outputs of float32, found …": network(
        "keras.Model(i, layers.Dense(classes, dtype='float64')(x))"
    ),
    "stages/models/own.py: build: expected weights that a training changes, …": network(
        "keras.Model(i, layers.Dense(classes, trainable=False)(x))"
    ),
    "stages/models/own.py: build: expected a model of known shapes, …": network(
        "keras.Sequential([layers.Flatten(), layers.Dense(classes)])"
    ),
    "stages/models/own.py: build: expected a model that ends in logits, found …": network(
        "keras.Model(i, layers.Dense(classes, activation='softmax')(x))"
    ),
    "stages/models/own.py: build: expected a model that leaves the training to train, …": network(
        "Own(i, layers.Dense(classes)(x))", head=OWN_TRAINING
    ),
    "TF_CONFIG: expected JSON of a cluster and of this process's task in it, found …": alone,
    "stages/models/own.py: build: expected a model that loads again …": network(
        "keras.Model(i, layers.Dense(classes)(Own()(x)))", head=OWN_LAYER
    ),
    "own.py:…: opens table.csv, which own does not declare.…": watched("open('table.csv')"),
    "own.py:…: lists the folder tables, which …": watched("os.listdir('tables')"),
    "own.py:…: imports helper.py, which …": watched("import helper"),
    "own.py:…: writes other.txt, which …": watched("open('other.txt', 'w')"),
    "own.py:…: reads params.yaml: all of it, which …": watched("config.read('params.yaml')"),
    "own.py:…: starts git, which …": watched("subprocess.run(['git'])"),
    "own.py:…: connects to localhost, which …": watched(
        "socket.create_connection(('localhost', 9))"
    ),
    "dvc.yaml: stages.own.wdir: expected cmd, deps, params and outs only, …": watched(
        "pass", wdir="."
    ),
    "…: not installed for …": not_installed,
    "a warning was made an error by PYTHONWARNINGS or -W: …": warning_as_error,
    "data/own/train_images.gz: not found; Git holds what DVC knows of it, …": not_pulled,
    "--name: expected letters, digits, _ and -, found …": adding("x", "--name", "a b"),
    "datasets.yaml: expected a new name, found an entry tiny.…": adding("tiny"),
    "nowhere: expected a folder, a file or an address, found nothing there.…": adding("nowhere"),
    "http…/none.zip: could not be fetched (HTTP status 404).…": adding("SERVER/none.zip"),
    "one: expected class folders in it, or a labels.csv …": adding("one", one={"1.png": PIXEL}),
    "emnist: expected one file of …, found … and ….…": adding(
        "emnist", emnist=dict.fromkeys(("a-labels", "b-labels"), idx_bytes(np.arange(4)))
    ),
    "one: expected two classes or more, found … alone.…": adding("one", one={"a/1.png": PIXEL}),
    "tiny.npz: … set: expected labels that are integers, found …": adding(
        "tiny.npz", "--name", "new", tiny_npz=_npz_of_floats()
    ),
    "data/embedded/new.zip: expected no file of that name there, …": adding(
        "new", new=CLASSES, data__embedded__new_zip=b"x"
    ),
    "dvc add data/own/new.zip: …": adding("new", new=CLASSES),
    "weights.yaml: expected a new name, found an entry start.…": adding(
        "start", tool="add_weights", start=b""
    ),
    "folder: expected a .keras or .h5 file, found a folder.…": adding(
        "folder", tool="add_weights", folder={"x.h5": b""}
    ),
    "other.keras: expected a model that train wrote, or weights in HDF5, found: …": adding(
        "other.keras", tool="add_weights", other_keras=b"no model"
    ),
    "http…/x.keras: expected the ending .h5 of such a file, …": serving_weights,
    "…: No space left on device. …": refusing(errno.ENOSPC),
    "…: Permission denied. …": refusing(errno.EACCES),
    "…: Read-only file system. …": refusing(errno.EROFS),
    "out of memory: …": without_memory("normalize", "stages.normalize", "scale"),
    "params.yaml: train.batch_size: expected batches that fit into memory, found: …": (
        without_memory("train", "stages.lib.training.loop", "Loop.epoch")
    ),
    "params.yaml: model.mlp: expected a network that fits into memory, found: …": (
        without_memory("train", "stages.train", "networks")
    ),
    "params.yaml: train.deterministic: expected operations …, found: …": without_deterministic_form,
    "The configuration of this stage was changed while it ran; …": edited_configuration,
    "An input file of this stage was changed while it ran; …": edited_input,
    "Interrupted; …": interrupted,
    "tiny/test_labels.gz: could not be fetched; tried … (HTTP status 404)…": answers(404),
    "tiny/test_labels.gz: could not be fetched; tried … (HTTP status 503)…": answers(503),
    "tiny/test_labels.gz: could not be fetched; tried … (a web page instead of data)…": answers(
        200, b"<html>"
    ),
    "tiny/test_labels.gz: could not be fetched; tried … (expected SHA-256 …, found …)…": answers(
        200, b"other"
    ),
    "tiny/test_labels.gz: could not be fetched; tried … (more than the expected … bytes)…": answers(
        200, b"x" * 100, size=99
    ),
    "tiny/test_labels.gz: could not be fetched; tried … (refused or unreachable)…": mirror(
        "http://127.0.0.1:9"
    ),
    "tiny/test_labels.gz: could not be fetched; tried … (no such host, or no network)…": no_name,
    "tiny/test_labels.gz: could not be fetched; tried … (no usable address…)…": mirror(
        "ftp://example.org"
    ),
    "tiny/test_labels.gz: could not be fetched; tried nothing, …": mirror("none"),
    "mirror/tiny/train_images.gz: expected SHA-256 …, found … bytes. …": other_mirror,
    "…; the cache is … set DATASET_CACHE to another folder.": no_cache,
}


@pytest.mark.parametrize("words", ACTS)
def test_what_goes_wrong_is_named_in_the_words_of_the_page(world: World, words: str) -> None:
    message = ACTS[words](world)
    assert says(message, words), message


def exported(*arguments: str, change: Callable[[], None] = lambda: None) -> Callable[[World], str]:
    """The error of tools.export where it would run well but for a change."""

    def act(world: World) -> str:
        world.prepare("evaluate")
        model_fixtures.put_model(model_fixtures.network())
        change()
        with world.patch.context() as patch:
            kind = replace(formats.FORMATS["onnx"], packages=("no-such-package",))
            patch.setitem(formats.FORMATS, "onnx", kind)
            kind = replace(formats.FORMATS["litert"], write=lambda _, __, path: path.touch())
            patch.setitem(formats.FORMATS, "litert", kind)
            wrong = replace(
                formats.FORMATS["saved_model"],
                write=lambda _, __, path: path.mkdir(),
                open=lambda _, __: lambda images: np.eye(3, dtype=np.float32)[[0] * len(images)],
            )
            patch.setitem(formats.FORMATS, "saved_model", wrong)
            world.capture.readouterr()
            assert export.main(arguments) == 1
        return Finished(1, *world.capture.readouterr()).message

    return act


def other_classes() -> None:
    path = Path("data/normalized/test.npz")
    split_file.write(path, replace(split_file.read(path), class_names=["a", "b", "c"]))


def saved_by_keras() -> None:
    import keras

    model = keras.saving.load_model("models/model.keras")
    model.save("models/model.keras")


def predicted(
    *arguments: str, content: bytes = b"", shape: tuple[int, ...] = (6, 6)
) -> Callable[[World], str]:
    """The error of tools.predict on a file called like its last argument."""

    def act(world: World) -> str:
        world.prepare("evaluate")
        model_fixtures.put_model(model_fixtures.network(shape=shape))
        Path("empty").mkdir()
        for name in ("broken.png", "white.png", "deep.png"):
            Path(name).write_bytes(content)
        world.capture.readouterr()
        assert predict.main(arguments) == 1
        return Finished(1, *world.capture.readouterr()).message

    return act


def white(mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (6, 6), 255).save(stream, "PNG")
    return stream.getvalue()


def scaled_otherwise(world: World) -> str:
    with world.patch.context() as patch:
        plain = model_fixtures.metadata
        patch.setattr(
            model_fixtures,
            "metadata",
            lambda *given: msgspec.structs.replace(plain(*given), pixel_max=16.0),
        )
        return predicted("--raw", "white.png", content=white())(world)


TOOLS: dict[str, Callable[[World], str]] = {
    "models/model.keras: expected a Keras model with class names …, found: …": exported(
        "litert", change=saved_by_keras
    ),
    "onx: expected a format, one of …": exported("onx"),
    "onnx: expected the packages …, found no …": exported("onnx"),
    "data/normalized/test.npz: expected images … of the model's … classes, found …": exported(
        "litert", change=other_classes
    ),
    "exports/litert: expected a model that converts and runs, found: …": exported("litert"),
    "exports/saved_model: expected the model's labels and probabilities …, found …": exported(
        "saved_model"
    ),
    "nowhere.png: not found. …": predicted("nowhere.png"),
    "empty: expected images, found none. …": predicted("empty"),
    "broken.png: expected an image, found: …": predicted("broken.png", content=b"text"),
    "white.png: expected raw values up to …, found …": scaled_otherwise,
    "deep.png: expected raw values of 8 bits, found …, which is scaled. …": predicted(
        "--raw", "deep.png", content=white("I;16")
    ),
    "models/model.keras: expected a model of images with 1 or 3 channels, found …": predicted(
        "white.png", shape=(6, 6, 2)
    ),
}


@pytest.mark.parametrize("words", TOOLS)
@pytest.mark.usefixtures("tensorflow")
def test_a_tool_names_what_goes_wrong_in_the_words_of_the_page(world: World, words: str) -> None:
    message = TOOLS[words](world)
    assert says(message, words), message


def without_git(repository: Repository) -> Finished:
    shutil.rmtree(repository.path / ".git")
    return repository.run("dvc", "repro")


def locked(repository: Repository) -> Finished:
    script = (
        "import sys\nfrom dvc.repo import Repo\n"
        "with Repo().lock:\n    print(1, flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=repository.path,
        env={**os.environ, **repository.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline().strip() == b"1"
        return repository.run("dvc", "repro")


def dvc_dataset(repository: Repository) -> Finished:
    repository.edit("params.yaml", "dataset: digits", "dataset: digit")
    return repository.run("dvc", "repro")


def repro_after(old: str, new: str) -> Callable[[Repository], Finished]:
    """`dvc repro` after a text in params.yaml was replaced, when download has run."""

    def act(repository: Repository) -> Finished:
        assert repository.run("dvc", "repro", "download").code == 0
        repository.edit("params.yaml", old, new)
        return repository.run("dvc", "repro")

    return act


def without_params(repository: Repository) -> Finished:
    (repository.path / "params.yaml").unlink()
    return repository.run("dvc", "repro")


def in_a_folder(*command: str) -> Callable[[Repository], Finished]:
    """A command run in stages/, which is not the top folder."""
    return lambda repository: execute(
        list(command), repository.path / "stages", **repository.environment
    )


def conflict(repository: Repository) -> Finished:
    path = repository.path / "dvc.lock"
    path.write_text("<<<<<<< HEAD\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    return repository.run("dvc", "repro")


def empty_lock(repository: Repository) -> Finished:
    (repository.path / "dvc.lock").write_text("", encoding="utf-8")
    return repository.run("dvc", "repro")


def no_remote(repository: Repository) -> Finished:
    return repository.run("dvc", "pull")


def compare_without_git(repository: Repository) -> Finished:
    shutil.rmtree(repository.path / ".git")
    return repository.run("python", "-m", "tools.compare")


def compare_nowhere(repository: Repository) -> Finished:
    return repository.run("python", "-m", "tools.compare", "nowhere")


def seeded(old: str, new: str) -> Callable[[Repository], Finished]:
    """The end of tools.seeds when a text in params.yaml was replaced."""

    def act(repository: Repository) -> Finished:
        repository.edit("params.yaml", old, new)
        return repository.run("python", "-m", "tools.seeds", "2")

    return act


COMMANDS: dict[str, Callable[[Repository], Finished]] = {
    "…is not a git repository…": without_git,
    "…Unable to acquire lock…": locked,
    "…Parameters … are missing from 'datasets.yaml'…": dvc_dataset,
    "…Parameters 'normalize… are missing from 'params.yaml'…": repro_after(
        "\nnormalize:", "\nnormalise:"
    ),
    "…Parameters … are missing from 'weights.yaml'…": repro_after("weights: none", "weights: nome"),
    "…failed to parse …Could not find 'model.weights'…": repro_after("  weights: none", "  #"),
    "…failed to parse …Could not find 'dataset'…": without_params,
    "…unable to read: 'params.yaml', YAML file structure is corrupted…": repro_after(
        "dataset: digits", "dataset: [digits"
    ),
    "…dvc.yaml' does not exist…": in_a_folder("dvc", "repro"),
    "…finding module specification for 'stages.train'…": in_a_folder(
        "python", "-m", "stages.train"
    ),
    "…dvc.lock' validation failed…": empty_lock,
    "…dvc.lock… is invalid…": conflict,
    "No remote provided and no default remote set…": no_remote,
    "…expected a Git repository, found none …": compare_without_git,
    "…nowhere…": compare_nowhere,
    "…params.yaml: train.seed: expected an integer from 0, found …": seeded(
        "  seed: 1\n  threads", "  seed: one\n  threads"
    ),
    "…train.seed 1: … failed; …": seeded("dataset: digits", "dataset: digit"),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS)
def test_git_and_dvc_say_the_words_of_the_page(repository: Repository, words: str) -> None:
    done = COMMANDS[words](repository)
    assert done.code != 0
    assert "Traceback" not in done.err
    assert says(done.err, words), done.err


def test_the_page_lists_each_error_once_and_none_that_does_not_happen() -> None:
    assert sorted(listed()) == sorted([*CHANGES, *ACTS, *TOOLS, *COMMANDS])
    assert len(listed()) >= 80


def test_a_users_error_is_its_message() -> None:
    assert str(UserError("params.yaml: epochs\nSet it.")) == "params.yaml: epochs\nSet it."
    assert not issubclass(UserError, (ValueError, OSError))  # which libraries catch
