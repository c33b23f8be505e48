"""``saman doctor --security``: what other users of the machine could read, change or misuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from saman.jobs.security.finding import CheckResult

_MARKS = {"none": "✓", "note": "·", "warning": "!", "danger": "✗"}


def show_security(runs_dir: Path, models_dir: Path, as_json: bool) -> None:
    """Print the findings; exit status 3 if a finding is dangerous."""
    import json
    from dataclasses import asdict

    from saman.configs.errors import ExitCode
    from saman.jobs.security.examination import examine_security
    from saman.jobs.security.finding import is_safe

    findings = examine_security(runs_dir, models_dir)
    if as_json:
        plain = {"safe": is_safe(findings), "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join([*lines(findings), verdict(findings)]))
    if not is_safe(findings):
        raise typer.Exit(ExitCode.ENVIRONMENT)


def lines(findings: Sequence[CheckResult]) -> list[str]:
    """The lines of ``saman doctor --security``: a line for each finding, and its remedy below."""
    shown = []
    for finding in findings:
        shown.append(f"{_MARKS[finding.risk.value]} {finding.check.value:26}{finding.found}")
        if finding.remedy and finding.risk.value != "none":
            shown.append(f"  {'':26}-> {finding.remedy}")
    return shown


def verdict(findings: Sequence[CheckResult]) -> str:
    """The last line of ``saman doctor --security``."""
    dangers = [finding.check.value for finding in findings if finding.risk.value == "danger"]
    warnings = sum(finding.risk.value == "warning" for finding in findings)
    if dangers:
        return f"dangerous: {', '.join(dangers)}"
    return f"nothing dangerous, {warnings} {'warning' if warnings == 1 else 'warnings'}: see docs/security.md"
