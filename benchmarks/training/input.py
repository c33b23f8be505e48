"""What reading costs a rank, for every reader: independent of the number of ranks and of the number of examples.

    python benchmarks/training/input.py [--short] [--readers numpy,tfrecord] [--examples 10000000]

The columns of the table:

- examples/s of one rank with 1 slice and with 4,096 slices, and the median of the ratio over alternating pairs of
  spells (target: at least 0.9);
- milliseconds until the first batch of an epoch: at the start of the process (a new pipeline), and of a later epoch;
  targets: 50 ms each;
- memory that the process itself holds for an open source (anonymous pages, not the mapped index) with few and with all
  examples (target: no difference beyond 8 MiB).

The large data set repeats a small one in its index, so that the index has as many entries as asked for, and the disk
holds the files of a small set only. Each reader runs in a process of its own. The row ``stream`` is a plain
``tf.data`` dataset of 200,000 examples without random access, with 512 slices instead of 4,096.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FILES = 1000  # examples on disk
PER_RANK = 64
MANY = 4096  # slices
STREAM_EXAMPLES, STREAM_SLICES = 200_000, 512  # of a plain dataset, every rank of which reads everything
READERS = ("arrays", "numpy", "images", "tfrecord", "parquet", "stream")


def main() -> None:
    """Measure every reader in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--examples", type=int, default=10_000_000)
    parser.add_argument("--short", action="store_true", help="shorter spells, fewer pairs: about a minute")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one, asked.examples, asked.short)))
        return
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {asked.examples:,} examples")
    print(
        "| reader | examples/s, 1 slice | 4,096 slices | ratio | first batch ms | later epoch ms | MiB few | MiB all |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for reader in asked.readers.split(","):
        command = [sys.executable, __file__, "--one", reader, "--examples", str(asked.examples)]
        done = subprocess.run(
            [*command, *(["--short"] if asked.short else [])], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"| {reader} | failed: {(done.stderr.strip().splitlines() or ['?'])[-1]} |")
            continue
        print(row(reader, json.loads(done.stdout.splitlines()[-1])), flush=True)


def row(reader: str, found: dict[str, float]) -> str:
    """A row of the table."""
    return (
        f"| {reader} | {found['one']:,.0f} | {found['many']:,.0f} | {found['ratio']:.2f} | {found['first']:.0f} | "
        f"{found['later']:.1f} | {found['few_mib']:.0f} | {found['all_mib']:.0f} |"
    )


def measure(reader: str, examples: int, short: bool) -> dict[str, float]:
    """The figures of a reader."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from saman.trainers.data.feed import Feed, Slice

    with tempfile.TemporaryDirectory() as folder:
        os.environ["SAMAN_CACHE_DIR"] = str(Path(folder, "cache"))
        make = SOURCES[reader]

        def feed(count: int, slices: int, epoch: int = 0) -> Feed:
            dataset, map_ = make(Path(folder), count)
            return Feed(
                dataset=dataset, examples=count, global_batch_size=slices * PER_RANK, seed=1, epoch=epoch,
                shuffle=True, map=map_, maps_batches=False, where="benchmark",
            )  # fmt: skip

        few, most = (FILES, examples) if reader != "stream" else (FILES, min(examples, STREAM_EXAMPLES))
        many = MANY if reader != "stream" else STREAM_SLICES
        for _ in range(2):  # the first call traces what TensorFlow keeps for all
            next(iter(feed(few, 1).full_batches(Slice(0, 1))))
        few_mib = held_mib()
        feed(most, 1)  # builds the index
        opened = feed(most, 1)
        began = time.perf_counter()
        next(iter(opened.full_batches(Slice(0, 1))))
        first = time.perf_counter() - began
        all_mib = held_mib()
        later = later_epoch(feed(32 * PER_RANK, 1).full_batches(Slice(0, 1))) if reader != "stream" else first
        size = max(most, 2 * many * PER_RANK)
        streams = [endless(feed(size, slices), Slice(slices - 1, slices)) for slices in (1, many)]
        rates = paired(streams[0], streams[1], pairs=6 if short else 20, seconds=0.3 if short else 1.0)
        return {
            "one": statistics.median(a for a, _ in rates), "many": statistics.median(b for _, b in rates),
            "ratio": statistics.median(b / a for a, b in rates), "first": 1e3 * first, "later": 1e3 * later,
            "few_mib": few_mib, "all_mib": all_mib,
        }  # fmt: skip


def later_epoch(dataset: Any) -> float:
    """Seconds until the first batch of the epochs after the first: the median, with other batches in between."""
    stream = iter(dataset)
    found = []
    for number in range(32 * 6):
        began = time.perf_counter()
        next(stream)
        if number and number % 32 == 0:
            found.append(time.perf_counter() - began)
    return statistics.median(found)


def endless(feed: Any, part: Any) -> Iterator[Any]:
    """Full batches, epoch after epoch."""
    while True:
        yield from feed.full_batches(part)


def paired(one: Iterator[Any], many: Iterator[Any], pairs: int, seconds: float) -> list[tuple[float, float]]:
    """Examples/s of both streams, in spells that alternate."""

    def spell(stream: Iterator[Any]) -> float:
        next(stream)
        began, read = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            read += int(next(stream)[1].shape[0])
        return read / (time.perf_counter() - began)

    spell(one)
    spell(many)
    found = []
    for turn in range(pairs):
        if turn % 2:
            second, first = spell(many), spell(one)
        else:
            first, second = spell(one), spell(many)
        found.append((first, second))
    return found


def held_mib() -> float:
    """MiB of anonymous memory of this process: what it holds itself, without mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ---- data sets: FILES examples on disk, as many entries in the index as asked for ---------------------------------


def arrays(folder: Path, count: int) -> tuple[Any, Any]:
    """Arrays in memory, as the built-in sources hold them."""
    import numpy as np

    from saman.trainers.data.interface import RandomAccess
    from saman.trainers.data.sources.arrays import _reader

    inputs, labels = np.zeros((FILES, 28, 28), "uint8"), np.zeros(FILES, "int32")
    return RandomAccess(count, _reader(inputs, labels)), None


def numpy(folder: Path, count: int) -> tuple[Any, Any]:
    """Mapped ``.npy`` files: sparse, so that they take no place on the disk."""
    import numpy as np

    from saman.trainers.data.readers.array_files import numpy_rows

    files = [folder / f"x{count}.npy", folder / f"y{count}.npy"]
    if not files[0].exists():
        np.lib.format.open_memmap(files[0], "w+", "uint8", (count, 28, 28)).flush()
        np.lib.format.open_memmap(files[1], "w+", "int32", (count,)).flush()
    return numpy_rows([[file] for file in files]), None


def images(folder: Path, count: int) -> tuple[Any, Any]:
    """PNG files of 32×32 pixels, decoded one by one."""
    import numpy as np

    from saman.trainers.data.readers import images as reader
    from saman.trainers.keras_compat import tf

    if not (folder / "class").exists():
        (folder / "class").mkdir()
        rng = np.random.default_rng(0)
        for number in range(FILES):
            pixels = tf.io.encode_png(rng.integers(0, 256, (32, 32, 3), "uint8"))
            tf.io.write_file(str(folder / "class" / f"{number}.png"), pixels)
    with repeated_index(count):
        access = reader.image_folder(folder).access

    def decode(path: Any, label: Any) -> Any:
        return reader.decoded_image(reader.read_file(path), (32, 32), 3), label

    decode.__module__ = reader.__name__  # as of the built-in source; AutoGraph converts users' functions
    return access, decode


def tfrecord(folder: Path, count: int) -> tuple[Any, Any]:
    """Records with an image of 28×28 bytes and a label."""
    import numpy as np

    from saman.trainers.data.readers import examples
    from saman.trainers.data.readers import tfrecord as reader
    from saman.trainers.keras_compat import tf

    path = folder / "train.tfrecord"
    if not path.exists():
        rng = np.random.default_rng(0)
        with tf.io.TFRecordWriter(str(path)) as file:
            for number in range(FILES):
                pixels = tf.train.BytesList(value=[rng.bytes(784)])
                label = tf.train.Int64List(value=[number % 10])
                feature = {"x": tf.train.Feature(bytes_list=pixels), "label": tf.train.Feature(int64_list=label)}
                file.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    with repeated_index(count):
        access = reader.records([path])
    layout = examples.Layout({"x": examples.Field("uint8", (28, 28)), "label": examples.Field("int64")}, "x", "label")
    return examples.parsed(access, layout, "benchmark"), None


def parquet(folder: Path, count: int) -> tuple[Any, Any]:
    """Four columns of a Parquet file."""
    import numpy as np
    import polars as pl

    from saman.trainers.data.readers import tables

    path = folder / "t.parquet"
    if not path.exists():
        rng = np.random.default_rng(0)
        columns = {f"c{number:02d}": rng.normal(size=FILES).astype("float32") for number in range(4)}
        pl.DataFrame({**columns, "label": np.arange(FILES) % 10}).write_parquet(path)
    with repeated_index(count):
        return tables.table_rows([path], "parquet", tables.Columns(label="label")).access, None


def stream(folder: Path, count: int) -> tuple[Any, Any]:
    """A plain ``tf.data`` dataset without random access, for comparison."""
    import numpy as np

    from saman.trainers.keras_compat import tf

    return tf.data.Dataset.from_tensor_slices((np.zeros((count, 28), "uint8"), np.zeros(count, "int32"))), None


@contextlib.contextmanager
def repeated_index(count: int) -> Iterator[None]:
    """Within it, readers repeat their index of ``FILES`` examples to as many entries, on disk like any other."""
    from saman.trainers.data.readers import images as image_reader
    from saman.trainers.data.readers import index, tables
    from saman.trainers.data.readers import tfrecord as record_reader

    build_index = index.cached_index

    def cached(kind: str, files: Any, options: Any, on_corrupt: Any, build: Any) -> Any:
        def repeat(writer: Any) -> None:
            found = build_index(kind, files, options, on_corrupt, build)
            writer.facts.update(found.facts)
            for copy in range(-(-count // FILES)):
                for name, rows in found.arrays.items():
                    shift = copy * len(found.arrays["names"]) if name == "ends" else 0
                    writer.append(name, rows if name == "names" else rows[: count - copy * FILES] + shift)

        return build_index(kind, files, {**options, "entries": count}, on_corrupt, repeat)

    modules: list[Any] = [image_reader, tables, record_reader]
    for module in modules:
        module.cached_index = cached
    try:
        yield
    finally:
        for module in modules:
            module.cached_index = build_index


SOURCES: dict[str, Callable[[Path, int], tuple[Any, Any]]] = {
    "arrays": arrays, "numpy": numpy, "images": images, "tfrecord": tfrecord, "parquet": parquet, "stream": stream,
}  # fmt: skip

if __name__ == "__main__":
    main()
