"""A Horovod script that trains with Keras' fit and Horovod's callbacks, of the kind its documentation teaches."""

import horovod.tensorflow.keras as hvd
import tensorflow as tf
from sklearn.datasets import load_digits

hvd.init()
images, labels = load_digits(return_X_y=True)
dataset = tf.data.Dataset.from_tensor_slices((tf.cast(images / 16.0, tf.float32), tf.cast(labels, tf.int64)))
dataset = dataset.repeat().shuffle(2000).batch(32)

model = tf.keras.Sequential([tf.keras.layers.Dense(32, activation="relu"), tf.keras.layers.Dense(10, activation="softmax")])
opt = hvd.DistributedOptimizer(tf.optimizers.Adam(0.001 * hvd.size()), backward_passes_per_step=1, average_aggregated_gradients=True)
model.compile(loss="sparse_categorical_crossentropy", optimizer=opt, metrics=["accuracy"], experimental_run_tf_function=False)
callbacks = [
    hvd.callbacks.BroadcastGlobalVariablesCallback(0),
    hvd.callbacks.MetricAverageCallback(),
    hvd.callbacks.LearningRateWarmupCallback(initial_lr=0.001 * hvd.size(), warmup_epochs=1, verbose=0),
]
history = model.fit(dataset, steps_per_epoch=60 // hvd.size(), callbacks=callbacks, epochs=2, verbose=0)

total = hvd.allgather(tf.reshape(tf.reduce_sum(model.variables[0]), [1]))
final = history.history["loss"][-1]
print(f"rank {hvd.rank()} of {hvd.size()} loss {final:.3f} equal {bool(tf.reduce_all(total == total[0]))}", flush=True)
