"""What a rank of `megatron-te` sends and receives in a step, by formula.

Sources: Megatron-LM megatron/core/tensor_parallel/layers.py (LinearWithGradAccumulationAndAsyncCommunication: gathered
inputs are gathered again in backward), transformer/moe/token_dispatcher.py (MoEAlltoAllTokenDispatcher),
distributed/distributed_data_parallel.py, distributed/finalize_model_grads.py; TransformerEngine
pytorch/attention/dot_product_attention/context_parallel.py (AttnFuncWithCPAndKVP2P), pytorch/triton/cross_entropy.py.

Not counted: expert's router probabilities and split sizes, and scalars. Buckets of gradients and parameters are one.
"""

from __future__ import annotations

from analytic.model.optimizer import FP32_BYTES
from analytic.model.spec import LatentAttention
from analytic.model.training import TrainingSetup
from analytic.parallelism.communication import Collective
from analytic.parallelism.layout import Layout
from analytic.parallelism.megatron import VOCAB_MULTIPLE, end_params, gradient_bytes, stage_ranges
from analytic.parallelism.shapes import LayerShape, Recompute, StackModel, padded_vocab
from analytic.parallelism.tally import Tally

_HALF = 2


def megatron_collectives(
    model: StackModel, setup: TrainingSetup, layout: Layout, rank: int, recompute: Recompute | None = None
) -> tuple[Collective, ...]:
    """Every collective of a rank in one step."""
    tally, policy = Tally(), recompute or setup.checkpointing
    stage = layout.coordinate(rank, "pp")
    tokens = setup.tokens // layout.cp
    for path, kind, layers in model.pieces(stage_ranges(model.num_layers, layout, stage)):
        times = len(layers) * layout.micro_batches
        _tensor_parallel(tally, path, kind, model.spec.hidden_size, tokens, times, layout, policy)
        _ring(tally, path, kind, tokens, times, layout, policy)
        _experts(tally, path, kind, model.spec.hidden_size, tokens, times, layout, policy)
    _around(tally, model, tokens, layout, stage)
    _pipeline(tally, model, tokens, layout, stage)
    _data_parallel(tally, model, layout, stage)
    return tally.collectives()


def _tensor_parallel(
    tally: Tally, path: str, kind: LayerShape, h: int, tokens: int, times: int, layout: Layout, policy: Recompute
) -> None:
    """Each network gathers its input and scatters its output; backward does both for gradients, and gathers again.

    Latent attention gathers the compressed vectors, each for a product of its own, and the rotary part of the keys.
    """
    attention = kind.layer.attention
    gathered, plain = [h], 0
    if isinstance(attention, LatentAttention):
        gathered, plain = [attention.q_lora_rank or h, attention.kv_lora_rank], attention.qk_rope_head_dim
    networks = [("self_attn", gathered, plain)] + ([("mlp", [h], 0)] if kind.dense else [])
    forwards = 2 if policy == "full" else 1
    for name, inputs, rope in networks:
        module = f"{path}.{name}"
        for width in inputs:
            size = _HALF * tokens * width
            tally.add("tp", "all_gather", module, layout.tp, times * (forwards + 1), size)
            tally.add("tp", "reduce_scatter", module, layout.tp, times, size)
        tally.add("tp", "all_gather", module, layout.tp, times * forwards, _HALF * tokens * rope)
        tally.add("tp", "reduce_scatter", module, layout.tp, times, _HALF * tokens * rope)
        tally.add("tp", "all_gather", module, layout.tp, times, _HALF * tokens * h)
        tally.add("tp", "reduce_scatter", module, layout.tp, times * forwards, _HALF * tokens * h)


def _ring(
    tally: Tally, path: str, kind: LayerShape, tokens: int, times: int, layout: Layout, policy: Recompute
) -> None:
    """Keys and values go around, in backward with their gradients behind them."""
    size = _HALF * tokens * kind.attention.local_kv_features(layout.tp)
    passes = 3 if policy == "none" else 4
    for direction in ("send", "recv"):
        tally.add("cp", direction, f"{path}.self_attn", layout.cp, times * passes * (layout.cp - 1), size)


