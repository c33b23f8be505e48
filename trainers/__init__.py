"""What each rank runs: the training loop, strategies, data, models and the export. Only this room imports TensorFlow.

User code needs ``Splits``, ``RandomAccess`` and ``Context`` from here; importing them imports no TensorFlow.
"""

from saman.trainers.data.interface import RandomAccess, Splits
from saman.trainers.user_code.context import Context

__all__ = ["Context", "RandomAccess", "Splits"]
