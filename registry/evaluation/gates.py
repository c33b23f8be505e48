"""The gates a version must pass before it is published or promoted, as the policy of the models folder asks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.names import size, size_bytes
from saman.configs.schemas.policy import Compare, Policy
from saman.registry.evaluation import converter_process
from saman.registry.evaluation.paired_comparison import PairedComparison, compare
from saman.registry.store import audit_log, manifest
from saman.registry.store.layout import VALIDATION, ModelFolder
from saman.registry.store.manifest import Manifest
from saman.registry.store.model_state import STABLE, VersionState, fold
from saman.registry.store.policies import policy_of
from saman.registry.store.signing import signature_problem


class PublishRefused(UserError):  # noqa: N818  (a decision, not a fault)
    """The run is fine, but a condition or a gate keeps it from becoming a version, or a version from being promoted."""


@dataclass(frozen=True)
class GateResult:
    """What one gate came to."""

    gate: str
    passed: bool
    text: str
    facts: dict[str, Any]


def at_publish(folder: ModelFolder, draft: Manifest, staged: Path) -> list[dict[str, Any]]:
    """The findings of the gates that need neither approval nor signature.

    Raises one ``PublishRefused`` that lists every gate that decides against the version.
    """
    findings = list(_measured(folder, policy_of(folder), draft, staged, _stable(folder)))
    return _decided(findings, f"{folder.name} is not published")


def at_promotion(folder: ModelFolder, number: int, label: str) -> list[dict[str, Any]]:
    """The findings of all gates before a version becomes ``stable``; other labels have none.

    Raises one ``PublishRefused`` that lists every gate that decides against it.
    """
    if label != STABLE:
        return []
    policy = policy_of(folder)
    state = fold(folder.name, audit_log.read(folder.log))
    about = manifest.read(folder.version(number))
    stable = _stable(folder)
    stable = None if stable == number else stable
    findings = list(_measured(folder, policy, about, folder.version(number), stable))
    findings += _approved(policy, state.version(number)) + _signed(folder, number, policy)
    return _decided(findings, f"{folder.name} version {number} is not promoted")


def _decided(findings: list[GateResult], refusal: str) -> list[dict[str, Any]]:
    against = [PublishRefused(f"{refusal}: {one.text}", where=f"gate {one.gate}") for one in findings if not one.passed]
    if against:
        first = against[0]
        raise PublishRefused(first.problem, where=first.where, remedy="policy.yaml decides", others=against[1:])
    return [asdict(one) for one in findings]


def _stable(folder: ModelFolder) -> int | None:
    return fold(folder.name, audit_log.read(folder.log)).assigned.get(STABLE)


def _measured(
    folder: ModelFolder, policy: Policy, about: Manifest, files: Path, stable: int | None
) -> Iterator[GateResult]:
    for condition in policy.metrics:
        value = about.metrics.get(condition.metric)
        if condition.at_least is not None:
            wanted, passed = f"at least {condition.at_least:g}", value is not None and value >= condition.at_least
        else:
            wanted, passed = f"at most {condition.at_most:g}", value is not None and value <= (condition.at_most or 0)
        text = f"{condition.metric} is {'unknown' if value is None else f'{value:.4g}'}, asked for is {wanted}"
        yield GateResult("metric", passed, text, {"metric": condition.metric, "value": value})
    if policy.size_at_most is not None:
        most = size_bytes(policy.size_at_most)
        text = f"it has {size(about.total_bytes)}, allowed are {size(most)}"
        yield GateResult("size", about.total_bytes <= most, text, {"bytes": about.total_bytes, "at_most": most})
    if policy.latency_at_most_milliseconds is not None or (policy.compare is not None and stable is not None):
        yield from _by_asking(folder, policy, files, stable)


def _by_asking(folder: ModelFolder, policy: Policy, files: Path, stable: int | None) -> Iterator[GateResult]:
    """The gates that need the models' answers; one process answers for both."""
    if not (files / VALIDATION).is_file():
        yield GateResult("compare", False, "the version holds no validation sample to be measured on", {})
        return
    against = stable if policy.compare is not None else None
    versions = [files] + ([folder.version(against)] if against is not None else [])
    answers, reports = predictions(versions, files / VALIDATION)
    most = policy.latency_at_most_milliseconds
    if most is not None:
        taken = float(reports[0]["latency_milliseconds"])
        text = f"one example takes {taken:.3g} ms, allowed are {most:g} ms"
        yield GateResult("latency", taken <= most, text, {"milliseconds": taken, "at_most": most})
    if policy.compare is not None and against is not None:
        yield _compared(policy.compare, answers, files, folder.version(against), against)


