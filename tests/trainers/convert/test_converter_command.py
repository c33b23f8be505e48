"""The converter process always leaves a report: a result, the package that is missing, or the reason of a failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.runs.records.converter_report import AnswerReport, Conversion, ConverterReport
from saman.trainers.convert import formats, runtimes
from saman.trainers.convert.__main__ import main


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A stored sample of ten examples, and a version that holds a file."""
    np.savez(tmp_path / "validation.npz", inputs=np.ones((10, 4)), labels=np.zeros(10, dtype="int64"))
    (tmp_path / "version" / "assets.extra").mkdir(parents=True)
    (tmp_path / "version" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "version" / "assets.extra" / "saman.json").write_text("{}")
    return tmp_path


def called(folder: Path, *verb: str, model: str = "version") -> tuple[int, ConverterReport]:
    paths = ("--model", folder / model, "--output", folder / "out", "--inputs", folder / "validation.npz")
    status = main([*verb, *map(str, paths), "--report", str(folder / "report.json")])
    report = ConverterReport.read(folder / "report.json")
    assert report is not None
    return status, report


def raises(error: Exception) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise error

    return call


def test_a_copy_of_the_saved_model_leaves_the_registrys_own_files_out(sample: Path) -> None:
    assert called(sample, "to", "saved_model") == (0, ConverterReport(Conversion("none: a copy")))
    assert [path.name for path in (sample / "out" / "saved_model").iterdir()] == ["saved_model.pb"]


def test_an_unknown_format_is_refused_with_those_that_are_known(sample: Path) -> None:
    status, report = called(sample, "to", "telepathy")
    assert status == 1 and report.problem is not None
    assert all(name in report.problem for name in ("telepathy", *formats.CONVERTERS))


def test_a_version_without_a_keras_file_has_no_keras_format(sample: Path) -> None:
    status, report = called(sample, "to", "keras")
    assert status == 1 and report.problem is not None and "Keras" in report.problem


def test_a_missing_package_has_its_own_exit_status_and_its_name(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.CONVERTERS, "onnx", raises(ModuleNotFoundError("No module", name="tf2onnx")))
    assert called(sample, "to", "onnx") == (3, ConverterReport(lacks="tf2onnx"))


def test_any_error_of_a_converter_becomes_one_line_of_the_report(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.CONVERTERS, "onnx", raises(RuntimeError("unsupported op\nand a page of C++")))
    status, report = called(sample, "to", "onnx")
    assert (status, report.problem) == (1, "RuntimeError: unsupported op")


def test_answers_of_a_converted_model_name_its_runtime(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doubling = (lambda batch: {"outputs": 2 * batch["inputs"]}, "a runtime 1.0")
    monkeypatch.setitem(runtimes.RUNTIMES, "tflite", lambda *_: doubling)
    paths = [
        "--model",
        str(sample),
        "--output",
        str(sample / "answers.npy"),
        "--inputs",
        str(sample / "validation.npz"),
    ]
    assert main(["run", "tflite-int8", *paths, "--report", str(sample / "r.json"), "--latency-runs", "3"]) == 0
    report = ConverterReport.read(sample / "r.json")
    assert report is not None
    [answers] = report.answers
    assert (answers.examples, answers.shape, answers.runtime) == (10, (10, 4), "a runtime 1.0")
    assert answers.latency_milliseconds is not None and answers.latency_milliseconds > 0
    assert (np.load(sample / "answers.npy") == 2).all()
    assert json.loads((sample / "r.json").read_text())["schema"] == 1
    assert isinstance(answers, AnswerReport)
