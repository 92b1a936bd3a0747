"""The closed forms of one rank compared with what torch's operators and storages showed, figure by figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from analytic.huggingface.config import ModelConfig
from analytic.model.breakdown import Breakdown
from analytic.model.spec import ModelSpec
from analytic.parallelism.communication import Collective
from analytic.parallelism.layout import Layout
from analytic.parallelism.parameters import DistributedModel
from analytic.parallelism.rank_flops import rank_flops
from analytic.parallelism.sharding import rank_state
from analytic.parallelism.transformers_fsdp2 import collectives
from empirical.models.distributed import RankCase
from empirical.models.names import by_run, names_of, term_of
from empirical.witnesses.rank import RankObservation

# how torch names a group of FSDP's: all parameters that no other group has, which are those of a tied head, are the
# root's
_GROUPS = {
    "root": "lm_head",
    "model.norm, lm_head": "norm+lm_head",
    "model.embed_tokens, model.norm": "norm+embed_tokens",
}

_AMOUNTS: dict[str, Callable[[Collective], int]] = {"count": lambda one: one.count, "bytes": lambda one: one.size_bytes}


def rank_differences(case: RankCase, seen: RankObservation) -> dict[str, tuple[int, int]]:
    """Every figure on which formula and observation disagree, as (formula, observed): bytes, counts or FLOPs.

    Compared are stored parameters and moments by tensor, gradients in all, FLOPs of forward and of the step, count
    and bytes of collectives by axis, kind, ranks and module. Equal layers in a row are summed.
    """
    return dict(_differences(case, seen))


def _differences(case: RankCase, seen: RankObservation) -> Iterator[tuple[str, tuple[int, int]]]:
    model = DistributedModel(case.config.spec, case.config.read_as)
    state = rank_state(model, case.setup, case.layout, case.rank)
    yield from _prefixed("parameters", state.parameters, _by_run(case.config, seen.stored))
    yield from _prefixed("moments", _moments(state.optimizer), _by_run(case.config, seen.moments))
    flops = rank_flops(model, case.setup, case.layout, case.rank)
    expected = collectives(model, case.setup, case.layout, case.rank)
    for name, formula, observed in (
        ("gradients", state.gradients.total, seen.gradient_bytes),
        ("FLOPs of forward", flops.forward.total, seen.flops_forward),
        ("FLOPs", flops.total, seen.flops_total),
    ):
        if formula != observed:
            yield name, (formula, observed)
    for what, amount in _AMOUNTS.items():
        sums = (_summed(case.config.spec, case.layout, found, amount) for found in (expected, seen.collectives))
        yield from _prefixed(what, *sums)


def _prefixed(what: str, formula: Breakdown, observed: Breakdown) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, pair in formula.differences(observed).items():
        yield f"{what} of {name}", pair


def _by_run(config: ModelConfig, sizes: Mapping[str, int]) -> Breakdown:
    names = names_of(config)
    counted = by_run("bytes", config.spec, ((term_of(path, names), size) for path, size in sizes.items()))
    return Breakdown("bytes", {" + ".join(terms): size for terms, size in counted.values.items()})


def _moments(states: Breakdown) -> Breakdown:
    sums: dict[str, int] = {}
    for name, size_bytes in states.items():
        tensor, _, _ = name.rpartition(".")
        sums[tensor] = sums.get(tensor, 0) + size_bytes
    return Breakdown("bytes", sums)


def _summed(
    spec: ModelSpec, layout: Layout, found: tuple[Collective, ...], amount: Callable[[Collective], int]
) -> Breakdown:
    runs = {str(i): run.label for run in spec.runs for i in run.indices}
    sums: dict[str, int] = {}
    for one in found:
        head, *rest = _GROUPS.get(one.module, one.module).removeprefix("model.").split(".")
        module = ".".join([head, runs.get(rest[0], rest[0]), *rest[1:]] if head == "layers" else [head, *rest])
        key = f"{one.kind} over {_axis(one, layout)} {one.group_size}, {module}"
        sums[key] = sums.get(key, 0) + amount(one)
    return Breakdown("bytes", sums)


def _axis(one: Collective, layout: Layout) -> str:
    """Axes of the same ranks are one group in torch, which cannot know for which of them it is used."""
    if one.kind == "all_to_all":
        return "ep"
    return "dp_shard" if one.axis == "efsdp" and layout.efsdp == layout.dp_shard else one.axis
