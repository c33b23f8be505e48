"""The strategy tpu is refused in a line where there is no TPU, or one of another size."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rank_starts import experiment, make_run
from training_cases import CASES

from saman.configs.errors import EnvironmentLack

tf = pytest.importorskip("tensorflow")

from saman.trainers.strategies import one_process  # noqa: E402

pytestmark = pytest.mark.tensorflow
INTERNALS = "TPUs not found in the cluster. Failed in initialization: No OpKernel was registered\nto support Op"


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch, resolver: Any) -> EnvironmentLack:
    """What a run of 8 ranks says; the TPU's own calls are replaced, for they would reset this process's TensorFlow."""
    calls = SimpleNamespace(
        config=SimpleNamespace(experimental_connect_to_cluster=lambda _: None),
        tpu=SimpleNamespace(experimental=SimpleNamespace(initialize_tpu_system=lambda _: None)),
        distribute=SimpleNamespace(
            cluster_resolver=SimpleNamespace(TPUClusterResolver=resolver),
            TPUStrategy=lambda _: SimpleNamespace(num_replicas_in_sync=4),
        ),
    )
    monkeypatch.setattr(one_process, "tf", calls)
    asked = experiment(CASES["plain"], "tpu", 8, 8)
    with pytest.raises(EnvironmentLack) as error:
        one_process.start(asked, make_run(folder, asked))
    return error.value


def test_a_machine_without_a_tpu_is_named_without_tensorflows_internals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> Any:
        raise tf.errors.NotFoundError(None, None, INTERNALS)

    error = refused(tmp_path, monkeypatch, fail)
    assert error.where == "train.strategy" and error.remedy and "OpKernel" not in error.problem


def test_a_tpu_of_another_size_is_named_with_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(tmp_path, monkeypatch, lambda _: object())
    assert (error.where, error.remedy) == ("resources.ranks_per_node", "4")
