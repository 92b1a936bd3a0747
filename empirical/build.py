"""`ModelSpec` -> our torch model; a configuration -> the real `transformers` model. On any device."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import MtpModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from analytic.hf import ModelConfig
from analytic.spec import LayerRun, ModelSpec, MoeFfn
from empirical.experts import grouped_mm_takes
from empirical.layers import DecoderLayer, DecoderModel, supported
from empirical.names import BY_FAMILY, OURS, Names, Term, term_of

AttentionImplementation = Literal["eager", "sdpa"]
Device = torch.device | str

transformers.logging.set_verbosity_error()


class TransformersModel(nn.Module):
    """A causal language model as a function of tensors: ids [B,S] -> logits [B,S,V]."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        # With a cache `transformers` takes the mask to be causal; without one it looks for packed
        # sequences by reading values, which meta tensors do not have.
        logits: Tensor = self.model(input_ids=ids, use_cache=True).logits
        return logits


class TransformersLayer(nn.Module):
    """One decoder layer as a function of tensors: hidden states [B,S,H] -> [B,S,H]."""

    def __init__(self, layer: nn.Module, rotary: nn.Module | None, seq_len: int, device: Device) -> None:
        super().__init__()
        self.layer = layer
        self.arguments: dict[str, Any] = {"attention_mask": None}
        if rotary is not None:
            like = torch.empty(1, dtype=next(layer.parameters()).dtype, device=device)
            position_ids = torch.arange(seq_len, device=device)[None]
            self.arguments["position_embeddings"] = rotary(like, position_ids)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x, **self.arguments)
        return out


def our_model(config: ModelConfig, *, device: Device = "meta", dtype: torch.dtype = torch.bfloat16) -> DecoderModel:
    """Our model, in evaluation mode; shapes from the spec alone."""
    with torch.device(device):
        return DecoderModel(config.spec, config.numerics).to(dtype).eval()


def our_layer(
    config: ModelConfig,
    run: LayerRun,
    *,
    attention: AttentionImplementation = "sdpa",
    device: Device = "meta",
    dtype: torch.dtype = torch.bfloat16,
) -> DecoderLayer:
    """One of our layers, of the kind of `run`, in evaluation mode."""
    with torch.device(device):
        layer = DecoderLayer(run.layer, config.spec.hidden_size, config.numerics).to(dtype).eval()
    layer.self_attn.eager = attention == "eager"
    return layer


