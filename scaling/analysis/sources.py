"""Finds the study or the runs of a report by name or path, and the planned runs that are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.files import read_json
from saman.runs.find import find_run
from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.findings import Finding, FindingKind
from saman.scaling.analysis.results import read_runs
from saman.scaling.analysis.run_values import MeasuredRun, Run


@dataclass(frozen=True)
class ReportSource:
    """The run folders of a report. ``study`` is the content of ``study.json`` for the folder of a study."""

    title: str
    paths: tuple[Path, ...]
    study: dict[str, Any] | None

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

    def _setting(self, key: str, default: Any) -> Any:
        return (self.study or {}).get("study", {}).get(key, default)


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
    path = Path(word).expanduser()
    if path.suffix in (".yaml", ".yml") or _is_shipped(word):
        from saman.configs.loading.studies import load_study

        name = load_study(word)[0].name
        if not (runs_dir / name).is_dir():
            raise UserError(f"the study {name} has no runs in {runs_dir}", remedy=f"saman study {word}")
        return runs_dir / name
    for folder in (path, runs_dir / word):
        if folder.is_dir() and (any(folder.glob("*/experiment.yaml")) or (folder / "study.json").is_file()):
            return folder
    return None


def _is_shipped(word: str) -> bool:
    from saman.configs.loading.files import shipped

    return word in shipped("studies")


def _folder_source(folder: Path) -> ReportSource:
    known = read_json(folder / "study.json")
    paths = sorted(path.parent for path in folder.glob("*/experiment.yaml"))
    study = known if isinstance(known, dict) and known.get("schema") == 1 else None
    return ReportSource(folder.resolve().name, tuple(paths), study)


def read_source(source: ReportSource, predict_at: Sequence[int] | None = None) -> Analysis:
    """Read and analyse the runs of a source.

    Args:
        source: A study or runs. Of a study only planned runs are analysed; other runs in its folder are a finding.
        predict_at: Rank counts to predict; by default those of the study.
    """
    runs = read_runs(source.paths, source.warmup_windows)
    found: list[Finding] = []
    if source.study is not None:
        runs, found = _keep_planned(runs, source.study)
    wanted = tuple(predict_at) if predict_at else source.predict
    return analyse(runs, base_ranks=source.base_ranks, predict_at=wanted, findings=found)


def _keep_planned(runs: Sequence[Run], study: dict[str, Any]) -> tuple[list[Run], list[Finding]]:
    """The runs in the study's plan, with findings about missing repeats and about other runs."""
    planned = study.get("runs") or []
    wanted = Counter(str(run.get("digest")) for run in planned)
    settings_of = {str(run.get("digest")): run.get("settings") or {} for run in planned}
    done = Counter(run.facts.digest for run in runs if isinstance(run, MeasuredRun))
    found = []
    for digest, count in wanted.items():
        lack = count - done[digest]
        if lack > 0:
            settings = ", ".join(f"{key} {value}" for key, value in settings_of[digest].items())
            found.append(Finding(FindingKind.MISSING_RUNS, f"{settings}: {lack} of {count} repeats are missing"))
    kept = [run for run in runs if run.facts.digest in wanted]
    others = len(runs) - len(kept)
    if others:
        text = f"{others} runs in the folder are not in the study's present plan"
        found.append(Finding(FindingKind.OTHER_RUNS, text))
    return kept, found
