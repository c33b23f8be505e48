"""Checks the files that this user's commands trust: search paths, saman's own files, settings and cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from saman.configs.home_folder import in_home
from saman.configs.loading.settings import load_settings, settings_file, user_folder
from saman.jobs.security.finding import Check, CheckResult, Risk, some
from saman.jobs.security.tree import Tree
from saman.runs.caches import cache_folder
from saman.runs.trust.ownership import Fault, find_doubt


def check_own_files() -> list[CheckResult]:
    """Every check of the user's own files."""
    search = [*os.environ.get("PATH", os.defpath).split(os.pathsep), *(entry for entry in sys.path if entry)]
    return [check_search_path(search), check_folders([user_folder(), cache_folder()]), check_safe_list()]


def check_search_path(entries: Sequence[str]) -> CheckResult:
    """Whether others can put a command or a module where this user's programs look for it.

    Args:
        entries: Folders of ``PATH`` and of ``sys.path``.
    """
    relative = sorted({entry or "." for entry in entries if not entry.startswith("/")})
    places = {Path(entry).resolve() for entry in entries if entry.startswith("/") and os.access(entry, os.X_OK)}
    doubts = [str(doubt) for place in sorted(places) if (doubt := find_doubt(place)) is not None]
    if relative:
        found = f"relative entries on the search path: {', '.join(relative)}; any folder that you enter can hold `srun`"
        return CheckResult(Check.SEARCH_PATH, Risk.DANGER, found, "remove them from PATH and PYTHONPATH")
    if doubts:
        found = f"others can put commands or modules into your search path: {some(doubts)}"
        return CheckResult(Check.SEARCH_PATH, Risk.DANGER, found, "remove it from PATH or PYTHONPATH, or chmod go-w")
    return CheckResult(Check.SEARCH_PATH, Risk.NONE, f"nobody else writes to its {len(places)} folders")


def check_folders(folders: Iterable[Path]) -> CheckResult:
    """Whether others own, or may write to, settings, cluster files, wheels and converters."""
    doubts = []
    for folder in folders:
        if not os.access(folder.parent, os.X_OK):
            continue  # missing, or closed to this user: nothing there can be used
        if (doubt := find_doubt(folder)) is not None:
            doubts.append(doubt)
        doubts += Tree.of(folder).doubts
    if doubts:
        writable = all(doubt.fault is Fault.WRITABLE for doubt in doubts)
        remedy = doubts[0].remedy if writable else "remove them; saman setup makes the cache again"
        return CheckResult(Check.OWN_FILES, Risk.DANGER, f"settings or cached code: {some(doubts)}", remedy)
    return CheckResult(Check.OWN_FILES, Risk.NONE, "settings, cluster files and cache are yours alone")


def check_safe_list() -> CheckResult:
    """Whether the user trusts folders that anybody may write to. Raises ``UserError`` for mistakes in the settings."""
    safe = [in_home(text) for text in load_settings().safe]
    open_to_all = [folder for folder in safe if folder.is_dir() and folder.stat().st_mode & 0o002]
    if open_to_all or Path("/") in safe:
        found = f"`safe` trusts folders that everyone may write to: {some(open_to_all or ['/'])}"
        return CheckResult(Check.SAFE_LIST, Risk.DANGER, found, f"list single run folders in {settings_file()}")
    if safe:
        found = f"runs of others below these folders execute as you: {some(safe)}"
        return CheckResult(Check.SAFE_LIST, Risk.WARNING, found, f"{settings_file()}: keep only what you need")
    return CheckResult(Check.SAFE_LIST, Risk.NONE, "empty: no other user's run executes anything as you")
