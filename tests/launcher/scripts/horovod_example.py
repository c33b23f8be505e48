"""Runs an unmodified example of Horovod's repository, with random images instead of a download, and few steps."""

import runpy
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf


def load_data(path="mnist.npz"):
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 255, (1000, 28, 28)), random.integers(0, 10, 1000)
    return (images.astype("uint8"), labels.astype("uint8")), (None, None)


def short_fit(self, *arguments, steps_per_epoch=None, epochs=1, **settings):
    steps = min(steps_per_epoch or 2, 2)
    return fit(self, *arguments, steps_per_epoch=steps, epochs=min(epochs, 4), **settings)


fit, take = tf.keras.Model.fit, tf.data.Dataset.take
tf.keras.datasets.mnist.load_data = load_data
tf.data.Dataset.take = lambda self, count, **settings: take(self, min(count, 3), **settings)
sys.argv = sys.argv[1:]
if "synthetic" not in sys.argv[0]:
    tf.keras.Model.fit = short_fit
sys.path.insert(0, str(Path(sys.argv[0]).parent))  # as python does for a script: its neighbours can be imported
runpy.run_path(sys.argv[0], run_name="__main__")