def predictions(versions: list[Path], validation: Path) -> tuple[list[np.ndarray[Any, Any]], list[dict[str, Any]]]:
    """Every version's answers to a stored sample, through its serving signature, and what was measured."""
    with tempfile.TemporaryDirectory(prefix="saman-") as scratch:
        outputs = [Path(scratch, f"{index}.npy") for index in range(len(versions))]
        pairs = [
            part
            for one, to in zip(versions, outputs, strict=True)
            for part in ("--model", str(one), "--output", str(to))
        ]
        report = converter_process.call(["predict", *pairs, "--inputs", str(validation)])
        return [np.load(output, allow_pickle=False) for output in outputs], report["models"]


def _compared(
    wanted: Compare, answers: list[np.ndarray[Any, Any]], files: Path, stable: Path, number: int
) -> GateResult:
    with np.load(files / VALIDATION, allow_pickle=False) as stored:
        labels = stored["labels"]
    try:
        found = compare(answers[0], answers[1], labels, wanted.confidence)
    except ValueError as error:
        return GateResult("compare", False, f"it cannot be compared with stable version {number}: {error}", {})
    passed = found.lower >= -wanted.tolerance
    overlap = overlap_with_training(files / VALIDATION, stable / VALIDATION)
    text = _verdict(found, wanted, number) + (f"; {overlap['text']}" if overlap["text"] else "")
    return GateResult("compare", passed, text, {**asdict(found), "stable_version": number, "overlap": overlap})


def _verdict(found: PairedComparison, wanted: Compare, number: int) -> str:
    by = f"{found.measure} {found.candidate:.4g} against {found.stable:.4g} of stable version {number}"
    p_value = f", McNemar p = {found.p_value:.2g}" if found.p_value is not None else ""
    bound = f"at {wanted.confidence:.0%} confidence no more than {max(0.0, -found.lower):.4g} worse"
    return f"{by} on {found.examples} examples{p_value}; {bound}, allowed is {wanted.tolerance:g}"


def overlap_with_training(candidate: Path, stable: Path) -> dict[str, Any]:
    """How many examples of the candidate's validation sample the stable model was trained on, by content."""
    try:
        with np.load(candidate, allow_pickle=False) as mine, np.load(stable, allow_pickle=False) as theirs:
            ids, trained = mine["ids"], theirs["training_ids"]
    except (OSError, KeyError, ValueError):
        return {"examples": None, "text": "whether stable was trained on these examples is not known"}
    shared = int(np.isin(ids, trained).sum())
    text = f"stable was trained on {shared} of these {len(ids)} examples, which favours it" if shared else ""
    return {"examples": shared, "of": len(ids), "text": text}


def _approved(policy: Policy, one: VersionState) -> list[GateResult]:
    if policy.approvals is None:
        return []
    names = sorted({str(approval["by"]) for approval in one.approvals})
    allowed = [name for name in names if policy.approvals.by is None or name in policy.approvals.by]
    asked = policy.approvals.at_least
    text = f"{len(allowed)} of {asked} approvals ({', '.join(allowed) or 'none'}); saman models approve --by NAME"
    return [GateResult("approval", len(allowed) >= asked, text, {"by": allowed, "at_least": asked})]


def _signed(folder: ModelFolder, number: int, policy: Policy) -> list[GateResult]:
    if policy.signature != "required":
        return []
    problem = signature_problem(folder, folder.version(number), policy)
    return [GateResult("signature", not problem, problem or "the signature fits", {})]
