"""The model card of a version as Markdown: use, training, data, metrics, limits, approvals, deployment, rollback."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from saman.configs.units import format_bytes, format_time
from saman.registry.formats.parity import read_parities
from saman.registry.store import audit_log
from saman.registry.store.manifest import Manifest
from saman.registry.store.model_state import STABLE, VersionState
from saman.registry.store.policies import read_policy
from saman.registry.versions import ModelVersion, find_version
from saman.runs.records.export import Normalization
from saman.runs.tuning.evidence import TuningEvidence


def render_card(models_dir: Path, spec: str) -> str:
    """Render the model card. Reads only; an unknown fact is named as unknown.

    Args:
        models_dir: The models folder.
        spec: ``NAME``, ``NAME:VERSION`` or ``NAME:LABEL``; a name alone means the stable version, else the newest.

    Raises:
        UserError: There is no such version, or its manifest is damaged.
    """
    version = find_version(models_dir, spec)
    about = version.read_manifest()
    parts = [
        _head(about, version),
        _use(about),
        _training(about),
        _data(about),
        _metrics(about),
        _tuning(about),
        _gates(version, about),
        _formats(version),
        _limits(about),
        _approvals(version.record),
        _deployment(version),
        _runbook(version),
    ]
    return "\n".join(part for part in parts if part)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)]) + "\n"


def _head(about: Manifest, version: ModelVersion) -> str:
    labels = ", ".join(version.state.labels_of(version.number)) or "none"
    why = f" Reason: {about.why}." if about.why else ""
    arrival = " Its arrival was interrupted; `saman models reconcile` completes it." if version.in_staging else ""
    return (
        f"# {about.model}, version {about.version}\n\n"
        f"Published {format_time(about.published_at)} by {about.published_by}.{why} "
        f"Status: {version.record.status.value}; labels: {labels}; size: {format_bytes(about.total_bytes)}.{arrival}\n"
    )


def _use(about: Manifest) -> str:
    rows = [
        (side, name, tensor.dtype, list(tensor.shape))
        for side, tensors in (("inputs", about.signature.inputs), ("outputs", about.signature.outputs))
        for name, tensor in tensors.items()
    ]
    signature = f"Signature: `{about.signature.name}`."
    normalization = f" Normalisation: {Normalization.of(about.export.get('normalization')).sentence}."
    return f"## Use\n\n{signature}{normalization}\n\n" + _table(["", "name", "dtype", "shape"], rows)


def _training(about: Manifest) -> str:
    run = about.run
    dirty = " with uncommitted changes" if run.has_uncommitted_changes else ""
    rows = [
        ("run", f"{run.id} ({run.folder} on {run.host})"),
        ("model", json.dumps(run.experiment.get("model")) if run.experiment else "the user's own program"),
        ("strategy, ranks, seed", f"{run.strategy}, {run.ranks}, {run.seed}"),
        ("nodes", ", ".join(run.hosts) or "unknown"),
        ("code", f"{run.commit or 'unknown'}{dirty}"),
        ("versions", ", ".join(f"{name} {value}" for name, value in about.versions.items()) or "unknown"),
        ("experiment digest", run.experiment_digest or "none"),
        ("SavedModel fingerprint", about.fingerprint.get("saved_model_checksum", "none")),
    ]
    return "## Training\n\n" + _table(["", ""], rows)


def _data(about: Manifest) -> str:
    rows = [(key, json.dumps(value) if isinstance(value, (dict, list)) else value) for key, value in about.data.items()]
    statistics = "\nThe manifest holds statistics of the training data for each feature.\n" if about.statistics else ""
    return "## Data\n\n" + (_table(["", ""], rows) if rows else "Unknown.\n") + statistics


def _metrics(about: Manifest) -> str:
    rows = [(name, f"{value:.5g}") for name, value in sorted(about.metrics.items())]
    return "## Metrics\n\n" + (_table(["metric", "value"], rows) if rows else "None were recorded.\n")


def _tuning(about: Manifest) -> str:
    if not about.tuning:
        return ""
    found = TuningEvidence.from_json(about.tuning)
    seeds = ", ".join(f"{each.seed}: {_number(each.value)}" for each in found.seeds)
    interval = "" if found.low is None else f", 95 % interval {found.low:.5g} to {found.high:.5g}"
    rows = [
        ("study, trial", f"{found.study}, trial {found.trial}"),
        ("values", json.dumps(found.settings)),
        ("trials", ", ".join(f"{count} {outcome}" for outcome, count in found.trials.items())),
        (f"{found.objective.get('metric')} of the trial, selected as the best", _number(found.value)),
        ("with other seeds", f"{seeds}; mean {_number(found.mean)}{interval}"),
        ("node-hours of the study", _number(found.node_hours)),
    ]
    return "## Tuning\n\n" + _table(["", ""], rows)


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.5g}"


def _gates(version: ModelVersion, about: Manifest) -> str:
    rows = [(gate.gate, "passed" if gate.passed else "refused", gate.text) for gate in about.gates]
    if rows:
        return "## Gates at publication\n\n" + _table(["gate", "outcome", "measured"], rows)
    has_policy = read_policy(version.folder).model_dump(exclude_defaults=True)
    return "" if has_policy else "## Gates at publication\n\nThe models folder has no policy.\n"


def _formats(version: ModelVersion) -> str:
    rows = [
        (
            parity.format,
            parity.runtime,
            f"{parity.max_difference:.3g}",
            "" if parity.accuracy is None else f"{parity.accuracy:.4f}",
            format_bytes(parity.bytes),
            parity.note,
        )
        for parity in read_parities(version.folder, version.record)
    ]
    heads = ["format", "runtime", "max difference", "accuracy", "size", "note"]
    return "## Formats\n\n" + _table(heads, rows) if rows else ""


def _limits(about: Manifest) -> str:
    sample = about.export.get("sample") or {}
    count, split = sample.get("examples"), sample.get("split")
    measured = f"{count} examples of the {split} split" if sample else "the stored sample"
    return (
        "## Limits\n\n"
        f"- The metrics were measured on {measured} only. They hold for data like the training data.\n"
        "- Training covered the ranges in the manifest's statistics; inputs outside are untested.\n"
        "- saman did not examine fairness, robustness or safety for a particular use.\n"
    )


def _approvals(record: VersionState) -> str:
    rows = [(approval.by, format_time(approval.time), approval.who, approval.why) for approval in record.approvals]
    heads = ["by", "when", "entered by", "why"]
    return "## Approvals\n\n" + (_table(heads, rows) if rows else "None.\n")


def _deployment(version: ModelVersion) -> str:
    labels = version.state.labels_of(version.number)
    served = f"`models.config` of {version.folder.models_dir} serves it as {', '.join(labels)}."
    rows = [
        (format_time(entry.time), entry.action, entry.label, entry.moved_from or "", entry.moved_to, entry.who)
        for entry in audit_log.read(version.folder.log)
        if entry.moved_to is not None and version.number in (entry.moved_from, entry.moved_to)
    ]
    heads = ["when", "change", "label", "from", "to", "by"]
    history = "\n" + _table(heads, rows) if rows else ""
    return f"## Deployment\n\n{served if labels else 'It has no label.'}\n{history}"


def _runbook(version: ModelVersion) -> str:
    name, options = version.folder.name, f"--models-dir {version.folder.models_dir}"
    spec = f"{name}:{version.number}"
    return (
        "## If something goes wrong\n\n"
        f"1. Check the files: `saman models verify {spec} {options}`\n"
        f"2. See who changed what: `saman models log {name} {options}`\n"
        f"3. Roll back: {_rollback_advice(version, options)}.\n"
        f"4. Withdraw the version, once it has no label: `saman models retire {spec} {options}`\n"
        f"5. Ask {version.record.who}. The run folder holds logs and telemetry.\n"
    )


def _rollback_advice(version: ModelVersion, options: str) -> str:
    if version.state.assigned.get(STABLE) != version.number:
        return "not needed, this version is not stable"
    back = version.state.rollback_target()
    if back is None:
        return "no earlier version was stable; promote another with `saman models promote`"
    return f"`saman models rollback {version.folder.name} {options}` makes version {back} stable again"
