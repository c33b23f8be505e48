"""Ranks run in the image, the wrapper outside."""

from __future__ import annotations

from pathlib import Path

from saman.configs.loading.clusters import load_cluster
from saman.launcher.starters.start import Command, Start
from saman.slurm.job.container import expanded_container, wrap_in_container


def test_ranks_run_in_the_image_and_the_wrapper_outside() -> None:
    site = load_cluster("apptainer-only")
    assert site.container is not None
    argv = (
        "srun",
        "/v/python",
        "-m",
        "saman.launcher.rank",
        "/r",
        "--",
        "/v/python",
        "-m",
        "saman.trainers.worker",
        "/r",
    )
    start = Start("srun", (Command(argv),), (Command(("/v/python", "-m", "saman.trainers.rendezvous")),))
    made = wrap_in_container(start, site.container, "/v/python", [Path("/r")], gpus=True)
    inside = list(made.commands[0].argv[6:])
    assert made.commands[0].argv[:6] == argv[:6] and inside[:3] == ["apptainer", "exec", "--nv"]
    assert inside[-5:] == [site.container.image, "/usr/bin/python3", "-m", "saman.trainers.worker", "/r"]
    assert made.companions[0].argv[0] == "apptainer"


def test_variables_in_the_texts_of_a_container_are_expanded_in_the_job() -> None:
    site = load_cluster("apptainer-only")
    assert site.container is not None
    container = site.container.model_copy(update={"image": "$HOME/a.sif", "binds": ["/scratch/$USER:/data"]})
    found = expanded_container(container, {"HOME": "/home/me", "USER": "me"})
    assert (found.image, found.binds) == ("/home/me/a.sif", ["/scratch/me:/data"])
