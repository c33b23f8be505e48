"""Promises of the partitioner: as good as trying every split, and clear where nothing fits."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saman.configs.errors import UserError
from saman.pipeline.chain import Chain, Layer, Link, PipelinePlan, StageCosts, stage_spans
from saman.pipeline.partition import check_cuts, least_memory, partition


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    count = draw(st.integers(1, 8))
    number = st.integers(0, 9)
    layers = tuple(Layer(f"layer{at}", draw(number), draw(number), draw(number), draw(number)) for at in range(count))
    sizes = st.lists(number, min_size=count, max_size=count).map(tuple)
    uncuttable = draw(st.sets(st.integers(1, count - 1))) if count > 1 else set()
    return Chain(layers, draw(sizes), draw(sizes), dict.fromkeys(uncuttable, "shared"))


plans = st.builds(
    PipelinePlan,
    stages=st.integers(1, 4),
    micro_batches=st.integers(1, 6),
    order=st.sampled_from(["1f1b", "gpipe"]),
    recompute=st.booleans(),
)
links = st.builds(Link, st.integers(0, 2), st.sampled_from([1.0, 4.0, float("inf")]))


def every_split(chain: Chain, stages: int) -> list[tuple[int, ...]]:
    allowed = [at for at in range(1, len(chain.layers)) if at not in chain.uncuttable]
    return list(combinations(allowed, stages - 1))


def slowest(chain: Chain, plan: PipelinePlan, link: Link, cuts: tuple[int, ...], limit: int | None) -> float:
    costs = StageCosts(chain, plan, link)
    spans = stage_spans(cuts, len(chain.layers))
    if limit is not None and any(costs.memory_bytes(s, *span) > limit for s, span in enumerate(spans)):
        return float("inf")
    return max(costs.seconds(*span) for span in spans)


@settings(max_examples=400)
@given(chains(), plans, links, st.none() | st.integers(0, 120))
def test_no_split_is_better_than_the_one_found(chain: Chain, plan: PipelinePlan, link: Link, limit: int | None) -> None:
    best = min((slowest(chain, plan, link, cuts, limit) for cuts in every_split(chain, plan.stages)), default=None)
    if best is None or best == float("inf"):
        with pytest.raises(UserError):
            partition(chain, plan, link, limit)
        return
    found = partition(chain, plan, link, limit)
    assert found.slowest_seconds == pytest.approx(best)
    assert slowest(chain, plan, link, found.cuts, limit) == pytest.approx(best)
    check_cuts(chain, found.cuts, plan, limit)


@given(chains(), plans)
def test_what_is_said_to_fit_fits_and_a_byte_less_does_not(chain: Chain, plan: PipelinePlan) -> None:
    least = least_memory(chain, plan)
    if least is None:
        assert not every_split(chain, plan.stages)
        return
    needed = int(least.slowest_seconds)
    partition(chain, plan, Link(), needed)
    with pytest.raises(UserError, match="too much"):
        partition(chain, plan, Link(), needed - 1)


def even_chain(layers: int, activation_bytes: int = 2**20, parameter_bytes: int = 0) -> Chain:
    built = [Layer(f"dense_{at}", 1.0, 2.0, parameter_bytes, activation_bytes) for at in range(layers)]
    return Chain(tuple(built), (0,) * layers, (0,) * layers, {})


def test_a_request_that_cannot_fit_says_by_how_much_and_what_would() -> None:
    # stage 0 of 2 holds 2 micro-batches: even with 3 of the 8 layers (6 MiB, against 5 on stage 1) more than 4 MiB
    with pytest.raises(UserError) as caught:
        partition(even_chain(8), PipelinePlan(2, 8), Link(), 4 * 2**20)
    assert caught.value.problem == (
        "no split into 2 stages fits in 4.0 MiB per stage: the best needs 6.0 MiB, 2.0 MiB too much"
    )
    assert caught.value.remedy == (
        "this would fit: a limit of 6.0 MiB, or recompute: true, or 4 stages, or 16 micro-batches"
    )
    partition(even_chain(8), PipelinePlan(4, 8), Link(), 4 * 2**20)
    partition(even_chain(8), PipelinePlan(2, 8, recompute=True), Link(), 4 * 2**20)
    partition(even_chain(8).scaled(1 / 2), PipelinePlan(2, 16), Link(), 4 * 2**20)


def test_transfers_move_the_cut_to_where_little_crosses() -> None:
    layers = tuple(Layer(f"conv_{at}", 1.0, 2.0, 0, 0) for at in range(6))
    chain = Chain(layers, (0, 90, 90, 90, 1, 90), (0,) * 6, {})
    assert partition(chain, PipelinePlan(2, 8), Link()).cuts == (3,)
    assert partition(chain, PipelinePlan(2, 8), Link(bytes_per_second=10)).cuts == (4,)


def test_cuts_by_hand_are_refused_with_the_layer_named() -> None:
    chain = Chain(even_chain(4).layers, (0,) * 4, (0,) * 4, {2: "layer 'embedding' is used on both sides"})
    with pytest.raises(UserError, match="before layer 'dense_2': layer 'embedding' is used on both sides"):
        check_cuts(chain, [2], PipelinePlan(2, 4))
    with pytest.raises(UserError, match="2 cuts do not make 2 stages"):
        check_cuts(chain, [1, 3], PipelinePlan(2, 4))
    with pytest.raises(UserError, match=r"stage 0 needs 6.0 MiB, 2.0 MiB more than the limit of 4.0 MiB"):
        check_cuts(chain, [3], PipelinePlan(2, 4), 4 * 2**20)


def test_more_stages_than_layers_are_refused_with_the_most_that_can_be() -> None:
    with pytest.raises(UserError, match=r"5 stages cannot be made of 4 layers .*at most 4"):
        partition(even_chain(4), PipelinePlan(5, 4), Link())
