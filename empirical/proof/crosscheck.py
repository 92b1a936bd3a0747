"""Analytic against empirical: every formula next to what each witness counted, down to the term."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from analytic.errors import UnsupportedModelError
from analytic.exercise.model_cost import exercise_setup
from analytic.huggingface.config import ModelConfig
from analytic.huggingface.weight_names import MTP, Terms
from analytic.model.breakdown import Breakdown
from analytic.model.checkpointing import last_projection_flops
from analytic.model.flops import forward_flops, layer_flops, mtp_flops, training_flops
from analytic.model.params import model_buffers, model_params, mtp_params
from analytic.model.spec import LayerRun, ModelSpec, MoeFfn
from empirical.models import build
from empirical.models.build import AttentionImplementation, Source
from empirical.models.names import Counted, by_run, summed, term_of
from empirical.proof.check import Check
from empirical.proof.memory import memory_checks
from empirical.witnesses.flops import executed_flops, flop_counter_flops, fvcore_flops, training_flops_by_counter
from empirical.witnesses.params import count_buffers, count_params

Instrument = Callable[[nn.Module, tuple[Tensor, ...]], dict[str, int]]
FVCORE, FLOP_COUNTER = "fvcore x2", "FlopCounterMode"
INSTRUMENTS: Mapping[str, Instrument] = {FVCORE: fvcore_flops, FLOP_COUNTER: flop_counter_flops}


def verify(config: ModelConfig, seq_len: int) -> Iterator[Check]:
    """Every check of one model on the meta device, one by one as it is made.

    The whole real model runs sdpa attention, or eager where its class has no other; each kind of layer, real
    and ours, runs with both.
    Memory is that of 16-bit training with checkpointing at every layer and a fused attention kernel.
    """
    sources = build.sources(config)
    real = sources[0]
    for source in sources:
        yield from _check_params(config, source)
    yield from _check_model(config, real, seq_len)
    for run in sorted(config.spec.kinds.values(), key=lambda run: run.first):
        yield from _check_layer(config, run, sources, seq_len)
        yield _check_recompute(config, run, real, seq_len)
    if config.spec.mtp_layers:
        yield from _check_mtp(config, seq_len)
    # bf16, which takes the bytes of fp16: on meta, grouped_mm takes nothing else before torch 2.12
    yield from memory_checks(config, replace(exercise_setup(config, seq_len), precision="bf16"))


def verify_counts(
    config: ModelConfig, source: Source, seq_len: int, instruments: Mapping[str, Instrument]
) -> Iterator[Check]:
    """Parameters, buffers and forward FLOPs of a whole model, these by each instrument given."""
    yield from _check_params(config, source)
    for counter, instrument in instruments.items():
        yield _check_forward(config, source, seq_len, counter, functools.partial(_forward, source, instrument, seq_len))


def _check(config: ModelConfig, quantity: str, witness: str, formula: Breakdown, count: Callable[[], Counted]) -> Check:
    """Ask one witness. Whatever it fails with is its answer: one model's trouble must not hide the others'."""
    check = functools.partial(Check, model=config.name, quantity=quantity, witness=witness, analytic=formula.total)
    try:
        counted = count()
    except UnsupportedModelError:  # the file is at fault, not a formula
        raise
    except Exception as error:
        return check(measured=None, error=f"{type(error).__name__}: {error}")
    return check(measured=counted.total, terms=counted.differences(formula))


def _check_params(config: ModelConfig, source: Source) -> Iterator[Check]:
    spec = config.spec
    counted = functools.cache(lambda: count_params(source.model(), spec, source.term))
    active = model_params(spec, active_only=True)
    buffers = model_buffers(spec)
    yield _check(config, "parameters", source.title, model_params(spec), counted)
    yield _check(config, "active parameters", source.title, active, lambda: _visited(counted(), spec))
    yield _check(config, "buffers", source.title, buffers, lambda: count_buffers(source.model(), spec, source.term))


def _visited(counted: Counted, spec: ModelSpec) -> Counted:
    """The counted parameters, of the routed experts only those that one token visits."""
    values = dict(counted.values)
    for run in spec.runs:
        if isinstance(ffn := run.layer.ffn, MoeFfn):
            for terms in values:
                if terms[0].startswith(f"layers.{run.label}.mlp.experts."):
                    values[terms] = values[terms] * ffn.num_experts_per_token // ffn.num_experts
    return Counted("params", values)


def _check_model(config: ModelConfig, source: Source, seq_len: int) -> Iterator[Check]:
    """A whole model: its forward pass by both counters, its backward pass by the one that can."""
    flops = training_flops(config.spec, seq_len=seq_len)
    counted = functools.cache(lambda: training_flops_by_counter(source.model(), (_token_ids(seq_len),)))
    by_fvcore = functools.partial(_forward, source, fvcore_flops, seq_len)
    yield _check_forward(config, source, seq_len, FVCORE, by_fvcore)
    yield _check_forward(config, source, seq_len, FLOP_COUNTER, lambda: counted()[0])
    backward = Breakdown("flops", {"": flops.backward})
    witness = f"{source.title}, {FLOP_COUNTER}"
    yield _check(config, "backward FLOPs", witness, backward, lambda: _whole(counted()[1]))


def _check_forward(
    config: ModelConfig, source: Source, seq_len: int, counter: str, count: Callable[[], Mapping[str, int]]
) -> Check:
    def by_term() -> Counted:
        return by_run("flops", config.spec, ((source.term(path), flops) for path, flops in count().items()))

    return _check(config, "forward FLOPs", f"{source.title}, {counter}", forward_flops(config.spec, seq_len), by_term)


def _forward(source: Source, instrument: Instrument, seq_len: int) -> dict[str, int]:
    return instrument(source.model(), (_token_ids(seq_len),))


def _check_layer(config: ModelConfig, run: LayerRun, sources: Sequence[Source], seq_len: int) -> Iterator[Check]:
    formula = layer_flops(run.layer, config.spec.hidden_size, seq_len, "full")
    x = _hidden_states(config, seq_len)
    cases = itertools.product(build.attention_implementations(config), sources, INSTRUMENTS.items())
    for attention, source, (counter, instrument) in cases:
        count = functools.partial(_count_layer, source, instrument, run, attention, x)
        quantity = f"forward FLOPs, layer {run.first}, {attention}"
        yield _check(config, quantity, f"{source.title}, {counter}", formula, count)


def _count_layer(
    source: Source, instrument: Instrument, run: LayerRun, attention: AttentionImplementation, x: Tensor
) -> Counted:
    by_path = instrument(source.layer(run, x.shape[1], attention), (x,))
    return summed("flops", ((source.layer_term(path).names, flops) for path, flops in by_path.items()))


def _check_recompute(config: ModelConfig, run: LayerRun, real: Source, seq_len: int) -> Check:
    """What torch's non-reentrant checkpoint executes beyond forward and backward, in training mode."""
    formula = layer_flops(run.layer, config.spec.hidden_size, seq_len, "full")
    x = _hidden_states(config, seq_len).requires_grad_()

    def recomputed() -> Counted:
        layer = real.layer(run, seq_len, build.attention_implementations(config)[0]).train()

        def step() -> None:
            out = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False)
            out.backward(torch.empty_like(out))

        return _whole(executed_flops(step) - 3 * formula.total)

    expected = Breakdown("flops", {"": formula.total - last_projection_flops(run.layer, formula)})
    quantity = f"executed recomputation, layer {run.first}"
    return _check(config, quantity, f"{real.title}, {FLOP_COUNTER}", expected, recomputed)


