"""Kills a registry operation before and within each of its file-system calls in turn, and looks at what is left.

Python reports every change of the file system to audit hooks before it is made, and every call of a function in C to a
profiler, so nothing in the registry has to cooperate. A kill before ``write`` leaves an empty file, a kill before
``fsync`` or ``close`` a file without what was not flushed.
Run as ``python kill_driver.py SCENARIO FOLDER``; prints one JSON object: the number of calls, and every broken promise.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from registry_kit import finished_run, published, tree

from saman.registry.evaluation import converter_process
from saman.registry.formats.conversion import export
from saman.registry.lifecycle import serving_config
from saman.registry.lifecycle.approval import approve
from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.pruning import prune, retire
from saman.registry.lifecycle.publish import publish
from saman.registry.lifecycle.reconcile import reconcile_all
from saman.registry.lifecycle.rollback import rollback
from saman.registry.lifecycle.verify import verify
from saman.registry.listing import list_versions
from saman.registry.store.layout import list_models
from saman.registry.store.manifest import file_records
from saman.registry.store.manifest import read as read_manifest
from saman.registry.store.model_state import read_model
from saman.runs.records.converter_report import AnswerReport, Conversion, ConverterReport

_CHANGES = {"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.symlink", "os.chmod"}


# Before these, a file is half there: opened and empty, written in part, not yet flushed.
_WRITES = {"write", "writelines", "flush", "fsync", "sendfile", "copy_file_range", "close"}


def _changes_files(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in _CHANGES


def three_versions(folder: Path) -> None:
    for seed in range(3):
        published(folder, seed=seed)
    promote(folder / "models", "digits:1")
    promote(folder / "models", "digits:2")


def with_run(folder: Path) -> None:
    three_versions(folder)
    finished_run(folder, seed=9)


def export_onnx(folder: Path) -> None:
    """An export whose converter and runtime are pretended: what is killed is the registry's part."""

    def call(arguments: Any, overlay: Any = None, **_: Any) -> Any:
        option = dict(zip(arguments[1:], arguments[2:], strict=False))
        output = Path(option["--output"])
        if arguments[0] == "to":
            output.mkdir(parents=True)
            (output / "model.onnx").write_bytes(b"x")
            return ConverterReport(Conversion("pretended"))
        np.save(output, np.eye(10, dtype="float32")[np.load(option["--inputs"])["labels"]])
        return ConverterReport(answers=(AnswerReport(1, (1, 10), 1.0, "pretended"),))

    converter_process.run_converter = call
    export(folder / "models", "digits:2", "onnx")


def newest_run(folder: Path) -> Path:
    return sorted((folder / "runs" / "tiny").iterdir())[-1]


def nothing(folder: Path) -> None:
    finished_run(folder, seed=9)


SCENARIOS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "publish_first": (nothing, lambda folder: publish(newest_run(folder), folder / "models")),
    "publish_next": (with_run, lambda folder: publish(newest_run(folder), folder / "models")),
    "promote": (three_versions, lambda folder: promote(folder / "models", "digits:3")),
    "rollback": (three_versions, lambda folder: rollback(folder / "models", "digits")),
    "approve": (three_versions, lambda folder: approve(folder / "models", "digits:3", "ada")),
    "retire": (three_versions, lambda folder: retire(folder / "models", "digits:3")),
    "export": (three_versions, export_onnx),
    "prune": (three_versions, lambda folder: prune(folder / "models", "digits:3")),
}


def in_child(act: Callable[[], Any], kill_at: int | None, counted: Path) -> int:
    """Run ``act`` in a fork that is killed before its change number ``kill_at``; returns the wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(event: str, arguments: tuple[Any, ...]) -> None:
        if _changes_files(event, arguments):
            count()

    def within(_frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and function.__name__ in _WRITES:
            count()

    sys.addaudithook(before)
    sys.setprofile(within)
    try:
        act()
        sys.setprofile(None)
        total = calls
        counted.write_text(str(total))
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(9)


def semantic(folder: Path) -> Any:
    """What a person would call the state: versions and status, labels, approvals."""
    found = {}
    for model in list_models(folder / "models"):
        state = read_model(model)
        versions = {
            n: (version.status, [approval.by for approval in version.approvals], sorted(version.formats))
            for n, version in state.versions.items()
        }
        if versions:
            found[model.name] = (versions, state.labels)
    return found


def config_of(folder: Path) -> str | None:
    """What models.config holds."""
    file = folder / "models" / serving_config.FILE
    return file.read_text() if file.exists() else None


def broken(folder: Path, old: Any, new: Any, configs: set[str | None], act: Callable[[Path], Any]) -> list[str]:
    """Every promise that does not hold in what a kill left."""
    found = []
    if config_of(folder) not in configs:
        found.append("models.config is neither the old nor the new file")
    for model in list_models(folder / "models"):
        for number in model.visible():
            about = read_manifest(model.version(number))
            if about.version != number or about.files != file_records(model.version(number)):
                found.append(f"version {number} is visible but not complete")
    before = tree(folder / "models")
    list_versions(folder / "models")
    reconcile_all(folder / "models", act=False)
    if tree(folder / "models") != before:
        found.append("reading wrote something")
    reconcile_all(folder / "models")
    if left := reconcile_all(folder / "models", act=False):
        found.append(f"reconciling left {left}")
    if semantic(folder) not in (old, new):
        found.append(f"neither old nor new: {semantic(folder)}")
    if (folder / "models").exists() and (problems := verify(folder / "models")):
        found += [f"verify: {problem}" for problem in problems]
    if semantic(folder) == old:
        act(folder)
        if semantic(folder) != new:
            found.append(f"doing it again does not lead to the new state but to {semantic(folder)}")
    return found


def main(scenario: str, folder: Path) -> None:
    tempfile.gettempdir()  # looks for a folder it can write in, once per process
    prepare, act = SCENARIOS[scenario]
    here, origin = folder / "here", folder / "origin"  # every copy lies at one path, which models.config holds
    here.mkdir(parents=True)
    prepare(here)
    old, configs = semantic(here), {config_of(here)}
    shutil.copytree(here, origin)
    assert in_child(lambda: act(here), None, folder / "count") == 0
    new = semantic(here)
    configs.add(config_of(here))
    assert new != old
    total = int((folder / "count").read_text())
    problems: dict[int, list[str]] = {}
    states = {"old": 0, "new": 0}
    for kill_at in range(1, total + 1):
        shutil.rmtree(here)
        shutil.copytree(origin, here)
        status = in_child(lambda: act(here), kill_at, folder / "count")
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            problems[kill_at] = [f"was not killed: {status}"]
        states["new" if semantic(here) == new else "old"] += 1
        if found := broken(here, old, new, configs, act):
            problems.setdefault(kill_at, []).extend(found)
    print(json.dumps({"calls": total, "broken": problems, "left": states}))


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # compiled modules are written by whoever imports them first
    main(sys.argv[1], Path(sys.argv[2]))
