"""Writes files atomically and appends lines; readers drop and count torn lines."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from saman.configs.regular_files import DEEPEST, read_regular

_TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"

_TOGETHER: ContextVar[bool] = ContextVar("files are synchronised together", default=False)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def write_whole(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Write a file by a single rename: a reader sees the old content or the new, never a part of it.

    Only its owner may write to it, whatever the umask: in a shared folder, a file decides what its owner executes.

    Args:
        path: The file.
        content: Its new content; text is written as UTF-8.
        private: Whether only its owner may read it, from the first byte on.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(temporary, _NEW, 0o600 if private else 0o644), "wb") as file:
            file.write(data)
            file.flush()
            if not _TOGETHER.get():
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def synced_together(folder: Path) -> Iterator[None]:
    """Write many files with one synchronisation at the end: for files that nobody reads before.

    A synchronisation takes milliseconds, so that of each file by itself would take most of the time of a study's
    submission. Nothing is synchronised if the body fails.

    Args:
        folder: A folder on the file system of the files.
    """
    token = _TOGETHER.set(True)
    try:
        yield
    finally:
        _TOGETHER.reset(token)
    _sync_file_system(folder)


def _sync_file_system(folder: Path) -> None:
    import ctypes  # not in every rank

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Write ``value`` as indented JSON, by a single rename; ``private`` as for ``write_whole``."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", private=private)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append a whole JSON line to a file by a single write; first ends a line that a killed writer left torn.

    Raises:
        OSError: The line is not on file, or not whole: a nearly full disk takes a part and reports no error.
    """
    data = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # Never only the rest: another process may have appended after the first part.
        if not (_write_line(descriptor, data) or _write_line(descriptor, data)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def _write_line(descriptor: int, line: bytes) -> bool:
    """Whether the line was written whole."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    return os.write(descriptor, line) == len(line)


def parse_json(text: str | bytes) -> Any:
    """The value of a file's JSON text; raises ``ValueError`` where it is no JSON, or nested deeper than ``DEEPEST``."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    opening = (text.count(b"{") + text.count(b"[")) if isinstance(text, bytes) else (text.count("{") + text.count("["))
    if opening > DEEPEST and _is_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        parts = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [inner for part in parts for inner in part if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def read_json(path: Path) -> Any | None:
    """The value of a JSON file; ``None`` if the file is missing, torn or nested too deeply."""
    try:
        return parse_json(read_regular(path).decode("utf-8"))
    except (OSError, ValueError):
        return None


def read_lines(path: Path, containing: bytes = b"") -> tuple[list[dict[str, Any]], int]:
    """Read the whole lines of a JSON file: every object in order, and the number of torn lines that were dropped.

    Args:
        path: The file; a missing file has no lines.
        containing: Passes over whole lines without these bytes, which costs much less than reading them.
    """
    try:
        text = read_regular(path)
    except OSError:
        return [], 0
    records, dropped = [], 0
    for line in text.split(b"\n"):
        if not line.strip() or (containing not in line and line.endswith(b"}")):
            continue
        try:
            value = parse_json(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            records.append(value)
        else:
            dropped += 1
    return records, dropped
