"""``python -m saman.trainers.serve …``: a template of engine processes with TensorFlow."""

from __future__ import annotations

import sys

from saman.runs.engines.interface import EngineKind
from saman.runs.engines.process import serve_engines


def _tensorflow() -> EngineKind:
    from saman.trainers.serve.tensorflow_engine import TensorFlowEngine

    return TensorFlowEngine


if __name__ == "__main__":
    sys.exit(serve_engines(_tensorflow, sys.argv[1:]))
