"""Names of published versions in an experiment become paths before ranks start: ranks do not read the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from registry_kit import published

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Experiment
from saman.registry.references import with_versions


def experiment(publish: Any = None, reference: str | None = None, warm_start: Any = None) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "named",
            "model": {"build": "mlp"},
            "data": {"source": "digits", "checks": {"reference": reference}},
            "train": {"global_batch_size": 8, "warm_start": warm_start},
            "publish": publish,
        }
    )


def test_a_warm_start_and_the_reference_of_drift_find_published_versions(tmp_path: Path) -> None:
    first, second = published(tmp_path, seed=1), published(tmp_path, seed=2)
    name, models = "digits", tmp_path / "models"
    found = with_versions(experiment({"model": name}, "published", f"{name}:{first.number}"), models)
    assert found.train.warm_start is not None and found.train.warm_start.is_file
    assert Path(found.train.warm_start.source) == first.path / "assets.extra" / "model.keras"
    assert found.data.checks.reference == str(second.path / "assets.extra" / "saman.json")
    assert Experiment.model_validate(found.resolved()) == found
    assert with_versions(found, models) == found


def test_before_the_first_version_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    found = with_versions(experiment({"model": "birds"}, "published"), tmp_path)
    assert found.data.checks.reference is None


def test_what_cannot_be_found_is_refused(tmp_path: Path) -> None:
    for wrong, problem in [
        (experiment(None, "published"), "publishes no model"),
        (experiment(None, None, "birds:3"), "birds"),
    ]:
        with pytest.raises(UserError, match=problem):
            with_versions(wrong, tmp_path)
