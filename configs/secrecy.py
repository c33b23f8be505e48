"""Leaves secrets out of what is recorded or logged: values of variables, options, URLs and well-known tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

HIDDEN = "(left out)"

# A word of a variable's name that makes its value a secret: API_KEY, DB_PASSWORD, AWS_SECRET_ACCESS_KEY, sshAuthSock…
_SECRET = re.compile(
    r"(TOKEN|KEY|SECRET|PASS|PASSW|PASSWD|PASSWORD|PASSPHRASE|PWD|CREDENTIAL|CREDENTIALS|AUTH|AUTHORIZATION|COOKIE|SESSION"
    r"|PRIVATE|SIGNATURE|PAT|JWT|BEARER|NETRC|DSN|WEBHOOK|ASKPASS|APIKEY)S?$",
    re.IGNORECASE,
)
_HARMLESS = frozenset({"PWD", "OLDPWD", "SESSION_MANAGER", "XDG_SESSION_ID", "XDG_SESSION_TYPE", "KEYTIMEOUT"})
_GLUED = re.compile(
    r"TOKEN|SECRET|PASSW|CONNECTION_?STRING|CREDENTIAL|APIKEY|API_KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE
)
_URL = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)[^\s/@'\"]+@")
_LOOKS_SECRET = re.compile(
    r"(gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_\w{20,}|sk-[\w-]{16,}|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*|-----BEGIN[^-]*PRIVATE KEY-----|(?i:bearer|basic)\s+[\w.~+/=-]{8,})"
)
_QUOTED = re.compile(r"""((\b\w+)["']?\s*[:=]\s*[rbf]?)(["'])[^"']+(\3)""")
_ASSIGNED = re.compile(r"^(?P<name>-{0,2}[A-Za-z][\w.-]*)=(?P<value>.+)$", re.DOTALL)


def public_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Sort the environment and replace every value that may be a secret."""
    return {name: HIDDEN if is_secret(name) else text_without_secrets(value) for name, value in sorted(environ.items())}


def is_secret(name: str) -> bool:
    """Whether the name of a variable or option marks its value as a secret."""
    if name in _HARMLESS:
        return False
    words = re.split(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])", name)
    return bool(_GLUED.search(name)) or any(_SECRET.fullmatch(word) for word in words if word)


def without_secrets(argv: Sequence[str]) -> list[str]:
    """Replace the values of options such as ``--api-key``, and credentials in URLs, in a command line."""
    cleaned: list[str] = []
    hide_next = False
    for argument in argv:
        assigned = _ASSIGNED.match(argument)
        if hide_next and not argument.startswith("-"):
            cleaned.append(HIDDEN)
        elif assigned and is_secret(assigned["name"]):
            cleaned.append(f"{assigned['name']}={HIDDEN}")
        else:
            cleaned.append(text_without_secrets(argument))
        hide_next = argument.startswith("-") and "=" not in argument and is_secret(argument)
    return cleaned


def text_without_secrets(text: str) -> str:
    """Replace credentials in URLs and well-known forms of tokens in a text."""
    text = _URL.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _LOOKS_SECRET.sub(HIDDEN, text).encode(errors="replace").decode()


def code_without_secrets(line: str) -> str:
    """Replace text that a line of source assigns to a name such as ``password``."""
    return text_without_secrets(
        _QUOTED.sub(lambda found: f"{found[1]}{found[3]}{HIDDEN}{found[3]}" if is_secret(found[2]) else found[0], line)
    )
