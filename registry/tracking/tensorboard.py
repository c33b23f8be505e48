"""TensorBoard event files of a run, written without TensorFlow (tensorflow/core/util/event.proto, summary.proto)."""

from __future__ import annotations

import struct
from pathlib import Path

from saman.registry.store import protobuf
from saman.registry.tracking.run_history import RunHistory
from saman.runs.files.whole import write_whole


def event_file(history: RunHistory) -> bytes:
    """Render the event file: a version header, the parameters as text, then all metrics in the order of steps."""
    out = [protobuf.tfrecord(_event(history.started, 0, protobuf.text(3, "brain.Event:2")))]
    rows = "\n".join(f"| {name} | {value} |" for name, value in sorted(history.parameters.items()))
    parameters = _text("parameters", f"| | |\n|---|---|\n{rows}")
    out.append(protobuf.tfrecord(_event(history.started, 0, protobuf.message(5, parameters))))
    for point in sorted(history.points, key=lambda point: (point.step, point.name)):
        summary = protobuf.message(1, protobuf.text(1, point.name) + _float(2, point.value))
        out.append(protobuf.tfrecord(_event(point.time, point.step, protobuf.message(5, summary))))
    return b"".join(out)


def _event(time: float, step: int, body: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", time) + protobuf.integer(2, step) + body


def _float(field: int, value: float) -> bytes:
    return protobuf.varint(field << 3 | 5) + struct.pack("<f", value)


def _text(tag: str, content: str) -> bytes:
    """A ``Summary`` with one text value, as the text plugin reads it."""
    plugin = protobuf.message(1, protobuf.text(1, "text"))
    tensor = (
        protobuf.integer(1, 7)
        + protobuf.message(2, protobuf.message(2, protobuf.integer(1, 1)))
        + protobuf.message(8, content.encode())
    )
    return protobuf.message(1, protobuf.text(1, tag) + protobuf.message(9, plugin) + protobuf.message(8, tensor))


def write(history: RunHistory, folder: Path) -> Path:
    """Write the run's event file into ``folder/<experiment>/<run id>/``, whole; a second write replaces it."""
    place = folder / history.experiment / history.run_id
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"events.out.tfevents.{int(history.started)}.saman"
    write_whole(file, event_file(history))
    return file
