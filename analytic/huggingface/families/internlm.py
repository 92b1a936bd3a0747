"""InternLM3, which Llama's class holds."""

from __future__ import annotations

from collections.abc import Mapping

from analytic.huggingface.families.common import GROUPED, Described, Family, stated_bias
from analytic.huggingface.families.llama import llama_of_128
from analytic.io.keys import Derived, Keys


def _internlm3(keys: Keys) -> Described:
    where = "InternLM3Config"
    biases = stated_bias(keys, where=where)
    if keys.flag("mlp_bias", Derived(False, where)) != biases["output_bias"]:
        keys.reject("mlp_bias", keys.config.get("mlp_bias"), "the value of attention_bias (InternLM3Config)")
    return llama_of_128(keys, where)


FAMILIES: Mapping[str, Family] = {
    "internlm3": Family(
        "LlamaForCausalLM", GROUPED, _internlm3, aliases={"qkv_bias": "attention_bias", "bias": "mlp_bias"}
    ),
}
