"""The schema of what a run tells others while it goes on: metrics for Prometheus, notifications."""

from __future__ import annotations

import ipaddress
import re

from pydantic import Field, field_validator, model_validator

from saman.configs.private_values import has_reference
from saman.configs.problems import Strict

_HTTP = re.compile(r"https?://\S+")


class Metrics(Strict):
    """``launch.metrics``: where the supervisor shows metrics in Prometheus's text format."""

    port: int | None = Field(None, ge=0, le=65535)  # of the supervisor's node; 0 takes a free port
    address: str = "127.0.0.1"
    token_file: str | None = None  # readers must send its content as a bearer token
    textfile: str | None = None  # folder that node_exporter reads

    @field_validator("address")
    @classmethod
    def _address(cls, text: str) -> str:
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            raise ValueError(f"{text!r} is not an IP address, such as 127.0.0.1 or 0.0.0.0") from None

    @model_validator(mode="after")
    def _somewhere_and_safe(self) -> Metrics:
        if self.port is None and self.textfile is None:
            raise ValueError("set port, textfile or both")
        if not ipaddress.ip_address(self.address).is_loopback and self.token_file is None:
            raise ValueError(f"address {self.address} can be reached from other machines: set token_file too")
        return self


class Notify(Strict):
    """``notify``: who is told of a failure, a restart, a requeue and the completion of a run."""

    command: list[str] | None = Field(None, min_length=1)  # gets a JSON object on its standard input; no shell
    webhook: str | None = None  # a URL that receives the JSON object by POST
    timeout_seconds: float = Field(30.0, gt=0, le=300)

    @field_validator("webhook")
    @classmethod
    def _url(cls, text: str | None) -> str | None:
        if text is not None and not (_HTTP.fullmatch(text) or has_reference(text)):
            raise ValueError("it is not a URL; write https://HOST/PATH, or ${env:NAME}")
        return text

    @model_validator(mode="after")
    def _somebody(self) -> Notify:
        if self.command is None and self.webhook is None:
            raise ValueError("set command, webhook or both")
        return self
