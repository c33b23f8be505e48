"""``models.config``: which versions TensorFlow Serving loads, and under which labels clients may ask for them.

The file follows the audit logs of all models. It is written while holding a lock (which NFS passes on to its
server) so that a slow writer never puts back an older state; where the file system has no locks, writers look again
after writing and repeat until file and logs agree.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from saman.configs.files import write_whole
from saman.registry.store import audit_log
from saman.registry.store.layout import models
from saman.registry.store.model_state import PUBLISHED, ModelState, fold
from saman.runs.locks import hold

FILE = "models.config"


def render(states: Iterable[ModelState], base_path: Path) -> str:
    """The text protobuf (``ModelServerConfig``) for models in the order of their names. Pure.

    Labelled versions are loaded under their labels; a model without labels offers its newest version.
    """
    blocks = [_block(state, base_path) for state in sorted(states, key=lambda one: one.name)]
    body = "\n".join(block for block in blocks if block)
    head = "# Written by saman from the audit logs; edits are lost at the next promotion.\n"
    return f"{head}model_config_list {{\n{body}}}\n"


def _block(state: ModelState, base_path: Path) -> str:
    offered = [one.number for one in state.present() if one.status == PUBLISHED]
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
    return "  config {\n" + "\n".join(lines) + "\n  }\n"


def _quoted(text: str) -> str:
    # JSON's escapes are a part of the text format's, but for characters beyond ASCII, which it takes as they are.
    return json.dumps(text, ensure_ascii=False)


def current(models_dir: Path, base_path: Path | None = None) -> str:
    """What the file should hold now."""
    states = [fold(one.name, audit_log.read(one.log)) for one in models(models_dir)]
    return render(states, base_path or models_dir.absolute())


def refresh(models_dir: Path) -> None:
    """Make the file follow the audit logs; nothing is written where it already does."""
    file = models_dir / FILE
    text = current(models_dir)
    while not (file.is_file() and file.read_text(encoding="utf-8") == text):
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # no locks here: the second look does the work
                stack.enter_context(hold(models_dir / f".{FILE}.lock", wait_seconds=None))
            write_whole(file, current(models_dir))
        text = current(models_dir)
