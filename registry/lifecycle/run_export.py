"""Reads a run for publication: its model name, its export, its publish condition and its record for the manifest."""

from __future__ import annotations

from saman.configs.errors import UserError
from saman.registry.evaluation.gates import PublishRefusal
from saman.registry.store import audit_log
from saman.registry.store.manifest import ManifestRun
from saman.runs.events import State
from saman.runs.folder import RunFolder
from saman.runs.ranks.attempt_ranks import read_records
from saman.runs.records.export import ExportRecord
from saman.runs.records.provenance import Provenance


def model_name(run: RunFolder) -> str:
    """The model name in the run's experiment; raises ``UserError`` where it has none."""
    if run.is_script:
        problem = "a run of your own program does not name its model"
        raise UserError(problem, where=str(run.path), remedy="--model NAME")
    wanted = run.experiment().publish
    if wanted is None:
        problem = "the experiment does not name a model to publish"
        raise UserError(problem, where=str(run.path), remedy="publish: {model: NAME}, or --model NAME")
    return wanted.model


def read_export(run: RunFolder) -> ExportRecord:
    """Read the record of the run's export and check the files beside it.

    Raises:
        UserError: The export is missing, incomplete, was not compared with the trained model, or has no signature.
    """
    export = run.exported
    if not export.path.is_dir():
        completed = run.state is State.COMPLETED
        remedy = (
            "run it again with export=true (exports: true in a study)"
            if completed
            else "saman resume continues an unfinished run"
        )
        raise UserError(f"this run has no export (state: {run.state.value})", where=str(run.path), remedy=remedy)
    if export.path.is_symlink():
        raise UserError("this is a symbolic link", where=str(export.path), remedy="replace it by a real folder")
    for file in export.required():
        if not file.is_file():
            problem = "the export is incomplete: this file is missing"
            raise UserError(problem, where=str(file), remedy="export the model again")
    record = ExportRecord.read(export.record)
    if not record.checked:
        problem = "the export was never compared with the trained model"
        raise UserError(problem, where=str(export.record), remedy="export the model again")
    if not record.signature.inputs:
        problem = "the model has no serving signature, so no server can call it"
        raise UserError(problem, where=str(export.record), remedy="export it with a signature 'serving_default'")
    return record


def check_condition(run: RunFolder, exported: ExportRecord) -> None:
    """Raise ``PublishRefusal`` where the export misses the experiment's ``publish.if``."""
    wanted = None if run.is_script else run.experiment().publish
    if wanted is None or wanted.condition is None:
        return
    condition = wanted.condition
    value = exported.metrics.get(condition.metric)
    if condition.at_least is not None:
        bound, met = f"at least {condition.at_least:g}", value is not None and value >= condition.at_least
    else:
        bound, met = f"at most {condition.at_most:g}", value is not None and value <= (condition.at_most or 0.0)
    if met:
        return
    measured = "unknown" if value is None else f"{value:.4g}"
    reason = f"{condition.metric} is {measured}, but must be {bound}"
    remedy = "see publish.if of the experiment"
    raise PublishRefusal(f"not published: {reason}", reason=reason, where=str(run.path), remedy=remedy)


def run_record(run: RunFolder) -> ManifestRun:
    """Describe the training for the manifest, from the run folder."""
    experiment = None if run.is_script else run.experiment()
    attempts = run.attempts()
    records = read_records(attempts[-1]) if attempts else {}
    provenance = Provenance.read(attempts[-1].provenance) if attempts else None
    return ManifestRun(
        id=run.id,
        folder=str(run.path),
        host=audit_log.current_user().rpartition("@")[2],
        experiment=experiment.resolved() if experiment else None,
        experiment_digest=experiment.digest() if experiment else None,
        strategy=experiment.train.strategy if experiment else None,
        ranks=experiment.resources.ranks if experiment else None,
        seed=experiment.train.seed if experiment else None,
        attempts=len(attempts),
        hosts=sorted({record.node for record in records.values() if record.node}),
        provenance=provenance.to_json(with_environment=False) if provenance else {},
    )
