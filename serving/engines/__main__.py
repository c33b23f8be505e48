"""``python -m saman.serving.engines openvino | onnx …``: a template of engine processes without TensorFlow."""

from __future__ import annotations

import sys

from saman.runs.engines.interface import EngineKind
from saman.runs.engines.process import serve_engines


def _openvino() -> EngineKind:
    from saman.serving.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine


def _onnx() -> EngineKind:
    from saman.serving.engines.onnx_engine import OnnxEngine

    return OnnxEngine


_KINDS = {"openvino": _openvino, "onnx": _onnx}

if __name__ == "__main__":
    sys.exit(serve_engines(_KINDS[sys.argv[1]], sys.argv[2:]))
