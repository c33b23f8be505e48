"""A run that another user owns or may write to executes nothing, unless the user's settings list it as safe."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.settings import settings_file
from saman.configs.schemas.script import Script
from saman.jobs import reconcile
from saman.jobs.cancel import cancel_runs
from saman.jobs.resume import ResumeRequest, resume_here, resume_runs
from saman.jobs.status import RunState, read_status
from saman.launcher.local import resume_locally
from saman.launcher.planning import Options
from saman.registry.lifecycle.publish import publish
from saman.registry.tracking.delivery import find_waiting, track
from saman.runs.folder import RunFolder
from saman.runs.trust import ownership
from saman.runs.trust.run_trust import is_trusted, require_trusted
from saman.slurm.submission.submit import resubmit


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    spec = Script.model_validate({"name": "hello", "command": ["touch", "ran"], "directory": str(tmp_path)})
    made = RunFolder.create(tmp_path / "runs", spec)
    made.append("attempt_started", "supervisor", 1, ranks=1)
    made.append("failed", "supervisor", 1)
    return made


@pytest.fixture
def foreign(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The run as any other user sees it."""
    monkeypatch.setattr(ownership, "trusted_owners", lambda: frozenset({os.geteuid() + 1}))
    return run


def test_the_runs_of_a_user_are_trusted(run: RunFolder) -> None:
    assert is_trusted(run)
    require_trusted(run, "resume")


@pytest.mark.parametrize(
    "act",
    [
        lambda run: list(resume_runs([run])),
        lambda run: resume_here(run, ResumeRequest()),
        resubmit,
        lambda run: resume_locally(run, Options(runs_dir=run.runs_dir)),
        lambda run: publish(run, run.runs_dir / "models", model="m"),
        track,
    ],
)
def test_what_acts_on_a_run_refuses_another_users(act: Callable[[RunFolder], object], foreign: RunFolder) -> None:
    before = foreign.events_file.read_bytes()
    with pytest.raises(UserError, match="dubious ownership") as refused:
        act(foreign)
    assert str(settings_file()) in str(refused.value.remedy)
    assert foreign.events_file.read_bytes() == before and not foreign.attempts()


def test_cancel_ends_nothing_that_another_users_folder_names(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.append("attempt_started", "supervisor", 2, ranks=1)
    monkeypatch.setattr(ownership, "trusted_owners", lambda: frozenset({os.geteuid() + 1}))
    with pytest.raises(UserError, match="dubious ownership"):
        list(cancel_runs([run]))


def test_of_several_runs_another_users_is_skipped_with_the_reason(foreign: RunFolder) -> None:
    skipped = list(resume_runs([foreign, foreign]))
    assert all("dubious ownership" in str(each.skipped) for each in skipped) and len(skipped) == 2


def test_an_end_that_slurm_reports_is_not_written_through_another_users_links(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.append("attempt_started", "supervisor", 2, ranks=1)
    precious = tmp_path / "precious"
    run.events_file.rename(precious)
    run.events_file.symlink_to(precious)
    before, (status,) = precious.read_bytes(), read_status([run])
    monkeypatch.setattr(reconcile, "read_status", lambda runs: [replace(status, state=RunState.FAILED)])
    monkeypatch.setattr(ownership, "trusted_owners", lambda: frozenset({os.geteuid() + 1}))
    assert reconcile.reconcile([run])[0].state is RunState.FAILED
    assert find_waiting(run.runs_dir) == []
    assert precious.read_bytes() == before
    monkeypatch.setattr(ownership, "trusted_owners", lambda: frozenset({os.geteuid()}))
    reconcile.reconcile([run])
    assert precious.read_bytes() != before


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_listed_folder_and_everything_below_it_is_safe(foreign: RunFolder, level: int) -> None:
    safe = [foreign.path, *foreign.path.parents][level]
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text(f"safe: [{safe}]\n")
    with pytest.raises(UserError, match="dubious settings"):  # it belongs to the other user too
        require_trusted(foreign, "resume")
    mine = ownership.trusted_owners() | {os.geteuid()}
    (foreign.path / "experiment.yaml").touch(0o666)
    (foreign.path / "experiment.yaml").chmod(0o666)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ownership, "trusted_owners", lambda: mine)
        assert is_trusted(foreign)
        settings_file().write_text(f"safe: [{safe}-2]\n")
        assert not is_trusted(foreign)
        settings_file().write_text(f"safe: [{str(safe)[:-1]}]\n")  # a folder whose name merely begins alike
        assert not is_trusted(foreign)


@pytest.mark.parametrize("name", ["", "script.yaml", "events.jsonl", "control", "control/stop", "checkpoints", "slurm"])
def test_a_run_that_others_may_write_to_is_refused_with_the_command_that_mends_it(run: RunFolder, name: str) -> None:
    path = run.path / name
    if not path.exists():
        path.mkdir() if name == "slurm" else path.touch()
    path.chmod(0o777)
    with pytest.raises(UserError, match="dubious permissions") as refused:
        require_trusted(run, "resume")
    assert "chmod -R go-w" in str(refused.value.remedy)


def test_a_copy_of_the_code_is_examined_to_the_last_file(run: RunFolder) -> None:
    code = run.runs_dir / ".code" / "now"
    (code / "package").mkdir(parents=True, mode=0o755)
    (code / "package" / "module.py").touch(0o644)
    run.append("created", "submitter", code_path=[str(code)])
    run.events_file.write_text("".join(reversed(run.events_file.read_text().splitlines(keepends=True))))
    assert is_trusted(run)
    (code / "package" / "module.py").chmod(0o666)
    assert not is_trusted(run)


def test_a_new_run_is_written_by_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spec = Script.model_validate({"name": "hello", "command": ["true"], "directory": "/tmp"})
        made = RunFolder.create(tmp_path / "runs", spec)
    finally:
        os.umask(before)
    assert is_trusted(made)
    assert [path for path in made.path.rglob("*") if path.stat().st_mode & 0o022] == []
