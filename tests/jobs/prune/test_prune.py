"""``saman prune``: what goes, what stays and why, and that a kill leaves nothing that looks like a run."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from pathlib import Path

import pytest

import saman
from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.script import Script
from saman.jobs.prune import removal
from saman.jobs.prune.choice import plan_prune
from saman.jobs.prune.plan import DAY, KeepReason, PruneKind, PrunePlan, PruneRequest
from saman.jobs.prune.removal import remove_chosen
from saman.jobs.prune.usage import Usage, measure, read_usage
from saman.launcher.supervision.run_lock import hold_run
from saman.runs.caches import PARTS
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.paths.runs_folder import pruned_folder

LATER = 40 * DAY  # seconds after the runs were made


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path / "runs"


def made(runs: Path, name: str = "exp", *events: str, code: Path | None = None, **facts: object) -> RunFolder:
    spec = validated(Script, {"name": name, "command": ["true"], "directory": "/"}, "test")
    run = RunFolder.create(runs, spec, code_path=[str(code)] if code else [])
    for kind in events or ("completed",):
        run.append(kind, "submitter", **facts)
    time.sleep(0.002)  # ids sort by milliseconds
    return run


def plan(runs: Path, *names: str, after: float = LATER, **request: object) -> PrunePlan:
    asked = PruneRequest(names, **request)  # type: ignore[arg-type]
    return plan_prune(runs, runs.parent / "models", asked, now=time.time() + after)


def going(found: PrunePlan, kind: PruneKind = PruneKind.RUN) -> list[Path]:
    return [each.path for each in found.removable if each.kind is kind]


def reasons(found: PrunePlan) -> dict[Path, KeepReason]:
    return {each.path: each.reason for each in found.kept}


def test_old_runs_go_and_the_newest_of_each_experiment_stay(runs: Path) -> None:
    old, newest, other = made(runs), made(runs), made(runs, "other")
    found = plan(runs)
    assert going(found) == [old.path]
    assert reasons(found) == {newest.path: KeepReason.NEWEST, other.path: KeepReason.NEWEST}
    assert set(going(plan(runs, keep=0))) == {old.path, newest.path, other.path}
    assert going(plan(runs, after=29 * DAY)) == [] and going(plan(runs, "other")) == []
    assert going(plan(runs, after=8 * DAY, older_than_seconds=7 * DAY)) == [old.path]


def test_a_queued_a_running_and_a_published_run_stay_whatever_their_age(runs: Path) -> None:
    queued = made(runs, "exp", "queued", job="41")
    running = made(runs, "exp", "attempt_started")
    published = made(runs, "exp", "published", model="digits", version=3)
    published.append("completed", "supervisor")
    with hold_run(running):
        running.attempt(1).make_folders()
        found = plan(runs, keep=0)
        assert going(found) == []
        assert reasons(found)[queued.path] is KeepReason.ACTIVE
        assert reasons(found)[published.path] is KeepReason.PUBLISHED
        assert running.path in reasons(found)


def test_a_run_that_may_be_alive_elsewhere_stays(runs: Path) -> None:
    vanished = made(runs, "exp", "attempt_started", host=socket.gethostname(), pid=2**22 + 1)  # above every pid
    assert reasons(plan(runs, keep=0, after=3600, older_than_seconds=0))[vanished.path] is KeepReason.ACTIVE
    assert going(plan(runs, keep=0)) == [vanished.path]
    vanished.remote_file.write_text("{}")  # it was submitted over ssh, and its end was not fetched
    assert reasons(plan(runs, keep=0))[vanished.path] is KeepReason.ACTIVE


def test_a_run_that_a_queued_run_waits_for_stays(runs: Path) -> None:
    first = made(runs)
    made(runs, "next", "queued", job="41", after=[{"run": str(first.path), "condition": "ok"}])
    assert reasons(plan(runs, keep=0))[first.path] is KeepReason.NEEDED


def test_links_and_other_users_runs_stay_and_are_not_followed(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = made(runs.parent / "elsewhere")
    runs.mkdir()
    (runs / "linked").symlink_to(elsewhere.group)
    link = made(runs).group / "20200101-000000-000-aaaaaa"
    link.symlink_to(elsewhere.path)
    assert set(reasons(plan(runs, keep=0)).values()) == {KeepReason.LINK}
    (real,) = going(plan(runs, keep=0))
    (real / "outside").symlink_to(elsewhere.path)
    list(remove_chosen(plan(runs, keep=0), runs))
    assert elsewhere.script_file.is_file() and not real.exists()
    mine = made(runs)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert reasons(plan(runs, keep=0))[mine.path] is KeepReason.FOREIGN


def test_results_of_a_study_stay_unless_they_are_named(runs: Path) -> None:
    from saman.configs.loading.experiments import load_experiment
    from saman.runs.paths.runs_folder import StudyPaths
    from saman.runs.records.study import PlannedRunRecord, StudyRecord

    experiment = load_experiment("quickstart", ["name=curve"]).experiment
    done = []
    for _ in range(2):
        run = RunFolder.create(runs, experiment)
        run.append("completed", "supervisor")
        done.append(run)
        time.sleep(0.002)
    digest = experiment.digest()
    record = StudyRecord({}, tuple(PlannedRunRecord(f"a-{n}", digest, n) for n in (1, 2)))
    record.write(StudyPaths.of(runs, "curve").record)
    assert set(reasons(plan(runs, keep=0)).values()) == {KeepReason.STUDY}
    assert len(going(plan(runs, keep=0, studies=True))) == len(going(plan(runs, "curve", keep=0))) == 2


def test_a_copy_of_code_goes_with_its_last_run_and_so_does_an_array(runs: Path) -> None:
    copies = [runs / ".code" / name for name in ("shared", "old")]
    arrays = [runs / ".arrays" / name for name in ("kept", "gone")]
    for folder in (*copies, *arrays):
        folder.mkdir(parents=True)
        (folder / "file.py").write_text("x")
    old, newest = made(runs, code=copies[1] / "code"), made(runs, code=copies[0] / "code")
    (arrays[0] / "runs.txt").write_text(f"{newest.path}\n")
    (arrays[1] / "runs.txt").write_text(f"{old.path}\n")
    found = plan(runs)
    assert (going(found, PruneKind.CODE), going(found, PruneKind.ARRAY)) == ([copies[1]], [arrays[1]])
    assert going(plan(runs, after=0, older_than_seconds=0), PruneKind.CODE) == [copies[1]]
    assert going(plan(runs, after=3600, older_than_seconds=2 * DAY), PruneKind.CODE) == []


def test_what_is_removed_is_gone_and_the_freed_space_is_told(runs: Path) -> None:
    old, newest = made(runs), made(runs)
    (old.path / "export").mkdir()
    (old.path / "export" / "weights").write_bytes(bytes(300_000))
    found = plan(runs)
    assert found.usage.bytes >= 300_000
    (result,) = remove_chosen(found, runs)
    assert result.problem is None and result.freed == found.usage
    assert [run.path for run in find_runs(runs)] == [newest.path]
    assert not list(runs.glob(".pruned*"))


def test_a_kill_in_the_middle_leaves_nothing_that_looks_like_a_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, newest = made(runs), made(runs)
    assert old.path.is_dir()

    def killed(path: str, dir_fd: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(removal.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            list(remove_chosen(plan(runs), runs))
    assert [run.path for run in find_runs(runs)] == [newest.path]
    left = plan(runs)
    assert [each.kind for each in left.removable] == [PruneKind.LEFTOVER]
    list(remove_chosen(left, runs))
    assert not list(runs.glob(".pruned*"))


def test_a_run_that_began_after_the_choice_stays(runs: Path) -> None:
    old = made(runs)
    made(runs)
    found = plan(runs)
    old.append("queued", "submitter", job="41")
    (result,) = remove_chosen(found, runs)
    assert result.problem is not None and old.script_file.is_file()


def test_caches_go_only_when_asked_for_and_old(runs: Path) -> None:
    runs.mkdir()
    wheel = runs.parent / "cache" / "wheels" / "abc"
    wheel.mkdir(parents=True)
    (runs.parent / "cache" / "locks").mkdir()
    assert going(plan(runs), PruneKind.CACHE) == []
    assert going(plan(runs, caches=True), PruneKind.CACHE) == [wheel]
    assert going(plan(runs, after=DAY, caches=True), PruneKind.CACHE) == []


def test_disk_use_is_that_of_du(runs: Path) -> None:
    run = made(runs)
    (run.path / "big").write_bytes(bytes(100_000))
    os.link(run.path / "big", run.path / "again")
    (run.path / "link").symlink_to("/usr")
    found = measure(runs)
    walked = {p.lstat().st_ino for p in (runs, *runs.rglob("*"))}
    assert found.inodes == len(walked)
    blocks = {p.lstat().st_ino: p.lstat().st_blocks for p in (runs, *runs.rglob("*"))}
    assert found.bytes == 512 * sum(blocks.values())
    report = read_usage(runs, runs.parent / "models")
    assert [(row.what, row.runs) for row in report.rows] == [("exp", 1)] and report.total.inodes == found.inodes - 1
    assert report.file_system is not None and report.file_system.free_bytes <= shutil.disk_usage(runs).total
    assert measure(runs / "missing") == Usage()


def test_a_folder_that_is_exchanged_for_a_link_is_not_followed(runs: Path) -> None:
    old, newest = made(runs), made(runs)
    found = plan(runs)
    elsewhere = runs.parent / "elsewhere"
    old.group.rename(elsewhere)
    runs.joinpath("exp").symlink_to(elsewhere)
    (result,) = remove_chosen(found, runs)
    assert result.problem is not None and (elsewhere / old.id).is_dir() and (elsewhere / newest.id).is_dir()


def test_a_planted_link_in_place_of_the_folder_for_removed_runs_is_refused(runs: Path) -> None:
    old = made(runs)
    made(runs)
    elsewhere = runs.parent / "elsewhere"
    elsewhere.mkdir()
    pruned_folder(runs).symlink_to(elsewhere)
    (result,) = remove_chosen(plan(runs), runs)
    assert result.problem is not None and old.script_file.is_file() and not list(elsewhere.iterdir())


def test_only_known_parts_of_a_cache_folder_go(runs: Path) -> None:
    runs.mkdir()
    thesis = runs.parent / "cache" / "documents" / "thesis"
    thesis.mkdir(parents=True)
    assert going(plan(runs, caches=True), PruneKind.CACHE) == []


def test_every_part_of_the_cache_is_known_to_prune() -> None:
    rooms = Path(saman.__file__).parent
    sources = (file.read_text() for room in rooms.iterdir() if room.is_dir() for file in room.rglob("*.py"))
    spelled = re.compile(r'(?:cache_folder\(\)|\bcache) / "(\w+)"')
    assert {name for text in sources for name in spelled.findall(text)} - {"locks"} == set(PARTS)


@pytest.mark.parametrize("name", ["", "*", "e*", "..", "nosuch"])
def test_a_name_is_no_pattern_and_means_a_run_of_this_folder(runs: Path, name: str) -> None:
    made(runs)
    with pytest.raises(UserError):
        plan(runs, name)


def test_a_run_of_another_folder_is_refused(runs: Path) -> None:
    made(runs)
    other = made(runs.parent / "other")
    with pytest.raises(UserError, match="not in"):
        plan(runs, str(other.path))
