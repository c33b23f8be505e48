"""The job script means what the cluster file says, and executes nothing else."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.configs.loading.files import shipped
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.slurm.submission.job_script import BatchJob, render
from saman.slurm.submission.resource_request import ResourceRequest

HOSTILE = [
    "plain", "two words", "it's", 'say "x"', "$(touch PWNED)", "`touch PWNED`", "a;touch PWNED", "a\ntouch PWNED",
    "$HOME",
    "${IFS}", "*", "~", "\\", "a\\", "\t", "ü 数据 🙂", "#x", "a&touch PWNED", "|touch PWNED", "-rf", "--", "{{ 7*7 }}",
    "{% x %}",
    "!!", "'", '"', "\r", "\x85", "\u2028", "\x1b[0m", "%j", "a,b", "a:b", "",
]  # fmt: skip
HOSTILE_TEXT = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    st.lists(st.sampled_from([*"$()`'\"\\;&|<>\n \t#!%{}", "touch PWNED", "x"]), max_size=12).map("".join),
)
REQUEST = ResourceRequest(2, 2, 4, 0, 1 << 30, 3600, False)


def a_job(cluster: Cluster, run: Path, **changes: object) -> BatchJob:
    values = {
        "name": "fashion", "runs": (run,), "script": run / "slurm/job.sbatch", "cluster": cluster,
        "partition": cluster.partitions[0], "request": REQUEST,
    }  # fmt: skip
    return BatchJob(**{**values, **changes})  # type: ignore[arg-type]


def cluster_of(**keys: object) -> Cluster:
    partition = {"name": "main", "cores_per_node": 8, "gpus_per_node": 4, "gpu_type": "a100"}
    return validated(Cluster, {"name": "site", "partitions": [partition], **keys}, "test.yaml")


def run_script(text: str, folder: Path, recorder: str) -> subprocess.CompletedProcess[str]:
    """Run a rendered script with bash; ``recorder`` is the program that stands for Python."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    for name, body in {"recorder": recorder, "scontrol": 'echo "scontrol $*" >>"$LOG"'}.items():
        program = commands / name
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    script = folder / "job.sbatch"
    script.write_text(text)
    environment = {
        "PATH": f"{commands}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4",
        "HOME": str(folder), "LOG": str(folder / "log"),
    }  # fmt: skip
    command = ["bash", str(script)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=20)


def recorded(folder: Path) -> list[str]:
    """What the recorder was given: NUL-separated."""
    return (folder / "log").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]


@pytest.mark.parametrize("name", shipped("clusters"))
@pytest.mark.parametrize("whole", [True, False])
def test_every_shipped_cluster_renders_a_script_that_bash_accepts(name: str, whole: bool, tmp_path: Path) -> None:
    cluster = load_cluster(name)
    request = ResourceRequest(
        2, 2, 4, 2 if cluster.partitions[0].gpus_per_node else 0, 0 if whole else None, 7200, whole
    )
    text = render(a_job(cluster, tmp_path, request=request))
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert "--requeue" in text and "--open-mode=append" in text and "--signal=B:USR1@" in text
    assert ("scontrol requeue" in text) == (cluster.requeue.by == "scontrol")


@pytest.mark.parametrize(
    ("request_style", "typed", "option"),
    [
        ("gres", True, "--gres=gpu:a100:4"),
        ("gres", False, "--gres=gpu:4"),
        ("gpus-per-node", True, "--gpus-per-node=a100:4"),
        ("gpus-per-task", True, "--gpus-per-task=a100:2"),
    ],
)
def test_gpus_are_asked_for_in_the_dialect_of_the_site(
    request_style: str, typed: bool, option: str, tmp_path: Path
) -> None:
    cluster = cluster_of(gpus={"request": request_style, "typed": typed})
    text = render(a_job(cluster, tmp_path, request=ResourceRequest(1, 2, 4, 4, None, 3600, False)))
    assert f"#SBATCH {option}\n" in text
    assert "--mem" not in text


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.from_regex(r"SAMAN_T[A-Z]{1,4}", fullmatch=True), HOSTILE_TEXT, max_size=4))
@example(values={"SAMAN_TA": "$(touch PWNED)\n`touch PWNED`"})
def test_every_environment_value_arrives_intact_or_is_refused(
    values: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("job")
    try:
        written = {name: value.replace("$", "$$") for name, value in values.items()}
        cluster = cluster_of(environment=written, software={"python": str(folder / "bin/recorder")})
        text = render(a_job(cluster, folder))
    except UserError:
        assert any("\0" in value for value in values.values())
        return
    names = sorted(values)
    recorder = "".join(f'printf "%s\\0" "${name}" >>"$LOG"\n' for name in names) + ': >>"$LOG"'
    done = run_script(text, folder, recorder)
    assert done.returncode == 0, done.stderr
    assert recorded(folder) == [values[name] for name in names]
    assert not list(folder.rglob("PWNED"))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=HOSTILE_TEXT.filter(lambda text: text not in ("", ".", "..") and "/" not in text and "\0" not in text))
