"""Damaged data are named by file and place, or left out and counted; an index belongs to the files as they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.configs.schemas.data.section import Data
from saman.trainers import Context, Splits

tf = pytest.importorskip("tensorflow")
sys.path.append(str(Path(__file__).parent))

import data_sets  # noqa: E402
from data_sets import EXAMPLES  # noqa: E402

from saman.trainers.data import sources  # noqa: E402
from saman.trainers.data.readers import crc32c, damage  # noqa: E402
from saman.trainers.data.readers.paths import data_files  # noqa: E402
from saman.trainers.data.sources import files as file_sources  # noqa: E402

pytestmark = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def opened(made: tuple[str, dict[str, Any]], on_corrupt: str = "stop") -> Splits:
    file_sources._load.cache_clear()
    values = {"source": made[0], "args": made[1], "validation_fraction": 0, "on_corrupt": on_corrupt}
    return sources.load(Data.model_validate(values), Context(seed=7, epoch=0, rank=0, size=1))


def labels_of(splits: Splits) -> list[int]:
    """The labels of all training examples, read in a graph as training reads them."""
    read = tf.function(lambda positions: splits.train.read(positions)[1], autograph=False)
    return np.asarray(read(tf.range(splits.train.examples, dtype=tf.int64))).tolist()


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def read_failure(splits: Splits) -> UserError:
    with pytest.raises(tf.errors.OpError) as failure:
        labels_of(splits)
    found = damage.reported_error(failure.value)
    assert found is not None
    return found


def test_a_damaged_record_is_named_when_it_is_read_or_left_out_of_the_index(folder: Path) -> None:
    made = data_sets.tfrecord(folder)
    shard = folder / "train-00001-of-00002"
    place = sum(len(data_sets.record(np.array([n, 2 * n], "float32"), n % 7)) + 16 for n in range(20, 25))
    flip(shard, place + 14)
    found = read_failure(opened(made))
    assert found.where == f"{shard}, byte {place}, record 25"
    skipping = opened(made, "skip").train
    assert (skipping.examples, skipping.lost) == (EXAMPLES - 1, 1)
    assert str(skipping.skipped[0]).startswith(f"{shard}, byte {place}")
    assert labels_of(opened(made, "skip")) == [n % 7 for n in range(EXAMPLES) if n != 25]


def test_a_damaged_length_and_a_torn_end_cost_the_rest_of_the_file_only(folder: Path) -> None:
    made = data_sets.tfrecord(folder)
    shard = folder / "train-00000-of-00002"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-3])
    with pytest.raises(UserError, match="ends in the middle of a record") as torn:
        opened(made)
    assert torn.value.where is not None and torn.value.where.startswith(f"{shard}, byte ")
    assert opened(made, "skip").train.examples == EXAMPLES - 1
    shard.write_bytes(whole)
    flip(shard, 3)
    with pytest.raises(UserError, match="length is wrong") as wrong:
        opened(made)
    assert wrong.value.where == f"{shard}, byte 0"
    assert labels_of(opened(made, "skip")) == [n % 7 for n in range(20, EXAMPLES)]


def test_a_missing_shard_is_noticed_by_the_names_of_the_others(folder: Path) -> None:
    made = data_sets.tfrecord(folder)
    (folder / "train-00001-of-00002").unlink()
    with pytest.raises(UserError, match="cannot be read: No such file") as missing:
        opened(made)
    assert missing.value.where == str(folder / "train-00001-of-00002")
    skipping = opened(made, "skip")
    assert skipping.train.examples == 20 and skipping.train.lost == 1
    with pytest.raises(UserError, match="no file matches"):
        data_files(str(folder / "test-*"), "data.args.test")


def test_compressed_records_are_refused_by_name(folder: Path) -> None:
    with tf.io.TFRecordWriter(str(folder / "a"), tf.io.TFRecordOptions(compression_type="GZIP")) as file:
        file.write(b"x" * 100)
    args = {**data_sets.tfrecord(folder)[1], "train": str(folder / "a")}
    with pytest.raises(UserError, match="compressed"):
        opened(("tfrecord", args))


def test_features_that_the_records_do_not_have_are_refused_before_training(folder: Path) -> None:
    source, args = data_sets.tfrecord(folder)
    for wrong in (
        {"dtype": "float32", "shape": [3]},
        {"dtype": "int64", "shape": [2]},
        {"dtype": "image", "shape": [2, 2, 3]},
    ):
        with pytest.raises(UserError, match="does not have these features") as refused:
            opened((source, {**args, "features": {**args["features"], "x": wrong}}))
        assert refused.value.where == "data.args.features" and "\n" not in str(refused.value)


def test_a_later_record_without_the_features_is_named_when_training_reads_it(folder: Path) -> None:
    made = data_sets.tfrecord(folder)
    shard = folder / "train-00001-of-00002"
    with tf.io.TFRecordWriter(str(shard)) as file:
        file.write(data_sets.record(np.array([1, 2], "float32"), 3))
        file.write(b"not an example")
    splits = opened(made)
    read = tf.function(lambda positions: splits.train.read(positions)[1], autograph=False)
    with pytest.raises(tf.errors.OpError) as failure:
        read(tf.range(splits.train.examples, dtype=tf.int64))
    found = damage.reported_error(failure.value)
    assert found is not None and found.where is not None
    assert found.where.startswith(f"{shard}, byte ") and found.where.endswith("record 21")


def test_an_index_is_built_once_and_again_when_a_file_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saman.trainers.data.readers import tfrecord

    built: list[int] = []
    build = tfrecord._build
    monkeypatch.setattr(tfrecord, "_build", lambda *args: (built.append(1), build(*args)))
    made = data_sets.tfrecord(folder)
    assert labels_of(opened(made)) == labels_of(opened(made))
    assert len(built) == 1
    shard = folder / "train-00001-of-00002"
    with tf.io.TFRecordWriter(str(shard)) as file:
        file.write(data_sets.record(np.zeros(2, "float32"), 6))
    assert labels_of(opened(made))[20:] == [6] and len(built) == 2
    status = shard.stat()
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert len(labels_of(opened(made))) == 21 and len(built) == 3


def test_an_image_that_cannot_be_decoded_is_named_or_left_out(folder: Path) -> None:
    made = data_sets.image_folder(folder)
    bad = folder / "3" / "03.png"
    bad.write_bytes(bad.read_bytes()[:30])
    splits = opened(made)
    assert splits.map is not None
    with pytest.raises(tf.errors.OpError) as failure:
        paths, labels = splits.train.read(tf.range(EXAMPLES, dtype=tf.int64))
        for path, label in zip(paths, labels, strict=True):
            splits.map(path, label)
    found = damage.reported_error(failure.value)
    assert found is not None and found.where == str(bad)
    left = opened(made, "skip").train
    assert (left.examples, left.lost, left.skipped[0].file) == (EXAMPLES - 1, 1, str(bad))


def test_arrays_with_pickles_and_torn_arrays_are_refused(folder: Path) -> None:
    source, args = data_sets.numpy_files(folder)
    torn = (folder / "x.npy").read_bytes()[:-1]
    np.save(folder / "x.npy", np.array([{}] * EXAMPLES), allow_pickle=True)
    with pytest.raises(UserError, match="not a sound .npy file"):
        opened((source, args))
    (folder / "x.npy").write_bytes(torn)
    with pytest.raises(UserError, match="not a sound .npy file"):
        opened((source, args))
    np.savez(folder / "o.npz", inputs=np.array([{}] * 3), labels=np.zeros(3))
    with pytest.raises(UserError, match="no arrays of object"):
        opened((source, {"train": {"archive": str(folder / "o.npz")}}))


def test_a_wrong_cell_is_named_by_row_and_damaged_rows_of_parquet_by_range(folder: Path) -> None:
    made = data_sets.csv(folder)
    lines = (folder / "all.csv").read_text().splitlines()
    lines[5] = "oops,1,a"
    (folder / "all.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match="'oops'") as wrong:
        opened(made)
    assert wrong.value.where == f"{folder / 'all.csv'}, row 5"
    assert opened(made, "skip").train.examples == EXAMPLES - 1
    made = data_sets.parquet(folder)
    first = folder / "0.parquet"
    first.write_bytes(first.read_bytes()[:4] + bytes(400) + first.read_bytes()[404:])
    with pytest.raises(UserError) as broken:
        opened(made)
    assert broken.value.where is not None and broken.value.where.startswith(str(first))
    assert opened(made, "skip").train.examples == EXAMPLES - 15
    with pytest.raises(UserError, match="'weight' is missing"):
        opened((made[0], {**made[1], "weight": "weight"}))


def test_names_in_a_list_stay_inside_its_folder(folder: Path) -> None:
    made = data_sets.image_list(folder)
    for name in ("../x.png", "/etc/passwd", "a/../../x.png"):
        (folder / "list.csv").write_text(f"path,label\n{name},1\n")
        with pytest.raises(UserError, match="is not the name of a file in") as outside:
            opened(made, "skip")
        assert outside.value.where == f"{folder / 'list.csv'}, line 2"


def test_checksums_are_those_of_tensorflows_writer(folder: Path) -> None:
    rng = np.random.default_rng(0)
    records = [rng.bytes(size) for size in (0, 1, 2, 3, 4, 5, 63, 64, 65, 4095, 4096, 4097, 100_001)]
    with tf.io.TFRecordWriter(str(folder / "r")) as file:
        for record in records:
            file.write(record)
    data, place = (folder / "r").read_bytes(), 0
    for together in (records, records[:9]):
        sums, place = crc32c.masked_checksums(together), 0
        for record, found in zip(together, sums.tolist(), strict=True):
            place += 12 + len(record) + 4
            assert found == int.from_bytes(data[place - 4 : place], "little"), len(record)
