"""The converter process and the registry read the same report."""

from pathlib import Path

import pytest

from saman.runs.records.converter_report import AnswerReport, Conversion, ConverterReport
from saman.runs.records.schema import NewerSchema


@pytest.mark.parametrize(
    "report",
    [
        ConverterReport(Conversion("tf2onnx 1.16", 200)),
        ConverterReport(answers=(AnswerReport(10, (10, 3), 0.4, "LiteRT 1"), AnswerReport(10, (10, 3), None))),
        ConverterReport(lacks="onnx"),
        ConverterReport(problem="ValueError: several inputs"),
    ],
)
def test_a_report_is_read_as_it_was_written(report: ConverterReport, tmp_path: Path) -> None:
    report.write(tmp_path / "report.json")
    assert ConverterReport.read(tmp_path / "report.json") == report
    assert report.failed is bool(report.lacks or report.problem)


def test_a_process_that_left_no_report_gives_none(tmp_path: Path) -> None:
    assert ConverterReport.read(tmp_path / "report.json") is None


def test_a_report_of_a_newer_saman_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"schema": 2}')
    with pytest.raises(NewerSchema):
        ConverterReport.read(tmp_path / "report.json")
