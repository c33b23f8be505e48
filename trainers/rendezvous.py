"""``python -m saman.trainers.rendezvous``: the server by which Horovod's ranks find each other over Gloo.

A process of its own, for ranks that are started without horovodrun. It serves until SIGTERM, or until its parent ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.files import write_json
from saman.runs.ranks.identity import node_name
from saman.runs.ranks.processes import die_with_parent


def serve(slots: Sequence[str], bind: str, port: int) -> Any:
    """A listening rendezvous for ``slots`` (``node:processes``, in the order of ranks); any free port for ``port`` 0.

    Raises ``EnvironmentLack`` where Horovod is missing or the port is taken.
    """
    try:
        from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
        from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer
    except ImportError as error:
        raise EnvironmentLack(f"Horovod cannot be imported: {error}", remedy="saman setup builds it") from error
    try:
        server = RendezvousHTTPServer((bind, port), RendezvousHandler, False)
    except OSError as error:
        raise EnvironmentLack(
            f"Horovod's rendezvous cannot listen on {bind or '*'} port {port}: {error.strerror}",
            remedy="--port 0 takes a free one",
        ) from error
    hosts = parse_hosts(",".join(slots))
    # The server must know how many ranks share a scope: it forgets their addresses when all, not each, have read them.
    server.init(get_host_assignments(hosts, sum(host.slots for host in hosts)))
    server.daemon_threads = True
    return server


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end; returns the status to exit with."""
    parser = argparse.ArgumentParser(prog="python -m saman.trainers.rendezvous", description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True, help="where to say host and port, once they are known")
    parser.add_argument("--bind", default="", help="the address to listen on (default: all)")
    parser.add_argument("--host", help="the name by which ranks reach this node (default: its address here)")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: a free one)")
    parser.add_argument("slots", nargs="+", metavar="NODE:PROCESSES", help="nodes in the order of ranks")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    die_with_parent(signal.SIGTERM)
    try:
        server = serve(chosen.slots, chosen.bind, chosen.port)
        host = chosen.host or chosen.bind or _address()
        write_json(chosen.port_file, {"schema": 1, "host": host, "port": server.server_address[1], "pid": os.getpid()})
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    try:
        server.serve_forever()
    finally:
        chosen.port_file.unlink(missing_ok=True)  # who starts the same command again must not read an old port
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _address() -> str:
    """This node's address as other nodes see it; its name where it cannot be resolved."""
    name = node_name(os.environ)
    try:
        return socket.gethostbyname(name)
    except OSError:
        return name


if __name__ == "__main__":
    sys.exit(main())
