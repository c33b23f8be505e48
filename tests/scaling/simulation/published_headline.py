"""Simulates the published Horovod efficiencies on 128 and 512 GPUs from published numbers and other models' runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from saman.pipeline.chain import Link
from saman.scaling.simulation.engine import Gradients, Machine, RankStep, simulate

_BATCH = 64
_BACKWARD_SHARE = 2 / 3  # backward computes two products per product of forward
_NONE = np.ones(1)
_NEGOTIATIONS = tuple(1e-4 * count for count in range(0, 101, 5))  # seconds per doubling of ranks
# Images/s of a P100 at batch 64: tensorflow/docs benchmarks.md (DGX-1, synthetic data). ResNet-101 (7.8 GFLOP) is
# interpolated between ResNet-50 (219/s, 4.1 GFLOP) and ResNet-152 (91.8/s, 11.5 GFLOP).
_RESNET101 = 1 / (1 / 219 + (1 / 91.8 - 1 / 219) * (7.8 - 4.1) / (11.5 - 4.1))
_SPEED = {"InceptionV3": 142.0, "ResNet101": _RESNET101, "VGG16": 154.0}
# Ring latency per hop of NCCL's Simple protocol over PCIe and network: NCCL 2.7, src/graph/tuning.cc, hwLat.
# PCIe 3.0 ×16 moves 12 GB/s (ibid., PCI_WIDTH); the network 25 Gb/s. Horovod's cycle was 5 ms until 0.16, 64 MiB fused.
MACHINE = Machine(
    4, Link(5.7e-6, 12e9), Link(9.6e-6, 25e9 / 8), algorithm="ring", fusion_bytes=64 * 2**20, cycle_seconds=5e-3
)
# Horovod docs/benchmarks (512 GPUs) and README of 2017/18 (128 GPUs), both nodes of 4 Pascal GPUs, 25 Gb/s RoCE.
PUBLISHED = {
    ("InceptionV3", 128): 0.90,
    ("ResNet101", 128): 0.90,
    ("VGG16", 128): 0.79,
    ("InceptionV3", 512): 0.90,
    ("ResNet101", 512): 0.90,
    ("VGG16", 512): 0.68,
}


@dataclass(frozen=True)
class Headline:
    """A published and a simulated efficiency; ``error`` is simulated ÷ published − 1."""

    model: str
    gpus: int
    published: float
    simulated: float
    error: float


def headlines(steps: int = 20) -> list[Headline]:
    """Simulate every published efficiency, with ``steps`` steps each and without negotiation."""
    return [_headline(model, gpus, 0.0, steps) for model, gpus in PUBLISHED]


def headlines_with_negotiation(steps: int = 3) -> list[Headline]:
    """The same with the negotiation that fits the runs of the *other* models best; a model's own runs play no part."""
    costs = {model: negotiation_of_others(model, steps) for model in _SPEED}
    return [_headline(model, gpus, costs[model], steps) for model, gpus in PUBLISHED]


def negotiation_of_others(model: str, steps: int = 3) -> float:
    """Seconds per doubling of ranks with the least squared log errors over the published runs of other models."""
    others = [place for place in PUBLISHED if place[0] != model]

    def misfit(seconds: float) -> float:
        return sum(float(np.log1p(_headline(*place, seconds, steps).error)) ** 2 for place in others)

    return min(_NEGOTIATIONS, key=misfit)


def _headline(model: str, gpus: int, negotiation: float, steps: int) -> Headline:
    step, published = _BATCH / _SPEED[model], PUBLISHED[model, gpus]
    job = RankStep(step * (1 - _BACKWARD_SHARE), step * _BACKWARD_SHARE, _GRADIENTS[model](), _BATCH, _NONE, _NONE)
    machine = replace(MACHINE, negotiation_seconds=negotiation)
    efficiency = simulate(job, machine, gpus, steps).efficiency
    return Headline(model, gpus, published, efficiency, efficiency / published - 1)


def uniform_gradients(total_bytes: float, tensors: int = 100) -> Gradients:
    """Equal gradients, ready at equal intervals over the backward pass."""
    return Gradients(np.full(tensors, total_bytes / tensors), np.arange(1, tensors + 1) / tensors)


def vgg16() -> Gradients:
    """The gradients of VGG-16, last layer first (Simonyan & Zisserman 2015, table 1, D)."""
    widths = [(64, 64, 224), (128, 128, 112), (256, 256, 256, 56), (512, 512, 512, 28), (512, 512, 512, 14)]
    parameters, work, channels = [], [], 3
    for *outputs, side in widths:
        for output in outputs:
            parameters.append(9 * channels * output + output)
            work.append(9 * channels * output * side * side)
            channels = output
    for inputs, output in ((7 * 7 * 512, 4096), (4096, 4096), (4096, 1000)):
        parameters.append(inputs * output + output)
        work.append(inputs * output)
    return _from_layers(parameters, work)


def resnet101() -> Gradients:
    """The gradients of ResNet-101's blocks, last first; bottlenecks do equal work (He et al. 2016, table 1)."""
    parameters, channels = [9408 + 128], 64
    for blocks, width in ((3, 64), (4, 128), (23, 256), (3, 512)):
        for block in range(blocks):
            shortcut = 4 * channels * width if block == 0 else 0
            parameters.append(channels * width + 9 * width * width + 4 * width * width + shortcut)
            channels = 4 * width
    work = [0.5] + [1.0] * 33 + [0.01]
    return _from_layers([*parameters, 2048 * 1000 + 1000], work)


def inception_v3() -> Gradients:
    """The gradients of Inception V3: 23.8 million parameters, spread evenly (Szegedy et al. 2016; no auxiliary)."""
    return uniform_gradients(4 * 23.8e6)


_GRADIENTS = {"InceptionV3": inception_v3, "ResNet101": resnet101, "VGG16": vgg16}


def _from_layers(parameters: Sequence[int], work: Sequence[float]) -> Gradients:
    backward = np.array(work, float)[::-1]
    return Gradients(4.0 * np.array(parameters, float)[::-1], np.cumsum(backward) / backward.sum())
