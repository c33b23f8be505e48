"""What a report or a prediction is about: a study or runs, found by name or path, with what is missing of them."""

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
from saman.scaling.analysis.findings import Finding
from saman.scaling.analysis.results import Run, read_runs


@dataclass(frozen=True)
class ReportSource:
    """Run folders to look at, and what their study says of them where they are a study's."""

    title: str
    paths: tuple[Path, ...]
    study: dict[str, Any] | None

    @property
    def warmup_windows(self) -> int:
        """Windows that the study leaves out at the start of every run."""
        return int(self._said("warmup_windows", 0))

    @property
    def base_ranks(self) -> int:
        """The rank count that speed-ups are against."""
        return int(self._said("base_ranks", 1))

    @property
    def predict(self) -> tuple[int, ...] | None:
        """Rank counts that the study wants predicted."""
        return tuple(self._said("predict", ())) or None

    def _said(self, key: str, default: Any) -> Any:
        return (self.study or {}).get("study", {}).get(key, default)


def find_source(words: Sequence[str], runs_dir: Path) -> ReportSource:
    """The study or runs that a person means.

    One word may be a study (its name, its file, or the folder of its runs), an experiment's name (all its runs), or
    a run; several are runs. Raises ``UserError`` where there is nothing.
    """
    if len(words) == 1:
        folder = _folder(words[0], runs_dir)
        if folder is not None:
            return _of_folder(folder)
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


def _of_folder(folder: Path) -> ReportSource:
    known = read_json(folder / "study.json")
    paths = sorted(path.parent for path in folder.glob("*/experiment.yaml"))
    study = known if isinstance(known, dict) and known.get("schema") == 1 else None
    return ReportSource(folder.resolve().name, tuple(paths), study)


def read_source(source: ReportSource, predict_at: Sequence[int] | None = None) -> Analysis:
    """The runs of ``source`` read and analysed; of a study's runs only those in its plan, the others are named."""
    runs = read_runs(source.paths, source.warmup_windows)
    found: list[Finding] = []
    if source.study is not None:
        runs, found = _planned(runs, source.study)
    asked = tuple(predict_at) if predict_at else source.predict
    return analyse(runs, base_ranks=source.base_ranks, predict_at=asked, findings=found)


def _planned(runs: Sequence[Run], study: dict[str, Any]) -> tuple[list[Run], list[Finding]]:
    """The runs that belong to the study's plan, and which of it are missing or not in it."""
    planned = study.get("runs") or []
    wanted = Counter(str(run.get("digest")) for run in planned)
    told = {str(run.get("digest")): run.get("settings") or {} for run in planned}
    done = Counter(run.digest for run in runs if run.usable)
    found = []
    for digest, count in wanted.items():
        if done[digest] < count:
            what = ", ".join(f"{key} {value}" for key, value in told[digest].items())
            lack = count - done[digest]
            found.append(Finding("missing_runs", f"{lack} of {count} repeats of {what} are missing"))
    mine = [run for run in runs if run.digest in wanted]
    strangers = len(runs) - len(mine)
    if strangers:
        found.append(Finding("other_runs", f"{strangers} runs in the folder are not of the study as it is now planned"))
    return mine, found
