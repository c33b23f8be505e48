"""``launch.horovod`` as environment variables of every rank."""

from __future__ import annotations

from pathlib import Path

from saman.configs.schemas.launch.exchange import HorovodEngine
from saman.launcher.plan.horovod_engine import engine_variables
from saman.launcher.planning import Options, make_plan
from saman.launcher.programs import script_from_command


def test_the_engine_gets_what_was_chosen_and_nothing_else() -> None:
    files = Path("timeline.json"), Path("autotune.csv")
    assert engine_variables(HorovodEngine(), *files) == {}
    engine = HorovodEngine(
        fusion_threshold="64M", cycle_time_ms=2.5, hierarchical_allreduce=True, timeline=True, autotune=True
    )
    assert engine_variables(engine, *files) == {
        "HOROVOD_FUSION_THRESHOLD": str(64 * 1024 * 1024),
        "HOROVOD_CYCLE_TIME": "2.5",
        "HOROVOD_HIERARCHICAL_ALLREDUCE": "1",
        "HOROVOD_TIMELINE": "timeline.json",
        "HOROVOD_AUTOTUNE": "1",
        "HOROVOD_AUTOTUNE_LOG": "autotune.csv",
    }


def test_the_ranks_of_a_script_get_them_and_its_own_variables_win(tmp_path: Path) -> None:
    words = ["launch.horovod.timeline=true", "launch.horovod.cycle_time_ms=2", "launch.with=processes"]
    spec = script_from_command(["true"], [*words, 'launch.environment.HOROVOD_CYCLE_TIME="3"'], directory=tmp_path)
    plan = make_plan(spec, tmp_path, (), Options(), tmp_path / "run", 4)
    assert plan.start.commands[0].environment["HOROVOD_TIMELINE"] == f"{tmp_path}/run/attempts/4/timeline.json"
    assert plan.start.commands[0].environment["HOROVOD_CYCLE_TIME"] == "3"
