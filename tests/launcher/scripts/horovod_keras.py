"""Horovod's Keras interface on Keras 3, each check against plain Keras or numpy on the whole batch; one line per check."""

import os
import sys
import tempfile
import traceback

import horovod.keras as horovod_keras
import horovod.tensorflow as hvd_tf
import horovod.tensorflow.keras as hvd
import numpy as np
import tensorflow as tf

keras = tf.keras
layers = keras.layers
hvd.init()
rank, size = hvd.rank(), hvd.size()
assert size == 2
random = np.random.default_rng(0)
X = random.normal(size=(16, 6)).astype("float32")
Y = random.integers(0, 3, 16)
OWN = slice(rank * 8, rank * 8 + 8)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def make_model(seed=1, norm=None):
    keras.utils.set_random_seed(seed)
    between = [norm()] if norm else []
    return keras.Sequential([layers.Input((6,)), layers.Dense(8, activation="relu"), *between, layers.Dense(3)])


def whole_batch(steps=3, norm=None):
    """The weights after steps on the whole batch, without Horovod."""
    model = make_model(norm=norm)
    model.compile(keras.optimizers.SGD(0.1), loss)
    for _ in range(steps):
        model.train_on_batch(X, Y)
    return model.get_weights()


def same(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        distance = np.linalg.norm(one - other) / max(np.linalg.norm(other), 1e-9)
        assert distance < tolerance, distance


def equal_on_ranks(values):
    for value in values:
        gathered = hvd_tf.allgather(tf.reshape(tf.convert_to_tensor(value), [1, -1])).numpy()
        assert np.array_equal(gathered[0], gathered[-1]), "ranks differ"


def trained(optimizer, steps=3, **settings):
    model = make_model(**settings)
    model.compile(optimizer, loss)
    for _ in range(steps):
        model.train_on_batch(X[OWN], Y[OWN])
    return model


def check_fit():
    model = make_model()
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.1)), loss, metrics=["accuracy"])
    callbacks = [hvd.callbacks.MetricAverageCallback()]
    seen = model.fit(X[OWN], Y[OWN], batch_size=8, epochs=3, verbose=0, shuffle=False, callbacks=callbacks).history
    same(model.get_weights(), whole_batch())
    equal_on_ranks([np.array(seen["loss"], "float32"), np.array(seen["accuracy"], "float32")])


def check_broadcast():
    model = make_model(seed=1 + rank)
    model.compile(hvd.DistributedOptimizer(keras.optimizers.Adam(0.1)), loss)
    first = model.layers[0].kernel
    callbacks = [hvd.callbacks.BroadcastGlobalVariablesCallback(0, local_variables=[first])]
    own = model.layers[0].kernel.numpy()
    model.fit(X[OWN], Y[OWN], batch_size=8, epochs=1, verbose=0, callbacks=callbacks)
    assert np.abs(model.layers[0].kernel.numpy() - own).max() < 0.2  # one step of Adam
    equal_on_ranks(model.get_weights()[1:])
    hvd_tf.broadcast_variables(model.variables, root_rank=1, inplace=True)
    equal_on_ranks(model.get_weights())


def check_dropout():
    keras.utils.set_random_seed(1 + rank)
    model = keras.Sequential([layers.Input((6,)), layers.Dense(8), layers.Dropout(0.5), layers.Dense(3)])
    model.compile(hvd.DistributedOptimizer(keras.optimizers.Adam(0.1)), loss)
    callbacks = [hvd.callbacks.BroadcastGlobalVariablesCallback(0)]
    model.fit(X[OWN], Y[OWN], batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
    equal_on_ranks(model.get_weights())
    equal_on_ranks([variable.numpy() for variable in model.optimizer.variables])


def check_tape():
    model, optimizer = make_model(), keras.optimizers.SGD(0.1)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        tape = hvd_tf.DistributedGradientTape(tape)
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))

    for _ in range(3):
        step(X[OWN], Y[OWN])
    same(model.get_weights(), whole_batch())


def check_groups():
    model, optimizer = make_model(), keras.optimizers.SGD(0.1)
    with tf.GradientTape() as tape:
        value = loss(Y[OWN], model(X[OWN], training=True))
    variables = model.trainable_variables
    tape = hvd_tf.DistributedGradientTape(tape, groups=[[variables[0], variables[1]], [variables[2]]])
    optimizer.apply_gradients(zip(tape.gradient(value, variables), variables))
    same(model.get_weights(), whole_batch(1))


def check_partial():
    model = make_model()
    with tf.GradientTape(persistent=True) as tape:
        value = loss(Y[OWN], model(X[OWN], training=True))
    plain = tape.gradient(value, model.trainable_variables)
    partial = hvd_tf.PartialDistributedGradientTape(tape, local_layers=model.layers[0])
    reduced = partial.gradient(value, model.trainable_variables)
    same([reduced[0].numpy() * size], [plain[0].numpy()])
    equal_on_ranks([reduced[2].numpy()])


