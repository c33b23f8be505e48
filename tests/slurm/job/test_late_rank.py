"""A rank that falls behind while MPI starts does not crash."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.slurm.conftest import Minicluster
from tests.slurm.runs import script, site, submitted, told, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.ranks, pytest.mark.mpi]

# The thread in which PMIx hears of the other ranks is late by half a second at each message, on rank LATE only.
SLOW_PMIX = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>
int epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
    int (*real)(int, struct epoll_event *, int, int) = dlsym(RTLD_NEXT, "epoll_wait");
    int ready = real(fd, events, most, timeout);
    const char *rank = getenv("SLURM_PROCID"), *late = getenv("LATE");
    if (ready > 0 && rank && late && !strcmp(rank, late) && syscall(SYS_gettid) != getpid()) usleep(500000);
    return ready;
}
"""
PROGRAM = """
from mpi4py import MPI

MPI.COMM_WORLD.Dup().Barrier()
"""


# The fence "mixed" fails at the first case, "tree" at the second.
@pytest.mark.parametrize(("ranks_per_node", "late"), [(1, 0), (2, 1)])
def test_a_rank_that_hears_late_of_the_others_still_starts(
    minicluster: Minicluster, ranks_per_node: int, late: int
) -> None:
    folder = minicluster.shared / f"late-{late}"
    folder.mkdir()
    (folder / "slow.c").write_text(SLOW_PMIX)
    (folder / "program.py").write_text(PROGRAM)
    library = folder / "slow.so"
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", library, folder / "slow.c", "-ldl"], check=True)
    command = ["env", f"LD_PRELOAD={library}", f"LATE={late}", sys.executable, "program.py"]
    spec = script("late", command, folder, nodes=2, ranks_per_node=ranks_per_node)
    run = submitted(spec, site(), folder).run
    assert wait_for(run).state == "completed", told(run)
    assert "--mpi=pmix" in run.attempt(1).command.read_text()
