"""Tells a command and a webhook of a failure, a restart, a requeue or the completion of a run.

Neither delays the run beyond its time limit, and no failure of theirs fails the run. Private values of the run never
reach them.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum

from saman.configs.errors import UserError
from saman.configs.private_values import COMMAND, WEBHOOK
from saman.configs.schemas.monitoring import Notify
from saman.configs.secrecy import HIDDEN, text_without_secrets
from saman.runs.commands import run_command
from saman.runs.events import Event, EventKind
from saman.runs.folder import RunFolder
from saman.runs.private_values import kept_values, reveal
from saman.runs.records.run_events import RunEnd

SCHEMA = 1
SHORTEST_SECRET = 4  # characters; a shorter value would blacken every text


class Occasion(str, Enum):
    """What somebody is told of."""

    FAILURE = "failure"
    RESTART = "restart"
    REQUEUE = "requeue"
    COMPLETION = "completion"


_OCCASIONS = {
    EventKind.FAILED: Occasion.FAILURE,
    EventKind.RESTARTING: Occasion.RESTART,
    EventKind.PREEMPTED: Occasion.REQUEUE,
    EventKind.COMPLETED: Occasion.COMPLETION,
}


@dataclass(frozen=True)
class Notification:
    """What command and webhook receive as a JSON object; ``text`` says all in a line, as chat services show it."""

    occasion: str
    run: str
    experiment: str
    folder: str
    attempt: int | None
    message: str
    ranks: tuple[int, ...]
    host: str
    time: float
    text: str
    schema: int = SCHEMA


def notification_of(run: RunFolder, event: Event) -> Notification | None:
    """Return what to tell of an event; ``None`` for an event that nobody is told of."""
    occasion = next((each for kind, each in _OCCASIONS.items() if event.kind == kind), None)
    if occasion is None:
        return None
    hide = _hider(run)
    end = RunEnd.from_event(event)
    message = hide("; ".join(end.texts))
    name = f"{run.experiment_name}/{run.id}"
    return Notification(
        occasion=occasion.value,
        run=run.id,
        experiment=run.experiment_name,
        folder=str(run.path),
        attempt=event.attempt,
        message=message,
        ranks=end.ranks,
        host=socket.gethostname(),
        time=event.time,
        text=f"{name}: {occasion.value}" + (f": {message}" if message else ""),
    )


def tell(run: RunFolder, spec: Notify, notification: Notification) -> list[str]:
    """Tell command and webhook, one after the other, each within its time limit; return what went wrong."""
    text = json.dumps(asdict(notification))
    problems: list[str] = []
    if spec.command is not None:
        problems += _tried(lambda: _tell_command(run, spec, text), "notify.command")
    if spec.webhook is not None:
        problems += _tried(lambda: _tell_webhook(run, spec, text), "notify.webhook")
    hide = _hider(run)
    return [hide(problem) for problem in problems]


def _tried(work: Callable[[], None], where: str) -> list[str]:
    try:
        work()
    except UserError as error:
        return [error.one_line()]
    except (subprocess.TimeoutExpired, TimeoutError):
        return [f"{where}: no answer within its time limit (notify.timeout_seconds)"]
    except OSError as error:
        return [f"{where}: {error.strerror or type(error).__name__}"]
    except Exception as error:  # whatever a server answers: the run matters more
        return [f"{where}: {type(error).__name__}"]
    return []


def _tell_command(run: RunFolder, spec: Notify, text: str) -> None:
    words: Sequence[str] = spec.command or ()
    argv = [reveal(run, word, f"{COMMAND}.{at}") for at, word in enumerate(words)]
    done = run_command(argv, text=text, timeout_seconds=spec.timeout_seconds)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise UserError(f"it exited with {done.returncode}{': ' + last[0] if last else ''}", where="notify.command")


def _tell_webhook(run: RunFolder, spec: Notify, text: str) -> None:
    url = reveal(run, spec.webhook or "", WEBHOOK)
    if not url.startswith(("http://", "https://")):
        raise UserError("it is not an http or https URL", where=WEBHOOK)
    import urllib.request  # loads TLS and the parts of HTTP
    from urllib.error import HTTPError, URLError

    request = urllib.request.Request(url, text.encode(), {"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=spec.timeout_seconds):
            pass
    except HTTPError as error:
        raise UserError(f"the server answered {error.code}", where="notify.webhook") from None
    except URLError as error:
        raise UserError(str(error.reason), where="notify.webhook") from None


def _hider(run: RunFolder) -> Callable[[str], str]:
    """A function that takes the private values of a run, and what looks like a secret, out of a text."""
    values = sorted((value for value in kept_values(run).values() if len(value) >= SHORTEST_SECRET), key=len)

    def hide(text: str) -> str:
        for value in reversed(values):  # the longest first: a value may contain another
            text = text.replace(value, HIDDEN)
        return text_without_secrets(text)

    return hide
