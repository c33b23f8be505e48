"""Mistakes of people who know sbatch are met before anything is queued, with the key or command that mends them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster
from tests.slurm.stubs import stubs
from typer.testing import CliRunner

from saman.cli.main import make_app
from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.loading.clusters import load_cluster
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.study import Study
from saman.configs.units import parse_slurm_time
from saman.launcher.programs import refuse_program, script_from_command
from saman.launcher.supervision.failures import find_failure
from saman.runs.events import Event
from saman.runs.folder import RunFolder
from saman.slurm.site import client
from saman.slurm.submission.known_options import slurm_options, with_charging
from saman.slurm.submission.program_check import check_program


@pytest.mark.parametrize("command", [["./no-such"], ["no-such-program"], ["python", "-u", "missing.py"]])
def test_a_program_that_does_not_exist_is_refused_before_it_is_queued(command: list[str], tmp_path: Path) -> None:
    spec = script_from_command(command, directory=tmp_path)
    bare = load_cluster("minicluster")
    with pytest.raises(UserError, match="no such"):
        check_program(spec, bare)


@pytest.mark.parametrize(
    "changes", [{"software": {"modules": {"load": ["tools"]}}}, {"container": {"image": "/images/train.sif"}}]
)
def test_a_program_that_the_site_may_bring_is_left_to_the_job(changes: dict[str, object], tmp_path: Path) -> None:
    values = {**load_cluster("minicluster").model_dump(mode="json", by_alias=True), **changes}
    check_program(script_from_command(["no-such-program"], directory=tmp_path), validated(Cluster, values, "x"))
    (tmp_path / "train.py").touch()
    check_program(script_from_command(["python", "train.py", "x.py"], directory=tmp_path), load_cluster("minicluster"))


@pytest.mark.parametrize("words", [["python", "train.py"], ["train.py"], ["bash"], ["./job.sh"]])
def test_a_forgotten_double_dash_is_named(words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        refuse_program(words, "saman submit")
    assert "put -- before the program" in str(error.value.remedy)
    refuse_program(["my-experiment.yaml"], "saman submit")


def test_a_misspelt_axis_is_blamed_on_the_study_with_the_nearest_name() -> None:
    values = {"name": "s", "experiment": "quickstart", "scaling": "strong", "axes": {"rank": [1, 2]}}
    with pytest.raises(UserError) as error:
        validated(Study, values, "study.yaml")
    assert "study.yaml: axes.rank" in str(error.value) and "ranks" in str(error.value)


def test_options_of_sbatch_become_keys() -> None:
    assert slurm_options(4, None, "1:00:00", 8) == (
        ['resources.time_limit="01:00:00"', "resources.gpus_per_rank=2"], 4,
    )  # fmt: skip
    with pytest.raises(UserError, match="do not divide"):
        slurm_options(3, None, None, 4)
    charged = with_charging(load_cluster("a100-easybuild"), "lab7", "short")
    assert (charged.account, charged.qos, {partition.qos for partition in charged.partitions}) == (
        "lab7",
        "short",
        {None},
    )


def test_a_slurm_without_configuration_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'echo "squeue: fatal: Could not establish a configuration source" >&2; exit 1'
    monkeypatch.setenv("PATH", stubs(tmp_path, {"squeue": said}))
    with pytest.raises(EnvironmentLack) as error:
        client.queue()
    assert "set SLURM_CONF" in str(error.value.remedy)


def test_the_error_of_a_program_is_in_the_sentence_of_its_failure() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "x.py", line 3',
        "AttributeError: 'V' object has no attribute 'ref'",
    ]
    event = Event("rank_exited", "rank 0", 1.0, 1, {"rank": 0, "node": "n1", "code": 1, "last_lines": [*lines, ""]})
    failure = find_failure([event])
    assert failure is not None
    assert "exit code 1: AttributeError: 'V' object has no attribute 'ref'" in failure.sentence()
    assert "--legacy-keras" in failure.sentence()


def test_an_empty_log_is_said_to_be_empty(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", script_from_command(["true"], directory=tmp_path))
    attempt = run.new_attempt()
    attempt.log(0).touch()
    said = CliRunner().invoke(make_app(["logs"]), ["logs", run.id, "--runs-dir", str(tmp_path / "runs")])
    assert "rank 0 has printed nothing yet" in said.output


@pytest.mark.parametrize("text", ["", "0", "00:00:00", "1h", "-5", "1:2:3:4", "1-2:3:4:5", "infinite", "²", "1-"])
def test_a_time_that_sbatch_would_not_take_is_refused_under_the_name_of_the_option(text: str) -> None:
    with pytest.raises(UserError) as refused:
        slurm_options(None, None, text, None)
    assert refused.value.where == "--time" and "D-HH:MM:SS" in refused.value.problem
    assert "quoted" not in refused.value.problem


@pytest.mark.slurm
def test_every_form_of_a_time_limit_means_what_sbatch_makes_of_it(minicluster: Minicluster) -> None:
    forms = ["30", "90:00", "2:30", "1:30:00", "1-2", "1-02:30", "2-03:04:05"]
    wrapped = ["--hold", "--account=test", "--partition=main", "--wrap=true"]
    job = minicluster.run("sbatch", "--parsable", *wrapped).stdout.strip()
    try:
        for form in forms:
            minicluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={form}")
            minutes = -(-parse_slurm_time(form) // 60)  # Slurm's own unit, rounded up
            days, rest = divmod(minutes, 1440)
            clock = f"{days}-" * bool(days) + f"{rest // 60:02d}:{rest % 60:02d}:00"
            assert client.show_job(job)["TimeLimit"] == clock, form
    finally:
        client.scancel([job])
