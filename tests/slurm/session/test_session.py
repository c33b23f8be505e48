"""A shell and a Jupyter server on the nodes of a cluster; nobody but its user learns the server's token."""

from __future__ import annotations

import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, saman, site, told, wait_for
from typer.testing import CliRunner

from saman.cli.main import make_app
from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.cluster import Cluster
from saman.runs.folder import RunFolder
from saman.runs.ranks.notebook import NotebookRecord
from saman.slurm.session import notebook
from saman.slurm.session.notebook import notebook_script, require_jupyter, tunnel
from saman.slurm.session.server import free_port, listener, server_command
from saman.slurm.session.shell import salloc_command, session_text
from saman.slurm.submission import planning
from saman.slurm.submission.planning import SubmissionPlan

STAND_IN = """#!{python}
import http.server, os, sys
port = next(int(word.split("=")[1]) for word in sys.argv if word.startswith("--ServerApp.port="))
address = next(word.split("=")[1] for word in sys.argv if word.startswith("--ServerApp.ip="))
print("serving", sys.argv[1:], flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        right = self.headers.get("Authorization") == "token " + os.environ["JUPYTER_TOKEN"]
        self.send_response(200 if right else 403)
        self.end_headers()

http.server.HTTPServer((address, port), Handler).serve_forever()
"""


def plan(folder: Path, cluster: Cluster) -> SubmissionPlan:
    return planning.plan(bash("shell", "true", folder, nodes=2), cluster, folder / "runs", "main", {})


