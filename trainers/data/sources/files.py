"""The built-in sources that read data files: ``numpy``, ``images``, ``tfrecord``, ``parquet`` and ``csv``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from saman.configs.errors import UserError
from saman.configs.home_folder import in_home
from saman.configs.schemas.builtins import SOURCES
from saman.configs.schemas.data.files import ArrayFiles, ImageFiles, NumpyFiles, TableFiles, TfRecordFiles
from saman.configs.schemas.data.section import Data
from saman.trainers.data.division import Share, divide
from saman.trainers.data.interface import RandomAccess, Splits
from saman.trainers.data.readers import archives, array_files, examples, images, tables, tfrecord
from saman.trainers.data.readers.damage import OnCorrupt
from saman.trainers.data.readers.paths import data_files
from saman.trainers.data.sources.arrays import scaled
from saman.trainers.user_code.context import Context

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Opened:
    """The parts that a source has as files of their own, and what is known about them.

    Attributes:
        parts: The examples by the name of the part.
        map: Applied to each example of every part.
        normalize: Turns raw inputs into the model's inputs.
        facts: For the identity of the data.
    """

    parts: dict[str, RandomAccess]
    map: Callable[..., Any] | None = None
    normalize: Callable[[Any], Any] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def load(context: Context, data: Data) -> Splits:
    """Return the examples of data files; the same object for every epoch.

    Raises:
        UserError: A file is missing or damaged, or the parts do not match.
    """
    return _load(context.seed, data.model_dump_json())


@cache
def _load(seed: int, text: str) -> Splits:
    data = Data.model_validate_json(text)
    opened = _OPENERS[data.source](SOURCES[data.source].model_validate(data.args), data.on_corrupt)
    parts = opened.parts
    for name, part in parts.items():
        if not part.examples:
            raise UserError("the files hold no example", where=f"data.args.{name}", remedy="correct the path")
    divided = divide(parts["train"], Share.of(data, "validation" in parts, "test" in parts), seed)
    return Splits(
        train=divided.train,
        validation=parts.get("validation", divided.validation),
        test=parts.get("test", divided.test),
        map=opened.map,
        validation_map=opened.map,
        normalize=opened.normalize,
        identity={"name": data.source, "examples": parts["train"].examples, **opened.facts},
    )


def _open_numpy(args: Any, on_corrupt: OnCorrupt) -> Opened:
    asked: NumpyFiles = args
    parts = {}
    for name, files in _present(asked):
        parts[name] = _open_arrays(files, f"data.args.{name}", on_corrupt)
    return Opened(parts, normalize=None if asked.scale is None else scaled(asked.scale))


def _open_arrays(asked: ArrayFiles, where: str, on_corrupt: OnCorrupt) -> RandomAccess:
    named = [("inputs", asked.inputs), ("labels", asked.labels)]
    named += [("weights", asked.weights)] if asked.weights is not None else []
    if asked.archive is not None:
        return archives.archive_rows(in_home(asked.archive), [str(name) for _, name in named], on_corrupt)
    files = [data_files(pattern, f"{where}.{name}") for name, pattern in named]
    if len({len(part) for part in files}) > 1:
        counts = ", ".join(f"{len(part)} of {name}" for part, (name, _) in zip(files, named, strict=True))
        raise UserError(f"the numbers of files differ: {counts}", where=where, remedy="give as many files of each")
    return array_files.numpy_rows(files, on_corrupt)


def _open_images(args: Any, on_corrupt: OnCorrupt) -> Opened:
    asked: ImageFiles = args
    opened = {}
    for name, path in _present(asked):
        place = in_home(path)
        opened[name] = (images.image_folder if place.is_dir() else images.file_list)(place, on_corrupt)
    classes = opened["train"].classes
    for name, part in opened.items():
        if part.classes != classes:
            problem = f"the classes are {', '.join(part.classes)}, but {', '.join(classes)} in training"
            raise UserError(problem, where=f"data.args.{name}", remedy="give every part the same classes")

    def decode(path: Any, label: Any) -> Any:
        return images.decoded_image(images.read_file(path), asked.size, asked.channels), label

    parts = {name: part.access for name, part in opened.items()}
    return Opened(parts, decode, scaled(255.0), {"classes": list(classes)} if classes else {})


def _open_tfrecord(args: Any, on_corrupt: OnCorrupt) -> Opened:
    asked: TfRecordFiles = args
    features = {name: examples.Field(feature.dtype, tuple(feature.shape)) for name, feature in asked.features.items()}
    inputs = asked.inputs if isinstance(asked.inputs, str) else tuple(asked.inputs)
    layout = examples.Layout(features, inputs, asked.label, asked.weight)
    parts = {}
    for name, patterns in _present(asked):
        recent = tfrecord.RecentRecords()
        read = tfrecord.records(data_files(patterns, f"data.args.{name}"), on_corrupt, recent)
        parts[name] = examples.parsed(read, layout, "data.args.features", recent)
    images_in = isinstance(asked.inputs, str) and asked.features[asked.inputs].dtype == "image"
    scale = asked.scale if asked.scale is not None else 255.0 if images_in else None
    return Opened(parts, layout.decoder(), None if scale is None else scaled(scale))


def _open_tables(kind: tables.Format) -> Callable[[Any, OnCorrupt], Opened]:
    def opened(args: Any, on_corrupt: OnCorrupt) -> Opened:
        asked: TableFiles = args
        columns = tables.Columns(inputs=tuple(asked.inputs), label=asked.label, weight=asked.weight, dtype=asked.dtype)
        found = {}
        for name, patterns in _present(asked):
            files = data_files(patterns, f"data.args.{name}")
            found[name] = tables.table_rows(files, kind, columns, on_corrupt)
        train = found["train"]
        for name, table in found.items():
            if (table.classes, table.inputs) != (train.classes, train.inputs):
                problem = "the columns or the names of the classes differ from those of the training files"
                raise UserError(problem, where=f"data.args.{name}", remedy="give every part the same columns")
        facts: dict[str, Any] = {"inputs": list(train.inputs)}
        facts |= {"classes": list(train.classes)} if train.classes else {}
        normalize = None if asked.scale is None else scaled(asked.scale)
        return Opened({name: table.access for name, table in found.items()}, None, normalize, facts)

    return opened


def _present(asked: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(asked, name)) for name in PARTS if getattr(asked, name) is not None]


_OPENERS: dict[str, Callable[[Any, OnCorrupt], Opened]] = {
    "numpy": _open_numpy,
    "images": _open_images,
    "tfrecord": _open_tfrecord,
    "parquet": _open_tables("parquet"),
    "csv": _open_tables("csv"),
}
