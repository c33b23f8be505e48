"""Somebody is told how a run ends; no secret is told, and no failure of the telling fails the run."""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ranks import Ranks, Seen
from runs_to_watch import running

from saman.configs.schemas.monitoring import Notify
from saman.configs.schemas.script import Script
from saman.launcher.local import run_script
from saman.launcher.monitoring.telling import told_of_end, told_of_restart
from saman.launcher.planning import Options, gather_facts
from saman.runs.folder import RunFolder

FACTS = gather_facts()
SECRET = "s3cret-of-the-run"
KEEP = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"


class Hook:
    """A web server that remembers what is posted, and answers with ``status``."""

    def __init__(self, status: int = 200, pause: float = 0.0) -> None:
        posted: list[dict[str, Any]] = []
        self.posted = posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                time.sleep(pause)
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hooks/{SECRET}"


def run(ranks: Ranks, program: str, notify: dict[str, Any], view: Seen | None = None, **launch: Any) -> RunFolder:
    spec = ranks.spec(program, ranks=1, **launch).model_copy(update={"notify": Notify.model_validate(notify)})
    spec = Script.model_validate(spec.resolved())
    run_script(spec, Options(runs_dir=ranks.folder / "runs", facts=FACTS), view)
    return ranks.run_folder()


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    return Ranks(tmp_path)


def told(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize(
    ("program", "launch", "occasions"),
    [
        ("pass", {}, ["completion"]),
        ("raise SystemExit(1)", {}, ["failure"]),
        ("raise SystemExit(85)", {}, ["requeue"]),
        ("import os\nif os.environ['SAMAN_ATTEMPT'] == '1': os.kill(os.getpid(), 9)",
         {"restart": {"times": 1, "backoff": "1s"}}, ["restart", "completion"]),
    ],
    ids=["completion", "failure", "requeue", "restart"],
)  # fmt: skip
def test_command_and_webhook_are_told(ranks: Ranks, program: str, launch: Any, occasions: list[str]) -> None:
    hook, file = Hook(), ranks.folder / "told"
    made = run(ranks, program, {"command": [sys.executable, "-c", KEEP, str(file)], "webhook": hook.url}, **launch)
    assert [each["occasion"] for each in told(file)] == occasions
    assert hook.posted == told(file)
    last = told(file)[-1]
    assert last["run"] == made.id and last["attempt"] == len(occasions) and made.id in last["text"]


@pytest.mark.parametrize(
    ("changes", "occasions"),
    [
        (["failed", "preempted"], ["requeue"]),
        (["preempted", "cancelled"], []),
        (["preempted", "failed"], ["failure"]),
        (["completed", "publish_failed"], ["completion"]),
        (["restarting"], []),  # told when it was decided
        ([], []),
    ],
)
def test_only_the_last_word_is_told(tmp_path: Path, changes: list[str], occasions: list[str]) -> None:
    file = tmp_path / "told"
    made = running(tmp_path, notify={"command": [sys.executable, "-c", KEEP, str(file)]})
    made.append("failed", "supervisor", 1, message="long ago")
    with told_of_end(made):
        for kind in changes:
            made.append(kind, "job", 2, reason="because")
    assert [each["occasion"] for each in told(file)] == occasions


@pytest.mark.parametrize(("who", "occasions"), [("supervisor", []), ("job", ["restart"]), (None, ["restart"])])
def test_the_attempt_after_one_whose_supervisor_was_lost_is_told(
    tmp_path: Path, who: str | None, occasions: list[str]
) -> None:
    hook = Hook()
    made = running(tmp_path, notify={"webhook": hook.url})
    if who is not None:  # a job records the loss of the attempt before
        made.append("preempted", who, 1, reason="the last attempt left no record of its end")
    with told_of_restart(made, made.spec().notify, 2):
        deadline = time.monotonic() + 30
        while len(hook.posted) < len(occasions) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert [each["occasion"] for each in hook.posted] == occasions


def test_a_server_that_hangs_does_not_keep_a_job_that_is_taken_away_from_its_requeue(tmp_path: Path) -> None:
    made = running(tmp_path, notify={"webhook": Hook(pause=250.0).url, "timeout_seconds": 300.0})
    began = time.monotonic()
    with told_of_end(made, in_a_hurry=lambda: True):
        made.append("preempted", "job", 1, reason="preempted")
    assert time.monotonic() - began < 60
    assert "no answer within its time limit" in made.events()[-1].facts["text"]


def test_no_secret_is_told_or_recorded(ranks: Ranks) -> None:
    hook, file, view = Hook(500), ranks.folder / "told", Seen()
    program = f"raise SystemExit('cannot log in with {SECRET}')"
    notify = {"command": [sys.executable, "-c", f"{KEEP}; sys.exit('bad {SECRET}')", str(file)], "webhook": hook.url}
    made = run(ranks, program, notify, view, environment={"API_TOKEN": SECRET})
    assert told(file) and hook.posted  # both were told
    problems = [event.facts["text"] for event in made.events() if "nobody was told" in str(event.facts.get("text"))]
    assert len(problems) == 2 and "the server answered 500" in problems[1] and "exited with 1" in problems[0]
    # The rank's record keeps the words that the program printed itself.
    recorded = [json.dumps(event.facts) for event in made.events() if event.who == "supervisor"]
    everything = [*view.said, file.read_text(), json.dumps(hook.posted), *recorded]
    assert not [text for text in everything if SECRET in text]
    assert SECRET not in json.dumps(made.spec().written()["notify"]["webhook"])


def test_a_command_that_hangs_a_server_that_is_gone_and_one_that_waits_do_not_hold_the_run_up(ranks: Ranks) -> None:
    hook = Hook(pause=60.0)
    gone = {"command": ["/no/such/program"], "webhook": "http://127.0.0.1:9/", "timeout_seconds": 1.0}
    hang = {"command": ["sleep", "60"], "webhook": hook.url, "timeout_seconds": 1.0}
    for notify in (gone, hang):
        began = time.monotonic()
        made = run(ranks, "pass", notify)
        assert made.state.value == "completed" and time.monotonic() - began < 50
        problems = [event for event in made.events() if "nobody was told" in str(event.facts.get("text"))]
        assert len(problems) == 2
