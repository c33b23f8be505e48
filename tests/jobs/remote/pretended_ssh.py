"""An ssh without a network: it runs the command on this machine, and fails as a real one does when told to."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from saman.runs.remote.remote_runs import RemoteProject

_SSH = """#!/bin/bash
echo "$*" >>{folder}/calls
while [[ $1 == -* ]]; do
  case $1 in
    -o) [[ $2 == ControlPath=* ]] && socket=${{2#*=}}; shift 2 ;;
    -E) log=$2; shift 2 ;;
    -O) op=$2; shift 2 ;;
    -fNT) op=open; shift ;;
    --) shift; break ;;
    *) shift ;;
  esac
done
shift
[[ $op == check && -s {folder}/down ]] && exit 255
if [[ -s {folder}/down ]]; then
  head -1 {folder}/down >"${{log:-/dev/stderr}}"; sed -i 1d {folder}/down
  exit 255
fi
case $op in
  check) exit 0 ;;
  open) touch "$socket"; exit 0 ;;
  exit) rm -f "$socket"; exit 0 ;;
esac
if [[ -e {folder}/cut ]]; then # the connection is lost after so many lines of the answer
  lines=$(cat {folder}/cut); rm {folder}/cut
  [[ $lines == 0 ]] && exit 255
  bash -c "$*" 2>/dev/null | sed -u "${{lines}}q"
  exit 255
fi
[[ $* == *rsync* && ! -e {folder}/noisy ]] || echo 'Welcome to the cluster!'
exec bash -c "$*"
"""


class PretendedSsh:
    """The pretended network: ``down`` lists messages of the next failures, ``cut`` cuts the next answer short.

    The login shell greets saman; with ``noisy`` also rsync, which does not take it.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "home").mkdir()
        program = folder / "bin" / "ssh"
        program.write_text(_SSH.format(folder=folder))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        self.sockets = Path(tempfile.mkdtemp(prefix="saman-test-", dir="/tmp"))  # short: the path of a socket
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(self.sockets))
        monkeypatch.setenv("HOME", str(folder / "home"))
        self.project = RemoteProject("site", "login", f"{sys.executable} -m saman", str(folder / "there"))

    def close(self) -> None:
        """Remove what lies outside the test's folder."""
        shutil.rmtree(self.sockets)

    def calls(self) -> str:
        """Every command line of ssh so far."""
        return (self.folder / "calls").read_text()
