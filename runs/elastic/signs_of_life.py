"""Lets the kernel ask whether the other node of a connection lives: a node that loses power closes nothing."""

from __future__ import annotations

import socket

IDLE_SECONDS, BETWEEN_SECONDS, QUESTIONS = 5, 2, 5
SILENT_SECONDS = IDLE_SECONDS + BETWEEN_SECONDS * QUESTIONS  # then the other node counts as lost


def ask_for_life(connection: socket.socket) -> None:
    """End the connection if the other node does not answer any more."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, BETWEEN_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, QUESTIONS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENT_SECONDS)
