"""Rows out of every kind of file: in their order, each bad row in its place with the reason."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from saman.trainers.infer.rows import InputSpec, UnreadableInput
from saman.trainers.infer.sources import open_inputs, open_source

PIXELS = InputSpec("uint8", (4, 4))
FEATURES = InputSpec("float32", (16,))


def _idx(values: Any) -> bytes:
    head = b"\0\0\x08" + bytes([values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return head + values.astype("u1").tobytes()


def _values(count: int = 50) -> Any:
    return np.random.default_rng(0).integers(0, 255, (count, 4, 4)).astype("uint8")


def _write(folder: Path, kind: str, values: Any) -> Path:
    path = folder / {"idx": "a-idx3-ubyte", "idx.gz": "a-idx3-ubyte.gz", "npzc": "a.npz"}.get(kind, f"a.{kind}")
    if kind == "npy":
        np.save(path, values)
    elif kind == "npz":
        np.savez(path, inputs=values, labels=np.zeros(len(values)))
    elif kind == "npzc":
        np.savez_compressed(path, values)
    elif kind == "parquet":
        pl.DataFrame({"inputs": values.reshape(len(values), -1).tolist()}).write_parquet(path, row_group_size=7)
    else:
        data = _idx(values)
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    return path


@pytest.mark.parametrize("kind", ["npy", "npz", "npzc", "idx", "idx.gz", "parquet"])
def test_every_kind_gives_the_same_rows_in_any_pieces(tmp_path: Path, kind: str) -> None:
    values = _values()
    source = open_source(_write(tmp_path, kind, values), PIXELS)
    assert source.rows == 50
    for pieces in ([(0, 50)], [(0, 3), (3, 40), (40, 50)], [(30, 50), (0, 30)]):
        for first, last in pieces:
            piece = source.read(first, last)
            assert piece.values.dtype == np.uint8 and (piece.values == values[first:last]).all()
            assert piece.errors == [None] * (last - first)


def test_columns_of_numbers_are_features(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(9, 16))
    frame = pl.DataFrame(values, schema=[f"f{i}" for i in range(16)], orient="row").with_columns(note=pl.lit("x"))
    frame = frame.with_columns(f3=pl.when(pl.int_range(pl.len()) == 4).then(None).otherwise("f3"))
    frame.write_parquet(tmp_path / "a.parquet")
    piece = open_source(tmp_path / "a.parquet", FEATURES).read(0, 9)
    assert piece.errors == [None] * 4 + ["a value is missing"] + [None] * 4
    assert np.allclose(np.delete(piece.values, 4, 0), np.delete(values, 4, 0), atol=1e-6)


def test_bad_rows_keep_their_place_and_say_why(tmp_path: Path) -> None:
    rows: list[Any] = [[1.0] * 16 for _ in range(6)]
    rows[1], rows[2], rows[3], rows[4] = [1.0] * 15, None, [1.0] * 15 + [None], [1.0] * 15 + [float("inf")]
    pl.DataFrame({"inputs": rows}).write_parquet(tmp_path / "a.parquet")
    piece = open_source(tmp_path / "a.parquet", FEATURES).read(0, 6)
    reasons = [None, "it has 15 values instead of 16", "a value is missing", "a value is missing"]
    assert piece.errors == [*reasons, "a value is not finite", None]
    assert (piece.values[[1, 2, 3, 4]] == 0).all() and (piece.values[[0, 5]] == 1).all()


def test_a_number_that_does_not_fit_the_dtype_is_bad(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 4))
    values[1, 0, 0], values[2, 0, 0], values[3, 0, 0] = 300, -1, 0.5
    np.save(tmp_path / "a.npy", values)
    errors = open_source(tmp_path / "a.npy", PIXELS).read(0, 4).errors
    assert errors == [None] + ["a value does not fit uint8"] * 3


def test_shapes_that_hold_the_same_values_are_put_right(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _values(3).reshape(3, 16))
    assert open_source(tmp_path / "a.npy", PIXELS).read(0, 3).values.shape == (3, 4, 4)
    assert open_source(tmp_path / "a.npy", InputSpec("uint8", (4, 4, 1))).read(0, 3).values.shape == (3, 4, 4, 1)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "shape.npy", np.zeros((3, 5)))
    np.save(tmp_path / "scalar.npy", np.float32(1))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "columns.npy", np.asfortranarray(np.zeros((3, 16))))
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK")
    (tmp_path / "text.csv").write_text("1,2")
    (tmp_path / "x-ubyte").write_bytes(b"nothing")
    pl.DataFrame({"a": ["x"]}).write_parquet(tmp_path / "words.parquet")
    (tmp_path / "empty").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(UnreadableInput, match=path.name):
            open_source(path, FEATURES)


def test_a_file_that_ends_too_early_is_said_to(tmp_path: Path) -> None:
    path = _write(tmp_path, "idx", _values())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UnreadableInput, match="too early"):
        open_source(path, PIXELS).read(40, 50)


@pytest.mark.tensorflow
def test_images_of_a_folder_in_the_order_of_their_names(tmp_path: Path) -> None:
    import tensorflow as tf

    values = _values(4)
    for index, pixels in enumerate(values):
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / f"{index}.png").write_bytes(tf.io.encode_png(pixels[..., None]).numpy())
    (tmp_path / "sub" / "1.png").write_bytes(b"no image")
    (tmp_path / "sub" / "2.png").write_bytes(tf.io.encode_png(np.zeros((5, 4, 1), "u1")).numpy())
    (tmp_path / "notes.txt").write_text("x")
    piece = open_source(tmp_path, PIXELS).read(0, 4)
    assert piece.names == [f"sub/{index}.png" for index in range(4)]
    assert piece.errors == [None, "it cannot be read as an image", "it has 5×4 pixels instead of 4×4", None]
    assert (piece.values[[0, 3]] == values[[0, 3]]).all()


def test_the_rows_of_several_inputs_stand_side_by_side(tmp_path: Path) -> None:
    wanted = {"image": PIXELS, "kind": InputSpec("int32", ())}
    images, kinds = _values(9), np.arange(9)
    np.savez(tmp_path / "a.npz", kind=kinds, image=images, more=np.zeros(3))
    frame = pl.DataFrame({"image": images.reshape(9, -1).tolist(), "kind": kinds.astype("float64")})
    frame = frame.with_columns(kind=pl.when(pl.int_range(pl.len()) == 4).then(0.5).otherwise("kind"))
    frame.write_parquet(tmp_path / "a.parquet")
    for name, bad in (
        ("a.npz", [None] * 9),
        ("a.parquet", [None] * 4 + ["kind: a value does not fit int32"] + [None] * 4),
    ):
        source = open_inputs(tmp_path / name, wanted)
        batch = source.read(0, 9)
        assert source.rows == 9 and batch.errors == bad
        assert (batch.values["image"] == images).all() and batch.values["kind"].dtype == np.int32
        good = [index for index, error in enumerate(bad) if error is None]
        assert (batch.values["kind"][good] == kinds[good]).all()


def test_several_inputs_need_a_file_that_names_each(tmp_path: Path) -> None:
    wanted = {"image": PIXELS, "kind": InputSpec("int32", ())}
    np.save(tmp_path / "a.npy", _values(9))
    with pytest.raises(UnreadableInput, match="the model takes image, kind"):
        open_inputs(tmp_path / "a.npy", wanted)
    np.savez(tmp_path / "a.npz", image=_values(9))
    with pytest.raises(UnreadableInput, match="but not kind"):
        open_inputs(tmp_path / "a.npz", wanted)
    np.savez(tmp_path / "b.npz", image=_values(9), kind=np.arange(8))
    with pytest.raises(UnreadableInput, match="differ in their rows"):
        open_inputs(tmp_path / "b.npz", wanted)
