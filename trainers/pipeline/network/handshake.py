"""How two stages confirm each other: both prove by a nonce and an HMAC that they know the run's secret. Pure.

    caller  → listener   HELLO    protocol, caller, listener, nonce of the caller
    listener → caller    ANSWER   nonce of the listener, HMAC(secret, "listener", hello, nonce)
    caller  → listener   CHOICE   HMAC(secret, "caller", hello, nonce)
    listener → caller    TAKEN    HMAC(secret, "taken", hello, nonce)

The secret itself never travels, so a listener that repeats what it receives proves nothing. A caller sends CHOICE on
one connection at a time: a connection that it has abandoned can not be taken. What follows is not encrypted.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from enum import Enum

PROTOCOL = b"saman stage 2"
NONCE_BYTES = PROOF_BYTES = 32
_HELLO = struct.Struct("!16sII32s")  # protocol, rank of the caller, rank of the listener, nonce
HELLO_BYTES = _HELLO.size
ANSWER_BYTES = NONCE_BYTES + PROOF_BYTES


class Role(bytes, Enum):
    """Who proves what; a proof in one role is worthless in another."""

    LISTENER = b"listener"
    CALLER = b"caller"
    TAKEN = b"taken"


def hello(caller: int, listener: int) -> bytes:
    """Return a new greeting of rank ``caller`` to rank ``listener``."""
    return _HELLO.pack(PROTOCOL, caller, listener, secrets.token_bytes(NONCE_BYTES))


def is_hello(data: bytes, caller: int, listener: int) -> bool:
    """Whether ``data`` greets ``listener`` from ``caller``."""
    protocol, sender, receiver, _ = _HELLO.unpack(data)
    return (protocol.rstrip(b"\0"), sender, receiver) == (PROTOCOL, caller, listener)


def proof(secret: bytes, role: Role, greeting: bytes, nonce: bytes) -> bytes:
    """Prove in ``role`` the knowledge of ``secret`` to the partner of this greeting and nonce."""
    return hmac.digest(secret, role.value + b"\0" + greeting + nonce, "sha256")


def proves(data: bytes, secret: bytes, role: Role, greeting: bytes, nonce: bytes) -> bool:
    """Whether ``data`` is the proof in ``role``; takes the same time whatever differs."""
    return hmac.compare_digest(data, proof(secret, role, greeting, nonce))
