"""A request is compared with every limit on the user."""

from __future__ import annotations

from tests.slurm.limits_text import LIMITS

from saman.slurm.site import limits
from saman.slurm.submission.limit_check import LimitVerdict, compare_with_limits
from saman.slurm.submission.resource_request import ResourceRequest


def test_a_request_is_compared_with_the_value_and_the_use_of_each_limit() -> None:
    found = limits.read_limits(LIMITS, "a", ["fast"], 7)
    request = ResourceRequest(
        nodes=2,
        tasks_per_node=1,
        cpus_per_task=4,
        gpus_per_node=0,
        memory_bytes=None,
        seconds=3600,
        whole_nodes=False,
    )
    findings = compare_with_limits(found, [request] * 2, cores_per_node=8)
    by_name = {(check.limit.owner, check.limit.name): check for check in findings}
    assert by_name["QOS fast", "MaxWallPJ"].verdict is LimitVerdict.NEVER
    assert "allows 0:05 h in one job (MaxWallPJ); this needs 1:00 h" in by_name["QOS fast", "MaxWallPJ"].sentence()
    assert by_name["account a", "GrpTRESMins"].verdict is LimitVerdict.WAITS  # 300 used and 2 × 8 × 60 needed
    assert by_name["account a", "GrpJobs"].verdict is LimitVerdict.WAITS
    submit = by_name["QOS fast", "MaxSubmitJobsPU"]
    assert submit.verdict is LimitVerdict.REFUSED and "Slurm would refuse it now" in submit.sentence()
    assert by_name["account a", "MaxWallPJ"].verdict is LimitVerdict.FITS


def test_a_quota_report_forbids_what_submit_refuses() -> None:
    verdicts = {verdict: verdict.forbids for verdict in LimitVerdict}
    assert [verdict for verdict, forbids in verdicts.items() if forbids] == [LimitVerdict.REFUSED, LimitVerdict.NEVER]
