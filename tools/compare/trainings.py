"""Every training of a side that DVC's run cache holds and that differs in ``train.seed`` alone.

DVC keeps a record of each stage that it ever ran, by its inputs. A training belongs to a side when
its record differs from the side's dvc.lock in the seed and nowhere else; its predictions are those
that the side's evaluation, as dvc.lock has it, made of that model. Of the lock's own seed there is
another one where a processor that gives other bits made it again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.lib.core import recorded
from stages.lib.core.errors import UserError
from tools.compare import dvc_state
from tools.compare.dvc_state import Lock, Stage

SEED = "train.seed"


@dataclass(frozen=True)
class Training:
    """A training in the run cache.

    Attributes:
        seed: Its ``train.seed``.
        predictions: Its file of predictions, or None when the cache no longer has it.
    """

    seed: int
    predictions: Path | None


def own_seed(lock: Lock, model: str) -> int | None:
    """The seed that dvc.lock recorded for the model; None where the training has none."""
    stage = _maker(lock, model)
    seed = stage.inputs.get(SEED) if stage else None
    return seed if isinstance(seed, int) else None


def find(lock: Lock, model: str, predictions: str, cache: Path) -> list[Training]:
    """The trainings of the lock's own seed that are not the lock's, and of others, by seed.

    Args:
        lock: The side's dvc.lock.
        model: The path of the model, an output of the training.
        predictions: The path of the predictions, an output of the evaluation.
        cache: The folder of DVC's cache.
    """
    trains, scores, own = _maker(lock, model), _maker(lock, predictions), own_seed(lock, model)
    if trains is None or scores is None or own is None:
        return []
    read = _read_as(scores, model)
    models: dict[int, set[str]] = {}
    scored: dict[object, str] = {}
    for run in _runs(cache, {model, predictions}):
        seed = run.inputs.get(SEED)
        if isinstance(seed, int) and _same(run, trains, SEED):
            if (seed, run.outputs[model]) != (own, trains.outputs[model]):
                models.setdefault(seed, set()).add(_digest(run, read))
        elif read in run.inputs and _same(run, scores, read):
            scored[run.inputs[read]] = run.outputs[predictions]
    return [
        Training(seed, _cached(cache, sorted(scored[each] for each in digests if each in scored)))
        for seed, digests in sorted(models.items())
    ]


def _maker(lock: Lock, path: str) -> Stage | None:
    return next((stage for stage in lock.values() if path in stage.outputs), None)


def _read_as(scores: Stage, model: str) -> str:
    """The input by which an evaluation has the model: its file, or a folder that it is in.

    It is the file as well where a stage between the two reads it: then no evaluation is found.
    """
    folders = [folder.as_posix() for folder in Path(model).parents]
    return next((path for path in (model, *folders) if path in scores.inputs), model)


def _digest(run: Stage, path: str) -> str:
    """The hash of an output, or that which DVC gives to a folder of nothing but outputs."""
    if path in run.outputs:
        return run.outputs[path]
    inside = {each: md5 for each, md5 in run.outputs.items() if each.startswith(f"{path}/")}
    return recorded.tree({each.removeprefix(f"{path}/"): md5 for each, md5 in inside.items()})


def _same(run: Stage, stage: Stage, but: str) -> bool:
    """Whether a run has the inputs of a stage, but for one."""
    return run.outputs.keys() == stage.outputs.keys() and {
        key: value for key, value in run.inputs.items() if key != but
    } == {key: value for key, value in stage.inputs.items() if key != but}


def _runs(cache: Path, outputs: set[str]) -> Iterator[Stage]:
    """The recorded runs that made one of the outputs."""
    for path in sorted((cache / "runs").glob("*/*/*")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if not any(output in text for output in outputs):
            continue
        try:
            stage = dvc_state.stage(dvc_state.parse(text, path))
        except UserError:
            continue  # DVC throws a damaged record away as well
        if outputs & stage.outputs.keys():
            yield stage


def _cached(cache: Path, digests: list[str]) -> Path | None:
    """The first file that the cache has."""
    paths = [dvc_state.cached(cache, digest) for digest in digests]
    return next((path for path in paths if path.is_file()), None)
