"""Known causes of failures: from what a start method or Slurm says of ranks that could not say it themselves, and from
the errors of programs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Printed by srun and slurmstepd (20.02 to 24.05), and by mpirun's daemons.
_CAUSES = (
    (
        re.compile(r"oom[-_ ]?kill|Out Of Memory|exceeded (?:step |job )?memory limit", re.IGNORECASE),
        "out of memory: request more with resources.memory_per_rank, or use fewer ranks per node or a smaller batch",
    ),
    (re.compile(r"DUE TO TIME LIMIT"), "the job reached its time limit"),
    (re.compile(r"DUE TO PREEMPTION"), "the job was preempted"),
    (re.compile(r"DUE TO NODE FAILURE|Node failure on \S+"), "a node failed"),
)


def find_starter_cause(lines: Iterable[str]) -> str | None:
    """The cause that the start method's output names; ``None`` if it names none.

    >>> find_starter_cause(["srun: error: node1: task 0: Out Of Memory"]).split(":")[0]
    'out of memory'
    """
    text = "\n".join(lines)
    return next((cause for pattern, cause in _CAUSES if pattern.search(text)), None)


KERAS_2 = "the script calls what Keras 3 has removed; --legacy-keras runs it with the package tf_keras"
_REMOVED_MODULES = r"(?:optimizers\.)?(?:optimizer_v[12]|legacy|wrappers|preprocessing)"
# How a call of Keras 2 ends on Keras 3: the line of the error, each seen with TensorFlow 2.21 and Keras 3.15.
_OF_KERAS_2 = re.compile(
    "|".join(
        (
            r"has no attribute '(?:ref|_keras_api_names|lr|_compute_gradients|get_gradients|get_updates)'",
            r"module 'keras.*' has no attribute '(?:get_session|set_session|learning_phase|mean_\w+_error)'",
            r"unexpected keyword argument 'experimental_run_tf_function'",
            r"`keras\.optimizers\.legacy` is not supported in Keras 3",
            rf"No module named '(?:tensorflow\.)?keras\.{_REMOVED_MODULES}",
            r"Argument\(s\) not recognized: \{'(?:lr|decay)'",
            r"Unrecognized keyword arguments passed to \w+: \{'(?:input_length|fused|weights)'",
            r"File format not supported: .* Keras 3 only supports",
        )
    )
)
_NOT_CALLABLE = re.compile(r"'\w+' object is not callable")
_CALLED_VARIABLES = re.compile(r"\.variables\(\)")


def hint_for(line: str, before: Sequence[str]) -> str | None:
    """What to do about an error; ``None`` if it is not known.

    Args:
        line: the line that names the error.
        before: the lines above it, which hold the failing call.
    """
    if _OF_KERAS_2.search(line):
        return KERAS_2
    # `optimizer.variables` is a list in Keras 3.
    if _NOT_CALLABLE.search(line) and any(_CALLED_VARIABLES.search(text) for text in before):
        return KERAS_2
    return None
