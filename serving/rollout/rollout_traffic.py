"""``Traffic`` with rollouts: follows the audit logs, writes down what it counts, and starts the judge."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.schemas.policy import RecordingPolicy
from saman.registry.rollout.records import RolloutFiles
from saman.registry.store import audit_log
from saman.registry.store.audit_entry import Entry, entry_file
from saman.registry.store.layout import ModelFolder, find_model
from saman.registry.store.model_state import ModelState, replay
from saman.registry.store.policies import policy_marks, read_policy
from saman.registry.store.rollouts import RolloutState
from saman.runs.files import disk
from saman.runs.files.whole import append_line, parse_json, read_lines
from saman.runs.locks import holder_of
from saman.serving.recording import RequestRecording
from saman.serving.rollout.assignment import route_of
from saman.serving.rollout.judging import LOCK
from saman.serving.rollout.recorder import RolloutRecorder
from saman.serving.routing import AnsweredRequest, PlainAnswer, RequestFacts, Route

_PERIOD_SECONDS = 0.5
_MOST_FEEDBACK_BYTES = 16 << 20  # handed on to other fronts
PAGES = "/rollouts/"
_log = logging.getLogger(__name__)


@dataclass
class _Followed:
    """A model that was asked for: its log as far as it was read, and its active rollout."""

    folder: ModelFolder
    entries: list[Entry] = field(default_factory=list)
    active: RolloutState | None = None
    recorder: RolloutRecorder | None = None
    written: object = None
    recording: RequestRecording | None = None
    policy_marks: tuple[float, ...] | None = None
    lines: dict[Path, tuple[int, int]] = field(default_factory=dict)


class RolloutTraffic:
    """Distributes requests by the active rollout of each model. A front process has its own."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._server = disk.unique_name()
        self._followed: dict[str, _Followed] = {}
        self._thread: threading.Thread | None = None
        self._judge: subprocess.Popen[bytes] | None = None

    def wanted(self, state: ModelState) -> Iterable[int]:
        """The versions of an active rollout."""
        active = state.active_rollout
        return () if active is None else (active.version, active.start.stable)

    def route(self, model: str, default: int, facts: RequestFacts) -> Route:
        """The side of a request while a rollout is active and not paused, else the default version."""
        followed = self._followed.get(model) or self._follow(model)
        active = followed.active if followed is not None else None
        if active is None or active.is_paused or default not in (active.start.stable, active.version):
            return Route(default)
        return route_of(active.start, active.version, facts)

    def observe(self, record: AnsweredRequest) -> None:
        """Count an answer for the active rollout."""
        followed = self._followed.get(record.model) or self._follow(record.model)
        if followed is not None and followed.recording is not None:
            followed.recording.observe(record)
        if followed is None or followed.recorder is None or followed.active is None or followed.active.is_paused:
            return
        followed.recorder.observe(record)

    def handle(self, verb: str, model: str, body: bytes, metadata: Mapping[str, str]) -> PlainAnswer | None:
        """``POST /v1/models/NAME:feedback`` with ``{"request_id": "...", "label": 3}``, or a list of these."""
        if verb != "feedback":
            return None
        followed = self._followed.get(model) or self._follow(model)
        if followed is None or followed.recorder is None or followed.active is None:
            return _answer(404, {"error": f"model {model} has no active rollout"})
        try:
            given = parse_json(body)
            parts = given if isinstance(given, list) else [given]
            wanted = [(str(part["request_id"]), int(part["label"])) for part in parts]
        except (ValueError, KeyError, TypeError, OverflowError):
            return _answer(400, {"error": 'feedback is {"request_id": "...", "label": 3}, or a list of these'})
        counted = 0
        for request_id, label in wanted:
            known = followed.recorder.feedback(request_id, label)
            if known is None:
                return _answer(400, {"error": f"the answer to {request_id!r} has no classes to compare with a label"})
            if not known and len(request_id) <= 256:
                self._hand_on(followed, request_id, label)
            counted += known
        return _answer(200, {"counted": counted, "handed_on": len(wanted) - counted})

    def page(self, path: str) -> PlainAnswer | None:
        """``GET /rollouts/NAME``: the page of a model's newest rollout."""
        if not path.startswith(PAGES):
            return None
        from saman.registry.rollout.page import render_page  # with scipy, which only the page needs

        try:
            text = render_page(find_model(self._models_dir, path.removeprefix(PAGES).partition("?")[0]))
        except (UserError, OSError) as error:
            return _answer(404, {"error": str(error)})
        return PlainAnswer(200, text.encode(), "text/html; charset=utf-8")

    # ---- the thread ---------------------------------------------------------------------------------------------

    def _follow(self, model: str) -> _Followed | None:
        """Follow a model from its first request on."""
        try:
            followed = _Followed(find_model(self._models_dir, model))
            self._refresh(followed)
        except (UserError, OSError):
            return None
        self._followed[model] = followed
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="rollouts")
            self._thread.start()
            atexit.register(self.close)
        return followed

    def _work(self) -> None:
        while True:
            time.sleep(_PERIOD_SECONDS)
            for followed in list(self._followed.values()):
                try:
                    self.step(followed)
                except (UserError, OSError) as error:
                    _log.warning("%s: the rollout is not followed: %s", followed.folder.name, error)

    def step(self, followed: _Followed) -> None:
        """Follow the log of a model, write down its counts, and take labels that other fronts received."""
        self._refresh(followed)
        if followed.recording is not None:
            followed.recording.flush()
        if followed.active is None or followed.recorder is None:
            return
        files = RolloutFiles.of(followed.folder, followed.active)
        self._take_feedback(followed, files)
        evidence = followed.recorder.snapshot()
        if (counts := evidence.to_json()) != followed.written:
            files.write_evidence(self._server, evidence)
            followed.written = counts
        self._start_judge()

    def follow(self, model: str) -> None:
        """Take a step now, for tests and for the end of a front."""
        if (followed := self._followed.get(model) or self._follow(model)) is not None:
            self.step(followed)

    def close(self) -> None:
        """Write down what waits, at the end of the process."""
        for followed in list(self._followed.values()):
            with contextlib.suppress(UserError, OSError):
                if followed.recording is not None:
                    followed.recording.flush(now=True)
                self.step(followed)

    def _refresh_recording(self, followed: _Followed) -> None:
        """Follow the policy's ``recording``; a changed policy takes effect within a second."""
        if followed.policy_marks == (marks := policy_marks(followed.folder)):
            return
        followed.policy_marks = marks
        if followed.recording is not None:
            followed.recording.flush(now=True)
        try:
            wanted = read_policy(followed.folder).recording
        except UserError as error:  # a mistake in the policy must not keep a rollout from being followed
            _log.warning("%s: nothing is recorded: %s", followed.folder.name, error)
            wanted = RecordingPolicy()
        on = wanted.fraction > 0
        followed.recording = RequestRecording(followed.folder, wanted, self._server) if on else None

    def _refresh(self, followed: _Followed) -> None:
        folder = followed.folder
        self._refresh_recording(followed)
        if followed.entries and not entry_file(folder.log, len(followed.entries) + 1).exists():
            return
        followed.entries = audit_log.read(folder.log, followed.entries)
        before, active = followed.active, replay(folder.name, followed.entries).active_rollout
        if active is None:
            followed.recorder = None
        elif before is None or before.id != active.id:
            followed.recorder, followed.lines = RolloutRecorder(active.start, active.version), {}
        followed.active = active

    def _hand_on(self, followed: _Followed, request_id: str, label: int) -> None:
        assert followed.active is not None
        files = RolloutFiles.of(followed.folder, followed.active)
        files.path.mkdir(parents=True, exist_ok=True)
        file = files.feedback(self._server)
        if not file.exists() or file.stat().st_size < _MOST_FEEDBACK_BYTES:
            append_line(file, {"request_id": request_id, "label": label})

    def _take_feedback(self, followed: _Followed, files: RolloutFiles) -> None:
        assert followed.recorder is not None
        for file in files.all_feedback():
            read, size = followed.lines.get(file, (0, 0))
            if (now := file.stat().st_size) == size:
                continue
            lines, _ = read_lines(file)
            for line in lines[read:]:
                if isinstance(line.get("request_id"), str) and isinstance(line.get("label"), int):
                    followed.recorder.feedback(line["request_id"], line["label"])
            followed.lines[file] = (len(lines), now)

    def _start_judge(self) -> None:
        """Start the process that judges, unless this or another front has started it."""
        if self._judge is not None and self._judge.poll() is None:
            return
        if holder_of(self._models_dir / LOCK) is None:
            command = [sys.executable, "-m", "saman.serving.rollout.judging", str(self._models_dir)]
            self._judge = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def _answer(status: int, facts: Mapping[str, object]) -> PlainAnswer:
    return PlainAnswer(status, json.dumps(facts).encode())
