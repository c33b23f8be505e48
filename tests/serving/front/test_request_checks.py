"""A request that does not fit its signature never reaches an engine."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from saman.serving.front.core import Call, RequestTarget, ServingCore
from saman.serving.front.table import FrontSettings, ServedModel, ServedVersion, ServingTable, VersionLife
from saman.serving.interface.messages import message_class
from saman.serving.interface.status import ServingError, StatusCode
from saman.serving.routing import DefaultTraffic, RequestFacts

FLOAT = 1
FITS = np.zeros((1, 2), np.float32)


def core() -> ServingCore:
    signatures = message_class("SignatureDefMap")()
    about = signatures.signature_def["serving_default"].inputs["x"]
    about.name, about.dtype = "x:0", FLOAT
    for size in (-1, 2):
        about.tensor_shape.dim.add().size = size
    version = ServedVersion(1, VersionLife.AVAILABLE, "socket", signatures.SerializeToString())
    found = ServingCore(FrontSettings(-1, "127.0.0.1", 0, "models"), DefaultTraffic())
    found.use(ServingTable({"m": ServedModel("m", 1, {}, {1: version})}))
    return found


def refusal(inputs: dict[str, np.ndarray]) -> ServingError:
    facts = RequestFacts("id", {}, "serving_default", inputs)
    with pytest.raises(ServingError) as refused:
        asyncio.run(core().run(Call(RequestTarget("m"), facts, "Predict", "GRPC", 0.0, 1e9)))
    return refused.value


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"x": FITS, "other": FITS}, "2!=1 len({other,x}) != len({x}). Sent extra: {other}."),
        ({"other": FITS}, "Missing but required: {x}."),
        ({}, "Missing but required: {x}."),
        ({"x": FITS.astype(np.float64)}, "expects float but float64"),
        ({"x": FITS[0]}, "expects the shape [-1,2]"),
    ],
)
def test_extra_missing_and_misshapen_inputs_are_invalid_arguments(inputs: dict[str, np.ndarray], says: str) -> None:
    found = refusal(inputs)
    assert found.code is StatusCode.INVALID_ARGUMENT and says in found.message


def test_a_request_that_fits_is_only_short_of_an_engine() -> None:
    assert refusal({"x": FITS}).code is StatusCode.UNAVAILABLE
