"""A version's documentation page: what it is, data, figures, limits, approvals, where it is deployed, what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from saman.configs.names import size, when
from saman.registry.formats.exports import exports_of
from saman.registry.listing import resolve
from saman.registry.store import audit_log, manifest
from saman.registry.store.layout import ModelFolder
from saman.registry.store.manifest import Manifest
from saman.registry.store.model_state import STABLE, ModelState, VersionState
from saman.registry.store.policies import policy_of


def card(models_dir: Path, spec: str) -> str:
    """The page as Markdown. What nobody has written down is said to be unknown, not left out."""
    folder, state, one = resolve(models_dir, spec)
    about = manifest.read(folder.version(one.number))
    parts = [
        _head(about, state, one),
        _use(about),
        _training(about),
        _data(about),
        _figures(about),
        _gates(folder, about),
        _formats(folder, state, one),
        _limits(about),
        _approvals(one),
        _deployed(folder, state, one),
        _help(folder, state, one),
    ]
    return "\n".join(part for part in parts if part)


def _table(heads: list[str], rows: list[list[Any]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)]) + "\n"


def _head(about: Manifest, state: ModelState, one: VersionState) -> str:
    labels = ", ".join(state.labels_of(one.number)) or "none"
    why = f" Reason given: {about.why}." if about.why else ""
    return (
        f"# {about.model}, version {about.version}\n\n"
        f"Published {when(about.published_at)} by {about.published_by}.{why} "
        f"Status: {one.status}; labels: {labels}; {size(about.total_bytes)}.\n"
    )


def _use(about: Manifest) -> str:
    rows = [
        [side, name, one.get("dtype"), one.get("shape")]
        for side in ("inputs", "outputs")
        for name, one in (about.signature.get(side) or {}).items()
    ]
    note = about.export.get("normalization")
    return (
        f"## What it is\n\nSignature `{about.signature.get('name', 'serving_default')}`"
        f"{f'; normalisation: {note}' if note else ''}.\n\n" + _table(["", "name", "dtype", "shape"], rows)
    )


def _training(about: Manifest) -> str:
    run = about.run
    git = run.provenance.get("git") or {}
    git = git if isinstance(git, dict) else {}
    experiment = run.experiment or {}
    rows: list[list[Any]] = [
        ["run", f"{run.id} ({run.folder} on {run.host})"],
        ["model", json.dumps(experiment.get("model")) if experiment else "a program of its own"],
        ["strategy, ranks, seed", f"{run.strategy}, {run.ranks}, {run.seed}"],
        ["nodes", ", ".join(run.hosts) or "unknown"],
        ["code", f"{git.get('commit') or 'unknown'}{' with uncommitted changes' if git.get('diff') else ''}"],
        ["versions", ", ".join(f"{name} {value}" for name, value in about.versions.items()) or "unknown"],
        ["experiment digest", run.experiment_digest or "none"],
        ["SavedModel fingerprint", about.fingerprint.get("saved_model_checksum", "none")],
    ]
    return "## How it was made\n\n" + _table(["", ""], rows)


def _data(about: Manifest) -> str:
    rows = [
        [key, value if not isinstance(value, (dict, list)) else json.dumps(value)] for key, value in about.data.items()
    ]
    stated = "Statistics of the training data per feature are in the manifest." if about.statistics else ""
    return "## Data\n\n" + (_table(["", ""], rows) if rows else "Unknown.\n") + (f"\n{stated}\n" if stated else "")


def _figures(about: Manifest) -> str:
    rows = [[name, f"{value:.5g}"] for name, value in sorted(about.metrics.items())]
    return "## Figures\n\n" + (_table(["metric", "value"], rows) if rows else "None were recorded.\n")


def _gates(folder: ModelFolder, about: Manifest) -> str:
    rows = [[one["gate"], "passed" if one["passed"] else "refused", one["text"]] for one in about.gates]
    if rows:
        return "## Gates at publication\n\n" + _table(["gate", "", "found"], rows)
    asked = policy_of(folder).model_dump(exclude_defaults=True)
    return "" if asked else "## Gates at publication\n\nNo policy asked for any.\n"


def _formats(folder: ModelFolder, state: ModelState, one: VersionState) -> str:
    rows = [
        [
            parity["format"],
            parity["runtime"],
            f"{parity['max_difference']:.3g}",
            "" if parity["accuracy"] is None else f"{parity['accuracy']:.4f}",
            size(parity["bytes"]),
            parity["note"],
        ]
        for parity in (record["parity"] for record in exports_of(folder, state, one.number))
    ]
    heads = ["format", "runtime", "max difference", "accuracy", "size", ""]
    return "## Formats\n\n" + _table(heads, rows) if rows else ""


def _limits(about: Manifest) -> str:
    sample = about.export.get("sample") or {}
    seen = f"{sample.get('examples')} examples of the {sample.get('split')} split" if sample else "the stored sample"
    return (
        "## Limits\n\n"
        f"- The figures hold for data like the training data; they were measured on {seen} and on nothing else.\n"
        "- Inputs outside the ranges in the manifest's statistics were not seen in training.\n"
        "- Fairness, robustness and safety for a particular use were not examined by saman.\n"
    )


def _approvals(one: VersionState) -> str:
    rows = [[each["by"], when(each["time"]), each["who"], each["why"]] for each in one.approvals]
    heads = ["by", "when", "entered by", "why"]
    return "## Approvals\n\n" + (_table(heads, rows) if rows else "None.\n")


def _deployed(folder: ModelFolder, state: ModelState, one: VersionState) -> str:
    labels = state.labels_of(one.number)
    where = (
        f"`models.config` of {folder.models_dir} offers it as {', '.join(labels)}." if labels else "It has no label."
    )
    rows = [
        [
            when(entry.time),
            entry.action,
            entry.facts["label"],
            entry.facts.get("from") or "",
            entry.facts["to"],
            entry.who,
        ]
        for entry in audit_log.read(folder.log)
        if one.number in (entry.facts.get("from"), entry.facts.get("to")) and "to" in entry.facts
    ]
    heads = ["when", "what", "label", "from", "to", "by"]
    return "## Where it is deployed\n\n" + where + ("\n\n" + _table(heads, rows) if rows else "\n")


def _help(folder: ModelFolder, state: ModelState, one: VersionState) -> str:
    models = f"--models-dir {folder.models_dir}"
    back = state.rollback_target()
    rollback = (
        f"`saman models rollback {folder.name} {models}` makes version {back} stable again"
        if state.assigned.get(STABLE) == one.number and back
        else "no earlier version was stable: promote another with `saman models promote`"
        if state.assigned.get(STABLE) == one.number
        else "it is not stable: nothing is to be rolled back"
    )
    return (
        "## When something goes wrong\n\n"
        f"1. Is it what was published? `saman models verify {folder.name}:{one.number} {models}`\n"
        f"2. What changed, and by whom? `saman models log {folder.name} {models}`\n"
        f"3. Roll back: {rollback}.\n"
        f"4. Take it out for good: `saman models retire {folder.name}:{one.number} {models}`, once it has no label.\n"
        f"5. Ask {one.who}; the run folder holds logs and telemetry.\n"
    )
