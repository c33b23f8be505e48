"""The core of a front: finds the version, asks its engine, counts and observes. REST and gRPC stand on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from typing import NamedTuple

from saman.runs.engines.batches import Arrays, rows_of
from saman.serving.front.engine_link import EngineLink
from saman.serving.front.local_engine import FrontEngineKind, LocalEngines
from saman.serving.front.metrics import RequestMetrics
from saman.serving.front.table import FrontSettings, ServedModel, ServedVersion, ServingTable
from saman.serving.interface.signatures import DEFAULT, SignatureFacts
from saman.serving.interface.status import ServingError, StatusCode, invalid
from saman.serving.interface.tensors import DTYPE_OF, NAMES
from saman.serving.traffic import AnsweredRequest, RequestFacts, Route, Traffic

_SWEEP_SECONDS = 0.05
_SETTLE_SECONDS = 1.0  # traffic that moves before a front computes a version itself finds a slower engine process
_log = logging.getLogger(__name__)


class RequestTarget(NamedTuple):
    """The version that a request names: by number, by label, or by neither."""

    model: str
    version: int | None = None
    label: str | None = None


class Call(NamedTuple):
    """A computation that a client asks for.

    Attributes:
        target: The version.
        facts: The request; its signature is never empty.
        api: ``Predict``, ``Classify``, ``Regress`` or ``MultiInference``, for metrics.
        entrypoint: ``REST`` or ``GRPC``.
        arrived: In seconds of ``time.monotonic``.
        deadline: The same.
        wanted: The outputs to return; empty for all.
    """

    target: RequestTarget
    facts: RequestFacts
    api: str
    entrypoint: str
    arrived: float
    deadline: float
    wanted: tuple[str, ...] = ()


class Computed(NamedTuple):
    """The outputs, and the version that computed them."""

    outputs: Arrays
    version: int


class ServingCore:
    """What is served, and how."""

    def __init__(self, settings: FrontSettings, traffic: Traffic, kind: FrontEngineKind | None = None) -> None:
        self.settings, self.traffic, self.metrics = settings, traffic, RequestMetrics()
        self.table = ServingTable()
        self._links: dict[str, EngineLink] = {}
        self._local = LocalEngines(kind, settings.threads, settings.rows, settings.queue)

    # ---- changes of the table ----------------------------------------------------------------------------------

    async def prepare(self, table: ServingTable) -> None:
        """Connect to the engines of a table that will be used soon; requests wait for one that is being restarted."""
        for socket in table.sockets() - set(self._links):
            self._links[socket] = EngineLink(socket, self.settings.queue)
            await self._links[socket].open()
        for model in table.models.values():
            for version in model.versions.values():
                self._local.prepare(version)
        if self.table.models:  # the versions of the present table answer meanwhile
            await self._local.settle(_SETTLE_SECONDS)

    def use(self, table: ServingTable) -> None:
        """Exchange the table: every later request sees the new versions and labels."""
        self.table = table

    async def drain(self) -> None:
        """Close the connections that the table no longer names, each after its last answer."""
        old = set(self._links) - self.table.sockets()
        for socket in old:
            await self._local.drop(socket)
        links = [self._links[socket] for socket in old if socket in self._links]  # two changes may drain together
        while any(link.open_requests for link in links):
            await asyncio.sleep(0.005)
        for link in links:
            link.close()
        for socket in old:
            self._links.pop(socket, None)

    async def sweep(self) -> None:
        """Fail requests beyond their deadline, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            for link in list(self._links.values()):
                if link.open_requests:
                    link.expire(now)

    # ---- requests ----------------------------------------------------------------------------------------------

    def find(self, target: RequestTarget) -> ServedVersion:
        """The version that a request means, without a rollout's choice; raises ``ServingError``."""
        return self.table.find(target.model).find(target.version, target.label)

    def deadline(self, seconds: float | None) -> float:
        """The deadline of a request that leaves ``seconds``; ``None`` for the settings' timeout."""
        limit = self.settings.timeout_seconds
        return time.monotonic() + (limit if seconds is None else min(seconds, limit))

    async def run(self, call: Call) -> Computed:
        """Compute, count and observe; raises ``ServingError``."""
        status, outputs, version, began = StatusCode.OK, None, 0, time.time()
        is_routed = call.target.version is None and call.target.label is None
        try:
            model = self.table.find(call.target.model)
            route = self._route(model, call) if is_routed else Route(self.find(call.target).number)
            version = route.version
            answer = self._send(model, version, call)
            for number in route.mirrors:
                self._mirror(model, number, call, began)
            sent = time.monotonic()
            outputs = await answer
            self.metrics.count_runtime(model.name, call.api, 1e6 * (time.monotonic() - sent))
            return Computed(_filtered(outputs, call.wanted), version)
        except ServingError as error:
            status = error.code
            raise
        except asyncio.CancelledError:
            status = StatusCode.CANCELLED
            raise
        finally:
            seconds = time.monotonic() - call.arrived
            self._count(call, status, seconds)
            if version:
                self._observe(AnsweredRequest(call.target.model, version, call.facts, began, seconds, status.name,
                                              outputs or {}, is_routed=is_routed))  # fmt: skip

    def _count(self, call: Call, status: StatusCode, seconds: float) -> None:
        # A name that is not served must not become a series: clients could invent any number of them.
        name = call.target.model if call.target.model in self.table.models else ""
        rows = rows_of(call.facts.inputs)
        self.metrics.count(name, call.api, call.entrypoint, status.name, 1e6 * seconds, rows)

    def _route(self, model: ServedModel, call: Call) -> Route:
        default = model.find(None, None).number
        try:
            route = self.traffic.route(model.name, default, call.facts)
        except Exception:
            _log.exception("the choice of a version failed; the default version answers")
            return Route(default)
        chosen = model.versions.get(route.version)
        return route if chosen is not None and chosen.is_available else Route(default)

    def _send(self, model: ServedModel, number: int, call: Call) -> asyncio.Future[Arrays]:
        version = model.find(number, None)
        signature = version.signatures.get(call.facts.signature)
        if signature is None:
            message = f'Serving signature key "{call.facts.signature}" not found.'
            raise ServingError(StatusCode.FAILED_PRECONDITION, message)
        _check_inputs(signature, call.facts.inputs)
        _check_wanted(signature, call.wanted)
        link = self._links.get(version.socket)
        if link is None:
            raise ServingError(StatusCode.UNAVAILABLE, f"The engine of {model.name} version {number} is not connected")
        local = self._local.find(version.socket)
        if local is not None and local.takes(call.facts.signature, call.facts.inputs):
            return local.send(call.facts.inputs, call.deadline, link.send)
        return link.send(call.facts.signature, call.facts.inputs, call.deadline)

    def _mirror(self, model: ServedModel, number: int, call: Call, began: float) -> None:
        """Compute a request a second time without waiting; a failure concerns the observer alone."""

        def done(answer: asyncio.Future[Arrays]) -> None:
            error = None if answer.cancelled() else answer.exception()
            status = StatusCode.OK if error is None else getattr(error, "code", StatusCode.UNKNOWN)
            self._observe(AnsweredRequest(model.name, number, call.facts, began, time.monotonic() - call.arrived,
                                          status.name, {} if error else answer.result(), is_mirror=True))  # fmt: skip

        with contextlib.suppress(ServingError):
            self._send(model, number, call).add_done_callback(done)

    def _observe(self, record: AnsweredRequest) -> None:
        try:
            self.traffic.observe(record)
        except Exception:
            _log.exception("the observation of a request failed")


