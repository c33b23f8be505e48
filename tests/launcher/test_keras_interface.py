"""A Horovod whose optimizer would exchange nothing in Keras' fit is refused before a rank starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack
from saman.launcher import keras_interface
from saman.launcher.keras_interface import refuse_silent_horovod
from saman.launcher.programs import script_from_command

FIT = "import horovod.tensorflow.keras as hvd\nopt = hvd.DistributedOptimizer(opt)\n"
TAPE = "import horovod.tensorflow as hvd\ntape = hvd.DistributedGradientTape(tape)\n"
RELEASED, PATCHED = "class _DistributedOptimizer:\n", "def _create_keras_3_optimizer(optimizer):\n"


def refuse(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str, keras: str, horovod: str, **spec: bool) -> None:
    for name, text in (("keras/src/version.py", f'__version__ = "{keras}"\n'), ("horovod/_keras/__init__.py", horovod)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "train.py").write_text(script)
    monkeypatch.setattr(keras_interface, "module_origin", lambda name, _: str(folder / name / "__init__.py"))
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    command = script_from_command(["python", "train.py"], directory=folder, legacy_keras=spec.get("legacy", False))
    refuse_silent_horovod(command, folder, sys.executable)


def test_the_released_horovod_on_keras_3_is_refused_for_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentLack, match="each rank would train alone") as caught:
        refuse(tmp_path, monkeypatch, FIT, "3.15.1", RELEASED)
    assert "--legacy-keras" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("script", "keras", "horovod", "legacy"),
    [(FIT, "3.15.1", PATCHED, False), (FIT, "2.15.0", RELEASED, False), (FIT, "3.15.1", RELEASED, True),
     (TAPE, "3.15.1", RELEASED, False)],
    ids=["patched", "Keras 2", "legacy", "tape"],
)  # fmt: skip
def test_whatever_exchanges_or_fails_by_itself_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, keras: str, horovod: str, legacy: bool
) -> None:
    refuse(tmp_path, monkeypatch, script, keras, horovod, legacy=legacy)


def test_the_patch_set_adds_what_the_refusal_looks_for() -> None:
    from saman.launcher.setup.horovod_keras.patched_wheel import patch_files

    assert any("+def _create_keras_3_optimizer(" in file.read_text("utf-8") for file in patch_files())
