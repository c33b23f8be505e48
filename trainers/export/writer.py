"""Writes the trained model to ``export/``, loads it again, and refuses an export with other predictions.

The model is built anew outside of any strategy and gets the trained weights, so that nothing of a strategy is saved.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.training import Train
from saman.runs.checkpoints import TrainingPosition
from saman.runs.paths.parts import ExportPaths
from saman.runs.records.export import ExportRecord, Normalization, Signature, SignatureTensor
from saman.trainers import keras_compat, models
from saman.trainers.assembly import PreparedData
from saman.trainers.export import census, model_files
from saman.trainers.export.stored_sample import Sample, input_names, outputs_by_name
from saman.trainers.keras_compat import tf
from saman.trainers.models import layers
from saman.trainers.program.objective import Objective
from saman.trainers.program.program import Program

# Largest difference of a prediction, relative to its size, that other kernels and reading the weights back explain.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "mixed_bfloat16": 5e-2, "mixed_float16": 1e-2}


class ExportMismatch(Exception):  # noqa: N818
    """An exported model predicts something else than the trained model."""


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """The result of a training.

    Attributes:
        state: Weights and optimiser state of the whole model by name.
        position: Steps taken and metrics.
        sample: Raw examples for the check of the export.
        predictions: The trained model's outputs for the sample: an array, or a nest of arrays.
    """

    state: Mapping[str, np.ndarray]
    position: TrainingPosition
    sample: Sample
    predictions: Any


def write_export(folder: Path, experiment: Experiment, prepared: PreparedData, trained: TrainedModel) -> None:
    """Write a complete export to ``folder``, or nothing.

    Args:
        folder: The folder of the export; an export of an earlier attempt is replaced.
        experiment: The experiment.
        prepared: The data of the run.
        trained: The result of the training.

    Raises:
        ExportMismatch: The written model, loaded again, predicts something else than the trained model.
    """
    draft = ExportPaths(folder.with_name(f".{folder.name}.tmp"))
    shutil.rmtree(draft.path, ignore_errors=True)
    draft.path.mkdir(parents=True)
    program = _rebuild(experiment, prepared, trained.state)
    train = experiment.train
    specs = _signature_specs(prepared.element_spec[0])
    model_files.save_serving(program.model, draft.saved_model, lambda *values: _serve(program, values, train), specs)
    model_files.save_keras_file(program.model, draft.keras_file)
    differences = _differences(draft, program, trained, train, specs)
    limit = TOLERANCE[experiment.train.precision]
    if not max(differences.values()) <= limit:  # also for NaN
        shutil.rmtree(draft.path, ignore_errors=True)
        raise ExportMismatch(f"the exported model's predictions differ from the trained model's by {differences}")
    described = census.take_census(prepared)
    predictions = outputs_by_name(trained.predictions, train)
    _write_sample(draft.validation, trained, predictions["outputs"], described.training_ids)
    position = trained.position
    ExportRecord(
        checked=True,
        signature=_signature(specs, predictions),
        max_difference=differences,
        tolerance=limit,
        normalization=Normalization.SAVED_MODEL if program.normalize else Normalization.NONE,
        metrics={name: value for name, value in position.metrics.items() if np.isfinite(value)},
        step=position.step,
        epoch=position.epoch,
        parameters=int(program.model.count_params()),
        precision=experiment.train.precision,
        loss=experiment.train.loss,
        from_logits=experiment.train.from_logits,
        sample={"split": trained.sample.split, "examples": len(trained.sample.labels)},
        data=described.identity,
        statistics=described.statistics,
        versions=_versions(),
    ).write(draft.record)
    _replace(folder, draft.path)


def _rebuild(experiment: Experiment, prepared: PreparedData, state: Mapping[str, np.ndarray]) -> Program:
    """Build the model outside of any strategy, with the trained weights."""
    train = experiment.train
    model = models.build(experiment.model, prepared.input_shape, prepared.context)
    layers.freeze(model, train.freeze)  # the order of the weights depends on it
    weights = [(name, value) for name, value in sorted(state.items()) if name.startswith("weight/")]
    for variable, (name, value) in zip(model.weights, weights, strict=True):
        if tuple(variable.shape) != value.shape:
            raise ExportMismatch(f"{name} has shape {value.shape}, but {tuple(variable.shape)} in a model built anew")
        keras_compat.tensor_of(variable).assign(value)
    return Program(
        model=model,
        optimizer=None,
        objective=Objective(train.loss, train.from_logits),
        normalize=prepared.splits(0).normalize,
        element_spec=prepared.element_spec,
        seed=train.seed,
    )


def _signature_specs(spec: Any) -> list[Any]:
    parts = zip(input_names(spec), tf.nest.flatten(spec), strict=True)
    return [tf.TensorSpec([None, *part.shape[1:]], part.dtype, name) for name, part in parts]


def _serve(program: Program, values: tuple[Any, ...], train: Train) -> dict[str, Any]:
    """Return the outputs by name for the flat inputs of the serving signature."""
    inputs = tf.nest.pack_sequence_as(program.element_spec[0], list(values))
    return {name: tf.identity(part) for name, part in outputs_by_name(program.predict(inputs), train).items()}


def _differences(
    draft: ExportPaths, program: Program, trained: TrainedModel, train: Train, specs: list[Any]
) -> dict[str, float]:
    """Return the largest |difference| ÷ max(1, |prediction|) of each file, read back from disk."""
    ours = outputs_by_name(trained.predictions, train)

    def difference(predict: Callable[..., Mapping[str, Any]]) -> float:
        batches = ([tf.constant(array) for array in tf.nest.flatten(inputs)] for inputs in trained.sample.batches())
        return _largest_of(ours, [predict(*batch) for batch in batches])

    def of_saved_model() -> float:
        serve = model_files.load_serving(draft.saved_model)
        return difference(lambda *batch: serve({spec.name: part for spec, part in zip(specs, batch, strict=True)}))

    def of_keras_file() -> float:
        of_file = replace(program, model=model_files.load_keras_file(draft.keras_file))
        # Outside of a graph a Keras model would keep the outputs of all its layers until it returns.
        return difference(tf.function(lambda *batch: _serve(of_file, batch, train), specs, autograph=False))

    return {"saved_model": of_saved_model(), "keras": of_keras_file()}  # one after the other: each holds all weights


def _largest_of(ours: Mapping[str, np.ndarray], batches: Sequence[Mapping[str, Any]]) -> float:
    differences = [
        _largest_difference(array, [np.asarray(batch[name]) for batch in batches]) for name, array in ours.items()
    ]
    return float(np.max(differences))  # NaN stays NaN


def _largest_difference(predictions: np.ndarray, batches: list[np.ndarray]) -> float:
    ours, theirs = predictions.astype("float64"), np.concatenate(batches).astype("float64")
    same = np.isnan(ours) & np.isnan(theirs)  # a training that diverged predicts NaN, and so does its export
    difference = np.where(same, 0.0, np.abs(theirs - ours) / np.maximum(1.0, np.abs(ours)))
    return float(np.max(np.where(np.isnan(difference), np.finfo("float64").max, difference)))


def _write_sample(file: Path, trained: TrainedModel, predictions: np.ndarray, training_ids: np.ndarray) -> None:
    sample = trained.sample
    ids = census.example_ids(tf.nest.flatten(sample.inputs), sample.labels)
    stored = {**sample.named, "labels": sample.labels, "ids": ids, "predictions": predictions}
    np.savez_compressed(file, **stored, training_ids=training_ids)  # type: ignore[arg-type]


def _signature(specs: list[Any], outputs: Mapping[str, np.ndarray]) -> Signature:
    def describe(dtype: str, shape: Any) -> SignatureTensor:
        return SignatureTensor(dtype, (None, *shape[1:]))

    return Signature(
        inputs={spec.name: describe(spec.dtype.name, list(spec.shape)) for spec in specs},
        outputs={name: describe(array.dtype.name, list(array.shape)) for name, array in outputs.items()},
    )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "tensorflow": tf.__version__, "keras": keras_compat.VERSION}
    for package in ("saman", "horovod", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _replace(folder: Path, draft: Path) -> None:
    """Replace the export of an earlier attempt by the draft."""
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
