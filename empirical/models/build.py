"""`ModelSpec` -> our torch model; a configuration -> the real `transformers` model. On any device."""

from __future__ import annotations

import copy
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import MtpModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from analytic.errors import UnsupportedModelError
from analytic.huggingface.config import ModelConfig
from analytic.huggingface.weight_names import OURS, Names
from analytic.model.spec import LayerRun, ModelSpec, MoeFfn
from empirical.models.experts import grouped_mm_takes
from empirical.models.layers import DecoderLayer, DecoderModel, supported
from empirical.models.names import Term, names_of, term_of

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

    def __init__(self, layer: nn.Module, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.layer, self.arguments = layer, arguments

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor | tuple[Tensor, ...] = self.layer(x, **self.arguments)
        return out if isinstance(out, Tensor) else out[0]


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


# What changes no count and would only disturb a witness: how to train, what to return, how to start.
_UNREAD = frozenset(
    (
        *("architectures", "auto_map", "classifier_dropout", "dtype", "embedding_initializer_range"),
        *("gradient_checkpointing", "id2label", "init_device", "init_std", "initializer_range", "label2id"),
        *("model_type", "num_labels", "output_attentions", "output_hidden_states", "output_router_logits"),
        *("problem_type", "quantization_config", "return_dict", "router_aux_loss_coef", "torch_dtype"),
        *("transformers_version", "use_cache"),
    )
)
_NULL_FAILS = ("n_group", "topk_group")  # typed as if a null could run
_ROTARY_KEYS = ("rope_parameters", "rope_scaling", "rope_theta")


def transformers_config(config: ModelConfig, overrides: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """The family's own configuration object, from the file's keys. Nothing is fetched and no code is run.

    Left out, as they change no count: `_UNREAD`, tokens, the head of a classifier, and rotary scaling that reads the
    positions' values, which meta tensors do not have.
    """
    config_class: Any = CONFIG_MAPPING[config.read_as]
    keys = {key: value for key, value in {**config.raw, **(overrides or {})}.items() if not _is_unread(key)}
    keys["pad_token_id"] = None  # the class has its own, which may lie outside of a small vocabulary
    if "rope_parameters" not in config_class.__dataclass_fields__:
        keys = {key: value for key, value in keys.items() if key not in _ROTARY_KEYS}
    elif config.numerics.rope_type == "dynamic" or config.read_as == "phimoe":
        keys = {key: value for key, value in keys.items() if key not in ("rope_scaling", "rope_parameters")}
    if (scaling := keys.get("rope_scaling")) and "type" in scaling:  # the family's own spelling of it may be older
        keys["rope_scaling"] = {**scaling, "type": config.numerics.rope_type}
    built: PreTrainedConfig = config_class.from_dict(
        copy.deepcopy(_as_typed(config_class, keys))
    )  # it fills in nested ones
    return built


def _is_unread(key: str) -> bool:
    return key in _UNREAD or key.endswith("_token_id") or key.startswith("summary_")


def _as_typed(config_class: Any, keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys as the class's strict types take them.

    A null stands for an absent key, as it did in earlier versions of `transformers` and does for our parsers; and
    JSON does not tell 1 from 1.0.
    """
    typed = {}
    for key, value in keys.items():
        field = config_class.__dataclass_fields__.get(config_class.attribute_map.get(key, key))
        words = set(re.findall(r"\w+", str(field.type))) if field is not None else set()
        if value is None and (key in _NULL_FAILS or not words & {"None", "NoneType", "Optional", "Any"}):
            continue
        typed[key] = float(value) if type(value) is int and "float" in words and "int" not in words else value
    return typed


def transformers_model(
    config: ModelConfig,
    *,
    attention: AttentionImplementation | None = None,
    device: Device = "meta",
    dtype: torch.dtype = torch.bfloat16,
    overrides: Mapping[str, Any] | None = None,
) -> PreTrainedModel:
    """The real causal language model, in evaluation mode. `overrides` replace keys of the configuration.

    Raises:
        UnsupportedModelError: a configuration that its class refuses.
    """
    options: dict[str, Any] = {"attn_implementation": attention or attention_implementations(config)[0]}
    if config.spec.has_experts:
        options["experts_implementation"] = experts_implementation(config.spec, dtype)
    with _on(device), _refusals(config):
        model = AutoModelForCausalLM.from_config(transformers_config(config, overrides), dtype=dtype, **options)
    model.eval()
    return model


@contextmanager
def _refusals(config: ModelConfig) -> Iterator[None]:
    """Whatever a class fails with on its way is its refusal of the configuration, in one line."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnsupportedModelError(f"{config.path}: transformers refuses this configuration: {reason}") from None


def attention_implementations(config: ModelConfig) -> tuple[AttentionImplementation, ...]:
    """What the class has, the one that a model is verified with first."""
    return ("sdpa", "eager") if getattr(transformers, config.transformers_class)._supports_sdpa else ("eager",)


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


class TransformersLayers:
    """The decoder layers of one real model on meta, each with the arguments that the model hands it.

    Only the first layer of each kind is there: the model runs no further than the last of these.
    """

    def __init__(self, config: ModelConfig, seq_len: int, attention: AttentionImplementation) -> None:
        model = transformers_model(config, attention=attention)
        path = names_of(config).layers_path
        self._layers = {
            i: model.get_submodule(f"{path}.{i}") for i in (run.first for run in config.spec.kinds.values())
        }
        self._arguments: dict[int, dict[str, Any]] = {}
        for i, layer in self._layers.items():
            layer.register_forward_pre_hook(functools.partial(self._remember, i), with_kwargs=True)
        with torch.no_grad(), suppress(_AllSeenError):
            model(input_ids=torch.zeros(1, seq_len, dtype=torch.long, device="meta"), use_cache=True)
        for layer in self._layers.values():
            layer._forward_pre_hooks.clear()

    def __getitem__(self, index: int) -> TransformersLayer:
        """One layer in evaluation mode, whatever mode it was left in."""
        return TransformersLayer(self._layers[index], self._arguments[index]).eval()

    def _remember(self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """All but the hidden states, the first argument everywhere; no cache of keys and values."""
        named = dict(zip(inspect.signature(layer.forward).parameters, args, strict=False)) | kwargs
        del named["hidden_states"]
        self._arguments[index] = named | {key: None for key in _CACHES if key in named} | {"use_cache": False}
        if len(self._arguments) == len(self._layers):
            raise _AllSeenError


class _AllSeenError(Exception):
    """Every kind of layer has been called."""


_CACHES = ("past_key_values", "layer_past")


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
        base: Any = main.get_submodule(names_of(config).base)
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
    """The real implementation first; then ours, where it has every kind of layer that the model has."""

    @functools.cache
    def layers(seq_len: int, attention: AttentionImplementation) -> TransformersLayers:
        return TransformersLayers(config, seq_len, attention)

    real = Source(
        title="transformers",
        is_real=True,
        names=names_of(config),
        model_prefix="model.",
        layer_prefix="layer.",
        model=functools.cache(lambda: TransformersModel(transformers_model(config))),
        layer=lambda run, seq_len, attention: layers(seq_len, attention)[run.first],
    )
    if not supported(config.spec):
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
