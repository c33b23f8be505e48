"""Status and metadata of models, as JSON (get_model_status_impl.cc, http_rest_api_util.cc)."""

from __future__ import annotations

from typing import Any

from saman.serving.front.core import RequestTarget
from saman.serving.front.table import ServedVersion, ServingTable
from saman.serving.interface.status import StatusCode, not_found


def find_versions(table: ServingTable, target: RequestTarget) -> list[ServedVersion]:
    """The versions of a status request, highest first; raises ``ServingError``."""
    model = table.models.get(target.model)
    if model is None or not model.versions:
        raise not_found(f"Could not find any versions of model {target.model}")
    number = target.version
    if target.label is not None:
        number = model.find(None, target.label).number
    if number is None:
        return [model.versions[each] for each in sorted(model.versions, reverse=True)]
    if number not in model.versions:
        raise not_found(f"Could not find version {number} of model {target.model}")
    return [model.versions[number]]


def code_of(version: ServedVersion) -> StatusCode:
    """The error of a version that could not be served, else ``OK``."""
    return StatusCode.UNKNOWN if version.problem else StatusCode.OK


def status_json(table: ServingTable, target: RequestTarget) -> dict[str, Any]:
    """``GetModelStatusResponse`` as JSON; raises ``ServingError``."""
    rows = [
        {
            "version": str(version.number),
            "state": version.life.name,
            "status": {"error_code": code_of(version).name, "error_message": version.problem},
        }
        for version in find_versions(table, target)
    ]
    return {"model_version_status": rows}


def metadata_json(model: str, version: ServedVersion) -> dict[str, Any]:
    """``GetModelMetadataResponse`` as JSON."""
    signatures = {name: signature.to_json() for name, signature in version.signatures.items()}
    return {
        "model_spec": {"name": model, "signature_name": "", "version": str(version.number)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