def check_accumulate():
    optimizer = hvd.DistributedOptimizer(
        keras.optimizers.SGD(0.1), backward_passes_per_step=2, average_aggregated_gradients=True
    )
    model = make_model()
    model.compile(optimizer, loss)
    for _ in range(3):
        for half in (slice(0, 4), slice(4, 8)):
            model.train_on_batch(X[OWN][half], Y[OWN][half])
    same(model.get_weights(), whole_batch())


def check_sum():
    variable = tf.Variable(1.0)
    optimizer = hvd.DistributedOptimizer(keras.optimizers.SGD(1.0), op=hvd.Sum)
    optimizer.apply_gradients([(tf.constant(rank + 1.0), variable)])
    assert abs(float(variable) - (1 - 3)) < 1e-6
    reduced = optimizer._compute_gradients(lambda: variable * (rank + 1.0), [variable])
    optimizer.apply_gradients(reduced)
    assert abs(float(variable) - (1 - 3 - 3)) < 1e-6, "reduced twice"


def check_config():
    optimizer = hvd.DistributedOptimizer(keras.optimizers.Adam(0.1, clipnorm=1.0))
    config = optimizer.get_config()
    assert optimizer.__class__.from_config(config).get_config() == config
    assert list(optimizer.variables()) == list(optimizer.variables)  # Horovod's examples call it


def check_warmup():
    """Momentum correction included: the momentum of a step scales with the change of the learning rate."""
    model = make_model()
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.1, momentum=0.9)), loss)
    callback = hvd.callbacks.LearningRateWarmupCallback(initial_lr=0.1, warmup_epochs=2)
    seen = model.fit(X[OWN], Y[OWN], batch_size=4, epochs=3, verbose=0, shuffle=False, callbacks=[callback]).history
    plain = make_model()
    weights = [weight.astype("float64") for weight in plain.get_weights()]
    velocity, before = [0 * weight for weight in weights], 0.1
    for batch in range(6):
        start = batch % 2 * 4
        rows = np.r_[start : start + 4, 8 + start : 8 + start + 4]
        rate, momentum = 0.1, 0.9
        if batch < 4:
            rate = 0.1 / size * ((batch / 2 + 1 / 2) * (size - 1) / 2 + 1)
            momentum, before = 0.9 * rate / before, rate
        with tf.GradientTape() as tape:
            value = loss(Y[rows], plain(X[rows]))
        for number, gradient in enumerate(tape.gradient(value, plain.trainable_variables)):
            velocity[number] = momentum * velocity[number] - rate * gradient.numpy()
            weights[number] = weights[number] + velocity[number]
        plain.set_weights(weights)
    same(model.get_weights(), weights, 1e-4)
    assert abs(seen["lr"][-1] - 0.1) < 1e-6
    assert float(model.optimizer.momentum.numpy()) == np.float32(0.9)


def check_schedule():
    model = make_model()
    model.compile(hvd.DistributedOptimizer(keras.optimizers.Adam(0.1)), loss)
    callback = hvd.callbacks.LearningRateScheduleCallback(initial_lr=0.1, multiplier=0.1, start_epoch=1)
    seen = model.fit(X[OWN], Y[OWN], batch_size=8, epochs=3, verbose=0, callbacks=[callback]).history
    assert np.allclose(seen["lr"], [0.1, 0.1, 0.01]), seen["lr"]


def check_load():
    folder = tempfile.mkdtemp()
    for ending in ("keras", "h5"):
        model = trained(hvd.DistributedOptimizer(keras.optimizers.Adam(0.01)), 2)
        file = os.path.join(folder, f"model.{ending}")
        model.save(file)
        plain = keras.models.load_model(file)
        assert not hasattr(plain.optimizer, "register_local_var")  # Keras' own Adam
        loaded = hvd.load_model(file)
        same([v.numpy() for v in loaded.optimizer.variables], [v.numpy() for v in model.optimizer.variables])
        for one in (loaded, model):
            one.train_on_batch(X[OWN], Y[OWN])
        same(loaded.get_weights(), model.get_weights())
        equal_on_ranks(loaded.get_weights())


def check_sync_batch_norm():
    optimizer = hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))
    model = trained(optimizer, norm=hvd_tf.SyncBatchNormalization)
    same(model.get_weights(), whole_batch(norm=layers.BatchNormalization), 1e-4)


