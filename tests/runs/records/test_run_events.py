"""Facts of a run's events are typed where they are read: jobs, stop requests, lost nodes, versions."""

from saman.runs.events import Event
from saman.runs.records.run_events import (
    AttemptStart,
    FollowUps,
    JobSubmission,
    NodeLoss,
    RunEnd,
    StopRequest,
    VersionPublication,
)


def test_only_a_user_who_cancels_ends_the_run() -> None:
    asked = {("user", "cancel"): True, ("user", "requested"): False, ("supervisor", "cancel"): False,
             ("job", "SIGUSR1"): False}  # fmt: skip
    for (who, reason), cancels in asked.items():
        request = StopRequest.from_event(Event("stop_requested", who, facts={"reason": reason}))
        assert request is not None and request.cancels is cancels, (who, reason)


def test_a_version_needs_its_model_and_its_number() -> None:
    published = Event("published", "registry", facts={"model": "digits", "version": 3})
    assert str(VersionPublication.from_event(published)) == "digits:3"
    assert VersionPublication.from_event(Event("published", "registry", facts={"model": "digits"})) is None


def test_follow_ups_of_older_runs_stand_in_the_submission() -> None:
    queued = JobSubmission.from_event(Event("queued", "submitter", facts={"job": 7, "follow_ups": [8, 9]}))
    assert queued is not None and (queued.job, queued.follow_ups) == ("7", ("8", "9"))
    assert FollowUps.from_event(Event("follow_ups", "submitter", facts={"jobs": ["8"]})) == FollowUps(("8",))


def test_every_type_leaves_other_events_alone() -> None:
    other = Event("notice", "supervisor", facts={"node": "n1", "job": "7", "jobs": ["8"], "reason": "cancel"})
    for kind in (AttemptStart, FollowUps, JobSubmission, NodeLoss, VersionPublication, StopRequest):
        assert kind.from_event(other) is None, kind


def test_the_end_of_a_run_says_why() -> None:
    facts = {"message": "rank 1 failed", "exit_code": 1, "ranks": [1, "x"]}
    assert RunEnd.from_event(Event("failed", "supervisor", facts=facts)) == RunEnd(("rank 1 failed",), 1, (1,))
