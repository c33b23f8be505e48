"""Other formats: each made by its own process, checked in its own runtime, refused where it answers differently."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import EnvironmentLack, UserError
from saman.launcher.run_folder import RunFolder
from saman.registry import formats, tool
from saman.registry.card import card
from saman.registry.formats import FORMATS, ConversionRefused, export, parity_table
from saman.registry.life import prune
from saman.registry.publish import publish
from saman.registry.show import listing
from saman.registry.verify import verify

MakeRun = Callable[..., RunFolder]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, real_run: MakeRun) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    publish(real_run(folder, "good"), folder / "models")
    return folder / "models"


# name -> largest difference of a probability that its arithmetic explains, largest part of the version's size
LIMITS = {
    "saved_model": (1e-6, 1.0),
    "keras": (1e-5, 1.0),
    "tflite-float32": (1e-5, 1.0),
    "tflite-float16": (1e-2, 0.5),
    "tflite-dynamic": (1e-1, 0.3),
    "tflite-int8": (2e-1, 0.3),
    "onnx": (1e-5, 1.0),
    "tfjs": (1e-5, 1.0),
}


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "keras"])
def test_a_converted_model_answers_as_its_version(models: Path, name: str) -> None:
    if name == "tfjs" and not shutil.which("npm"):
        pytest.skip("no Node.js here")
    said: list[str] = []
    path, parity = export(models, "images:1", name, tolerance=0.02, say=said.append)
    difference, part = LIMITS[name]
    assert parity.max_difference <= difference
    assert parity.accuracy is not None and parity.version_accuracy is not None
    assert abs(parity.accuracy - parity.version_accuracy) <= 0.02
    assert parity.bytes <= part * parity.version_bytes
    assert parity.latency_milliseconds is not None and parity.latency_milliseconds > 0
    assert path == models / "images" / "formats" / "1" / name
    assert verify(models) == []
    assert name in listing(models)[0]["formats"]
    assert name in card(models, "images:1")
    from rich.console import Console

    Console(width=140).print(parity_table([parity]))


def test_the_keras_file_takes_raw_inputs_where_the_model_does(models: Path) -> None:
    # This model divides in its serving signature only: given raw inputs, the Keras file answers differently ...
    with pytest.raises(ConversionRefused):
        export(models, "images:1", "keras", tolerance=0.0)
    assert "keras" not in listing(models)[0]["formats"]


def test_a_conversion_that_changes_the_accuracy_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = tool.call

    def one_class(arguments: Any, overlay: Any = None, **rest: Any) -> Any:
        """The real conversion and the real run; then answers as of a converter that broke the model."""
        found = call(arguments, overlay, **rest)
        if arguments[0] == "run":
            file = Path(arguments[arguments.index("--output") + 1])
            np.save(file, np.roll(np.load(file), 1, axis=1))
        return found

    monkeypatch.setattr(formats.tool, "call", one_class)
    before = verify(models), listing(models)
    with pytest.raises(ConversionRefused, match="accuracy"):
        export(models, "images:1", "saved_model")
    assert (verify(models), listing(models)) == before
    assert list((models / "images" / ".saman" / "staging").iterdir()) == []


def test_answers_that_are_not_finite_are_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = tool.call

    def nan(arguments: Any, overlay: Any = None, **rest: Any) -> Any:
        found = call(arguments, overlay, **rest)
        if arguments[0] == "run":
            file = Path(arguments[arguments.index("--output") + 1])
            np.save(file, np.full_like(np.load(file), np.nan))
        return found

    monkeypatch.setattr(formats.tool, "call", nan)
    with pytest.raises(ConversionRefused, match="not finite"):
        export(models, "images:1", "saved_model")


def test_damage_to_a_converted_file_is_found(models: Path) -> None:
    path, _ = export(models, "images:1", "tflite-float32")
    file = path / "model.tflite"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert [(one.path, one.problem) for one in verify(models)] == [
        ("tflite-float32: model.tflite", "its content has changed")
    ]
    export(models, "images:1", "tflite-float32")  # made anew
    assert verify(models) == []


def test_unknown_formats_and_impossible_tolerances_are_refused(models: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'tflite-int8'"):
        export(models, "images:1", "tflite-int")
    with pytest.raises(UserError, match="tolerance"):
        export(models, "images:1", "onnx", tolerance=3)


def test_what_is_missing_is_said_before_anything_is_done(
    models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(EnvironmentLack, match="the environment for litert cannot be made"):
        export(models, "images:1", "tflite-float32")
    assert not list((tmp_path / "converters").iterdir())


def test_pruning_a_version_takes_its_formats_along(tmp_path: Path, real_run: MakeRun) -> None:
    for _ in range(2):
        publish(real_run(tmp_path, "good"), tmp_path / "models")
    export(tmp_path / "models", "images:1", "saved_model")
    prune(tmp_path / "models", "images:1")
    assert not (tmp_path / "models" / "images" / "formats" / "1").exists()
    assert verify(tmp_path / "models") == []