def check_mixed():
    """One rank's overflow skips the step on both; the next step goes on."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        before = make_model().get_weights()
        broken = X[OWN].copy()
        if rank == 0:
            broken[0, 0] = np.inf
        scaled, wrapped = keras.mixed_precision.LossScaleOptimizer, hvd.DistributedOptimizer
        after = []
        for optimizer in (wrapped(keras.optimizers.SGD(0.01)), wrapped(scaled(keras.optimizers.SGD(0.01)))):
            model = make_model()
            model.compile(optimizer, loss)
            model.train_on_batch(broken, Y[OWN])
            same(model.get_weights(), before)
            model.train_on_batch(X[OWN], Y[OWN])
            equal_on_ranks(model.get_weights())
            assert np.abs(model.get_weights()[0] - before[0]).max() > 0
            assert float(model.optimizer.dynamic_scale) == 2.0**14
            after.append(model.get_weights())
        model, outer = make_model(), scaled(wrapped(keras.optimizers.SGD(0.01)))
        for images in (broken, X[OWN]):
            with tf.GradientTape() as tape:
                value = outer.scale_loss(loss(Y[OWN], model(images)))
            gradients = tape.gradient(value, model.trainable_variables)
            outer.apply_gradients(zip(gradients, model.trainable_variables))
        same(model.get_weights(), after[0], 1e-3)
        same(after[1], after[0], 1e-3)
    finally:
        keras.mixed_precision.set_global_policy("float32")


def check_elastic():
    model, optimizer = make_model(seed=1 + rank), keras.optimizers.Adam(0.1)
    optimizer.build(model.trainable_variables)
    state = hvd.elastic.KerasState(model, optimizer, batch=rank + 5)
    state.sync()
    assert state.batch == 5
    equal_on_ranks(model.get_weights())
    weights = model.get_weights()
    model.set_weights([0 * weight for weight in weights])
    state.restore()
    same(model.get_weights(), weights)
    model = make_model(seed=1 + rank)
    state = hvd_tf.elastic.TensorFlowState(model.variables, step=rank)
    assert rank == 0 or not np.array_equal(model.get_weights()[0], weights[0])  # nothing is sent before sync()
    state.sync()
    same(model.get_weights(), weights)
    model.set_weights([0 * weight for weight in weights])
    state.restore()
    same(model.get_weights(), weights)


def check_xla():
    model = make_model()
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.1)), loss, jit_compile=True)
    callbacks = [hvd.callbacks.BroadcastGlobalVariablesCallback(0)]
    model.fit(X[OWN], Y[OWN], batch_size=8, epochs=1, verbose=0, callbacks=callbacks)
    same(model.get_weights(), whole_batch(1))


def check_hvd_keras():
    same(trained(horovod_keras.DistributedOptimizer(keras.optimizers.SGD(0.1))).get_weights(), whole_batch())
    model = make_model()
    optimizer = horovod_keras.PartialDistributedOptimizer(keras.optimizers.SGD(0.1), local_layers=model.layers[0])
    model.compile(optimizer, loss)
    before = model.get_weights()
    with tf.GradientTape() as tape:
        value = loss(Y[OWN], model(X[OWN]))
    own = tape.gradient(value, model.trainable_variables)
    model.train_on_batch(X[OWN], Y[OWN])
    same([model.get_weights()[0]], [before[0] - 0.1 * own[0].numpy() / size], 1e-4)
    equal_on_ranks(model.get_weights()[2:])


def check_sparse():
    keras.utils.set_random_seed(1)
    for dense in (True, False):
        model = keras.Sequential([layers.Input((4,)), layers.Embedding(50, 4), layers.Flatten(), layers.Dense(3)])
        model.compile(hvd.DistributedOptimizer(keras.optimizers.Adam(0.1), sparse_as_dense=dense), loss)
        hvd_tf.broadcast_variables(model.variables, root_rank=0)
        for _ in range(2):
            model.train_on_batch(random.integers(0, 50, (8, 4)), Y[OWN])
        equal_on_ranks(model.get_weights())


def check_backend():
    """Where nothing can be exchanged, the wrapper raises at once."""
    backend = sys.modules["keras"].backend
    asked, backend.backend = backend.backend, lambda: "jax"
    try:
        hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))
    except RuntimeError as error:
        assert "KERAS_BACKEND=tensorflow" in str(error)
    else:
        raise AssertionError("not refused")
    finally:
        backend.backend = asked


def check_legacy():
    """Which Keras: the callbacks and the optimizer wrap classes of the Keras that TensorFlow uses."""
    assert issubclass(hvd.callbacks.MetricAverageCallback, keras.callbacks.Callback)
    assert issubclass(horovod_keras.callbacks.MetricAverageCallback, keras.callbacks.Callback)
    assert hvd.callbacks.K is keras.backend


for name in sys.argv[1:] or [name[6:] for name in list(globals()) if name.startswith("check_")]:
    try:
        globals()["check_" + name]()
        print(f"rank {rank} check {name}: holds", flush=True)
    except Exception as error:  # the other checks go on
        where = traceback.extract_tb(error.__traceback__)[-1]
        print(f"rank {rank} check {name}: {type(error).__name__} {error} at line {where.lineno}", flush=True)
