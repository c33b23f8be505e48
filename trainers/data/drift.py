"""Compares a sample of the training data with the statistics of a published version: shape, type, range, classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.home_folder import in_home
from saman.runs.files.whole import read_json
from saman.runs.records.schema import mapping
from saman.trainers.data.checks import DataProblem, PartSample

_RANGE_SHARE = 0.1  # of the old range, by which values may leave it
_MOST_NAMED = 5


def read_reference(path: str) -> Mapping[str, Any]:
    """Read what data drift is compared with: the manifest of a published version, or ``export.json`` of a run.

    Raises:
        UserError: The file is missing or has no statistics.
    """
    place = in_home(path)
    value = read_json(place)
    if not isinstance(value, dict) or not isinstance(value.get("statistics"), dict):
        remedy = "name the manifest (saman.json) of a published version, or the export.json of a run"
        raise UserError("no statistics of data were found", where=f"data.checks.reference: {place}", remedy=remedy)
    return value


def find_drift(train: PartSample, reference: Mapping[str, Any]) -> Iterator[DataProblem]:
    """Compare a sample of the training examples with what a version says about its own.

    Args:
        train: The sample.
        reference: What ``read_reference`` returned.
    """
    inputs = mapping(mapping(reference.get("signature")).get("inputs"))
    for name, values in train.inputs.items():
        before = mapping(inputs.get(name))
        old = (before.get("dtype"), before.get("shape"))
        new = (values.dtype.name, [None, *values.shape[1:]])
        if before and old != new:
            text = f"{name} are {new[0]}{new[1][1:]}, but {old[0]}{(old[1] or [None])[1:]} in the reference"
            yield DataProblem("drift", text)
            return
    statistics = mapping(reference.get("statistics"))
    listed = statistics.get("inputs")
    described = listed if isinstance(listed, list) else []
    for (name, values), before in zip(train.inputs.items(), described, strict=False):
        yield from _ranges(name, values, mapping(before))
    yield from _classes(train.labels, mapping(statistics.get("labels")))


def _ranges(name: str, values: np.ndarray, before: Mapping[str, Any]) -> Iterator[DataProblem]:
    quantiles = mapping(before.get("quantiles"))
    lowest, highest = quantiles.get("0"), quantiles.get("1")
    if values.dtype.kind not in "iuf" or not isinstance(lowest, list) or not isinstance(highest, list):
        return
    rows = values.reshape(-1, values.shape[-1]) if before.get("per") == "channel" else values.reshape(len(values), -1)
    low, high = (np.array([np.nan if item is None else item for item in part], float) for part in (lowest, highest))
    if len(low) != rows.shape[1] or len(high) != rows.shape[1]:
        return
    room = _RANGE_SHARE * (high - low)
    with np.errstate(invalid="ignore"):
        outside = np.flatnonzero((rows < low - room).any(0) | (rows > high + room).any(0)).tolist()
    if outside:
        named = ", ".join(map(str, outside[:_MOST_NAMED])) + (" and more" if len(outside) > _MOST_NAMED else "")
        text = f"{name} leave the range of the reference by over {_RANGE_SHARE:.0%} of it, in features {named}"
        yield DataProblem("drift", text)


def _classes(labels: np.ndarray, before: Mapping[str, Any]) -> Iterator[DataProblem]:
    counts = before.get("counts")
    if isinstance(counts, dict) and labels.ndim == 1 and labels.dtype.kind in "iu":
        new = sorted({str(label) for label in np.unique(labels)} - set(counts))
        if new:
            yield DataProblem("drift", f"labels that the reference does not have: {', '.join(new[:_MOST_NAMED])}")
