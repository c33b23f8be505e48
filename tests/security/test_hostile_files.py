"""Files that an attacker wrote and a user reads: YAML, checkpoints, names, texts on pages. Nothing is executed."""

from __future__ import annotations

import hashlib
import json
import pickle
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from saman.api import html
from saman.configs import yaml12
from saman.configs.errors import UserError
from saman.configs.names import is_label, is_name, is_reference
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.registry.store.layout import check_relative_path, parse_spec
from saman.runs.checkpoints import DamagedCheckpoint, TrainingPosition, checkpoint_of, publish, write_part
from saman.runs.records.training_facts import TrainingFacts

# ---- YAML --------------------------------------------------------------------------------------------------------

TAGS = [
    "python/object/apply:os.system",
    "python/object/new:os.system",
    "python/name:os.system",
    "python/module:os",
    "python/object/apply:subprocess.Popen",
    "python/object:__main__.X",
    "python/tuple",
    "python/bytes",
    "python/complex",
    "python/object/apply:builtins.eval",
    "python/object/apply:builtins.exec",
    "map/../x",
]
FORMS = [
    "!!{tag} ['touch {ran}']",
    "a: !!{tag} ['touch {ran}']",
    "- !!{tag} {{x: 1}}",
    "? !!{tag} [x]\n: 1",
    "!<tag:yaml.org,2002:{tag}> ['touch {ran}']",
    "%TAG ! tag:yaml.org,2002:\n---\n!{tag} [x]",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tag", TAGS)
def test_no_tag_of_yaml_makes_an_object(tag: str, form: str, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        yaml12.parse(form.format(tag=tag, ran=tmp_path / "ran"), "hostile.yaml")
    assert not (tmp_path / "ran").exists()


BOMBS = {
    "aliases": "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)),
    "itself": "a: &a [*a]",
    "depth of lists": "[" * 5_000,
    "depth of mappings": "{a: " * 5_000,
    "depth of blocks": "".join(" " * n + "a:\n" for n in range(500)),
    "merge": "a: &a {x: 1}\nb: {<<: *a}",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_bomb_of_yaml_is_refused_in_time(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError):
        yaml12.parse(text, "hostile.yaml")
    assert time.monotonic() - began < 10


# ---- checkpoints -------------------------------------------------------------------------------------------------


class _Payload:
    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.ran,)


def test_a_checkpoint_with_a_pickle_is_refused_although_its_digest_fits(tmp_path: Path) -> None:
    facts = TrainingFacts.from_json({})
    write_part(tmp_path, 1, 0, {"w": np.zeros(2)})
    folder = publish(tmp_path, TrainingPosition(step=1), 1, facts).path
    payload = np.empty(1, object)
    payload[0] = _Payload(tmp_path / "ran")
    [part] = folder.glob("part-*.npz")
    np.savez(part, w=payload)
    header = json.loads((folder / "checkpoint.json").read_text())
    header["files"][part.name] = hashlib.sha256(part.read_bytes()).hexdigest()
    (folder / "checkpoint.json").write_text(json.dumps(header))
    with pytest.raises(DamagedCheckpoint):
        checkpoint_of(tmp_path, 1).read()
    assert not (tmp_path / "ran").exists()
    assert pickle.dumps(payload)  # the payload itself is sound: the refusal is what protects


# ---- names -------------------------------------------------------------------------------------------------------

NAMES = [
    "",
    ".",
    "..",
    "/",
    "a/b",
    "../a",
    "a/..",
    "a\\b",
    "a\0b",
    "a\nb",
    "a b",
    "a\tb",
    " a",
    "a ",
    "-a",
    "--model",
    ".a",
    "~",
    "~root",
    "$HOME",
    "$(id)",
    "`id`",
    "a;b",
    "a|b",
    "a&b",
    "a>b",
    "a<b",
    "a*b",
    "a?b",
    "a[b",
    "a{b",
    "a'b",
    'a"b',
    "a#b",
    "a%b",
    "a!b",
    "a=b",
    "a,b",
    "a@b",
    "a+b",
    "ä",
    "a\u202eb",
    "a\u200bb",
    "\uff0e\uff0e",
    "a\u2215b",
    "a\x7f",
    "a\x1b[2J",
    "<b>",
    "</script>",
    "{{7*7}}",
    "{%x%}",
    "%s",
    "{0}",
    "a" * 65,
    "a:b",
    "_a",
    "\ud800",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_a_harmless_part_of_a_path_or_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(UserError):
        parse_spec(f"{name}:stable" if name != "a:b" else "a:b:c")


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) < 65 and name != "_a"], ids=ascii)
def test_a_label_and_a_reference_to_code_are_plain_too(name: str) -> None:
    assert not is_label(name)
    assert not is_reference(f"{name}:make") and not is_reference(f"models:{name}")


@pytest.mark.parametrize("text", ["", "/etc/passwd", "../x", "a/../../x", "a\\b", "a\0b", "a//b", "./a", "a/"])
def test_a_path_in_a_manifest_stays_in_its_version(text: str) -> None:
    with pytest.raises(UserError):
        check_relative_path(text, "manifest")


EXTRA = [
    '--comment=a"\nrm -rf ~',
    '--comment="x"',
    "--comment=a\\",
    "--wrap=rm",
    "--comment=a\r#SBATCH --x",
    "-J x",
    "rm",
    "",
]


@pytest.mark.parametrize("text", EXTRA, ids=ascii)
def test_an_extra_line_for_sbatch_is_harmless_or_refused(text: str) -> None:
    partition = {"name": "main", "cores_per_node": 8}
    with pytest.raises(UserError):
        validated(Cluster, {"name": "site", "partitions": [partition], "sbatch": [text]}, "cluster.yaml")


# ---- pages -------------------------------------------------------------------------------------------------------

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td><script>alert(1)</script>",
    "<svg/onload=alert(1)>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    "<iframe src=javascript:alert(1)>",
    "<a href=javascript:x>",
    "</title><script>x</script>",
    "<!--<script>x</script>-->",
    "<style>@import 'x'</style>",
]
PIECES: dict[str, Callable[[str], str]] = {
    "title": html.html_title,
    "state": lambda text: html.html_title("run", text),
    "paragraph": html.html_paragraph,
    "list": lambda text: html.html_list([text]),
    "cell": lambda text: html.html_table(["a"], [[text]]),
    "heading": lambda text: html.html_table([text], []),
    "name": lambda text: html.html_pairs([(text, 1)]),
    "value": lambda text: html.html_pairs([("a", text)]),
}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen += [(tag, name) for name, _ in attributes] or [(tag, "")]

    def handle_comment(self, data: str) -> None:
        self.seen.append(("comment", ""))


def tags(page: str) -> list[tuple[str, str]]:
    parser = _Tags()
    parser.feed(page)
    return parser.seen


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_name_becomes_markup_in_a_notebook(payload: str, piece: str) -> None:
    assert tags(PIECES[piece](payload)) == tags(PIECES[piece]("plain"))
