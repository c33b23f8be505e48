"""Finds the study or the runs of a report by name or path, and the planned runs that are missing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.home_folder import in_home
from saman.runs.find import find_run
from saman.runs.folder import RunFolder
from saman.runs.forecast_log import ForecastLog
from saman.runs.paths.runs_folder import StudyPaths
from saman.runs.records.study import StudyRecord
from saman.runs.studies import find_study, planned_digest
from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.findings import Finding, FindingKind
from saman.scaling.analysis.results import read_runs
from saman.scaling.analysis.run_values import MeasuredRun, Run
from saman.scaling.analysis.shared_nodes import review_sharing


@dataclass(frozen=True)
class ReportSource:
    """The run folders of a report. ``study`` is the content of ``study.json`` for the folder of a study."""

    title: str
    paths: tuple[Path, ...]
    study: StudyRecord | None

    @property
    def warmup_windows(self) -> int:
        """Windows to leave out at the start of every run."""
        return int(self._setting("warmup_windows", 0))

    @property
    def base_ranks(self) -> int:
        """Rank count of the baseline."""
        return int(self._setting("base_ranks", 1))

    @property
    def predict(self) -> tuple[int, ...] | None:
        """Rank counts to predict, where the study names them."""
        return tuple(self._setting("predict", ())) or None

    @property
    def rerun(self) -> tuple[str, ...]:
        """Commands that run the study again, beside its present runs; none for runs without a study."""
        if self.study is None:
            return ()
        file = self.study.file or self.title
        again = f"{self.title}-again"
        return (
            f"saman study {shlex.quote(file)} --runs-dir {shlex.quote(again)}",
            f"saman report {shlex.quote(self.title)} --runs-dir {shlex.quote(again)}",
        )

    def _setting(self, key: str, default: Any) -> Any:
        return self.study.study.get(key, default) if self.study else default


def find_source(words: Sequence[str], runs_dir: Path) -> ReportSource:
    """Find a study or runs.

    Args:
        words: A single word names a study (by name, file or folder), an experiment (all its runs) or a run; several
            words name runs.
        runs_dir: Folder of the runs.

    Raises:
        UserError: Nothing has this name, or the study has no runs.
    """
    if len(words) == 1:
        folder = _folder(words[0], runs_dir)
        if folder is not None:
            return _folder_source(folder)
    paths = tuple(find_run(word, runs_dir).path for word in words)
    return ReportSource(", ".join(words) if len(words) < 4 else f"{len(words)} runs", paths, None)


def _folder(word: str, runs_dir: Path) -> Path | None:
    """The folder of a study's or an experiment's runs."""
    study = find_study(word, runs_dir)
    if study is not None:
        if not study.path.is_dir():
            name = study.path.name
            raise UserError(f"the study {name} has no runs in {runs_dir}", remedy=f"saman study {word}")
        return study.path
    for folder in (in_home(word), runs_dir / word):
        if StudyPaths(folder).experiment_runs():
            return folder
    return None


def _folder_source(folder: Path) -> ReportSource:
    study = StudyPaths(folder)
    return ReportSource(folder.resolve().name, tuple(study.experiment_runs()), StudyRecord.read(study.record))


def read_source(
    source: ReportSource, predict_at: Sequence[int] | None = None, forecasts: ForecastLog | None = None
) -> Analysis:
    """Read and analyse the runs of a source.

    Args:
        source: A study or runs. Of a study only planned runs are analysed; other runs in its folder are a finding.
        predict_at: Rank counts to predict; by default those of the study.
        forecasts: The log of recorded forecasts.
    """
    runs = read_runs(source.paths, source.warmup_windows)
    found: list[Finding] = []
    if source.study is not None:
        runs, found = _keep_planned(runs, source.study)
        found += _sharing(runs, source.study)
    wanted = tuple(predict_at) if predict_at else source.predict
    return analyse(runs, base_ranks=source.base_ranks, predict_at=wanted, findings=found, forecasts=forecasts)


def _sharing(runs: Sequence[Run], study: StudyRecord) -> list[Finding]:
    measured = [run for run in runs if isinstance(run, MeasuredRun)]
    on_cluster = sum(RunFolder(run.facts.path).slurm.cluster.is_file() for run in measured)
    return list(review_sharing(measured, on_cluster, study.study.get("whole_nodes") is False))


def _keep_planned(runs: Sequence[Run], study: StudyRecord) -> tuple[list[Run], list[Finding]]:
    """The runs in the study's plan, with findings about missing repeats and about other runs."""
    repeats = study.repeats
    digests = {run.facts.id: planned_digest(RunFolder(run.facts.path), repeats) for run in runs}
    done = [digest for run in runs if isinstance(run, MeasuredRun) and (digest := digests[run.facts.id])]
    found = []
    for digest, lack in study.missing(done).items():
        settings = ", ".join(f"{key} {value}" for key, value in study.settings[digest].items())
        text = f"{settings}: {lack} of {repeats[digest]} repeats are missing"
        found.append(Finding(FindingKind.MISSING_RUNS, text))
    kept = [run for run in runs if digests[run.facts.id]]
    others = len(runs) - len(kept)
    if others:
        text = f"{others} runs in the folder are not in the study's present plan"
        found.append(Finding(FindingKind.OTHER_RUNS, text))
    return kept, found
