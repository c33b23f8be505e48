"""Finds the user's function behind an exception: its name, its arguments, the place, the rank."""

from __future__ import annotations

import errno
import inspect
import re
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import code_references
from saman.configs.secrecy import HIDDEN, is_secret, text_without_secrets
from saman.runs.ranks.rank_events import FailureKind
from saman.trainers.failures import TrainingFailure, UserCodeError, failure_kind

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # explained where the run folder is written
_LONGEST = 60  # characters of an argument
# Python's and AutoGraph's traces, as TensorFlow repeats them in the text of an error.
_TRACED = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\w+)')
_CAUSE = re.compile(r"^(?:\w*: )?\s*(?P<cause>[A-Za-z_]\w*(?:Error|Exception|Interrupt|Exit)\b.*)$", re.MULTILINE)
_NODES = re.compile(r"\{\{.*?\}\}\s*")  # names of TensorFlow's nodes
_INSTALLED = ("site-packages", "dist-packages")
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
_SAMAN = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class _Call:
    """A call of a user's function: name, described arguments, and where the exception left the user's code."""

    name: str
    arguments: tuple[str, ...] | None
    place: str


def blamed(error: BaseException, values: Mapping[str, Any], folders: Sequence[Path], rank: int) -> UserCodeError | None:
    """Return the failure of a user's function behind an exception; ``None`` if no user's code is in its trace.

    Args:
        error: What was raised while saman trained.
        values: The plain values of the experiment, which name the user's functions.
        folders: The folders of the user's code.
        rank: The first rank of this process.
    """
    if isinstance(error, (UserError, TrainingFailure, UserCodeError)):
        return None
    if failure_kind(error) is FailureKind.PEER_LOST or (isinstance(error, OSError) and error.errno in _FULL):
        return None
    found = _call_in_frames(error, folders) or _call_in_text(str(error), folders)
    if found is None:
        return None
    keys = [key for key, name in code_references(values) if name == found.name]
    key = f" ({keys[0]})" if keys else ""
    called = ""
    if found.arguments is not None:
        called = f"; called with {', '.join(found.arguments)}" if found.arguments else "; called without arguments"
    return UserCodeError(f"{found.name}{key} failed on rank {rank} at {found.place}: {_reason(error)}{called}")


def _call_in_frames(error: BaseException, folders: Sequence[Path]) -> _Call | None:
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(frame, line) for frame, line in frames if _is_users(frame.f_code.co_filename, folders)]
    if not own:
        return None
    (first, _), (last, line) = own[0], own[-1]
    name = f"{first.f_globals.get('__name__', '?')}:{_name(first)}"
    return _Call(name, tuple(_arguments(first)), f"{Path(last.f_code.co_filename).name}:{line}")


def _name(frame: FrameType) -> str:
    return str(getattr(frame.f_code, "co_qualname", frame.f_code.co_name)).replace(".<locals>", "")


def _arguments(frame: FrameType) -> Iterator[str]:
    found = inspect.getargvalues(frame)
    pairs = [(name, found.locals.get(name)) for name in found.args if name != "self"]
    if found.varargs:
        pairs += [(f"{found.varargs}[{at}]", value) for at, value in enumerate(found.locals.get(found.varargs, ()))]
    if found.keywords:
        pairs += list(found.locals.get(found.keywords, {}).items())
    for name, value in pairs:
        yield f"{name}={HIDDEN if is_secret(name) else describe(value)}"


def describe(value: Any) -> str:
    """Describe an argument: a short value as it is, a tensor or an array by type and shape, else its type.

    >>> describe("birds"), describe([1, 2])
    ("'birds'", '[1, 2]')
    """
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and kind is not None:
        return f"{getattr(kind, 'name', kind)}[{', '.join('?' if size is None else str(size) for size in shape)}]"
    if isinstance(value, (str, int, float, bool, list, tuple, dict, type(None), Path)):
        text = text_without_secrets(repr(value))
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return type(value).__name__


def _call_in_text(text: str, folders: Sequence[Path]) -> _Call | None:
    """Find the user's function in the text of TensorFlow's error: a graph called Python, or AutoGraph changed it."""
    traced = list(_TRACED.finditer(text))
    # A trace of a node begins with the program that started saman.
    first_of_saman = next((at for at, found in enumerate(traced) if _is_samans(Path(found["file"]).resolve())), 0)
    own = [found for found in traced[first_of_saman:] if _is_users(found["file"], folders)]
    if not own:
        return None
    first, last = own[0], own[-1]
    name = f"{Path(first['file']).stem}:{first['name'].removeprefix('tf__')}"
    return _Call(name, None, f"{Path(last['file']).name}:{last['line']}")


def _is_users(file: str, folders: Sequence[Path]) -> bool:
    path = Path(file).resolve()
    if any(part in _INSTALLED for part in path.parts) or path.is_relative_to(_STANDARD_LIBRARY):
        return False
    return not _is_samans(path) and any(path.is_relative_to(Path(folder).resolve()) for folder in folders)


def _is_samans(path: Path) -> bool:
    return path.is_relative_to(_SAMAN) and path.relative_to(_SAMAN).parts[0] in _ROOMS


_ROOMS = frozenset(part.name for part in _SAMAN.iterdir() if (part / "__init__.py").is_file())


def _reason(error: BaseException) -> str:
    text = _NODES.sub("", str(error))
    for found in _CAUSE.finditer(text):
        return text_without_secrets(found["cause"].strip())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return text_without_secrets(f"{type(error).__name__}: {lines[0] if lines else ''}".strip(": "))
