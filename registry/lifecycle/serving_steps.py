"""In which steps ``models.config`` reaches new labels: first it lists a version, later it moves a label to it. Pure.

TensorFlow Serving checks the labels of a new file before it loads the versions that the file lists
(``ServerCore::ReloadConfig`` calls ``UpdateModelVersionLabelMap`` first). A label in use that moves to a version that
is not loaded yet makes it refuse the whole file, at every poll, so the version is never loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Served:
    """What the file says of a model: the versions that a server loads, and the labels with their versions."""

    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)


def next_step(
    wanted: Served, written: Served | None, *, offered: Collection[int], moved: Collection[str], settled: bool
) -> Served:
    """What the file may say now, on the way to what is wanted.

    The labels of a model move together. Until the file has listed each of their versions for long enough, the file
    keeps the labels of before, and also lists the versions that are wanted.

    Args:
        wanted: What the audit log demands.
        written: What the present file says; ``None`` where it says nothing of the model.
        offered: The published versions whose files exist.
        moved: Labels that have meant more than 1 version. A server takes any other label at once, when it is started
            with ``--allow_version_labels_for_unavailable_models``.
        settled: Whether every server has read and followed the present file.
    """
    if written is None or not _blocked(wanted, written, moved, settled):
        return wanted
    labels = {label: written.labels[label] for label in wanted.labels if written.labels.get(label) in offered}
    fresh = {label: number for label, number in wanted.labels.items() if label not in moved}
    held = dict(sorted({**labels, **fresh}.items()))
    return Served(tuple(sorted({*wanted.versions, *held.values()})), held)


def _blocked(wanted: Served, written: Served, moved: Collection[str], settled: bool) -> bool:
    """Whether some label would move to a version that a server may not have loaded."""
    changed = [
        number for label, number in wanted.labels.items() if label in moved and written.labels.get(label) != number
    ]
    return any(not settled or number not in written.versions for number in changed)
