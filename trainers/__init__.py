"""What each rank runs: the training loop, strategies, data, models and the export. Only this room imports TensorFlow.

User code needs two names from here, ``Splits`` and ``Context``; importing them imports no TensorFlow.
"""

from saman.trainers.data.interface import Context, Splits

__all__ = ["Context", "Splits"]
