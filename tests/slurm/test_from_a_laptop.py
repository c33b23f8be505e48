"""A session on a user's own machine: a real sshd on the loopback address, and the minicluster behind it."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.login_node import HOST, LoginNode, login_node

from saman.slurm.minicluster import environment

pytestmark = [pytest.mark.slurm, pytest.mark.ssh]

PAGE = (Path(__file__).parents[2] / "docs" / "laptop.md").read_text()
CLUSTER = re.search(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
SESSION = re.search(r"^## A session\n.*?^```\n(.*?)^```$", PAGE, re.M | re.S)
PROGRAM = """
import os, pathlib, time
attempt = int(os.environ["SAMAN_ATTEMPT"])
export = pathlib.Path(os.environ["SAMAN_RUN"], "export")
export.mkdir(exist_ok=True)
(export / "weights.bin").write_bytes(os.urandom(200_000))
(export / "facts").write_text(f"data {pathlib.Path('data.bin').exists()}, key {os.environ['API_KEY']}")
print(f"attempt {attempt}", flush=True)
for step in range(1200 if attempt == 1 else 3):
    print(f"step {step}", flush=True)
    time.sleep(0.25)
"""


def recorded() -> dict[str, list[str]]:
    """The commands of the session in the documentation, each with the lines that it prints there."""
    assert SESSION is not None
    found: dict[str, list[str]] = {}
    for line in SESSION[1].splitlines():
        if line.startswith("$ "):
            found[line.removeprefix("$ ")] = []
        else:
            found[list(found)[-1]].append(line)
    return found


@pytest.fixture(scope="module")
def node(minicluster: Minicluster) -> Iterator[LoginNode]:
    with login_node(environment(minicluster.root)) as made:
        yield made


@pytest.fixture(scope="module")
def laptop(minicluster: Minicluster, node: LoginNode) -> Path:
    """A project on the laptop, and its cluster file."""
    folder = node.folder / "laptop" / "my project"
    folder.mkdir(parents=True)
    for name, text in {"train.py": PROGRAM, ".gitignore": "data.bin\nruns/\n", "data.bin": "large"}.items():
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    assert CLUSTER is not None
    saman = Path(sys.executable).parent / "saman"
    places = {"$HOME/venv/bin/saman": str(saman), "$WORK/saman": str(minicluster.shared / "from laptops")}
    text = CLUSTER[1]
    for shown, real in places.items():
        assert shown in text
        text = text.replace(shown, real)
    (folder / "mysite.yaml").write_text(text)
    return folder


def typed(node: LoginNode, laptop: Path, line: str) -> subprocess.CompletedProcess[str]:
    command, variables = shlex.split(line, comments=True), {**node.laptop(), "API_KEY": "s3cret-of-ada"}
    return subprocess.run(command, cwd=laptop, env=variables, capture_output=True, text=True, timeout=120)


class Following:
    """``saman logs -f`` in the background."""

    def __init__(self, node: LoginNode, laptop: Path, command: list[str]) -> None:
        self.node = node
        self.process = subprocess.Popen(
            command, cwd=laptop, env=node.laptop(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.out, self.error = bytearray(), bytearray()
        for stream, taken in ((self.process.stdout, self.out), (self.process.stderr, self.error)):
            threading.Thread(target=self._read, args=(stream, taken), daemon=True).start()

    @staticmethod
    def _read(stream: object, taken: bytearray) -> None:
        while data := os.read(stream.fileno(), 4096):  # type: ignore[attr-defined]
            taken += data

    def lose_the_connection(self) -> None:
        """Let the connection drop while steps are printed, and wait until more are."""
        until(lambda: len(self.steps()) > 3, 120)
        self.node.drop()
        seen = len(self.steps())
        until(lambda: len(self.steps()) > seen + 8, 120)

    def steps(self) -> list[int]:
        return [int(step) for step in re.findall(rb"^step (\d+)$", bytes(self.out), re.M)]


def plain(text: str, laptop: Path, minicluster: Minicluster) -> list[str]:
    """Lines without what differs between two sessions: names, numbers, places and the width of columns."""
    places = {
        f"{socket.gethostname()}:{laptop}": "laptop:/home/ada/my project",
        str(laptop): "/home/ada/my project",
        str(minicluster.shared / "from laptops"): "/work/ada/saman",
    }
    for real, shown in places.items():
        text = text.replace(real, shown)
    text = re.sub(r"\d{8}-\d{6}-\d{3}-[0-9a-f]{6}", "ID", text)
    text = re.sub(r"my-project-[0-9a-f]{10}", "my-project-MARK", text)
    text = re.sub(r"[\d.]+ (bytes|KiB|MiB)", "SIZE", text)
    text = re.sub(r"\d+", "N", text)
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_session_of_the_documentation(node: LoginNode, laptop: Path, minicluster: Minicluster) -> None:
    follow: list[Following] = []
    for command, lines in recorded().items():
        if " logs -f " in command:
            # over a dropped connection: no line is lost, none comes twice
            follow.append(Following(node, laptop, shlex.split(command)))
            follow[0].lose_the_connection()
            printed = plain(bytes(follow[0].out + follow[0].error).decode(), laptop, minicluster)
            assert {*plain("\n".join(lines), laptop, minicluster)} <= {*printed}
            continue
        done = typed(node, laptop, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        expected = plain("\n".join(lines), laptop, minicluster)
        assert plain(done.stdout, laptop, minicluster) == expected, command
        if " cancel " in command:
            assert follow[0].process.wait(timeout=120) == 0, bytes(follow[0].error)
            assert follow[0].steps() == list(range(len(follow[0].steps())))
    (here,) = (laptop / "runs" / "train").iterdir()
    there = there_of(here)
    assert (here / "export" / "facts").read_text() == "data False, key s3cret-of-ada"
    assert (here / "export" / "weights.bin").read_bytes() == (there / "export" / "weights.bin").read_bytes()
    assert not (here / "secrets.json").exists()
    assert (there / "secrets.json").stat().st_mode & 0o077 == 0
    visible = [path for path in there.parents[2].rglob("*") if path.is_file() and path.stat().st_mode & 0o044]
    assert visible and not [path for path in visible if b"s3cret" in path.read_bytes() and path.name != "facts"]


def there_of(here: Path) -> Path:
    """The folder of a run on the other side."""
    record = json.loads((here / "remote.json").read_text())
    return Path(record["folder"]) / "runs" / here.parent.name / here.name


def test_an_interrupted_transfer_goes_on_where_it_stopped(node: LoginNode, laptop: Path) -> None:
    (found,) = (laptop / "runs" / "train").iterdir()
    there = there_of(found)
    (there / "export" / "large.bin").write_bytes(os.urandom(8 << 20))
    slow = node.folder / "bin" / "rsync"
    limited = '#!/bin/sh\n[ "$1" = --version ] || set -- --bwlimit=1500 "$@"\nexec /usr/bin/rsync "$@"\n'
    slow.write_text(limited)
    slow.chmod(0o755)
    fetching = subprocess.Popen(
        ["saman", "fetch", "last"],
        cwd=laptop,
        env=node.laptop(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = found / "export"
    until(lambda: any(path.stat().st_size > 1 << 20 for path in begun.glob(".large.bin.*")), 60, every=0.05)
    slow.unlink()
    node.drop()
    out, error = fetching.communicate(timeout=120)
    assert fetching.returncode == 0, error
    assert "was interrupted; it continues" in error
    assert (begun / "large.bin").read_bytes() == (there / "export" / "large.bin").read_bytes()
    assert not list(found.rglob(".saman-partial"))
    received = re.search(r"([\d.]+) MiB received", out)
    assert received and float(received[1]) < 7.2, out  # the rest alone


def test_a_login_node_that_takes_no_key_or_is_gone_says_so(node: LoginNode, laptop: Path) -> None:
    keys = node.folder / "key.pub"
    kept = keys.read_text()
    node.drop()
    try:
        keys.write_text("")
        until(lambda: not node.sessions(), 20)
        refused = typed(node, laptop, "saman cancel last")
    finally:
        keys.write_text(kept)
    assert refused.returncode == 3 and "accepts none of your keys" in refused.stderr
    assert refused.stderr.count("\n") == 2
    lines = (laptop / "mysite.yaml").read_text().replace(HOST, "nowhere.example.edu")
    (laptop / "gone.yaml").write_text(lines)
    gone = typed(node, laptop, "saman submit --cluster gone.yaml -- python train.py")
    assert gone.returncode == 3 and "no host has this name" in gone.stderr