def signature_of(name: str) -> str:
    """The name of a request's signature, the default's for an empty name."""
    return name or DEFAULT


def _filtered(outputs: Arrays, wanted: Iterable[str]) -> Arrays:
    names = tuple(wanted)
    return {name: outputs[name] for name in names} if names else outputs


def _check_inputs(signature: SignatureFacts, inputs: Arrays) -> None:
    """Refuse inputs that do not fit the signature, so that no such request reaches an engine."""
    if inputs.keys() != signature.inputs.keys():
        given, needed = set(inputs), set(signature.inputs)
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(needed)} len({{{_listed(given)}}}) != "
            f"len({{{_listed(needed)}}}). Sent extra: {{{_listed(given - needed)}}}. "
            f"Missing but required: {{{_listed(needed - given)}}}."
        )
    for name, array in inputs.items():
        facts = signature.inputs[name]
        if array.dtype != DTYPE_OF.get(facts.dtype):
            wanted = NAMES.get(facts.dtype, "DT_INVALID").removeprefix("DT_").lower()
            found = "string" if array.dtype.hasobject else array.dtype.name
            raise invalid(f"input {name!r} expects {wanted} but {found} is provided")
        shape = facts.shape
        if shape is not None and (
            len(shape) != array.ndim
            or any(size not in (-1, given) for size, given in zip(shape, array.shape, strict=True))
        ):
            raise invalid(f"input {name!r} expects the shape {_shape(shape)} but {_shape(array.shape)} is provided")


def _check_wanted(signature: SignatureFacts, wanted: tuple[str, ...]) -> None:
    for at, name in enumerate(wanted):
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{{{_listed(signature.outputs)}}}."
            )
        if name in wanted[:at]:
            raise invalid(f"duplicate output tensor alias: {name}")


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
