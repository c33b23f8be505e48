"""Reads a run for publication: its model name, its export, its publish condition and its record for the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saman.configs.errors import UserError
from saman.configs.files import read_json
from saman.registry.evaluation.gates import PublishRefusal
from saman.registry.store import audit_log
from saman.registry.store.manifest import RunRecord
from saman.runs.events import State
from saman.runs.folder import RunFolder

_REQUIRED = ("saved_model/saved_model.pb", "saved_model/variables/variables.index", "export.json")


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


def read_export(run: RunFolder) -> dict[str, Any]:
    """Read ``export.json`` and check the files beside it.

    Raises:
        UserError: The export is missing, incomplete, was not compared with the trained model, or has no signature.
    """
    export = run.export
    if not export.is_dir():
        completed = run.state is State.COMPLETED
        remedy = "export the model in the run" if completed else "saman resume continues an unfinished run"
        raise UserError(f"this run has no export (state: {run.state.value})", where=str(run.path), remedy=remedy)
    if export.is_symlink():
        raise UserError("this is a symbolic link", where=str(export), remedy="replace it by a real folder")
    for name in _REQUIRED:
        if not (export / name).is_file():
            problem = "the export is incomplete: this file is missing"
            raise UserError(problem, where=str(export / name), remedy="export the model again")
    return _check_record(export / "export.json")


def _check_record(file: Any) -> dict[str, Any]:
    exported = read_json(file)
    if not isinstance(exported, dict):
        raise UserError("this file is not JSON", where=str(file), remedy="export the model again")
    if not exported.get("checked"):
        problem = "the export was never compared with the trained model"
        raise UserError(problem, where=str(file), remedy="export the model again")
    if not inputs_of(exported):
        problem = "the model has no serving signature, so no server can call it"
        raise UserError(problem, where=str(file), remedy="export it with a signature 'serving_default'")
    return exported


def inputs_of(exported: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of the serving signature by name: ``{"dtype": …, "shape": […]}``; empty without a signature."""
    signature = exported.get("signature")
    inputs = signature.get("inputs") if isinstance(signature, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def check_condition(run: RunFolder, exported: Mapping[str, Any]) -> None:
    """Raise ``PublishRefusal`` where the export misses the experiment's ``publish.if``."""
    wanted = None if run.is_script else run.experiment().publish
    if wanted is None or wanted.condition is None:
        return
    condition = wanted.condition
    value = (exported.get("metrics") or {}).get(condition.metric)
    if condition.at_least is not None:
        bound, met = f"at least {condition.at_least:g}", value is not None and value >= condition.at_least
    else:
        bound, met = f"at most {condition.at_most:g}", value is not None and value <= (condition.at_most or 0.0)
    if met:
        return
    measured = "unknown" if value is None else f"{value:.4g}"
    problem = f"not published: {condition.metric} is {measured}, but must be {bound}"
    raise PublishRefusal(problem, where=str(run.path), remedy="see publish.if of the experiment")


def run_record(run: RunFolder) -> RunRecord:
    """Describe the training for the manifest, from the run folder."""
    experiment = None if run.is_script else run.experiment()
    attempts = run.attempts()
    records = [read_json(attempts[-1].rank_record(rank)) for rank in attempts[-1].ranks()] if attempts else []
    nodes = {str(record["node"]) for record in records if isinstance(record, dict) and record.get("node")}
    provenance = read_json(attempts[-1].provenance) if attempts else None
    return RunRecord(
        id=run.id,
        folder=str(run.path),
        host=audit_log.current_user().rpartition("@")[2],
        experiment=experiment.resolved() if experiment else None,
        experiment_digest=experiment.digest() if experiment else None,
        strategy=experiment.train.strategy if experiment else None,
        ranks=experiment.resources.ranks if experiment else None,
        seed=experiment.train.seed if experiment else None,
        attempts=len(attempts),
        hosts=sorted(nodes),
        provenance={key: value for key, value in (provenance or {}).items() if key != "environment"},
    )
