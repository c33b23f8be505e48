"""Writes the trained model to ``export/``, loads it again, and refuses one that does not predict what was trained.

The model is built anew outside of any strategy and given the trained weights, so that nothing of a strategy is saved.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.files import write_json
from saman.configs.schemas.experiment import Experiment
from saman.runs.checkpoints import TrainingPosition
from saman.trainers import keras_compat, models
from saman.trainers.assembly import PreparedData
from saman.trainers.data.feed import Slice
from saman.trainers.export import census, model_files
from saman.trainers.keras_compat import tf
from saman.trainers.loop.interfaces import OptimizerStep
from saman.trainers.program.objective import Objective
from saman.trainers.program.program import Program

SAMPLE_EXAMPLES, SAMPLE_BYTES = 1000, 64 << 20
BATCH = 100
# Largest difference of a prediction, per unit of its size, that reading the weights back and other kernels explain.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "mixed_bfloat16": 5e-2, "mixed_float16": 1e-2}


@dataclass(frozen=True)
class Sample:
    """A bounded part of the validation (else training) examples: raw inputs by name, labels, ids by content."""

    inputs: Any
    labels: np.ndarray
    split: str

    @property
    def named(self) -> dict[str, np.ndarray]:
        """The inputs by their names in the serving signature."""
        return dict(zip(input_names(self.inputs), tf.nest.flatten(self.inputs), strict=True))


class ExportMismatch(Exception):  # noqa: N818
    """An exported model that does not predict what the trained one does."""


def input_names(nest: Any) -> list[str]:
    """Names of inputs in the serving signature: ``inputs``, a dictionary's keys, or ``inputs_0``, ``inputs_1``…"""
    if isinstance(nest, dict):
        return sorted(nest)  # the order in which tf.nest flattens
    parts = len(tf.nest.flatten(nest))
    return ["inputs"] if parts == 1 else [f"inputs_{index}" for index in range(parts)]


