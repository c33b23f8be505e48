"""What ``saman models list`` and ``show`` tell, as plain values and as tables for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saman.configs.errors import UserError
from saman.configs.names import size, when
from saman.registry.lifecycle.reconcile import look, look_all
from saman.registry.store import manifest
from saman.registry.store.audit_log import Entry
from saman.registry.store.layout import ModelFolder, existing, parse_spec
from saman.registry.store.model_state import ModelState, VersionState

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


def listing(models_dir: Path) -> list[dict[str, Any]]:
    """Every version whose files are kept: model, version, labels, status, when, by whom, metrics, size."""
    return [_row(folder, state, one) for folder, state in look_all(models_dir) for one in state.present()]


def _row(folder: ModelFolder, state: ModelState, one: VersionState) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": folder.name,
        "version": one.number,
        "labels": state.labels_of(one.number),
        "status": one.status,
        "published_at": one.time,
        "published_by": one.who,
        "run": one.run,
        "approved_by": [approval["by"] for approval in one.approvals],
        "formats": sorted(one.formats),
        "path": str(folder.version(one.number)),
    }
    try:
        about = manifest.read(folder.version(one.number))
    except UserError as error:
        return {**row, "problem": error.one_line()}
    return {**row, "metrics": about.metrics, "bytes": about.total_bytes}


def resolve(models_dir: Path, text: str) -> tuple[ModelFolder, ModelState, VersionState]:
    """The version that ``NAME[:VERSION|:LABEL]`` means: alone, ``stable``, else the newest."""
    spec = parse_spec(text)
    folder = existing(models_dir, spec.name)
    state = look(folder)
    if spec.number is not None:
        return folder, state, state.version(spec.number)
    if spec.label is not None:
        return folder, state, state.labelled(spec.label)
    return folder, state, state.labelled("stable") if "stable" in state.assigned else state.newest()


def details(models_dir: Path, text: str) -> dict[str, Any]:
    """Everything known of one version."""
    folder, state, one = resolve(models_dir, text)
    about = manifest.read(folder.version(one.number))
    return {**_row(folder, state, one), "approvals": one.approvals, "exports": one.formats, "manifest": about.to_json()}


def _figures(metrics: dict[str, float]) -> str:
    chosen = [name for name in metrics if name.startswith("val_")] or list(metrics)
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in sorted(chosen))


def listing_table(rows: list[dict[str, Any]]) -> Table:
    """The listing for a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "version", "labels", "figures", "size", "published", "by"):
        table.add_column(heading, justify="right" if heading in ("version", "size") else "left")
    for row in rows:
        labels = ", ".join(row["labels"] + ([row["status"]] if row["status"] != "published" else []))
        figures = row.get("problem") or _figures(row["metrics"])
        total = size(row["bytes"]) if "bytes" in row else "?"
        cells = (row["model"], str(row["version"]), labels, figures, total, when(row["published_at"]))
        table.add_row(*cells, row["published_by"])
    return table


def details_view(facts: dict[str, Any]) -> Group:
    """One version for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    about = facts["manifest"]
    run = about["run"]
    facts_table = Table(box=None, show_header=False, pad_edge=False)
    facts_table.add_column(style="bold")
    facts_table.add_column(overflow="fold")
    for name, value in _facts(facts, about, run):
        facts_table.add_row(name, Text(value))
    files = Table(box=None, pad_edge=False, header_style="bold")
    files.add_column("file")
    files.add_column("size", justify="right")
    files.add_column("SHA-256")
    for path, record in sorted(about["files"].items()):
        files.add_row(path, size(record["bytes"]), record["sha256"][:16] + "…")
    title = Text(f"{facts['model']} version {facts['version']}", style="bold underline")
    return Group(title, facts_table, Text(""), files)


def _facts(facts: dict[str, Any], about: dict[str, Any], run: dict[str, Any]) -> list[tuple[str, str]]:
    inputs, outputs = (_tensors(about["signature"].get(side)) for side in ("inputs", "outputs"))
    provenance = run.get("provenance") or {}
    git = provenance.get("git") or {}
    commit = provenance.get("git_commit") or (git.get("commit") if isinstance(git, dict) else None)
    trained = f"{run.get('strategy') or 'own program'} on {run.get('ranks') or '?'} ranks, seed {run.get('seed')}"
    data = "  ".join(f"{key}={value}" for key, value in about["data"].items() if not isinstance(value, (dict, list)))
    pairs = [
        ("status", facts["status"] + (f" ({', '.join(facts['labels'])})" if facts["labels"] else "")),
        ("published", f"{when(about['published_at'])} by {about['published_by']}"),
        ("why", about.get("why") or ""),
        ("path", facts["path"]),
        ("inputs", inputs),
        ("outputs", outputs),
        ("metrics", _figures(about["metrics"])),
        ("run", f"{run['id']} on {run['host']}"),
        ("trained with", trained),
        ("hosts", ", ".join(run.get("hosts") or [])),
        ("code", str(commit or "")),
        ("data", data),
        ("versions", "  ".join(f"{key} {value}" for key, value in about["versions"].items())),
        ("fingerprint", str(about["fingerprint"].get("saved_model_checksum", ""))),
        ("approved by", ", ".join(facts["approved_by"])),
        ("formats", ", ".join(facts["formats"])),
    ]
    return [(name, value) for name, value in pairs if value]


def _tensors(side: Any) -> str:
    if not isinstance(side, dict):
        return ""
    return "  ".join(f"{name}: {one.get('dtype')} {one.get('shape')}" for name, one in side.items())


def log_table(entries: list[Entry]) -> Table:
    """The audit log for a terminal, oldest first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("#", "when", "who", "what", "why"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        table.add_row(str(entry.number), when(entry.time), entry.who, _deed(entry), entry.why)
    return table


def _deed(entry: Entry) -> str:
    facts = entry.facts
    if "label" in facts:
        left, to = facts.get("from"), facts.get("to")
        return f"{entry.action} {facts['label']}: {left or 'none'} → {to or 'none'}"
    rest = f" by {facts['by']}" if "by" in facts else f" {facts['format']}" if "format" in facts else ""
    return f"{entry.action} version {facts.get('version')}{rest}"
