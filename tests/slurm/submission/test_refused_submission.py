"""What a refusal leaves behind, and what a login node may lack."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.stubs import calls, stubs

from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.launcher.programs import script_from_command
from saman.slurm.submission.run_submission import SubmissionMode, SubmissionOptions, SubmissionResult, make_submission


def _submit(
    folder: Path, mode: SubmissionMode = SubmissionMode.SUBMIT, exclude: tuple[str, ...] = ()
) -> SubmissionResult:
    code = folder / "project"
    code.mkdir()
    (code / "train.py").write_text("print(1)\n")
    spec = script_from_command(["python", "train.py"], ranks=2, directory=code)
    options = SubmissionOptions(runs_dir=folder / "runs", exclude=exclude)
    return make_submission(spec, load_cluster("cpu-cluster"), (code,), options, mode)


def test_a_refused_submission_leaves_no_run_and_no_copy_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = 'echo "sbatch: error: Batch job submission failed: Invalid qos specification" >&2; exit 1'
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"sbatch": refusal, "scontrol": "exit 1", "sacctmgr": "exit 1"}))
    with pytest.raises(UserError, match="QOS"):
        _submit(tmp_path)
    assert not (tmp_path / "runs").exists()


def test_a_login_node_without_sacctmgr_submits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"sbatch": "echo 17", "scontrol": "exit 1"}))
    done = _submit(tmp_path).submission
    assert done is not None and done.job == "17"


def test_the_question_for_the_start_time_leaves_excluded_nodes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = 'echo "sbatch: Job 1 to start at 2026-01-01T00:00:00 using 4 processors" >&2'
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"sbatch": answer, "scontrol": "exit 1"}))
    _submit(tmp_path, SubmissionMode.TEST_ONLY, ("node1", "node2"))
    (asked,) = [call for call in calls(tmp_path / "bin") if "--test-only" in call]
    assert "--test-only --exclude=node1,node2" in asked
