"""What sbatch refuses, as a sentence that names what was asked for. Pure: text in, text out."""

from __future__ import annotations

import re

from saman.slurm.site.job_states import LIMIT, limit_sentence

# (what sbatch prints, the sentence, the remedy)
_REFUSALS = (
    (
        "Invalid account or account/partition combination",
        "the account {account} does not exist, is not yours, or may not use the partition {partition}",
        "`sacctmgr show associations user=$USER` lists yours; set account in the cluster file",
    ),
    (
        "Invalid qos specification",
        "the QOS {qos} does not exist or is not open to the account {account}",
        "`saman quota --cluster …` lists those you may use; set qos in the cluster file",
    ),
    ("nvalid partition", "the partition {partition} does not exist here", "`sinfo` lists them; mend the cluster file"),
    (
        "Requested time limit is invalid",
        "the time limit {time} is more than the partition {partition} allows",
        "a shorter resources.time_limit, or another partition",
    ),
    (
        "Node count specification invalid",
        "{nodes} nodes are more than the partition {partition} has or allows",
        "fewer nodes",
    ),
    (
        "More processors requested than permitted",
        "{tasks} processes of {cpus} cores are more than {partition} has",
        "ask for less",
    ),
    (
        "Memory specification can not be satisfied",
        "no node of {partition} has the memory that is asked for ({memory})",
        "a smaller resources.memory_per_rank; or request_memory: false where the site refuses --mem",
    ),
    (
        "Invalid generic resource",
        "this Slurm does not know the GPUs that are asked for ({gpus})",
        "mend gpus in the cluster file",
    ),
    (
        "Requested node configuration is not available",
        "no node of {partition} has what is asked for together: {tasks} processes "
        "of {cpus} cores, memory {memory}, GPUs {gpus}",
        "ask for less per node, or mend the partition in the cluster file",
    ),
    ("Invalid feature specification", "no node has the constraint {constraint}", "`sinfo -o '%f'` lists the features"),
    ("Requested reservation is invalid", "the reservation {reservation} does not exist or is over", "mend reservation"),
    ("Access/permission denied", "Slurm does not let you use the partition {partition}", "ask the site for access"),
    (
        "Unable to contact slurm controller",
        "Slurm's controller does not answer",
        "try again in a moment; `sinfo` tells when",
    ),
    ("Socket timed out", "Slurm's controller does not answer in time", "try again in a moment; `sinfo` tells when"),
    ("Invalid node name", "a node that is to be avoided or taken does not exist here", "`sinfo -N` lists the nodes"),
    ("Invalid license", "the licences that the cluster file asks for do not exist", "`scontrol show lic` lists them"),
    (
        "accounting/QOS policy",
        "a limit of your account or QOS forbids it",
        "`saman quota --cluster …` shows the limits",
    ),
)


def refusal(stderr: str, asked: dict[str, str]) -> tuple[str, str | None]:
    """What Slurm refused, as a sentence with what was asked for, and what to do.

    ``asked`` has account, partition, qos, time, nodes, tasks, cpus, memory, gpus, constraint and reservation.
    """
    limit = next((match for word in re.findall(r"\w+", stderr) if (match := LIMIT.fullmatch(word))), None)
    if limit is not None:
        return (
            f"Slurm refuses the job, because {f'it {limit_sentence(limit)}'.removeprefix('it waits because ')}",
            "`saman quota --cluster …` shows the limits",
        )
    for needle, sentence, remedy in _REFUSALS:
        if needle in stderr:
            return "Slurm refuses the job: " + sentence.format_map(asked), remedy
    said = " / ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in stderr.strip().splitlines())
    return f"Slurm refuses the job: {said or 'it gave no reason'}", None
