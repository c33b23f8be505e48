"""Strategies: how ranks are laid over processes and devices, and how they combine what each has computed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.runs.folder import RunFolder
    from saman.trainers.strategies.base import Strategy


def start(experiment: Experiment, run: RunFolder) -> Strategy:
    """The experiment's strategy, started in this process; it waits for all other processes.

    Each strategy's file has one function ``start``; only the one in use is imported.
    """
    module = import_module(f"saman.trainers.strategies.{experiment.train.strategy}")
    strategy: Strategy = module.start(experiment, run)
    return strategy
