"""Holds the extra options of a cluster file against the installed sbatch, which knows its release and its plugins.

``sbatch OPTION --version`` reads the option, with its value, as a submission would, and submits nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from saman.configs.errors import UserError
from saman.configs.site.sbatch_options import KNOWN_OPTIONS, name_of, nearest_option
from saman.slurm.site import client

_SECONDS = 20.0


def check_extra_options(lines: Sequence[str], where: str) -> None:
    """Refuse lines of ``sbatch:`` that the installed sbatch does not take.

    Args:
        lines: options as in ``--mail-type=END``, already checked by the schema.
        where: the cluster file, for the error.

    Raises:
        UserError: sbatch does not know an option, or refuses its value; names the nearest option.
        EnvironmentLack: there is no sbatch.
    """
    if not lines or _answer(lines).code == 0:
        return
    plain = _answer(())
    if plain.code != 0:
        return  # sbatch itself does not work; the submission says why
    version = next(iter(plain.lines), "Slurm").strip()
    known = installed_options(client.ask(["sbatch", "--help"], timeout_seconds=_SECONDS).out)
    found = [_refusal(line, answer, known, version, where) for line in lines if (answer := _answer([line])).code != 0]
    if found:
        raise UserError(found[0].problem, where=found[0].where, remedy=found[0].remedy, others=found[1:])


def _answer(lines: Sequence[str]) -> client.Answer:
    # Without a script and with an empty standard input there is nothing that sbatch could submit.
    return client.ask(["sbatch", *lines, "--version"], timeout_seconds=_SECONDS, text="")


def _refusal(line: str, answer: client.Answer, known: frozenset[str], version: str, where: str) -> UserError:
    name, place = name_of(line), f"{where}: sbatch"
    said = next(iter((answer.err or answer.out).strip().splitlines()), "").removeprefix("sbatch: ")
    if name in known or "nrecognized option" not in said:
        said = said.removeprefix("error: ") or f"exit status {answer.code}"
        return UserError(f"{line!r}: sbatch ({version}) refuses it: {said}", where=place, remedy="man sbatch")
    reason = "another release of Slurm has it" if name in KNOWN_OPTIONS else "no release and no plugin here has it"
    near = nearest_option(name, known) if name not in KNOWN_OPTIONS else None
    remedy = f"did you mean {near}?" if near else "remove the line"
    return UserError(f"{line!r}: sbatch ({version}) has no option --{name}; {reason}", where=place, remedy=remedy)


def installed_options(text: str) -> frozenset[str]:
    """The names of the options in the text of ``sbatch --help``, those of plugins too. Pure.

    >>> sorted(installed_options("  -Q, --quiet    quiet\\n      --bb=<spec>   burst buffer"))
    ['bb', 'quiet']
    """
    return frozenset(re.findall(r"^\s+(?:-\w,?\s+)?--([a-z][a-z0-9-]*)", text, re.MULTILINE))
