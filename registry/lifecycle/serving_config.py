"""``models.config``: the versions that TensorFlow Serving loads, and the labels under which clients request them.

The file follows the audit logs of all models. Writers compare file and logs after writing, and repeat until they agree.
A lock keeps them from writing at once; a writer that does not get it within seconds goes on without it, so that a
stopped process blocks nobody.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.regular_files import read_regular
from saman.registry.store.layout import ModelFolder, list_models
from saman.registry.store.model_state import ModelState, VersionStatus, read_model
from saman.runs.files.whole import write_whole
from saman.runs.locks import LockHeldError, hold

FILE = "models.config"
_END = "\n  }\n"
_LOCK_SECONDS = 5.0


def render(states: Iterable[ModelState], base_path: Path) -> str:
    """Render the text protobuf (``ModelServerConfig``) for models in the order of their names. Pure.

    Labelled versions are loaded under their labels; a model without labels offers its newest version.
    """
    blocks = [_block(state, base_path) for state in sorted(states, key=lambda state: state.name)]
    return _text(block for block in blocks if block)


def _text(blocks: Iterable[str]) -> str:
    body = "\n".join(blocks)
    head = "# Written by saman from the audit logs; edits are lost at the next promotion.\n"
    return f"{head}model_config_list {{\n{body}}}\n"


def _block(state: ModelState, base_path: Path) -> str:
    offered = [version.number for version in state.present() if version.status is VersionStatus.PUBLISHED]
    labels = {label: number for label, number in state.labels.items() if number in offered}
    loaded = sorted(set(labels.values())) or offered[-1:]
    if not loaded:
        return ""
    versions = " ".join(f"versions: {number}" for number in loaded)
    lines = [
        f"    name: {_quoted(state.name)}",
        f"    base_path: {_quoted(str(base_path / state.name))}",
        '    model_platform: "tensorflow"',
        f"    model_version_policy {{ specific {{ {versions} }} }}",
        *(f"    version_labels {{ key: {_quoted(label)} value: {number} }}" for label, number in labels.items()),
    ]
    return "  config {\n" + "\n".join(lines) + _END


def _quoted(text: str) -> str:
    # JSON's escapes are valid in the text format; characters beyond ASCII need none there.
    return json.dumps(text, ensure_ascii=False)


def expected(models_dir: Path, base_path: Path | None = None) -> str:
    """The content that the audit logs demand. Writes nothing.

    A model with a damaged log keeps what the present file says of it.

    Args:
        models_dir: The models folder.
        base_path: The models folder as the server sees it; default: the same path.
    """
    base = base_path or models_dir.absolute()
    blocks = [_block_of(folder, base) for folder in list_models(models_dir)]
    return _text(block for block in blocks if block)


def _block_of(folder: ModelFolder, base_path: Path) -> str:
    try:
        return _block(read_model(folder), base_path)
    except (UserError, OSError):
        return _written_block(folder)


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
    """Whether the file holds what the audit logs demand."""
    file = models_dir / FILE
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace") == expected(models_dir)


def refresh(models_dir: Path) -> None:
    """Rewrite the file unless it is current."""
    while not is_current(models_dir):
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError, LockHeldError):  # the loop compares again
                stack.enter_context(hold(models_dir / f".{FILE}.lock", wait_seconds=_LOCK_SECONDS))
            write_whole(models_dir / FILE, expected(models_dir))
