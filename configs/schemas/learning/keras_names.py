"""The names of Keras' losses, metrics, optimisers and schedules, so that a login node can check them without Keras.

A test compares them with the installed Keras.
"""

from __future__ import annotations

import re
from collections.abc import Collection

LOSSES = (
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "sparse_categorical_crossentropy",
    "squared_hinge",
)
# Short names that keras.losses.get takes.
_SHORT = {
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
}
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# Losses that compare classes: they have an accuracy, take logits, and can be smoothed.
CLASSIFICATION = frozenset(name for name in LOSSES if name.endswith("_crossentropy"))
# name in experiments -> class in keras.metrics
METRICS = {
    "auc": "AUC",
    "binary_accuracy": "BinaryAccuracy",
    "binary_crossentropy": "BinaryCrossentropy",
    "binary_iou": "BinaryIoU",
    "categorical_accuracy": "CategoricalAccuracy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "categorical_hinge": "CategoricalHinge",
    "cosine_similarity": "CosineSimilarity",
    "f1_score": "F1Score",
    "false_negatives": "FalseNegatives",
    "false_positives": "FalsePositives",
    "fbeta_score": "FBetaScore",
    "hinge": "Hinge",
    "iou": "IoU",
    "kl_divergence": "KLDivergence",
    "log_cosh_error": "LogCoshError",
    "mean_absolute_error": "MeanAbsoluteError",
    "mean_absolute_percentage_error": "MeanAbsolutePercentageError",
    "mean_iou": "MeanIoU",
    "mean_squared_error": "MeanSquaredError",
    "mean_squared_logarithmic_error": "MeanSquaredLogarithmicError",
    "one_hot_iou": "OneHotIoU",
    "one_hot_mean_iou": "OneHotMeanIoU",
    "poisson": "Poisson",
    "precision": "Precision",
    "precision_at_recall": "PrecisionAtRecall",
    "r2_score": "R2Score",
    "recall": "Recall",
    "recall_at_precision": "RecallAtPrecision",
    "root_mean_squared_error": "RootMeanSquaredError",
    "sensitivity_at_specificity": "SensitivityAtSpecificity",
    "sparse_categorical_accuracy": "SparseCategoricalAccuracy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
    "sparse_top_k_categorical_accuracy": "SparseTopKCategoricalAccuracy",
    "specificity_at_sensitivity": "SpecificityAtSensitivity",
    "squared_hinge": "SquaredHinge",
    "top_k_categorical_accuracy": "TopKCategoricalAccuracy",
    "true_negatives": "TrueNegatives",
    "true_positives": "TruePositives",
}
# name in experiments -> class in keras.optimizers; sgd, adam, adamw and lamb have schemas of their own
OPTIMIZERS = {
    "adadelta": "Adadelta",
    "adafactor": "Adafactor",
    "adagrad": "Adagrad",
    "adamax": "Adamax",
    "ftrl": "Ftrl",
    "lion": "Lion",
    "muon": "Muon",
    "nadam": "Nadam",
    "rmsprop": "RMSprop",
}
# name in experiments -> class in keras.optimizers.schedules
SCHEDULES = {
    "cosine_decay": "CosineDecay",
    "cosine_decay_restarts": "CosineDecayRestarts",
    "exponential_decay": "ExponentialDecay",
    "inverse_time_decay": "InverseTimeDecay",
    "piecewise_constant_decay": "PiecewiseConstantDecay",
    "polynomial_decay": "PolynomialDecay",
}
# Words in the names of metrics that improve by falling; all others improve by rising.
_FALLING = ("loss", "error", "crossentropy", "hinge", "poisson", "divergence", "false_negatives", "false_positives")
# Callbacks of Keras that work between epochs; for others saman has a key of its own.
CALLBACKS = ("CSVLogger",)
OWN_KEYS = {
    "BackupAndRestore": "train.checkpoint",
    "EarlyStopping": "train.early_stop",
    "LearningRateScheduler": "train.learning_rate.schedule",
    "ModelCheckpoint": "train.checkpoint",
    "ProgbarLogger": "saman watch",
    "ReduceLROnPlateau": "train.learning_rate.reduce_on_plateau",
    "RemoteMonitor": "notify",
    "SwapEMAWeights": "train.ema",
    "TensorBoard": "tracking",
    "TerminateOnNaN": "train.on_nonfinite",
}


def own_name(name: str, known: Collection[str]) -> str:
    """Return the name in experiments of what Keras also calls by its class or a short name; others as they are.

    >>> own_name("KLDivergence", LOSSES), own_name("mse", LOSSES), own_name("RMSprop", OPTIMIZERS)
    ('kl_divergence', 'mean_squared_error', 'rmsprop')
    """
    if name in known:
        return name
    candidates = (_SHORT.get(name.lower(), name), _WORDS.sub("_", name).lower(), name.lower())
    return next((own for own in candidates if own in known), name)


def improves_by_falling(metric: str) -> bool:
    """Whether a metric of this name, perhaps after ``val_`` or an output's name, improves by falling.

    >>> improves_by_falling("val_loss"), improves_by_falling("mean_absolute_error"), improves_by_falling("val_auc")
    (True, True, False)
    """
    return metric.endswith(_FALLING)
