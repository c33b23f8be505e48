"""Values of ``launch.environment`` and passwords of trackers reach the ranks and the server, and no file for others."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
from registry_kit import fake_export

from saman.configs.errors import UserError
from saman.configs.loading.experiments import load_experiment
from saman.configs.private_values import set_aside
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.launcher.local import resume_locally, run_script
from saman.launcher.planning import Options
from saman.registry.lifecycle.publish import publish
from saman.registry.tracking import delivery, mlflow_sink
from saman.runs import private_values
from saman.runs.folder import RunFolder

SECRET = "hunter2-do-not-show"
TELL = "import os, sys; open(sys.argv[1], 'a').write(os.environ.get('ENTRANCE', 'nothing') + '\\n')"


def _script(tmp_path: Path, **environment: str) -> Script:
    values: dict[str, Any] = {"name": "tell", "command": [sys.executable, "-c", TELL, str(tmp_path / "told")]}
    values |= {"directory": str(tmp_path), "launch": {"with": "processes", "environment": environment}}
    return Script.model_validate(values)


def _experiment(**more: Any) -> Experiment:
    values: dict[str, Any] = {
        "name": "tiny", "model": {"build": "mlp"}, "data": {"source": "digits"},
        "train": {"strategy": "single", "global_batch_size": 8}, "publish": {"model": "digits"},
    }  # fmt: skip
    return Experiment.model_validate({**values, **more})


def _files_with(folder: Path, text: str) -> list[str]:
    """Every file under a folder that holds the text, in any of its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files if text.encode() in path.read_bytes())


def _options(tmp_path: Path) -> Options:
    return Options(runs_dir=tmp_path / "runs", command_line=("saman", "run", f"launch.environment.ENTRANCE={SECRET}"))


@pytest.mark.parametrize("name", ["ENTRANCE", "OMP_API_KEY"])
def test_a_value_is_kept_in_a_file_of_its_owner_only(tmp_path: Path, name: str) -> None:
    run = RunFolder.create(tmp_path / "runs", _script(tmp_path, **{name: SECRET, "OMP_NUM_THREADS": "2"}))
    assert _files_with(run.path, SECRET) == ["secrets.json"]
    assert stat.S_IMODE(run.secrets_file.stat().st_mode) == 0o600
    assert run.script().launch.environment["OMP_NUM_THREADS"] == "2"


def test_the_ranks_get_the_value_at_the_start_and_when_the_run_is_resumed(tmp_path: Path) -> None:
    outcome = run_script(_script(tmp_path, ENTRANCE=SECRET, FAILS="1"), _options(tmp_path))
    run = outcome.run
    run.append("failed", "supervisor", reason="as if")
    resume_locally(run, _options(tmp_path))
    assert (tmp_path / "told").read_text().split() == [SECRET, SECRET]
    assert _files_with(run.path, SECRET) == ["secrets.json"], "command, provenance, logs or events hold it"
    assert "ENTRANCE" in run.attempts()[0].command.read_text().splitlines()[1]


def test_the_folder_of_another_owner_cannot_be_resumed_with_empty_values(tmp_path: Path) -> None:
    run = run_script(_script(tmp_path, ENTRANCE=SECRET), _options(tmp_path)).run
    run.append("failed", "supervisor", reason="as if")
    run.secrets_file.unlink()  # as unreadable as another user's
    with pytest.raises(UserError, match=r"launch\.environment\.ENTRANCE"):
        resume_locally(run, _options(tmp_path))


def test_a_published_manifest_holds_no_private_value(tmp_path: Path) -> None:
    tracking = {"mlflow": f"http://ada:{SECRET}@host:5000/?token={SECRET}"}
    experiment = _experiment(launch={"environment": {"ENTRANCE": SECRET}}, tracking=tracking)
    run = RunFolder.create(tmp_path / "runs", experiment)
    fake_export(run)
    run.append("completed", "supervisor")
    publish(run, tmp_path / "models")
    assert _files_with(tmp_path / "models", SECRET) == []
    assert _files_with(run.path, SECRET) == ["secrets.json"]
    assert "host:5000" in run.experiment_file.read_text(), "where the run is tracked is no secret"


def test_the_tracker_gets_its_password_and_no_record_of_the_delivery_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def deliver(history: object, uri: str, experiment: str | None = None) -> str:
        asked.append(uri)
        raise RuntimeError(f"no answer from {uri}")

    monkeypatch.setattr(mlflow_sink, "deliver", deliver)
    uri = f"http://ada:{SECRET}@host:5000"
    run = RunFolder.create(tmp_path / "runs", _experiment(tracking={"mlflow": uri}))
    run.append("completed", "supervisor")
    sent = [delivery.track(run)]
    from saman.configs.schemas.tracking import Tracking

    other = f"http://bob:{SECRET}@elsewhere:5000"
    sent.append(delivery.track(run, Tracking(mlflow=other)))
    sent.append(delivery.track(run))
    assert asked == [uri, other, uri]
    assert all(SECRET not in each.problem and "host" in each.problem + "host" for each in sent)
    assert _files_with(run.path, SECRET) == ["secrets.json"]


# ---- references --------------------------------------------------------------------------------------------------


