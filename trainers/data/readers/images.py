"""Images with random access: a folder of one folder per class, or a list of files; decoded example by example."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.readers import damage
from saman.trainers.data.readers.damage import DataDamage, OnCorrupt, from_numpy
from saman.trainers.data.readers.index import Index, IndexWriter, cached_index
from saman.trainers.data.readers.paths import inside
from saman.trainers.keras_compat import tf

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
_FILES_AT_ONCE = 4096
_LONGEST_LABEL = 9  # digits of an int32
_recent: deque[bytes] = deque(maxlen=4096)  # files that were read last, to find the one that TensorFlow refused


@dataclass(frozen=True)
class LabelledFiles:
    """Files with labels.

    Attributes:
        access: Examples (path of the file, int32 label).
        classes: The names of the classes by label; empty if the labels were numbers.
    """

    access: RandomAccess
    classes: tuple[str, ...]


def image_folder(folder: Path, on_corrupt: OnCorrupt = "stop") -> LabelledFiles:
    """Return the images of ``folder/<class>/<image>``, by class and name; the label is the number of the class.

    Args:
        folder: The folder; its folders are the classes, in the order of their names.
        on_corrupt: ``skip`` decodes every image once, while the index is built, and leaves out what fails.

    Raises:
        UserError: The folder is missing or has no class.
    """
    try:
        classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        problem = f"this folder cannot be read: {error.strerror}"
        raise UserError(problem, where=str(folder), remedy="correct the path") from error
    if not classes:
        raise UserError("this folder has no folders of images", where=str(folder), remedy="one folder per class")

    def listed() -> Iterator[tuple[str, int]]:
        for label, name in enumerate(classes):
            # No FIFO, whose reading would never end, and no folder. The kind of an entry costs no look at it.
            inner = sorted(entry.name for entry in os.scandir(folder / name) if entry.is_file())
            yield from ((f"{name}/{file}", label) for file in inner if file.lower().endswith(SUFFIXES))

    depends = [folder, *(folder / name for name in classes)]
    index = cached_index("images", depends, {}, on_corrupt, lambda writer: _build(folder, listed(), writer, on_corrupt))
    return _labelled(folder, index, tuple(classes))


def file_list(path: Path, on_corrupt: OnCorrupt = "stop") -> LabelledFiles:
    """Return the images that a CSV file with the columns ``path`` and ``label`` lists; paths are inside its folder.

    Raises:
        UserError: The list is missing or damaged, or names a file outside its folder.
    """
    index = cached_index("list", [path], {}, on_corrupt, lambda writer: _build_list(path, writer, on_corrupt))
    return _labelled(path.parent, index, tuple(index.facts["classes"]))


def _build_list(path: Path, writer: IndexWriter, on_corrupt: OnCorrupt) -> None:
    rows = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                raise UserError("the columns path and label are missing", where=str(path), remedy="path,label")
            for row in reader:
                name, label = row["path"] or "", row["label"]
                where = f"{path}, line {reader.line_num}"
                inside(path.parent, name, where)
                if not label:
                    raise UserError(f"{name} has no label", where=where, remedy="give each file a label")
                if label.isascii() and label.isdigit() and len(label) > _LONGEST_LABEL:
                    raise UserError(f"the label of {name} is too large", where=where, remedy="number the classes")
                rows.append((name, label))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"this list cannot be read: {error}", where=str(path)) from error
    numbers = all(label.isascii() and label.isdigit() for _, label in rows)
    classes = [] if numbers else sorted({label for _, label in rows})
    number_of = {label: number for number, label in enumerate(classes)}
    writer.facts["classes"] = classes
    labelled = ((name, int(label) if numbers else number_of[label]) for name, label in rows)
    _build(path.parent, labelled, writer, on_corrupt)


def _build(folder: Path, labelled: Iterator[tuple[str, int]], writer: IndexWriter, on_corrupt: OnCorrupt) -> None:
    """Write the arrays ``names`` (UTF-8 of all names), ``ends`` (of each name) and ``label``."""
    writer.append("names", np.zeros(0, np.uint8))
    writer.append("ends", np.zeros(0, np.int64))
    writer.append("label", np.zeros(0, np.int32))
    end = 0
    while piece := [item for _, item in zip(range(_FILES_AT_ONCE), labelled, strict=False)]:
        if on_corrupt == "skip":
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                problems = list(pool.map(lambda item: _problem(folder / item[0]), piece))
            for (name, _), problem in zip(piece, problems, strict=True):
                if problem:
                    writer.damages.add(DataDamage(str(folder / name), problem))
            piece = [item for item, problem in zip(piece, problems, strict=True) if not problem]
        encoded = [os.fsencode(name) for name, _ in piece]
        writer.append("names", np.frombuffer(b"".join(encoded), np.uint8))
        writer.append("ends", end + np.cumsum([len(name) for name in encoded], dtype=np.int64))
        writer.append("label", np.array([label for _, label in piece], np.int32))
        end += sum(len(name) for name in encoded)


def _problem(path: Path) -> str:
    """Return what is wrong with an image file; empty if nothing is."""
    try:
        tf.io.decode_image(path.read_bytes(), expand_animations=False)
    except OSError as error:
        return f"this file cannot be read: {error.strerror}"
    except tf.errors.InvalidArgumentError:
        return "this file cannot be decoded as an image"
    return ""


def _labelled(folder: Path, index: Index, classes: tuple[str, ...]) -> LabelledFiles:
    names, ends, labels = (index.arrays[name] for name in ("names", "ends", "label"))
    prefix = os.fsencode(folder.absolute()) + b"/"

    def take(positions: np.ndarray) -> list[np.ndarray]:
        stops = ends[positions].tolist()
        starts = np.where(positions > 0, ends[positions - 1], 0).tolist()
        paths = [prefix + names[start:stop].tobytes() for start, stop in zip(starts, stops, strict=True)]
        _recent.extend(paths)
        found = np.empty(len(paths), object)
        found[:] = paths
        return [found, labels[positions]]

    def read(positions: Any) -> Any:
        return tuple(from_numpy(take, positions, [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)]))

    damage.find_cause_with(_recent_problem)
    lost = index.skipped_examples
    return LabelledFiles(RandomAccess(len(labels), read, (folder,), index.skipped, lost), classes)


def _recent_problem() -> UserError | None:
    """Return the damage in a file that was read shortly before TensorFlow failed; ``None`` if all are sound."""
    for name in dict.fromkeys(_recent):
        path = Path(os.fsdecode(name))
        if problem := _problem(path):
            return DataDamage(str(path), problem).error()
    return None


def read_file(path: Any) -> Any:
    """Return the bytes of a file in a graph."""
    return tf.io.read_file(path)


def decoded_image(data: Any, size: Sequence[int], channels: int) -> Any:
    """Return uint8[height, width, channels] of an encoded image, resized if it has another size."""
    image = tf.io.decode_image(data, channels=channels, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, channels])

    def resized() -> Any:
        scaled = tf.image.resize(image, list(size), antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(scaled), 0, 255), tf.uint8)

    fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], list(size)))
    return tf.ensure_shape(tf.cond(fits, lambda: image, resized), [*size, channels])
