"""The schema of tracking: the services that receive a copy of a run's parameters, metrics and figures."""

from __future__ import annotations

import re

from pydantic import field_validator, model_validator

from saman.configs.names import Name
from saman.configs.problems import Strict

_URI = re.compile(r"(https?|sqlite|file|databricks|postgresql|mysql)(\+\w+)?:\S*|databricks")


class Tracking(Strict):
    """Where to copy a run after it ended; the run folder stays authoritative."""

    mlflow: str | None = None  # a tracking URI, such as http://host:5000 or sqlite:///mlflow.db
    experiment: Name | None = None  # MLflow's experiment; default: the experiment's name
    tensorboard: str | None = None  # a folder of event files

    @field_validator("mlflow")
    @classmethod
    def _uri(cls, text: str | None) -> str | None:
        if text is not None and not (_URI.fullmatch(text) or text.startswith(("${env:", "${file:"))):
            raise ValueError(f"{text!r} is not a tracking URI; write http://HOST:PORT, or sqlite:///FILE")
        return text

    @model_validator(mode="after")
    def _somewhere(self) -> Tracking:
        if self.mlflow is None and self.tensorboard is None:
            raise ValueError("set mlflow, tensorboard or both")
        return self