def _check_mtp(config: ModelConfig, seq_len: int) -> Iterator[Check]:
    """The multi-token-prediction layers: their parameters, and their FLOPs but for the shared head."""

    def key(path: str) -> Terms:
        term = term_of(path, MTP)
        return term.under(f"mtp.{term.layer}")

    def params() -> Counted:
        layers = build.TransformersMtpLayers(config, seq_len)
        return summed("params", ((key(path), parameter.numel()) for path, parameter in layers.named_parameters()))

    def flops(instrument: Instrument) -> Counted:
        by_path = instrument(build.TransformersMtpLayers(config, seq_len), (_hidden_states(config, seq_len),))
        return summed("flops", ((key(path), count) for path, count in by_path.items()))

    yield _check(config, "multi-token-prediction parameters", "transformers", mtp_params(config.spec), params)
    formula = mtp_flops(config.spec, seq_len)
    body = Breakdown("flops", {term: value for term, value in formula.items() if not term.endswith(".lm_head")})
    for counter, instrument in INSTRUMENTS.items():
        quantity = "multi-token-prediction forward FLOPs, head apart"
        yield _check(config, quantity, f"transformers, {counter}", body, functools.partial(flops, instrument))


def _token_ids(seq_len: int) -> Tensor:
    return torch.zeros(1, seq_len, dtype=torch.long, device="meta")


def _hidden_states(config: ModelConfig, seq_len: int) -> Tensor:
    return torch.empty(1, seq_len, config.spec.hidden_size, dtype=torch.bfloat16, device="meta")


def _whole(flops: int) -> Counted:
    """A witness's one figure, by no term."""
    return Counted("flops", {("",): flops})
