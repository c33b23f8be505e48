"""The position of a training as text, as the members of an elastic run hand it on."""

from __future__ import annotations

import json
from dataclasses import asdict

from saman.runs.checkpoints import TrainingPosition
from saman.runs.files.whole import parse_json


def position_text(position: TrainingPosition) -> str:
    """Return the position as a line of text; numbers keep every bit."""
    return json.dumps(asdict(position))


def read_position(text: str) -> TrainingPosition:
    """Return the position that ``position_text`` wrote."""
    value = parse_json(text)
    return TrainingPosition(**{**value, **{name: tuple(value[name]) for name in ("epoch_sums", "skipped")}})
