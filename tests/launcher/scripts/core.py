"""A Horovod script on plain TensorFlow variables, of the kind its documentation teaches."""

import horovod.tensorflow as hvd
import tensorflow as tf
from sklearn.datasets import load_digits

hvd.init()
gpus = tf.config.list_physical_devices("GPU")
if gpus:
    tf.config.set_visible_devices(gpus[hvd.local_rank()], "GPU")

images, labels = load_digits(return_X_y=True)
data = tf.data.Dataset.from_tensor_slices((images.astype("float32") / 16, labels))
data = data.shard(hvd.size(), hvd.rank()).shuffle(2000, seed=1).batch(32).repeat()

tf.random.set_seed(hvd.rank())  # different on purpose: the broadcast below makes ranks equal
weights = tf.Variable(tf.random.normal([64, 10], stddev=0.1))
bias = tf.Variable(tf.zeros([10]))


@tf.function
def train(x, y, first):
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, x @ weights + bias)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [weights, bias])
    for variable, gradient in zip([weights, bias], hvd.grouped_allreduce(gradients)):
        variable.assign_sub(0.1 * hvd.size() * gradient)
    return loss


for step, (x, y) in enumerate(data.take(100)):
    if step == 0:
        hvd.broadcast_variables([weights, bias], root_rank=0)
    loss = train(x, y, step == 0)

total = hvd.allgather(tf.reshape(tf.reduce_sum(weights), [1]))
print(f"rank {hvd.rank()} of {hvd.size()} loss {loss.numpy():.3f} equal {bool(tf.reduce_all(total == total[0]))}", flush=True)
