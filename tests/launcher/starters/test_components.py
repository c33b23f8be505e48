"""Processes beside the ranks: started with them, told where everybody is, and missed when they end early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.launcher.starters.test_start import FACTS, JOB, _placement

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.problems import validated
from saman.configs.schemas.components import JobComponent
from saman.configs.schemas.experiment import Resources
from saman.configs.schemas.script import Script
from saman.jobs.logs import read_logs
from saman.launcher.local import run_script
from saman.launcher.planning import Options
from saman.launcher.starters.components import component_commands, component_variables
from saman.runs.events import State

DATA = JobComponent(name="data_service", program=["python", "serve.py", "a b;$c"], nodes=2, tasks_per_node=3)
SERVER = JobComponent(name="ps", program=["./server"])
HET = replace(FACTS, in_allocation=True, srun="/bin/srun", component_nodes=(("c1", "c2"), ("c3",)))


def test_each_component_starts_in_its_part_of_the_job() -> None:
    data, server = component_commands([DATA, SERVER], JOB, HET, Path("/code"))
    assert data.argv[:6] == (
        "/bin/srun", "--het-group=1", "--nodes=2", "--ntasks=6", "--ntasks-per-node=3", "--cpus-per-task=1",
    )  # fmt: skip
    assert data.argv[-6:] == ("/code", "data_service", "--", "python", "serve.py", "a b;$c")
    assert "--het-group=2" in server.argv and server.argv[-1] == "./server"


def test_ranks_and_components_know_each_other_s_nodes() -> None:
    found = component_variables([DATA, SERVER], _placement(nodes=2), HET)
    assert found["SAMAN_NODES_OF_DATA_SERVICE"] == "c1,c2" and found["SAMAN_NODES_OF_PS"] == "c3"
    assert found["SAMAN_NODES_OF_RANKS"] == ",".join(_placement(nodes=2).nodes)
    assert component_variables([], _placement(), FACTS) == {}


def test_an_allocation_without_the_parts_is_refused() -> None:
    for facts in (replace(HET, component_nodes=(("c1",),)), replace(HET, component_nodes=())):
        with pytest.raises(EnvironmentLack) as refused:
            component_commands([DATA, SERVER], JOB, facts, Path("/code"))
        assert refused.value.where == "resources.components"


@pytest.mark.parametrize(
    "components",
    [
        [{"name": "ps", "program": []}],
        [{"name": "a b", "program": ["x"]}],
        [{"name": "ps", "program": "x; y"}],
        [{"name": "ps", "program": ["x"]}, {"name": "ps", "program": ["y"]}],
    ],
)
def test_a_component_has_a_name_of_its_own_and_a_program_that_no_shell_reads(components: object) -> None:
    with pytest.raises(UserError):
        validated(Resources, {"components": components}, "x")


def _script(tmp_path: Path, rank: str, component: str) -> Script:
    resources = {
        "cpus_per_rank": 1,
        "components": [{"name": "data", "program": ["bash", "-c", component], "tasks_per_node": 2}],
    }
    values = {"name": "beside", "command": ["bash", "-c", rank], "directory": str(tmp_path), "resources": resources}
    return validated(Script, values, "test")


def test_on_this_machine_components_run_beside_the_rank_and_end_with_it(tmp_path: Path) -> None:
    serve = 'echo "$SAMAN_COMPONENT $SAMAN_COMPONENT_TASK of $SAMAN_COMPONENT_TASKS"; touch up-$SAMAN_COMPONENT_TASK; '
    serve += "exec sleep 600"
    rank = (
        'for i in $(seq 300); do [ -e up-0 ] && [ -e up-1 ] && break; sleep 0.1; done; echo "to $SAMAN_NODES_OF_DATA"'
    )
    outcome = run_script(_script(tmp_path, rank, serve), Options(runs_dir=tmp_path / "runs"))
    assert outcome.state is State.COMPLETED, outcome
    attempt = outcome.run.attempt(1)
    assert "".join(piece.text for piece in read_logs(outcome.run, rank=0)) == "to 127.0.0.1\n"
    assert [attempt.component_log("data", task).read_text() for task in (0, 1)] == ["data 0 of 2\n", "data 1 of 2\n"]


def test_a_component_that_ends_early_fails_the_run(tmp_path: Path) -> None:
    outcome = run_script(_script(tmp_path, "sleep 60", "exit 3"), Options(runs_dir=tmp_path / "runs"))
    assert outcome.state is State.FAILED and outcome.seconds < 40, outcome
    assert "component" in outcome.message
