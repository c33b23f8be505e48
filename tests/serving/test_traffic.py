"""Without a rollout, traffic follows the registry alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saman.registry.store.model_state import ModelState
from saman.serving.traffic import RequestFacts, Route, open_traffic


def test_without_a_rollout_every_request_goes_to_the_default_version(tmp_path: Path) -> None:
    traffic = open_traffic(tmp_path)
    facts = RequestFacts("a", {"user_id": "7"}, "serving_default", {"inputs": np.zeros((1, 8))})
    assert traffic.route("digits", 3, facts) == Route(3, ())
    assert list(traffic.wanted(ModelState("digits"))) == []


def test_without_a_rollout_no_further_endpoint_answers(tmp_path: Path) -> None:
    traffic = open_traffic(tmp_path)
    refused = traffic.handle("feedback", "digits", b"{}", {})
    assert refused is not None and refused.status == 404
    assert traffic.handle("explain", "digits", b"{}", {}) is None
    assert traffic.page("/rollouts") is None
