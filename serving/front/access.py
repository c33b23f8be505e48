"""Who may ask: bearer tokens, kept as digests and compared in constant time.

A file holds a line for each token: its SHA-256 in hex, then a name for people. Tokens are random (``new_token``), so a
plain digest suffices: there is no dictionary to try.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.regular_files import open_regular
from saman.serving.interface.status import ServingError, StatusCode

MOST_BYTES = 1 << 20  # of the file: some ten thousand tokens
_LINE = re.compile(r"([0-9a-f]{64})(?:\s+(\S.*))?")


def new_token() -> str:
    """A random token of 256 bits."""
    return secrets.token_urlsafe(32)


def token_line(token: str, name: str) -> str:
    """The line of a token in the file."""
    return f"{hashlib.sha256(token.encode()).hexdigest()} {name}\n"


class TokenAccess:
    """The tokens that are accepted; without a file every request is."""

    def __init__(self, digests: tuple[bytes, ...], *, is_open: bool = False) -> None:
        self._digests, self._is_open = digests, is_open

    def check(self, metadata: Mapping[str, str]) -> None:
        """Raise ``ServingError`` unless the request carries an accepted token (``authorization: Bearer TOKEN``)."""
        if self._is_open:
            return
        kind, _, token = metadata.get("authorization", "").partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", errors="replace")).digest()
        # Every digest is compared, each in constant time: the time tells neither which nor how much was right.
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if kind.lower() != "bearer" or not any(matches):
            raise ServingError(StatusCode.UNAUTHENTICATED, "A valid token is required (authorization: Bearer TOKEN)")


OPEN = TokenAccess((), is_open=True)


def read_access(file: Path | None) -> TokenAccess:
    """Read the accepted tokens.

    Raises:
        UserError: The file is missing, has a line of another form or no token, or others may read it.
    """
    if file is None:
        return OPEN
    try:
        with open_regular(file) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            lines = stream.read(MOST_BYTES).decode("utf-8").splitlines()
    except OSError as error:
        raise UserError(f"the tokens cannot be read: {error.strerror}", where=str(file)) from error
    except UnicodeDecodeError:
        remedy = "saman serve --new-token NAME prints a token and appends its line"
        raise UserError("the file of tokens is not text", where=str(file), remedy=remedy) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError("others may read the digests of tokens", where=str(file), remedy=f"chmod 600 {file}")
    digests = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            remedy = "saman serve --new-token NAME prints a token and appends its line"
            raise UserError("this line holds no SHA-256", where=f"{file}:{number}", remedy=remedy)
        digests.append(bytes.fromhex(found[1]))
    if not digests:
        raise UserError("the file holds no token", where=str(file), remedy="saman serve --new-token NAME")
    return TokenAccess(tuple(digests))


def add_token(file: Path, name: str) -> str:
    """Make a token and append its digest to ``file``, which is made where it is missing; returns the token."""
    token = new_token()
    # O_NONBLOCK, because opening a FIFO would block before its type can be checked.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        stream.write(token_line(token, " ".join(name.split())))
    return token
