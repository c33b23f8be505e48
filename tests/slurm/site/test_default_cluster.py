"""The default cluster: the environment before the settings, and both say where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.settings import settings_file
from saman.slurm.site.default_cluster import choose_cluster


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("SAMAN_CLUSTER", raising=False)
    settings_file().parent.mkdir()
    settings_file().write_text("cluster: minicluster\n")


def test_a_named_cluster_comes_before_the_environment_and_that_before_the_settings() -> None:
    environ = {"SAMAN_CLUSTER": "cpu-cluster"}
    named, inherited, kept = choose_cluster("a.yaml", environ), choose_cluster(None, environ), choose_cluster(None, {})
    assert (named.name, named.note) == ("a.yaml", None)
    assert (inherited.name, inherited.origin) == ("cpu-cluster", "SAMAN_CLUSTER")
    assert (kept.name, kept.origin) == ("minicluster", str(settings_file()))
    assert choose_cluster("default", {}) == kept and kept.load().name == "minicluster"


def test_without_a_default_the_message_names_every_way_to_set_it() -> None:
    settings_file().write_text("safe: []\n")
    with pytest.raises(UserError) as refused:
        choose_cluster(None, {})
    assert {"--cluster", "SAMAN_CLUSTER", str(settings_file())} <= {
        word.strip(",;:`").split("=")[0] for word in str(refused.value.remedy).split()
    }


def test_a_default_that_does_not_exist_or_that_others_may_write_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        choose_cluster(None, {"SAMAN_CLUSTER": "nowhere"}).load()
    assert "SAMAN_CLUSTER" in str(refused.value.where)
    settings_file().write_text("cluster: some/where.yaml\n")
    with pytest.raises(UserError, match="absolute path"):
        choose_cluster(None, {})
    settings_file().chmod(0o666)
    with pytest.raises(UserError, match="dubious settings"):
        choose_cluster(None, {})
