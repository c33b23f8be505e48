"""Answers of versions to their stored validation sample, computed by a converter process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.schemas.policy import Loading
from saman.registry.evaluation import converter_process
from saman.runs.records.converter_report import others_beside


@dataclass(frozen=True)
class SampleAnswers:
    """A model's answers, examples first, and the median latency of a single example.

    ``values`` are those of the first output, ``others`` those of the others side by side, if there are any.
    """

    values: np.ndarray[Any, Any]
    latency_milliseconds: float | None
    others: np.ndarray[Any, Any] | None = None

    @classmethod
    def read(cls, file: Path, latency_milliseconds: float | None) -> SampleAnswers:
        """Read the answers that a converter process has written to ``file``, and remove them."""
        beside = others_beside(file)
        others = np.load(beside, allow_pickle=False) if beside.is_file() else None
        found = cls(np.load(file, allow_pickle=False), latency_milliseconds, others)
        file.unlink()
        beside.unlink(missing_ok=True)
        return found


def answer_sample(versions: Sequence[Path], validation: Path, loading: Loading | None = None) -> list[SampleAnswers]:
    """Answer a stored sample with every version, through its serving signature.

    Args:
        versions: Folders of versions.
        validation: The sample (``validation.npz``).
        loading: The limits of the process that loads the models.

    Raises:
        UserError: A model cannot answer.
        EnvironmentLack: TensorFlow is missing.
    """
    with tempfile.TemporaryDirectory(prefix="saman-") as scratch:
        outputs = [Path(scratch, f"{index}.npy") for index in range(len(versions))]
        pairs: list[str] = []
        for version, output in zip(versions, outputs, strict=True):
            pairs += ["--model", str(version), "--output", str(output)]
        report = converter_process.run_converter(["predict", *pairs, "--inputs", str(validation)], loading=loading)
        latencies = [answers.latency_milliseconds for answers in report.answers]
        return [SampleAnswers.read(*pair) for pair in zip(outputs, latencies, strict=True)]
