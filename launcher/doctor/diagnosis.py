"""A finding of ``saman doctor``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

DiagnosisState = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Diagnosis:
    """The state of one part of the machine or its software.

    ``needed``: ``saman run`` cannot train here without it. ``remedy``: what to do.
    """

    name: str
    state: DiagnosisState
    found: str
    remedy: str = ""
    needed: bool = False

    @property
    def blocks(self) -> bool:
        """Whether this keeps ``saman run`` from training here."""
        return self.needed and self.state != "ok"


def can_train(findings: Iterable[Diagnosis]) -> bool:
    """Whether everything that training needs is there and works."""
    return not any(finding.blocks for finding in findings)
