"""Importing the trainers' interface costs no TensorFlow; the loop's Keras runs on TensorFlow."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")

from saman.trainers.keras_compat import keras

pytestmark = pytest.mark.tensorflow


def test_the_interface_imports_no_tensorflow() -> None:
    program = "import sys, saman.trainers; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_keras_runs_on_tensorflow() -> None:
    assert keras.backend.backend() == "tensorflow"
