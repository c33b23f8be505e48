"""Checks a folder of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from saman.configs.loading.settings import settings_file
from saman.jobs.security.finding import Check, CheckResult, Risk, some
from saman.jobs.security.folders import check_locks, check_planted, check_secrets, check_way
from saman.jobs.security.tree import Tree
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.trust.ownership import Fault, user_name
from saman.runs.trust.run_trust import find_run_doubt, run_doubt


def check_runs(folder: Path) -> list[CheckResult]:
    """Every check of a folder of runs; empty if it is missing."""
    if not folder.is_dir():
        return []
    runs, tree = find_runs(folder), Tree.of(folder)
    return [
        check_way(Check.RUNS_FOLDER, folder),
        check_locks(Check.RUNS_LOCKS, folder),
        check_owners(runs),
        check_permissions(runs),
        check_planted(Check.RUNS_PLANTED, tree),
        check_secrets(Check.RUNS_SECRETS, tree),
    ]


def check_owners(runs: Sequence[RunFolder]) -> CheckResult:
    """Whether there are runs of other users, and whether the user's settings trust them."""
    others = [(run, doubt) for run in runs if (doubt := find_run_doubt(run)) and doubt.fault is Fault.OWNER]
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
    return CheckResult(Check.RUNS_OWNERS, Risk.NONE, f"{len(runs)} runs, all yours")


def check_permissions(runs: Sequence[RunFolder]) -> CheckResult:
    """Whether others may write to what the user's own runs execute."""
    doubts = [doubt for run in runs if (doubt := find_run_doubt(run)) and doubt.fault is not Fault.OWNER]
    if doubts:
        found = f"others may write to what your runs execute: {some(doubts)}"
        return CheckResult(Check.RUNS_PERMISSIONS, Risk.DANGER, found, doubts[0].remedy)
    return CheckResult(Check.RUNS_PERMISSIONS, Risk.NONE, "nobody else may write to what your runs execute")
