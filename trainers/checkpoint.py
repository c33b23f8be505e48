"""The format of checkpoints is part of the run folder: ``saman.launcher.checkpoint``."""

from saman.launcher.checkpoint import *  # noqa: F403
