"""``models.config``: the versions that TensorFlow Serving loads, and the labels under which clients request them.

The file follows the audit logs of all models. Writers compare file and logs after writing, and repeat until they agree.
A lock keeps them from writing at once; a writer that does not get it within seconds goes on without it, so that a
stopped process blocks nobody.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Iterable
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.regular_files import read_regular
from saman.configs.schemas.policy import TensorFlowServing
from saman.registry.lifecycle.serving_steps import Served, next_step
from saman.registry.store.layout import ModelFolder, list_models
from saman.registry.store.model_state import ModelState, VersionStatus, read_model
from saman.registry.store.policies import read_policy
from saman.runs.files.whole import write_whole
from saman.runs.locks import LockHeldError, hold

FILE = "models.config"
_END = "\n  }\n"
_LOCK_SECONDS = 5.0


def render(states: Iterable[ModelState], base_path: Path) -> str:
    """Render the text protobuf (``ModelServerConfig``) for models in the order of their names. Pure.

    Labelled versions are loaded under their labels, and the newest version, which may be promoted next.
    """
    blocks = [_block(state.name, base_path, wanted(state)) for state in sorted(states, key=lambda state: state.name)]
    return _text(block for block in blocks if block)


def wanted(state: ModelState) -> Served:
    """The versions and labels for ``models.config`` that the log of a model demands."""
    offered = _offered(state)
    labels = {label: number for label, number in state.labels.items() if number in offered}
    return Served(tuple(sorted({*labels.values(), *offered[-1:]})), labels)


def _offered(state: ModelState) -> list[int]:
    return [version.number for version in state.present() if version.status is VersionStatus.PUBLISHED]


def _text(blocks: Iterable[str]) -> str:
    body = "\n".join(blocks)
    head = "# Written by saman from the audit logs; edits are lost at the next promotion.\n"
    return f"{head}model_config_list {{\n{body}}}\n"


def _block(name: str, base_path: Path, served: Served) -> str:
    if not served.versions:
        return ""
    versions = " ".join(f"versions: {number}" for number in served.versions)
    labels = served.labels.items()
    lines = [
        f"    name: {_quoted(name)}",
        f"    base_path: {_quoted(str(base_path / name))}",
        '    model_platform: "tensorflow"',
        f"    model_version_policy {{ specific {{ {versions} }} }}",
        *(f"    version_labels {{ key: {_quoted(label)} value: {number} }}" for label, number in labels),
    ]
    return "  config {\n" + "\n".join(lines) + _END


def _quoted(text: str) -> str:
    # JSON's escapes are valid in the text format; characters beyond ASCII need none there.
    return json.dumps(text, ensure_ascii=False)


def expected(models_dir: Path, base_path: Path | None = None, *, age_seconds: float | None = None) -> str:
    """The content that the audit logs demand, or the step on the way to it (serving_steps.py). Writes nothing.

    A model with a damaged log keeps what the present file says of it.

    Args:
        models_dir: The models folder.
        base_path: The models folder as the server sees it; default: the same path.
        age_seconds: The time since the present file was written; default: by its time of change.
    """
    base = base_path or models_dir.absolute()
    age = _age(models_dir) if age_seconds is None else age_seconds
    blocks = [_block_of(folder, base, age) for folder in list_models(models_dir)]
    return _text(block for block in blocks if block)


def _age(models_dir: Path) -> float:
    """Seconds since the file was written; 0 where it is missing, or the clock of its writer is ahead."""
    try:
        return max(0.0, time.time() - (models_dir / FILE).stat().st_mtime)
    except OSError:
        return 0.0


def _block_of(folder: ModelFolder, base_path: Path, age_seconds: float) -> str:
    present = _written_block(folder)
    try:
        state = read_model(folder)
    except (UserError, OSError):
        return present
    step = next_step(
        wanted(state),
        _parse(present) if present else None,
        offered=_offered(state),
        moved=state.moved_labels,
        settled=age_seconds >= _load_seconds(folder),
    )
    return _block(folder.name, base_path, step)


def _load_seconds(folder: ModelFolder) -> float:
    try:
        return read_policy(folder).tensorflow_serving.load_seconds
    except (UserError, OSError):  # the commands that need the policy report it
        return TensorFlowServing().load_seconds


def _parse(block: str) -> Served:
    """Read a model's part of the file, as this module writes it."""
    versions = tuple(int(number) for number in re.findall(r"\bversions: ([0-9]{1,12})\b", block))
    found = re.findall(r'version_labels \{ key: "([^"]+)" value: ([0-9]{1,12}) \}', block)
    return Served(versions, {label: int(number) for label, number in found})


def _written_block(folder: ModelFolder) -> str:
    """The model's part of the present file; empty where it has none."""
    try:
        text = read_regular(folder.models_dir / FILE).decode("utf-8", errors="replace")
    except OSError:
        return ""
    name = f"    name: {_quoted(folder.name)}\n"
    blocks = [f"  config {{\n{part.partition(_END)[0]}{_END}" for part in text.split("  config {\n")[1:]]
    return next((block for block in blocks if name in block), "")


def is_current(models_dir: Path) -> bool:
    """Whether the file holds what the audit logs demand, as far as the steps allow it now."""
    return _holds(models_dir, _age(models_dir))


def is_sound(models_dir: Path) -> bool:
    """Whether the file follows the audit logs; a label may still have to move."""
    return _holds(models_dir, 0.0) or _holds(models_dir, math.inf)


def _holds(models_dir: Path, age_seconds: float) -> bool:
    file = models_dir / FILE
    demand = expected(models_dir, age_seconds=age_seconds)
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace") == demand


def waiting_seconds(folder: ModelFolder) -> float | None:
    """The time until the file may move the labels of a model; ``None`` where no label waits.

    Raises:
        UserError: The log of the model is damaged.
    """
    block = _written_block(folder)
    if not block or dict(_parse(block).labels) == dict(wanted(read_model(folder)).labels):
        return None
    return max(0.0, _load_seconds(folder) - _age(folder.models_dir))


def refresh(models_dir: Path) -> None:
    """Rewrite the file unless it is current."""
    while not is_current(models_dir):
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError, LockHeldError):  # the loop compares again
                stack.enter_context(hold(models_dir / f".{FILE}.lock", wait_seconds=_LOCK_SECONDS))
            write_whole(models_dir / FILE, expected(models_dir))
