"""Submissions end where their mode says: a dry run asks Slurm nothing, a test submits nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.loading.clusters import load_cluster
from saman.launcher.programs import script_from_command
from saman.slurm.submission import run_submission as submission
from saman.slurm.submission.run_submission import SubmissionMode, SubmissionOptions, SubmissionResult, make_submission


def _make(runs_dir: Path, mode: SubmissionMode) -> SubmissionResult:
    spec = script_from_command(["bash", "-c", "true"], ranks=2)
    return make_submission(spec, load_cluster("cpu-cluster"), (), SubmissionOptions(runs_dir=runs_dir), mode)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that would reach Slurm, in order."""
    found: list[str] = []

    def check_limits(*plans: object) -> list[str]:
        found.append("check_limits")
        return ["close to a limit"]

    def test_only(plan: object, exclude: object) -> str:
        found.append("test_only")
        return "Job 1 to start at noon"

    monkeypatch.setattr(submission, "check_extra_options", lambda lines, where: None)
    monkeypatch.setattr(submission.planning, "check_limits", check_limits)
    monkeypatch.setattr(submission.planning, "test_only", test_only)
    monkeypatch.setattr(submission.slurm, "submit", lambda *_: pytest.fail("submitted"))
    return found


def test_a_dry_run_renders_the_script_and_asks_slurm_nothing(tmp_path: Path, calls: list[str]) -> None:
    result = _make(tmp_path / "runs", SubmissionMode.DRY_RUN)
    assert "#SBATCH" in result.plan.text
    assert (result.start, result.submission, calls) == (None, None, [])
    assert not (tmp_path / "runs").exists()


def test_a_test_checks_limits_asks_for_the_start_and_submits_nothing(tmp_path: Path, calls: list[str]) -> None:
    result = _make(tmp_path / "runs", SubmissionMode.TEST_ONLY)
    assert calls == ["check_limits", "test_only"]
    assert result.start == "Job 1 to start at noon"
    assert result.notes[-1] == "close to a limit"
    assert result.submission is None
    assert not (tmp_path / "runs").exists()
