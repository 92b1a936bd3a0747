"""Which pairs of positions count: the formula's against the masks that a real model hands to its layers."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from analytic.huggingface.config import ModelConfig
from analytic.model.flops import doubled_pairs
from empirical.models.build import transformers_model
from empirical.models.names import names_of
from tests.configurations import EVERY_FAMILY, parsed

SEQ_LEN = 13  # one more than the longest window drawn
GROUPED = [family for family in EVERY_FAMILY if not family.startswith("deepseek")]  # latent attention has no windows


def masks(config: ModelConfig) -> list[torch.Tensor]:
    """The mask of each layer in a forward pass of the real model on the CPU: whether a query sees a key [S,S]."""
    model = transformers_model(config, attention="eager", device="cpu", dtype=torch.float32)
    seen: list[torch.Tensor] = []

    def remember(layer: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mask = (dict(zip(inspect.signature(layer.forward).parameters, args, strict=False)) | kwargs)["attention_mask"]
        # where there is a bias on scores (ALiBi), it is added
        seen.append(mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] > torch.finfo(mask.dtype).min / 2)

    for layer in model.get_submodule(names_of(config).layers_path).children():
        layer.register_forward_pre_hook(remember, with_kwargs=True)
    with torch.no_grad():
        model(input_ids=torch.zeros(1, SEQ_LEN, dtype=torch.long))
    return seen


@pytest.mark.parametrize("family", GROUPED)
def test_the_causal_pairs_are_those_that_the_masks_let_through(family: str) -> None:
    @settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
    @given(raw=EVERY_FAMILY[family])
    def agree(raw: dict[str, Any]) -> None:
        config = parsed(raw)
        windows = [layer.attention.sliding_window for layer in config.spec.layers]
        counted = [2 * int(mask.sum()) for mask in masks(config)]
        assert [doubled_pairs(SEQ_LEN, "causal", window) for window in windows] == counted

    agree()
