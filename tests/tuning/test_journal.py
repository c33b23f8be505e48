"""The journal of trials: torn lines, damage, other users, and states that would run code."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna")

import numpy as np
from kit import plan

from saman.configs.errors import UserError
from saman.runs.paths.runs_folder import StudyPaths
from saman.tuning.cma_state import read_state
from saman.tuning.ledger import Ledger
from saman.tuning.study import hold_tuning

PLAN = plan(Path("/nonexistent"))


def ledger(folder: Path) -> Ledger:
    return Ledger(PLAN.study, StudyPaths.of(folder, "t"))


def journal(folder: Path) -> Path:
    return StudyPaths.of(folder, "t").journal


def test_a_writer_killed_in_the_middle_of_a_line_costs_that_entry_alone(tmp_path: Path) -> None:
    first = ledger(tmp_path).ask()
    with journal(tmp_path).open("ab") as file:
        file.write(b'{"op_code": 8, "worker_id": "x", "trial_id": 0, "user_')
    after = ledger(tmp_path)
    assert [trial.number for trial in after.trials()] == [first.number]
    after.note(first.number, run="r-1")
    second = after.ask()
    found = ledger(tmp_path).trials()
    assert [(trial.number, trial.run) for trial in found] == [(0, "r-1"), (second.number, None)]


def test_a_reader_sees_what_another_process_appends(tmp_path: Path) -> None:
    reader, writer = ledger(tmp_path), ledger(tmp_path)
    for _ in range(3):
        writer.ask()
        assert [trial.settings for trial in reader.trials()] == [trial.settings for trial in writer.trials()]


@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        "[]",
        '{"op_code": 99}',
        '{"op_code": 99, "worker_id": "x"}',
        '{"op_code": 5, "worker_id": "x"}',
        '{"op_code": 0, "worker_id": "x", "study_name": "u", "directions": [7]}',
        '{"op_code": 5, "worker_id": "x", "trial_id": 0, "param_name": "x", "distribution": 1}',
        '{"op_code": 4, "worker_id": "x", "study_id": 0, "datetime_start": "now"}',
        '{"op_code": 7, "worker_id": "x", "trial_id": 0, "step": "two", "intermediate_value": "much"}',
        "[" * 5000,
        "\0" * 100,
    ],
)
def test_a_damaged_entry_is_named_with_its_file(tmp_path: Path, line: str) -> None:
    ledger(tmp_path).ask()
    with journal(tmp_path).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"damaged") as refused:
        ledger(tmp_path)
    assert str(journal(tmp_path)) in str(refused.value)
    assert refused.value.remedy


def test_facts_of_another_kind_do_not_stop_a_study(tmp_path: Path) -> None:
    number = ledger(tmp_path).ask().number
    facts: dict[str, Any] = {"run": ["x"], "retries": "x", "node_hours": {}, "pruned_at": "x", "continues": []}
    with journal(tmp_path).open("a") as file:
        for name, value in facts.items():
            entry = {"op_code": 8, "worker_id": "x", "trial_id": number, "user_attr": {name: value}}
            file.write(json.dumps(entry) + "\n")
    (trial,) = ledger(tmp_path).trials()
    assert (trial.retries, trial.node_hours, trial.pruned_at, trial.continues) == (0, 0.0, None, None)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 30)


def _link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_text("mine\n")
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("plant", [_fifo, _sparse, _link, Path.mkdir])
def test_what_is_no_journal_is_refused_and_left_alone(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    journal(tmp_path).parent.mkdir()
    plant(journal(tmp_path))
    with pytest.raises(UserError):
        ledger(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    assert not elsewhere.exists() or elsewhere.read_text() == "mine\n"


def test_a_study_that_others_may_write_to_is_not_continued(tmp_path: Path) -> None:
    ledger(tmp_path)
    journal(tmp_path).parent.chmod(0o777)
    with pytest.raises(UserError, match="dubious permissions"):
        ledger(tmp_path)


class _Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def test_the_state_of_a_sampler_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for attack in (pickle.dumps(_Attack()), b"cos\nsystem\n(S'touch pwned'\ntR.", b"garbage", b""):
        with pytest.raises(UserError, match="refused"):
            read_state(attack.hex())
    with pytest.raises(UserError, match="refused"):
        read_state("no digits")
    assert not (tmp_path / "pwned").exists()


def test_a_planted_state_runs_no_code_in_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saman.tuning.trials import TrialOutcome

    monkeypatch.chdir(tmp_path)
    study = plan(tmp_path, sampler={"name": "cma_es", "startup_trials": 1}).study
    paths = StudyPaths.of(tmp_path, "t")
    book = Ledger(study, paths)
    trial = book.ask()
    attr = {"cma:optimizer:0": pickle.dumps(_Attack()).hex()}
    entry = {"op_code": 9, "worker_id": "x", "trial_id": trial.number, "system_attr": attr}
    with paths.journal.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    book.tell(trial.number, TrialOutcome.COMPLETE, [1.0])
    with pytest.raises(UserError, match="refused"):
        Ledger(study, paths).ask()
    assert not (tmp_path / "pwned").exists()


def test_a_true_state_is_read() -> None:
    import cmaes

    optimizer = cmaes.CMA(mean=np.zeros(2), sigma=1.0, bounds=np.array([[0.0, 1.0], [0.0, 1.0]]), seed=1)
    optimizer.tell([(optimizer.ask(), float(index)) for index in range(optimizer.population_size)])
    restored = read_state(pickle.dumps(optimizer).hex())
    assert restored.generation == optimizer.generation
    assert np.array_equal(restored.mean, optimizer.mean)


@pytest.mark.parametrize("url", ["garbage", "mysql//u:geheim@h/db", "sqlite:////nosuch/folder/x.db"])
def test_a_storage_that_cannot_be_opened_is_a_sentence_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="storage") as refused:
        Ledger(plan(tmp_path, storage=url).study, StudyPaths.of(tmp_path, "t"))
    assert "geheim" not in str(refused.value)


def test_a_study_in_a_folder_of_a_group_stays_its_owners(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to a group")
    os.chown(tmp_path, 0, 64301)
    tmp_path.chmod(0o2775)
    before = os.umask(0o002)
    try:
        with hold_tuning(PLAN, tmp_path):
            ledger(tmp_path).ask()
        assert len(ledger(tmp_path).trials()) == 1
    finally:
        os.umask(before)
