"""Runs ``saman.trainers.convert`` as a process: the registry itself imports neither TensorFlow nor other runtimes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.policy import Loading
from saman.registry.evaluation.converter_packages import ConverterPackages, Say, discard_message, install_packages
from saman.runs import variables
from saman.runs.commands import run_command
from saman.runs.confinement.confined import Confinement, read_lacking, without_secrets
from saman.runs.records.converter_report import ConverterReport

_log = logging.getLogger(__name__)


def run_converter(
    arguments: Sequence[str],
    packages: ConverterPackages | None = None,
    *,
    loading: Loading | None = None,
    say: Say = discard_message,
) -> ConverterReport:
    """Run ``python -m saman.trainers.convert ARGUMENTS``, confined: a model is a program that nobody trusts yet.

    The process has no network and none of the user's secrets, writes only beside its outputs, and is ended beyond its
    limits. A message says what this machine cannot enforce.

    Args:
        arguments: The command's arguments, without ``--report``.
        packages: What the format needs besides TensorFlow; installed on first use.
        loading: The limits; default: those of a policy that names none.
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
        done = _run_confined(command, environment | {"TMPDIR": scratch}, loading or Loading(), Path(scratch))
        found = ConverterReport.read(report)
    if found is None or found.failed:
        raise _failure(arguments, found or ConverterReport(), done)
    return found


def _run_confined(
    command: Sequence[str], environment: Mapping[str, str], loading: Loading, scratch: Path
) -> subprocess.CompletedProcess[str]:
    outputs = [Path(path).absolute().parent for word, path in pairwise(command) if word == "--output"]
    confinement = Confinement(loading.memory_bytes, loading.seconds, (*dict.fromkeys(outputs), scratch))
    for folder in outputs:
        folder.mkdir(parents=True, exist_ok=True)  # only a folder that is there can be named as writable
    confined = scratch / "confined.json"
    try:
        done = run_command(
            confinement.command(command, confined), environment=environment, timeout_seconds=loading.seconds
        )
    except subprocess.TimeoutExpired:
        problem = f"the model was not loaded and run within {loading.seconds:g} s"
        raise UserError(problem, remedy="loading: {seconds: …} in policy.yaml, if it needs more") from None
    for means, reason in read_lacking(confined).items():
        _log.warning("a model was loaded without a limit of its %s: %s", means.value, reason)
    return done


def _environment(packages: Path | None) -> dict[str, str]:
    environment = {
        **without_secrets(os.environ),
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
        remedy = "check the available memory; loading: {memory: …} in policy.yaml, if it needs more"
        return UserError(f"{what} was killed by signal {-done.returncode}", remedy=remedy)
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return UserError(f"{what} failed: {found.problem or last}")
