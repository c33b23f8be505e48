"""Model versions for other programs: export to other formats, and the configuration of TensorFlow Serving."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saman.cli.models.arguments import Spec, Why
from saman.cli.options import MODELS, Json, ModelsDir
from saman.cli.output import print_json


def export_command(
    model: Spec,
    formats: Annotated[
        list[str],
        typer.Argument(
            help="saved_model, keras, tflite-float32, tflite-float16, tflite-dynamic, tflite-int8, onnx, tfjs, or all."
        ),
    ],
    tolerance: Annotated[float, typer.Option("--tolerance", help="Largest allowed change of accuracy.")] = 0.01,
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Convert a version to other formats; each result is checked in its own runtime.

    Example:

        saman models export digits:stable onnx
    """
    from saman.configs.errors import UserError
    from saman.registry.formats.conversion import FORMATS, export_all
    from saman.registry.formats.parity import parity_table

    wanted = list(FORMATS) if formats == ["all"] else formats
    done, failed = [], []

    def say(text: str) -> None:
        typer.echo(text, err=True)

    for convert in export_all(models_dir, model, wanted, tolerance=tolerance, why=why, say=say):
        try:
            done.append(convert())
        except UserError as error:
            failed.append(error)
    if as_json:
        print_json([{"path": str(path), **parity.to_json()} for path, parity in done])
    elif done:
        from rich.console import Console

        Console().print(parity_table([parity for _, parity in done]))
    if failed:
        first = failed[0]
        rest = [*first.others, *failed[1:]]
        failure = type(first)(first.problem, where=first.where, remedy=first.remedy, others=rest)
        raise failure


def config_command(
    base_path: Annotated[Path | None, typer.Option("--base-path", help="The models folder on the server.")] = None,
    models_dir: ModelsDir = MODELS,
) -> None:
    """Print models.config for TensorFlow Serving.

    Example:

        saman models config --base-path /models
    """
    from saman.registry.lifecycle import serving_config

    typer.echo(serving_config.expected(models_dir, base_path), nl=False)
