"""A refusal of sbatch is classified, and its message names what was requested."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from saman.slurm.submission.refusals import Refusal, RefusalKind, RequestedResources, read_refusal

ASKED = RequestedResources(**{field.name: "?" for field in fields(RequestedResources)})


@pytest.mark.parametrize(
    ("printed", "kind", "lacks"),
    [
        ("Batch job submission failed: Invalid qos specification", RefusalKind.QOS, False),
        ("Batch job submission failed: Unable to contact slurm controller", RefusalKind.CONTROLLER_AWAY, True),
        ("Socket timed out on send/recv operation", RefusalKind.CONTROLLER_AWAY, True),
        ("QOSMaxSubmitJobPerUserLimit", RefusalKind.LIMIT, False),
        ("Job violates accounting/QOS policy", RefusalKind.LIMIT, False),
        ("something new", RefusalKind.OTHER, False),
    ],
)
def test_a_refusal_is_known_by_its_kind(printed: str, kind: RefusalKind, lacks: bool) -> None:
    found = read_refusal(f"sbatch: error: {printed}")
    assert (found.kind, found.environment_lacks) == (kind, lacks)


def test_the_message_names_what_was_requested() -> None:
    refusal = read_refusal("sbatch: error: Batch job submission failed: Invalid qos specification")
    assert "the QOS express does not exist" in refusal.sentence(replace(ASKED, qos="express"))
    limit = read_refusal("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: x").sentence(ASKED)
    assert "because the QOS allows only so many submitted jobs for one user" in limit
    assert "something new" in read_refusal("sbatch: error: something new").sentence(ASKED)


@pytest.mark.parametrize("kind", RefusalKind)
def test_every_kind_but_an_unknown_one_has_a_remedy(kind: RefusalKind) -> None:
    refusal = Refusal(kind, "its own words")
    assert refusal.sentence(ASKED).startswith("Slurm refuses the job: ")
    assert (refusal.remedy is None) == (kind is RefusalKind.OTHER)
