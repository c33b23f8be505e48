"""A plain Horovod training script, as Horovod's documentation teaches it: synthetic data in memory, one tf.function.

    horovodrun -np 2 python plain_script.py MODEL BATCH STEPS [REPORT]    (MODEL: mlp, cnn, resnet50, transformer)

With 0 STEPS it trains until it is killed. Rank 0 appends a JSON line to REPORT about four times a second: time, steps,
seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if os.environ.get("PLAIN_THREADS"):
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = os.environ["PLAIN_THREADS"]

import horovod.tensorflow as hvd
import tensorflow as tf
from models import EXAMPLES, INPUTS, build

REPORT_SECONDS = 0.25


def main() -> None:
    name, batch, steps, report = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    hvd.init()
    inputs, labels = INPUTS[name](EXAMPLES[name])
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

    began, reported = 0.0, 0
    for step, (images, answers) in enumerate(data.take(steps or -1)):
        training_step(images, answers)
        if step == 0:
            hvd.broadcast_variables([variable.value for variable in model.variables if variable.dtype == "float32"], 0)
            began = time.perf_counter()
        seconds = time.perf_counter() - began
        if report and hvd.rank() == 0 and seconds > REPORT_SECONDS and step > reported:
            with Path(report[0]).open("a") as file:
                file.write(json.dumps({"time": time.time(), "steps": step - reported, "seconds": seconds}) + "\n")
            began, reported = time.perf_counter(), step


main()
