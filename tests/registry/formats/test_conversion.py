"""Other formats: each made by its own process, checked in its own runtime, refused where it answers differently."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import EnvironmentLack, UserError
from saman.registry.evaluation import converter_process
from saman.registry.formats.conversion import FORMATS, export, export_all
from saman.registry.formats.parity import ConversionRefusal, parity_table
from saman.registry.lifecycle.pruning import prune
from saman.registry.lifecycle.publish import publish
from saman.registry.lifecycle.verify import verify
from saman.registry.listing import list_versions
from saman.registry.model_card import render_card
from saman.runs.folder import RunFolder
from saman.runs.records.converter_report import AnswerReport, Conversion, ConverterReport

MakeRun = Callable[..., RunFolder]
pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]


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


@pytest.fixture(scope="module")
def exported(models: Path) -> dict[str, tuple[Path, Any]]:
    names = [name for name in FORMATS if name != "keras" and (name != "tfjs" or shutil.which("npm"))]
    conversions = export_all(models, "images:1", names, tolerance=0.02)
    return dict(zip(names, (convert() for convert in conversions), strict=True))


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "keras"])
def test_a_converted_model_answers_as_its_version(models: Path, exported: dict[str, Any], name: str) -> None:
    if name not in exported:
        pytest.skip("no Node.js here")
    path, parity = exported[name]
    difference, part = LIMITS[name]
    assert parity.max_difference <= difference
    assert parity.accuracy is not None and parity.version_accuracy is not None
    assert abs(parity.accuracy - parity.version_accuracy) <= 0.02
    assert parity.bytes <= part * parity.version_bytes
    assert parity.latency_milliseconds is not None and parity.latency_milliseconds > 0
    assert path == models / "images" / "formats" / "1" / name
    assert name in list_versions(models)[0].formats


def test_formats_are_verified_and_shown(models: Path, exported: dict[str, Any]) -> None:
    from rich.console import Console

    assert verify(models) == []
    page = render_card(models, "images:1")
    assert all(name in page for name in exported)
    Console(width=150).print(parity_table([parity for _, parity in exported.values()]))


def test_the_keras_file_takes_raw_inputs_where_the_model_does(models: Path) -> None:
    # This model divides in its serving signature only: given raw inputs, the Keras file answers differently ...
    with pytest.raises(ConversionRefusal):
        export(models, "images:1", "keras", tolerance=0.0)
    assert "keras" not in list_versions(models)[0].formats


def _pretend(monkeypatch: pytest.MonkeyPatch, answers: Callable[[Any], Any]) -> None:
    """A converter and a runtime whose answers are made of the version's labels by ``answers``."""

    def call(arguments: Any, overlay: Any = None, **rest: Any) -> Any:
        option = dict(zip(arguments[1:], arguments[2:], strict=False))
        output = Path(option["--output"])
        with np.load(option["--inputs"]) as stored:
            right = np.eye(10, dtype="float32")[stored["labels"]]
        if arguments[0] == "to":
            output.mkdir(parents=True)
            (output / "model.bin").write_bytes(b"x")
            return ConverterReport(Conversion("pretended"))
        np.save(output, answers(right) if arguments[0] == "run" else right)
        return ConverterReport(answers=(AnswerReport(1, (1, 10), 1.0, "pretended"),))

    monkeypatch.setattr(converter_process, "run_converter", call)


def _shifted(right: Any) -> Any:
    """One answer in fifty is wrong."""
    wrong = right.copy()
    wrong[::50] = np.roll(wrong[::50], 1, axis=1)
    return wrong


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        (_shifted, "accuracy 0.98, the version has 1"),
        (lambda right: np.full_like(right, np.nan), "not finite"),
        (lambda right: right[:, :5], "shape"),
    ],
)
def test_a_conversion_that_answers_differently_is_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch, answers: Any, problem: str
) -> None:
    before = verify(models), list_versions(models)
    _pretend(monkeypatch, answers)
    with pytest.raises(ConversionRefusal, match=problem):
        export(models, "images:1", "saved_model")
    assert (verify(models), list_versions(models)) == before
    assert list((models / "images" / ".saman" / "staging").iterdir()) == []


def test_the_tolerance_is_the_persons(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, _shifted)
    _, parity = export(models, "images:1", "saved_model", tolerance=0.02)
    assert parity.accuracy == pytest.approx(0.98)


def test_damage_to_a_converted_file_is_found_and_mended_by_converting_anew(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, lambda right: right)
    path, _ = export(models, "images:1", "onnx")
    (path / "model.bin").write_bytes(b"y")
    problem = "its content has changed"
    assert [(damage.path, damage.problem) for damage in verify(models)] == [("onnx: model.bin", problem)]
    export(models, "images:1", "onnx")
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
    with pytest.raises(EnvironmentLack, match="the packages for litert cannot be installed"):
        export(models, "images:1", "tflite-float32")
    assert not list((tmp_path / "converters").iterdir())


def test_pruning_a_version_takes_its_formats_along(
    tmp_path: Path, real_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(monkeypatch, lambda right: right)
    for _ in range(2):
        publish(real_run(tmp_path, "good"), tmp_path / "models")
    export(tmp_path / "models", "images:1", "saved_model")
    prune(tmp_path / "models", "images:1")
    assert not (tmp_path / "models" / "images" / "formats" / "1").exists()
    assert verify(tmp_path / "models") == []
