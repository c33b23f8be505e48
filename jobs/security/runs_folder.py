"""Checks a folder of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from saman.configs.loading.settings import settings_file
from saman.jobs.security.finding import Check, CheckResult, Risk, some
from saman.jobs.security.folders import check_locks, check_planted, check_secrets, check_way, missing
from saman.jobs.security.tree import Tree
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.trust.ownership import Doubt, Fault, user_name
from saman.runs.trust.run_trust import find_run_doubt, run_doubt


def check_runs(folder: Path) -> list[CheckResult]:
    """Every check of a folder of runs; if it is missing, a note that says so."""
    if not folder.is_dir():
        return [missing(Check.RUNS_FOLDER, folder)]
    runs, tree = find_runs(folder), Tree.of(folder)
    doubts = [(run, doubt) for run in runs if (doubt := find_run_doubt(run)) is not None]
    return [
        check_way(Check.RUNS_FOLDER, folder),
        check_locks(Check.RUNS_LOCKS, folder),
        check_owners(doubts, len(runs)),
        check_permissions([doubt for _, doubt in doubts]),
        check_planted(Check.RUNS_PLANTED, tree),
        check_secrets(Check.RUNS_SECRETS, tree),
    ]


def check_owners(doubts: Sequence[tuple[RunFolder, Doubt]], runs: int) -> CheckResult:
    """Whether there are runs of other users, and whether the user's settings trust them.

    Args:
        doubts: The runs that others control, or may control.
        runs: Number of all runs.
    """
    others = [(run, doubt) for run, doubt in doubts if doubt.fault is Fault.OWNER]
    trusted = [run for run, _ in others if run_doubt(run) is None]
    owners = Counter(user_name(doubt.owner) for _, doubt in others)
    text = ", ".join(f"{count} of {name}" for name, count in owners.most_common())
    if trusted:
        found = f"{len(trusted)} runs of others execute as you when you resume or publish them"
        return CheckResult(Check.RUNS_OWNERS, Risk.WARNING, found, f"`safe` in {settings_file()} lists them")
    if others:
        return CheckResult(
            Check.RUNS_OWNERS, Risk.NOTE, f"runs of others, which resume, cancel and publish refuse: {text}"
        )
    return CheckResult(Check.RUNS_OWNERS, Risk.NONE, f"{runs} {'run' if runs == 1 else 'runs'}, all yours")


def check_permissions(doubts: Sequence[Doubt]) -> CheckResult:
    """Whether others may write to what the user's own runs execute."""
    own = [doubt for doubt in doubts if doubt.fault is not Fault.OWNER]
    if own:
        found = f"others may write to what your runs execute: {some(own)}"
        return CheckResult(Check.RUNS_PERMISSIONS, Risk.DANGER, found, own[0].remedy)
    return CheckResult(Check.RUNS_PERMISSIONS, Risk.NONE, "nobody else may write to what your runs execute")
