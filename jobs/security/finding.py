"""A finding of ``saman doctor --security``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

SHOWN = 3  # paths that a finding names; the others are counted


class Risk(str, Enum):
    """How much another user could do."""

    NONE = "none"
    NOTE = "note"  # worth knowing; nothing to mend
    WARNING = "warning"  # harmful together with something else, or by choice
    DANGER = "danger"  # another user can execute, exchange or read what is not theirs


class Check(str, Enum):
    """The subject of a finding; the values are stable, for scripts."""

    USER = "machine.user"
    UMASK = "machine.umask"
    TEMPORARY = "machine.temporary_folder"
    KERNEL = "machine.protected_links"
    SHARED = "machine.shared"
    CONFINEMENT = "machine.confinement"
    SEARCH_PATH = "own.search_path"
    OWN_FILES = "own.files"
    SAFE_LIST = "own.safe_list"
    RUNS_FOLDER = "runs.folder"
    RUNS_LOCKS = "runs.locks"
    RUNS_OWNERS = "runs.owners"
    RUNS_PERMISSIONS = "runs.permissions"
    RUNS_PLANTED = "runs.planted_files"
    RUNS_SECRETS = "runs.secrets"
    MODELS_FOLDER = "models.folder"
    MODELS_LOCKS = "models.locks"
    MODELS_PERMISSIONS = "models.permissions"
    MODELS_KEYS = "models.keys"
    MODELS_SIGNATURE = "models.signature"
    MODELS_PLANTED = "models.planted_files"
    MODELS_SECRETS = "models.secrets"


@dataclass(frozen=True)
class CheckResult:
    """The result of a check: ``found`` is a sentence for people, ``remedy`` what to do."""

    check: Check
    risk: Risk
    found: str
    remedy: str = ""


def is_safe(findings: Iterable[CheckResult]) -> bool:
    """Whether nothing dangerous was found."""
    return not any(finding.risk is Risk.DANGER for finding in findings)


def some(items: Sequence[object]) -> str:
    """The first items of a security finding, and how many more there are.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more
