"""Fashion-MNIST (Xiao et al., 2017): IDX files from a folder, else downloaded through Keras' loader."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.home_folder import in_home
from saman.configs.schemas.data.section import Data
from saman.runs.locks import LockHeldError, hold
from saman.trainers.data.division import Share
from saman.trainers.data.interface import Splits
from saman.trainers.data.sources import idx
from saman.trainers.data.sources.arrays import scaled, splits
from saman.trainers.keras_compat import keras
from saman.trainers.user_code.context import Context

# MD5 of the gzipped originals, as their authors publish it.
OFFICIAL = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
CLASSES = 10
LOCK_SECONDS = 600.0  # 30 MB over a slow line


def load(context: Context, data: Data) -> Splits:
    """Return uint8[28, 28] images with int32 labels of the training files; a part of them is for validation.

    Args:
        context: The context of the run; its seed chooses the validation examples.
        data: Its argument ``folder`` names the folder of the files; without it, they are in Keras's folder, after a
            download if they are missing.

    Raises:
        UserError: A file is missing or damaged.
        EnvironmentLack: The download failed.
    """
    return _load(context.seed, Share.of(data), data.args.get("folder"))


@cache
def _load(seed: int, share: Share, folder: str | None) -> Splits:
    here = _downloaded() if folder is None else in_home(folder)
    images, labels = (_file(here, name) for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"))
    read = [idx.read(images), idx.read(labels)]
    pixels, classes = read[0].values, read[1].values
    if pixels.ndim != 3 or classes.shape != pixels.shape[:1] or classes.max(initial=0) >= CLASSES:
        problem = f"images of shape {pixels.shape} do not match labels of shape {classes.shape}"
        raise UserError(problem, where=str(here), remedy="use the original files of Fashion-MNIST")
    official = [file.md5 for file in read] == list(OFFICIAL.values())[:2]
    if folder is None and not official:
        raise UserError("the downloaded files differ from the published files", where=str(here), remedy="delete them")
    files = {path.name: file.sha256 for path, file in zip((images, labels), read, strict=True)}
    return splits(
        pixels.astype("uint8"),
        classes.astype("int32"),
        share,
        seed,
        scaled(255.0),
        name="fashion_mnist",
        files=files,
        official=official,
    )


def _file(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise UserError(
        f"{name} is missing", where=str(folder), remedy=f"put {name}.gz or {name} there, or set data.args.folder"
    )


def _downloaded() -> Path:
    folder = Path.home() / ".keras" / "datasets" / "fashion-mnist"
    # One process of this machine at a time: ranks would write over each other's downloads.
    remedy = "set data.args.folder to a folder with its IDX files"
    try:
        with hold(folder / ".saman.lock", wait_seconds=LOCK_SECONDS):
            keras.datasets.fashion_mnist.load_data()
    except LockHeldError as held:
        problem = f"{held.holder} has been downloading Fashion-MNIST for {LOCK_SECONDS / 60:.0f} minutes"
        raise EnvironmentLack(problem, where=str(held.path), remedy=f"end that process; or {remedy}") from None
    except Exception as error:
        raise EnvironmentLack(f"downloading Fashion-MNIST failed: {error}", remedy=remedy) from error
    return folder
