"""What a server serves follows the registry, and never leaves requests without a version that was there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.configs.errors import UserError
from saman.registry.store.layout import VersionSpec
from saman.registry.store.model_state import ModelState, VersionState, VersionStatus
from saman.serving.supervision.settings import ServeSettings, is_local
from saman.serving.supervision.wanted import ServedLabels, WantedModel, next_labels, superfluous, wanted_model


def state(*numbers: int, **labels: int) -> ModelState:
    versions = {number: VersionState(number, "", "", 0.0, "") for number in numbers}
    history = [labels["stable"]] if "stable" in labels else []
    return ModelState("m", versions, dict(labels), history)


def test_the_stable_version_answers_else_the_newest() -> None:
    assert wanted_model(state(1, 2, 3, stable=2), VersionSpec("m")).default == 2
    assert wanted_model(state(1, 2, 3), VersionSpec("m")).default == 3
    assert wanted_model(state(1, 2, 3, canary=1), VersionSpec("m", label="canary")) == WantedModel(
        "m", 1, {"canary": 1}, (1,), (3, 2)
    )
    assert wanted_model(state(1, 2, 3, stable=2), VersionSpec("m", number=3)) == WantedModel("m", 3, {}, (3,))


def test_what_may_be_promoted_next_is_loaded_too() -> None:
    wanted = wanted_model(state(1, 2, 3, 4, stable=2, canary=3), VersionSpec("m"), extra=[1, 9])
    assert wanted.load == (2, 3, 1, 4) and wanted.promotable == ()


def test_every_other_published_version_waits_for_a_promotion_the_newest_first() -> None:
    many = state(*range(1, 41), stable=7)
    many.versions[38].status = VersionStatus.RETIRED
    wanted = wanted_model(many, VersionSpec("m"))
    assert wanted.load == (7, 40) and wanted.promotable == (39, *range(37, 22, -1))  # 16 copies at most
    assert wanted_model(many, VersionSpec("m", number=3)).promotable == ()  # nothing moves this server


def test_a_retired_version_is_not_offered() -> None:
    found = state(1, 2)
    found.versions[2].status = VersionStatus.RETIRED
    assert wanted_model(found, VersionSpec("m")).default == 1


def test_a_label_waits_for_its_version() -> None:
    now = ServedLabels(1, {"stable": 1})
    wanted = WantedModel("m", 2, {"stable": 2, "canary": 3}, (2, 3))
    assert next_labels(wanted, now, {1}) == now
    assert next_labels(wanted, now, {1, 2}) == ServedLabels(2, {"stable": 2})


def test_the_only_loaded_version_stays() -> None:
    gone = WantedModel("m", None, {}, ())
    assert superfluous(gone, next_labels(gone, ServedLabels(1, {}), {1}), {1}) == []
    other = WantedModel("m", 2, {"stable": 2}, (2,))
    served = next_labels(other, ServedLabels(1, {"stable": 1}), {1})
    assert served.default == 1 and superfluous(other, served, {1}) == []


NUMBERS = st.integers(1, 5)
LABELS = st.dictionaries(st.sampled_from(["stable", "canary", "blue"]), NUMBERS)


@given(st.lists(st.tuples(NUMBERS, LABELS, st.sets(NUMBERS)), min_size=1, max_size=8))
def test_requests_reach_a_loaded_version_through_any_history(
    history: list[tuple[int, dict[str, int], set[int]]],
) -> None:
    loaded, served = {1}, ServedLabels(1, {"stable": 1})
    for default, labels, arriving in history:
        wanted = WantedModel("m", default, labels, tuple({default, *labels.values()}))
        loaded |= arriving & set(wanted.load)
        served = next_labels(wanted, served, loaded)
        loaded -= set(superfluous(wanted, served, loaded))
        assert served.default in loaded
        assert served.numbers() <= loaded
        if default in loaded:
            assert served.default == default


def test_listening_beyond_this_machine_needs_protection(tmp_path: Path) -> None:
    files = {**_pair(tmp_path), "tokens": tmp_path / "tokens"}
    files["tokens"].write_text("0" * 64 + " somebody\n")
    files["tokens"].chmod(0o600)
    ServeSettings(tmp_path, ()).check()
    ServeSettings(tmp_path, (), host="0.0.0.0", **files).check()  # type: ignore[arg-type]
    ServeSettings(tmp_path, (), host="0.0.0.0", insecure=True).check()
    for lacking in files:
        given = {name: file for name, file in files.items() if name != lacking}
        with pytest.raises(UserError):
            ServeSettings(tmp_path, (), host="0.0.0.0", **given).check()  # type: ignore[arg-type]
    assert is_local("::1") and is_local("localhost") and not is_local("example.org") and not is_local("10.0.0.1")


def _pair(folder: Path) -> dict[str, Path]:
    files = {"certificate": folder / "certificate", "key": folder / "key"}
    made = ["-keyout", str(files["key"]), "-out", str(files["certificate"])]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(["openssl", "req", "-x509", *curve, *made], check=True, capture_output=True)
    return files


def test_a_certificate_that_no_front_could_use_is_refused_at_once(tmp_path: Path) -> None:
    pair = _pair(tmp_path)
    encrypted = tmp_path / "encrypted"
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", pair["key"], "-out", encrypted],
        check=True, capture_output=True,
    )  # fmt: skip
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("no PEM")
    for certificate, key in [
        (tmp_path / "text", pair["key"]), (pair["certificate"], tmp_path / "text"), (pair["key"], pair["certificate"]),
        (pair["certificate"], encrypted), (tmp_path / "fifo", pair["key"]), (pair["certificate"], tmp_path),
    ]:  # fmt: skip
        with pytest.raises(UserError):
            ServeSettings(tmp_path, (), certificate=certificate, key=key).check()
    ServeSettings(tmp_path, (), **pair).check()  # type: ignore[arg-type]


@pytest.mark.parametrize("ports", [{"rest_port": 65536}, {"rest_port": -1}, {"grpc_port": 10**6}])
def test_a_port_is_between_0_and_65535(tmp_path: Path, ports: dict[str, int]) -> None:
    with pytest.raises(UserError, match="is not a port"):
        ServeSettings(tmp_path, (), **ports).check()


def test_a_file_of_tokens_that_is_none_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "binary").chmod(0o600)
    for file in (tmp_path / "fifo", tmp_path / "binary", Path("/dev/zero"), tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError):
            ServeSettings(tmp_path, (), tokens=file).check()
