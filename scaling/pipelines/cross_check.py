"""Checks a pipeline model on cells that it did not see, and takes the widths of its intervals from the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot, log2, sqrt

import numpy as np

from saman.scaling.pipelines.measured import MeasuredPipeline, PipelineShape
from saman.scaling.pipelines.published_check import PipelineCalibration
from saman.scaling.pipelines.step_model import StepModel, fit_case, log_error

FEWEST_CELLS = 3
LARGEST_MISFIT = 0.25  # of |measured ÷ modelled − 1|; beyond, the model does not describe these runs


@dataclass(frozen=True)
class CrossCheck:
    """ln(measured ÷ predicted) of each cell, predicted from the others."""

    errors: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median |error|."""
        return float(np.median(np.abs(self.errors)))

    def half_width(self, level: float) -> float:
        """Half the width of an interval, on the log scale.

        The larger of Student's t × root mean square × √(1 + 1/n), and the largest error, which up to nine cells is all
        that a conformal interval of 90 % has (Barber et al. 2021, the jackknife+).
        """
        from scipy.special import stdtrit

        count = len(self.errors)
        spread = sqrt(float(np.mean(np.square(self.errors))))
        by_spread = float(stdtrit(count, (1 + level) / 2)) * spread * sqrt(1 + 1 / count)
        return max(by_spread, max(map(abs, self.errors)))


def leave_one_cell_out(cells: Sequence[MeasuredPipeline], order: str, recompute: bool) -> CrossCheck:
    """Cross-check pipelines: predict every cell of the grid from the other cells.

    Where no other cell has the same number of stages, the shares of the layers are those that the partitioner planned
    before the run; without a plan they are equal.
    """
    errors = []
    for index, cell in enumerate(cells):
        model = fit_case([*cells[:index], *cells[index + 1 :]], order, recompute)
        if cell.shape.stages not in model.shares and len(cell.planned) == cell.shape.stages:
            model = model.with_shares(cell.planned)
        errors.append(log_error(replace(model, cores=cell.cores), cell))
    return CrossCheck(tuple(errors))


def doublings_beyond(model: StepModel, shape: PipelineShape) -> float:
    """Doublings beyond the most stages, replicas, micro-batches and ranks per core of any measured cell."""
    turns = model.cores.oversubscription(shape.ranks_per_node)
    pairs = [
        (shape.stages, max(cell.shape.stages for cell in model.cells)),
        (shape.replicas, max(cell.shape.replicas for cell in model.cells)),
        (shape.micro_batches, max(cell.shape.micro_batches for cell in model.cells)),
        (turns, max(cell.oversubscription for cell in model.cells)),
    ]
    return sum(max(0.0, log2(wanted / most)) for wanted, most in pairs)


def half_width(
    check: CrossCheck, model: StepModel, shape: PipelineShape, published: PipelineCalibration, level: float
) -> float:
    """Half the width of a pipeline forecast's interval, on the log scale.

    The width grows in proportion to the doublings beyond the measured cells, because a wrong slope errs once per
    doubling. Beyond the measured stages and micro-batches the errors on published pipelines are added.
    """
    most_stages = max(cell.shape.stages for cell in model.cells)
    most_passes = max(cell.shape.micro_batches for cell in model.cells)
    beyond = [
        published.stages * sqrt(max(0.0, log2(shape.stages / most_stages))),
        published.micro_batches * sqrt(max(0.0, log2(shape.micro_batches / most_passes))),
    ]
    return hypot(check.half_width(level) * (1 + doublings_beyond(model, shape)), *beyond)
