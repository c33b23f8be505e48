"""A job copies what its cluster file asks for to its nodes; a copy that fails is said, and the originals are used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.slurm.stubs import calls, stubs

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.launcher.starters.start import Command, Start
from saman.slurm.job.allocation import Allocation
from saman.slurm.job.staging import NodeCopies, node_folder, staged

HERE = Allocation("7", "7", ("n1", "n2"), (4, 4), 0, 0)
# Runs the words after srun's options once: both nodes of this cluster are this machine.
SRUN = 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"'
SBCAST = 'cp "$2" "$3"'


def _cluster(tmp_path: Path, **staging: str) -> Cluster:
    return Cluster.model_validate(
        {
            "name": "here",
            "partitions": [{"name": "main", "cores_per_node": 4}],
            "data": {"stage": "node"},
            "staging": {"folder": str(tmp_path / "local"), **staging},
        }
    )


def _experiment(folder: Path) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "small",
            "model": {"build": "mlp", "args": {"classes": 10}},
            "data": {"source": "fashion_mnist", "args": {"folder": str(folder)}},
            "train": {"global_batch_size": 8},
        }
    )


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "shared" / "images"
    folder.mkdir(parents=True)
    (folder / "a.idx").write_bytes(b"a")
    return folder


@pytest.mark.parametrize("sbcast", [SBCAST, "exit 1"])
def test_data_is_on_the_nodes_while_the_ranks_run_and_removed_after(
    tmp_path: Path, data: Path, sbcast: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"srun": SRUN, "sbcast": sbcast}))
    said: list[str] = []
    with staged(_experiment(data), _cluster(tmp_path), HERE, said.append) as copies:
        copy = copies.data[data]
        assert (copy / "a.idx").read_bytes() == b"a"
        assert copies.record() == {str(data): str(copy)}
        assert str(copy).startswith(str(tmp_path / "local" / f"saman-{os.getuid()}"))
    assert not copy.exists()
    assert any(str(data) in text and "is copied to" in text for text in said)
    steps = [call for call in calls(tmp_path / "bin") if call.startswith("srun")]
    assert all("--nodes=2" in step and "--ntasks-per-node=1" in step for step in steps)


def test_a_copy_that_stays_is_not_sent_again(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"srun": SRUN, "sbcast": SBCAST}))
    cluster = _cluster(tmp_path, after_job="keep")
    for _ in range(2):
        with staged(_experiment(data), cluster, HERE, lambda text: None) as copies:
            assert (copies.data[data] / "a.idx").is_file()
    assert len([call for call in calls(tmp_path / "bin") if call.startswith("sbcast")]) == 1


def test_a_failed_copy_leaves_the_originals_or_ends_the_job(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = 'case "$*" in *" unpack "*) echo "n2: the copy failed: No space left on device" >&2; exit 1;; esac\n' + SRUN
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"srun": full, "sbcast": SBCAST}))
    said: list[str] = []
    with staged(_experiment(data), _cluster(tmp_path), HERE, said.append) as copies:
        assert copies.data == {}
    assert any("n2: the copy failed: No space left on device" in text for text in said)
    assert any("staging.on_failure" in text for text in said)
    ending = _cluster(tmp_path, on_failure="end")
    with pytest.raises(EnvironmentLack, match="No space left"), staged(_experiment(data), ending, HERE, said.append):
        pytest.fail("the ranks were started")


def test_the_ranks_start_with_the_python_of_the_copy() -> None:
    origin = Path(sys.prefix)
    copies = NodeCopies(origin, Path("/local/saman-0/x/env"), {Path("/d"): Path("/local/saman-0/y/data/d")})
    argv = ("srun", "--nodes=2", sys.executable, "-m", "saman.launcher.rank", "/run", "--", sys.executable, "t.py")
    path = os.pathsep.join([str(origin / "bin"), "/usr/bin"])
    start = copies.adapted(Start("srun", (Command(argv, {"PATH": path, "COLOUR": "red"}),)))
    (command,) = start.commands
    python = f"/local/saman-0/x/env/{Path(sys.executable).relative_to(origin)}"
    assert command.argv == tuple(python if word == sys.executable else word for word in argv)
    assert command.environment["PATH"] == os.pathsep.join(["/local/saman-0/x/env/bin", "/usr/bin"])
    assert command.environment["VIRTUAL_ENV"] == "/local/saman-0/x/env"
    assert command.environment["COLOUR"] == "red"
    assert command.environment["SAMAN_STAGED_DATA"] == '{"/d": "/local/saman-0/y/data/d"}'
    assert NodeCopies().adapted(start) == start


def test_the_folder_of_the_copies_is_that_of_the_cluster_file_or_of_the_job(tmp_path: Path) -> None:
    plain = {"name": "here", "partitions": [{"name": "main", "cores_per_node": 4}]}
    own = f"saman-{os.getuid()}"
    assert node_folder(Cluster.model_validate(plain), {}) == Path("/tmp") / own
    assert node_folder(Cluster.model_validate(plain), {"TMPDIR": "/local/7"}) == Path("/local/7") / own
    named = Cluster.model_validate({**plain, "node_local": "/scratch/$USER"})
    assert node_folder(named, {"USER": "ada", "TMPDIR": "/local/7"}) == Path("/scratch/ada") / own
