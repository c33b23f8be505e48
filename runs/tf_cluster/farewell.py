"""How the servers and workers of a coordinator learn that it has ended: it says so, or its connections break."""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import threading

_DONE = b"done"
_SECONDS = 5.0  # for a stranger to say a token


class Farewell:
    """Listens on a free port; ``say`` tells everybody who waits there, and has the token, that the run is over.

    Attributes:
        port: Where it listens.
        token: What those who wait must say first.
    """

    def __init__(self, host: str = "") -> None:
        """Listen on ``host``, by default on every address."""
        self.token = secrets.token_hex(16)
        self._socket = socket.create_server((host, 0), backlog=512)
        self.port = int(self._socket.getsockname()[1])
        self._waiting: list[socket.socket] = []
        threading.Thread(target=self._accept, name="farewell", daemon=True).start()

    @property
    def waiting(self) -> int:
        """The number of processes that wait."""
        return len(self._waiting)

    def say(self) -> None:
        """Tell those who wait, and stop listening."""
        for peer in self._waiting:
            with contextlib.suppress(OSError), peer:
                peer.sendall(_DONE)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._socket.accept()
                threading.Thread(target=self._admit, args=(peer,), daemon=True).start()

    def _admit(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            peer.settimeout(_SECONDS)
            said = peer.recv(len(self.token), socket.MSG_WAITALL)
            if hmac.compare_digest(said, self.token.encode()):
                peer.settimeout(None)
                self._waiting.append(peer)
                return
        peer.close()


def wait_for_farewell(host: str, port: int, token: str) -> bool:
    """Wait for the coordinator's end; return whether it said so, and was not lost.

    Args:
        host: The coordinator's address.
        port: Its port for this purpose.
        token: What it wants to hear first.
    """
    with contextlib.suppress(OSError), socket.create_connection((host, port)) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.sendall(token.encode())
        return peer.recv(len(_DONE), socket.MSG_WAITALL) == _DONE
    return False
