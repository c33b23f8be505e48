"""Kills random processes of a real training, one after the other, and judges what is left; prints every kill.

    python tests/launcher/restarts/kill_driver.py FOLDER --kills 50 --seed 7 [--strategy pipeline]

Each kill hits a rank, its wrapper, the keeper of the wrapper, a process beside the ranks or saman itself. Where saman
dies, every other process must end within 10 s, and ``saman resume`` goes on. A call with the same folder goes on where
the last one stopped. At the end the weights must equal those of an undisturbed training.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

TARGETS = ("rank", "wrapper", "keeper", "companion", "saman")
ORPHAN_SECONDS = 10.0


def experiment(name: str, ranks: int, steps: int, every: int | str, strategy: str) -> dict[str, Any]:
    """A toy training in float64, of steps that take some milliseconds."""
    checkpoint = {"every": "auto", "mtbf": "60s"} if every == "auto" else {"every_steps": every, "every_epochs": None}
    pipeline = {"pipeline": {"stages": ranks}, "micro_batches": 2} if strategy == "pipeline" else {}
    return {
        "name": name,
        "model": {"build": "mlp", "args": {"classes": 10, "hidden": [128, 128]}},
        "data": {"source": "digits", "validation_fraction": 0.2},
        "train": {"strategy": strategy, "precision": "float64", "epochs": 100_000, "max_steps": steps,
                  "global_batch_size": 64, "seed": 7, "optimizer": {"name": "sgd", "momentum": 0.9},
                  "learning_rate": {"base": 0.01}, "checkpoint": checkpoint,
                  "validate_every_epochs": 100_000, **pipeline},
        "resources": {"ranks_per_node": ranks, "cpus_per_rank": 1},
        "launch": {"restart": {"times": 10_000, "backoff": "1s", "longest_backoff": "1s"}},
        "export": False,
    }  # fmt: skip


@dataclass
class Campaign:
    """The state of a campaign, kept in a file between calls."""

    folder: Path
    kills: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    run: str | None = None
    finished: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def load(cls, folder: Path) -> Campaign:
        campaign = cls(folder)
        if (folder / "campaign.json").exists():
            for name, value in json.loads((folder / "campaign.json").read_text()).items():
                setattr(campaign, name, value)
        return campaign

    def save(self) -> None:
        facts = {name: getattr(self, name) for name in ("kills", "problems", "run", "finished")}
        (self.folder / "campaign.json").write_text(json.dumps(facts, indent=1))

    def problem(self, text: str) -> None:
        print(f"  PROBLEM: {text}", flush=True)
        self.problems.append(text)

    # ---- saman -----------------------------------------------------------------------------------------------

    def begin(self, file: Path) -> None:
        """Start a run, or go on with the one at hand."""
        words = ["run", str(file)] if self.run is None else ["resume", Path(self.run).name]
        log = (self.folder / "saman.log").open("ab")
        command = [sys.executable, "-m", "saman", *words]
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        if self.run is None:
            group = self.folder / "runs" / yaml.safe_load(file.read_text())["name"]
            self.wait(lambda: [path for path in group.glob("*") if str(path) not in self.finished], 120)
            self.run = next(str(path) for path in sorted(group.glob("*")) if str(path) not in self.finished)

    def events(self) -> list[dict[str, Any]]:
        """The events of the run, as they stand in the file."""
        assert self.run is not None
        found: list[dict[str, Any]] = []
        file = Path(self.run) / "events.jsonl"
        for line in file.read_text().splitlines() if file.exists() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def wait(self, condition: Callable[[], object], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.05)
        return False

    # ---- processes -------------------------------------------------------------------------------------------

    def processes(self) -> Iterator[tuple[int, int, str]]:
        """Every process of the run but saman itself: its id, its parent, its command line."""
        mark = f"SAMAN_RUN={self.run}".encode()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    yield int(entry.name), parent, (entry / "cmdline").read_text().replace("\0", " ")
            except (OSError, ValueError):
                continue

    def targets(self) -> dict[str, list[int]]:
        """The processes that may be killed, by their role."""
        assert self.process is not None
        found = list(self.processes())
        wrapped = {pid: parent for pid, parent, line in found if "saman.launcher.rank" in line}
        roles: dict[str, list[int]] = {"saman": [self.process.pid]}
        for pid, parent, line in found:
            if "saman.trainers.worker" in line and "saman.launcher.rank" not in line:
                role = "rank"
            elif pid in wrapped and parent in wrapped:  # a guard leads a session; without it, nothing happens yet
                role = "guard" if os.getsid(pid) == pid else "wrapper"
            elif pid in wrapped:
                role = "keeper"
            else:
                role = "companion"
            roles.setdefault(role, []).append(pid)
        return roles

    # ---- a kill ----------------------------------------------------------------------------------------------

    def kill(self, role: str, pid: int) -> dict[str, Any]:
        """Kill a process; judge what follows until the next attempt has begun, or the run has ended."""
        assert self.process is not None
        before = self.events()
        facts = {"role": role, "pid": pid, "time": time.time(), "attempt": attempts(before), "saved": newest(before),
                 "reached": self.reached(), "run": Path(str(self.run)).name}  # fmt: skip
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return {}
        began = time.monotonic()
        if role == "saman":
            self.process.wait()
            if not self.wait(lambda: not list(self.processes()), ORPHAN_SECONDS):
                self.problem(f"after the death of saman: {list(self.processes())}")
            facts["orphans_gone_seconds"] = round(time.monotonic() - began, 2)
        return facts

    def reached(self) -> int:
        """The newest step in the telemetry of the newest attempt; before its first window, the step it began from."""
        events = self.events()
        number = attempts(events)
        steps = [event["step"] for event in events if event["kind"] == "resumed" and event["attempt"] == number] or [0]
        for file in Path(str(self.run)).glob(f"attempts/{number}/nodes/*.jsonl"):
            for line in file.read_text(errors="replace").splitlines()[-3:]:
                try:
                    steps.append(int(json.loads(line)["step"]))
                except (ValueError, KeyError):
                    continue
        return max(steps)


def attempts(events: list[dict[str, Any]]) -> int:
    return sum(event["kind"] == "attempt_started" for event in events)


def newest(events: list[dict[str, Any]]) -> int:
    return max((event["step"] for event in events if event["kind"] == "checkpoint"), default=0)


def final_weights(run: Path) -> dict[str, np.ndarray]:
    from saman.runs import checkpoints

    last = max(checkpoints.find(run / "checkpoints"), key=lambda checkpoint: checkpoint.step)
    return {f"{last.step}:{name}": value for name, value in last.read()[1].items()}


def same_weights(run: Path, reference: Path) -> float:
    """The largest relative difference of a tensor; infinite if steps or names differ."""
    mine, theirs = final_weights(run), final_weights(reference)
    if mine.keys() != theirs.keys():
        return float("inf")
    scale = {name: float(np.linalg.norm(value)) or 1.0 for name, value in theirs.items()}
    return max(float(np.linalg.norm(mine[name] - theirs[name])) / scale[name] for name in theirs)


def undisturbed(campaign: Campaign, values: dict[str, Any]) -> Path:
    """The same training without kills; from an earlier call if there was one."""
    file = campaign.folder / "undisturbed.yaml"
    file.write_text(yaml.safe_dump({**values, "name": "undisturbed"}))
    group = campaign.folder / "runs" / "undisturbed"
    words = ["resume", next(group.glob("*")).name] if list(group.glob("*")) else ["run", str(file)]
    if words[0] == "run" or '"completed"' not in (group / words[1] / "events.jsonl").read_text():
        subprocess.run([sys.executable, "-m", "saman", *words], cwd=campaign.folder, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
    return next(group.glob("*"))


def judge_resumption(campaign: Campaign) -> None:
    """What the run lost to each kill: nothing that was saved, and no more steps than two intervals of checkpoints."""
    events = campaign.events()
    for kill in (kill for kill in campaign.kills if kill["run"] == Path(str(campaign.run)).name):
        after = [event for event in events if event.get("attempt") == kill["attempt"] + 1]
        later = [event for event in after if event["kind"] == "resumed"]
        if "lost_steps" not in kill and (later or (after and not kill["saved"])):  # without a checkpoint, from step 0
            kill["resumed"] = later[0]["step"] if later else 0
            kill["lost_steps"] = max(0, kill["reached"] - kill["resumed"])
            if later:
                kill["recovery_seconds"] = round(later[0]["time"] - kill["time"], 2)
            if kill["resumed"] < kill["saved"]:
                campaign.problem(f"kill of {kill['role']}: step {kill['saved']} was saved, not {kill['resumed']}")


def drive(campaign: Campaign, options: argparse.Namespace, values: dict[str, Any], reference: Path) -> None:
    """Kill until there are enough kills, or the time is over."""
    file = campaign.folder / "killed.yaml"
    file.write_text(yaml.safe_dump({**values, "name": "killed"}))
    rng = random.Random(options.seed + len(campaign.kills))
    end = time.monotonic() + options.seconds
    known = attempts(campaign.events()) if campaign.run else 0
    campaign.begin(file)
    while len(campaign.kills) < options.kills and time.monotonic() < end:
        if campaign.ended():
            finish(campaign, reference, end)
            campaign.begin(file)
            known = 0
        if not campaign.wait(lambda than=known: campaign.ended() or attempts(campaign.events()) > than, 120):  # type: ignore[misc]
            campaign.problem(f"no attempt after {known} within 120 s")
            break
        if campaign.ended():
            continue
        role = options.targets[len(campaign.kills) % len(options.targets)] if options.in_turn else None
        if not pause(campaign, rng, options.every):
            continue
        roles = campaign.targets()
        role = role or rng.choice([name for name in options.targets if roles.get(name)])
        if not roles.get(role):
            continue
        known = attempts(campaign.events())
        facts = campaign.kill(role, rng.choice(roles[role]))
        if not facts:
            continue
        campaign.kills.append(facts)
        lost = "" if "orphans_gone_seconds" not in facts else f"; nothing left after {facts['orphans_gone_seconds']} s"
        print(f"kill {len(campaign.kills)}: {role} (pid {facts['pid']}) in attempt {facts['attempt']} at step "
              f"{facts['reached']}, saved {facts['saved']}{lost}", flush=True)  # fmt: skip
        campaign.save()
        if role == "saman":
            campaign.begin(file)
    while not campaign.ended() and time.monotonic() < end:
        time.sleep(0.2)
    finish(campaign, reference, end)


def pause(campaign: Campaign, rng: random.Random, every: float | None) -> bool:
    """Wait for the moment of the next kill: in most cases some time after the first step of the attempt."""
    if every is not None:
        last = max((kill["time"] for kill in campaign.kills), default=campaign.events()[0]["time"])
        campaign.wait(campaign.ended, max(0.0, last + every - time.time()))
        return not campaign.ended()
    if rng.random() < 0.75:
        before = campaign.reached()
        campaign.wait(lambda: campaign.ended() or campaign.reached() != before, 60)
    campaign.wait(campaign.ended, rng.uniform(0.0, 4.0))
    return not campaign.ended()


def finish(campaign: Campaign, reference: Path, end: float) -> None:
    """Judge a run that has ended; stop one for which the time is over, to go on with it in the next call."""
    assert campaign.process is not None
    if not campaign.ended():
        campaign.process.terminate()
        campaign.process.wait()
        campaign.save()
        return
    judge_resumption(campaign)
    if campaign.events()[-1]["kind"] != "completed":
        campaign.problem(f"the run ended with {campaign.events()[-1]}")
    else:
        difference = same_weights(Path(str(campaign.run)), reference)
        print(f"completed {Path(str(campaign.run)).name}: weights differ by {difference:.1e}", flush=True)
        if not difference <= 1e-10:
            campaign.problem(f"the weights differ by {difference}")
    campaign.finished.append(str(campaign.run))
    campaign.run = None
    campaign.save()


def report(campaign: Campaign) -> None:
    """The figures of the campaign."""
    from saman.runs.folder import RunFolder

    judged = [kill for kill in campaign.kills if "resumed" in kill]
    roles = Counter(kill["role"] for kill in campaign.kills)
    print(f"{len(campaign.kills)} kills: {', '.join(f'{count} × {role}' for role, count in roles.items())}")
    gone = [kill["orphans_gone_seconds"] for kill in campaign.kills if "orphans_gone_seconds" in kill]
    if gone:
        print(f"after the death of saman nothing was left within {max(gone)} s ({len(gone)} times)")
    if judged:
        lost = sorted(kill["lost_steps"] for kill in judged)
        seconds = sorted(kill["recovery_seconds"] for kill in judged if "recovery_seconds" in kill) or [0.0]
        print(f"steps lost per kill: median {lost[len(lost) // 2]}, most {lost[-1]}")
        print(
            f"from the kill until the state was restored: median {seconds[len(seconds) // 2]} s, most {seconds[-1]} s"
        )
    for run in campaign.finished:
        summary = RunFolder(Path(run)).summary()
        print(f"{Path(run).name}: {json.dumps(summary.more.get('goodput') if summary else None)}")
    print(f"{len(campaign.problems)} problems", *campaign.problems, sep="\n  ")


def main() -> int:
    """Run the campaign of the command line; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=36000.0, help="stop after so long; a further call goes on")
    parser.add_argument("--targets", type=lambda text: text.split(","), default=list(TARGETS))
    parser.add_argument("--in-turn", action="store_true", help="kill the targets in turn, not at random")
    parser.add_argument("--every", type=float, help="seconds between kills, for goodput")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--strategy", default="horovod")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--checkpoint-every", type=lambda text: text if text == "auto" else int(text), default=50)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    campaign = Campaign.load(options.folder.resolve())
    values = experiment("killed", options.ranks, options.steps, options.checkpoint_every, options.strategy)
    print(f"seed {options.seed}", flush=True)
    drive(campaign, options, values, undisturbed(campaign, values))
    report(campaign)
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    sys.exit(main())