def test_a_reference_to_a_variable_is_filled_in_at_the_start_and_kept_for_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    run = run_script(_script(tmp_path, ENTRANCE="key ${env:MY_KEY}"), _options(tmp_path)).run
    monkeypatch.delenv("MY_KEY")  # as in a job, or in a shell of tomorrow
    run.append("failed", "supervisor", reason="as if")
    resume_locally(run, _options(tmp_path))
    assert (tmp_path / "told").read_text().splitlines() == [f"key {SECRET}"] * 2
    assert _files_with(run.path, SECRET) == ["secrets.json"]


def test_a_reference_to_an_unset_variable_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="NOT_SET_ANYWHERE"):
        RunFolder.create(tmp_path / "runs", _script(tmp_path, ENTRANCE="${env:NOT_SET_ANYWHERE}"))
    assert not (tmp_path / "runs").exists()


def test_a_reference_to_a_file_is_read_at_the_start_unless_others_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    run = RunFolder.create(tmp_path / "runs", _script(tmp_path, ENTRANCE=f"${{file:{file}}}"))
    revealed = private_values.reveal_environment(run, run.script())
    assert revealed.launch.environment["ENTRANCE"] == SECRET
    assert _files_with(run.path, SECRET) == []
    file.chmod(0o644)
    with pytest.raises(UserError, match="other users can read"):
        private_values.reveal_environment(run, run.script())


def test_the_written_experiment_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"http://ada:{SECRET}@host:5000"
    first = RunFolder.create(
        tmp_path / "runs", _experiment(launch={"environment": {"ENTRANCE": SECRET}}, tracking={"mlflow": uri})
    )
    again = load_experiment(str(first.experiment_file)).experiment
    assert again.launch.environment == {"ENTRANCE": SECRET} and again.tracking and again.tracking.mlflow == uri
    assert again.digest() == first.experiment().digest() == first.written_experiment().digest
    second = RunFolder.create(tmp_path / "runs", again)
    assert _files_with(second.path, SECRET) == ["secrets.json"]


def test_values_that_the_user_calls_public_are_written_as_they_are(tmp_path: Path) -> None:
    launch = {"environment": {"MODE": "fast"}, "public": ["MODE"]}
    run = RunFolder.create(tmp_path / "runs", _experiment(launch=launch))
    assert run.experiment().launch.environment == {"MODE": "fast"} and not run.secrets_file.exists()
    other = _experiment(launch={**launch, "environment": {"MODE": "slow"}})
    assert run.experiment().digest() != other.digest()


def test_a_run_that_an_earlier_saman_wrote_keeps_its_values(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", _script(tmp_path, ENTRANCE=SECRET))
    run.script_file.write_text(run.script_file.read_text().replace("${secret:launch.environment.ENTRANCE}", SECRET))
    run.secrets_file.unlink()
    assert private_values.reveal_environment(run, run.script()).launch.environment["ENTRANCE"] == SECRET


def test_the_start_of_a_run_is_shown_without_private_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from saman.cli.main import main

    monkeypatch.chdir(tmp_path)
    for options in (["--dry-run"], ["--dry-run", "--json"]):
        with pytest.raises(SystemExit) as end:
            main(["run", "quickstart", f"launch.environment.ENTRANCE={SECRET}", *options])
        assert end.value.code in (0, None)
    assert SECRET not in capsys.readouterr().out


def test_nobody_can_read_the_private_values_while_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    replace = Path.replace

    def look(self: Path, target: Path) -> Path:
        modes.append(stat.S_IMODE(self.stat().st_mode) if "secrets" in self.name else 0o600)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", look)
    RunFolder.create(tmp_path / "runs", _script(tmp_path, ENTRANCE=SECRET))
    assert set(modes) == {0o600} and json.loads(next(tmp_path.rglob("secrets.json")).read_text())["schema"] == 1


def test_no_file_of_a_study_holds_a_private_value(tmp_path: Path) -> None:
    from saman.configs.loading.studies import load_study
    from saman.scaling.study.plan import make_plan

    study, file = load_study("demo", [f"launch.environment.ANY={SECRET}"])
    written = json.dumps(make_plan(study, file, 2).to_json())
    assert "launch.environment.ANY" in written
    assert SECRET not in written


def test_no_file_of_a_tuning_study_but_its_runs_own_holds_a_private_value(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from saman.tuning.ledger import Ledger
    from saman.tuning.plan import make_plan
    from saman.tuning.study import hold_tuning

    file = tmp_path / "t.yaml"
    words = {"name": "t", "space": {"x": [1, 2]}, "objective": {"metric": "loss", "goal": "minimize"}, "trials": 2}
    program = {"command": ["true", "{x}"], "launch": {"environment": {"ANY": SECRET}}}
    for base in ({"program": program}, {"experiment": "quickstart", "set": {"launch.environment.ANY": SECRET}}):
        values = {**words, "name": next(iter(base)), **base}
        if "experiment" in base:
            values |= {"space": {"train.seed": [1, 2]}, "objective": {"metric": "val_loss", "goal": "minimize"}}
        file.write_text(json.dumps(values))
        plan = make_plan(str(file))
        with hold_tuning(plan, tmp_path / "runs") as paths:
            Ledger(plan.study, paths).ask()
    written = [path.read_text() for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert written
    assert not [text for text in written if SECRET in text]


def test_the_word_after_an_option_of_a_notification_is_private() -> None:
    public, kept = set_aside({"notify": {"command": ["post", "--password", "pw-1", "--to", "me"]}})
    assert public["notify"]["command"] == ["post", "--password", "${secret:notify.command.2}", "--to", "me"]
    assert kept == {"notify.command.2": "pw-1"}
