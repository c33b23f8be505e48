"""Tables of versions, their details and their audit log for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from saman.configs.units import format_bytes, format_time
from saman.registry.lifecycle.reconcile import StepKind
from saman.registry.listing import VersionDetails, VersionRow
from saman.registry.store.audit_entry import AuditAction, Entry
from saman.registry.store.manifest import Manifest
from saman.registry.store.model_state import VersionStatus
from saman.runs.records.export import SignatureTensor

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from saman.registry.rollout.judge import MetricFinding


def listing_table(rows: Iterable[VersionRow]) -> Table:
    """The listing for a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "version", "labels", "metrics", "size", "published", "by"):
        table.add_column(heading, justify="right" if heading in ("version", "size") else "left")
    for row in rows:
        metrics = row.problem or format_metrics(row.metrics or {})
        total = "?" if row.bytes is None else format_bytes(row.bytes)
        published = format_time(row.published_at)
        table.add_row(row.model, str(row.version), _marks(row), metrics, total, published, row.published_by)
    return table


def _marks(row: VersionRow) -> str:
    """Labels, a status other than published, and an interrupted arrival."""
    status = [] if row.status == VersionStatus.PUBLISHED.value else [row.status]
    arrival = ["arrival interrupted"] if row.pending is StepKind.VERSION_ARRIVAL else []
    return ", ".join([*row.labels, *status, *arrival])


def format_metrics(metrics: dict[str, float]) -> str:
    """The cell of a models table with a version's validation metrics; all metrics if there are none of these."""
    chosen = [name for name in metrics if name.startswith("val_")] or list(metrics)
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in sorted(chosen))


def details_view(details: VersionDetails) -> Group:
    """The details of a version for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(details):
        facts.add_row(name, Text(value))
    files = Table(box=None, pad_edge=False, header_style="bold")
    files.add_column("file")
    files.add_column("size", justify="right")
    files.add_column("SHA-256")
    for path, record in sorted(details.manifest.files.items()):
        files.add_row(path, format_bytes(record.bytes), record.sha256[:16] + "…")
    title = Text(f"{details.row.model} version {details.row.version}", style="bold underline")
    return Group(title, facts, Text(""), files)


def _facts(details: VersionDetails) -> list[tuple[str, str]]:
    row, about = details.row, details.manifest
    marks = _marks(row)
    pairs = [
        ("status", row.status + (f" ({marks})" if marks else "")),
        ("published", f"{format_time(about.published_at)} by {about.published_by}"),
        ("why", about.why),
        ("path", str(row.path)),
        ("inputs", _tensors(about.signature.inputs)),
        ("outputs", _tensors(about.signature.outputs)),
        ("metrics", format_metrics(about.metrics)),
        *_run_facts(about),
        ("versions", "  ".join(f"{key} {value}" for key, value in about.versions.items())),
        ("fingerprint", str(about.fingerprint.get("saved_model_checksum", ""))),
        ("approved by", ", ".join(row.approved_by)),
        ("formats", ", ".join(row.formats)),
    ]
    return [(name, value) for name, value in pairs if value]


def _run_facts(about: Manifest) -> list[tuple[str, str]]:
    run = about.run
    scalars = ((key, value) for key, value in about.data.items() if not isinstance(value, (dict, list)))
    return [
        ("run", f"{run.id} on {run.host}"),
        ("trained with", f"{run.strategy or 'own program'} on {run.ranks or '?'} ranks, seed {run.seed}"),
        ("hosts", ", ".join(run.hosts)),
        ("code", run.commit),
        ("data", "  ".join(f"{key}={value}" for key, value in scalars)),
    ]


def _tensors(side: Mapping[str, SignatureTensor]) -> str:
    return "  ".join(f"{name}: {tensor.dtype} {list(tensor.shape)}" for name, tensor in side.items())


def log_table(entries: Iterable[Entry]) -> Table:
    """The audit log for a terminal, oldest first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("#", "when", "who", "change", "why"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        table.add_row(str(entry.number), format_time(entry.time), entry.who, _describe(entry), entry.why)
    return table


def _describe(entry: Entry) -> str:
    if entry.label is not None:
        return f"{entry.action} {entry.label}: {entry.moved_from or 'none'} → {entry.moved_to or 'none'}"
    if entry.action == AuditAction.ROLLOUT.value:
        outcome = f": {entry.text('outcome')}" if entry.text("outcome") else ""
        return f"rollout {entry.text('event')}, version {entry.version}{outcome}"
    by = f" by {entry.text('by')}" if entry.text("by") else ""
    to = f" {entry.text('format')}" if entry.text("format") else ""
    return f"{entry.action} version {entry.version or '?'}{by}{to}"


def findings_table(findings: Iterable[MetricFinding]) -> Table:
    """The metrics of a rollout for a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("metric", "estimate", "lower", "upper", "margin", "observations", "shown"):
        table.add_column(heading, justify="left" if heading in ("metric", "shown") else "right")
    for finding in findings:
        values = (finding.estimate, finding.lower, finding.upper, finding.margin)
        shown = "harm" if finding.is_harmful else "within the margin" if finding.is_acceptable else "nothing yet"
        cells = ["–" if value is None else f"{value:.4g}" for value in values]
        table.add_row(finding.name, *cells, str(finding.observations), shown if finding.is_required else "")
    return table
