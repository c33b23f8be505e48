"""saman trains Keras models on many ranks, reports honestly how they scale, and publishes the result.

The rooms of the project lie at the top level of the repository; this package holds links to them, so that
they are imported as ``saman.<room>`` and never collide with a user's own ``configs`` or ``trainers``.
"""

__version__ = "0.1.0"
