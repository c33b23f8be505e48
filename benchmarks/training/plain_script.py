"""A plain Horovod training script, as Horovod's documentation teaches it: synthetic data in memory, one tf.function.

    horovodrun -np 2 python plain_script.py MODEL BATCH STEPS    (MODEL: mlp, cnn, resnet50, transformer)

Rank 0 prints the samples per second of all ranks over the last two thirds of the steps, one JSON line.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if os.environ.get("PLAIN_THREADS"):
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = os.environ["PLAIN_THREADS"]

import horovod.tensorflow as hvd
import tensorflow as tf
from models import INPUTS, build


def main() -> None:
    name, batch, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    hvd.init()
    inputs, labels = INPUTS[name](8192 if name != "resnet50" else 512)
    data = tf.data.Dataset.from_tensor_slices((inputs, labels)).shuffle(len(labels)).repeat().batch(batch).prefetch(2)
    model = build(name)
    loss = tf.keras.losses.SparseCategoricalCrossentropy()
    optimizer = tf.keras.optimizers.SGD(0.01 * hvd.size(), momentum=0.9)
    optimizer.build(model.trainable_variables)
    sources = [variable.value for variable in model.trainable_variables]

    @tf.function
    def training_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        tape = hvd.DistributedGradientTape(tape)
        optimizer.apply(tape.gradient(value, sources), model.trainable_variables)
        return value

    began = 0.0
    for step, (images, answers) in enumerate(data.take(steps)):
        training_step(images, answers)
        if step == 0:
            hvd.broadcast_variables([variable.value for variable in model.variables if variable.dtype == "float32"], 0)
        if step == steps // 3:
            began = time.perf_counter()
    seconds = time.perf_counter() - began
    if hvd.rank() == 0:
        rate = (steps - 1 - steps // 3) * batch * hvd.size() / seconds
        print(json.dumps({"samples_per_second": rate, "ranks": hvd.size()}), flush=True)


main()