def _experts(
    tally: Tally, path: str, kind: LayerShape, h: int, tokens: int, times: int, layout: Layout, policy: Recompute
) -> None:
    """Dispatch and combine, forward and backward; experts that are split gather and scatter their rows too."""
    rows = tokens // layout.tp * kind.top_k
    module, passes = f"{path}.mlp.experts", 3 if policy == "full" else 2
    tally.add("ep", "all_to_all", module, layout.ep, times * 2 * passes, _HALF * rows * h)
    tally.add("etp", "all_gather", module, layout.etp, times * passes, _HALF * rows * layout.etp * h)
    tally.add("etp", "reduce_scatter", module, layout.etp, times * passes, _HALF * rows * layout.etp * h)


def _around(tally: Tally, model: StackModel, tokens: int, layout: Layout, stage: int) -> None:
    """Embedding, head and loss; gradients of what sequence parallelism leaves whole on each rank."""
    times, size = layout.micro_batches, _HALF * tokens * model.spec.hidden_size
    counts = model.counts(stage_ranges(model.num_layers, layout, stage))
    whole = sum(count * kind.whole_params for count, kind in zip(counts, model.kinds, strict=True))
    if stage == 0:
        tally.add("tp", "reduce_scatter", "embed_tokens", layout.tp, times, size)
        tally.add("tp", "all_gather", "embed_tokens", layout.tp, times, size)
    if stage == layout.pp - 1:
        tally.add("tp", "all_gather", "lm_head", layout.tp, 2 * times, size)
        tally.add("tp", "reduce_scatter", "lm_head", layout.tp, times, size)
        tally.add("tp", "all_gather", "loss", layout.tp, times, 3 * FP32_BYTES * tokens * layout.tp)
        whole += model.last_params
    tally.add("tp", "all_reduce", "norms", layout.tp, 1, gradient_bytes(layout) * whole)


def _pipeline(tally: Tally, model: StackModel, tokens: int, layout: Layout, stage: int) -> None:
    """Hidden states forward and their gradients back, as sequence parallelism splits them; a tied head's gradient."""
    size, v, m = _HALF * tokens * model.spec.hidden_size // layout.tp, layout.virtual_stages, layout.micro_batches
    is_first, is_last = stage == 0, stage == layout.pp - 1
    crossings = (v - is_last) + (v - is_first)
    for direction in ("send", "recv"):
        tally.add("pp", direction, "hidden_states", layout.pp, crossings * m, size)
    if layout.pp > 1 and model.spec.tie_word_embeddings and (is_first or is_last):
        rows = padded_vocab(model.spec.vocab_size, layout.tp, VOCAB_MULTIPLE) // layout.tp
        tally.add("pp", "all_reduce", "embed_tokens", 2, 1, gradient_bytes(layout) * rows * model.spec.hidden_size)


def _data_parallel(tally: Tally, model: StackModel, layout: Layout, stage: int) -> None:
    """ZeRO-1: gradients are scattered, 16-bit parameters gathered; copies of the group sum their shards."""
    counts = model.counts(stage_ranges(model.num_layers, layout, stage))
    dense = end_params(model, layout, stage)
    experts = 0
    for count, kind in zip(counts, model.kinds, strict=True):
        dense += count * (kind.whole_params + kind.split_params // layout.tp)
        experts += count * kind.expert_params // (layout.ep * layout.etp)
    shards, gradient = layout.dp_shard * layout.cp, gradient_bytes(layout)
    tally.add("dp_shard", "reduce_scatter", "gradients", shards, 1, gradient * dense)
    tally.add("dp_shard", "all_gather", "parameters", shards, 1, _HALF * dense)
    tally.add("efsdp", "reduce_scatter", "gradients.experts", layout.efsdp, 1, gradient * experts)
    tally.add("efsdp", "all_gather", "parameters.experts", layout.efsdp, 1, _HALF * experts)
    copies = layout.dp_replicate
    tally.add("dp_replicate", "all_reduce", "gradients", copies, 1, gradient * -(-dense // shards))
    tally.add("dp_replicate", "all_reduce", "gradients.experts", copies, 1, gradient * -(-experts // layout.efsdp))
