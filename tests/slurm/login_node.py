"""A login node: a real sshd on the loopback address, with keys and a configuration of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HOST = "login.example.edu"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@dataclass
class LoginNode:
    """The login node, and the laptop's ssh that knows it.

    Attributes:
        folder: Keys, configurations, logs; short, because the socket of the connection lies in it.
        port: The port of sshd.
        environment: Variables of every session there, such as SLURM_CONF.
    """

    folder: Path
    port: int
    environment: Mapping[str, str]
    sshd: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Start sshd; returns when it listens."""
        variables = " ".join(f'"{name}={value}"' for name, value in self.environment.items())
        lines = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {self.folder}/host", "PidFile none",
            f"AuthorizedKeysFile {self.folder}/key.pub", "StrictModes no", "UsePAM no", "PasswordAuthentication no",
            "PermitRootLogin yes", "Subsystem sftp internal-sftp", f"SetEnv {variables}" if variables else "",
        ]  # fmt: skip
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # Debian's privilege separation
        program = str(shutil.which("sshd", path=PATH))
        command = [program, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.folder / "sshd.log")]
        self.sshd.append(subprocess.Popen(command, start_new_session=True))
        end = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert time.monotonic() < end and self.sshd[-1].poll() is None, (self.folder / "sshd.log").read_text()
            time.sleep(0.05)

    def sessions(self) -> list[int]:
        """The processes of sshd that serve a connection."""
        said = subprocess.run(["pgrep", "-P", str(self.sshd[-1].pid)], capture_output=True, text=True, check=False)
        return [int(word) for word in said.stdout.split()]

    def drop(self) -> None:
        """Lose every connection, as a network does."""
        for pid in self.sessions():
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop sshd and its connections."""
        self.drop()
        process = self.sshd[-1]
        process.terminate()
        process.wait(timeout=20)

    def laptop(self) -> dict[str, str]:
        """The environment of the laptop: this ssh first on its PATH, its own place for the socket, no Slurm."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        return {
            **clean,
            "PATH": f"{self.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(self.folder),
        }


@contextmanager
def login_node(environment: Mapping[str, str]) -> Iterator[LoginNode]:
    """Run a login node; its sessions have the ``environment``."""
    folder = Path(tempfile.mkdtemp(prefix="saman-ssh-", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    _, kind, key, *_ = ["", *(folder / "host.pub").read_text().split()]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    # The user's own configuration; ssh takes ~/.ssh/config of the user of the machine, which is not the test's.
    (folder / "config").write_text(
        f"Host {HOST}\n HostName 127.0.0.1\n Port {port}\n IdentityFile {folder}/key\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {folder}/known_hosts\n GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n"
    )
    (folder / "bin").mkdir()
    program = folder / "bin" / "ssh"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {shlex.quote(str(folder / "config"))} "$@"\n')
    program.chmod(0o755)
    node = LoginNode(folder, port, environment)
    node.start()
    try:
        yield node
    finally:
        node.stop()
        shutil.rmtree(folder)
