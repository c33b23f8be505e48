"""The installed sbatch decides which extra options a cluster file may have; what it refuses is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster
from tests.slurm.stubs import calls, stubs

from saman.configs.errors import UserError
from saman.slurm.site.sbatch_check import check_extra_options, installed_options

HELP = """Usage: sbatch [OPTIONS(0)...]
  -A, --account=name          charge job
      --mail-type=type        notify on state change
  -B  --extra-node-info=S[:C[:T]]  combine request

Options provided by plugins:
      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH
"""
SBATCH = f"""case "$*" in
  --help) cat <<'H'
{HELP}H
    ;;
  --version) echo "slurm 24.05.1" ;;
  *--mail-type=BOGUS*) echo "sbatch: error: Invalid --mail-type specification" >&2; exit 255 ;;
  *--contaner*|*--prefer*) echo "sbatch: unrecognized option '$1'" >&2; exit 255 ;;
esac"""


def test_the_help_of_sbatch_names_its_options_and_those_of_plugins() -> None:
    assert installed_options(HELP) == {"account", "mail-type", "extra-node-info", "container-image"}


def test_every_refused_line_is_explained_with_the_nearest_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", stubs(tmp_path, {"sbatch": SBATCH}))
    lines = ["--mail-type=END", "--mail-type=BOGUS", "--contaner-image=x", "--prefer=a"]
    with pytest.raises(UserError) as refused:
        check_extra_options(lines, "site.yaml")
    value, invented, newer = refused.value, *refused.value.others
    assert "Invalid --mail-type specification" in value.problem
    assert "no release and no plugin" in invented.problem and "--container-image" in str(invented.remedy)
    assert "another release of Slurm" in newer.problem and "24.05.1" in newer.problem
    assert {each.where for each in (value, invented, newer)} == {"site.yaml: sbatch"}


def test_lines_that_sbatch_takes_cost_a_single_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", stubs(tmp_path, {"sbatch": SBATCH}))
    check_extra_options(["--mail-type=END", "--container-image=x"], "site.yaml")
    check_extra_options([], "site.yaml")
    assert calls(tmp_path) == ["sbatch --mail-type=END --container-image=x --version"]


@pytest.mark.slurm
def test_the_real_sbatch_is_asked_and_submits_nothing(minicluster: Minicluster) -> None:
    before = minicluster.run("squeue", "-h", "-t", "all", "-o", "%i").stdout
    check_extra_options(["--mail-type=END", "--nice=5", "--hint=nomultithread"], "x")
    for line, reason in [
        ("--mail-typ3=END", "--mail-type"),
        ("--begin=nonsense", "Invalid"),
        ("--segment=4", "release"),
    ]:
        with pytest.raises(UserError) as refused:
            check_extra_options([line], "x")
        assert reason in str(refused.value)
    assert minicluster.run("squeue", "-h", "-t", "all", "-o", "%i").stdout.count("\n") >= before.count("\n")
