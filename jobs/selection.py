"""Finds runs by name: a folder, an id, an experiment's newest run, the last run, or all runs of a study."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saman.runs.folder import RunFolder


def found_runs(texts: list[str] | None, runs_dir: Path, newest: int = 0) -> list[RunFolder]:
    """Find the runs that ``texts`` name, each once; without texts, the ``newest`` ones.

    Raises:
        UserError: a text names no run, or several.
    """
    from saman.runs.find import find_run, find_runs

    if not texts:
        return find_runs(runs_dir)[-newest:]
    found: dict[Path, RunFolder] = {}
    for text in texts:
        folder = study_folder(text, runs_dir)
        for run in [find_run(text, runs_dir)] if folder is None else study_runs(folder):
            found[run.path.resolve()] = run
    return list(found.values())


def study_folder(text: str, runs_dir: Path) -> Path | None:
    """Find the folder of a study by its name, file or folder; ``None`` if ``text`` names no study."""
    path = Path(text)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        from saman.configs.loading.studies import load_study

        return runs_dir / load_study(text)[0].name
    for folder in (runs_dir / text, path):
        if (folder / "study.json").is_file():
            return folder
    return None


def study_runs(folder: Path) -> list[RunFolder]:
    """A study's runs, oldest first: for each repeat a completed one, else one under way, else the newest.

    Runs that later ones have replaced are left out. Raises ``UserError`` where the study has none.
    """
    from saman.configs.errors import UserError
    from saman.configs.files import read_json
    from saman.runs.events import State
    from saman.runs.find import find_runs

    written = read_json(folder / "study.json")
    planned = written.get("runs", []) if isinstance(written, dict) else []
    repeats = Counter(str(one.get("digest")) for one in planned)
    alike: dict[str, list[RunFolder]] = defaultdict(list)
    for run in reversed([one for one in find_runs(folder.parent) if one.experiment_name == folder.name]):
        alike["" if run.is_script else run.experiment().digest()].append(run)
    kept: list[RunFolder] = []
    for digest, count in repeats.items():
        ranked = sorted(alike[digest], key=lambda run: (run.state is not State.COMPLETED, run.state.ended))
        kept += ranked[:count]
    if not kept:
        raise UserError(f"the study {folder.name} has no runs in {folder.parent}", remedy="saman study starts them")
    return sorted(kept, key=lambda run: run.id)
