"""Promises of the YAML reader: what a person writes is what saman reads."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.configs import yaml12
from saman.configs.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30:00", "1:30:00"),
        ("02:00:00", "02:00:00"),
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("~", None),
        ("", None),
        ("-.inf", -math.inf),
        ("2026-11-21", "2026-11-21"),
        ("'1'", "1"),
        ("=", "="),
    ],
)
def test_scalars_are_those_of_the_yaml_1_2_core_schema(text, value):
    assert yaml12.parse(text, "test") == value
    assert type(yaml12.parse(text, "test")) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "file.yaml:3:1: duplicate key 'a'"),
        ("x: {y: 1, y: 2}", "file.yaml:1:11: duplicate key 'y'"),
        ("1: a", "the key 1 is not text"),
        ("base: &b {x: 1}\nmore:\n  <<: *b\n", "merge keys"),
        ("a: [1, 2", "file.yaml:1:9"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: *nowhere", "undefined alias"),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: \x07", "file.yaml"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_place(text, said):
    with pytest.raises(UserError) as refusal:
        yaml12.parse(text, "file.yaml")
    assert said in str(refusal.value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_what_is_written_is_read_back(value):
    # YAML cannot carry some control characters; the writer escapes all the others.
    assert yaml12.parse(yaml12.dump(value), "test") == value


def test_a_file_that_is_not_there_or_not_text_is_said(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        yaml12.read(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        yaml12.read(tmp_path / "binary.yaml")


# ---- bombs -------------------------------------------------------------------------------------------------------


def _aliases(levels: int) -> str:
    first = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    return first + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, levels))


@pytest.mark.parametrize(
    "text",
    [_aliases(10), "[" * 100_000, "- " * 5000, '{"a": ' * 3000, "a: &a [*a]", "a: &a {b: *a}",
     "x0: &x0 [1]\n" + "".join(f"x{i}: &x{i} [*x{i - 1}]\n" for i in range(1, 2000))],
    ids=["aliases", "brackets", "dashes", "braces", "a list in itself", "a mapping in itself", "a chain of aliases"],
)  # fmt: skip
def test_a_text_that_expands_without_bounds_is_refused_at_once(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError):
        yaml12.parse(text, "f.yaml")
    assert time.monotonic() - began < 10


def test_a_value_that_is_used_twice_is_still_read() -> None:
    assert yaml12.parse("a: &a {x: [1]}\nb: *a\n", "f.yaml") == {"a": {"x": [1]}, "b": {"x": [1]}}


@given(st.dictionaries(st.text(max_size=8), plain, max_size=5))
def test_text_that_saman_wrote_is_read_alike_by_the_quick_reader(value):
    text = yaml12.dump(value)
    assert yaml12.parse_written(text, "test") == yaml12.parse(text, "test") == value


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: [1, 2", "1: a", "x: &a [*a]"])
def test_the_quick_reader_refuses_what_the_careful_reader_refuses_in_its_words(text):
    with pytest.raises(UserError) as careful:
        yaml12.parse(text, "file.yaml")
    with pytest.raises(UserError) as quick:
        yaml12.parse_written(text, "file.yaml")
    assert str(quick.value) == str(careful.value)


def test_a_value_read_twice_is_not_shared():
    first = yaml12.parse("a: {b: [1]}", "twice")
    first["a"]["b"].append(2)
    assert yaml12.parse("a: {b: [1]}", "twice") == {"a": {"b": [1]}}


def test_scalars_that_are_equal_and_of_different_types_keep_their_types():
    value = {
        "one": 1,
        "float": 1.0,
        "true": True,
        "zero": 0.0,
        "minus": -0.0,
        "text": "1",
        "empty": {},
        "none": [None, []],
        "rows": [{"a": [1]}],
    }
    text = yaml12.dump(value)
    assert text == yaml12._dump(value)  # as PyYAML lays it out
    assert repr(yaml12.parse(text, "test")) == repr(value)
