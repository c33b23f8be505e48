"""The gates of a policy: checks that a version must pass before it is published or becomes ``stable``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.schemas.policy import Policy
from saman.configs.units import format_bytes, parse_size
from saman.registry.evaluation.answers import answer_sample
from saman.registry.evaluation.gate_facts import ApprovalCount, LatencyMeasure, MetricMeasure, SizeMeasure
from saman.registry.evaluation.stable_comparison import StableComparison, compare_with_stable
from saman.registry.store import manifest
from saman.registry.store.layout import VALIDATION, ModelFolder
from saman.registry.store.manifest import GateRecord, Manifest
from saman.registry.store.model_state import STABLE, VersionState, read_model
from saman.registry.store.policies import read_policy
from saman.registry.store.signing import signature_problem

_log = logging.getLogger(__name__)


class PublishRefusal(UserError):  # noqa: N818  (a decision, not a fault)
    """A condition or a gate refuses to publish or promote a version; the run itself is fine.

    ``reason`` is the decision without the words "not published".
    """

    def __init__(self, problem: str, *, reason: str | None = None, **parts: Any) -> None:
        super().__init__(problem, **parts)
        self.reason = reason or problem


class Gate(str, Enum):
    """The gates that a policy may ask for."""

    METRIC = "metric"
    SIZE = "size"
    LATENCY = "latency"
    COMPARE = "compare"
    APPROVAL = "approval"
    SIGNATURE = "signature"


class GateOutcome(str, Enum):
    """The decision of a gate. A gate that cannot measure the version refuses it."""

    PASSED = "passed"
    REFUSED = "refused"
    NOT_MEASURED = "not measured"

    @staticmethod
    def of(passed: bool) -> GateOutcome:
        """``PASSED`` or ``REFUSED``."""
        return GateOutcome.PASSED if passed else GateOutcome.REFUSED


Measured = MetricMeasure | SizeMeasure | LatencyMeasure | ApprovalCount | StableComparison


@dataclass(frozen=True)
class GateResult:
    """The decision of a gate, its explanation, and the measured values; ``None`` where nothing is measured."""

    gate: Gate
    outcome: GateOutcome
    text: str
    measured: Measured | None = None

    def record(self) -> GateRecord:
        """The result as manifests and the audit log hold it."""
        measured = self.measured
        if isinstance(measured, StableComparison):
            facts = measured.to_json()
        else:
            facts = {} if measured is None else asdict(measured)
        return GateRecord(
            gate=self.gate.value,
            passed=self.outcome is GateOutcome.PASSED,
            outcome=self.outcome.value,
            text=self.text,
            facts=facts,
        )


def check_at_publication(folder: ModelFolder, draft: Manifest, staged: Path) -> list[GateResult]:
    """Check the gates that need neither approval nor signature.

    Args:
        folder: The model.
        draft: The manifest of the version.
        staged: Its files.

    Raises:
        PublishRefusal: At least one gate refuses; the error lists all of them.
    """
    stable = read_model(folder).assigned.get(STABLE)
    results = list(_measure(folder, read_policy(folder), draft, staged, stable))
    _require_passed(results, f"{folder.name} is not published")
    return results


def check_at_promotion(folder: ModelFolder, number: int, label: str) -> list[GateResult]:
    """Check all gates before a version becomes ``stable``; other labels have no gates.

    Args:
        folder: The model.
        number: The version.
        label: The label that the version is to get.

    Returns:
        The result of each gate; empty for a label without gates.

    Raises:
        PublishRefusal: At least one gate refuses; the error lists all of them.
    """
    if label != STABLE:
        return []
    policy, state, files = read_policy(folder), read_model(folder), folder.version(number)
    stable = state.assigned.get(STABLE)
    results = list(_measure(folder, policy, manifest.read(files), files, None if stable == number else stable))
    results += _check_approvals(policy, state.version(number)) + _check_signature(folder, number, policy)
    _require_passed(results, f"{folder.name} version {number} is not promoted")
    return results


def _require_passed(results: Sequence[GateResult], refusal: str) -> None:
    for result in results:
        _log.info("gate %s %s: %s", result.gate.value, result.outcome.value, result.text)
    against = [
        PublishRefusal(f"{refusal}: {result.text}", reason=result.text, where=f"gate {result.gate.value}")
        for result in results
        if result.outcome is not GateOutcome.PASSED
    ]
    if against:
        first = against[0]
        reason = "; ".join(refusal.reason for refusal in against)
        raise PublishRefusal(
            first.problem, reason=reason, where=first.where, remedy="see policy.yaml", others=against[1:]
        )


def _measure(
    folder: ModelFolder, policy: Policy, about: Manifest, files: Path, stable: int | None
) -> Iterator[GateResult]:
    yield from _check_metrics(policy, about)
    if policy.size_at_most is not None:
        most = parse_size(policy.size_at_most)
        text = f"its size is {format_bytes(about.total_bytes)}, at most {format_bytes(most)} is allowed"
        measured = SizeMeasure(about.total_bytes, most)
        yield GateResult(Gate.SIZE, GateOutcome.of(about.total_bytes <= most), text, measured)
    if policy.latency_at_most_milliseconds is not None or (policy.compare is not None and stable is not None):
        yield from _check_answers(folder, policy, files, stable)


def _check_metrics(policy: Policy, about: Manifest) -> Iterator[GateResult]:
    for condition in policy.metrics:
        value = about.metrics.get(condition.metric)
        if condition.at_least is not None:
            wanted, passed = f"at least {condition.at_least:g}", value is not None and value >= condition.at_least
        else:
            wanted, passed = f"at most {condition.at_most:g}", value is not None and value <= (condition.at_most or 0)
        text = f"{condition.metric} is {'unknown' if value is None else f'{value:.4g}'}, must be {wanted}"
        yield GateResult(Gate.METRIC, GateOutcome.of(passed), text, MetricMeasure(condition.metric, value))


def _check_answers(folder: ModelFolder, policy: Policy, files: Path, stable: int | None) -> Iterator[GateResult]:
    """The gates that need the models' answers; the same process answers for both."""
    if not (files / VALIDATION).is_file():
        problem = "the version has no validation sample"
        yield GateResult(Gate.COMPARE, GateOutcome.NOT_MEASURED, problem)
        return
    against = stable if policy.compare is not None else None
    versions = [files] + ([folder.version(against)] if against is not None else [])
    answers = answer_sample(versions, files / VALIDATION, policy.loading)
    most = policy.latency_at_most_milliseconds
    if most is not None:
        taken = float(answers[0].latency_milliseconds or 0.0)
        text = f"the latency of an example is {taken:.3g} ms, at most {most:g} ms is allowed"
        yield GateResult(Gate.LATENCY, GateOutcome.of(taken <= most), text, LatencyMeasure(taken, most))
    if policy.compare is not None and against is not None:
        samples = (files / VALIDATION, folder.version(against) / VALIDATION)
        try:
            found = compare_with_stable(policy.compare, answers[0].values, answers[1].values, *samples, against)
        except ValueError as error:
            problem = f"it cannot be compared with stable version {against}: {error}"
            yield GateResult(Gate.COMPARE, GateOutcome.NOT_MEASURED, problem)
            return
        yield GateResult(Gate.COMPARE, GateOutcome.of(found.within_tolerance), found.text, found)


def _check_approvals(policy: Policy, version: VersionState) -> list[GateResult]:
    if policy.approvals is None:
        return []
    names = sorted({approval.by for approval in version.approvals})
    allowed = [name for name in names if policy.approvals.by is None or name in policy.approvals.by]
    least = policy.approvals.at_least
    text = f"{len(allowed)} of {least} approvals ({', '.join(allowed) or 'none'}); saman models approve --by NAME"
    counted = ApprovalCount(tuple(allowed), least)
    return [GateResult(Gate.APPROVAL, GateOutcome.of(len(allowed) >= least), text, counted)]


def _check_signature(folder: ModelFolder, number: int, policy: Policy) -> list[GateResult]:
    if policy.signature != "required":
        return []
    problem = signature_problem(folder, number, policy)
    return [GateResult(Gate.SIGNATURE, GateOutcome.of(not problem), problem or "the signature fits")]