def sample_of(prepared: PreparedData) -> Sample:
    """The first examples of the validation data, in their order; the same on every rank."""
    feed, split = prepared.feeds.validation(0), "validation"
    if feed is None:
        feed, split = prepared.feeds.train(0), "train"
    wanted = max(1, min(SAMPLE_EXAMPLES, SAMPLE_BYTES // max(1, census.bytes_of(prepared.element_spec))))
    batches = []
    for inputs, labels in feed.batches(Slice(0, 1)):
        batches.append((tf.nest.map_structure(np.asarray, inputs), np.asarray(labels)))
        if sum(len(one[1]) for one in batches) >= wanted:
            break
    inputs = tf.nest.map_structure(lambda *parts: np.concatenate(parts)[:wanted], *[one[0] for one in batches])
    return Sample(inputs, np.concatenate([one[1] for one in batches])[:wanted], split)


def predictions(step: OptimizerStep, inputs: Any) -> np.ndarray:
    """The trained model's outputs for raw ``inputs``; every rank calls it."""
    return np.concatenate([step.predict(one) for one in _batches(inputs)])


def write(
    folder: Path,
    experiment: Experiment,
    prepared: PreparedData,
    state: Mapping[str, np.ndarray],
    position: TrainingPosition,
    sample: Sample,
    trained: np.ndarray,
) -> None:
    """Fill ``folder`` whole or not at all; raises ``ExportMismatch`` where what was written predicts something else."""
    draft = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    program = _rebuild(experiment, prepared, state)
    specs = _signature(prepared.element_spec[0])
    model_files.save_serving(program.model, draft / "saved_model", lambda *values: _served(program, values), specs)
    model_files.save_keras_file(program.model, draft / "model.keras")
    differences = _differences(draft, program, sample, trained)
    limit = TOLERANCE[experiment.train.precision]
    worst = max(differences.values())
    if not worst <= limit:
        shutil.rmtree(draft, ignore_errors=True)
        raise ExportMismatch(f"the exported model's predictions differ from the trained model's by {differences}")
    counted = census.take(prepared)
    ids = census.ids(tf.nest.flatten(sample.inputs), sample.labels)
    stored = {**sample.named, "labels": sample.labels, "ids": ids, "predictions": trained}
    np.savez_compressed(draft / "validation.npz", **stored, training_ids=counted.training_ids)  # type: ignore[arg-type]
    about = {
        "schema": 1,
        "checked": True,
        "max_difference": differences,
        "tolerance": limit,
        "signature": _described(specs, trained),
        "normalization": "inside the SavedModel; model.keras takes inputs that are already normalised"
        if program.normalize
        else "none",
        "metrics": {name: value for name, value in position.metrics.items() if np.isfinite(value)},
        "step": position.step,
        "epoch": position.epoch,
        "parameters": int(program.model.count_params()),
        "precision": experiment.train.precision,
        "loss": experiment.train.loss,
        "from_logits": experiment.train.from_logits,
        "sample": {"split": sample.split, "examples": len(sample.labels)},
        "data": counted.identity,
        "statistics": counted.statistics,
        "versions": _versions(),
    }
    write_json(draft / "export.json", about)
    _replace(folder, draft)


def _rebuild(experiment: Experiment, prepared: PreparedData, state: Mapping[str, np.ndarray]) -> Program:
    model = models.build(experiment.model, prepared.input_shape)
    train = experiment.train
    objective = Objective(train.loss, train.from_logits)
    normalize = prepared.splits(0).normalize
    program = Program(
        model=model,
        optimizer=None,
        objective=objective,
        normalize=normalize,
        element_spec=prepared.element_spec,
        seed=train.seed,
    )
    weights = [(name, value) for name, value in sorted(state.items()) if name.startswith("weight/")]
    for variable, (name, value) in zip(model.weights, weights, strict=True):
        if tuple(variable.shape) != value.shape:
            raise ExportMismatch(
                f"{name} has shape {value.shape}; a model built anew has {tuple(variable.shape)} there"
            )
        keras_compat.tensor_of(variable).assign(value)
    return program


def _signature(spec: Any) -> list[Any]:
    flat = tf.nest.flatten(spec)
    names = input_names(spec)
    return [tf.TensorSpec([None, *one.shape[1:]], one.dtype, name) for name, one in zip(names, flat, strict=True)]


def _served(program: Program, values: tuple[Any, ...]) -> dict[str, Any]:
    inputs = tf.nest.pack_sequence_as(program.element_spec[0], list(values))
    outputs = tf.nest.flatten(program.predict(inputs))
    return dict(zip(_output_names(len(outputs)), outputs, strict=True))


def _output_names(count: int) -> list[str]:
    return ["outputs"] if count == 1 else [f"outputs_{index}" for index in range(count)]


def _differences(draft: Path, program: Program, sample: Sample, trained: np.ndarray) -> dict[str, float]:
    """Largest |difference| ÷ max(1, |prediction|) of what was written, each read back from disk."""
    serve = model_files.load_serving(draft / "saved_model")
    model = model_files.load_keras_file(draft / "model.keras")
    served, loaded = [], []
    for inputs in _batches(sample.inputs):
        flat = [tf.constant(one) for one in tf.nest.flatten(inputs)]
        served.append(np.asarray(serve(dict(zip(input_names(inputs), flat, strict=True)))["outputs"]))
        normalized = program.normalized(tf.nest.map_structure(tf.constant, inputs))
        loaded.append(np.asarray(keras_compat.predict(model, normalized)))
    return {"saved_model": _worst(trained, served), "keras": _worst(trained, loaded)}


def _worst(trained: np.ndarray, parts: list[np.ndarray]) -> float:
    ours, theirs = trained.astype("float64"), np.concatenate(parts).astype("float64")
    same = np.isnan(ours) & np.isnan(theirs)  # a training that diverged predicts NaN, and so does its export
    difference = np.where(same, 0.0, np.abs(theirs - ours) / np.maximum(1.0, np.abs(ours)))
    return float(np.max(np.where(np.isnan(difference), np.finfo("float64").max, difference)))


def _batches(inputs: Any) -> list[Any]:
    examples = len(tf.nest.flatten(inputs)[0])
    return [
        tf.nest.map_structure(lambda one, start=start: one[start : start + BATCH], inputs)
        for start in range(0, examples, BATCH)
    ]


def _described(specs: list[Any], outputs: np.ndarray) -> dict[str, Any]:
    def one(dtype: str, shape: Any) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [None, *shape[1:]]}

    return {
        "name": "serving_default",
        "inputs": {spec.name: one(spec.dtype.name, list(spec.shape)) for spec in specs},
        "outputs": {"outputs": one(outputs.dtype.name, list(outputs.shape))},
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "tensorflow": tf.__version__, "keras": keras_compat.VERSION}
    for package in ("saman", "horovod", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _replace(folder: Path, draft: Path) -> None:
    """Put the draft in the place of what an earlier attempt may have left."""
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        draft.rename(folder)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
