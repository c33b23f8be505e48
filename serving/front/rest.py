"""TensorFlow Serving's REST interface (model_servers/http_rest_api_handler.cc), and pages beside it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from saman.serving.front.access import TokenAccess
from saman.serving.front.core import Call, Computed, RequestTarget, ServingCore, signature_of
from saman.serving.front.describe import openapi_page, proto_page
from saman.serving.front.http_protocol import HttpAnswer, HttpRequest
from saman.serving.front.statuses import metadata_json, status_json
from saman.serving.interface import examples, json_tensors
from saman.serving.interface.json_numbers import read_numbers
from saman.serving.interface.signatures import DEFAULT
from saman.serving.interface.status import ServingError, StatusCode, invalid
from saman.serving.traffic import Arrays, RequestFacts

METRICS_PATH = "/monitoring/prometheus/metrics"
_PLACE = r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_PREDICT = re.compile(_PLACE + r":([a-z_]+)", re.IGNORECASE)
_STATUS = re.compile(_PLACE + r"(?:/(metadata|openapi\.json|proto))?", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_APIS = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}
_LARGEST_VERSION = (1 << 63) - 1
_TIMEOUT = "x-request-timeout-seconds"


class _Place(NamedTuple):
    target: RequestTarget
    verb: str


@lru_cache(maxsize=4096)
def _parse(method: str, path: str) -> _Place:
    """What a path means; raises ``ServingError`` (which is not cached)."""
    path = path.partition("?")[0]
    found = (_PREDICT if method == "POST" else _STATUS).fullmatch(path) if method in ("POST", "GET") else None
    if found is None:
        raise invalid(f"Malformed request: {method} {path}")
    name, version, label, verb = found.groups()
    if version is not None and (len(version) > 19 or int(version) > _LARGEST_VERSION):
        raise invalid(f"Failed to convert version: {version} to numeric.")
    number = None if version is None else int(version)
    return _Place(RequestTarget(unquote(name), number, None if label is None else unquote(label)), (verb or "").lower())


class RestService:
    """Answers HTTP requests."""

    def __init__(self, core: ServingCore, access: TokenAccess, is_ready: Callable[[], bool]) -> None:
        self._core, self._access, self._is_ready = core, access, is_ready
        self._prefix, self._numbers = os.urandom(6).hex(), itertools.count(1)

    async def handle(self, request: HttpRequest) -> HttpAnswer:
        """Answer a request; errors become answers too."""
        try:
            if request.path == "/healthz":  # says nothing but whether it is ready
                ready = self._is_ready()
                return HttpAnswer(200 if ready else 503, b"ok\n" if ready else b"not ready\n", "text/plain")
            self._access.check(request.headers)
            if request.method == "POST":
                return await self._post(request)
            return self._get(request)
        except ServingError as error:
            return HttpAnswer(error.code.http, json_tensors.render_error(error.message))
        except asyncio.CancelledError:
            raise
        except RecursionError:
            return HttpAnswer(400, json_tensors.render_error("The request is nested too deeply"))

    def _get(self, request: HttpRequest) -> HttpAnswer:
        if request.path.partition("?")[0] == METRICS_PATH:
            page = self._core.metrics.render().encode()
            return HttpAnswer(200, page, "text/plain; version=0.0.4")
        if (extra := self._core.traffic.page(request.path)) is not None:
            return HttpAnswer(extra.status, extra.body, extra.content_type)
        place = _parse("GET" if request.method == "HEAD" else request.method, request.path)
        target, model = place.target, self._core.table.models.get(place.target.model)
        if place.verb == "":
            return HttpAnswer(200, _dump(status_json(self._core.table, target)))
        version = self._core.find(target)
        if place.verb == "metadata":
            return HttpAnswer(200, _dump(metadata_json(target.model, version)))
        if place.verb == "proto":
            return HttpAnswer(200, proto_page(target.model, version).encode(), "text/plain; charset=utf-8")
        assert model is not None  # ``find`` raises without it
        return HttpAnswer(200, _dump(openapi_page(model, version)))

    async def _post(self, request: HttpRequest) -> HttpAnswer:
        place = _parse("POST", request.path)
        verb, target = place.verb, place.target
        if verb not in _APIS:
            extra = self._core.traffic.handle(verb, target.model, request.body, request.headers)
            if extra is None:
                raise invalid(f"Malformed request: POST {request.path}")
            return HttpAnswer(extra.status, extra.body, extra.content_type)
        asked = request.headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else f"{self._prefix}-{next(self._numbers)}"
        if verb == "predict":
            body = await self._predict(request, target, request_id)
        else:
            body = await self._examples(request, target, request_id, verb)
        return HttpAnswer(200, body, request_id=request_id)

    async def _predict(self, request: HttpRequest, target: RequestTarget, request_id: str) -> bytes:
        name, inputs, is_rows = self._read_numbers(request, target) or self._read(request, target)
        computed = await self._run(request, target, RequestFacts(request_id, request.headers, name, inputs), "Predict")
        return json_tensors.render_predictions(computed.outputs, is_rows)

    def _read_numbers(self, request: HttpRequest, target: RequestTarget) -> tuple[str, Arrays, bool] | None:
        """What ``_read`` returns, for most requests in a fraction of its time; ``None`` for the others."""
        with contextlib.suppress(ServingError):  # ``_read`` finds mistakes in TensorFlow Serving's order
            signature = self._core.find(target).signatures.get(DEFAULT)
            found = None if signature is None else read_numbers(request.body, signature)
            return None if found is None else (DEFAULT, *found)
        return None

    def _read(self, request: HttpRequest, target: RequestTarget) -> tuple[str, Arrays, bool]:
        """The signature's name, the inputs, and whether they are rows; raises ``ServingError``."""
        document = json_tensors.parse_document(request.body)
        name = signature_of(json_tensors.signature_name(document))
        signature = self._core.find(target).signatures.get(name)
        if signature is None:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        if not signature.inputs:
            raise invalid(f"Failed to get input map for signature: {name}")
        return name, *json_tensors.read_inputs(document, signature, request.body)

    async def _examples(self, request: HttpRequest, target: RequestTarget, request_id: str, verb: str) -> bytes:
        document = json_tensors.parse_document(request.body)
        name = signature_of(json_tensors.signature_name(document))
        found = examples.read_examples(document)
        signature = self._core.find(target).signatures.get(name)
        check = examples.check_classification if verb == "classify" else examples.check_regression
        check(name, signature)
        facts = RequestFacts(request_id, request.headers, name, {"inputs": examples.example_input(found)})
        outputs = (await self._run(request, target, facts, _APIS[verb])).outputs
        if verb == "classify":
            return _dump({"results": examples.classifications(outputs, len(found))})
        return _dump({"results": examples.regressions(outputs, len(found))})

    async def _run(self, request: HttpRequest, target: RequestTarget, facts: RequestFacts, api: str) -> Computed:
        deadline = self._core.deadline(_timeout(request))
        return await self._core.run(Call(target, facts, api, "REST", request.arrived, deadline))


def _timeout(request: HttpRequest) -> float | None:
    """The time that the client leaves, in seconds: a header of saman's; TensorFlow Serving has none."""
    text = request.headers.get(_TIMEOUT)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ServingError(StatusCode.INVALID_ARGUMENT, f"{_TIMEOUT}: {text[:40]!r} is not a number of seconds")
    return seconds


def _dump(value: Any) -> bytes:
    return bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
