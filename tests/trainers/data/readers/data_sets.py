"""The same small data set in every format, written with other libraries than the readers use.

Example i has the inputs [i, 2i] (for images: the color i) and the label i mod 7.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf

EXAMPLES = 41


def _rows(examples: int = EXAMPLES) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.arange(examples)
    return np.stack([numbers, 2 * numbers], 1).astype("float32"), (numbers % 7).astype("int32")


def numpy_files(folder: Path) -> tuple[str, dict[str, Any]]:
    inputs, labels = _rows()
    np.save(folder / "x.npy", inputs)
    np.save(folder / "y.npy", labels)
    return "numpy", {"train": {"inputs": str(folder / "x.npy"), "labels": str(folder / "y.npy")}}


def numpy_shards(folder: Path) -> tuple[str, dict[str, Any]]:
    inputs, labels = _rows()
    for shard, (first, last) in enumerate([(0, 10), (10, 11), (11, 41)]):
        np.save(folder / f"x{shard}.npy", inputs[first:last].astype(">f4"))
        np.save(folder / f"y{shard}.npy", labels[first:last])
    return "numpy", {"train": {"inputs": str(folder / "x*.npy"), "labels": str(folder / "y*.npy")}}


def archive(folder: Path) -> tuple[str, dict[str, Any]]:
    inputs, labels = _rows()
    np.savez_compressed(folder / "all.npz", inputs=inputs, labels=labels)
    return "numpy", {"train": {"archive": str(folder / "all.npz")}}


def image_folder(folder: Path) -> tuple[str, dict[str, Any]]:
    for number, label in enumerate(_rows()[1].tolist()):
        (folder / str(label)).mkdir(exist_ok=True)
        tf.io.write_file(str(folder / str(label) / f"{number:02d}.png"), _png(number))
    return "images", {"train": str(folder), "size": [2, 1], "channels": 1}


def image_list(folder: Path) -> tuple[str, dict[str, Any]]:
    lines = ["path,label"]
    (folder / "some" / "where").mkdir(parents=True)
    for number, label in enumerate(_rows()[1].tolist()):
        tf.io.write_file(str(folder / "some" / "where" / f"{number}.png"), _png(number))
        lines.append(f"some/where/{number}.png,{label}")
    (folder / "list.csv").write_text("\n".join(lines))
    return "images", {"train": str(folder / "list.csv"), "size": [2, 1], "channels": 1}


def _png(number: int) -> Any:
    return tf.io.encode_png(np.array([[[number]], [[2 * number]]], "uint8"))


def record(inputs: np.ndarray, label: int) -> bytes:
    """A serialized ``tf.train.Example``."""
    feature = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=inputs)),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    written: bytes = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    return written


def tfrecord(folder: Path) -> tuple[str, dict[str, Any]]:
    inputs, labels = _rows()
    for shard, (first, last) in enumerate([(0, 20), (20, 41)]):
        with tf.io.TFRecordWriter(str(folder / f"train-{shard:05d}-of-00002")) as file:
            for row in range(first, last):
                file.write(record(inputs[row], int(labels[row])))
    features = {"x": {"dtype": "float32", "shape": [2]}, "label": {"dtype": "int64"}}
    return "tfrecord", {"train": str(folder / "train-*"), "features": features, "inputs": "x"}


def _frame() -> pl.DataFrame:
    inputs, labels = _rows()
    return pl.DataFrame({"a": inputs[:, 0], "b": inputs[:, 1], "label": labels})


def parquet(folder: Path) -> tuple[str, dict[str, Any]]:
    frame = _frame()
    frame[:15].write_parquet(folder / "0.parquet", row_group_size=4)
    frame[15:].write_parquet(folder / "1.parquet", row_group_size=5)
    return "parquet", {"train": str(folder / "*.parquet")}


def parquet_lists(folder: Path) -> tuple[str, dict[str, Any]]:
    inputs, labels = _rows()
    pl.DataFrame({"x": inputs.tolist(), "label": labels}).write_parquet(folder / "lists.parquet", row_group_size=4)
    return "parquet", {"train": str(folder / "lists.parquet"), "inputs": ["x"]}


def csv(folder: Path) -> tuple[str, dict[str, Any]]:
    frame = _frame().with_columns(pl.col("label").cast(pl.String).replace({str(n): "abcdefg"[n] for n in range(7)}))
    frame.write_csv(folder / "all.csv")
    return "csv", {"train": str(folder / "all.csv")}


FORMATS: dict[str, Callable[[Path], tuple[str, dict[str, Any]]]] = {
    function.__name__: function
    for function in (
        numpy_files, numpy_shards, archive, image_folder, image_list, tfrecord, parquet, parquet_lists, csv
    )
}  # fmt: skip
