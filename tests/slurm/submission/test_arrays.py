"""Many runs go as arrays within the limits of the site, and a refusal leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, site
from tests.slurm.stubs import calls, stubs

from saman.configs.errors import UserError
from saman.runs.find import find_runs
from saman.slurm.dependencies import Dependency
from saman.slurm.site import client
from saman.slurm.submission import arrays, planning
from saman.slurm.submission.arrays import NoRoom, split, submit_many
from saman.slurm.submission.planning import SubmissionPlan
from saman.slurm.submission.submit import create_run

TAKES_THREE = """
last="${@: -1}"; at=$(grep -c . "$(dirname "$0")/taken" 2>/dev/null || true)
wanted=$(grep -oP '(?<=--array=0-)\\d+' "$last")
room=$(cat "$(dirname "$0")/room")
if [ $((wanted + 1)) -gt "$room" ]; then
  echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1
fi
echo "$((room - wanted - 1))" >"$(dirname "$0")/room"
echo "$wanted" >>"$(dirname "$0")/taken"
echo $((100 + ${at:-0}))
"""
REFUSES = 'echo "sbatch: error: Invalid qos specification" >&2; exit 1'


def plans(folder: Path, count: int, ranks: tuple[int, ...] = (1,)) -> list[SubmissionPlan]:
    specs = [bash("many", "true", folder, ranks_per_node=ranks[index % len(ranks)]) for index in range(count)]
    return [planning.plan(spec, site(), folder / "runs", "main", {}) for spec in specs]


def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str, largest: int = 1001) -> Path:
    """A Slurm of stubs; returns the folder of its commands."""
    config = f'echo "MaxArraySize            = {largest}"'
    monkeypatch.setenv("PATH", stubs(folder / "bin", {"sbatch": sbatch, "scontrol": config}))
    return folder / "bin"


def make(plan: SubmissionPlan) -> object:
    return create_run(plan, (), None)


def test_arrays_hold_the_same_request_and_no_more_than_slurm_takes(tmp_path: Path) -> None:
    found = split(plans(tmp_path, 10, (1, 2)), 3)
    assert [len(group) for group in found] == [3, 2, 3, 2]
    assert all(len({each.choice.request for each in group}) == 1 for group in found)


def test_the_list_of_runs_is_written_once_per_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm(tmp_path, monkeypatch, "echo 41", largest=25)
    done = submit_many(plans(tmp_path, 40), make)  # type: ignore[arg-type]
    lists = sorted((tmp_path / "runs/.arrays").glob("*/runs.txt"), key=lambda file: -len(file.read_text()))
    assert [len(file.read_text().splitlines()) for file in lists] == [25, 15]
    listed = {line for file in lists for line in file.read_text().splitlines()}
    assert listed == {str(submission.run.path) for submission in done}
    sizes = [(submission.run.path / "slurm/job.sbatch").stat().st_size for submission in done]
    assert max(sizes) < 5000 and max(sizes) - min(sizes) < 10


def test_a_refused_array_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm(tmp_path, monkeypatch, REFUSES)
    with pytest.raises(UserError, match="QOS"):
        submit_many(plans(tmp_path, 12), make)  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


def test_runs_go_in_portions_as_room_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = slurm(tmp_path, monkeypatch, TAKES_THREE)
    (commands / "room").write_text("3")
    monkeypatch.setattr(arrays.time, "sleep", lambda seconds: None)
    told: list[NoRoom] = []

    def wait(state: NoRoom) -> None:
        told.append(state)
        (commands / "room").write_text("4")  # jobs have ended

    done = submit_many(plans(tmp_path, 12), make, wait=wait)  # type: ignore[arg-type]
    assert len(done) == len(find_runs(tmp_path / "runs")) == 12
    assert len({submission.job for submission in done}) == 12
    assert told and told[0].submitted == 3 and "QOSMaxSubmitJobPerUserLimit" in told[0].sentence()


def test_the_concurrency_of_a_study_holds_over_its_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = 'echo x >>"$(dirname "$0")/n"; echo $((100 + $(grep -c x "$(dirname "$0")/n")))'
    commands = slurm(tmp_path, monkeypatch, counting, largest=2)
    submit_many(plans(tmp_path, 6, (1, 2)), make, concurrency=1)  # type: ignore[arg-type]
    asked = [call for call in calls(commands) if call.startswith("sbatch")]
    assert ["--dependency" in call for call in asked] == [False, True, True, True]
    assert "--dependency=afterany:101 " in asked[1] and "--dependency=afterany:103 " in asked[3]


def test_every_array_avoids_the_nodes_and_waits_for_the_runs_that_the_user_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = 'echo x >>"$(dirname "$0")/n"; echo $((100 + $(grep -c x "$(dirname "$0")/n")))'
    commands = slurm(tmp_path, monkeypatch, counting, largest=2)
    before = Dependency(ok_jobs=("7",))
    submit_many(plans(tmp_path, 4), make, concurrency=1, exclude=["node7"], dependency=before)  # type: ignore[arg-type]
    first, second = (call for call in calls(commands) if call.startswith("sbatch"))
    assert "--dependency=afterok:7 --kill-on-invalid-dep=yes --exclude=node7 " in first
    assert "--dependency=afterok:7,afterany:101 --kill-on-invalid-dep=yes --exclude=node7 " in second


def test_runs_of_a_study_have_their_nodes_to_themselves(tmp_path: Path) -> None:
    spec = bash("alone", "true", tmp_path)
    assert "#SBATCH --exclusive" in planning.plan(spec, site(), tmp_path, "main", {}, whole_nodes=True).text
    assert "#SBATCH --exclusive" not in planning.plan(spec, site(), tmp_path, "main", {}).text


@pytest.mark.slurm
def test_a_real_slurm_runs_one_at_a_time_over_all_arrays_and_takes_portions(
    minicluster: Minicluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (
        ["add", "qos", "few", "maxsubmitjobsperuser=3"],
        ["modify", "user", client.user_name(), "set", "qos+=few"],
    ):
        minicluster.run("sacctmgr", "-i", *command)
    asked = ["scontrol", "show", "assoc_mgr", "flags=qos", "qos=few"]
    until(lambda: "QOS=few" in client.ask(asked).out, 15)  # its limits are listed from the first job on
    monkeypatch.setattr(client, "largest_array", lambda: 2)
    specs = [bash("portions", "sleep 0.5", minicluster.shared, ranks_per_node=1 + index % 2) for index in range(5)]
    wanted = [planning.plan(spec, site(qos="few"), minicluster.shared / "runs", "main", {}) for spec in specs]
    told: list[NoRoom] = []
    done = submit_many(wanted, make, concurrency=1, wait=told.append)  # type: ignore[arg-type]
    assert len(done) == 5 and told
    until(lambda: all(submission.run.state.ended for submission in done), 120)
    times = []
    for submission in done:
        events = submission.run.events()
        assert submission.run.state.value == "completed"
        times.append((next(e.time for e in events if e.kind == "attempt_started"), events[-1].time))
    times.sort()
    assert all(end <= begin for (_, end), (begin, _) in zip(times, times[1:], strict=False))
