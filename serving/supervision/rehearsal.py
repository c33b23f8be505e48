"""A rehearsal: a version answers its stored sample in a process of its own before it takes traffic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.registry.store.layout import VALIDATION
from saman.registry.store.manifest import Manifest
from saman.runs.engines.batches import Arrays
from saman.runs.records.export import ExportRecord
from saman.serving.interface.signatures import DEFAULT, Signatures
from saman.serving.interface.tensors import DTYPE_OF
from saman.serving.supervision.engine_process import EngineProcess

_BATCH = 64
_TOLERANCE = 1e-3  # |difference| ÷ max(1, |prediction|), where the export names none
_MOST_EXAMPLES = 256  # a rehearsal delays the swap


def read_sample(snapshot: Path, signatures: Signatures) -> tuple[Arrays, np.ndarray[Any, Any] | None]:
    """What a rehearsal asks: stored inputs of the default signature, and stored predictions; empty without any."""
    signature, file = signatures.get(DEFAULT), snapshot / VALIDATION
    if signature is None or not file.is_file():
        return {}, None
    with np.load(file, allow_pickle=False) as stored:
        if not set(signature.inputs) <= set(stored.files):
            return {}, None
        inputs = {
            name: stored[name][:_MOST_EXAMPLES].astype(DTYPE_OF[facts.dtype], copy=False)
            for name, facts in signature.inputs.items()
        }
        expected = stored["predictions"][:_MOST_EXAMPLES] if "predictions" in stored.files else None
    return inputs, expected


def rehearse(engine: EngineProcess, snapshot: Path, about: Manifest, signatures: Signatures) -> None:
    """Have a loaded engine answer the stored sample.

    Raises:
        UserError: An answer is missing, not finite, or differs from the stored prediction.
    """
    inputs, expected = read_sample(snapshot, signatures)
    count = len(next(iter(inputs.values()))) if inputs else 0
    for start in range(0, count, _BATCH):
        batch = {name: array[start : start + _BATCH] for name, array in inputs.items()}
        outputs = engine.ask(DEFAULT, batch)
        wanted = None if expected is None else expected[start : start + _BATCH]
        _check(engine.kind, outputs, wanted, min(_BATCH, count - start), tolerance_of(about))


def tolerance_of(about: Manifest) -> float:
    """The largest difference that a rehearsal accepts: what the export allowed, and at least this module's."""
    return max(_TOLERANCE, ExportRecord.from_json(about.export).tolerance or 0.0)


def _check(kind: str, outputs: Arrays, expected: np.ndarray[Any, Any] | None, rows: int, tolerance: float) -> None:
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise UserError(f"{kind} answers {rows} stored examples with the shape {array.shape} ({name})")
        if array.dtype.kind == "f" and expected is None and not np.isfinite(array).all():
            raise UserError(f"{kind} answers the stored sample with numbers that are not finite ({name})")
    if expected is None or len(outputs) != 1:
        return
    found = next(iter(outputs.values())).astype("float64")
    stored = expected.astype("float64")
    if found.shape != stored.shape:
        raise UserError(f"{kind} answers the stored sample with the shape {found.shape}, not {stored.shape}")
    same = np.isnan(found) & np.isnan(stored)
    difference = np.where(same, 0.0, np.abs(found - stored) / np.maximum(1.0, np.abs(stored)))
    if not difference.max(initial=0.0) <= tolerance:
        worst = f"by {difference.max():.3g}, more than {tolerance:g}"
        raise UserError(f"{kind} answers the stored sample differently from the manifest: {worst}")


def warm(engine: EngineProcess, snapshot: Path, signatures: Signatures, rows: int) -> None:
    """Rehearse batches of every size up to ``rows``, so that the first client waits for no compilation."""
    inputs = _warm_inputs(read_sample(snapshot, signatures)[0], signatures)
    if not inputs:
        return
    for size in range(1, rows + 1):
        repeated = {name: np.resize(array, (size, *array.shape[1:])) for name, array in inputs.items()}
        engine.ask(DEFAULT, repeated)


def _warm_inputs(sample: Mapping[str, np.ndarray[Any, Any]], signatures: Signatures) -> Arrays:
    """An example: of the sample, else zeros where the signature tells the shape."""
    if sample:
        return {name: array[:1] for name, array in sample.items()}
    signature = signatures.get(DEFAULT)
    shapes = [] if signature is None else [facts.shape for facts in signature.inputs.values()]
    if signature is None or any(not shape or shape[0] != -1 or -1 in shape[1:] for shape in shapes):
        return {}
    if any(DTYPE_OF.get(facts.dtype, np.dtype(object)).hasobject for facts in signature.inputs.values()):
        return {}
    return {
        name: np.zeros((1, *(facts.shape or ())[1:]), DTYPE_OF[facts.dtype]) for name, facts in signature.inputs.items()
    }