def test_the_allocation_has_the_request_and_the_set_up_of_a_job(tmp_path: Path) -> None:
    loaded = site(software={"modules": {"load": ["Python/3.11"]}}, constraint="a|b", environment={"A": "it's"})
    command = salloc_command(plan(tmp_path, loaded), ["node7"], ["saman", "run", "my file.yaml"])
    assert {"salloc", "--nodes=2", "--time=00:05:00", "--constraint=(a|b)", "--exclude=node7"} <= set(command)
    assert not [word for word in command if word.startswith(("--output", "--signal", "--requeue", "--open-mode"))]
    assert command[-3:-1] == ["bash", "-c"]
    text = command[-1]
    assert "module load Python/3.11" in text and text.endswith("\nexec saman run 'my file.yaml'")
    assert subprocess.run(["bash", "-n", "-c", text], check=False).returncode == 0
    said = subprocess.run(
        ["bash", "-c", session_text(plan(tmp_path, site(environment={"A": "it's"})), ["printenv", "A"])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "it's\n"


def test_a_shell_inside_an_allocation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n1")
    done = CliRunner().invoke(make_app(["shell", "run"]), ["shell", "--cluster", "minicluster"])
    assert "inside an allocation already" in str(done.exception)


def test_the_tunnel_ends_where_the_server_listens() -> None:
    loopback = NotebookRecord("node3", "127.0.0.1", 40123, "secret")
    named = NotebookRecord("node3", "10.0.0.3", 40123, "secret")
    user = notebook.getpass.getuser()
    assert tunnel(loopback, "me@login") == f"ssh -N -L 40123:127.0.0.1:40123 -J me@login {user}@node3"
    assert tunnel(named, "me@login") == "ssh -N -L 40123:10.0.0.3:40123 me@login"
    assert socket.getfqdn() in tunnel(named) and "secret" not in tunnel(named) + repr(named)


def test_the_server_gets_one_address_and_no_token_on_its_command_line() -> None:
    command = server_command("/opt/bin/jupyter-lab", "10.0.0.3", 40123)
    assert "--ServerApp.ip=10.0.0.3" in command and "--ServerApp.port_retries=0" in command
    assert not [word for word in command if "token" in word.lower()]


def test_the_user_who_listens_on_a_port_is_known() -> None:
    port = free_port("127.0.0.1")
    assert listener("127.0.0.1", port) is None
    with socket.create_server(("127.0.0.1", port)):
        assert listener("127.0.0.1", port) == os.geteuid()


def test_another_users_listener_is_not_taken_for_the_server(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text("head\n   0: 0100007F:9C40 00000000:0000 0A 0:0 00:0 0 4242 0 1\n")
    assert listener("127.0.0.1", 40000, table) == 4242


def test_jupyter_that_no_job_can_find_is_missed_before_the_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "find_jupyter", lambda: None)
    with pytest.raises(EnvironmentLack, match="not installed") as lack:
        require_jupyter(site())
    assert "pip install jupyterlab" in str(lack.value.remedy)
    require_jupyter(site(software={"virtualenv": "/opt/env"}))
    assert notebook_script(site(network={"interface": "ib0"}), Path("/"), {}).command[-1] == "ib0"


@pytest.fixture
def home(minicluster: Minicluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in of Jupyter on PATH."""
    folder = minicluster.shared / "session"
    folder.mkdir(exist_ok=True)
    program = folder / "bin" / "jupyter-lab"
    program.parent.mkdir(exist_ok=True)
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return folder


def status_of(url: str, token: str | None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"token {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slurm
def test_saman_run_in_a_shell_starts_on_the_nodes_of_the_allocation(home: Path) -> None:
    program = [sys.executable, "-m", "saman", "run", "-np", "2", "--all-ranks", "--", "printenv", "SLURMD_NODENAME"]
    options = ["--cluster", "minicluster", "--partition", "main", "--nodes", "2", "--time", "5"]
    done = saman(home, "shell", *options, "resources.cpus_per_rank=1", "--", *program)
    assert done.returncode == 0, done.stderr
    assert len({word for word in done.stdout.split() if word in ("node1", "node2", "node3", "node4")}) == 2, done.stdout


@pytest.mark.slurm
def test_a_shell_on_nodes_that_do_not_exist_is_refused_before_it_is_queued(home: Path) -> None:
    done = saman(home, "shell", "--cluster", "minicluster", "--partition", "main", "--exclude", "nosuch", "--", "true")
    assert done.returncode == 2 and "a node to use or to exclude does not exist" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "salloc" not in done.stderr


@pytest.mark.slurm
def test_a_jupyter_server_answers_its_user_only(home: Path) -> None:
    options = ["--cluster", "minicluster", "--partition", "main", "--cores", "1", "--time", "5", "--timeout", "90"]
    done = saman(home, "notebook", *options, "--login", "me@login", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    run = RunFolder.open(Path(found["run"]))
    record = NotebookRecord.read(run.notebook)
    assert record is not None and record.address == "127.0.0.1"
    try:
        assert stat.S_IMODE(run.notebook.stat().st_mode) == 0o600
        url = f"http://{record.address}:{record.port}/lab"
        assert (status_of(url, None), status_of(url, record.token)) == (403, 200)
        assert shlex.split(found["tunnel"])[3] == f"{record.port}:127.0.0.1:{record.port}"
        logs = [file for file in run.path.rglob("*") if file.is_file() and file != run.notebook]
        assert not [file for file in logs if record.token.encode() in file.read_bytes()]
        lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert record.token not in lines and record.token not in done.stdout + done.stderr
    finally:
        saman(home, "cancel", run.id)
    assert wait_for(run).state == "cancelled", told(run)
    until(lambda: listener(record.address, record.port) is None, 20)


@pytest.mark.slurm
def test_a_job_without_jupyter_says_so(home: Path) -> None:
    (home / "bin" / "jupyter-lab").unlink()
    options = ["--cluster", "minicluster", "--partition", "main", "--cores", "1", "--time", "5", "--timeout", "90"]
    python = f"software.python={sys.executable}"  # named in the cluster file, so that only the job can tell
    done = saman(home, "notebook", *options, "--set", python)
    assert done.returncode == 3 and "Jupyter is not installed on" in done.stderr, done.stderr
