"""``saman autotune`` on the command line: what it would try, without a run."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import Saman


def test_a_dry_run_lists_the_settings_and_starts_nothing(saman: Saman, tmp_path: Path) -> None:
    words = ["autotune", "quickstart", "-np", "2", "train.strategy=horovod", "resources.cpus_per_rank=1", "--dry-run"]
    shown = saman(*words)
    assert shown.status == 0 and "10 short runs" in shown.out
    found = json.loads(saman(*words, "--json").out)
    assert found["runs"] == 10
    assert list(found["factors"]) == ["threads and binding", "cycle time", "bucket", "fusion"]
    assert found["factors"]["cycle time"] == [{}, {"launch.horovod.cycle_time_ms": 0.2}]
    assert not list(tmp_path.glob("runs*"))


def test_an_elastic_run_is_refused_with_the_remedy(saman: Saman) -> None:
    refused = saman("autotune", "quickstart", "-np", "2", "train.strategy=horovod", "launch.elastic={min: 1, max: 2}")
    assert refused.status == 2 and "launch.elastic=null" in refused.err


def test_a_file_that_cannot_be_written_is_told_before_the_first_run(saman: Saman, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    for place, problem in [(tmp_path, "is a folder"), (tmp_path / "a file" / "x.yaml", "cannot be written")]:
        refused = saman("autotune", "quickstart", "-np", "1", "--output", str(place))
        assert refused.status == 2 and problem in refused.err
    assert not list(tmp_path.glob("runs*"))
