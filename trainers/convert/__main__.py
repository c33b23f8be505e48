"""``python -m saman.trainers.convert predict | to | run``: the converter process of the registry.

It writes its result as JSON to ``--report``. Exit status: 0 done, 3 a package is missing, 1 any other failure; the
report holds the reason.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from saman.runs.records.converter_report import ConverterReport


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m saman.trainers.convert", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    predict = verbs.add_parser("predict", help="answers of SavedModels to a stored sample")
    predict.add_argument("--model", type=Path, action="append", required=True)
    predict.add_argument("--output", type=Path, action="append", required=True, help="an .npy file for each --model")
    to = verbs.add_parser("to", help="convert a version to another format")
    to.add_argument("format")
    to.add_argument("--model", type=Path, required=True)
    to.add_argument("--output", type=Path, required=True, help="an empty folder")
    run = verbs.add_parser("run", help="answers of a converted model, in the runtime of its format")
    run.add_argument("format")
    run.add_argument("--model", type=Path, required=True)
    run.add_argument("--output", type=Path, required=True, help="an .npy file")
    for verb in (predict, to, run):
        verb.add_argument("--inputs", type=Path, required=True, help="a validation.npz")
        verb.add_argument("--report", type=Path, required=True)
        verb.add_argument("--latency-runs", type=int, default=30)
    return parser.parse_args(given)


def _work(arguments: argparse.Namespace) -> ConverterReport:
    from saman.trainers.convert import formats, predict, runtimes

    if arguments.verb == "predict":
        pairs = list(zip(arguments.model, arguments.output, strict=True))
        answers = tuple(predict.answer(*pair, arguments.inputs, arguments.latency_runs) for pair in pairs)
        return ConverterReport(answers=answers)
    model, output, inputs = arguments.model, arguments.output, arguments.inputs
    if arguments.verb == "to":
        return ConverterReport(formats.convert(arguments.format, model, output, inputs))
    answer = runtimes.answer(arguments.format, model, output, inputs, arguments.latency_runs)
    return ConverterReport(answers=(answer,))


def main(given: Sequence[str] | None = None) -> int:
    """Run the command and write its report; returns the exit status."""
    arguments = _arguments(given)
    try:
        report, code = _work(arguments), 0
    except ModuleNotFoundError as error:
        report, code = ConverterReport(lacks=error.name or str(error)), 3
    except Exception as error:  # converters raise errors of any kind; the report holds them
        traceback.print_exc()
        said = str(error).strip().splitlines() or [""]
        report, code = ConverterReport(problem=f"{type(error).__name__}: {said[0][:500]}"), 1
    report.write(arguments.report)
    return code


if __name__ == "__main__":
    sys.exit(main())
