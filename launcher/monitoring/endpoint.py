"""Serves the metrics of a run over HTTP, in the supervisor's process: ``GET /metrics``, nothing else."""

from __future__ import annotations

import hmac
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from saman.launcher.monitoring.exposition import CONTENT_TYPE

REQUEST_SECONDS = 10.0  # for a reader to send its request and take the answer
MOST_READERS = 8  # at the same time; further ones wait


class Endpoint:
    """An HTTP server that answers with the newest metrics.

    Attributes:
        port: The port that it listens on.
    """

    def __init__(self, address: str, port: int, read: Callable[[], str], token: str | None = None) -> None:
        """Listen.

        Args:
            address: IP address of this machine.
            port: The port; 0 takes a free port.
            read: Returns the metrics.
            token: What readers must send as a bearer token; ``None`` for no token.

        Raises:
            OSError: The port is taken, or the address is not this machine's.
        """
        places = threading.BoundedSemaphore(MOST_READERS)

        class _Handler(BaseHTTPRequestHandler):
            timeout = REQUEST_SECONDS
            server_version, sys_version = "saman", ""

            def do_GET(self) -> None:
                given = self.headers.get("Authorization", "")
                if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                    self._answer(401, "a bearer token is needed\n")
                elif self.path.partition("?")[0] != "/metrics":
                    self._answer(404, "metrics are at /metrics\n")
                else:
                    with places:
                        self._answer(200, read(), CONTENT_TYPE)

            def _answer(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if status == 401:
                    self.send_header("WWW-Authenticate", "Bearer")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass  # a reader every few seconds would fill the terminal

        class _Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a reader that went away

        self._server = _Server((address, port), _Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
