"""Runs every check of ``saman doctor --security``."""

from __future__ import annotations

from pathlib import Path

from saman.jobs.security.finding import CheckResult
from saman.jobs.security.machine import check_machine
from saman.jobs.security.models_folder import check_models
from saman.jobs.security.own_files import check_own_files
from saman.jobs.security.runs_folder import check_runs


def examine_security(runs_dir: Path, models_dir: Path) -> list[CheckResult]:
    """Check the machine, the user's own files, and the folders of runs and models. Changes nothing.

    Raises:
        UserError: The user's settings have mistakes.
    """
    return [*check_machine(), *check_own_files(), *check_runs(runs_dir), *check_models(models_dir)]
