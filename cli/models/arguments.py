"""Arguments and options that several commands of ``saman models`` share."""

from __future__ import annotations

from typing import Annotated

import typer

Why = Annotated[str, typer.Option("--why", help="The reason, for the audit log.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait until models.config (TensorFlow Serving) has moved the label too.")
]
Spec = Annotated[str, typer.Argument(help="NAME, NAME:VERSION or NAME:LABEL.")]
Name = Annotated[str, typer.Argument(help="The model's name.")]
Numbered = Annotated[str, typer.Argument(help="NAME:VERSION.")]
