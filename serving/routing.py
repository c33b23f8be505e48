"""Where a rollout plugs in: which version answers a request, and who observes the answer.

A front asks ``Traffic.route`` for each request that names neither a version nor a label, and calls ``Traffic.observe``
after each answer. Both run in the front's event loop, so they return within microseconds and never raise. The
supervisor asks ``Traffic.wanted`` which versions to load besides those with a label. The values are named tuples: a
front makes several for each request, and a frozen dataclass takes five times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from saman.registry.store.model_state import ModelState

Arrays = Mapping[str, np.ndarray[Any, Any]]


class RequestFacts(NamedTuple):
    """What a router may look at.

    Attributes:
        request_id: The client's ``x-request-id``, else an identifier of saman's; the answer carries it too.
        metadata: HTTP headers or gRPC metadata, names in lower case.
        signature: The signature's name.
        inputs: The inputs by name.
    """

    request_id: str
    metadata: Mapping[str, str]
    signature: str
    inputs: Arrays


class Route(NamedTuple):
    """The version that answers the client, and versions that compute the same request without being waited for."""

    version: int
    mirrors: tuple[int, ...] = ()


class AnsweredRequest(NamedTuple):
    """A request after its answer, or after its failure.

    Attributes:
        model: The model's name.
        version: The version that computed.
        facts: The request.
        time: Arrival, in Unix seconds.
        seconds: From arrival to the end of the computation.
        status: The gRPC status by name: ``OK``, ``INVALID_ARGUMENT``, …
        outputs: The outputs by name; empty after a failure.
        is_mirror: Nobody waited for this answer.
        is_routed: ``Traffic.route`` chose the version; else the client named it.
    """

    model: str
    version: int
    facts: RequestFacts
    time: float
    seconds: float
    status: str
    outputs: Arrays = MappingProxyType({})
    is_mirror: bool = False
    is_routed: bool = True


class PlainAnswer(NamedTuple):
    """An HTTP answer of an additional endpoint."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Traffic(Protocol):
    """Decides on traffic, and learns from it. Each front process has its own."""

    def wanted(self, state: ModelState) -> Iterable[int]:
        """Versions to load besides the labelled and the newest; called by the supervisor after each change."""

    def route(self, model: str, default: int, facts: RequestFacts) -> Route:
        """Choose the version of a request; ``default`` is the stable version, else the newest."""

    def observe(self, record: AnsweredRequest) -> None:
        """Learn of an answered request."""

    def handle(self, verb: str, model: str, body: bytes, metadata: Mapping[str, str]) -> PlainAnswer | None:
        """Answer ``POST /v1/models/MODEL:VERB`` for a verb that TensorFlow Serving does not know (``feedback``).

        Returns:
            ``None`` for an unknown verb.
        """

    def page(self, path: str) -> PlainAnswer | None:
        """Answer ``GET PATH`` beyond TensorFlow Serving's paths; ``None`` for an unknown path."""


class DefaultTraffic:
    """Every request goes to the default version; nothing is observed."""

    def wanted(self, state: ModelState) -> Iterable[int]:
        """No further versions."""
        return ()

    def route(self, model: str, default: int, facts: RequestFacts) -> Route:
        """The default version."""
        return Route(default)

    def observe(self, record: AnsweredRequest) -> None:
        """Discard the record."""

    def handle(self, verb: str, model: str, body: bytes, metadata: Mapping[str, str]) -> PlainAnswer | None:
        """No further verbs."""
        return None

    def page(self, path: str) -> PlainAnswer | None:
        """No further pages."""
        return None
