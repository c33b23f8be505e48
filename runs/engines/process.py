"""An engine process: started early, told later which model to load, then serving it until SIGTERM.

It imports its library first and prints ``{"imported": true}``. A line on standard input names the model; the answer is
``{"ready": true}`` or ``{"problem": …}``. A process that waits with its library imported replaces a killed engine in
the time that the model takes. It ends with its parent, which holds the other end of standard input.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from saman.runs.engines.interface import BatchLimits, EngineKind
from saman.runs.engines.loop import EngineLoop

_LOWEST_PRIORITY = 19


def engine_arguments(
    socket_path: Path, threads: int, limits: BatchLimits, *, is_rehearsal: bool, is_urgent: bool = False
) -> list[str]:
    """The command-line arguments that ``serve_engine`` reads."""
    given = [f"--socket={socket_path}", f"--threads={threads}", f"--rows={limits.rows}"]
    flags = [name for name, is_set in (("--rehearsal", is_rehearsal), ("--urgent", is_urgent)) if is_set]
    return [*given, f"--delay={limits.delay_seconds:g}", *flags]


def serve_engine(import_kind: Callable[[], EngineKind], given: Sequence[str] | None = None) -> int:
    """Be an engine process; returns the exit status.

    Args:
        import_kind: Imports the library and returns what loads a model.
        given: The arguments; default: those of the process.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--delay", type=float, required=True)
    parser.add_argument("--rehearsal", action="store_true", help="load and run at the lowest priority")
    parser.add_argument("--urgent", action="store_true", help="import at normal priority")
    options = parser.parse_args(given)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number is signal.SIGINT else lambda *_: os._exit(0))
    if options.rehearsal:
        os.nice(_LOWEST_PRIORITY)
    kind = _import_aside(import_kind, is_quiet=not options.urgent)
    _say({"imported": True})
    line = sys.stdin.readline()
    if not line:
        return 0
    try:
        engine = kind(Path(json.loads(line)["model"]), options.threads)
    except Exception as error:  # libraries raise errors of any kind
        said = (str(error).strip().splitlines() or [""])[0][:500]
        _say({"problem": f"{type(error).__name__}: {said}"})
        return 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(options.socket))
        options.socket.chmod(0o600)
        listener.listen(64)
        loop = EngineLoop(engine, listener, BatchLimits(options.rows, options.delay))
        signal.signal(signal.SIGTERM, lambda *_: loop.stop())
        threading.Thread(target=_end_with_parent, daemon=True).start()
        _say({"ready": True})
        loop.run()
    with contextlib.suppress(OSError):
        options.socket.unlink()
    sys.stdout.flush()
    os._exit(0)  # libraries with threads of their own may hang in their destructors


def _import_aside(import_kind: Callable[[], EngineKind], *, is_quiet: bool) -> EngineKind:
    """Import the library in a thread; a quiet one has the lowest priority, so that running engines do not feel it."""
    found: list[EngineKind] = []
    failed: list[BaseException] = []

    def work() -> None:
        if is_quiet:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)  # of this thread, on Linux
        try:
            found.append(import_kind())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        lacks = isinstance(failed[0], ImportError)
        _say({"problem": str(failed[0]), "lacks": str(getattr(failed[0], "name", "") or "") if lacks else ""})
        raise SystemExit(3 if lacks else 1)
    return found[0]


def _say(fact: dict[str, object]) -> None:
    print(json.dumps(fact), flush=True)


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdin.read()
    os._exit(0)
