"""Runs ``saman.trainers.convert`` as a process: the registry itself imports neither TensorFlow nor other runtimes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.registry.evaluation.converter_packages import ConverterPackages, Say, discard_message, install_packages
from saman.runs import variables
from saman.runs.commands import run_command
from saman.runs.records.converter_report import ConverterReport


def run_converter(
    arguments: Sequence[str], packages: ConverterPackages | None = None, *, say: Say = discard_message
) -> ConverterReport:
    """Run ``python -m saman.trainers.convert ARGUMENTS``.

    Args:
        arguments: The command's arguments, without ``--report``.
        packages: What the format needs besides TensorFlow; installed on first use.
        say: Receives progress messages.

    Returns:
        The process's report.

    Raises:
        UserError: The converter failed; the error holds its reason.
        EnvironmentLack: A package is missing.
    """
    environment = _environment(install_packages(packages, say) if packages else None)
    with tempfile.TemporaryDirectory(prefix="saman-") as scratch:
        report = Path(scratch, "report.json")
        command = [sys.executable, "-m", "saman.trainers.convert", *arguments, "--report", str(report)]
        done = run_command(command, environment=environment)
        found = ConverterReport.read(report)
    if found is None or found.failed:
        raise _failure(arguments, found or ConverterReport(), done)
    return found


def _environment(packages: Path | None) -> dict[str, str]:
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    if packages is not None:
        before = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
        environment["PYTHONPATH"] = os.pathsep.join([*before, str(packages / "python")])
        environment[variables.TFJS_NODE] = str(packages / "node")
    return environment


def _failure(arguments: Sequence[str], found: ConverterReport, done: subprocess.CompletedProcess[str]) -> UserError:
    what = " ".join(arguments[:2] if arguments[0] != "predict" else arguments[:1])
    if found.lacks:
        return EnvironmentLack(f"{what} needs {found.lacks}, which is not installed", remedy="saman setup")
    if done.returncode < 0:
        return UserError(f"{what} was killed by signal {-done.returncode}", remedy="check the available memory")
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return UserError(f"{what} failed: {found.problem or last}")
