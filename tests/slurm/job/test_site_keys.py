"""The keys of a site on a real Slurm: what is exported, who shares a node, which software a job finds."""

from __future__ import annotations

import os

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, printed, site, submitted, told, wait_for

from saman.jobs import status as status_of_runs
from saman.slurm.site import client

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize("export", ["all", "none", "nil"])
def test_a_job_gets_the_submitting_shell_s_variables_only_where_the_site_exports_them(
    minicluster: Minicluster, export: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_LOGIN_SHELL", "here")
    # both with srun in the job: nothing of --export=NONE may reach the steps
    text = 'echo "of-the-shell=${OF_THE_LOGIN_SHELL:-none} given=$GIVEN home=$HOME user=$USER"'
    cluster = site(export=export, environment={"GIVEN": "by the site", "PATH": os.environ["PATH"]})
    run = submitted(bash(f"export-{export}", text, minicluster.shared, nodes=2), cluster, minicluster.shared).run
    assert wait_for(run).state == "completed", told(run)
    for rank in (0, 1):
        said = printed(run, rank)
        assert f"of-the-shell={'here' if export == 'all' else 'none'} given=by the site home=/" in said
        if export != "all":  # the job script sets it where nothing does
            assert not said.endswith("user=\n")


def test_a_node_is_shared_only_by_jobs_of_the_same_user(minicluster: Minicluster) -> None:
    done = submitted(bash("mine", "sleep 2", minicluster.shared), site(exclusive="user"), minicluster.shared)
    assert client.show_job(done.job)["OverSubscribe"] == "USER"
    assert wait_for(done.run).state == "completed", told(done.run)


def test_a_step_that_took_no_effect_ends_the_job_with_three_and_status_says_which(
    minicluster: Minicluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_of_runs, "LATE_EVENT_SECONDS", 1.0)  # all is on one file system
    file = minicluster.shared / "site's $env.sh"
    file.write_text("SITE_ROOT=/opt\n")
    path = str(file).replace("$", "$$")
    good, bad = ({"source": {"file": path, "sets": [name]}} for name in ("SITE_ROOT", "OTHER_ROOT"))
    text = 'echo "root $SITE_ROOT"'
    first = submitted(bash("set-up", text, minicluster.shared), site(setup=[good]), minicluster.shared).run
    second = submitted(bash("not-set-up", text, minicluster.shared), site(setup=[good, bad]), minicluster.shared)
    assert wait_for(first).state == "completed", told(first)
    assert printed(first) == "root /opt\n"

    def is_ended() -> bool:
        told_of = (client.accounting([second.job]) or {}).get(second.job)  # Slurm's accounting learns of it later
        return told_of is not None and told_of.state.ended

    until(is_ended, 30)
    status = wait_for(second.run)
    assert (status.state, status.exit_code) == ("failed", 3), told(second.run)
    sentence = f"saman: source {file} failed on "
    assert sentence in (second.run.path / "slurm/job.out").read_text()
    assert "it does not set OTHER_ROOT (setup[1].source of the cluster file)" in status.detail
    assert not second.run.attempts()
