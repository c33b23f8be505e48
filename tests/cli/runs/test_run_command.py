"""``saman run`` refuses a bad request before anything starts, and a dry run starts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

QUICKSTART = ("run", "quickstart", "--dry-run", "--json")


def processes(planned: Any) -> list[dict[str, Any]]:
    """The processes of the plan's only node."""
    (group,) = planned["placement"]["groups"]
    return list(group["processes"])


def test_a_dry_run_shows_placement_and_command_and_leaves_no_file(saman: Any, tmp_path: Path) -> None:
    planned = saman(*QUICKSTART, "-np", "2", "train.strategy=horovod", "train.epochs=3").json
    assert planned["resolved"]["train"]["epochs"] == 3
    assert sum(process["ranks_here"] for process in processes(planned)) == 2
    assert planned["command"]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_is_as_readable_as_its_json_is_complete(saman: Any) -> None:
    shown = saman("run", "quickstart", "--dry-run")
    assert shown.status == 0
    assert all(heading in shown.out for heading in ("resolved", "placement", "command", "process", "cores"))


def test_what_a_dry_run_resolves_is_an_experiment_of_its_own(saman: Any, tmp_path: Path) -> None:
    from saman.configs import yaml12

    resolved = saman(*QUICKSTART).json["resolved"]
    (tmp_path / "again.yaml").write_text(yaml12.dump(resolved))
    assert saman("run", "again.yaml", "--dry-run", "--json").json["resolved"] == resolved


def test_a_program_behind_dashes_is_planned_like_an_experiment(saman: Any) -> None:
    planned = saman("run", "-np", "2", "--dry-run", "--json", "--", "python", "their.py", "--lr", "0.1").json
    assert planned["resolved"]["command"][-2:] == ["--lr", "0.1"]
    assert sum(process["ranks_here"] for process in processes(planned)) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "quickstart"),  # lists the shipped experiments
        (["run", "train.epochs=2"], "missing experiment"),
        (["run", "quickstart", "train.epoch=2"], "epochs"),  # did you mean
        (["run", "quickstart", "--legacy-keras"], "--legacy-keras"),
        (["run", "--prepare", "--", "python", "x.py"], "--prepare"),
    ],
)
def test_a_bad_request_is_refused_with_what_would_be_right(
    saman: Any, tmp_path: Path, words: list[str], said: str
) -> None:
    refused = saman(*words)
    assert refused.status == 2 and said in refused.err
    assert refused.out == "" and list(tmp_path.iterdir()) == []


def test_a_prepared_run_waits_in_its_folder_for_horovodrun(saman: Any, tmp_path: Path) -> None:
    prepared = saman("run", "quickstart", "--prepare", "-np", "2", "train.strategy=horovod")
    assert prepared.status == 0 and prepared.out.startswith("horovodrun")
    [run] = (tmp_path / "runs" / "quickstart").iterdir()
    assert (run / "experiment.yaml").is_file() and str(run.relative_to(tmp_path)) in prepared.out


def test_a_version_that_does_not_exist_is_told_before_anything_starts(saman: Any) -> None:
    for option in ("--dry-run", "--prepare"):
        refused = saman("run", "quickstart", "train.warm_start=nosuch:3", option)
        assert refused.status == 2 and "no model is called 'nosuch'" in refused.err
