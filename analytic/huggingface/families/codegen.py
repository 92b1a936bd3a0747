"""CodeGen: GPT-J with one fused projection."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import Described, Family
from analytic.huggingface.families.gptj import GPTJ, GPTJ_NAMES, rotary_gpt
from analytic.huggingface.weight_names import QKV, renamed
from analytic.io.keys import Keys


def _codegen(keys: Keys) -> Described:
    heads = keys.integer("n_head")
    if heads % 4:  # CodeGenAttention parts its queries, keys and values for four devices
        keys.reject("n_head", heads, "a multiple of 4")
    return rotary_gpt(keys, "CodeGenConfig")


FAMILIES: Mapping[str, Family] = {
    "codegen": Family("CodeGenForCausalLM", GPTJ, _codegen, names=renamed(GPTJ_NAMES, {"attn.qkv_proj": QKV})),
}
