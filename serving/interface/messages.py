"""The protocol buffers of TensorFlow Serving, reduced to the fields that matter, in a descriptor pool of their own.

``tensorflow-serving-api`` would bring TensorFlow along, and its descriptors may be loaded beside these. Enums are
declared as integers and opaque parts (``tf.Example``, ``SignatureDef``) as bytes: on the wire both are the same.
Sources: tensorflow_serving/apis/*.proto, tensorflow/core/{framework,protobuf,example}/*.proto, grpc/health/v1.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

# message -> its fields as "name:type:number"; * repeated, % a map from strings; a capital begins a message's name.
_MESSAGES = {
    "Dim": "size:int64:1 name:string:2",
    "TensorShapeProto": "dim:*Dim:2 unknown_rank:bool:3",
    "TensorProto": "dtype:int32:1 tensor_shape:TensorShapeProto:2 tensor_content:bytes:4 half_val:*int32:13"
    " float_val:*float:5 double_val:*double:6 int_val:*int32:7 string_val:*bytes:8 scomplex_val:*float:9"
    " int64_val:*int64:10 bool_val:*bool:11 dcomplex_val:*double:12 uint32_val:*uint32:16 uint64_val:*uint64:17",
    "TensorInfo": "name:string:1 dtype:int32:2 tensor_shape:TensorShapeProto:3 coo_sparse:bytes:4 composite:bytes:5",
    "SignatureDef": "inputs:%TensorInfo:1 outputs:%TensorInfo:2 method_name:string:3",
    "MetaInfoDef": "tags:*string:4",
    "MetaGraphDef": "meta_info_def:MetaInfoDef:1 signature_def:%SignatureDef:5",
    "SavedModel": "meta_graphs:*MetaGraphDef:2",
    "SignatureDefMap": "signature_def:%SignatureDef:1",
    "ModelSpec": "name:string:1 version:Int64Value:2 signature_name:string:3 version_label:string:4",
    "PredictRequest": "model_spec:ModelSpec:1 inputs:%TensorProto:2 output_filter:*string:3",
    "PredictResponse": "outputs:%TensorProto:1 model_spec:ModelSpec:2",
    "ExampleList": "examples:*bytes:1",
    "ExampleListWithContext": "examples:*bytes:1 context:bytes:2",
    "Input": "example_list:ExampleList:1 example_list_with_context:ExampleListWithContext:2",
    "ClassificationRequest": "model_spec:ModelSpec:1 input:Input:2",
    "Class": "label:string:1 score:float:2",
    "Classifications": "classes:*Class:1",
    "ClassificationResult": "classifications:*Classifications:1",
    "ClassificationResponse": "result:ClassificationResult:1 model_spec:ModelSpec:2",
    "RegressionRequest": "model_spec:ModelSpec:1 input:Input:2",
    "Regression": "value:float:1",
    "RegressionResult": "regressions:*Regression:1",
    "RegressionResponse": "result:RegressionResult:1 model_spec:ModelSpec:2",
    "InferenceTask": "model_spec:ModelSpec:1 method_name:string:2",
    "MultiInferenceRequest": "tasks:*InferenceTask:1 input:Input:2",
    "InferenceResult": "model_spec:ModelSpec:1 classification_result:ClassificationResult:2"
    " regression_result:RegressionResult:3",
    "MultiInferenceResponse": "results:*InferenceResult:1",
    "GetModelMetadataRequest": "model_spec:ModelSpec:1 metadata_field:*string:2",
    "GetModelMetadataResponse": "model_spec:ModelSpec:1 metadata:%Any:2",
    "StatusProto": "error_code:int32:1 error_message:string:2",
    "GetModelStatusRequest": "model_spec:ModelSpec:1",
    "ModelVersionStatus": "version:int64:1 state:int32:2 status:StatusProto:3",
    "GetModelStatusResponse": "model_version_status:*ModelVersionStatus:1",
    "ModelConfig": "name:string:1",
    "ModelConfigList": "config:*ModelConfig:1",
    "ModelServerConfig": "model_config_list:ModelConfigList:1",
    "ReloadConfigRequest": "config:ModelServerConfig:1",
    "ReloadConfigResponse": "status:StatusProto:1",
    "HealthCheckRequest": "service:string:1",
    "HealthCheckResponse": "status:int32:1",
}
_PACKAGE = "saman.serving"
_KNOWN = {"Int64Value": ".google.protobuf.Int64Value", "Any": ".google.protobuf.Any"}
_FIELD = descriptor_pb2.FieldDescriptorProto


def _describe() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="saman/serving.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.extend(["google/protobuf/any.proto", "google/protobuf/wrappers.proto"])
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split():
            _add_field(message, *field.split(":"))
    return file


def _add_field(message: Any, name: str, kind: str, number: str) -> None:
    if kind.startswith("%"):
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", "string", "1")
        _add_field(entry, "value", kind[1:], "2")
        field = message.field.add(name=name, number=int(number), label=_FIELD.LABEL_REPEATED)
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{message.name}.{entry.name}"
        return
    is_repeated, kind = kind.startswith("*"), kind.lstrip("*")
    label = _FIELD.LABEL_REPEATED if is_repeated else _FIELD.LABEL_OPTIONAL
    field = message.field.add(name=name, number=int(number), label=label)
    if kind[0].isupper():
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, _KNOWN.get(kind, f".{_PACKAGE}.{kind}")
    else:
        field.type = getattr(_FIELD, f"TYPE_{kind.upper()}")


def _message_classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.Add(_describe())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _message_classes()


def message_class(name: str) -> Any:
    """The class of the message ``name``, as ``PredictRequest``."""
    return _CLASSES[name]
