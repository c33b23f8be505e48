"""The parts of a pipelined step besides its passes, as sums of terms that are fitted to the measured cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from saman.scaling.pipelines.measured import MeasuredPipeline, NodeCores, PipelineShape

Array = NDArray[np.float64]
_ALIKE = 1e-3  # the least singular value of columns that differ
Term = Callable[[PipelineShape, NodeCores], float]
Terms = Mapping[str, Term]


def _crowd(shape: PipelineShape, cores: NodeCores) -> float:
    """Further busy cores of the node, which slow a core's memory."""
    return cores.busy(shape.ranks_per_node) - cores.per_rank


# Terms by name, most important first; each has a coefficient in seconds.
EXCHANGE: Terms = {
    "own": lambda shape, cores: 1.0,  # norms and counts, which a rank without peers sums, too
    "start": lambda shape, cores: 1.0 if shape.ranks > 1 else 0.0,
    # copying is work: ranks that share a core take turns at it
    "bandwidth": lambda shape, cores: (
        2 * (shape.replicas - 1) / shape.replicas / shape.stages * cores.oversubscription(shape.ranks_per_node)
    ),
    "turn": lambda shape, cores: cores.oversubscription(shape.ranks_per_node) - 1 if shape.ranks > 1 else 0.0,
    "hop": lambda shape, cores: 2.0 * (min(shape.replicas, shape.nodes) - 1),
    "crowd": _crowd,
}
UPDATE: Terms = {  # CPU seconds of a stage
    "model": lambda shape, cores: 1 / shape.stages,
    "step": lambda shape, cores: 1.0,
    "crowd": _crowd,
}
INPUT_WAIT: Terms = {
    "examples": lambda shape, cores: shape.examples,
    "step": lambda shape, cores: 1.0,  # the start of an epoch, and of a batch, does not divide by the replicas
    "turn": lambda shape, cores: cores.oversubscription(shape.ranks_per_node) - 1,
    "crowd": _crowd,
}


def fit_terms(terms: Terms, cells: Sequence[MeasuredPipeline], seconds: Sequence[float]) -> dict[str, float]:
    """Fit the terms of a part by non-negative least squares, in shares of a step.

    Args:
        terms: Of the part.
        cells: Measured pipelines.
        seconds: The part in each cell.

    Returns:
        Coefficients by name, at most one per cell. A term is used only if the cells tell it from the terms before it.
    """
    from scipy.optimize import nnls

    used: dict[str, Array] = {}
    for name, term in terms.items():
        column = np.array([term(cell.shape, cell.cores) for cell in cells])
        if column.any() and _differs(column, list(used.values())):
            used[name] = column
    if not used:
        return {}
    scale = np.array([1 / cell.step_seconds for cell in cells])
    matrix = np.stack(list(used.values()), axis=1)
    found, _ = nnls(matrix * scale[:, None], np.array(seconds) * scale)
    return dict(zip(used, map(float, found), strict=True))


def _differs(column: Array, others: Sequence[Array]) -> bool:
    """Whether a column is no combination of others."""
    several = np.stack([each / np.abs(each).max() for each in (*others, column)], axis=1)
    return bool(np.linalg.matrix_rank(several, tol=_ALIKE) > len(others))


def sum_terms(terms: Terms, fitted: Mapping[str, float], shape: PipelineShape, cores: NodeCores) -> float:
    """The seconds of a part at a shape."""
    return sum(terms[name](shape, cores) * value for name, value in fitted.items())
