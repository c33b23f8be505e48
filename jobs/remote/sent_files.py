"""The list of code files that the user's machine sent to a project's folder on a cluster.

Only these are ever removed: beside them lie files of the user's programs, such as ``./checkpoints``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.records.schema import mapping, read_record
from saman.slurm.code.files import SentCode, is_inside


def list_file(project: Path) -> Path:
    """The file with the list, in the project's folder."""
    return project / "sent.json"


def receive_list(project: Path, sent: Mapping[str, Any], complete: bool) -> None:
    """Take the list of the files that come next.

    Args:
        project: The project's folder on the cluster.
        sent: The list (``SentCode.to_json``).
        complete: Whether it names all code: then files that came earlier and are not in it are removed.
    """
    code = project / "code"
    new = SentCode.from_json(code, dict(sent))
    before = {str(name) for name in mapping(read_record(list_file(project))).get("came") or ()}
    gone = before - set(new.names) if complete else set()
    for name in sorted(filter(is_inside, gone)):
        _remove(code, name)
    came = sorted((before - gone) | set(new.names))
    write_json(list_file(project), {"schema": 1, **new.to_json(), "came": came}, private=True)


def read_sent(file: Path) -> SentCode:
    """Read the newest list; raises ``UserError`` for a list of a newer saman."""
    return SentCode.from_json(file.parent / "code", read_record(file) or {})


def _remove(code: Path, name: str) -> None:
    """Remove a file, and the folders that it leaves empty; nothing behind a link."""
    path = code / name
    if code.resolve() not in path.parent.resolve().parents and path.parent.resolve() != code.resolve():
        return
    with contextlib.suppress(OSError):  # already gone, or a folder of the user's own now
        path.unlink()
        for parent in path.parents:
            if parent == code:
                break
            parent.rmdir()
