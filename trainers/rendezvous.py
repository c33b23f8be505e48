"""``python -m saman.trainers.rendezvous``: the server through which Horovod's ranks find each other over Gloo.

A process of its own for ranks that start without horovodrun. It runs until SIGTERM or the end of its parent.
"""

from __future__ import annotations

import argparse
import hmac
import ipaddress
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from saman.configs.errors import EnvironmentLack, UserError
from saman.runs.ranks.identity import own_address
from saman.runs.ranks.parent_death import die_with_parent
from saman.runs.records.rendezvous import RendezvousAddress


def open_server(slots: Sequence[str], bind: str, port: int, token: str) -> Any:
    """Return Horovod's rendezvous server of this Python, listening; it refuses requests without the token.

    Args:
        slots: ``node:processes`` for each node, in the order of ranks.
        bind: The address to listen on; empty for all addresses.
        port: The port to listen on; 0 for any free port.
        token: What the path of every request must begin with (``/TOKEN:PORT/scope/key``).

    Raises:
        EnvironmentLack: Horovod is missing, or the port is in use.
    """
    try:
        from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
        from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer
    except ImportError as error:
        raise EnvironmentLack(
            f"Horovod cannot be imported: {error}", remedy="run saman setup, which builds it"
        ) from error
    try:
        server = RendezvousHTTPServer((bind, port), _with_token(RendezvousHandler, token), False)
    except OSError as error:
        raise EnvironmentLack(
            f"Horovod's rendezvous cannot listen on {bind or '*'} port {port}: {error.strerror}",
            remedy="use --port 0 for a free port",
        ) from error
    hosts = parse_hosts(",".join(slots))
    # The server must know how many ranks share a scope: it deletes their addresses once all ranks have read them.
    server.init(get_host_assignments(hosts, sum(host.slots for host in hosts)))
    server.daemon_threads = True
    return server


def _with_token(handler: Any, token: str) -> Any:
    """Return the handler for requests that carry the token; all others get 403 before anything is read or changed."""

    class Handler(handler):
        path: str

        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            _, _, rest = self.path.partition("/")
            given, _, path = rest.partition("/")
            if not hmac.compare_digest(given.partition(":")[0].encode(errors="replace"), token.encode()):
                self.close_connection = True
                self.send_status_code(403)
                return False
            self.path = "/" + path
            return True

    return Handler


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve Horovod's rendezvous until SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m saman.trainers.rendezvous", description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True, help="file for host and port, once they are known")
    parser.add_argument("--bind", default="", help="the address to listen on (default: that of --host)")
    parser.add_argument("--host", help="the name by which ranks reach this node (default: its address here)")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: a free port)")
    parser.add_argument("slots", nargs="+", metavar="NODE:PROCESSES", help="nodes in the order of ranks")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    die_with_parent(signal.SIGTERM)
    try:
        token, host = secrets.token_hex(16), chosen.host or chosen.bind or own_address(os.environ)
        # Ranks use the address that they are told, so no other needs to listen; a name may have several.
        server = open_server(chosen.slots, chosen.bind or ("" if _is_name(host) else host), chosen.port, token)
        RendezvousAddress(host, server.server_address[1], os.getpid(), token).write(chosen.port_file)
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    try:
        server.serve_forever()
    finally:
        chosen.port_file.unlink(missing_ok=True)  # the next start must not read an old port
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _is_name(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
