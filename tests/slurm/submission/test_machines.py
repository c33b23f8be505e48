"""docs/machines.md shows the job scripts of four machines as saman writes them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from saman.configs.loading.clusters import load_cluster
from saman.configs.loading.experiments import load_experiment
from saman.slurm.submission.planning import plan

PAGE = Path(__file__).parents[3] / "docs" / "machines.md"
EXAMPLE = re.compile(r"```\n(saman submit .*?)\n```\n\n```bash\n(.*?)```", re.DOTALL)


def examples() -> list[tuple[str, list[str], str]]:
    """Each cluster of the page with the changes of its command, and the script without the page's own comments."""
    found = []
    for command, block in EXAMPLE.findall(PAGE.read_text("utf-8")):
        words = shlex.split(command.replace("\\\n", ""))
        script = "".join(line for line in block.splitlines(keepends=True) if not line.startswith("## "))
        found.append(
            (words[words.index("--cluster") + 1], [word for word in words if word.startswith("resources.")], script)
        )
    return found


@pytest.mark.parametrize(("name", "changes", "shown"), examples(), ids=[name for name, _, _ in examples()])
def test_the_script_of_a_machine_is_what_saman_writes(name: str, changes: list[str], shown: str) -> None:
    spec = load_experiment("quickstart", changes).experiment
    text = plan(spec, load_cluster(name), Path("/scratch/ada/runs"), environ={}).text
    rest = text.removeprefix(shown.rstrip("\n"))
    assert rest != text, f"docs/machines.md no longer shows the script for {name}"
    whole = name == examples()[0][0]
    assert rest.strip() == "" if whole else rest.lstrip().startswith("# Slurm sends"), rest


def test_the_page_shows_the_machines_that_differ() -> None:
    scripts = {name: script for name, _, script in examples()}
    assert list(scripts) == ["perlmutter", "lumi-g", "fritz", "lab-server"]
    assert "--partition" not in scripts["perlmutter"] and "--qos=regular" in scripts["perlmutter"]
    assert "--export=NONE" in scripts["fritz"] and "unset SLURM_EXPORT_ENV" in scripts["fritz"]
    assert "--gres=gpu:2" in scripts["lab-server"]
