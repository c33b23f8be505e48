"""An haproxy configuration that spreads requests over several servers and leaves out those that are not ready."""

from __future__ import annotations

import re

from saman.configs.errors import UserError
from saman.serving.deploy.service import ServiceCommand, refuse_line_breaks

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*):([0-9]{1,5})(?:/([0-9]{1,5}))?")


def render_haproxy(service: ServiceCommand) -> str:
    """Render the configuration, over ``service.servers``, else over 2 servers on this machine.

    A server is ``host:port`` of the REST interface, with ``/port`` of the gRPC interface where that is not 1 lower.
    """
    refuse_line_breaks([service.health_path], "haproxy")
    here = (f"127.0.0.1:{service.rest_port + 1}/{service.grpc_port + 11}",
            f"127.0.0.1:{service.rest_port + 2}/{service.grpc_port + 12}")  # fmt: skip
    servers = [_parse(text) for text in service.servers or here]
    rest = "\n".join(f"    server s{at} {host}:{port} check" for at, (host, port, _) in enumerate(servers, 1))
    grpc = "\n".join(
        f"    server s{at} {host}:{grpc} proto h2 check port {port}" for at, (host, port, grpc) in enumerate(servers, 1)
    )
    path = service.health_path.replace("\\", "\\\\").replace(" ", "\\ ").replace("#", "\\#").replace('"', '\\"')
    return f"""# haproxy -f FILE; check it first: haproxy -c -f FILE
# A server that is not ready, or drains, gets no requests; a request that could not be sent goes to another server.
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    retries 2
    option redispatch
    retry-on conn-failure empty-response
    balance leastconn
    option httpchk GET {path}
    http-check expect rstatus ^(200|401)$
    default-server inter 1s fall 2 rise 1
frontend rest
    bind 127.0.0.1:{service.rest_port}
    default_backend rest_servers
frontend grpc
    bind 127.0.0.1:{service.grpc_port} proto h2
    default_backend grpc_servers
backend rest_servers
{rest}
backend grpc_servers
{grpc}
"""


def _parse(text: str) -> tuple[str, int, int]:
    """Host, REST port and gRPC port of a server."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found[2]) < 65536:
        raise UserError(f"{text!r} is no address of a server", remedy="HOST:PORT, or HOST:PORT/GRPC_PORT")
    rest = int(found[2])
    return found[1], rest, int(found[3] or rest - 1)
