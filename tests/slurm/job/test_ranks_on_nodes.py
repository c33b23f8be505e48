"""Ranks on a real Slurm: placed as planned, in the site's software, with their own GPUs."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, happened, printed, script, site, standing, submitted, told, wait_for

from saman.configs.loading.experiments import load_experiment
from saman.jobs.cancel import cancel_runs
from saman.runs.ranks.attempt_ranks import read_record
from saman.slurm.site import client
from saman.slurm.submission import planning
from saman.slurm.submission import submit as slurm
from saman.slurm.submission.code_copy import code_copy

pytestmark = pytest.mark.slurm


HOSTILE = [
    "two words",
    "it's",
    'say "x"',
    "$(touch PWNED)",
    "`touch PWNED`",
    "a\nb",
    "ü 数据 🙂",
    "a,b",
    "*",
    "",
    "\\",
    "-x",
]


def test_every_rank_lands_where_planned_and_hostile_text_arrives_intact(minicluster: Minicluster) -> None:
    home = minicluster.shared / "a folder with 'quotes', \"more\", $HOME, 100% & ü"
    home.mkdir()
    (home / "show.py").write_text(
        "import json, os, sys\n"
        "facts = [sys.argv[1:], os.environ['FROM_CLUSTER'], os.environ['FROM_RUN'], os.getcwd()]\n"
        "open(os.environ['SAMAN_RUN'] + '/said-' + os.environ['SAMAN_PROCESS'], 'w').write(json.dumps(facts))\n"
    )
    nasty = "a,b='$(touch PWNED)'\n\"x\" ü"
    spec = script("hostile", ["python3", "show.py", *HOSTILE], home, nodes=4)
    spec = spec.model_copy(update={"launch": spec.launch.model_copy(update={"environment": {"FROM_RUN": nasty}})})
    cluster = site(environment={"FROM_CLUSTER": nasty.replace("$", "$$")}, sbatch=["--comment=$(touch PWNED)"])
    plan = planning.plan(spec, cluster, home / "runs 'of' $mine", "main", {})
    copy = code_copy(spec, (home,), home / "runs 'of' $mine")
    assert copy is not None
    run = slurm.submit(plan, (home,), copy).run
    (home / "show.py").write_text("raise SystemExit('edited while queued')\n")
    assert wait_for(run).state == "completed", told(run)
    attempt = run.attempt(1)
    nodes = [record.node for rank in range(4) if (record := read_record(attempt, rank))]
    assert nodes == ["node1", "node2", "node3", "node4"]
    for process in range(4):
        arguments, of_cluster, of_run, where = json.loads((run.path / f"said-{process}").read_text())
        assert (arguments, of_cluster, of_run) == (HOSTILE, nasty, nasty)
        assert Path(where) == home
    assert not list(minicluster.shared.rglob("PWNED")) and not list(minicluster.root.glob("spool/**/PWNED"))


def test_a_job_that_silently_runs_on_one_node_fails(minicluster: Minicluster) -> None:
    shim = minicluster.shared / "shim"
    shim.mkdir()
    real = client.ask(["which", "srun"]).out.strip()
    (shim / "srun").write_text(
        "#!/bin/bash\nargs=()\n"
        'for word in "$@"; do\n'
        "  case $word in --nodes=*) word=--nodes=1;; --nodelist=*) word=--nodelist=node1;; "
        "--ntasks-per-node=*) word=--ntasks-per-node=2;; esac\n"
        f'  args+=("$word")\ndone\nexec {real} --overcommit "${{args[@]}}"\n'
    )
    (shim / "srun").chmod(0o755)
    cluster = site(environment={"PATH": f"{shim}:{os.environ['PATH']}"})
    run = submitted(bash("elsewhere", "sleep 1", minicluster.shared, nodes=2), cluster, minicluster.shared).run
    status = wait_for(run)
    assert status.state == "failed", told(run)
    assert "was planned on node2, but is on node1" in status.detail


def test_ranks_run_in_the_image_where_the_site_has_containers_only(minicluster: Minicluster) -> None:
    folder = minicluster.shared / "apptainer"
    folder.mkdir()
    image = "/images/it's $(touch PWNED).sif"
    (folder / "apptainer").write_text(  # stands for the real program: shows its options, runs what follows the image
        '#!/bin/bash\nprintf "%s\\n" "$@" >"$SAMAN_RUN/options"\n'
        f'while [ "$1" != {shlex.quote(image)} ]; do shift; done; shift; exec "$@"\n'
    )
    (folder / "apptainer").chmod(0o755)
    cluster = site(
        container={"image": image, "binds": ["/a b:/c:ro"]}, environment={"PATH": f"{folder}:{os.environ['PATH']}"}
    )
    text = 'echo "rank $SAMAN_PROCESS in the image"'
    run = submitted(bash("image", text, minicluster.shared), cluster, minicluster.shared).run
    assert wait_for(run).state == "completed", told(run)
    assert "rank 0 in the image" in printed(run)
    options = (run.path / "options").read_text().splitlines()
    assert options[:4] == ["exec", "--bind", "/a b:/c:ro", "--bind"] and image in options
    assert not list(minicluster.shared.rglob("PWNED"))


def test_the_sites_modules_are_loaded_and_one_that_is_missing_is_named(minicluster: Minicluster) -> None:
    if not any(Path(file).is_file() for file in ("/etc/profile.d/modules.sh", "/etc/profile.d/lmod.sh")):
        pytest.skip("no Environment Modules or Lmod here (apt-get install environment-modules)")
    folder = minicluster.shared / "modules of 'ours'"
    (folder / "tool").mkdir(parents=True)
    text = '#%Module1.0\nsetenv TOOL_SAYS "from the module"\nprepend-path PATH /opt/tool\n'
    (folder / "tool" / "1.0").write_text(text)
    modules = {"purge": True, "use": [str(folder)], "load": ["tool/1.0"]}
    text = 'echo "$TOOL_SAYS"; echo "$PATH"'
    cluster = site(software={"modules": modules, "python": sys.executable})
    loaded = submitted(bash("modules", text, minicluster.shared), cluster, minicluster.shared).run
    cluster = site(software={"modules": {**modules, "load": ["tool/2.0"]}, "python": sys.executable})
    missing = submitted(bash("no-module", text, minicluster.shared), cluster, minicluster.shared)
    assert wait_for(loaded).state == "completed", told(loaded)
    says, path = printed(loaded).splitlines()
    assert says == "from the module" and "/opt/tool" in path.split(":")
    until(lambda: client.queue()[missing.job].state.ended, 20)
    assert "saman: module load tool/2.0 failed on node" in (missing.run.path / "slurm" / "job.out").read_text()
    until(lambda: (client.accounting([missing.job]) or {})[missing.job].code == 3, 20)


@pytest.mark.parametrize("dialect", ["gres", "gpus-per-node", "gpus-per-task"])
def test_every_rank_records_the_gpus_that_the_job_has_on_its_node(minicluster: Minicluster, dialect: str) -> None:
    cluster = site(gpus={"request": dialect, "typed": True})
    text = 'echo "$CUDA_VISIBLE_DEVICES"; sleep 1'
    spec = bash(f"gpus-{dialect}", text, minicluster.shared, nodes=2, ranks_per_node=2, gpus_per_rank=1)
    done = submitted(spec, cluster, minicluster.shared)
    shown = client.show_job(done.job)
    assert shown["TresPerTask" if dialect == "gpus-per-task" else "TresPerNode"] == {
        "gres": "gres:gpu:fake:2", "gpus-per-node": "gres:gpu:fake:2", "gpus-per-task": "gres:gpu:fake:1",
    }[dialect]  # fmt: skip
    assert wait_for(done.run).state == "completed", told(done.run)
    attempt = done.run.attempt(1)
    for rank in range(4):  # programs choose theirs by local rank among the node's
        record = read_record(attempt, rank)
        assert record is not None and len(set(record.gpus)) == 2, record
        assert printed(done.run, rank) == ",".join(record.gpus) + "\n"


def test_a_rank_of_an_experiment_gets_its_own_gpu_where_requests_are_per_task(minicluster: Minicluster) -> None:
    changes = ["model.build=mlp", "resources.nodes=2", "resources.ranks_per_node=2", "resources.gpus_per_rank=1",
               "resources.cpus_per_rank=1", "resources.memory_per_rank=1G", "train.strategy=horovod"]  # fmt: skip
    spec = load_experiment("quickstart", ["name=own-gpu", *changes]).experiment
    cluster = site(gpus={"request": "gpus-per-task", "typed": True})
    run = submitted(spec, cluster, minicluster.shared).run
    until(lambda: happened(run, [("rank_started", 1)] * 4), 60)
    list(cancel_runs([run]))
    found = {(event.facts["node"], *event.facts["gpus"]) for event in run.events() if event.kind == "rank_started"}
    assert len(found) == 4 and all(len(cores) == 2 for cores in found), found


def test_a_failing_rank_is_named_with_its_exit_code(minicluster: Minicluster) -> None:
    text = 'echo "last words of $SAMAN_PROCESS"; [ $SAMAN_PROCESS = 1 ] && exit 7; sleep 30'
    run = submitted(bash("fails", text, minicluster.shared, nodes=2), site(), minicluster.shared).run
    status = wait_for(run)
    assert (status.state, status.first_failing_rank) == ("failed", 1), told(run)
    assert "exit" in status.detail and "7" in status.detail
    until(lambda: client.accounting([status.job or ""]), 15)
    assert standing(run).exit_code == 1
