"""Counts the answers of a rollout in a front; memory is bounded. Safe to use from the event loop and a thread."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator

from saman.registry.rollout.evidence import Evidence
from saman.registry.store.rollouts import RolloutStart, RolloutStrategy
from saman.serving.rollout.assignment import user_of
from saman.serving.rollout.classes import is_wrong, predicted_classes
from saman.serving.routing import AnsweredRequest, Arrays

MOST_WAITING = 20_000  # outcomes of a side without their block
MOST_ANSWERS = 50_000  # answers that feedback may still name
MOST_USERS = 500_000
_FINE = ("OK", "CANCELLED")


class _Blocks:
    """Makes blocks of 1 outcome of the candidate and ``per_block`` outcomes of stable, in order of arrival."""

    def __init__(self, per_block: int) -> None:
        self._per_block = per_block
        self._sides: tuple[deque[int], deque[int]] = (deque(maxlen=MOST_WAITING), deque(maxlen=MOST_WAITING))

    def add(self, is_candidate: bool, outcome: int) -> Iterator[tuple[int, list[int]]]:
        self._sides[0 if is_candidate else 1].append(outcome)
        candidate, stable = self._sides
        while candidate and len(stable) >= self._per_block:
            yield candidate.popleft(), [stable.popleft() for _ in range(self._per_block)]


class RolloutRecorder:
    """The evidence of a front.

    A user counts once, with the first request: later requests of the same user depend on it.
    """

    def __init__(self, start: RolloutStart, candidate: int) -> None:
        self.start = start
        self.candidate = candidate
        self._evidence = Evidence(start.per_block)
        self._is_joined = start.strategy in (RolloutStrategy.SHADOW, RolloutStrategy.BLUE_GREEN)
        self._errors, self._classes, self._losses = (_Blocks(start.per_block) for _ in range(3))
        self._answers: OrderedDict[str, dict[bool, Arrays]] = OrderedDict()
        self._halves: OrderedDict[str, AnsweredRequest] = OrderedDict()
        self._users: set[int] = set()
        self._lock = threading.Lock()

    def snapshot(self) -> Evidence:
        """A copy of the counts so far."""
        with self._lock:
            return Evidence.merged([self._evidence], self.start.per_block)

    def observe(self, record: AnsweredRequest) -> None:
        """Count an answer of the candidate or of stable; other answers do not belong to the rollout."""
        if record.version not in (self.candidate, self.start.stable) or not (record.is_routed or record.is_mirror):
            return
        with self._lock:
            self._keep_answer(record)
            if self._is_joined:
                self._join(record)
            elif self._is_first(record):
                self._count(record)
                is_candidate = record.version == self.candidate
                self._count_blocks(is_candidate, record.status not in _FINE, predicted_classes(record.outputs))

    def _is_first(self, record: AnsweredRequest) -> bool:
        user = user_of(self.start, record.facts)
        if not user:
            return True
        if hash(user) in self._users or len(self._users) >= MOST_USERS:
            return False
        self._users.add(hash(user))
        return True

    def _count(self, record: AnsweredRequest) -> None:
        is_candidate = record.version == self.candidate
        self._evidence.requests[0 if is_candidate else 1] += 1
        if record.status == "OK":
            self._evidence.add_latency(is_candidate, record.seconds)

    def _count_blocks(self, is_candidate: bool, failed: bool, classes: list[int] | None) -> None:
        for candidate, stable in self._errors.add(is_candidate, int(failed)):
            self._evidence.errors.add(bool(candidate), sum(stable))
        if classes is not None:
            for candidate, stable in self._classes.add(is_candidate, classes[0]):
                self._evidence.add_predictions(candidate, stable)

    def _join(self, record: AnsweredRequest) -> None:
        """Compare the answers of both versions to the same request, once both are there."""
        other = self._halves.pop(record.facts.request_id, None)
        if other is None or other.version == record.version:
            self._halves[record.facts.request_id] = record
            while len(self._halves) > MOST_WAITING:
                self._halves.popitem(last=False)
            return
        if not self._is_first(record):
            return
        both = {half.version == self.candidate: half for half in (record, other)}
        classes = {side: predicted_classes(half.outputs) for side, half in both.items()}
        for side in (True, False):
            self._count(both[side])
            self._count_blocks(side, both[side].status not in _FINE, classes[side])
        if classes[True] is not None and classes[False] is not None:
            self._evidence.disagreements += [int(classes[True] != classes[False]), 1]

    def _keep_answer(self, record: AnsweredRequest) -> None:
        if record.status != "OK" or not record.facts.request_id:
            return
        sides = self._answers.setdefault(record.facts.request_id, {})
        sides[record.version == self.candidate] = _first_row(record.outputs)
        while len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)

    def feedback(self, request_id: str, label: int) -> bool | None:
        """Count the label of an answered request, once.

        Returns:
            ``False`` where this front does not know the request; ``None`` where its answer has no classes.
        """
        with self._lock:
            sides = self._answers.pop(request_id, None)
            if sides is None:
                return False
            wrong = {is_candidate: is_wrong(outputs, label) for is_candidate, outputs in sides.items()}
            if None in wrong.values():
                return None
            if self._is_joined and len(wrong) < 2:
                return True  # nothing to compare with
            for is_candidate, outcome in wrong.items():
                for candidate, stable in self._losses.add(is_candidate, int(bool(outcome))):
                    self._evidence.losses.add(bool(candidate), sum(stable))
            return True


def _first_row(outputs: Arrays) -> Arrays:
    return {name: values[:1].copy() if values.ndim else values for name, values in outputs.items()}
