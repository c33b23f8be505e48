"""The schema of ``burst_buffer``: ``#DW`` and ``#BB`` lines by template, with named fields only. Pure.

Slurm hands these lines to the burst buffer's plugin, which has no quoting: what is filled in contains no blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, model_validator

from saman.configs.errors import UserError, choices
from saman.configs.problems import Problems, Strict
from saman.configs.site.texts import matching, plain

RUN_FIELDS = ("name", "run", "nodes")  # the experiment's name, its run folder, the number of nodes
_FIELD = re.compile(r"\{([^{}]*)\}")
_LINE = re.compile(r"#(DW|BB|BB_LUA) [a-z_]+( .*)?")


def _template(text: str) -> str:
    if _LINE.fullmatch(plain(text)) is None:
        raise ValueError(
            f"{text!r} is not a line of a burst buffer, such as '#DW jobdw type=scratch capacity={{size}}'"
        )
    rest = _FIELD.sub("", text)
    if "{" in rest or "}" in rest:
        raise ValueError(f"{text!r} has a brace outside a field such as {{run}}")
    variable = next((name for name in re.findall(r"\$\{?(\w*)", rest) if not name.startswith("DW_")), None)
    if variable is not None or re.search(r"[`\\;|&<>\"']", rest):
        raise ValueError(
            f"{text!r} has shell syntax; write fields such as {{run}}, and variables such as $DW_JOB_STRIPED"
        )
    return text


LineTemplate = Annotated[str, AfterValidator(_template)]
FieldValue = Annotated[
    str, matching(r"[A-Za-z0-9_./:@%+,-]{1,256}", "a value without blanks and quotes", "100GB or /lustre/data")
]


class BurstBuffer(Strict):
    """Lines for a burst buffer: templates, and the values of their fields."""

    lines: list[LineTemplate]
    fields: dict[str, FieldValue] = {}

    @model_validator(mode="after")
    def _fields_known(self) -> BurstBuffer:
        found = [
            UserError(f"{name!r} is a field of saman itself", where=f"fields.{name}", remedy="another name")
            for name in self.fields
            if name in RUN_FIELDS
        ]
        known = [*RUN_FIELDS, *self.fields]
        for index, line in enumerate(self.lines):
            unknown = [name for name in _FIELD.findall(line) if name not in known]
            found += [
                UserError(f"no field {name!r}", where=f"lines[{index}]", remedy=choices(name, known))
                for name in unknown
            ]
        if found:
            raise Problems(found)
        return self

    def uses(self, field: str) -> bool:
        """Whether a line has this field."""
        return any(field in _FIELD.findall(line) for line in self.lines)

    def filled(self, values: Mapping[str, str]) -> Iterator[str]:
        """The lines with their fields filled in.

        Args:
            values: the value of each of ``RUN_FIELDS``.

        Raises:
            UserError: a value has blanks or quotes, which the burst buffer's parser does not understand.
        """
        known = {**values, **self.fields}
        for name in RUN_FIELDS:
            if self.uses(name) and re.fullmatch(r"[A-Za-z0-9_./:@%+,-]+", known[name]) is None:
                raise UserError(
                    f"{known[name]!r} cannot stand in a line of a burst buffer, which has no quoting",
                    where=f"burst_buffer: {{{name}}}",
                    remedy="a path of letters, digits and ._-/ (--runs-dir)",
                )
        for line in self.lines:
            yield _FIELD.sub(lambda match: known[match[1]], line)
