"""Strategies: which process and device each rank uses, and how ranks combine what they have computed."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from saman.configs.schemas.training import ONE_PROCESS
from saman.runs import variables

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.runs.folder import RunFolder
    from saman.trainers.strategies.base import Strategy


def start(experiment: Experiment, run: RunFolder) -> Strategy | None:
    """Start the experiment's strategy in this process; wait for all other processes.

    Returns:
        The strategy; ``None`` at the end of a process that served others and has no training of its own.

    Each strategy's file has a function ``start``; only the file in use is imported.
    """
    name = "elastic" if variables.MEMBERSHIP in os.environ else experiment.train.strategy
    file = "one_process" if name in ONE_PROCESS else name
    module = import_module(f"saman.trainers.strategies.{file}")
    strategy: Strategy | None = module.start(experiment, run)
    return strategy
