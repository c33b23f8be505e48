"""Paths inside a run folder: one room spells them, and they lie where runs of earlier versions keep them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from saman.runs.paths.attempt import port_file
from saman.runs.paths.run import RunPaths
from saman.runs.paths.runs_folder import StudyPaths, array_script, new_array_folder, new_code_folder, planned_run
from saman.runs.records.inference import InferencePaths

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("api", "cli", "jobs", "slurm", "scaling", "registry", "trainers", "launcher", "pipeline")

# Names of files that belong to a run folder, a study's folder or the folder of a batch inference.
FILES = {
    "experiment.yaml", "script.yaml", "events.jsonl", "state.json", "summary.json", "energy.json", "tracking.json",
    "curves.svg", "command.txt", "placement.json", "provenance.json", "starter.log", "job.sbatch", "rendezvous.json",
    "export.json", "cluster.yaml", "follow-up.sbatch", "job.out", "study.json", "study.lock", "tracking.lock",
    "job.json", "plan.json", "code.diff", "checkpoint.json",
}  # fmt: skip
# Names of folders there; other rooms may use such a word for something else, so they count on a run's path only.
FOLDERS = {
    "attempts", "checkpoints", "control", "slurm", "ranks", "telemetry", "ports", "export", "figures", ".code",
    ".arrays", "supervisor", "begun", "exclude", "stop",
}  # fmt: skip
# A file of this name that is not a run's: (file, name).
OTHERS = {
    ("slurm/submission/planning.py", "job.sbatch"),  # a temporary script that Slurm is asked about
}


def text_of(node: ast.AST) -> Iterator[str]:
    """The constant text in a string or f-string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)


def joined(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, left side and text of every string that the file joins to a path or looks for in a folder."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from ((node.lineno, ast.unparse(node.left), text) for text in text_of(node.right))
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("glob", "rglob", "joinpath", "with_name", "Path"):
                owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
                yield from ((node.lineno, owner, text) for argument in node.args for text in text_of(argument))


def spelled_paths(source: str, where: str) -> list[str]:
    """Every place in ``source`` that spells a path of a run folder."""
    found = []
    for line, left, text in joined(ast.parse(source)):
        parts = set(text.split("/"))
        files = {name for name in parts & FILES if (where, name) not in OTHERS}
        of_a_run = re.search(r"\b(run|attempt|made)(_folder)?(\.path)?$|\.run\.path$|runs_dir", left)
        if files or (of_a_run and parts & FOLDERS) or re.search(r"\b(run|attempt)\.path$", left):
            found.append(f"{where}:{line}: {left} / {text!r}")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_room_spells_a_path_of_a_run_folder(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    found = [
        place for file in files for place in spelled_paths(file.read_text("utf-8"), file.relative_to(ROOT).as_posix())
    ]
    assert not found, "ask saman.runs.paths:\n" + "\n".join(found)


def test_the_job_script_is_given_its_paths() -> None:
    template = (ROOT / "slurm/submission/job.sh.j2").read_text("utf-8")
    assert not re.findall(r"(?:slurm|control)/\w+", template)


@pytest.mark.parametrize(
    "line",
    [
        'x = run.path / "anything"',
        'x = attempt.path / "notes.txt"',
        'x = folder / "study.json"',
        'x = folder / "attempts" / "1" / "provenance.json"',
        'x = sorted(folder.glob("*/experiment.yaml"))',
        'x = folder.joinpath("slurm", "job.out")',
        'x = Path(place, "summary.json")',
        'x = self.run / "attempts" / str(number)',
        'x = f / f"{name}/events.jsonl"',
        'x = runs_dir / ".code"',
    ],
)
def test_a_spelled_path_is_found(line: str) -> None:
    assert spelled_paths(line, "cli/x.py")


def test_other_paths_may_be_spelled() -> None:
    assert not spelled_paths('x = folder / "report.html"\ny = version / "saved_model"\nz = a / b', "cli/x.py")


def test_files_lie_where_earlier_versions_keep_them(tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "curve" / "20260101-120000-000-a1b2c3")
    attempt = run.attempt(2)
    assert (run.experiment_name, run.runs_dir, run.group) == ("curve", tmp_path, tmp_path / "curve")
    assert {
        run.relative(path)
        for path in (
            run.experiment_file, run.script_file, run.events_file, run.state_file, run.summary_file, run.energy_file,
            run.tracking_file, run.curves, run.checkpoints, run.exported.record, run.exported.saved_model,
            run.exported.keras_file, run.exported.validation, run.stop_request, run.supervisor_lock, run.tracking_lock,
            run.slurm.cluster, run.slurm.script, run.slurm.follow_up_script, run.slurm.log, run.slurm.begun,
            run.slurm.exclude, attempt.command, attempt.placement, attempt.provenance, attempt.starter_log,
            attempt.job_script, attempt.rendezvous, port_file(attempt.ports, 3), attempt.log(0),
            attempt.rank_record(11), attempt.heartbeat(0), attempt.telemetry(0), run.ports_of_start("7.0"),
        )
    } == {
        "experiment.yaml", "script.yaml", "events.jsonl", "state.json", "summary.json", "energy.json", "tracking.json",
        "figures/curves.svg", "checkpoints", "export/export.json", "export/saved_model", "export/model.keras",
        "export/validation.npz", "control/stop", "control/supervisor", "control/tracking.lock", "slurm/cluster.yaml",
        "slurm/job.sbatch", "slurm/follow-up.sbatch", "slurm/job.out", "slurm/begun", "slurm/exclude",
        "attempts/2/command.txt", "attempts/2/placement.json", "attempts/2/provenance.json", "attempts/2/starter.log",
        "attempts/2/job.sbatch", "attempts/2/rendezvous.json", "attempts/2/ports/00003.json",
        "attempts/2/ranks/00000.log", "attempts/2/ranks/00011.json", "attempts/2/ranks/00000.heartbeat.json",
        "attempts/2/telemetry/00000.jsonl", "control/ports-7.0",
    }  # fmt: skip
    study = StudyPaths.of(tmp_path, "curve")
    assert (study.record, study.lock) == (tmp_path / "curve/study.json", tmp_path / "curve/study.lock")
    assert planned_run(tmp_path, "curve") == tmp_path / "curve" / "RUN"
    assert new_array_folder(tmp_path).parent == tmp_path / ".arrays"
    assert array_script(tmp_path / "x") == tmp_path / "x" / "job.sbatch"
    assert new_code_folder(tmp_path).parent == tmp_path / ".code"
    inference = InferencePaths.beside(tmp_path / "out.parquet")
    assert inference.path == tmp_path / ".out.parquet.saman"
    assert inference.part(7) == inference.path / "parts" / "00000007.parquet"


def test_attempts_and_their_files_are_listed_in_the_order_of_numbers(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    assert run.attempts() == []
    for number in (10, 9, 1):
        run.attempt(number).make_folders()
    (run.attempts_folder / ".nfs0001").touch()
    assert [attempt.number for attempt in run.attempts()] == [1, 9, 10]
    attempt = run.attempt(9)
    for name in ("00004.json", "00000.json", "00000.heartbeat.json", "00000.log", ".00000.json.tmp"):
        (attempt.rank_folder / name).touch()
    for name in ("00001.jsonl", "00000.jsonl", "notes.txt"):
        (attempt.telemetry_folder / name).touch()
    assert attempt.ranks() == [0, 4]
    assert attempt.telemetry_files() == [attempt.telemetry(0), attempt.telemetry(1)]