def transformers_config(config: ModelConfig, overrides: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """The family's own configuration object, from the file's keys. Nothing is fetched and no code is run.

    Dynamic rotary scaling is left out: it changes no count.
    """
    keys = {**config.raw, **(overrides or {})}
    unread = ["model_type", "auto_map"]
    if config.numerics.rope_type == "dynamic":  # it reads the positions' values, which meta tensors do not have
        unread += ["rope_scaling", "rope_parameters"]
    for key in unread:
        keys.pop(key, None)
    built: PreTrainedConfig = CONFIG_MAPPING[config.read_as].from_dict(keys)
    return built


def transformers_model(
    config: ModelConfig,
    *,
    attention: AttentionImplementation = "sdpa",
    device: Device = "meta",
    dtype: torch.dtype = torch.bfloat16,
    overrides: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The real causal language model, in evaluation mode. `overrides` replace keys of the configuration."""
    options: dict[str, Any] = {"attn_implementation": attention}
    if any(isinstance(run.layer.ffn, MoeFfn) for run in config.spec.runs):
        options["experts_implementation"] = experts_implementation(config.spec, dtype)
    with _on(device):
        model = AutoModelForCausalLM.from_config(transformers_config(config, overrides), dtype=dtype, **options)
    model.eval()
    return model


@contextmanager
def _on(device: Device) -> Iterator[None]:
    """Build on a device. Without shared experts `transformers` builds a network of width zero: torch may keep quiet."""
    with warnings.catch_warnings(), torch.device(device):
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        yield


def experts_implementation(spec: ModelSpec, dtype: torch.dtype) -> Literal["grouped_mm", "batched_mm"]:
    """The `transformers` default, or where it cannot align the widths the kind that gathers weights."""
    widths = [spec.hidden_size]
    networks = (layer.ffn for layer in {*spec.layers, *spec.mtp_layers})
    widths += [ffn.expert_intermediate_size for ffn in networks if isinstance(ffn, MoeFfn)]
    return "grouped_mm" if all(grouped_mm_takes(width, dtype) for width in widths) else "batched_mm"


def transformers_layer(
    config: ModelConfig,
    run: LayerRun,
    *,
    seq_len: int,
    attention: AttentionImplementation = "sdpa",
    device: Device = "meta",
    dtype: torch.dtype = torch.bfloat16,
) -> TransformersLayer:
    """The real decoder layer at the head of `run`, in evaluation mode; only that one layer is allocated."""
    skeleton = transformers_model(config, attention=attention, device="meta", dtype=dtype)
    names = BY_FAMILY[config.read_as]
    base: Any = skeleton.get_submodule(names.base)
    layer_class = type(skeleton.get_submodule(f"{names.layers_path}.{run.first}"))
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with _on(device):
            layer = layer_class(skeleton.config, run.first)
    finally:
        torch.set_default_dtype(previous)
    rotary_class = type(base.rotary_emb) if hasattr(base, "rotary_emb") else None
    with _on(device):
        rotary = rotary_class(config=skeleton.config) if rotary_class is not None else None
    return TransformersLayer(layer, rotary, seq_len, device).eval()


class TransformersMtpLayers(nn.Module):
    """Multi-token-prediction layers in a row, as `transformers` builds them, on meta: [B,S,H] -> [B,S,H].

    The shared parts (embedding, head) are left out. Each layer here also takes its input in place of
    the next tokens' embeddings: shapes are the same.
    """

    def __init__(self, config: ModelConfig, seq_len: int) -> None:
        super().__init__()
        count = len(config.spec.mtp_layers)
        main = transformers_model(config, overrides={"num_nextn_predict_layers": count})
        with _on("meta"):
            model = MtpModel(main, count)
            position_ids = torch.arange(seq_len)[None]
        # MtpModel takes the default kind of experts, whatever the main model has
        model.config._experts_implementation = experts_implementation(config.spec, main.dtype)
        self.layers = model.layers
        base: Any = main.get_submodule(BY_FAMILY[config.read_as].base)
        like = torch.empty(1, dtype=main.dtype, device="meta")
        self.arguments = {
            "position_embeddings": base.rotary_emb(like, position_ids),
            "attention_mask": None,
            "position_ids": position_ids,
            "past_key_values": None,
        }

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, x, **self.arguments)
        return x


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where modules to be counted come from: the real implementation, or ours.

    Attributes:
        model: ids [1,S] -> logits, built once. layer: hidden states [1,S,H] -> the same. Both on meta.
        names: how the implementation calls its modules, below the prefixes of our wrappers.
    """

    title: str
    is_real: bool
    names: Names
    model_prefix: str
    layer_prefix: str
    model: Callable[[], nn.Module]
    layer: Callable[[LayerRun, int, AttentionImplementation], nn.Module]

    def term(self, path: str) -> Term:
        """The canonical term of a path in `model`."""
        return term_of(path.removeprefix(self.model_prefix), self.names)

    def layer_term(self, path: str) -> Term:
        """The canonical term of a path in `layer`."""
        return term_of(f"{self.names.layers_path}.0.{path.removeprefix(self.layer_prefix)}", self.names)


def sources(config: ModelConfig) -> tuple[Source, ...]:
    """The real implementation first; then ours, where it has the family (GPT-2 stands on the real one alone)."""
    real = Source(
        title="transformers",
        is_real=True,
        names=BY_FAMILY[config.read_as],
        model_prefix="model.",
        layer_prefix="layer.",
        model=functools.cache(lambda: TransformersModel(transformers_model(config))),
        layer=lambda run, seq_len, attention: transformers_layer(config, run, seq_len=seq_len, attention=attention),
    )
    if not all(supported(run.layer) for run in config.spec.runs):
        return (real,)
    ours = Source(
        title="our layers",
        is_real=False,
        names=OURS,
        model_prefix="",
        layer_prefix="",
        model=functools.cache(lambda: our_model(config)),
        layer=lambda run, _, attention: our_layer(config, run, attention=attention),
    )
    return (real, ours)
