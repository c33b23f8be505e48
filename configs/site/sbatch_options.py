"""Options of sbatch that a cluster file may add to a job, and those that it may not. Pure.

Known are the options of Slurm 20.11 to 25.05 (man sbatch). A site's plugins add more: only the installed sbatch knows
them (``saman.slurm.site.sbatch_help``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from saman.configs.site.texts import plain

# Options that saman sets itself; an extra line of the cluster file must not contradict them.
OWN_OPTIONS = frozenset({
    "account", "array", "bb", "bbf", "chdir", "constraint", "cpus-per-task", "dependency", "error", "exclude",
    "exclusive", "export", "export-file", "get-user-env", "gpus", "gpus-per-node", "gpus-per-task", "gres", "job-name",
    "kill-on-invalid-dep", "mem", "mem-per-cpu", "mem-per-gpu", "no-requeue", "nodelist", "nodes", "ntasks",
    "ntasks-per-node", "open-mode", "output", "partition", "qos", "requeue", "reservation", "signal", "test-only",
    "time", "wait", "wrap",
})  # fmt: skip

# Keys of a cluster file that set an sbatch option; the error message names the key.
_KEYS = {
    "bb": "burst_buffer",
    "bbf": "burst_buffer",
    "exclusive": "exclusive, or partitions[].whole_nodes",
    "export": "export",
    "export-file": "export and environment",
    "get-user-env": "export",
    "gres": "gpus and resources.gpus_per_rank",
    "no-requeue": "requeue: {by: none}",
    "partition": "partitions, or partition: none",
    "requeue": "requeue: {by: scontrol}",
    "signal": "requeue.seconds_before_end",
}

# Options that no job of saman works with, and why.
REFUSED_OPTIONS = {
    "batch": "it chooses the node of the job script, which has to be the first",
    "clusters": "jobs of another cluster have ids that status, wait and cancel do not find here",
    "container": "it puts the job script into the image, without Slurm's commands; use the key container",
    "cpus-per-gpu": "it contradicts --cpus-per-task, which saman sets from resources.cpus_per_rank",
    "extra-node-info": "it contradicts --cpus-per-task, which saman sets from resources.cpus_per_rank",
    "gid": "only root may set it",
    "gpus-per-socket": "it contradicts the GPUs that saman requests (keys gpus and resources.gpus_per_rank)",
    "help": "sbatch prints its help and submits nothing",
    "hold": "the job would never start by itself; use scontrol hold after submitting",
    "ignore-pbs": "a script of saman has no #PBS lines",
    "input": "a job of saman reads no standard input",
    "no-kill": "ranks on a lost node would be waited for; saman continues the run on other nodes",
    "nodefile": "saman chooses nodes by --exclude and constraint",
    "ntasks-per-core": "it contradicts --ntasks-per-node, which saman sets from resources.ranks_per_node",
    "ntasks-per-gpu": "it contradicts --ntasks-per-node, which saman sets from resources.ranks_per_node",
    "ntasks-per-socket": "it contradicts --ntasks-per-node, which saman sets from resources.ranks_per_node",
    "parsable": "it changes what sbatch prints, and saman passes it already to read the job id",
    "quiet": "saman reads what sbatch prints",
    "tres-per-task": "it contradicts the cores and GPUs that saman requests",
    "uid": "only root may set it",
    "usage": "sbatch prints its usage and submits nothing",
    "verbose": "saman reads what sbatch prints",
    "version": "sbatch prints its version and submits nothing",
}

# Everything else that sbatch takes: with a value, without, or both.
_WITH_VALUE = frozenset({
    "acctg-freq", "begin", "cluster-constraint", "comment", "container-id", "core-spec", "cores-per-socket", "cpu-freq",
    "deadline", "delay-boot", "distribution", "extra", "gpu-bind", "gpu-freq", "gres-flags", "hint", "licenses",
    "mail-type", "mail-user", "mcs-label", "mem-bind", "mincpus", "network", "power", "prefer",
    "priority", "profile", "segment", "sockets-per-node", "switches", "thread-spec", "threads-per-core", "time-min",
    "tmp", "tres-bind", "wait-all-nodes", "wckey",
})  # fmt: skip
_WITHOUT_VALUE = frozenset({
    "consolidate-segments", "contiguous", "overcommit", "oversubscribe", "reboot", "spread-job", "spread-segments",
    "stepmgr", "use-min-nodes",
})  # fmt: skip
_EITHER = frozenset({"nice", "oom-kill-step", "propagate", "resv-ports"})
KNOWN_OPTIONS = _WITH_VALUE | _WITHOUT_VALUE | _EITHER | OWN_OPTIONS | frozenset(REFUSED_OPTIONS)


def check_line(text: str) -> str:
    """Return a line of ``sbatch:``; raise ``ValueError`` if no job of saman can have it."""
    option = re.fullmatch(r'--([a-z][a-z0-9-]*)(=[^"\\]*)?', plain(text))
    if option is None:
        raise ValueError(f"{text!r} is not an option of sbatch; write it as in --mail-type=END, without quotes")
    if re.search(r"\$[A-Za-z_{]", text):
        raise ValueError(f"{text!r} has a variable, but Slurm expands none in #SBATCH lines")
    problem = _problem(option[1], option[2])
    if problem is not None:
        raise ValueError(f"{text!r}: {problem}")
    return text


def _problem(name: str, value: str | None) -> str | None:
    """Why a job of saman cannot have this option; ``None`` if it can, or if only the installed sbatch can tell."""
    if name in OWN_OPTIONS:
        return f"saman sets --{name} itself, from {_KEYS.get(name, 'the experiment or another key of this file')}"
    if name in REFUSED_OPTIONS:
        return f"--{name} is refused: {REFUSED_OPTIONS[name]}"
    if name in _WITH_VALUE - _EITHER and value in (None, "="):
        return f"--{name} needs a value, as in --{name}=VALUE"
    if name in _WITHOUT_VALUE and value is not None:
        return f"--{name} takes no value"
    longer = sorted(known for known in KNOWN_OPTIONS if known.startswith(name)) if name not in KNOWN_OPTIONS else []
    if longer:  # sbatch would read an abbreviation as one of these
        return f"write the whole name: {' or '.join(f'--{known}' for known in longer)}"
    return None


def name_of(line: str) -> str:
    """The option's name without dashes."""
    return line.removeprefix("--").partition("=")[0]


def nearest_option(name: str, known: Iterable[str] = ()) -> str | None:
    """The most similar option that a cluster file may have, with dashes; ``None`` if none is similar."""
    allowed = (KNOWN_OPTIONS | set(known)) - OWN_OPTIONS - set(REFUSED_OPTIONS)
    found = get_close_matches(name, sorted(allowed), n=1, cutoff=0.6)
    return f"--{found[0]}" if found else None


def doubtful_options(lines: Iterable[str]) -> list[str]:
    """A sentence for each option of a cluster file that no release of Slurm has, where no sbatch can be asked."""
    found = []
    for name in (name_of(line) for line in lines):
        if name not in KNOWN_OPTIONS:
            near = nearest_option(name)
            found.append(f"--{name} is no option of Slurm itself" + (f"; did you mean {near}?" if near else ""))
    return found
