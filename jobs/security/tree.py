"""Inspects every file below a folder once, for planted files, secrets and keys. Follows no link."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from saman.configs.private_values import has_reference
from saman.configs.secrecy import HIDDEN, is_secret, text_without_secrets
from saman.runs.trust.ownership import Doubt, Fault, find_doubt, trusted_owners

MOST_FILES = 200_000
MOST_BYTES = 1 << 20  # of a file that is searched
_TEXTS = frozenset({".yaml", ".yml", ".json", ".jsonl", ".txt", ".sbatch", ".sh", ".md", ".diff", ".out"})
_ASSIGNMENT = re.compile(r"""^\s*(?:export\s+)?["']?([A-Z][A-Z0-9_]+)["']?\s*[:=]\s*["']?([^\s"',]+)""", re.MULTILINE)
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_PUBLIC_KEY = re.compile(rb"-----BEGIN [A-Z ]*(PUBLIC KEY|CERTIFICATE)-----")
_KEY_SUFFIXES = frozenset({".pem", ".key", ".pub", ".crt", ".cer", ".asc", ""})
_HARMLESS = frozenset({"null", "true", "false", HIDDEN, HIDDEN.split()[0]})


@dataclass(frozen=True)
class Tree:
    """The files below a folder; ``cut`` if there are more than ``MOST_FILES``."""

    folder: Path
    files: tuple[tuple[Path, os.stat_result], ...]
    cut: bool

    @classmethod
    def of(cls, folder: Path) -> Tree:
        """List the files below ``folder``."""
        found: list[tuple[Path, os.stat_result]] = []
        for each in _walk(folder):
            if len(found) == MOST_FILES:
                return cls(folder, tuple(found), cut=True)
            found.append(each)
        return cls(folder, tuple(found), cut=False)

    @cached_property
    def planted(self) -> list[Path]:
        """FIFOs, sockets, devices, and links of users who are not trusted."""
        owners = trusted_owners()
        return [
            path
            for path, found in self.files
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode))
            or (stat.S_ISLNK(found.st_mode) and found.st_uid not in owners)
        ]

    @cached_property
    def doubts(self) -> list[Doubt]:
        """Files and folders that other users own or may write to."""
        owners = trusted_owners()
        suspects = (path for path, found in self.files if found.st_uid not in owners or found.st_mode & 0o022)
        return [doubt for path in suspects if (doubt := find_doubt(path)) is not None and doubt.fault is not Fault.KIND]

    def readable_secrets(self) -> list[Path]:
        """Texts that other users may read and that seem to hold a secret."""
        texts = (path for path, found in self.files if _is_open_text(path, found))
        return [path for path in texts if shows_secret(_beginning(path).decode(errors="replace"))]

    def private_keys(self) -> list[Path]:
        """Files with a private key."""
        return [path for path in self._keys() if _PRIVATE_KEY.search(_beginning(path))]

    def public_keys(self) -> list[Path]:
        """Files with a public key or a certificate."""
        return [path for path in self._keys() if _PUBLIC_KEY.search(_beginning(path))]

    def _keys(self) -> Iterator[Path]:
        for path, found in self.files:
            if stat.S_ISREG(found.st_mode) and path.suffix in _KEY_SUFFIXES and found.st_size < MOST_BYTES:
                yield path


def shows_secret(text: str) -> bool:
    """Security check of a folder tree: whether a text seems to hold a token of a known form, a password or an API key.

    >>> shows_secret("API_KEY: 1234-abcd"), shows_secret("HOME: /home/me")
    (True, False)
    >>> shows_secret("mlflow: https://me:pass@host/"), shows_secret("API_KEY: (left out)")
    (True, False)
    >>> shows_secret("API_KEY: ${secret:launch.environment.API_KEY}")
    False
    """
    if text_without_secrets(text) != text.encode(errors="replace").decode():
        return True
    assigned = ((name, value) for name, value in _ASSIGNMENT.findall(text) if is_secret(name))
    return any(value not in _HARMLESS and not has_reference(value) for _, value in assigned)


def _is_open_text(path: Path, found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & 0o044) and path.suffix in _TEXTS


def _beginning(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(MOST_BYTES)
    except OSError:
        return b""


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        yield Path(entry.path), found
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(Path(entry.path))
