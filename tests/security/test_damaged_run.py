"""A damaged file in a run does not disable the commands that look at all runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from saman.cli.main import main
from saman.configs.schemas.experiment import Experiment
from saman.jobs.status import read_status
from saman.runs.events import Event
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder

EXPERIMENT = Experiment.model_validate(
    {
        "name": "tiny", "model": {"build": "mlp"}, "data": {"source": "digits"},
        "train": {"strategy": "single", "global_batch_size": 8},
    }
)  # fmt: skip
DEEP = "[" * 3000
BAD_VALUES = ["abc", None, [], {}, True, -1, 1e300, "9" * 5000, [[[]]], {"a": []}, float("nan")]
FILES = (
    "experiment.yaml", "events.jsonl", "state.json", "summary.json", "tracking.json", "attempts/1/placement.json",
    "attempts/1/provenance.json", "attempts/1/ranks/00000.json", "attempts/1/ranks/00000.heartbeat.json",
    "attempts/1/telemetry/00000.jsonl", "attempts/1/nodes/00000.state", "attempts/1/nodes/00000.jsonl",
    "attempts/1/nodes/00000.log",
)  # fmt: skip
TEXTS = ("", "{", "null", "[]", "3", '"text"', DEEP, "\0\0\0", "\xff\xfe", '{"schema":99}', '{"schema":"x"}', "{}")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that have recorded something of everything."""
    runs = tmp_path_factory.mktemp("origin") / "runs"
    for _ in range(2):
        run = RunFolder.create(runs, EXPERIMENT)
        attempt = run.new_attempt()
        run.append("attempt_started", "supervisor", 1, host="here", ranks=1, method="processes", nodes=["here"])
        run.append("checkpoint", "rank 0", 1, step=3, path="checkpoints/step-3")
        run.append("epoch", "rank 0", 1, epoch=1, step=3, metrics={"loss": 0.5})
        process = {"index": 0, "node": "here", "first_rank": 0, "local": 0, "ranks": 1, "cores": [0]}
        attempt.placement.write_text(json.dumps({"schema": 1, "size": 1, "processes": [process]}))
        beat = {"schema": 1, "phase": "train", "epoch": 1, "step": 3, "time": 1.0, "alive": 1.0, "progress": 1.0}
        attempt.heartbeat(0).write_text(json.dumps(beat))
        attempt.provenance.write_text(json.dumps({"schema": 1, "versions": {"python": "3.11"}}))
        run.summary_file.write_text(json.dumps({"schema": 1, "exit_code": 1, "metrics": {"loss": 0.5}}))
        run.tracking_file.write_text(json.dumps({"schema": 1, "tensorboard": {"folder": str(runs.parent / "boards")}}))
    return runs


@pytest.fixture
def runs(origin: Path, tmp_path: Path) -> Path:
    shutil.copytree(origin, tmp_path / "runs")
    return tmp_path / "runs"


def _look(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command over all runs still shows the other run."""
    damaged, sound = find_runs(runs)
    for command in (["status"], ["status", "--json"], ["track"]):
        try:
            main([*command, "--runs-dir", str(runs)])
        except SystemExit as end:
            allowed = (0, None, 3) if command == ["track"] else (0, None)  # 3: the damaged run is not delivered
            assert end.code in allowed, (command, capsys.readouterr().err)
        said = capsys.readouterr().out
        assert command == ["track"] or sound.id in said, command
    assert {status.id for status in read_status([damaged, sound])} == {damaged.id, sound.id}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_run_leaves_the_other_runs_visible(
    runs: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = find_runs(runs)[0].path / name
    for text in TEXTS:
        file.write_bytes(text.encode("latin-1"))
        _look(runs, capsys)


@pytest.mark.parametrize("key", ["time", "kind", "who", "attempt", "schema", "step", "path", "ranks", "host", "nodes"])
def test_a_malformed_value_in_an_event_leaves_the_other_runs_visible(
    runs: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = find_runs(runs)[0].events_file
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for value in BAD_VALUES:
        file.write_text("".join(json.dumps({**line, key: value}) + "\n" for line in lines))
        _look(runs, capsys)


def test_a_name_that_looks_like_a_number_is_no_attempt(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("²", "١", "9" * 200, "-1"):
        (find_runs(runs)[0].attempts_folder / name).mkdir()
    _look(runs, capsys)


@pytest.mark.parametrize("time", ["abc", None, True, 1e300, -5, float("nan"), [1]])
def test_an_event_without_a_time_is_no_event(time: object) -> None:
    assert Event.from_json({"schema": 1, "kind": "completed", "who": "x", "time": time}) is None
