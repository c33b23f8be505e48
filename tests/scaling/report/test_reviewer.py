"""The twelve rules of Hoefler and Belli: met by evidence in the report, or broken by what is missing from it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Made, curve, write_runs

from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.results import read_runs
from saman.scaling.report.reviewer import RuleCheck, review_rules

GOOD = Made(step_seconds=0.8, windows=60, noise=0.01, between=0.01, cores_per_rank=16)


def _analysis(folder: Path, runs: list[Made]) -> Analysis:
    return analyse(read_runs(write_runs(folder, runs)))


def _broken(folder: Path, runs: list[Made]) -> dict[int, RuleCheck]:
    return {check.number: check for check in review_rules(_analysis(folder, runs)) if not check.met}


def test_a_complete_study_meets_all_rules_and_shows_its_evidence(tmp_path: Path) -> None:
    """The largest counts fill the nodes of 64 cores; eight repeats, three counts, one series."""
    checks = review_rules(_analysis(tmp_path / "r", curve(GOOD, (1, 2, 4), 0.02, 8)))
    assert [check.number for check in checks] == list(range(1, 13))
    assert all(check.met and check.evidence and not check.missing for check in checks)
    assert "horovod on 1 rank, a single process, 32" in checks[0].evidence  # 320 samples/s
    assert "24 of 24 runs count" in checks[1].evidence
    assert "3 of 3 points have an interval" in checks[4].evidence


BREAKS = {
    1: [replace(run, ranks=2 * run.ranks) for run in curve(GOOD, (1, 2, 4), 0.02, 6)],
    2: [replace(run, cores_per_rank=2) for run in curve(GOOD, (1, 2, 4), 0.02, 6)],
    5: curve(GOOD, (1, 2, 4), 0.02, 3),
    7: curve(GOOD, (1, 2, 4), 0.02, 2) + curve(replace(GOOD, strategy="multi_worker"), (1, 2, 4), 0.05, 2),
    8: [replace(run, windows=12) for run in curve(GOOD, (1, 2, 4), 0.02, 6)],
    10: curve(replace(GOOD, exchange_seconds=None), (1, 2, 4), 0.02, 6),
    11: [replace(run, ranks=2 * run.ranks) for run in curve(GOOD, (1, 2, 4), 0.02, 6)],
    12: curve(GOOD, (1, 4), 0.02, 6),
}


@pytest.mark.parametrize("number", BREAKS)
def test_what_is_missing_breaks_its_rule(number: int, tmp_path: Path) -> None:
    broken = _broken(tmp_path / "r", BREAKS[number])
    assert number in broken
    assert broken[number].missing


def test_unknown_hardware_breaks_the_rule_on_set_ups(tmp_path: Path) -> None:
    paths = write_runs(tmp_path / "r", curve(GOOD, (1, 2, 4), 0.02, 6))
    for path in paths:
        (path / "attempts/1/provenance.json").unlink()
    broken = {check.number: check for check in review_rules(analyse(read_runs(paths))) if not check.met}
    assert "hardware" in broken[9].missing and "software" in broken[9].missing


def test_without_a_curve_no_rule_is_met(tmp_path: Path) -> None:
    assert len(_broken(tmp_path / "r", [replace(GOOD, state="failed")])) == 12


def test_the_command_prints_the_rules_and_tells_by_its_exit_status(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs" / "good", curve(replace(GOOD, noise=0.005), (1, 2, 4), 0.02, 8))
    write_runs(tmp_path / "runs" / "short", curve(replace(GOOD, noise=0.005, windows=12), (1, 2, 4), 0.02, 8))

    def report(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "saman", "report", *words, "--no-papers", "-o", "out"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    good = report("good", "--reviewer", "--json")
    told = json.loads(good.stdout)
    assert [rule["number"] for rule in told["rules"]] == list(range(1, 13))
    assert good.returncode == 0, told
    short = report("short", "--reviewer")
    assert short.returncode == 1
    assert short.stdout.count("met ") == 11 and "20 windows" in " ".join(short.stdout.split())
    assert report("short").returncode == 0
    assert report("good", "short", "--reviewer", "--compare").returncode == 2
