"""Every shipped cluster file is valid, and a mistake in a changed file is named."""

from __future__ import annotations

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.configs.loading.files import shipped


@pytest.mark.parametrize("name", shipped("clusters"))
def test_every_shipped_cluster_file_is_sound_and_says_what_is_wrong_in_a_changed_one(name: str) -> None:
    assert load_cluster(name).partitions
    for change, message in (("nme=x", "did you mean 'name'"), ("mpi.start=ssh", "valid: gloo, mpirun, srun"),
                            ("sbatch=['--nodes=9']", "saman sets --nodes itself"), ("account=$(id)", "account"),
                            ("network={interface: 'eth0; id'}", "network.interface")):  # fmt: skip
        with pytest.raises(UserError, match=message.replace("$", r"\$").replace("(", r"\(").replace(")", r"\)")):
            load_cluster(name, (change,))
