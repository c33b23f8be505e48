"""Reads and writes YAML: safe, with the core types of YAML 1.2, without duplicate keys.

PyYAML alone reads YAML 1.1, where ``1:30:00`` is 5400, ``1e-3`` is text and ``no`` is false.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from saman.configs.block_yaml import NotPlainError, block_text
from saman.configs.errors import UserError
from saman.configs.regular_files import DEEPEST, read_regular

MOST_CHARACTERS = 4_000_000
MOST_VALUES = 200_000
MOST_KEPT = 64_000  # characters of a text whose value is kept
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


_Resolvers = dict[str, list[tuple[str, re.Pattern[str]]]]


class _Limited(Composer):
    """A composer with limits of depth and of size."""

    depth = 0
    peek_event: Any  # of the parser beside it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _too_deep(self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _measure(node, {})
        return node


class _Loader(_Limited, yaml.SafeLoader):
    """SafeLoader with the implicit types of the YAML 1.2 core schema."""

    yaml_implicit_resolvers: _Resolvers = {}


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which YAML 1.1 or 1.2 would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


# PyYAML tries the resolvers of a scalar's first character in the order they were added.
for _tag, _pattern, _first in (
    ("null", _NULL, [*"~nN", ""]),
    ("bool", _BOOL, [*"tTfF"]),
    ("int", _INT, [*"-+0123456789"]),
    ("float", _FLOAT, [*"-+0123456789."]),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    if text.startswith("0o"):
        return int(text[2:], 8)
    return int(text, 16) if text.startswith("0x") else int(text)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    if text.endswith(".inf"):
        return -math.inf if text.startswith("-") else math.inf
    return math.nan if text == ".nan" else float(text)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            raise _refusal(key_node, "merge keys (<<) are not YAML 1.2")
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _refusal(key_node, f"the key {key!r} is not text; quote it")
        if key in result:
            raise _refusal(key_node, f"duplicate key {key!r}")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Only double quotes escape the characters that YAML 1.1 reads as line breaks.
    style = '"' if any(character in text for character in "\r\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _too_deep(mark: yaml.Mark) -> yaml.composer.ComposerError:
    return yaml.composer.ComposerError(None, None, f"this is nested deeper than {DEEPEST} levels", mark)


def _measure(node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Number of values and depth of a node with its aliases expanded; ten lines of aliases can stand for 10^10 values.

    Args:
        node: The node.
        known: The nodes measured before, by identity; ``None`` for those around this node.
    """
    if id(node) in known:
        if (found := known[id(node)]) is None:
            raise yaml.composer.ComposerError(None, None, "this value contains itself", node.start_mark)
        return found
    known[id(node)] = None
    inner = node.value if isinstance(node, yaml.SequenceNode) else []
    inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else inner
    sizes = [_measure(part, known) for part in inner]
    values, depth = 1 + sum(size for size, _ in sizes), 1 + max((levels for _, levels in sizes), default=0)
    if depth > DEEPEST:
        raise _too_deep(node.start_mark)
    if values > MOST_VALUES:
        problem = f"with its aliases expanded, this has {values} values; at most {MOST_VALUES} are read"
        raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
    known[id(node)] = values, depth
    return values, depth


def _refusal(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Dumper.add_representer(str, _text)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
# << is an ordinary key in YAML 1.2; refuse it instead of silently keeping it as data.
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


try:
    from yaml._yaml import CParser
except ImportError:  # PyYAML without libyaml
    _QUICK = False
else:
    _QUICK = True

    class _QuickLoader(_Limited, CParser, SafeConstructor, Resolver):
        """The same loader on the events of libyaml, which takes some invalid texts that PyYAML refuses."""

        yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
        yaml_constructors = _Loader.yaml_constructors

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)


def parse(text: str, where: str) -> Any:
    """The value of a single YAML document.

    Raises ``UserError`` naming ``where``, line and column.
    """
    if len(text) > MOST_CHARACTERS:
        problem = f"the text has {len(text)} characters; at most {MOST_CHARACTERS} are read"
        raise UserError(problem, where=where)
    return _copied(_kept_value(text, where)) if len(text) <= MOST_KEPT else _parse(text, where)


@lru_cache(maxsize=512)  # a study reads its base experiment and the values of its axes again for each combination
def _kept_value(text: str, where: str) -> Any:
    return _parse(text, where)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (_Loader is a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise UserError(problem, where=place, remedy="valid YAML 1.2") from error
    except RecursionError:
        raise UserError(f"it is nested deeper than {DEEPEST} levels", where=where, remedy="valid YAML 1.2") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(str(error).replace("\n", " "), where=where, remedy="valid YAML 1.2") from error


def parse_written(text: str, where: str) -> Any:
    """The value of text that ``dump`` wrote: six times as fast as ``parse`` where PyYAML has libyaml."""
    if _QUICK and len(text) <= MOST_CHARACTERS:
        try:
            return yaml.load(text, Loader=_QuickLoader)  # type: ignore[arg-type]  # noqa: S506  (constructs as _Loader)
        except (yaml.YAMLError, ValueError, RecursionError):
            pass  # PyYAML's own messages name the place better
    return parse(text, where)


def read(path: Path) -> Any:
    """The value of a YAML file (UTF-8) with a single document.

    Raises ``UserError`` if the file cannot be read or is invalid.
    """
    return parse(_text_of(path), str(path))


def read_written(path: Path) -> Any:
    """The value of a file that ``dump`` wrote; faster than ``read``, and raises as it does."""
    return parse_written(_text_of(path), str(path))


def _text_of(path: Path) -> str:
    try:
        return read_regular(path).decode("utf-8")
    except FileNotFoundError:
        raise UserError("no such file", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from error


def dump(value: Any) -> str:
    """Text that ``parse`` reads back as the same value."""
    if isinstance(value, dict):
        try:
            return block_text(value, _scalar)
        except NotPlainError:
            pass
    return _dump(value)


def _dump(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _scalar(value: Any) -> str:
    """The text of a scalar; ``NotPlainError`` for other types, which may be equal and written differently."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if type(value) not in (str, int, float):
        raise NotPlainError
    return _kept_scalar(value, value if isinstance(value, str) else repr(value))


@lru_cache(maxsize=8192)  # keys and defaults repeat in every file; 1 equals 1.0, and 0.0 equals -0.0
def _kept_scalar(value: str | float, _: str) -> str:
    return _dump(value).removesuffix("\n").removesuffix("\n...")
