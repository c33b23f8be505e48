"""Data files that an attacker wrote: nothing in them is executed, leaves its folder or exhausts the machine."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from saman.configs.errors import EnvironmentLack, UserError

pytest.importorskip("tensorflow")

from saman.trainers.data.readers import archives, array_files, images, index, tables

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(60)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def npy(dtype: str, shape: str, data: bytes = b"", header: str | None = None) -> bytes:
    text = header or f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}"
    padded = text.encode() + b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.ran), "w")


ARRAYS = {
    "endless": npy("<f4", "(1000000000000,)"),
    "beyond 64 bits": npy("<f4", f"({10**30},)"),
    "overflow": npy("<f4", "(4294967296, 4294967296)"),
    "negative": npy("<f4", "(-3, -3)", bytes(36)),
    "text": npy("<U5", "(3,)", bytes(60)),
    "quadruple": npy("<f16", "(3,)", bytes(48)),
    "records": npy("|V8", "(3,)", bytes(24)),
    "no rows": npy("<f4", "()", bytes(4)),
    "brackets": npy("", "", header="(" * 9000),
    "minus signs": npy("", "", header="-" * 9000 + "1"),
    "version": b"\x93NUMPY\x09\x00" + bytes(90),
    "torn": npy("<f4", "(3,)", bytes(12))[:20],
    "other": b"hello, world",
}


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_a_hostile_array_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(UserError):
        array_files.numpy_rows([[tmp_path / "x.npy"]])
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(UserError):
        archives.archive_rows(tmp_path / "x.npz", ["x"])


def test_no_pickle_is_read(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    np.save(tmp_path / "x.npy", np.array([Bomb(ran)], object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=np.array([Bomb(ran)], object))
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Bomb(ran)))
    for refused in (
        lambda: array_files.numpy_rows([[tmp_path / "x.npy"]]),
        lambda: array_files.numpy_rows([[tmp_path / "plain.npy"]]),
        lambda: archives.archive_rows(tmp_path / "x.npz", ["x"]),
        lambda: archives.archive_rows(tmp_path / "plain.npy", ["x"]),
    ):
        with pytest.raises(UserError) as said:
            refused()
        assert "allow_pickle" not in str(said.value)
    assert not ran.exists()


def test_the_name_of_an_array_is_no_path(tmp_path: Path, cache: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in ("../../evil", "train/x"):
            archive.writestr(f"{name}.npy", npy("<i4", "(3,)", bytes(12)))
    assert archives.archive_rows(tmp_path / "x.npz", ["../../evil", "train/x"]).examples == 3
    assert not list(tmp_path.rglob("evil*")) and {path.parent.name for path in cache.rglob("*.bin")} != {"data"}


def test_an_archive_that_is_larger_than_the_disk_is_refused_before_it_is_unpacked(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(1 << 20, np.uint8))
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: type("", (), {"free": 1 << 19}))
    with pytest.raises(EnvironmentLack, match=r"take 1\.0 MiB"):
        archives.archive_rows(tmp_path / "x.npz", ["x"])
    assert not list(cache.rglob("*.bin"))


@pytest.mark.parametrize("place", [8, 10])  # flags (bit 0: encrypted), method
def test_an_encrypted_archive_and_an_unknown_method_are_refused(place: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[data.find(b"PK\x01\x02") + place] |= 99
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(UserError, match="no sound|not a sound"):
        archives.archive_rows(tmp_path / "x.npz", ["x"])


@pytest.mark.parametrize("label", ["9" * 11, "9" * 5000])
def test_a_label_that_is_no_class_is_refused(label: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"path,label\na.png,{label}\n")
    with pytest.raises(UserError, match="too large"):
        images.file_list(tmp_path / "list.csv")


def test_a_pipe_among_images_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "class" / "folder.png").mkdir(parents=True)
    os.mkfifo(tmp_path / "class" / "pipe.png")
    assert images.image_folder(tmp_path, "skip").access.examples == 0


TABLES = {
    "texts": {"x": ["a", "b"], "label": [0, 1]},
    "records": {"x": [{"a": 1}, {"a": 2}], "label": [0, 1]},
    "lists of lists": {"x": [[[1]], [[2]]], "label": [0, 1]},
    "empty lists": {"x": [[], []], "label": [0, 1]},
    "labels in lists": {"x": [1.0, 2.0], "label": [[0], [1]]},
    "labels of bytes": {"x": [1.0, 2.0], "label": [b"0", b"1"]},
    "labels alone": {"label": [0, 1]},
}


@pytest.mark.parametrize("inputs", [(), ("x",)])
@pytest.mark.parametrize("columns", TABLES.values(), ids=TABLES)
def test_a_table_without_numbers_is_refused(
    columns: dict[str, object], inputs: tuple[str, ...], tmp_path: Path
) -> None:
    pl.DataFrame(columns, strict=False).write_parquet(tmp_path / "x.parquet")
    asked = tables.Columns(inputs=inputs, label="label")
    for on_corrupt in ("stop", "skip"):
        with pytest.raises(UserError):
            read = tables.table_rows([tmp_path / "x.parquet"], "parquet", asked, on_corrupt)  # type: ignore[arg-type]
            assert read.access.examples == 0  # every row was left out
            raise UserError("no row is left")


def test_categories_are_classes_and_the_first_list_may_be_empty(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [[], [1.0, 2.0]], "label": ["b", "a"]}).with_columns(
        pl.col("label").cast(pl.Categorical)
    )
    frame.write_parquet(tmp_path / "x.parquet")
    found = tables.table_rows([tmp_path / "x.parquet"], "parquet", tables.Columns(inputs=("x",), label="label"), "skip")
    assert (found.access.examples, found.access.lost, found.classes) == (1, 1, ("a", "b"))


def test_a_cache_that_others_may_write_is_not_read(tmp_path: Path, cache: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    assert archives.archive_rows(tmp_path / "x.npz", ["x"]).examples == 3
    (cache / "data").chmod(0o777)
    with pytest.raises(EnvironmentLack, match="written by other users"):
        archives.archive_rows(tmp_path / "x.npz", ["x"])


@pytest.mark.parametrize(
    "text", ["{", '{"schema": 1}', '{"schema": 1, "files": 3}', '{"schema": 1, "files": [], "arrays": 5}']
)
def test_a_damaged_index_is_built_anew(text: str, tmp_path: Path, cache: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    archives.archive_rows(tmp_path / "x.npz", ["x"])
    (file,) = cache.rglob("index.json")
    file.write_text(text)
    assert archives.archive_rows(tmp_path / "x.npz", ["x"]).examples == 3
    assert '"skipped"' in file.read_text() and index.SCHEMA == 1
