"""TensorFlow Serving's gRPC interface: PredictionService, ModelService and health, on grpcio's asyncio server."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from saman.serving.front.access import TokenAccess
from saman.serving.front.core import Call, Computed, RequestTarget, ServingCore, signature_of
from saman.serving.front.statuses import code_of, find_versions
from saman.serving.interface import examples
from saman.serving.interface.messages import message_class
from saman.serving.interface.signatures import CLASSIFY, REGRESS
from saman.serving.interface.status import ServingError, StatusCode, invalid
from saman.serving.interface.tensors import fill_tensor, read_tensor
from saman.serving.traffic import RequestFacts

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SERVING, _NOT_SERVING = 1, 2
_SIGNATURE_DEF = "signature_def"
_ANY_TYPE = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
Reload = Callable[[], Awaitable[str]]


def _target(spec: Any) -> RequestTarget:
    if not spec.name:
        raise invalid("Missing ModelSpec")
    has_version = spec.HasField("version")
    if has_version and spec.version_label:
        raise invalid("Both model version and model version label cannot be supplied.")
    # ovmsclient sends 0 for "whichever"; a registry's versions begin with 1.
    return RequestTarget(spec.name, spec.version.value or None, spec.version_label or None)


class GrpcService(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds the method of a call by its path."""

    def __init__(self, core: ServingCore, access: TokenAccess, reload: Reload, is_ready: Callable[[], bool]) -> None:
        self._core, self._access, self._reload, self._is_ready = core, access, reload, is_ready
        self._prefix, self._numbers = os.urandom(6).hex(), itertools.count(1)
        prediction, model, health = (
            "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/", "/grpc.health.v1.Health/",
        )  # fmt: skip
        methods: dict[str, tuple[str, Callable[..., Awaitable[Any]]]] = {
            f"{prediction}Predict": ("PredictRequest", self._predict),
            f"{prediction}Classify": ("ClassificationRequest", self._classify),
            f"{prediction}Regress": ("RegressionRequest", self._regress),
            f"{prediction}MultiInference": ("MultiInferenceRequest", self._multi_inference),
            f"{prediction}GetModelMetadata": ("GetModelMetadataRequest", self._metadata),
            f"{model}GetModelStatus": ("GetModelStatusRequest", self._status),
            f"{model}HandleReloadConfigRequest": ("ReloadConfigRequest", self._reload_config),
            f"{health}Check": ("HealthCheckRequest", self._health),
        }
        self._handlers = {path: self._unary(*about) for path, about in methods.items()}
        self._handlers[f"{health}Watch"] = grpc.unary_stream_rpc_method_handler(self._watch)

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a method; ``None`` for an unknown one."""
        return self._handlers.get(handler_call_details.method)

    def _unary(self, name: str, method: Callable[..., Awaitable[Any]]) -> Any:
        kind = message_class(name)

        async def handle(data: bytes, context: Any) -> bytes:
            try:
                metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
                if not name.startswith("HealthCheck"):
                    self._access.check(metadata)
                try:
                    request = kind.FromString(data)
                except DecodeError as error:
                    raise invalid(f"The {name} cannot be parsed") from error
                return bytes((await method(request, metadata, context)).SerializeToString())
            except ServingError as error:
                await context.abort(_CODES[error.code.value], error.message)
                raise AssertionError("abort raises") from error

        return grpc.unary_unary_rpc_method_handler(handle)

    # ---- PredictionService -------------------------------------------------------------------------------------

    async def _predict(self, request: Any, metadata: Mapping[str, str], context: Any) -> Any:
        target, name = _target(request.model_spec), signature_of(request.model_spec.signature_name)
        inputs = {key: read_tensor(tensor) for key, tensor in request.inputs.items()}
        computed = await self._run(target, name, inputs, metadata, context, "Predict", tuple(request.output_filter))
        answer = message_class("PredictResponse")()
        for key, array in computed.outputs.items():
            fill_tensor(answer.outputs[key], array)
        self._fill_spec(answer.model_spec, target, computed.version, name)
        return answer

    async def _run(
        self, target: RequestTarget, name: str, inputs: Any, metadata: Mapping[str, str], context: Any, api: str,
        wanted: tuple[str, ...] = (),
    ) -> Computed:  # fmt: skip
        arrived = time.monotonic()
        deadline = self._core.deadline(context.time_remaining())
        request_id = metadata.get("x-request-id", "")[:128] or f"{self._prefix}-{next(self._numbers)}"
        context.set_trailing_metadata((("x-request-id", request_id),))
        facts = RequestFacts(request_id, metadata, name, inputs)
        return await self._core.run(Call(target, facts, api, "GRPC", arrived, deadline, wanted))

    def _fill_spec(self, spec: Any, target: RequestTarget, version: int, signature: str) -> None:
        spec.name, spec.signature_name = target.model, signature
        spec.version.value = version

    async def _classify(self, request: Any, metadata: Mapping[str, str], context: Any) -> Any:
        answer = message_class("ClassificationResponse")()
        target, name = _target(request.model_spec), signature_of(request.model_spec.signature_name)
        version = await self._fill_classes(answer.result, target, name, request.input, metadata, context)
        self._fill_spec(answer.model_spec, target, version, name)
        return answer

    async def _fill_classes(
        self, result: Any, target: RequestTarget, name: str, given: Any, metadata: Any, context: Any
    ) -> int:
        examples.check_classification(name, self._core.find(target).signatures.get(name))
        found = _examples(given)
        inputs = {"inputs": examples.example_input(found)}
        computed = await self._run(target, name, inputs, metadata, context, "Classify")
        for row in examples.classifications(computed.outputs, len(found)):
            classes = result.classifications.add()
            for label, score in row:
                classes.classes.add(label=label, score=score)
        return computed.version

    async def _regress(self, request: Any, metadata: Mapping[str, str], context: Any) -> Any:
        answer = message_class("RegressionResponse")()
        target, name = _target(request.model_spec), signature_of(request.model_spec.signature_name)
        version = await self._fill_values(answer.result, target, name, request.input, metadata, context)
        self._fill_spec(answer.model_spec, target, version, name)
        return answer

    async def _fill_values(
        self, result: Any, target: RequestTarget, name: str, given: Any, metadata: Any, context: Any
    ) -> int:
        examples.check_regression(name, self._core.find(target).signatures.get(name))
        found = _examples(given)
        inputs = {"inputs": examples.example_input(found)}
        computed = await self._run(target, name, inputs, metadata, context, "Regress")
        for value in examples.regressions(computed.outputs, len(found)):
            result.regressions.add(value=value)
        return computed.version

    async def _multi_inference(self, request: Any, metadata: Mapping[str, str], context: Any) -> Any:
        if not request.tasks:
            raise invalid("Inference request must have at least one task.")
        if len({task.model_spec.name for task in request.tasks}) > 1:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        names = [signature_of(task.model_spec.signature_name) for task in request.tasks]
        if len(set(names)) < len(names):
            raise invalid("Duplicate evaluation of signature: " + max(names, key=names.count))
        answer = message_class("MultiInferenceResponse")()
        for task, name in zip(request.tasks, names, strict=True):
            target, result = _target(task.model_spec), answer.results.add()
            arguments = (target, name, request.input, metadata, context)
            if task.method_name == CLASSIFY:
                version = await self._fill_classes(result.classification_result, *arguments)
            elif task.method_name == REGRESS:
                version = await self._fill_values(result.regression_result, *arguments)
            else:
                message = f"Unsupported signature method_name: {task.method_name}"
                raise ServingError(StatusCode.UNIMPLEMENTED, message)
            self._fill_spec(result.model_spec, target, version, name)
        return answer

    async def _metadata(self, request: Any, metadata: Mapping[str, str], context: Any) -> Any:
        target = _target(request.model_spec)
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for name in request.metadata_field:
            if name != _SIGNATURE_DEF:
                raise invalid(f"Metadata field {name} is not supported")
        version = self._core.find(target)
        answer = message_class("GetModelMetadataResponse")()
        self._fill_spec(answer.model_spec, target, version.number, "")
        held = answer.metadata[_SIGNATURE_DEF]
        held.type_url, held.value = _ANY_TYPE, version.signature_map
        return answer

    # ---- ModelService and health -------------------------------------------------------------------------------

    async def _status(self, request: Any, metadata: Mapping[str, str], context: Any) -> Any:
        answer = message_class("GetModelStatusResponse")()
        for version in find_versions(self._core.table, _target(request.model_spec)):
            row = answer.model_version_status.add(version=version.number, state=version.life.value)
            row.status.error_code, row.status.error_message = code_of(version).value, version.problem
        return answer

    async def _reload_config(self, request: Any, metadata: Mapping[str, str], context: Any) -> Any:
        """Read the registry again at once: it decides what is served, so a configuration can only agree with it."""
        answer = message_class("ReloadConfigResponse")()
        problem = await self._reload()
        unknown = [config.name for config in request.config.model_config_list.config
                   if config.name not in self._core.table.models]  # fmt: skip
        if unknown:
            answer.status.error_code = StatusCode.NOT_FOUND.value
            answer.status.error_message = f"The registry holds no version of {', '.join(sorted(unknown))} to serve"
        elif problem:
            answer.status.error_code, answer.status.error_message = StatusCode.UNAVAILABLE.value, problem
        else:
            answer.status.SetInParent()
        return answer

    async def _health(self, request: Any, metadata: Mapping[str, str], context: Any) -> Any:
        known = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
        if request.service not in known and request.service not in self._core.table.models:
            raise ServingError(StatusCode.NOT_FOUND, "unknown service")
        status = _SERVING if self._is_ready() else _NOT_SERVING
        return message_class("HealthCheckResponse")(status=status)

    async def _watch(self, data: bytes, context: Any) -> Any:
        last = 0
        while True:
            status = _SERVING if self._is_ready() else _NOT_SERVING
            if status != last:
                last = status
                yield message_class("HealthCheckResponse")(status=status).SerializeToString()
            await asyncio.sleep(0.5)


def _examples(given: Any) -> list[bytes]:
    if given.HasField("example_list_with_context"):
        listed = given.example_list_with_context
        return [listed.context + example for example in listed.examples]  # joined messages are merged
    return list(given.example_list.examples)
