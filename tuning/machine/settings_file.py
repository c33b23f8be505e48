"""The file that ``saman autotune`` writes, and that an experiment includes."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.loading.files import set_key
from saman.runs.files.whole import write_whole
from saman.tuning.machine.design import changes_at
from saman.tuning.machine.search import SearchResult


def settings_lines(result: SearchResult, machine: str) -> list[str]:
    """The comments of the file: for what it holds, and what each setting gains."""
    factors, experiment = result.search.factors, result.search.loaded.experiment
    ranks = experiment.resources.ranks
    lines = [
        f"# Written by saman autotune for {experiment.name}, {ranks} {'ranks' if ranks > 1 else 'rank'}, on {machine}.",
        f"# For `include:` in the experiment. Gain in all, from {len(result.runs)} runs: {result.gain}.",
    ]
    for at, (factor, level) in enumerate(zip(factors, result.chosen, strict=True)):
        if level:
            lines.append(f"# {factor.name}: {factor.levels[level].name}: {result.effects.gain_of(at, level)}")
    if not any(result.chosen):
        lines.append("# No setting gains anything: the experiment stays as it is.")
    return lines


def write_settings(result: SearchResult, file: Path) -> None:
    """Write the chosen settings as a part of an experiment."""
    values: Any = {}
    for key, value in changes_at(result.search.factors, result.chosen).items():
        values = set_key(values, key.split("."), value, key)
    text = yaml12.dump(values) if values else "{}\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, "\n".join([*settings_lines(result, platform.node() or "this machine"), text]))
