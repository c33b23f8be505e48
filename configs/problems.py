"""Turns pydantic's validation errors into messages: key path, value, valid values, nearest spelling."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from saman.configs.errors import UserError, choices


class Strict(BaseModel):
    """Base of every schema of a user's file: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, populate_by_name=True, strict=False
    )


class Problems(ValueError):  # noqa: N818  (several)
    """The mistakes that a schema's own validator found; ``where`` is a key path relative to the schema."""

    def __init__(self, errors: Sequence[UserError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = list(errors)


M = TypeVar("M", bound=BaseModel)

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80

_TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
# The kind of a mistake: how the message says it, and the limit's name in pydantic.
_LIMITS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def validated(model: type[M], value: Any, where: str, command_line: Sequence[str] = ()) -> M:
    """Validate a value from a user's file by its schema, all problems at once.

    Args:
        model: The schema.
        value: The value, a mapping if the file is right.
        where: The file or command, for errors.
        command_line: Key paths whose values the command line gives.

    Raises:
        UserError: The value does not follow the schema; lists every mistake, each at ``where: key.path``.
    """
    if not isinstance(value, Mapping):
        problem = "there are no keys" if value is None else f"{shown(value)} is not a mapping of keys to values"
        raise UserError(problem, where=where)
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        raise gathered(findings(model, error), where, command_line) from None


def shown(value: Any) -> str:
    """A value of a user's file in a message: as Python writes it, with the middle of a long value left out."""
    return _SHORT.repr(value)


def gathered(found: Sequence[UserError], where: str, command_line: Sequence[str] = ()) -> UserError:
    """One error for several mistakes, each located in the file ``where``, or on the command line if that gave the key.

    Args:
        found: The mistakes, each with its key path as ``where``.
        where: The file or command.
        command_line: Key paths whose values the command line gives.
    """

    def place(key: str | None) -> str:
        if not key:
            return where
        given = any(key == path or key.startswith((f"{path}.", f"{path}[")) for path in command_line)
        return f"command line: {key}" if given else f"{where}: {key}"

    placed = [UserError(item.problem, where=place(item.where), remedy=item.remedy) for item in found]
    return UserError(placed[0].problem, where=placed[0].where, remedy=placed[0].remedy, others=placed[1:])


def findings(model: type[BaseModel], error: ValidationError) -> list[UserError]:
    """The mistakes without repetitions, each with its key path as ``where``."""
    found = [mistake for item in error.errors(include_url=False) for mistake in _mistakes(model, item)]
    by_text = {str(mistake): mistake for mistake in found}
    # A union reports a mismatch per branch; the first is enough.
    by_place: dict[str | None, UserError] = {}
    for mistake in by_text.values():
        by_place.setdefault(mistake.where, mistake)
    return list(by_place.values())


def _mistakes(model: type[BaseModel], item: Any) -> list[UserError]:
    path, owner = _key_path(model, item["loc"])
    kind, context = item["type"], item.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Problems):
        return [UserError(each.problem, where=_joined(path, each.where), remedy=each.remedy) for each in cause.errors]
    return [_mistake(kind, path, owner, item["input"], context, item["msg"])]


def _mistake(
    kind: str, path: str, owner: type[BaseModel] | None, value: Any, context: dict[str, Any], message: str
) -> UserError:
    if kind == "extra_forbidden":
        valid = list(_fields(owner)) if owner else []
        remedy = choices(path.rsplit(".", 1)[-1], valid) if valid else "no keys are valid here"
        return UserError("unknown key", where=path, remedy=remedy)
    if kind == "missing":
        return UserError("missing key", where=path)
    if kind == "literal_error":
        return _not_a_choice(value, path, _quoted(context["expected"]))
    if kind == "union_tag_invalid":
        place = _joined(path, context["discriminator"].strip("'"))
        return _not_a_choice(context["tag"], place, _quoted(context["expected_tags"]))
    if kind == "union_tag_not_found":
        return UserError("missing key", where=_joined(path, context["discriminator"].strip("'")))
    if kind == "value_error":
        return UserError(str(context["error"]), where=path)
    if kind in ("too_short", "string_too_short"):
        least = context["min_length"]
        problem = "is empty" if least == 1 else f"{shown(value)} is too short; give at least {least} entries"
        return UserError(problem, where=path)
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        return UserError(f"{shown(value)} is not {words} {context[name]}", where=path)
    if kind in _TYPES:
        return UserError(f"{shown(value)} is not {_TYPES[kind]}", where=path)
    return UserError(f"{shown(value)}: {message[0].lower()}{message[1:]}", where=path)


def _not_a_choice(value: Any, path: str, valid: list[str]) -> UserError:
    return UserError(f"{shown(value)} is not a valid choice", where=path, remedy=choices(value, valid))


def _quoted(expected: str) -> list[str]:
    """The names in pydantic's ``'a', 'b' or 'c'``."""
    return [name.strip().strip("'") for name in expected.replace(" or ", ", ").split(", ")]


def _joined(path: str, rest: str | None) -> str:
    return ".".join(part for part in (path, rest) if part)


def _key_path(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None]:
    """The key path as in the file, and the model that owns its last key.

    Pydantic's locations contain the names of union branches; these are not keys and are removed.
    """
    path, owner, current = "", model, [model]
    for index, part in enumerate(location):
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        holder = next((m for m in current if part in _fields(m)), None)
        if holder is not None:
            path = _joined(path, part)
            owner, current = holder, _models_in(_fields(holder)[part].annotation)
            continue
        branch = [m for m in current if part in (m.__name__, _tag(m))]
        if branch:
            owner, current = branch[0], branch
        elif not _is_branch_name(part):
            path = _joined(path, part)  # an unknown key, or a key of a free mapping
            owner = current[0] if current and index == len(location) - 1 else owner
    return path, owner


def _is_branch_name(part: str) -> bool:
    """Whether a part of a location is pydantic's name of a union branch, such as ``int`` or ``constrained-int``."""
    return part in {"int", "float", "str", "bool", "dict", "list"} or "[" in part or part.startswith("constrained-")


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The model's fields under their names in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _tag(model: type[BaseModel]) -> str | None:
    """The tag of this model in a discriminated union: the only value of its ``name`` field."""
    field = model.model_fields.get("name")
    values = get_args(field.annotation) if field else ()
    return str(values[0]) if len(values) == 1 else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
