"""Waits for Horovod's rendezvous server, which a companion of the start method runs."""

from __future__ import annotations

import time
from pathlib import Path

from saman.runs.records.rendezvous import RendezvousAddress

RENDEZVOUS_SECONDS = 60.0


def wait_for_rendezvous(file: Path) -> RendezvousAddress:
    """Where the rendezvous server listens, once it has written it to ``file``; raises ``TimeoutError``."""
    deadline = time.monotonic() + RENDEZVOUS_SECONDS
    while time.monotonic() < deadline:
        address = RendezvousAddress.read(file)
        if address is not None:
            return address
        time.sleep(0.02)
    raise TimeoutError(f"Horovod's rendezvous wrote no port within {RENDEZVOUS_SECONDS:.0f} s: {file}")
