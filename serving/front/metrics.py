"""Counters and histograms in Prometheus' text format, with TensorFlow Serving's names.

Sources: tensorflow_serving/servables/tensorflow/util.cc (names, labels, buckets in microseconds),
util/prometheus_exporter.cc (format).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

_BUCKETS = tuple(10 * 1.8**power for power in range(33))  # microseconds
_PREFIX = ":tensorflow:serving:"


class _Histogram:
    def __init__(self) -> None:
        self.counts, self.total, self.sum = [0] * (len(_BUCKETS) + 1), 0, 0.0

    def add(self, value: float) -> None:
        self.counts[bisect.bisect_left(_BUCKETS, value)] += 1
        self.total += 1
        self.sum += value


class RequestMetrics:
    """The metrics of a front."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str], int] = {}
        self._examples: dict[str, int] = {}
        self._latencies: dict[tuple[str, str, str], _Histogram] = {}
        self._runtimes: dict[tuple[str, str], _Histogram] = {}

    def count(self, model: str, api: str, entrypoint: str, status: str, microseconds: float, examples: int) -> None:
        """Count a request, from arrival to answer."""
        self._requests[model, status] = self._requests.get((model, status), 0) + 1
        if status == "OK":
            self._examples[model] = self._examples.get(model, 0) + examples
        key = (model, api, entrypoint)
        histogram = self._latencies.get(key)
        if histogram is None:
            histogram = self._latencies[key] = _Histogram()
        histogram.add(microseconds)

    def count_runtime(self, model: str, api: str, microseconds: float) -> None:
        """Count the time between front and engine, queue included."""
        histogram = self._runtimes.get((model, api))
        if histogram is None:
            histogram = self._runtimes[model, api] = _Histogram()
        histogram.add(microseconds)

    def render(self) -> str:
        """The page."""
        return "\n".join([*self._counters(), *self._histograms()]) + "\n"

    def _counters(self) -> Iterator[str]:
        yield f"# TYPE {_PREFIX}request_count counter"
        for (model, status), count in sorted(self._requests.items()):
            yield f'{_PREFIX}request_count{{model_name="{model}",status="{status}"}} {count}'
        yield f"# TYPE {_PREFIX}request_example_count_total counter"
        for model, count in sorted(self._examples.items()):
            yield f'{_PREFIX}request_example_count_total{{model="{model}"}} {count}'

    def _histograms(self) -> Iterator[str]:
        yield f"# TYPE {_PREFIX}request_latency histogram"
        for (model, api, entrypoint), histogram in sorted(self._latencies.items()):
            labels = f'model_name="{model}",API="{api}",entrypoint="{entrypoint}"'
            yield from _lines("request_latency", labels, histogram)
        yield f"# TYPE {_PREFIX}runtime_latency histogram"
        for (model, api), histogram in sorted(self._runtimes.items()):
            yield from _lines("runtime_latency", f'model_name="{model}",API="{api}",runtime="saman"', histogram)


def _lines(name: str, labels: str, histogram: _Histogram) -> Iterator[str]:
    total = 0
    for limit, count in zip([*(f"{limit:g}" for limit in _BUCKETS), "+Inf"], histogram.counts, strict=True):
        total += count
        yield f'{_PREFIX}{name}_bucket{{{labels},le="{limit}"}} {total}'
    yield f"{_PREFIX}{name}_sum{{{labels}}} {histogram.sum:.6g}"
    yield f"{_PREFIX}{name}_count{{{labels}}} {histogram.total}"