def test_a_run_folder_of_any_name_is_the_one_that_runs(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("job")
    run = folder / name
    try:
        run.mkdir()
    except OSError:
        return
    try:
        text = render(a_job(cluster_of(software={"python": str(folder / "bin/recorder")}), run))
    except UserError:
        ends_a_line = any(len(f"a{character}b".splitlines()) > 1 for character in name)
        assert "\\" in name or ends_a_line or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name)
        return
    done = run_script(text, folder, 'printf "%s\\0" "$PWD" "$@" >>"$LOG"')
    assert done.returncode == 0, done.stderr
    assert recorded(folder) == [str(run), "-m", "saman.slurm.job", str(run)]
    assert not list(folder.rglob("PWNED"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(load=st.lists(HOSTILE_TEXT, max_size=3), use=st.lists(HOSTILE_TEXT, max_size=2), environment=HOSTILE_TEXT)
def test_modules_and_activation_take_any_name_literally(
    load: Sequence[str], use: Sequence[str], environment: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("job")
    root = folder / "con da"
    (root / "etc/profile.d").mkdir(parents=True)
    conda = 'conda() { printf "%s\\0" conda "$@" >>"$LOG"; export CONDA_PREFIX=$PWD CONDA_DEFAULT_ENV=$2; }\n'
    (root / "etc/profile.d/conda.sh").write_text(conda)
    software = {
        "python": str(folder / "bin/recorder"),
        "modules": {
            "purge": True,
            "use": [str(folder / name).replace("$", "$$") for name in use],
            "load": [name.replace("$", "$$") for name in load],
        },
        "conda": {"root": str(root), "environment": environment.replace("$", "$$")},
    }
    try:
        text = render(a_job(cluster_of(software=software), folder))
    except UserError:
        return
    try:
        for name in use:
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    defined = (
        'module() { [ "$1" = is-loaded ] && return 1; printf "%s\\0" module "$@" >>"$LOG"\n'
        'case $1 in load) LOADEDMODULES+=":$2";; use) MODULEPATH+=":$2";; esac; }\n'
    )
    done = run_script(text.replace("set -euo pipefail\n", "set -euo pipefail\n" + defined, 1), folder, ": ran")
    assert done.returncode == 0, done.stderr
    expected = ["module", "purge"]
    for word, values in (("use", [str(folder / name) for name in use]), ("load", load)):
        for value in values:
            expected += ["module", word, value]
    assert recorded(folder) == [*expected, "conda", "activate", environment]
    assert not list(folder.rglob("PWNED"))


@settings(max_examples=300, deadline=None)
@given(
    field=st.sampled_from(
        ["account", "qos", "reservation", "constraint", "partition", "gpu_type", "line", "interface", "name"]
    ),
    value=HOSTILE_TEXT,
)
def test_what_reaches_an_sbatch_line_is_one_harmless_line_or_is_refused(field: str, value: str) -> None:
    partition = {"name": "main", "cores_per_node": 8, "gpus_per_node": 4, "gpu_type": "a100"}
    keys: dict[str, object] = {}
    if field in ("partition", "gpu_type"):
        partition["name" if field == "partition" else "gpu_type"] = value
    elif field == "line":
        keys["sbatch"] = [f"--comment={value}"]
    elif field == "interface":
        keys["network"] = {"interface": value}
    else:
        keys[field] = value
    try:
        cluster = cluster_of(**{"partitions": [partition], "gpus": {"typed": True}, **keys})
        text = render(a_job(cluster, Path("/runs/x"), request=ResourceRequest(1, 2, 4, 4, None, 3600, False)))
    except UserError:
        return
    head = text.split("set -euo pipefail")[0]
    assert all(line.startswith("#") for line in head.splitlines())
    assert sum(line.startswith("#SBATCH") for line in head.splitlines()) <= 18
    if field in ("account", "qos", "reservation", "partition"):
        assert f"#SBATCH --{field}={value}\n" in head


def test_eighty_five_is_requeued_and_every_other_code_is_passed_on(tmp_path: Path) -> None:
    text = render(a_job(cluster_of(software={"python": str(tmp_path / "bin/recorder")}), tmp_path))
    for code in (0, 1, 2, 3, 130, 85):
        (tmp_path / "log").unlink(missing_ok=True)
        done = run_script(text, tmp_path, f"exit {code}")
        assert done.returncode == code
        asked = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
        assert asked == ("scontrol requeue 7\n" if code == 85 else "")


def test_a_signal_to_the_shell_asks_for_a_stop_and_the_end_is_waited_for(tmp_path: Path) -> None:
    text = render(a_job(cluster_of(software={"python": str(tmp_path / "bin/recorder")}), tmp_path))
    waits = "kill -USR1 $PPID; for i in $(seq 100); do [ -e control/stop ] && exit 85; sleep 0.05; done; exit 9"
    assert run_script(text, tmp_path, waits).returncode == 85
    assert (tmp_path / "control/stop").read_text() == "USR1\n"


def test_a_supervisor_that_is_killed_is_started_again_unless_a_stop_was_requested(tmp_path: Path) -> None:
    text = render(a_job(cluster_of(software={"python": str(tmp_path / "bin/recorder")}), tmp_path))
    dies_twice = 'echo begun >>"$LOG"; [ $(wc -l <"$LOG") -gt 2 ] || kill -KILL $$'
    assert run_script(text, tmp_path, dies_twice).returncode == 0
    assert (tmp_path / "log").read_text() == "begun\n" * 3
    (tmp_path / "log").unlink()
    assert run_script(text, tmp_path, 'echo begun >>"$LOG"; kill -KILL $$').returncode == 137  # not for ever
    assert (tmp_path / "log").read_text() == "begun\n" * 5
    (tmp_path / "log").unlink()
    stopped = 'echo begun >>"$LOG"; mkdir -p control; touch control/stop; kill -KILL $$'
    assert run_script(text, tmp_path, stopped).returncode == 137
    assert (tmp_path / "log").read_text() == "begun\n"


@pytest.mark.parametrize(("by", "option"), [("none", "--no-requeue"), ("scontrol", "--requeue")])
def test_slurm_requeues_a_job_by_itself_only_where_the_cluster_file_has_it_requeued(
    by: str, option: str, tmp_path: Path
) -> None:
    lines = render(a_job(cluster_of(requeue={"by": by}), tmp_path)).splitlines()
    assert [line for line in lines if line.endswith("-requeue")] == [f"#SBATCH {option}"]


def test_an_option_that_a_key_decides_is_refused_with_the_key() -> None:
    with pytest.raises(UserError, match=r"requeue: \{by: none\}"):
        cluster_of(sbatch=["--no-requeue"])


def test_a_named_set_of_variables_is_expanded_in_the_job_and_nothing_else(tmp_path: Path) -> None:
    values = {"SAMAN_TA": "/scratch/$USER/${SLURM_JOB_ID}/$(touch PWNED) `touch PWNED` $$HOME 5$"}
    text = render(a_job(cluster_of(environment=values, software={"python": "$HOME/bin/recorder"}), tmp_path))
    recorder = 'printf "%s\\0" "$SAMAN_TA" >>"$LOG"'
    done = run_script(text.replace("set -euo pipefail", 'set -euo pipefail; export USER="m e"', 1), tmp_path, recorder)
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path) == ["/scratch/m e/7/$(touch PWNED) `touch PWNED` $HOME 5$"]
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize(
    "keys",
    [
        {"environment": {"OUT": "/work/$PROJECT"}},
        {"software": {"virtualenv": "/work/${GROUP}/venv"}},
        {"container": {"image": "$IMAGES/train.sif"}},
        {"sbatch": ["--comment=$USER"]},
    ],
)
def test_any_other_variable_is_refused_with_its_key(keys: dict[str, object]) -> None:
    with pytest.raises(UserError, match="expand"):
        cluster_of(**keys)


def test_only_jobs_of_the_same_user_share_the_nodes_unless_they_are_whole(tmp_path: Path) -> None:
    for whole, option in ((False, "--exclusive=user"), (True, "--exclusive")):
        request = ResourceRequest(1, 1, 1, 0, None, 3600, whole)
        lines = render(a_job(cluster_of(exclusive="user"), tmp_path, request=request)).splitlines()
        assert [line for line in lines if "--exclusive" in line] == [f"#SBATCH {option}"]


def test_lines_of_a_burst_buffer_follow_those_of_sbatch_with_their_fields_filled_in(tmp_path: Path) -> None:
    lines = ["#DW jobdw type=scratch capacity={size} access_mode=striped", "#BB create_persistent name={name}-{nodes}"]
    cluster = cluster_of(burst_buffer={"lines": lines, "fields": {"size": "1TB"}})
    head = render(a_job(cluster, tmp_path)).split("set -euo")[0].splitlines()
    assert head[-2:] == [
        "#DW jobdw type=scratch capacity=1TB access_mode=striped", "#BB create_persistent name=fashion-2",
    ]  # fmt: skip
    assert head[-3].startswith("#SBATCH ")
    cluster = cluster_of(burst_buffer={"lines": ["#DW stage_out destination={run}"]})
    with pytest.raises(UserError, match="array"):
        render(a_job(cluster, tmp_path, array=True))


@pytest.mark.parametrize(("export", "option"), [("none", "--export=NONE"), ("nil", "--export=NIL"), ("all", None)])
def test_a_job_that_inherits_nothing_sets_what_programs_take_for_granted(
    export: str, option: str | None, tmp_path: Path
) -> None:
    text = render(a_job(cluster_of(export=export, software={"python": str(tmp_path / "bin/recorder")}), tmp_path))
    assert [line for line in text.splitlines() if "--export" in line and "#SBATCH" in line] == (
        [f"#SBATCH {option}"] if option else []
    )
    shows = 'printf "%s\\0" "${SLURM_EXPORT_ENV-unset}" "${HOME:+home}" "${USER:+user}" "${LANG:+lang}" >>"$LOG"'
    inherited = "unset HOME USER LANG; export SLURM_EXPORT_ENV=NONE; "
    done = run_script(text.replace("set -euo pipefail\n", f"set -euo pipefail; {inherited}\n", 1), tmp_path, shows)
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path) == (["unset", "home", "user", "lang"] if option else ["NONE", "", "", ""])
