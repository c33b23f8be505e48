"""A recording file-system layer: what a power loss may leave of a folder, at every moment of a piece of work.

POSIX promises little: the content of a file is safe after ``fsync`` of the file, its name after that of its folder.
The recorder follows both while the work runs, and rebuilds the folder as a power loss may leave it:

- ``synced``: nothing but what was synced;
- ``names``: every name, but only synced content (the empty files after a crash that applications fear);
- ``mixed``: some folders with all their names, others with the synced names only; files that were not synced whole, in
  part, or not at all;
- ``all``: everything, as after a SIGKILL.

Python reports opening, renaming, linking, removing and making files to audit hooks; ``os.fsync`` is wrapped.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_EVENTS = frozenset({"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink"})
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_active: list[Recorder] = []
Names = dict[str, tuple[int, bool]]  # of a folder: name to inode, and whether it is a folder


@dataclass
class Moment:
    """The folder before an operation: names and content by inode, as they are and as they are synced."""

    what: str
    done: int  # how many pieces of work had returned
    root: int
    names: dict[int, Names]
    content: dict[int, bytes]
    synced_names: dict[int, Names]
    synced_content: dict[int, bytes]

    def left(self, kind: str, seed: int = 0) -> dict[str, bytes | None]:
        """What a power loss may leave: the content of every file by its path; ``None`` for a folder."""
        chance = random.Random(f"{kind} {seed} {self.what}")
        share = {"all": 1.0, "names": 1.0, "synced": 0.0, "mixed": 0.5}[kind]
        found: dict[str, bytes | None] = {}

        def content(inode: int) -> bytes:
            synced, written = self.synced_content.get(inode, b""), self.content.get(inode, b"")
            if kind == "mixed" and inode in self.content:  # writes that were not synced arrive whole, in part, or not
                return chance.choice([synced, written, written[: len(written) // 2]]) if written != synced else synced
            return written if kind == "all" else synced

        def visit(inode: int, place: str) -> None:
            found[place] = None
            everything = chance.random() < share
            names = self.names.get(inode, {}) if everything else self.synced_names.get(inode, {})
            for name, (child, is_folder) in sorted(names.items()):
                if is_folder:
                    visit(child, f"{place}/{name}")
                else:
                    found[f"{place}/{name}"] = content(child)

        visit(self.root, "")
        return found


@dataclass
class Recorder:
    """Follows everything that happens under a folder while ``record`` runs."""

    folder: Path
    moments: list[Moment] = field(default_factory=list)
    done: int = 0
    _busy: bool = False
    _synced_names: dict[int, Names] = field(default_factory=dict)
    _synced_content: dict[int, bytes] = field(default_factory=dict)
    _held: list[int] = field(default_factory=list)  # descriptors, so that no inode number is used again

    def record(self, *work: Callable[[], object]) -> list[Moment]:
        """Run pieces of work one after another; what is there before them counts as synced."""
        names, content = _scan(self.folder)
        self._synced_names, self._synced_content = names, content
        sync = os.fsync
        _active.append(self)
        os.fsync = self._fsync(sync)  # type: ignore[assignment]
        try:
            for piece in work:
                piece()
                self.done += 1
                self._look("after the work")
        finally:
            os.fsync = sync
            _active.remove(self)
            for descriptor in self._held:
                os.close(descriptor)
        return self.moments

    def _fsync(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            sync(descriptor)
            self._busy = True
            about = os.fstat(descriptor)
            self._held.append(os.dup(descriptor))
            if stat.S_ISDIR(about.st_mode):
                place = Path(f"/proc/self/fd/{descriptor}")
                self._synced_names[about.st_ino] = _names(place)
                for name, (inode, is_folder) in _names(place).items():
                    if is_folder and inode not in self._synced_names:
                        self._synced_names[inode] = {}
                        self._held.append(os.open(place / name, os.O_PATH))
            else:
                self._synced_content[about.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()
            self._busy = False
            self._look("fsync")

        return fsync

    def heard(self, event: str, arguments: tuple[object, ...]) -> None:
        """An audit event: look at the folder before the operation, if it changes something in there."""
        if self._busy or event not in _EVENTS or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITES):
            return
        if str(os.fsdecode(arguments[0])).startswith(str(self.folder)):
            self._look(f"{event} {os.fsdecode(arguments[0])}")

    def _look(self, what: str) -> None:
        self._busy = True
        names, content = _scan(self.folder)
        synced_names = {inode: dict(found) for inode, found in self._synced_names.items()}
        root = self.folder.stat().st_ino
        self.moments.append(Moment(what, self.done, root, names, content, synced_names, dict(self._synced_content)))
        self._busy = False


def _scan(folder: Path) -> tuple[dict[int, Names], dict[int, bytes]]:
    names: dict[int, Names] = {}
    content: dict[int, bytes] = {}
    for place, _, _ in os.walk(folder):
        names[Path(place).stat().st_ino] = found = _names(Path(place))
        content |= {
            inode: Path(place, name).read_bytes() for name, (inode, is_folder) in found.items() if not is_folder
        }
    return names, content


def _names(folder: Path) -> Names:
    return {entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in os.scandir(folder)}


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    for recorder in _active:
        recorder.heard(event, arguments)


sys.addaudithook(_hook)


KINDS = (("synced", 0), ("names", 0), ("all", 0), ("mixed", 0), ("mixed", 1), ("mixed", 2))


def power_losses(
    moments: list[Moment], place: Path, kinds: tuple[tuple[str, int], ...] = KINDS
) -> Iterator[tuple[Moment, str, Path]]:
    """Yield what a power loss may leave, at every moment and in every kind: the moment, its description, the folder."""
    seen = set()
    for number, moment in enumerate(moments):
        for kind, seed in kinds:
            left = moment.left(kind, seed)
            state = (moment.done, tuple(left.items()))
            if state in seen:
                continue
            seen.add(state)
            target = place / f"{number}-{kind}-{seed}"
            for path, content in left.items():
                if content is None:
                    (target / path.lstrip("/")).mkdir()
                else:
                    (target / path.lstrip("/")).write_bytes(content)
            yield moment, f"{moment.what} ({kind} {seed})", target
            shutil.rmtree(target)
